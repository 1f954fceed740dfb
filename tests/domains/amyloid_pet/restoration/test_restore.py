"""Files restored: what is found, what is written beside it, and what is never overwritten."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
from manifest import cells, write_manifest

from medrestore import __version__
from medrestore.checks import InputError, OutputError
from medrestore.data.atlas import AtlasRegistration
from medrestore.data.channels import PresenceChannel, VolumeChannel
from medrestore.data.training_range import training_range
from medrestore.data.volumes import Volume, read_volume, write_volume
from medrestore.domains.amyloid_pet.regions import scan_regions
from medrestore.domains.amyloid_pet.restoration import (
    VolumeFile,
    VolumeFileRestorer,
    find_volumes,
)
from medrestore.domains.amyloid_pet.schema import pair_schema
from medrestore.domains.amyloid_pet.training import AmyloidPETData
from medrestore.files import sha256_file
from medrestore.inference.anchor import GeometricTransfer, anchored
from medrestore.inference.restorer import load_restorer
from medrestore.inference.slices import VolumeRestorer
from medrestore.networks.unet import UNetGenerator
from medrestore.networks.weights import describe, load_network, save_file


@pytest.fixture(scope="module")
def weights(tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a model.pt with random weights and the tiny cohort's domain."""
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    networks = {"generator": describe(UNetGenerator(3, channels=(4, 8), dropout_levels=1))}
    domain = training_range(pair_schema().read(tiny_cohort / "manifest.csv"), words=AmyloidPETData.words)
    save_file({"method": "taskgan", "neighbors": 1, "domain": domain, "networks": networks}, path)
    return path


@pytest.fixture
def volume(tiny_cohort: Path) -> Path:
    return tiny_cohort / "subjects" / "sub-0006" / "degraded.nii.gz"


def evaluator(files: list[VolumeFile], weights: Path, output: Path, **settings: Any) -> VolumeFileRestorer:
    restorer = load_restorer(weights, device="cpu", precision="fp32", **settings)
    return VolumeFileRestorer(files, restorer, output_dir=output, bundle="bundles/amyloid", progress=False)


# ---------------------------------------------------------------------------- what is found
def test_file_and_folder(tiny_cohort, volume, tmp_path):
    assert find_volumes(volume) == [VolumeFile(volume, "degraded")]
    for name in ("b.nii.gz", "a.nii"):
        nibabel.save(nibabel.load(volume), tmp_path / name)
    (tmp_path / "notes.txt").write_text("not an image")
    found = find_volumes(tmp_path)
    assert [(item.name, item.path.name) for item in found] == [("a", "a.nii"), ("b", "b.nii.gz")]
    nibabel.save(nibabel.load(volume), tmp_path / "a.nii.gz")
    assert [item.name for item in find_volumes(tmp_path)] == ["a", "a", "b"]


def test_manifest_and_split(tiny_cohort):
    everything = find_volumes(tiny_cohort / "manifest.csv")
    assert [item.name for item in everything] == [f"sub-{index:04}_ses-01" for index in range(8)]
    (first, second) = find_volumes(tiny_cohort / "manifest.csv", split="test")
    assert (first.name, second.name) == ("sub-0006_ses-01", "sub-0007_ses-01")
    assert (first.row["tracer"], first.row["dose_fraction"]) == ("florbetaben", 0.01)
    assert first.path.parent.name == "sub-0006"


def test_scan_at_several_doses_has_the_dose_in_its_name(tiny_cohort, tmp_path):
    shutil.copytree(tiny_cohort, tmp_path / "cohort", ignore=shutil.ignore_patterns(".cache"))
    table = cells(tmp_path / "cohort" / "manifest.csv")
    again = table[table["split"] == "test"].assign(dose_fraction="0.05")
    pd.concat([table, again]).to_csv(tmp_path / "cohort" / "manifest.csv", index=False)
    names = [item.name for item in find_volumes(tmp_path / "cohort" / "manifest.csv", split="test")]
    assert sorted(names) == [
        f"sub-{n}_ses-01_dose-{dose}" for n in ("0006", "0007") for dose in ("0.01", "0.05")
    ]


@pytest.mark.parametrize(
    ("make", "split", "message"),
    [
        (lambda path: None, None, r"does not exist\. Remedy"),
        (lambda path: path.mkdir(), None, r"holds no \.nii or \.nii\.gz file"),
        (lambda path: path.mkdir(), "test", "those of a manifest"),
        (lambda path: path.write_text("x"), None, "has no NIfTI name"),
    ],
    ids=["missing", "empty", "split", "name"],
)
def test_nothing_to_restore_is_refused(make, split, message, tmp_path):
    make(tmp_path / "input")
    with pytest.raises(InputError, match=message):
        find_volumes(tmp_path / "input", split=split)


# ---------------------------------------------------------------------------- what is written
def test_writes_what_the_restorer_gives_with_its_provenance(weights, volume, tmp_path):
    (written,) = evaluator(
        [VolumeFile(volume, "a", {"tracer": "florbetaben", "dose_fraction": 0.01})], weights, tmp_path / "out"
    ).run()
    generator = load_network(weights, "generator")
    expected = VolumeRestorer(generator, neighbors=1).restore(read_volume(volume))
    np.testing.assert_array_equal(read_volume(written).data, expected.mean)
    record = json.loads((tmp_path / "out" / "a_restored.json").read_text())
    assert record == {
        "medrestore_version": __version__,
        "bundle": "amyloid",
        "method": "taskgan",
        "weights_sha256": sha256_file(weights),
        "training_dose_fraction": ["0.01"],
        "samples": 0,
        "seed": None,
        "precision": "float32",
        "source_sha256": sha256_file(volume),
        "source_dose_fraction": 0.01,
        "intensity_scale": expected.scale,
        "outside_training_domain": [],
    }
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "a_restored.json",
        "a_restored.nii.gz",
    ]


def test_provenance_stays_out_of_the_header(weights, volume, tmp_path):
    (written,) = evaluator([VolumeFile(volume, "a")], weights, tmp_path).run()
    header = nibabel.load(written).header
    assert [bytes(header[name]).strip(b"\0") for name in ("descrip", "aux_file", "intent_name")] == [
        b"",
        b"",
        b"",
    ]
    assert len(header.extensions) == 0
    assert str(volume.parent) not in (tmp_path / "a_restored.json").read_text()


def test_samples_write_mean_and_standard_deviation(weights, volume, tmp_path):
    (written,) = evaluator([VolumeFile(volume, "a")], weights, tmp_path, samples=3, seed=5).run()
    expected = VolumeRestorer(load_network(weights, "generator"), neighbors=1, samples=3, seed=5).restore(
        read_volume(volume)
    )
    np.testing.assert_array_equal(read_volume(written).data, expected.mean)
    deviation = read_volume(tmp_path / "a_standard_deviation.nii.gz")
    np.testing.assert_array_equal(deviation.data, expected.standard_deviation)
    assert deviation.data.max() > 0
    record = json.loads((tmp_path / "a_restored.json").read_text())
    assert (record["samples"], record["seed"]) == (3, 5)


def test_volume_outside_the_domain_is_restored_with_a_warning(weights, volume, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        (written,) = evaluator([VolumeFile(volume, "a", {"tracer": "FDG"})], weights, tmp_path).run()
    assert "a: outside the training domain: tracer is FDG, trained on florbetaben" in caplog.text
    assert written.exists()
    record = json.loads((tmp_path / "a_restored.json").read_text())
    assert record["outside_training_domain"] == ["tracer is FDG, trained on florbetaben"]


# ---------------------------------------------------------------------------- what is kept
def test_finished_restorations_are_kept_and_missing_ones_made(weights, tiny_cohort, tmp_path):
    files = find_volumes(tiny_cohort / "manifest.csv", split="test")
    first, second = evaluator(files, weights, tmp_path).run()
    content, age = second.read_bytes(), first.stat().st_mtime_ns
    second.unlink()  # killed before the second volume, its sidecar written
    assert evaluator(files, weights, tmp_path).run() == [first, second]
    assert first.stat().st_mtime_ns == age
    assert second.read_bytes() == content


@pytest.mark.parametrize("settings", [{"samples": 2}, {"samples": 2, "seed": 1}])
def test_restoration_by_other_settings_is_refused(settings, weights, volume, tmp_path):
    (written,) = evaluator([VolumeFile(volume, "a")], weights, tmp_path).run()
    content = written.read_bytes()
    with pytest.raises(
        InputError, match="was restored by other weights, settings or source; nothing is overwritten"
    ):
        evaluator([VolumeFile(volume, "a")], weights, tmp_path, **settings)
    assert written.read_bytes() == content


def test_image_without_our_sidecar_is_refused(weights, volume, tmp_path):
    (tmp_path / "a_restored.nii.gz").write_bytes(b"somebody's work")
    with pytest.raises(
        InputError, match=r"is there without a readable a_restored\.json; nothing is overwritten"
    ):
        evaluator([VolumeFile(volume, "a")], weights, tmp_path)
    assert (tmp_path / "a_restored.nii.gz").read_bytes() == b"somebody's work"


def test_sidecar_or_deviation_of_somebody_else_is_refused(weights, volume, tmp_path):
    (tmp_path / "a_restored.json").write_text('{"mine": 1}')
    with pytest.raises(InputError, match=r"a_restored\.json: was restored by other weights"):
        evaluator([VolumeFile(volume, "a")], weights, tmp_path)
    assert (tmp_path / "a_restored.json").read_text() == '{"mine": 1}'
    (tmp_path / "b_standard_deviation.nii.gz").write_bytes(b"somebody's work")
    with pytest.raises(InputError, match=r"b_standard_deviation.* without a readable b_restored\.json"):
        evaluator([VolumeFile(volume, "b")], weights, tmp_path, samples=2)
    evaluator([VolumeFile(volume, "b")], weights, tmp_path).run()  # needs no such file
    assert (tmp_path / "b_standard_deviation.nii.gz").read_bytes() == b"somebody's work"


def test_source_that_failed_leaves_nothing_that_refuses_it_once_mended(weights, volume, tmp_path):
    (written,) = evaluator([VolumeFile(volume, "a")], weights, tmp_path).run()
    content = written.read_bytes()
    written.unlink()
    sidecar = json.loads((tmp_path / "a_restored.json").read_text())
    (tmp_path / "a_restored.json").write_text(json.dumps({**sidecar, "source_sha256": "of a broken file"}))
    evaluator([VolumeFile(volume, "a")], weights, tmp_path).run()
    assert written.read_bytes() == content


def test_another_source_of_the_name_is_set_aside_other_settings_end_the_run(weights, volume, tmp_path):
    evaluator([VolumeFile(volume, "a")], weights, tmp_path).run()
    other = volume.parents[1] / "sub-0007" / "degraded.nii.gz"
    files = [VolumeFile(other, "a"), VolumeFile(volume, "b")]
    with pytest.raises(
        InputError, match=r"could not be restored, the others were:\n.*of other source_sha256"
    ):
        evaluator(files, weights, tmp_path).run()
    assert (tmp_path / "b_restored.nii.gz").exists()
    files.append(VolumeFile(volume, "c"))
    with pytest.raises(OutputError, match=r"a_restored.*nothing is overwritten \(of other samples, seed"):
        evaluator(files, weights, tmp_path, samples=2)
    assert not (tmp_path / "c_restored.nii.gz").exists()


# ---------------------------------------------------------------------------- what cannot be restored
def test_bad_files_do_not_end_the_run_and_are_named(weights, volume, tmp_path):
    cut = tmp_path / "cut.nii.gz"
    cut.write_bytes(volume.read_bytes()[:2000])
    (tmp_path / "folder.nii.gz").mkdir()
    (tmp_path / "link.nii.gz").symlink_to(tmp_path / "nowhere.nii.gz")
    os.mkfifo(tmp_path / "pipe.nii.gz")
    long = tmp_path / f"{'ä' * 117}.nii.gz"  # 241 bytes: the restoration's name would have 250
    longer = tmp_path / f"{'ä' * 124}.nii"  # 252 bytes
    for place in (long, longer):
        place.symlink_to(volume)
    names = ["none", "cut", "folder", "link", "pipe"]
    files = [VolumeFile(tmp_path / f"{name}.nii.gz", name) for name in names]
    files += [VolumeFile(longer, "ä" * 124), VolumeFile(long, "ä" * 117)]
    with pytest.raises(InputError) as refusal:
        evaluator(files, weights, tmp_path / "out").run()
    first, *lines = str(refusal.value).splitlines()
    assert first == "6 of 7 volumes could not be restored, the others were:"
    for part in (
        *("none.nii.gz: no such file", "folder.nii.gz: is a folder", "is a link to a file that is not there"),
        *("pipe.nii.gz: is neither a file nor a folder", "would have 264 bytes, it can have 255"),
        "cut.nii.gz: is truncated or damaged",
    ):
        assert sum(part in line for line in lines) == 1, part
    assert [path.name for path in (tmp_path / "out").glob("*.nii.gz")] == [f"{'ä' * 117}_restored.nii.gz"]


def test_full_disk_ends_the_run(weights, volume, tmp_path, monkeypatch):
    made = []

    def full(*_: Any, **__: Any) -> None:
        made.append(1)
        raise OutputError("x: the disk is full")

    monkeypatch.setattr("medrestore.inference.nifti.write_volume", full)
    with pytest.raises(OutputError, match="the disk is full"):
        evaluator([VolumeFile(volume, "a"), VolumeFile(volume, "b")], weights, tmp_path).run()
    assert len(made) == 1


def test_inputs_of_one_name_are_set_aside_and_the_others_restored(weights, volume, tmp_path):
    files = [VolumeFile(volume, name) for name in ("a", "b", "a")]
    message = (
        r"^2 of 3 volumes could not be restored, the others were:\n"
        r"  two inputs would be restored to one file: a_restored\.nii\.gz\. Remedy: .* \(2 volumes\)$"
    )
    with pytest.raises(InputError, match=message):
        evaluator(files, weights, tmp_path).run()
    assert [path.name for path in tmp_path.glob("*.nii.gz")] == ["b_restored.nii.gz"]


# ---------------------------------------------------------------------------- the anchor
@pytest.fixture(scope="module")
def with_regions(tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the manifest of the tiny cohort's two test scans: one with a map of two regions, one without."""
    folder = tmp_path_factory.mktemp("regions") / "cohort"
    shutil.copytree(tiny_cohort, folder, ignore=shutil.ignore_patterns(".cache"))
    image = nibabel.load(folder / "subjects" / "sub-0006" / "target.nii.gz")
    codes = np.zeros(image.shape, dtype=np.int16)
    codes[4:16, 6:26, 2:8], codes[16:28, 6:26, 2:8] = 1, 5
    path = folder / "subjects" / "sub-0006" / "regions.nii.gz"
    nibabel.save(nibabel.Nifti1Image(codes, image.affine), path)
    table = cells(folder / "manifest.csv")
    table = table[table["split"] == "test"]
    table["regions"] = ["subjects/sub-0006/regions.nii.gz", ""]
    table["regions_sha256"] = [sha256_file(path), ""]
    table.to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"


def anchoring(manifest: Path, weights: Path, output: Path, **settings: Any) -> VolumeFileRestorer:
    anchor = settings.pop("anchor", "regions")
    return VolumeFileRestorer(
        find_volumes(manifest),
        load_restorer(weights, device="cpu", precision="fp32", **settings),
        output_dir=output,
        anchor=anchor,
        progress=False,
    )


def test_anchored_restorations_are_written_beside_the_same_ones(with_regions, weights, tmp_path, caplog):
    plain = anchoring(with_regions, weights, tmp_path / "plain", anchor="none").run()
    with caplog.at_level(logging.WARNING):
        written = anchoring(with_regions, weights, tmp_path / "both").run()
    assert [path.relative_to(tmp_path / "both").as_posix() for path in written] == [
        "sub-0006_ses-01_restored.nii.gz",
        "anchored/sub-0006_ses-01_restored.nii.gz",
        "sub-0007_ses-01_restored.nii.gz",
    ]
    for path in (*plain, *(path.with_name(path.name.replace(".nii.gz", ".json")) for path in plain)):
        assert path.read_bytes() == (tmp_path / "both" / path.name).read_bytes()
    assert (
        "the anchor was left out of 1 of 2 volumes:\n"
        "  sub-0007_ses-01: no row of a manifest names a region map of this scan" in caplog.text
    )

    volume = read_volume(with_regions.parent / "subjects" / "sub-0006" / "degraded.nii.gz")
    regions = read_volume(with_regions.parent / "subjects" / "sub-0006" / "regions.nii.gz")
    expected = anchored(
        read_volume(plain[0]).data,
        volume.data,
        GeometricTransfer(regions.data.astype(int), voxel_size_mm=volume.voxel_size_mm),
    )
    np.testing.assert_array_equal(read_volume(written[1]).data, expected.image)
    record = json.loads(written[1].with_name("sub-0006_ses-01_restored.json").read_text())
    alone = json.loads((tmp_path / "plain" / "sub-0006_ses-01_restored.json").read_text())
    added = {key: record[key] for key in record.keys() - alone.keys()}
    assert added == {
        "anchor": "regions",
        "anchor_sigma_mm": 2.5,
        "source_regions_sha256": sha256_file(regions.path),
        "anchor_map": {},
        "anchoring": expected.facts,
    }
    assert {key: record[key] for key in alone} == alone
    assert list(record["anchoring"]["regions"]) == ["1", "5"]
    without = json.loads((tmp_path / "both" / "anchored" / "sub-0007_ses-01_restored.json").read_text())
    assert without["anchor_left_out"] == "no row of a manifest names a region map of this scan"


def test_an_anchor_is_added_to_finished_restorations_and_kept(with_regions, weights, tmp_path):
    first = anchoring(with_regions, weights, tmp_path, anchor="none").run()
    ages = [path.stat().st_mtime_ns for path in first]
    (_, added, _) = anchoring(with_regions, weights, tmp_path).run()
    age = added.stat().st_mtime_ns
    assert [path.stat().st_mtime_ns for path in first] == ages
    assert len(anchoring(with_regions, weights, tmp_path).run()) == 3
    assert added.stat().st_mtime_ns == age
    assert anchoring(with_regions, weights, tmp_path, anchor="none").run() == first


def test_another_map_or_anchor_is_refused(with_regions, weights, tmp_path, monkeypatch):
    anchoring(with_regions, weights, tmp_path).run()
    sidecar = tmp_path / "anchored" / "sub-0006_ses-01_restored.json"
    record = json.loads(sidecar.read_text())
    sidecar.write_text(json.dumps({**record, "source_regions_sha256": "of another map"}))
    with pytest.raises(InputError, match="of other source_regions_sha256"):
        anchoring(with_regions, weights, tmp_path).run()
    sidecar.write_text(json.dumps({**record, "anchor": "atlas"}))
    with pytest.raises(OutputError, match=r"anchored/sub-0006_ses-01_restored.* \(of other anchor\)"):
        anchoring(with_regions, weights, tmp_path)
    with pytest.raises(InputError, match="anchor must be one of"):
        anchoring(with_regions, weights, tmp_path, anchor="region")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda image: nibabel.Nifti1Image(np.zeros_like(image.dataobj), image.affine), "names no region"),
        (lambda image: image.slicer[:, :, 1:], "its region map is on another grid: "),
        (
            lambda image: nibabel.Nifti1Image(image.get_fdata() / 2, image.affine),
            "its region map is not usable: region codes are no whole numbers",
        ),
        (
            lambda image: nibabel.Nifti1Image(image.get_fdata() * 1e9, image.affine),
            "its region map is not usable: region codes must be from 0 to 32767, got 0 to 5e+09",
        ),
    ],
    ids=["empty", "grid", "fractions", "codes"],
)
def test_a_map_that_is_of_no_use_leaves_the_anchor_out(spoil, reason, with_regions, weights, tmp_path):
    path = tmp_path / "map.nii.gz"
    nibabel.save(spoil(nibabel.load(with_regions.parent / "subjects" / "sub-0006" / "regions.nii.gz")), path)
    item, _ = find_volumes(with_regions)
    files = [VolumeFile(item.path, item.name, {**item.row, "regions_path": str(path)})]
    restorer = load_restorer(weights, device="cpu", precision="fp32")
    (written,) = VolumeFileRestorer(
        files, restorer, output_dir=tmp_path, anchor="regions", progress=False
    ).run()
    assert written.name == "sub-0006_ses-01_restored.nii.gz"
    text = (tmp_path / "anchored" / "sub-0006_ses-01_restored.json").read_text()
    assert reason in json.loads(text)["anchor_left_out"]
    assert str(tmp_path) not in text
    assert not (tmp_path / "anchored" / "sub-0006_ses-01_restored.nii.gz").exists()


def test_a_file_or_folder_has_no_regions(weights, volume, tmp_path):
    restorer = load_restorer(weights, device="cpu", precision="fp32")
    (written,) = VolumeFileRestorer(
        find_volumes(volume), restorer, output_dir=tmp_path, anchor="regions", progress=False
    ).run()
    assert written.parent == tmp_path


def test_the_atlas_is_registered_to_the_unrestored_image_and_its_map_written(
    with_regions, weights, tmp_path, monkeypatch
):
    registered = []

    def register(volume: Volume) -> AtlasRegistration:
        """Say that the scan lies in the template as it is, and of the second one that it does not."""
        registered.append(volume)
        return AtlasRegistration(
            np.eye(4), failure="shows no brain" * (len(registered) == 2), distinctness=0.75
        )

    monkeypatch.setattr(scan_regions, "register_atlas", register)
    written = anchoring(with_regions, weights, tmp_path, anchor="atlas").run()
    names = [path.relative_to(tmp_path).as_posix() for path in written]
    assert names[1] == "anchored/sub-0006_ses-01_restored.nii.gz"
    assert len(names) == 3
    map_path = tmp_path / "anchored" / "sub-0006_ses-01_regions.nii.gz"
    codes = read_volume(map_path).data.astype(int)
    degraded = read_volume(with_regions.parent / "subjects" / "sub-0006" / "degraded.nii.gz")
    np.testing.assert_array_equal(registered[0].data, degraded.data)
    transfer = GeometricTransfer(codes, voxel_size_mm=degraded.voxel_size_mm)
    expected = anchored(read_volume(written[0]).data, degraded.data, transfer)
    np.testing.assert_array_equal(read_volume(written[1]).data, expected.image)
    record = json.loads(written[1].with_name("sub-0006_ses-01_restored.json").read_text())
    assert record["anchor"] == "atlas"
    assert record["anchor_registered"] == "unrestored image"
    assert record["anchor_map"]["registration"]["distinctness"] == 0.75
    assert record["anchor_map"]["sha256"]["sub-0006_ses-01_regions.nii.gz"] == sha256_file(map_path)
    assert (tmp_path / "anchored" / "sub-0006_ses-01_regions.png").is_file()
    without = json.loads((tmp_path / "anchored" / "sub-0007_ses-01_restored.json").read_text())
    assert without["anchor_left_out"] == "the registration of the average head failed: it shows no brain"
    assert not (tmp_path / "anchored" / "sub-0007_ses-01_regions.nii.gz").exists()


@pytest.mark.parametrize(("damaged", "reason"), [(True, ""), (False, "10240 of 10240 voxels are not finite")])
def test_a_t1_that_is_of_no_use_leaves_the_atlas_out_without_its_path(
    damaged, reason, with_regions, weights, tmp_path
):
    item, _ = find_volumes(with_regions)
    path, image = tmp_path / "doe_t1.nii.gz", nibabel.load(item.path)
    nibabel.save(nibabel.Nifti1Image(np.full(image.shape, np.nan, np.float32), image.affine), path)
    if damaged:
        path.write_bytes(path.read_bytes()[:40])
    files = [VolumeFile(item.path, item.name, {**item.row, "t1_path": str(path)})]
    restorer = load_restorer(weights, device="cpu", precision="fp32")
    VolumeFileRestorer(files, restorer, output_dir=tmp_path, anchor="atlas", progress=False).run()
    record = json.loads((tmp_path / "anchored" / "sub-0006_ses-01_restored.json").read_text())
    assert record["anchor_left_out"].startswith(f"its T1 is not usable: {reason}")
    assert "doe" not in record["anchor_left_out"]


@pytest.mark.filterwarnings("ignore:.*orientation:UserWarning")
def test_no_atlas_is_registered_to_a_scan_that_does_not_say_which_way_is_up(with_regions, weights, tmp_path):
    path = tmp_path / "scan.nii.gz"
    image = nibabel.load(with_regions.parent / "subjects" / "sub-0006" / "degraded.nii.gz")
    nibabel.save(nibabel.Nifti1Image(image.dataobj, None), path)
    anchoring(path, weights, tmp_path, anchor="atlas").run()
    record = json.loads((tmp_path / "anchored" / "scan_restored.json").read_text())
    assert record["anchor_left_out"].startswith(
        "its image is not usable: states no orientation (qform and sform codes are 0)"
    )


def test_uncertainty_of_the_anchor_is_added_to_that_of_the_samples(with_regions, weights, tmp_path):
    written = anchoring(with_regions, weights, tmp_path, samples=3, seed=5).run()
    name = "sub-0006_ses-01_standard_deviation.nii.gz"
    plain = read_volume(tmp_path / name).data
    carried = read_volume(tmp_path / "anchored" / name).data
    record = json.loads(written[1].with_name("sub-0006_ses-01_restored.json").read_text())
    assert record["anchoring"]["prior_sd"] > 0
    regions = read_volume(with_regions.parent / "subjects" / "sub-0006" / "regions.nii.gz").data
    assert (carried[regions > 0] > plain[regions > 0]).all()
    # The corner is beyond the Gaussian of any region: a square root of a square, in float32.
    assert carried[0, 0, 0] == pytest.approx(plain[0, 0, 0], rel=1e-6)


# ---------------------------------------------------------------------------- guided by MR
@pytest.fixture
def with_t1(tiny_cohort, tmp_path) -> Path:
    """Give one of the two test scans a T1 on its grid."""
    folder = tmp_path / "guided"
    shutil.copytree(tiny_cohort, folder, ignore=shutil.ignore_patterns(".cache"))
    table = cells(folder / "manifest.csv")
    table["t1"] = ""
    row = table.index[table["subject_id"] == "sub-0006"][0]
    volume = read_volume(folder / table.loc[row, "target"])
    table.loc[row, "t1"] = "subjects/sub-0006/t1.nii.gz"
    write_volume(2 * volume.data, volume.source, folder / table.loc[row, "t1"])
    return write_manifest(pair_schema(), table, folder)


@pytest.fixture(scope="module")
def guided_weights(weights, tmp_path_factory) -> Path:
    """Write a model.pt that is shown T1 and whether it is there: 3 + 3 + 1 channels."""
    path = tmp_path_factory.mktemp("guided") / "model.pt"
    networks = {"generator": describe(UNetGenerator(7, channels=(4, 8), dropout_levels=1))}
    channels = [VolumeChannel(name="t1", neighbors=1).plain, PresenceChannel(name="t1").plain]
    save_file({"method": "taskgan", "neighbors": 1, "channels": channels, "networks": networks}, path)
    return path


def test_one_network_restores_with_mr_and_without_and_mr_without_an_anchor_is_warned_of(
    with_t1, guided_weights, tmp_path, caplog
):
    files = find_volumes(with_t1, split="test")
    with caplog.at_level(logging.WARNING):
        written = evaluator(files, guided_weights, tmp_path / "with").run()
    assert len(written) == 2
    assert "1 of 2 volumes are guided by MR without an anchor" in caplog.text
    assert "--anchor regions" in caplog.text
    record = json.loads((tmp_path / "with" / "sub-0006_ses-01_restored.json").read_text())
    assert record["source_t1_sha256"] == sha256_file(with_t1.parent / "subjects/sub-0006/t1.nii.gz")
    table = cells(with_t1).assign(t1="", t1_sha256="")
    table.to_csv(with_t1.with_name("without.csv"), index=False)
    caplog.clear()
    plain = find_volumes(with_t1.with_name("without.csv"), split="test")
    with caplog.at_level(logging.WARNING):
        evaluator(plain, guided_weights, tmp_path / "without").run()
    assert "are guided by MR" not in caplog.text
    name = "{}/sub-000{}_ses-01_restored.nii.gz"
    other, same = (
        [read_volume(tmp_path / name.format(folder, number)).data for folder in ("with", "without")]
        for number in (6, 7)
    )
    assert not np.array_equal(*other)
    np.testing.assert_array_equal(*same)
