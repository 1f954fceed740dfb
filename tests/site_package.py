"""A package that adds CT as a kind of image, for tests of what finds it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import medrestore


def install(folder: Path, files: Mapping[str, str]) -> Path:
    """Write what an installer leaves of the package ``site_ct``: its files, and its entry point."""
    about = {
        "METADATA": "Metadata-Version: 2.1\nName: site-ct\nVersion: 1.0\n",
        "entry_points.txt": "[medrestore.domains]\nct = site_ct.domain:DOMAIN\n",
    }
    written = {**files, **{f"site_ct-1.0.dist-info/{name}": text for name, text in about.items()}}
    for name, text in written.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def run_python(
    packages: Path, code: str, *words: str, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run code in a process that finds the packages of a folder."""
    places = [packages, Path(medrestore.__file__).parents[1]]
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places))},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
