"""What cannot be the channels of an acquisition: missing echoes, other times, axes, components and grids."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest

from medrestore.checks import InputError
from medrestore.domains.multicontrast_mri.acquisition.acquisition import make_acquisition
from medrestore.domains.multicontrast_mri.acquisition.channel_volume import read_channels


def test_missing_echo_is_named_with_what_was_expected(tmp_path, images, write_input, acquisition, write_list):
    path = write_input(tmp_path / "mdme.nii.gz", images[:5])
    with pytest.raises(
        InputError, match=r"mdme.nii.gz: has 5 channels, expected 6 = 3 delays x 2 echoes. Remedy: give all"
    ):
        read_channels([path], acquisition)
    files = write_list(images)
    with pytest.raises(
        InputError, match="is the first of 5 files of one channel each, expected 6 = 3 delays x 2 echoes"
    ):
        read_channels(files[:5], acquisition)
    files[3].unlink()
    with pytest.raises(
        InputError,
        match=r"channel_3.nii.gz: no such file: channel 4 of 6 = 3 delays x 2 echoes, td580_te95",
    ):
        read_channels(files, acquisition)


def test_other_number_of_echoes_than_configured_is_refused(tmp_path, images, write_input, sidecar):
    acquisition = make_acquisition(saturation_delays_ms=(150, 4130), echo_times_ms=(22, 50, 95))
    path = write_input(tmp_path / "mdme.nii.gz", images, sidecar=sidecar())  # six channels, too
    with pytest.raises(
        InputError,
        match=r"mdme.json: SaturationDelay is 150, 580, 4130 ms, configured are 150, 4130 ms "
        r"\(tolerance 1% or 0.1 ms\). Remedy: configure the times",
    ):
        read_channels([path], acquisition)


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("SaturationDelay", lambda times: [*times[:5], 5.0], "SaturationDelay is 150, 580, 4130, 5000 ms"),
        ("EchoTime", lambda times: times[:5], "EchoTime has 5 entries, expected one for each of the 6"),
        ("EchoTime", lambda _: 0.022, "EchoTime is 22 ms, configured are 22, 95 ms"),
        ("EchoTime", lambda times: [*times[:4], times[5], times[4]], ""),
        ("EchoTime", lambda times: [*times[:3], times[2], *times[4:]], "no channel of delay 580 ms"),
    ],
)  # fmt: skip
def test_sidecar_of_another_acquisition_is_refused(
    tmp_path, images, write_input, sidecar, acquisition, key, change, message
):
    stated = sidecar()
    stated[key] = change(stated[key])
    path = write_input(tmp_path / "mdme.nii.gz", images, sidecar=stated)
    if not message:  # all combinations are there: the sidecar is believed
        assert len(read_channels([path], acquisition).data) == 6
        return
    with pytest.raises(InputError, match=rf"mdme.json: .*{message}"):
        read_channels([path], acquisition)


def test_echo_times_alone_are_compared_though_they_state_no_order(
    tmp_path, images, write_input, sidecar, acquisition, by_echo
):
    stated = {"EchoTime": sidecar()["EchoTime"]}
    path = write_input(tmp_path / "mdme.nii.gz", images, sidecar=stated)
    assert len(read_channels([path], acquisition).data) == 6
    write_input(path, by_echo(images), sidecar=stated)
    with pytest.raises(InputError, match="looks swapped"):
        read_channels([path], acquisition)
    write_input(path, images, sidecar={"EchoTime": [0.03] * 6})
    with pytest.raises(InputError, match="EchoTime is 30 ms, configured are 22, 95 ms"):
        read_channels([path], acquisition)


def test_channels_along_the_first_axis_are_refused(
    tmp_path, signals, complex_images, write_input, sidecar, acquisition
):
    path = tmp_path / "mdme.nii.gz"
    images = complex_images(signals((12, 10, 7)))
    nibabel.save(nibabel.Nifti1Image(images, np.eye(4)), path)
    with pytest.raises(
        InputError,
        match=r"has shape \(6, 12, 10, 7\): its first axis is as long as the 6 channels, expected .*fourth",
    ):
        read_channels([path], acquisition)
    # As many slices as channels: the sidecar fits, the images do not.
    images = complex_images(signals((12, 10, 6)))
    write_input(path, np.moveaxis(images, 3, 0), sidecar=sidecar())
    assert nibabel.load(path).shape == (6, 12, 10, 6)
    with pytest.raises(InputError, match="order of the channels cannot be told"):
        read_channels([path], acquisition)
    small = complex_images(signals((6, 10, 7)))  # six voxels wide indeed
    assert len(read_channels([write_input(path, small, sidecar=sidecar())], acquisition).data) == 6


@pytest.mark.parametrize(
    ("component", "stated", "data", "message"),
    [
        (
            "phase_corrected",
            None,
            "real",
            "holds real values, .*no sidecar says what they are. Remedy",
        ),
        (
            "phase_corrected",
            "magnitude",
            "real",
            "sidecar says ComplexComponent 'magnitude'.*component: mag",
        ),
        (
            "phase_corrected",
            "complex",
            "real",
            "holds real values, its sidecar says .* 'complex'",
        ),
        ("phase_corrected", "magnitude", "complex", "holds complex values, its sidecar says .*'magnitude'"),
        (
            "magnitude",
            "phase_corrected",
            "real",
            "holds phase-corrected values, expected mag.*Remedy: set",
        ),
        ("any", None, "complex", "holds complex values, expected real ones for component 'any'"),
    ],
)
def test_values_of_another_component_are_refused(
    tmp_path, images, write_input, sidecar, acquisition, component, stated, data, message, magnitude
):
    path = write_input(
        tmp_path / "mdme.nii.gz",
        images if data == "complex" else np.abs(images),
        sidecar=sidecar(stated) if stated else None,
    )
    wanted = {
        "phase_corrected": acquisition,
        "magnitude": magnitude,
        "any": make_acquisition(component="any", channels=6),
    }[component]
    with pytest.raises(InputError, match=message):
        read_channels([path], wanted)


def test_files_of_a_list_must_fit_together(tmp_path, images, write_input, acquisition, write_list):
    files = write_list(images)
    shifted = nibabel.Nifti1Image(images[2], np.diag([4.0, 4.0, 6.0, 1.0]))
    nibabel.save(shifted, files[2])
    with pytest.raises(
        InputError, match=r"channel_2.nii.gz: is on another grid than .*channel_0.nii.gz: affine.*Remedy"
    ):
        read_channels(files, acquisition)
    files = write_list(images)
    nibabel.save(nibabel.Nifti1Image(np.abs(images[1]), np.diag([4.0, 4.0, 5.0, 1.0])), files[1])
    with pytest.raises(InputError, match=r"channel_1.nii.gz: is float32, .*channel_0.nii.gz is complex64"):
        read_channels(files, acquisition)
    files[1] = write_input(tmp_path / "two.nii.gz", images[:2])
    with pytest.raises(InputError, match=r"two.nii.gz: has 2 channels, expected one in each file of a list"):
        read_channels(files, acquisition)


def test_voxels_that_are_not_finite_are_counted(tmp_path, images, acquisition):
    images[3, 1, 2, :2] = np.nan
    nibabel.save(nibabel.Nifti1Image(np.moveaxis(images, 0, 3), np.eye(4)), tmp_path / "mdme.nii")
    with pytest.raises(InputError, match=r"mdme.nii: 2 of 4320 voxels are not finite"):
        read_channels([tmp_path / "mdme.nii"], acquisition)


@pytest.mark.parametrize(
    ("shape", "kind", "message"),
    [
        ((4, 4), "float32", r"has 2 dimensions \(4, 4\), expected 4: X, Y, Z and the channels"),
        ((4, 4, 4, 1, 6), "float32", r"has 5 dimensions .* Remedy: store the channels along the fourth axis"),
        ((4, 4, 4, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")], "expected real or complex numbers"),
    ],
)
def test_files_of_other_things_are_refused(tmp_path, acquisition, shape, kind, message):
    nibabel.save(nibabel.Nifti1Image(np.zeros(shape, dtype=kind), np.eye(4)), tmp_path / "mdme.nii")
    with pytest.raises(InputError, match=message):
        read_channels([tmp_path / "mdme.nii"], acquisition)


def test_paths_are_a_list(tmp_path, acquisition):
    with pytest.raises(InputError, match=r"paths must be a list of files, got 'mdme.nii'"):
        read_channels("mdme.nii", acquisition)
    with pytest.raises(InputError, match="paths must name a file at least"):
        read_channels([], acquisition)
    with pytest.raises(InputError, match=r"mdme.nii: no such file"):
        read_channels([tmp_path / "mdme.nii"], acquisition)


def test_file_without_orientation_is_warned_of(tmp_path, images, acquisition):
    image = nibabel.Nifti1Image(np.moveaxis(images, 0, 3), np.eye(4))
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    nibabel.save(image, tmp_path / "mdme.nii")
    with pytest.warns(UserWarning, match=r"mdme.nii: states no orientation"):
        read_channels([tmp_path / "mdme.nii"], acquisition)
