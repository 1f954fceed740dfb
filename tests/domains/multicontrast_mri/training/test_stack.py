"""Stacks of channels and contrasts: what they hold, when they are built anew, and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest

from medrestore.checks import InputError
from medrestore.data.intensity import foreground_scale
from medrestore.data.volumes import read_volume
from medrestore.domains.multicontrast_mri.acquisition.acquisition import Acquisition, make_acquisition
from medrestore.domains.multicontrast_mri.acquisition.channel_volume import input_scale, read_channels
from medrestore.domains.multicontrast_mri.evaluation.classical import fitted_images, mdme_input
from medrestore.domains.multicontrast_mri.schema import contrast_schema
from medrestore.domains.multicontrast_mri.training.stack import ContrastStack, SyntheticStack

CONTRASTS = ("t1w", "t2w", "t2_flair")


def rows_of(path: Path, split: str = "train") -> pd.DataFrame:
    table = contrast_schema(CONTRASTS).read(path)
    return table[table["split"] == split]


@pytest.fixture
def build(acquisition: Acquisition, tmp_path: Path) -> Callable[..., ContrastStack]:
    def build(table: pd.DataFrame, **options: Any) -> ContrastStack:
        options = {
            "contrasts": CONTRASTS,
            "acquisition": acquisition,
            "spatial_size": (16, 8),
            "progress": False,
            **options,
        }
        return ContrastStack.build(table, options.pop("cache_dir", tmp_path / "cache"), **options)

    return build


def centered(image: np.ndarray) -> np.ndarray:
    """Twelve by ten voxels in sixteen by eight: two more on each side of X, one less on each side of Y."""
    place = np.zeros((16, 8), image.dtype)
    place[2:14] = image[:, 1:9]
    return place


def test_stack_holds_scaled_centered_slices_of_channels_contrasts_and_lesions(
    make_cohort, build, acquisition
):
    rows = rows_of(make_cohort())
    stack = build(rows)
    assert stack.input.shape == (5 + 6 + 7 + 8, 6, 16, 8)
    assert stack.target.shape == (26, 3, 16, 8)
    assert (stack.lesions.shape, stack.lesions.dtype) == ((26, 16, 8), np.uint8)
    position = 0
    for index, row in enumerate(rows.to_dict("records")):
        channels = read_channels(row["input_paths"], acquisition)
        scale = input_scale(channels, acquisition)
        assert stack.scale[index].tolist() == scale.tolist()
        for z in range(5 + index):
            for c in range(6):
                np.testing.assert_array_equal(
                    stack.input[position, c], centered(channels.data[c, :, :, z] / np.float32(scale[c]))
                )
            for k, name in enumerate(CONTRASTS):
                if not row[name]:
                    assert not stack.target[position, k].any()
                    continue
                volume = read_volume(row[f"{name}_path"])
                own = foreground_scale(volume.data, voxel_size_mm=(4, 4, 5))
                assert stack.target_scale[index, k] == own
                np.testing.assert_array_equal(
                    stack.target[position, k], centered(volume.data[:, :, z] / np.float32(own))
                )
            mask = read_volume(row["lesions_path"]).data[:, :, z] if row["lesions"] else np.zeros((12, 10))
            np.testing.assert_array_equal(stack.lesions[position], centered(mask))
            assert (stack.volume_index[position], stack.slice_index[position]) == (index, z)
            position += 1
    assert stack.lesions.sum() == 2 * 2 * 3 * 2  # subjects 0 and 2: 2 x 3 voxels in two slices
    assert stack.available.tolist() == [[True] * 3, [True, True, False], [True] * 3, [False, True, True]]
    assert stack.marked.tolist() == [True, False, True, False]
    assert np.isnan(stack.target_scale).tolist() == (~stack.available).tolist()
    assert stack.spatial_size == (16, 8)
    assert stack.contrasts == CONTRASTS


def test_images_of_other_sequences_are_an_input(make_cohort, build):
    rows = rows_of(make_cohort(), "test")
    files = [[row["t1w_path"], row["t2w_path"]] for row in rows.to_dict("records")]
    rows = rows.assign(input_paths=[tuple(pair) for pair in files], input_sha256="")
    stack = build(rows, acquisition=make_acquisition(component="any", channels=2))
    np.testing.assert_array_equal(stack.input, stack.target[:, :2])
    np.testing.assert_array_equal(stack.scale, stack.target_scale[:, :2])


def test_other_files_or_parameters_are_other_stacks(make_cohort, build, magnitude):
    path = make_cohort()
    rows = rows_of(path)
    without = rows.assign(lesions_path="", lesions_sha256="")
    folders = [
        build(rows).folder,
        build(rows[::-1]).folder,
        build(rows, spatial_size=(16, 16)).folder,
        build(rows, contrasts=("t2w", "t1w", "t2_flair")).folder,
        build(rows, contrasts=("t2w",)).folder,
        build(rows, acquisition=magnitude).folder,
        build(without).folder,
    ]
    sidecar = path.parent / "subjects/sub-0000/mdme.json"
    sidecar.write_text(sidecar.read_text().replace("4.5", "5.0"))  # it says what the channels are
    folders.append(build(rows).folder)
    assert len(set(folders)) == 8


def test_contrasts_are_held_in_the_order_asked_for(make_cohort, build):
    rows = rows_of(make_cohort())
    one, other = build(rows), build(rows, contrasts=("t2_flair", "t1w"))
    np.testing.assert_array_equal(other.target, one.target[:, [2, 0]])
    np.testing.assert_array_equal(other.available, one.available[:, [2, 0]])


# ---------------------------------------------------------------- what is refused
def test_empty_split_and_unknown_contrast_are_refused(make_cohort, build):
    rows = rows_of(make_cohort())
    with pytest.raises(InputError, match="the split is empty"):
        build(rows[:0])
    with pytest.raises(InputError, match="the table was read without the contrast 'stir'"):
        build(rows, contrasts=("t1w", "stir"))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("missing", r"sub-0007/t2w.nii.gz: no such file"),
        ("missing input", r"sub-0007/mdme.nii.gz: no such file"),
        (
            "changed",
            r"sub-0007/t2w.nii.gz: has checksum \w+, the manifest says \w+. Remedy: check",
        ),
        (
            "other grid",
            r"sub-0007/t2w.nii.gz: is on another grid than the input .*mdme.nii.gz: affine: .*"
            "Remedy: medrestore mri coregister",
        ),
        ("no foreground", r"sub-0007/t2w.nii.gz: the image has no positive foreground"),
    ],
)
def test_bad_file_is_named_and_nothing_is_left(make_cohort, build, tmp_path, fault, message):
    path = make_cohort()
    rows = rows_of(path, "test").reset_index(drop=True)
    file = path.parent / "subjects/sub-0007/t2w.nii.gz"
    if fault == "missing":
        file.unlink()
    elif fault == "missing input":
        file.with_name("mdme.nii.gz").unlink()
    elif fault == "changed":
        shutil.copy(file.with_name("t1w.nii.gz"), file)
    else:
        image = nibabel.load(file)
        moved = np.array(image.affine)
        moved[0, 3] += 2.0 * (fault == "other grid")
        data = image.get_fdata() * (fault == "other grid")
        nibabel.save(nibabel.Nifti1Image(data, moved), file)
        rows["t2w_sha256"] = ""
    with pytest.raises(InputError, match=message):
        build(rows)
    assert [file.name for file in (tmp_path / "cache").iterdir() if file.suffix != ".lock"] == []


# ---------------------------------------------------------------------------- what the fit says
@pytest.fixture
def fit(acquisition: Acquisition, tmp_path: Path) -> Callable[..., SyntheticStack]:
    def fit(table: pd.DataFrame, **options: Any) -> SyntheticStack:
        given = {"contrasts": CONTRASTS, "acquisition": acquisition, "spatial_size": (16, 8), **options}
        return SyntheticStack.build(table, tmp_path / "cache", progress=False, **given)

    return fit


def test_synthetic_slices_are_those_of_the_evaluation_over_their_own_scale(make_cohort, fit):
    rows = rows_of(make_cohort())
    stack = fit(rows)
    assert (stack.synthetic.shape, stack.synthetic.dtype) == ((26, 3, 16, 8), np.float32)
    position = 0
    for row in rows.to_dict("records"):
        source = mdme_input(row["input_paths"])
        assert source is not None
        images = fitted_images(source, CONTRASTS)
        depth = images["t1w"].shape[2]
        for k, name in enumerate(CONTRASTS):
            scale = np.float32(foreground_scale(images[name], voxel_size_mm=(4, 4, 5)))
            for z in range(depth):
                expected = centered(images[name][:, :, z] / scale)
                np.testing.assert_array_equal(stack.synthetic[position + z, k], expected)
        position += depth
    assert stack.synthetic.max() > 1


def test_synthetic_slices_are_named_by_what_they_come_from(make_cohort, fit):
    path = make_cohort()
    rows = rows_of(path)
    folders = [
        fit(rows).folder,
        fit(rows, contrasts=("t2w",)).folder,
        fit(rows, spatial_size=(16, 16)).folder,
        fit(rows.assign(t1w_path="", lesions_path="")).folder,  # targets play no part
    ]
    sidecar = path.parent / "subjects/sub-0000/mdme.json"
    sidecar.write_text(sidecar.read_text().replace("4.5", "5.0"))
    folders.append(fit(rows).folder)
    assert folders[3] == folders[0]
    assert len(set(folders)) == 4


def test_inputs_that_cannot_be_fitted_have_no_synthetic_slices(make_cohort, fit):
    path = make_cohort()
    with pytest.raises(InputError, match=r"no signal equation of t1c.*out: synthetic false"):
        fit(rows_of(path), contrasts=("t1w", "t1c"))
    with pytest.raises(InputError, match="need an MDME acquisition, got images of other sequences"):
        fit(rows_of(path), acquisition=make_acquisition(component="any", channels=6))
    few = make_acquisition(saturation_delays_ms=[150, 4130], echo_times_ms=[22, 95])
    with pytest.raises(InputError, match="need 3 saturation delays and 2 echo times or more, got 2 and 2"):
        fit(rows_of(path), acquisition=few)
    (path.parent / "subjects/sub-0001/mdme.json").unlink()
    with pytest.raises(InputError, match=r"0001.mdme\.nii\.gz: has no sidecar that states.*RepetitionTime"):
        fit(rows_of(path))
