"""What a run records about the code and the machine, and nothing about who or where."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

__all__ = [
    "anonymous_text",
    "describe_environment",
    "flatten",
    "git_commit",
    "import_mlflow",
    "without_credentials",
]

PACKAGES = (
    "medrestore",
    "torch",
    "monai",
    "pytorch-ignite",
    "numpy",
    "scipy",
    "scikit-image",
    "nibabel",
    "mlflow",
)
"""Distributions whose versions decide a result."""

LONGEST_VALUE = 1000
"""Characters of a parameter that are recorded; the configuration file in the run's artifacts is whole."""


SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # Its own patience with a server that is gone, seven tries of up to two minutes, stops the work each time.
    # What is not sent is kept, and tried again off the work's path.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
    # It prints addresses with the user and password that are in them; where a run goes is told without.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""Variables of MLflow that are set unless the user has set them."""


def import_mlflow() -> Any:
    """Import MLflow with its telemetry off and little patience, unless the user has set these variables.

    Returns
    -------
    module
        ``mlflow``.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    import mlflow

    return mlflow


def describe_environment() -> dict[str, str]:
    """Return versions and hardware that a result may depend on.

    >>> sorted(describe_environment())[:3]
    ['accelerator', 'cpu_cores', 'machine']
    """
    from importlib import metadata

    import torch

    described = {
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "cpu_cores": str(os.cpu_count()),
        "torch_threads": str(torch.get_num_threads()),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
    }
    for package in PACKAGES:
        try:
            described[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            described[package] = "not installed"
    return described


def git_commit() -> str | None:
    """Return the commit that the package's source is at, with ``-dirty`` behind it when files differ from it.

    Returns
    -------
    str or None
        None where the package is no part of a git checkout (an installed wheel) or there is no git.
    """
    git = shutil.which("git")
    source = Path(__file__).resolve().parents[1]

    def ask(*arguments: str) -> str | None:
        answer = subprocess.run(  # noqa: S603
            [str(git), "-C", str(source), *arguments], capture_output=True, text=True, check=False, timeout=30
        )
        return answer.stdout.strip() if answer.returncode == 0 else None

    # A virtual environment may lie within the checkout of another project: the file must be one that git
    # follows.
    if git is None or ask("ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    commit = ask("rev-parse", "HEAD")
    if commit is None:
        return None
    return f"{commit}-dirty" if ask("status", "--porcelain", "--untracked-files=no", "--", ".") else commit


def flatten(config: Mapping[str, Any], *, prefix: str = "") -> dict[str, str]:
    """Return a nested configuration as MLflow parameters: dotted keys and short texts.

    A value that is an absolute path is cut to its last part. Characters that MLflow takes in no key become
    ``_``.

    Parameters
    ----------
    config
        Nested mappings and sequences of plain values.
    prefix
        Put in front of every key.

    Examples
    --------
    >>> flatten({"stages": [{"name": "joint", "epochs": 3}], "manifest": "/data/somebody/manifest.csv"})
    {'stages.0.name': 'joint', 'stages.0.epochs': '3', 'manifest': 'manifest.csv'}
    """
    flat: dict[str, str] = {}
    for key, value in config.items():
        name = re.sub(r"[^\w\-. /]", "_", f"{prefix}{key}")
        if isinstance(value, Mapping):
            flat |= flatten(value, prefix=f"{name}.")
        elif isinstance(value, Sequence) and any(isinstance(item, Mapping) for item in value):
            flat |= flatten({str(index): item for index, item in enumerate(value)}, prefix=f"{name}.")
        else:
            text = _plain(value)
            flat[name] = text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 3]}..."
    return flat


def _plain(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_plain(item) for item in value)}]"
    text = str(value)
    for path in (PurePosixPath(text), PureWindowsPath(text)):
        if path.is_absolute():
            return path.name
    return anonymous_text(text)


def anonymous_text(text: str) -> str:
    """Return a configuration's text with the present folder as ``.``, home folders as ``~``, no credentials.

    >>> anonymous_text("cohort: /home/somebody/cohort")
    'cohort: ~/cohort'
    """
    text = without_credentials(text)
    home = Path(os.path.expanduser("~"))  # noqa: PTH111  (Path.home() raises where there is none)
    for folder, sign in ((Path.cwd(), "."), (home, "~")):
        if folder.is_absolute() and folder != Path(folder.anchor):
            text = re.sub(re.escape(str(folder)) + r"(?![\w.\-])", sign, text)
    return re.sub(r"(?:/home|/Users|[A-Za-z]:\\Users)[/\\][^/\\\s'\",]+", "~", text)


def without_credentials(text: str) -> str:
    """Return a text whose addresses have lost user and password.

    >>> without_credentials("https://me:secret@tracking.example.org/mlflow")
    'https://tracking.example.org/mlflow'
    >>> without_credentials("postgresql://db/runs?user=me&password=secret")
    'postgresql://db/runs?user=***&password=***'
    """
    text = re.sub(r"(\w://)[^\s/?#]*@", r"\1", text)
    return re.sub(r"([?&](?:user|password|passwd|pwd|token|api_?key|secret)=)[^&\s'\")]*", r"\1***", text)
