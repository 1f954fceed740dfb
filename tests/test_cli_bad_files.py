"""One bad file never ends a run: the others are done, all bad ones are listed with reasons, the code is 2."""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from command_line import Ended

from medrestore.data.training_range import training_range
from medrestore.domains.amyloid_pet.schema import pair_schema
from medrestore.domains.amyloid_pet.training import AmyloidPETData
from medrestore.networks.unet import UNetGenerator
from medrestore.networks.weights import describe, save_file

Call = Callable[..., Ended]


@pytest.fixture(scope="module")
def weights(tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a model.pt with random weights of a very small network and the tiny cohort's domain."""
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    networks = {"generator": describe(UNetGenerator(3, channels=(4, 8), dropout_levels=1))}
    domain = training_range(pair_schema().read(tiny_cohort / "manifest.csv"), words=AmyloidPETData.words)
    save_file({"method": "taskgan", "neighbors": 1, "domain": domain, "networks": networks}, path)
    return path


@pytest.fixture
def restore(call: Call, weights: Path) -> Call:
    def run(source: Path, output: Path, *words: object) -> Ended:
        given = ["--weights", weights, "--precision", "fp32", "--output", output]
        return call("restore", source, *given, *words)

    return run


def changed(content: bytes, field: str, value: Any, index: int = 0) -> bytes:
    kind, offset = nibabel.Nifti1Header.template_dtype.fields[field][:2]
    start = offset + index * kind.base.itemsize
    new = np.array(value).astype(kind.base).tobytes()
    return content[:start] + new + content[start + len(new) :]


def twelve_bad_files(folder: Path, good: bytes) -> dict[str, str]:
    """Write twelve files that are broken in twelve ways; return by name what must be said of each."""
    image = nibabel.Nifti1Image.from_bytes(good)
    series = nibabel.Nifti1Image(np.stack([image.get_fdata(dtype=np.float32)] * 2, -1), image.affine)
    empty = nibabel.Nifti1Image(np.zeros(image.shape, np.float32), image.affine)
    contents = {
        "01_intercept.nii": (
            changed(changed(good, "scl_slope", 1), "scl_inter", math.nan),
            "scl_inter is nan",
        ),
        "02_datatype.nii.gz": (gzip.compress(changed(good, "datatype", 0)), "datatype is 0"),
        "03_units.nii": (changed(good, "xyzt_units", 7), "xyzt_units is 7"),
        "04_offset.nii": (changed(good, "vox_offset", 0), "vox_offset is 0"),
        "05_infinite.nii": (changed(good, "vox_offset", math.inf), "vox_offset is inf"),
        "06_huge.nii.gz": (gzip.compress(changed(good, "dim", 32767, 2)), "dim, datatype, vox_offset"),
        "07_cut.nii.gz": (gzip.compress(good)[:5000], "truncated or damaged"),
        "08_text.nii": (b"this is no image\n" * 100, "cannot be read as NIfTI"),
        "09_series.nii": (series.to_bytes(), "has 4 dimensions"),
        "10_empty.nii": (empty.to_bytes(), "no positive foreground"),
        "11_twice.nii.gz": (gzip.compress(gzip.compress(good)), "compressed twice"),
    }
    for name, (content, _) in contents.items():
        (folder / name).write_bytes(content)
    (folder / "12_link.nii").symlink_to(folder / "nowhere.nii")
    return {name: message for name, (_, message) in contents.items()} | {"12_link.nii": "is a link"}


def listed(ended: Ended, total: int, expected: dict[str, str], unit: str = "volumes") -> None:
    """Require that the error lists these files, each in one line with its reason, and no other."""
    assert ended.code == 2
    assert "Traceback" not in ended.out + ended.err
    start = f"error: {len(expected)} of {total} {unit} could not be restored, the others were:"
    assert start in ended.err
    lines = ended.err.split(start)[1].strip().splitlines()
    assert len(lines) == len(expected)
    for name, message in expected.items():
        assert sum(name in line and message in line for line in lines) == 1, (name, lines)


def test_folder_of_forty_volumes_of_which_twelve_are_broken(restore, tiny_cohort, tmp_path):
    good = gzip.decompress((tiny_cohort / "subjects" / "sub-0006" / "degraded.nii.gz").read_bytes())
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(28):
        (folder / f"good_{number:02}.nii").write_bytes(good)
    bad = twelve_bad_files(folder, good)
    (folder / ".DS_Store").write_bytes(b"litter")
    (folder / "._good_00.nii").write_bytes(b"litter")
    listed(restore(folder, tmp_path / "out"), 40, bad)
    made = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert made == sorted(
        f"good_{number:02}_restored{ending}" for number in range(28) for ending in (".json", ".nii.gz")
    )
    # Once mended or moved away, the same call does the rest and ends well.
    for name in bad:
        (folder / name).unlink()
        if name.startswith("0"):
            (folder / name).write_bytes(gzip.compress(good) if name.endswith(".gz") else good)
    ended = restore(folder, tmp_path / "out")
    assert ended.code == 0, ended.err
    assert "37 files restored" in ended.out
    contents = {path.read_bytes() for path in (tmp_path / "out").glob("*.nii.gz")}
    assert len(contents) == 1  # the same image, all of them


@pytest.mark.parametrize("samples", [[], ["--samples", "2"]])
def test_restoring_a_folder_into_itself_twice_restores_nothing_of_our_own(
    samples, restore, tiny_cohort, tmp_path
):
    good = (tiny_cohort / "subjects" / "sub-0006" / "degraded.nii.gz").read_bytes()
    for name in ("s.nii.gz", "t.nii.gz.nii.gz", "U.NII.GZ"):
        (tmp_path / name).write_bytes(good)
    first = restore(tmp_path, tmp_path, *samples)
    assert first.code == 0, first.err
    held = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert {"s_restored.json", "t.nii.gz_restored.json", "U_restored.json"} <= held.keys()
    again = restore(tmp_path, tmp_path, *samples)
    assert again.code == 0, again.err
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == held
    # As a folder in the tree that is restored, too.
    (tmp_path / "tree" / "pet").mkdir(parents=True)
    (tmp_path / "tree" / "pet" / "s.nii.gz").write_bytes(good)
    for _ in range(2):
        assert restore(tmp_path / "tree", tmp_path / "tree" / "pet" / "out", *samples).code == 0
    assert [path.name for path in (tmp_path / "tree" / "pet" / "out").glob("*_restored.nii.gz")] == [
        "s_restored.nii.gz"
    ]


def test_manifest_with_missing_and_broken_files_restores_the_others(restore, make_tiny_cohort, tmp_path):
    manifest = make_tiny_cohort(tmp_path / "cohort")
    subjects = manifest.parent / "subjects"
    (subjects / "sub-0000" / "degraded.nii.gz").unlink()
    good = (subjects / "sub-0001" / "degraded.nii.gz").read_bytes()
    (subjects / "sub-0001" / "degraded.nii.gz").write_bytes(good[:3000])
    upper = manifest.rename(manifest.with_name("manifest.CSV"))
    ended = restore(upper, tmp_path / "out", "--split", "train")
    listed(ended, 4, {"sub-0000/degraded.nii.gz": "no such file", "sub-0001/degraded.nii.gz": "truncated"})
    assert [path.name[:8] for path in sorted((tmp_path / "out").glob("*.nii.gz"))] == ["sub-0002", "sub-0003"]


def test_names_at_their_limits(restore, tiny_cohort, tmp_path, monkeypatch):
    good = (tiny_cohort / "subjects" / "sub-0006" / "degraded.nii.gz").read_bytes()
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    long = "x" * 229 + ".nii.gz"  # 236 bytes
    for name in (long, "~scan.nii.gz", "x" * 240 + ".nii.gz"):
        (Path("in") / name).write_bytes(good)
    Path("~scan.nii.gz").write_bytes(good)
    listed(restore(Path("in"), Path("out")), 3, {"x" * 240: "would have 256 bytes, it can have 255"})
    assert (tmp_path / "out" / f"{'x' * 229}_restored.nii.gz").exists()
    assert restore(Path("~scan.nii.gz"), Path("~out")).code == 0
    assert (tmp_path / "~out" / "~scan_restored.nii.gz").exists()


def test_check_of_a_manifest_reports_every_broken_file_and_all_else(call, make_tiny_cohort, tmp_path):
    manifest = make_tiny_cohort(tmp_path / "cohort")
    subjects = manifest.parent / "subjects"
    good = gzip.decompress((subjects / "sub-0000" / "degraded.nii.gz").read_bytes())
    (tmp_path / "bad").mkdir()
    bad = twelve_bad_files(tmp_path / "bad", good)
    places = [
        subjects / f"sub-{number:04}" / f"{arm}.nii.gz"
        for number in range(6)
        for arm in ("degraded", "target")
    ]
    del bad["10_empty.nii"]  # a target may be empty, for all that a check can know
    for name, place in zip(bad, places, strict=False):
        place.unlink()
        (tmp_path / "bad" / name).rename(place)
    ended = call("check", manifest)
    assert ended.code == 1
    assert "Traceback" not in ended.out + ended.err
    for (name, message), place in zip(bad.items(), places, strict=False):
        told = message if name != "12_link.nii" else "no such file"
        found = f"subjects/{place.parent.name}/{place.name}: "
        assert any(found in line and told in line for line in ended.out.splitlines()), (name, ended.out)


@pytest.mark.parametrize("name", ["01_intercept.nii", "04_offset.nii", "06_huge.nii.gz", "11_twice.nii.gz"])
def test_broken_file_is_refused_by_every_command_that_reads_one(name, call, tiny_cohort, tmp_path):
    source = tiny_cohort / "subjects" / "sub-0006" / "degraded.nii.gz"
    message = twelve_bad_files(tmp_path, gzip.decompress(source.read_bytes()))[name]
    bad = tmp_path / name
    out = tmp_path / "out"
    call("pet", "low-dose", "--image", bad, "--output", out).refused(str(bad), message)
    call("pet", "low-dose", "--image", source, "--mu-map", bad, "--output", out).refused(str(bad), message)


def test_image_without_a_head_is_named_by_the_simulation(call, tiny_cohort, tmp_path):
    source = nibabel.load(tiny_cohort / "subjects" / "sub-0006" / "degraded.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.zeros(source.shape, np.float32), source.affine), tmp_path / "e.nii")
    ended = call("pet", "low-dose", "--image", tmp_path / "e.nii", "--output", tmp_path / "out")
    ended.refused(str(tmp_path / "e.nii"), "no positive signal to find a head in")
