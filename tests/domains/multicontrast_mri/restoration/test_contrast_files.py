"""Contrasts restored from files: what is written, what is refused, what is never overwritten."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from medrestore import __version__
from medrestore.checks import InputError
from medrestore.data.intensity import foreground_scale
from medrestore.data.volumes import read_volume
from medrestore.domains.multicontrast_mri.acquisition.acquisition import make_acquisition
from medrestore.domains.multicontrast_mri.acquisition.channel_volume import read_channels
from medrestore.domains.multicontrast_mri.restoration import (
    ContrastFileRestorer,
    ContrastRestorer,
    InputFiles,
    find_inputs,
)
from medrestore.files import sha256_file
from medrestore.inference.network import Training
from medrestore.inference.restorer import load_restorer
from medrestore.networks.weights import load_file, load_network, save_file

NAMES = ("t1w", "stir", "pdw")
ACQUISITION = make_acquisition(
    component="magnitude", saturation_delays_ms=[100, 2000], echo_times_ms=[20, 90]
)


def evaluator(
    inputs: list[InputFiles],
    mri_weights: Path,
    output: Path,
    *,
    contrasts: list[str] | None = None,
    **settings: Any,
) -> ContrastFileRestorer:
    restorer = load_restorer(mri_weights, device="cpu", precision="fp32", **settings)
    return ContrastFileRestorer(
        inputs,
        restorer,
        output_dir=output,
        contrasts=contrasts,
        bundle="bundles/mri",
        progress=False,
    )


# ---------------------------------------------------------------------------- what is written
@pytest.mark.parametrize("grid", ["RAS", "LPS oblique", "slices first, backwards"])
def test_every_voxel_stays_where_it_was(grid, mri_weights, write_mdme, shown_channel, tmp_path):
    given = nibabel.load(write_mdme(tmp_path / "in.nii.gz", grid=grid))
    # The network's input channel 6 is the middle slice's third: delay 2000 ms, echo 20 ms.
    restorer = ContrastRestorer(shown_channel(4 + 2), neighbors=1, contrasts=NAMES, acquisition=ACQUISITION)
    restorer.training = Training(mri_weights, "taskgan", {})
    inputs = [InputFiles((tmp_path / "in.nii.gz",), "a")]
    written = ContrastFileRestorer(inputs, restorer, output_dir=tmp_path, progress=False).run()
    assert [path.name for path in written] == [f"a_{name}_restored.nii.gz" for name in NAMES]
    canonical = nibabel.as_closest_canonical(given)
    scale = foreground_scale(
        canonical.get_fdata()[..., 2], voxel_size_mm=nibabel.affines.voxel_sizes(canonical.affine)
    )
    for path in written:
        image = nibabel.load(path)
        assert image.shape == given.shape[:3] == (21, 19, 7)
        assert image.get_data_dtype() == np.float32
        np.testing.assert_array_equal(image.affine, given.affine)
        for name in ("qform_code", "sform_code", "quatern_b", "qoffset_x", "srow_x", "srow_z"):
            np.testing.assert_array_equal(image.header[name], given.header[name])
        # One float32 division.
        np.testing.assert_allclose(image.get_fdata(), given.get_fdata()[..., 2] / scale, rtol=2**-23)


def test_writes_what_the_restorer_gives_with_its_provenance(mri_weights, mdme, tmp_path):
    written = evaluator([InputFiles((mdme,), "a")], mri_weights, tmp_path / "out").run()
    restorer = ContrastRestorer(
        load_network(mri_weights, "generator"), neighbors=1, contrasts=NAMES, acquisition=ACQUISITION
    )
    volume = read_channels([mdme], ACQUISITION)
    expected = restorer.restore(volume)
    for path, (name, restoration) in zip(written, expected.items(), strict=True):
        np.testing.assert_array_equal(read_volume(path).data, restoration.mean)
        record = json.loads((tmp_path / "out" / f"a_{name}_restored.json").read_text())
        assert record == {
            "medrestore_version": __version__,
            "bundle": "mri",
            "method": "taskgan",
            "weights_sha256": sha256_file(mri_weights),
            "samples": 0,
            "seed": None,
            "precision": "float32",
            "contrast": name,
            "acquisition": {
                "component": "magnitude",
                "channels": 4,
                "saturation_delays_ms": [100.0, 2000.0],
                "echo_times_ms": [20.0, 90.0],
                "reference": 2,
                "names": ["td100_te20", "td100_te90", "td2000_te20", "td2000_te90"],
            },
            "source_sha256": sha256_file(mdme),
            "input_scale": list(restoration.input_scale),
            "intensity_unit": "mean over the head",
            "outside_training_domain": [],
        }
    assert len(list((tmp_path / "out").iterdir())) == 2 * len(NAMES)


def test_no_name_or_path_is_written(mri_weights, mdme, tmp_path):
    evaluator([InputFiles((mdme,), "a")], mri_weights, tmp_path / "out").run()
    for path in (tmp_path / "out").iterdir():
        content = nibabel.load(path).header.binaryblock if path.suffix == ".gz" else path.read_bytes()
        for word in (b"secret", b"Doe", b"doe", str(mdme.parent).encode(), str(mri_weights.parent).encode()):
            assert word not in content
        if path.suffix == ".gz":
            assert len(nibabel.load(path).header.extensions) == 0


def test_samples_write_mean_and_standard_deviation(mri_weights, mdme, tmp_path):
    inputs = [InputFiles((mdme,), "a")]
    (written,) = evaluator(inputs, mri_weights, tmp_path, contrasts=["pdw"], samples=3, seed=5).run()
    expected = load_restorer(mri_weights, device="cpu", precision="fp32", samples=3, seed=5).restore(
        read_channels([mdme], ACQUISITION)
    )["pdw"]
    np.testing.assert_array_equal(read_volume(written).data, expected.mean)
    deviation = read_volume(tmp_path / "a_pdw_standard_deviation.nii.gz").data
    np.testing.assert_array_equal(deviation, expected.standard_deviation)
    assert deviation.max() > 0
    record = json.loads((tmp_path / "a_pdw_restored.json").read_text())
    assert (record["samples"], record["seed"]) == (3, 5)


def test_volume_outside_the_domain_is_restored_with_a_warning(
    mri_weights, write_mdme, mdme_images, tmp_path, caplog
):
    random = np.random.default_rng(1)
    clean = mdme_images()
    noisy = clean + np.abs(random.normal(0, 60, clean.shape)).astype(np.float32)
    path = write_mdme(tmp_path / "in.nii.gz", noisy, grid="RAS of larger voxels")
    with caplog.at_level(logging.WARNING):
        (written,) = evaluator([InputFiles((path,), "a")], mri_weights, tmp_path, contrasts=["stir"]).run()
    assert "a: outside the training domain: voxel size x mm is 4, trained on 3 to 3" in caplog.text
    assert written.exists()
    size, noise = json.loads((tmp_path / "a_stir_restored.json").read_text())["outside_training_domain"]
    assert size == "voxel size x mm is 4, trained on 3 to 3"
    assert noise.startswith("relative noise is")


def test_list_of_files_is_restored_as_the_one_file(mri_weights, mdme, write_mdme, tmp_path):
    paths = [write_mdme(tmp_path / f"{channel}.nii.gz", channel=channel) for channel in range(4)]
    inputs = [InputFiles((mdme,), "one"), InputFiles(tuple(paths), "list")]
    one, several = evaluator(inputs, mri_weights, tmp_path / "out", contrasts=["stir"]).run()
    np.testing.assert_array_equal(read_volume(several).data, read_volume(one).data)
    record = json.loads((tmp_path / "out" / "list_stir_restored.json").read_text())
    assert record["source_sha256"] == ";".join(sha256_file(path) for path in paths)


# ---------------------------------------------------------------------------- what is refused
def test_other_acquisition_is_refused_naming_both(mri_weights, write_mdme, tmp_path):
    path = write_mdme(tmp_path / "in.nii.gz")
    sidecar = json.loads((tmp_path / "in.json").read_text())
    (tmp_path / "in.json").write_text(json.dumps({**sidecar, "EchoTime": [0.03, 0.15] * 2}))
    message = (
        r"in\.json: EchoTime is 30, 150 ms, .* are 20, 90 ms.*"
        r"trained on saturation delays 100, 2000 ms, echo times 20, 90 ms, magnitude\)"
    )
    with pytest.raises(InputError, match=message):
        evaluator([InputFiles((path,), "a")], mri_weights, tmp_path).run()
    assert not list(tmp_path.glob("a_*"))


def test_bad_acquisitions_do_not_end_the_run(mri_weights, mdme, tmp_path):
    damaged = tmp_path / "damaged.nii.gz"
    damaged.write_bytes(mdme.read_bytes()[:500])
    inputs = [
        InputFiles((damaged,), "damaged"),
        InputFiles((mdme,), "good"),
        InputFiles((mdme, tmp_path / "none.nii"), "gone"),
    ]
    message = r"^2 of 3 subjects could not be .*\n  .*none\.nii: no such file\n  .*damaged\.nii\.gz: "
    with pytest.raises(InputError, match=message):
        evaluator(inputs, mri_weights, tmp_path / "out", contrasts=["stir"]).run()
    assert [path.name for path in (tmp_path / "out").glob("*.nii.gz")] == ["good_stir_restored.nii.gz"]


def test_folder_restored_into_itself_twice_restores_no_work_of_ours(mri_weights, write_mdme, tmp_path):
    write_mdme(tmp_path / "in.nii.gz")
    held = []
    for _ in range(2):
        evaluator(find_inputs(tmp_path), mri_weights, tmp_path, contrasts=["stir"], samples=2).run()
        held.append({path.name for path in tmp_path.iterdir()})
    assert held[0] == held[1]
    assert len(held[0]) == 5  # image and sidecar, restoration, deviation and sidecar


def test_missing_echo_is_refused(mri_weights, write_mdme, mdme_images, tmp_path):
    path = write_mdme(tmp_path / "in.nii.gz", mdme_images()[..., :3])
    with pytest.raises(InputError, match=r"in\.nii\.gz: has 3 channels, expected 4 = 2 delays x 2 echoes"):
        evaluator([InputFiles((path,), "a")], mri_weights, tmp_path).run()


def test_image_without_foreground_is_refused_by_name(mri_weights, write_mdme, tmp_path):
    path = write_mdme(tmp_path / "in.nii.gz", np.zeros((8, 8, 8, 4), np.float32))
    with pytest.raises(InputError, match=r"in\.nii\.gz: .*no positive foreground"):
        evaluator([InputFiles((path,), "a")], mri_weights, tmp_path).run()


def test_unknown_contrast_is_refused(mri_weights, mdme, tmp_path):
    with pytest.raises(InputError, match="asked for: 't1c'; trained on t1w, stir, pdw"):
        evaluator([InputFiles((mdme,), "a")], mri_weights, tmp_path, contrasts=["t1w", "t1c"])


def test_weights_of_another_kind_are_refused(mri_weights, tmp_path):
    with pytest.raises(InputError, match=r"model\.pt: was trained on several contrasts.*Remedy"):
        load_restorer(mri_weights, device="cpu", facts={"restorer": "amyloid_pet.VolumeFileRestorer"})
    model = load_file(mri_weights)
    del model["contrasts"], model["format"]
    save_file(model, tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"model\.pt: names no contrasts: .*Remedy"):
        load_restorer(
            tmp_path / "model.pt",
            device="cpu",
            facts={"restorer": "multicontrast_mri.ContrastFileRestorer"},
        )


def test_id_that_leaves_the_folder_is_refused(mri_weights, mdme, tmp_path):
    with pytest.raises(InputError, match=r"'\.\./a_t1w': no file can have this name"):
        evaluator([InputFiles((mdme,), "../a")], mri_weights, tmp_path)


# ---------------------------------------------------------------------------- what is kept
@pytest.mark.parametrize("settings", [{}, {"samples": 2, "seed": 3}])
def test_continued_restoration_is_that_of_an_uninterrupted_one(settings, mri_weights, mdme, tmp_path):
    inputs = [InputFiles((mdme,), "a"), InputFiles((mdme,), "b")]
    written = evaluator(inputs, mri_weights, tmp_path, **settings).run()
    assert [path.name for path in written] == [
        f"{subject}_{contrast}_restored.nii.gz" for subject in "ab" for contrast in NAMES
    ]
    contents, ages = ([path.read_bytes() for path in written], [path.stat().st_mtime_ns for path in written])
    for path in written[2:]:  # killed before the third contrast of the first subject was written
        path.unlink()
    (tmp_path / "b_stir_restored.json").unlink()
    for path in tmp_path.glob("b_stir_standard_deviation*"):
        path.unlink()
    assert evaluator(inputs, mri_weights, tmp_path, **settings).run() == written
    assert [path.stat().st_mtime_ns for path in written[:2]] == ages[:2]
    assert [path.read_bytes() for path in written] == contents


def test_further_contrasts_join_those_that_are_there(mri_weights, mdme, tmp_path):
    inputs = [InputFiles((mdme,), "a")]
    (first,) = evaluator(inputs, mri_weights, tmp_path, contrasts=["stir"]).run()
    age = first.stat().st_mtime_ns
    written = evaluator(inputs, mri_weights, tmp_path).run()
    assert [path.exists() for path in written] == [True] * 3
    assert first.stat().st_mtime_ns == age
    restorer = load_restorer(mri_weights, device="cpu", precision="fp32")
    everything = ContrastFileRestorer(
        inputs, restorer, output_dir=tmp_path / "again", bundle="mri", progress=False
    ).run()
    assert [path.read_bytes() for path in everything] == [path.read_bytes() for path in written]
