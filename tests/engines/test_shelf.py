"""Bundles are found in a checkout and in an installed package; what they offer is read from their files."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from medrestore.checks import InputError
from medrestore.engines import shelf
from medrestore.engines.shelf import bundle_contents, bundles_on_shelf, find_bundle, guides

ROOT = Path(__file__).parents[2]


def test_checkout_offers_its_bundles_and_guides():
    assert [path.name for path in bundles_on_shelf()] == sorted(
        path.name for path in (ROOT / "bundles").iterdir() if path.is_dir()
    )
    assert guides() == ROOT / "docs"


def test_installed_package_offers_its_own(tmp_path, monkeypatch):
    package = tmp_path / "medrestore"
    shutil.copytree(ROOT / "bundles", package / "_share" / "bundles")
    monkeypatch.setattr(shelf, "SHELVES", (package / "_share", tmp_path))
    assert find_bundle("histology_srgan") == package / "_share" / "bundles" / "histology_srgan"
    assert all(path.is_relative_to(package) for path in bundles_on_shelf())
    assert guides() is None


def test_contents_are_what_the_files_say(tmp_path):
    configs, variants = tmp_path / "mine" / "configs", tmp_path / "mine" / "variants"
    configs.mkdir(parents=True)
    variants.mkdir()
    (configs / "metadata.json").write_text(json.dumps({"name": "Mine", "version": "1.2.0"}))
    (configs / "train.yaml").write_text(
        "# Mine.\n# ---------------- data\nseed: 0  # names the streams\nstages:\n  - {name: a}\n"
        '# ---------------- how\nnetwork_def: "@generator"\nstep: {_target_: a.B}\nlast: [1, 2]\nrun: []\n'
        "parameters:\n  # ---------------- numbers\n  rate: 0.1  # Adam\n  stages: []\nother:\n  deep: 1\n"
    )
    (variants / "fast.yaml").write_text("# For laptops: narrow\n# networks. And more.\nseed: 1\n")
    (variants / "gpus.yaml").write_text("# Several GPUs:\n#   torchrun train\nseed: 1\n")
    (variants / "silent.yaml").write_text("seed: 2\n")
    contents = bundle_contents(tmp_path / "mine")
    assert (contents.title, contents.version, contents.path) == ("Mine", "1.2.0", tmp_path / "mine")
    assert contents.overlays == {"fast": "For laptops: narrow networks", "gpus": "Several GPUs", "silent": ""}
    top = ["# data", "seed: 0  # names the streams", "# how", "last: [1, 2]"]
    assert contents.settings == {"train": [*top, "# numbers", "rate: 0.1  # Adam", "stages: []"]}


def test_damaged_metadata_are_named(tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "metadata.json").write_text("{")
    with pytest.raises(InputError, match=r"metadata\.json: is no JSON"):
        bundle_contents(tmp_path)


@pytest.mark.slow
def test_wheel_runs_from_an_empty_folder_and_its_links_hold(tmp_path):
    """Built, unpacked where no checkout is near, and used as its pages say."""
    pytest.importorskip("hatchling")
    if not (ROOT / "medrestore" / "study" / "page" / "vendor").is_dir():
        pytest.skip("the viewer has not been fetched, and tests have no network")
    built, place, empty = (tmp_path / name for name in ("built", "site", "empty"))
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(built)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    zipfile.ZipFile(next(built.glob("*.whl"))).extractall(place)
    empty.mkdir()
    share = place / "medrestore" / "_share"
    pages = list(share.rglob("*.md"))
    assert len(pages) > 10
    for page in pages:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            if not re.match(r"https?://|mailto:|#", target):
                assert (page.parent / target.partition("#")[0]).exists(), f"{page}: {target}"

    def run(*words: str) -> str:
        return subprocess.run(
            [sys.executable, *words],
            cwd=empty,
            env={"PYTHONPATH": str(place), "PATH": "", "OMP_NUM_THREADS": "1"},
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    assert "amyloid_pet_taskgan 0.1.0: " in run("-m", "medrestore", "bundles")
    path = Path(run("-m", "medrestore", "bundles", "histology_srgan", "--path").strip())
    assert path == share / "bundles" / "histology_srgan"
    files = (
        "--meta_file",
        path / "configs" / "metadata.json",
        "--config_file",
        path / "configs" / "train.yaml",
    )
    tiny = ("--generator_channels", "4", "--generator_blocks", "1", "--device", "cpu")
    run("-m", "monai.bundle", "verify_net_in_out", "network_def", *map(str, files), *tiny)
    assert list(empty.iterdir()) == []
