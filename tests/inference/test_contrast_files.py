"""Acquisitions restored from files: what is found, what is written beside it, what is never overwritten."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medrestore import __version__
from medrestore.checks import InputError
from medrestore.data.contrasts.acquisition import make_acquisition, read_channels
from medrestore.data.domain import volume_features
from medrestore.data.intensity import foreground_scale
from medrestore.data.volumes import read_volume
from medrestore.files import sha256_file
from medrestore.inference.contrasts import (
    ContrastEvaluator,
    ContrastRestorer,
    InputFiles,
    find_inputs,
    load_contrast_restorer,
    restored_contrast_name,
)
from medrestore.inference.restore import load_restorer
from medrestore.networks.unet import UNetGenerator
from medrestore.networks.weights import describe, load_file, load_network, save_file

NAMES = ("t1w", "stir", "pdw")
ACQUISITION = make_acquisition(
    component="magnitude", saturation_delays_ms=[100, 2000], echo_times_ms=[20, 90]
)
SIDECAR = {
    "SaturationDelay": [0.1, 0.1, 2.0, 2.0],
    "EchoTime": [0.02, 0.09, 0.02, 0.09],
    "RepetitionTime": 3.0,
    "ComplexComponent": "magnitude",
}
SHAPE = (21, 19, 7)
ANGLE = np.deg2rad(11)
OBLIQUE = np.array([[np.cos(ANGLE), -np.sin(ANGLE), 0], [np.sin(ANGLE), np.cos(ANGLE), 0], [0, 0, 1]])
GRIDS = {
    "RAS": np.diag([3.0, 3.5, 5.0]),
    "LPS oblique": OBLIQUE @ np.diag([-3.0, -3.5, 5.0]),
    "slices first, backwards": OBLIQUE @ np.array([[0, 3.0, 0], [0, 0, -3.5], [-5.0, 0, 0]]),
}


def images_of(seed: int = 0) -> NDArray[np.float32]:
    """A head in noise, (X, Y, Z, 4): darker with the second echo, brighter with the second delay."""
    random = np.random.default_rng(seed)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    head = 400 * (x**2 + y**2 + (z / 1.3) ** 2 < 0.7)
    noise = random.normal(0, 4, (*SHAPE, 4))
    return np.abs(head[..., None] * np.array([0.4, 0.2, 1.0, 0.5]) + noise).astype(np.float32)


def write_input(
    path: Path, images: NDArray[np.float32], matrix: NDArray[np.float64] = GRIDS["LPS oblique"]
) -> Path:
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = matrix, (41.0, -17.0, 8.5)
    image = nibabel.Nifti1Image(images, affine)
    image.set_sform(affine, 2)
    image.set_qform(affine, 1)
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = b"Doe, Jane 1950"
    nibabel.save(image, path)
    path.with_name(path.name.split(".")[0] + ".json").write_text(json.dumps(SIDECAR))
    return path


class Shown(nn.Module):
    """Gives one of its input's channels."""

    def __init__(self, channel: int) -> None:
        super().__init__()
        self.channel = channel

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.channel : self.channel + 1]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_input(tmp_path_factory.mktemp("input") / "secret_doe.nii.gz", images_of())


@pytest.fixture(scope="module")
def weights(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a model.pt with random weights whose domain is that of the source."""
    features = volume_features(read_channels([source], ACQUISITION).reference(ACQUISITION))
    payload = {
        "method": "taskgan",
        "neighbors": 1,
        "label_column": "contrast",
        "spatial_size": [24, 24],
        "contrasts": list(NAMES),
        "acquisition": ACQUISITION.as_plain(),
        "domain": {"features": {name: [value, value] for name, value in features.items()}},
        "networks": {"generator": describe(UNetGenerator(3 * 4 + 3, channels=(4, 8), dropout_levels=1))},
    }
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    save_file(payload, path)
    return path


def evaluator(
    inputs: list[InputFiles],
    weights: Path,
    output: Path,
    *,
    contrasts: list[str] | None = None,
    **settings: Any,
) -> ContrastEvaluator:
    restorer = load_contrast_restorer(weights, device="cpu", precision="fp32", **settings)
    return ContrastEvaluator(
        inputs,
        restorer,
        weights=weights,
        output_dir=output,
        contrasts=contrasts,
        bundle="bundles/mri",
        progress=False,
    )


# ---------------------------------------------------------------------------- what is found
def test_file_and_folder(source: Path, tmp_path: Path) -> None:
    assert find_inputs(source) == [InputFiles((source,), "secret_doe")]
    for name in ("b", "a"):
        write_input(tmp_path / f"{name}.nii.gz", images_of())  # the sidecars are no inputs
    assert [(item.name, len(item.paths)) for item in find_inputs(tmp_path)] == [("a", 1), ("b", 1)]


def manifest_of(folder: Path, cells: dict[str, str], **columns: list[str]) -> Path:
    table = {
        "subject_id": list(cells),
        "session_id": ["ses-01"] * len(cells),
        "split": ["test"] * len(cells),
        "group": [""] * len(cells),
        "input": list(cells.values()),
        "t1w": [""] * len(cells),
    }
    path = folder / "manifest.csv"
    pd.DataFrame({**table, **columns}).to_csv(path, index=False)
    return path


def test_manifest_with_a_list_of_files_and_no_contrast(tmp_path: Path) -> None:
    images = images_of()
    (tmp_path / "b").mkdir()
    write_input(tmp_path / "a.nii.gz", images)
    for channel in range(4):
        path = write_input(tmp_path / "b" / f"{channel}.nii.gz", images[..., channel])
        times = {key: SIDECAR[key][channel] for key in ("SaturationDelay", "EchoTime")}  # type: ignore[index]
        path.with_name(f"{channel}.json").write_text(json.dumps({**SIDECAR, **times}))
    cells = {"sub-a": "a.nii.gz", "sub-b": "; ".join(f"b/{channel}.nii.gz" for channel in range(4))}
    manifest = manifest_of(tmp_path, cells, split=["train", "test"])
    first, second = find_inputs(manifest)
    assert first == InputFiles((tmp_path / "a.nii.gz",), "sub-a_ses-01")
    assert second.paths == tuple(tmp_path / "b" / f"{channel}.nii.gz" for channel in range(4))
    assert find_inputs(manifest, split="test") == [second]


def test_list_of_files_is_restored_as_the_one_file(weights: Path, source: Path, tmp_path: Path) -> None:
    paths = []
    for channel in range(4):
        paths.append(write_input(tmp_path / f"{channel}.nii.gz", images_of()[..., channel]))
        times = {key: SIDECAR[key][channel] for key in ("SaturationDelay", "EchoTime")}  # type: ignore[index]
        paths[-1].with_name(f"{channel}.json").write_text(json.dumps({**SIDECAR, **times}))
    inputs = [InputFiles((source,), "one"), InputFiles(tuple(paths), "list")]
    one, several = evaluator(inputs, weights, tmp_path / "out", contrasts=["stir"]).run()
    np.testing.assert_array_equal(read_volume(several).data, read_volume(one).data)
    record = json.loads((tmp_path / "out" / "list_stir_restored.json").read_text())
    assert record["source_sha256"] == ";".join(sha256_file(path) for path in paths)


@pytest.mark.parametrize(
    ("cells", "columns", "split", "message"),
    [
        ({"a": "no.nii.gz;no2.nii.gz"}, {}, None, r"no\.nii\.gz, .*no2\.nii\.gz: does not exist"),
        ({"a": ""}, {}, None, r"manifest\.csv, row 2: input is empty"),
        ({"a": "x.nii.gz;;y.nii.gz"}, {}, None, "row 2: input has an empty name in its list"),
        ({"a": "../x.nii.gz"}, {}, None, r"input '\.\./x\.nii\.gz' leaves the manifest's folder"),
        ({"": "x.nii.gz"}, {}, None, "row 2: subject_id is empty"),
        ({"a": "x.nii.gz"}, {}, "train", "has no row of split 'train'; it holds test"),
        ({}, {}, None, "there is no row below the header"),
    ],
)
def test_faults_of_a_manifest_are_named(
    cells: dict[str, str], columns: dict[str, list[str]], split: str | None, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        find_inputs(manifest_of(tmp_path, cells, **columns), split=split)


def test_manifest_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pet.csv").write_text("subject_id,session_id,degraded\na,b,c.nii.gz\n")
    with pytest.raises(InputError, match=r"lacks the columns input$"):
        find_inputs(tmp_path / "pet.csv")
    with pytest.raises(InputError, match=r"lacks the columns input, split$"):
        find_inputs(tmp_path / "pet.csv", split="test")


@pytest.mark.parametrize(
    ("make", "split", "message"),
    [
        (lambda path: None, None, r"does not exist\. Remedy"),
        (lambda path: path.mkdir(), None, r"holds no \.nii or \.nii\.gz file"),
        (lambda path: path.mkdir(), "test", "a split is that of a manifest"),
    ],
    ids=["missing", "empty", "split"],
)
def test_nothing_to_restore_is_refused(make: Any, split: str | None, message: str, tmp_path: Path) -> None:
    make(tmp_path / "input")
    with pytest.raises(InputError, match=message):
        find_inputs(tmp_path / "input", split=split)


# ---------------------------------------------------------------------------- what is written
@pytest.mark.parametrize("matrix", GRIDS.values(), ids=GRIDS)
def test_every_voxel_stays_where_it_was(matrix: NDArray[np.float64], weights: Path, tmp_path: Path) -> None:
    given = nibabel.load(write_input(tmp_path / "in.nii.gz", images_of(), matrix))
    # The network's input channel 6 is the middle slice's third: delay 2000 ms, echo 20 ms.
    restorer = ContrastRestorer(Shown(4 + 2), neighbors=1, contrasts=NAMES, acquisition=ACQUISITION)
    inputs = [InputFiles((tmp_path / "in.nii.gz",), "a")]
    written = ContrastEvaluator(inputs, restorer, weights=weights, output_dir=tmp_path, progress=False).run()
    assert [path.name for path in written] == [restored_contrast_name("a", name) for name in NAMES]
    canonical = nibabel.as_closest_canonical(given)
    scale = foreground_scale(
        canonical.get_fdata()[..., 2], voxel_size_mm=nibabel.affines.voxel_sizes(canonical.affine)
    )
    for path in written:
        image = nibabel.load(path)
        assert image.shape == SHAPE
        assert image.get_data_dtype() == np.float32
        np.testing.assert_array_equal(image.affine, given.affine)
        for name in ("qform_code", "sform_code", "quatern_b", "qoffset_x", "srow_x", "srow_z"):
            np.testing.assert_array_equal(image.header[name], given.header[name])
        # One float32 division.
        np.testing.assert_allclose(image.get_fdata(), given.get_fdata()[..., 2] / scale, rtol=2**-23)


def test_writes_what_the_restorer_gives_with_its_provenance(
    weights: Path, source: Path, tmp_path: Path
) -> None:
    written = evaluator([InputFiles((source,), "a")], weights, tmp_path / "out").run()
    restorer = ContrastRestorer(
        load_network(weights, "generator"), neighbors=1, contrasts=NAMES, acquisition=ACQUISITION
    )
    volume = read_channels([source], ACQUISITION)
    expected = restorer.restore(volume)
    for path, (name, restoration) in zip(written, expected.items(), strict=True):
        np.testing.assert_array_equal(read_volume(path).data, restoration.mean)
        record = json.loads((tmp_path / "out" / f"a_{name}_restored.json").read_text())
        assert record == {
            "medrestore_version": __version__,
            "bundle": "mri",
            "method": "taskgan",
            "weights_sha256": sha256_file(weights),
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
            "source_sha256": sha256_file(source),
            "input_scale": list(restoration.input_scale),
            "intensity_unit": "mean over the head",
            "outside_training_domain": [],
        }
    assert len(list((tmp_path / "out").iterdir())) == 2 * len(NAMES)


def test_no_name_or_path_is_written(weights: Path, source: Path, tmp_path: Path) -> None:
    evaluator([InputFiles((source,), "a")], weights, tmp_path / "out").run()
    for path in (tmp_path / "out").iterdir():
        content = nibabel.load(path).header.binaryblock if path.suffix == ".gz" else path.read_bytes()
        for word in (b"secret", b"Doe", b"doe", str(source.parent).encode(), str(weights.parent).encode()):
            assert word not in content
        if path.suffix == ".gz":
            assert len(nibabel.load(path).header.extensions) == 0


def test_samples_write_mean_and_standard_deviation(weights: Path, source: Path, tmp_path: Path) -> None:
    inputs = [InputFiles((source,), "a")]
    (written,) = evaluator(inputs, weights, tmp_path, contrasts=["pdw"], samples=3, seed=5).run()
    expected = load_contrast_restorer(weights, device="cpu", precision="fp32", samples=3, seed=5).restore(
        read_channels([source], ACQUISITION)
    )["pdw"]
    np.testing.assert_array_equal(read_volume(written).data, expected.mean)
    deviation = read_volume(tmp_path / "a_pdw_standard_deviation.nii.gz").data
    np.testing.assert_array_equal(deviation, expected.standard_deviation)
    assert deviation.max() > 0
    record = json.loads((tmp_path / "a_pdw_restored.json").read_text())
    assert (record["samples"], record["seed"]) == (3, 5)


def test_volume_outside_the_domain_is_restored_with_a_warning(
    weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    random = np.random.default_rng(1)
    noisy = (images_of() + np.abs(random.normal(0, 60, (*SHAPE, 4)))).astype(np.float32)
    path = write_input(tmp_path / "in.nii.gz", noisy, np.diag([4.0, 3.5, 5.0]))
    with caplog.at_level(logging.WARNING):
        (written,) = evaluator([InputFiles((path,), "a")], weights, tmp_path, contrasts=["stir"]).run()
    assert "a: outside the training domain: voxel size x mm is 4, trained on 3 to 3" in caplog.text
    assert written.exists()
    size, noise = json.loads((tmp_path / "a_stir_restored.json").read_text())["outside_training_domain"]
    assert size == "voxel size x mm is 4, trained on 3 to 3"
    assert noise.startswith("relative noise is")


# ---------------------------------------------------------------------------- what is refused
def test_other_acquisition_is_refused_naming_both(weights: Path, tmp_path: Path) -> None:
    path = write_input(tmp_path / "in.nii.gz", images_of())
    (tmp_path / "in.json").write_text(json.dumps({**SIDECAR, "EchoTime": [0.03, 0.15] * 2}))
    message = (
        r"in\.json: EchoTime is 30, 150 ms, .* are 20, 90 ms.*"
        r"trained on saturation delays 100, 2000 ms, echo times 20, 90 ms, magnitude\)"
    )
    with pytest.raises(InputError, match=message):
        evaluator([InputFiles((path,), "a")], weights, tmp_path).run()
    assert not list(tmp_path.glob("a_*"))


def test_missing_echo_is_refused(weights: Path, tmp_path: Path) -> None:
    path = write_input(tmp_path / "in.nii.gz", images_of()[..., :3])
    with pytest.raises(InputError, match=r"in\.nii\.gz: has 3 channels, expected 4 = 2 delays x 2 echoes"):
        evaluator([InputFiles((path,), "a")], weights, tmp_path).run()


def test_image_without_foreground_is_refused_by_name(weights: Path, tmp_path: Path) -> None:
    path = write_input(tmp_path / "in.nii.gz", np.zeros((*SHAPE, 4), np.float32))
    with pytest.raises(InputError, match=r"in\.nii\.gz: .*no positive foreground"):
        evaluator([InputFiles((path,), "a")], weights, tmp_path).run()


def test_unknown_contrast_is_refused(weights: Path, source: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="asked for: 't1c'; trained on t1w, stir, pdw"):
        evaluator([InputFiles((source,), "a")], weights, tmp_path, contrasts=["t1w", "t1c"])


def test_weights_of_another_kind_are_refused(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model\.pt: was trained on several contrasts.*Remedy"):
        load_restorer(weights, device="cpu")
    model = load_file(weights)
    del model["contrasts"], model["format"]
    save_file(model, tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"model\.pt: names no contrasts: .*Remedy"):
        load_contrast_restorer(tmp_path / "model.pt", device="cpu")


def test_id_that_leaves_the_folder_is_refused(weights: Path, source: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'\.\./a_t1w': no file can have this name"):
        evaluator([InputFiles((source,), "../a")], weights, tmp_path)


# ---------------------------------------------------------------------------- what is kept
@pytest.mark.parametrize("settings", [{}, {"samples": 2, "seed": 3}])
def test_continued_restoration_is_that_of_an_uninterrupted_one(
    settings: dict[str, int], weights: Path, source: Path, tmp_path: Path
) -> None:
    inputs = [InputFiles((source,), "a"), InputFiles((source,), "b")]
    written = evaluator(inputs, weights, tmp_path, **settings).run()
    assert [path.name for path in written] == [
        f"{subject}_{contrast}_restored.nii.gz" for subject in "ab" for contrast in NAMES
    ]
    contents, ages = ([path.read_bytes() for path in written], [path.stat().st_mtime_ns for path in written])
    for path in written[2:]:  # killed before the third contrast of the first subject was written
        path.unlink()
    (tmp_path / "b_stir_restored.json").unlink()
    for path in tmp_path.glob("b_stir_standard_deviation*"):
        path.unlink()
    assert evaluator(inputs, weights, tmp_path, **settings).run() == written
    assert [path.stat().st_mtime_ns for path in written[:2]] == ages[:2]
    assert [path.read_bytes() for path in written] == contents


def test_further_contrasts_join_those_that_are_there(weights: Path, source: Path, tmp_path: Path) -> None:
    inputs = [InputFiles((source,), "a")]
    (first,) = evaluator(inputs, weights, tmp_path, contrasts=["stir"]).run()
    age = first.stat().st_mtime_ns
    written = evaluator(inputs, weights, tmp_path).run()
    assert [path.exists() for path in written] == [True] * 3
    assert first.stat().st_mtime_ns == age
    restorer = load_contrast_restorer(weights, device="cpu", precision="fp32")
    everything = ContrastEvaluator(
        inputs, restorer, weights=weights, output_dir=tmp_path / "again", bundle="mri", progress=False
    ).run()
    assert [path.read_bytes() for path in everything] == [path.read_bytes() for path in written]


def test_other_source_or_settings_are_refused(weights: Path, source: Path, tmp_path: Path) -> None:
    (written,) = evaluator([InputFiles((source,), "a")], weights, tmp_path, contrasts=["stir"]).run()
    content = written.read_bytes()
    other = write_input(tmp_path / "other.nii.gz", images_of(seed=1))
    message = "a_stir_restored.* was restored by other weights, settings or source; nothing is overwritten"
    with pytest.raises(InputError, match=message):
        evaluator([InputFiles((other,), "a")], weights, tmp_path)
    with pytest.raises(InputError, match=message):
        evaluator([InputFiles((source,), "a")], weights, tmp_path, samples=2)
    assert written.read_bytes() == content
    assert not list(tmp_path.glob("a_t1w*"))


def test_image_without_our_sidecar_is_refused(weights: Path, source: Path, tmp_path: Path) -> None:
    (tmp_path / "a_pdw_restored.nii.gz").write_bytes(b"somebody's work")
    with pytest.raises(InputError, match=r"is there without a readable a_pdw_restored\.json"):
        evaluator([InputFiles((source,), "a")], weights, tmp_path)
    evaluator([InputFiles((source,), "a")], weights, tmp_path, contrasts=["t1w"]).run()
    assert (tmp_path / "a_pdw_restored.nii.gz").read_bytes() == b"somebody's work"


def test_global_random_state_is_left_alone(weights: Path, source: Path, tmp_path: Path) -> None:
    run = evaluator([InputFiles((source,), "a")], weights, tmp_path, samples=2)
    state = torch.get_rng_state()
    run.run()
    assert torch.equal(torch.get_rng_state(), state)
