"""Brings NiiVue, the page's image viewer, into the package when it is built.

Hatchling runs this file by its path, in an environment with nothing but hatchling: it imports the standard
library alone. In a checkout, ``python -m medrestore.study.page.build_hook`` does the same by hand.

``npm ci`` takes the exact version of ``package-lock.json`` and checks the package against the checksum there;
no script of any package is run.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess  # npm is a command
import sys
import tempfile
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # at run time the package needs no hatchling
    BuildHookInterface = None

__all__ = ["UMD", "VENDOR", "FetchError", "fetch_niivue", "locked_version", "missing"]

VENDOR = "vendor"
UMD = "niivue.umd.js"
RECORD = "niivue.json"
PACKAGE = "@niivue/niivue"
REQUIRE = "MEDRESTORE_REQUIRE_NIIVUE"
"""Environment variable: a build without the viewer fails, as that of a release must."""

TIMEOUT_SECONDS = 600


class FetchError(RuntimeError):
    """NiiVue could not be brought in; the message says why."""


def locked_version(page: Path) -> str:
    """Return the version of NiiVue that ``package-lock.json`` names."""
    lock = json.loads((page / "package-lock.json").read_text(encoding="utf-8"))
    return str(lock["packages"][f"node_modules/{PACKAGE}"]["version"])


def missing(page: Path) -> str:
    """Return why the viewer is not usable; empty when the locked version is there, unchanged."""
    wanted = locked_version(page)
    try:
        record = json.loads((page / VENDOR / RECORD).read_text(encoding="utf-8"))
        content = (page / VENDOR / UMD).read_bytes()
    except (OSError, ValueError):
        return f"the image viewer NiiVue {wanted} has not been fetched"
    if record.get("version") != wanted:
        return f"the image viewer is NiiVue {record.get('version')}, the page needs {wanted}"
    if hashlib.sha256(content).hexdigest() != record.get("sha256"):
        return f"the image viewer's file {VENDOR}/{UMD} has been changed"
    return ""


def fetch_niivue(page: Path) -> bool:
    """Bring the locked version of NiiVue into ``page/vendor``.

    Returns
    -------
    bool
        Whether anything had to be fetched.

    Raises
    ------
    FetchError
        When npm is missing or fails; what was there before is kept.
    """
    if not missing(page):
        return False
    npm = shutil.which("npm")
    if npm is None:
        raise FetchError("npm was not found")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(page / name, folder)
        command = [npm, "ci", "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund"]
        try:
            done = subprocess.run(  # noqa: S603
                command, cwd=folder, capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise FetchError(f"npm did not end ({error})") from error
        if done.returncode != 0:
            raise FetchError(f"npm ci ended with code {done.returncode}: {done.stderr.strip()[-500:]}")
        source = Path(folder, "node_modules", PACKAGE, "dist", UMD)
        if not source.is_file():
            raise FetchError(f"{PACKAGE} has no dist/{UMD}")
        _store(source.read_bytes(), page)
    return True


def _store(content: bytes, page: Path) -> None:
    vendor = page / VENDOR
    vendor.mkdir(exist_ok=True)
    record = {"version": locked_version(page), "sha256": hashlib.sha256(content).hexdigest()}
    # The record last: a killed build leaves no file that looks complete and is not.
    for name, data in ((UMD, content), (RECORD, json.dumps(record).encode())):
        partial = vendor / f".partial-{os.getpid()}-{name}"
        partial.write_bytes(data)
        partial.replace(vendor / name)


if BuildHookInterface is not None:

    class NiivueBuildHook(BuildHookInterface):
        """Hatchling's hook: runs before a wheel, also an editable one, is put together."""

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
            """Fetch the viewer; a build without npm goes on without it, and says so."""
            if self.target_name != "wheel":
                return
            page = Path(self.root, "medrestore", "study", "page")
            try:
                if fetch_niivue(page):
                    self.app.display_info(f"NiiVue {locked_version(page)} fetched for the reading page")
            except FetchError as error:
                message = (
                    f"the reading page is built without its image viewer: {error}. All else works; remedy: "
                    "install Node.js (which brings npm) and build again"
                )
                if os.environ.get(REQUIRE):
                    raise RuntimeError(message) from error
                self.app.display_warning(message)


def _main() -> int:
    page = Path(__file__).parent
    try:
        fetched = fetch_niivue(page)
    except FetchError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"NiiVue {locked_version(page)} {'fetched' if fetched else 'is already there'}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(_main())
