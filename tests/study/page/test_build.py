"""How the image viewer gets into the package: fetched once, by an exact lock, shipped with its license."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from medrestore.study import page
from medrestore.study.page import niivue_missing, static_files
from medrestore.study.page.build_hook import FetchError, fetch_niivue, locked_version, missing

ROOT = Path(__file__).parents[3]
PAGE = Path(page.__file__).parent

FAKE_NPM = """#!{python}
import pathlib, sys
pathlib.Path({log!r}).open("a").write(" ".join(sys.argv[1:]) + chr(10))
if {fails}:
    sys.exit("npm error: no network")
place = pathlib.Path("node_modules/@niivue/niivue/dist")
place.mkdir(parents=True)
place.joinpath("niivue.umd.js").write_text("the viewer")
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A page without its viewer."""
    folder = tmp_path / "page"
    folder.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copy(PAGE / name, folder)
    return folder


@pytest.fixture
def fake_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Put an npm on the path that fetches nothing; return its log."""

    def make(*, fails: bool = False) -> Path:
        log = tmp_path / "npm.log"
        script = tmp_path / "bin" / "npm"
        script.parent.mkdir(exist_ok=True)
        script.write_text(FAKE_NPM.format(python=sys.executable, log=str(log), fails=fails))
        script.chmod(0o755)
        monkeypatch.setenv("PATH", str(script.parent))
        return log

    return make


def test_the_viewer_is_fetched_once_without_running_scripts(checkout, fake_npm):
    log = fake_npm()
    assert "has not been fetched" in missing(checkout)
    assert fetch_niivue(checkout)
    assert not fetch_niivue(checkout)
    assert log.read_text() == "ci --ignore-scripts --omit=optional --no-audit --no-fund\n"
    assert missing(checkout) == ""
    assert (checkout / "vendor" / "niivue.umd.js").read_text() == "the viewer"
    record = json.loads((checkout / "vendor" / "niivue.json").read_text())
    assert record == {
        "version": locked_version(checkout),
        "sha256": hashlib.sha256(b"the viewer").hexdigest(),
    }
    assert [path.name for path in sorted((checkout / "vendor").iterdir())] == [
        "niivue.json",
        "niivue.umd.js",
    ]


def test_a_changed_or_an_old_viewer_is_fetched_again(checkout, fake_npm):
    fake_npm()
    fetch_niivue(checkout)
    (checkout / "vendor" / "niivue.umd.js").write_text("something else")
    assert "has been changed" in missing(checkout)
    assert fetch_niivue(checkout)
    record = checkout / "vendor" / "niivue.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "version": "0.1.0"}))
    assert "is NiiVue 0.1.0, the page needs" in missing(checkout)
    assert fetch_niivue(checkout)


def test_without_npm_or_network_the_reason_is_told(checkout, fake_npm, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FetchError, match="npm was not found"):
        fetch_niivue(checkout)
    fake_npm(fails=True)
    with pytest.raises(FetchError, match="npm ci ended with code 1: npm error: no network"):
        fetch_niivue(checkout)
    assert not (checkout / "vendor").exists()


def test_a_server_without_the_viewer_tells_the_remedies(checkout, monkeypatch):
    monkeypatch.setattr(page, "FOLDER", checkout)
    assert "python -m medrestore.study.page.build_hook" in niivue_missing()
    assert "medrestore study handout" in niivue_missing()


def test_the_lock_is_exact_and_names_no_host():
    text = (PAGE / "package-lock.json").read_text(encoding="utf-8")
    assert "resolved" not in text
    assert "registry" not in text
    packages = json.loads(text)["packages"]
    wanted = json.loads((PAGE / "package.json").read_text(encoding="utf-8"))["dependencies"]
    assert wanted == {"@niivue/niivue": locked_version(PAGE)}
    for name, entry in packages.items():
        assert name == "" or entry["integrity"].startswith("sha512-")


def test_the_notices_name_all_that_the_viewer_bundles():
    notices = (PAGE / "NOTICES.txt").read_text(encoding="utf-8")
    assert "BSD 2-Clause License\n\nCopyright (c) 2021, Niivue" in notices
    packages = json.loads((PAGE / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    for path, entry in packages.items():
        if path and not entry.get("optional"):
            assert f"{path.removeprefix('node_modules/')} {entry['version']}\n" in notices


def test_static_files_are_the_page_and_no_more():
    files = static_files()
    scripts = {f"/{path.name}" for path in PAGE.glob("*.js")}
    assert set(files) == scripts | {"/", "/page.css", "/notices.txt", "/niivue.umd.js"}
    for path, media_type in files.values():
        assert path.parent in (PAGE, PAGE / "vendor")
        assert media_type.startswith("text/")


def test_the_page_has_nothing_inline_and_loads_nothing_from_elsewhere():
    html = (PAGE / "index.html").read_text(encoding="utf-8")
    assert "style=" not in html
    assert not re.search(r"\son\w+=", html)
    assert not re.search(r"<script(?![^>]*\bsrc=)", html)
    for path in (*PAGE.glob("*.js"), PAGE / "page.css", PAGE / "index.html"):
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text
        assert "https://" not in text
        assert "innerHTML" not in text


def test_a_wheel_holds_page_viewer_license_and_presets(tmp_path):
    if niivue_missing():
        pytest.skip(niivue_missing())
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed")
    if not (ROOT / "pyproject.toml").is_file():
        pytest.skip("the tests do not run in a checkout")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
        inside = "medrestore/study/page/"
        for path, _ in static_files().values():
            assert inside + path.relative_to(PAGE).as_posix() in names
        viewer = wheel.read(f"{inside}vendor/niivue.umd.js")
        assert viewer == (PAGE / "vendor" / "niivue.umd.js").read_bytes()
        assert f"{inside}vendor/niivue.json" in names
        assert any(name.endswith(f"dist-info/licenses/{inside}NOTICES.txt") for name in names)
        assert "medrestore/study/planning/presets/florbetaben.yaml" in names
        for name in ("texts.yaml", "methods.txt.jinja", "references.yaml"):
            assert f"medrestore/study/report/{name}" in names
        for name in ("page.html.jinja", "page.css"):
            assert f"medrestore/evaluation/pages/{name}" in names


def test_git_does_not_hold_the_viewer():
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("the tests do not run in a checkout")
    tracked = subprocess.run(
        ["git", "ls-files", "medrestore/study/page"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert "medrestore/study/page/page.js" in tracked
    assert not [name for name in tracked if "vendor" in name]
    ignored = subprocess.run(
        ["git", "check-ignore", "medrestore/study/page/vendor/niivue.umd.js"],
        cwd=ROOT,
        check=False,
        capture_output=True,
    )
    assert ignored.returncode == 0
