"""Reading the channels of an acquisition: values, grids, order, and everything that is refused."""

from __future__ import annotations

from typing import Any

import nibabel
import numpy as np
import pytest

from medrestore.checks import InputError
from medrestore.data.volumes import SourceGrid, read_volume, write_volume
from medrestore.domains.multicontrast_mri.acquisition.acquisition import make_acquisition
from medrestore.domains.multicontrast_mri.acquisition.channel_volume import (
    ChannelVolume,
    input_scale,
    read_channels,
)


# ---------------------------------------------------------------- values
def test_complex_channels_become_signed_ones(tmp_path, signals, images, write_input, acquisition):
    path = write_input(tmp_path / "mdme.nii.gz", images)
    volume = read_channels([path], acquisition)
    # Independent: the angle of every voxel against that of the reference channel (delay 2, echo 0).
    angle = np.angle(images) - np.angle(images[4])
    np.testing.assert_allclose(volume.data, np.abs(images) * np.cos(angle), atol=2e-6)  # float32, values < 1
    # The signal that was put in, where there is any: 5 standard deviations of the noise, and 0.002 for what
    # the noise does to the phase of the reference.
    head = signals()[4] > 0.1
    np.testing.assert_allclose(volume.data[:, head], signals()[:, head], atol=5 * 0.002 + 0.002)
    assert (volume.data[0, head] < -0.05).all()  # 150 ms after 120 degrees: still negative
    assert volume.data.dtype == np.float32
    assert volume.data.flags.c_contiguous


def test_grid_is_that_of_one_channel_in_canonical_axes(tmp_path, images, write_input, acquisition):
    path = write_input(tmp_path / "mdme.nii.gz", images)
    volume = read_channels([path], acquisition)
    assert volume.voxel_size_mm == (4.0, 4.0, 5.0)
    assert nibabel.aff2axcodes(volume.affine) == ("R", "A", "S")
    assert nibabel.aff2axcodes(nibabel.load(path).affine) == ("L", "A", "S")
    stored = np.asarray(nibabel.load(path).dataobj)
    np.testing.assert_array_equal(stored[::-1, :, :, 4], images[4])
    restored = write_volume(volume.data[4], volume.source, tmp_path / "restored.nii.gz")
    written = nibabel.load(restored)
    assert written.shape == (12, 10, 6)
    np.testing.assert_array_equal(written.affine, nibabel.load(path).affine)
    np.testing.assert_allclose(written.get_fdata()[::-1], np.abs(images[4]), atol=1e-6)


def test_time_step_of_a_series_is_not_written_to_a_single_image(tmp_path, images, acquisition):
    image = nibabel.Nifti1Image(np.moveaxis(images, 0, 3), np.diag([4.0, 4.0, 5.0, 1.0]))
    image.header.set_zooms((4.0, 4.0, 5.0, 4.5))
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, tmp_path / "mdme.nii")
    volume = read_channels([tmp_path / "mdme.nii"], acquisition)
    header = nibabel.load(write_volume(volume.data[0], volume.source, tmp_path / "out.nii")).header
    assert header["pixdim"][4] == 1
    assert header.get_xyzt_units() == ("mm", "unknown")


def test_magnitude_of_complex_and_of_real_channels(tmp_path, images, write_input, magnitude):
    for name, data in (("complex", images), ("magnitude", np.abs(images))):
        volume = read_channels([write_input(tmp_path / f"{name}.nii.gz", data)], magnitude)
        np.testing.assert_allclose(volume.data, np.abs(images), rtol=1e-6)


def test_phase_corrected_values_are_taken_where_the_sidecar_says_so(
    tmp_path, signals, write_input, sidecar, acquisition
):
    path = write_input(tmp_path / "mdme.nii", signals(), sidecar=sidecar("phase_corrected"))
    np.testing.assert_array_equal(read_channels([path], acquisition).data, signals().astype(np.float32))


@pytest.mark.parametrize("gain", [1e-4, 1e4])
def test_tiny_and_huge_values_are_read_alike(tmp_path, images, write_input, acquisition, gain):
    one = read_channels([write_input(tmp_path / "one.nii", images)], acquisition)
    other = read_channels([write_input(tmp_path / "other.nii", images * np.float32(gain))], acquisition)
    scaled = [volume.data / input_scale(volume, acquisition)[0] for volume in (one, other)]
    np.testing.assert_allclose(scaled[0], scaled[1], atol=2e-5)  # float32, values up to 3


@pytest.mark.parametrize("with_sidecars", [False, True])
def test_list_of_files_is_one_input(tmp_path, images, sidecar, acquisition, with_sidecars, write_list):
    files = write_list(images, sidecar() if with_sidecars else None)
    volume = read_channels(files, acquisition)
    angle = np.angle(images) - np.angle(images[4])
    np.testing.assert_allclose(volume.data, np.abs(images) * np.cos(angle), atol=2e-6)
    assert volume.path == files[0]


def test_views_of_a_volume(tmp_path):
    grid = SourceGrid.from_affine((2, 3, 4), np.eye(4))
    data = -np.arange(144, dtype=np.float32).reshape(6, 2, 3, 4)
    volume = ChannelVolume(data, grid.affine, grid, tmp_path)
    acquisition = make_acquisition(saturation_delays_ms=(150, 580, 4130), echo_times_ms=(22, 95))
    np.testing.assert_array_equal(volume.channel(1).data, data[1])
    np.testing.assert_array_equal(volume.reference(acquisition).data, -data[4])
    assert volume.channel(0).path == tmp_path


# ---------------------------------------------------------------- order of the channels
@pytest.mark.parametrize("as_list", [False, True])
def test_order_by_echo_is_detected_from_the_sidecar_and_put_right(
    tmp_path, images, write_input, sidecar, acquisition, as_list, write_list, by_echo
):
    expected = read_channels([write_input(tmp_path / "right.nii.gz", images)], acquisition)
    if as_list:
        files = write_list(by_echo(images)[:, ::-1], sidecar(by="echo"))
        files_grid = read_channels(files, acquisition)
        np.testing.assert_array_equal(files_grid.data[:, ::-1], expected.data)
        return
    path = write_input(tmp_path / "mdme.nii.gz", by_echo(images), sidecar=sidecar(by="echo"))
    np.testing.assert_array_equal(read_channels([path], acquisition).data, expected.data)


def test_sidecar_rounded_by_the_scanner_is_accepted(tmp_path, images, write_input, sidecar, acquisition):
    stated = sidecar()
    stated["EchoTime"] = [0.0221 if echo < 0.05 else 0.09595 for echo in stated["EchoTime"]]  # .1 ms and 1 %
    path = write_input(tmp_path / "mdme.nii.gz", images, sidecar=stated)
    assert len(read_channels([path], acquisition).data) == 6
    stated["EchoTime"] = [0.023 if echo < 0.05 else echo for echo in stated["EchoTime"]]
    write_input(path, images, sidecar=stated)
    with pytest.raises(InputError, match=r"mdme.json: EchoTime is 23, 95.95 ms, configured are 22, 95 ms"):
        read_channels([path], acquisition)


@pytest.mark.parametrize("component", ["phase_corrected", "magnitude"])
def test_swapped_order_without_a_sidecar_is_refused(
    tmp_path, images, write_input, acquisition, component, by_echo, magnitude
):
    if component == "magnitude":
        acquisition, images = magnitude, np.abs(images)
    path = write_input(tmp_path / "mdme.nii.gz", by_echo(images))
    with pytest.raises(
        InputError,
        match=r"mdme.nii.gz: the order of the channels looks swapped: .* expected for each delay all echoes. "
        r'Remedy: state the order in a sidecar mdme.json: "SaturationDelay" and "EchoTime" of every channel',
    ):
        read_channels([path], acquisition)


def test_order_that_cannot_be_told_is_refused(tmp_path, images, write_input, acquisition):
    path = write_input(tmp_path / "mdme.nii.gz", images[::-1])
    with pytest.raises(InputError, match=r"order of the channels cannot be told: .*\(td150_te22 0.*td4130"):
        read_channels([path], acquisition)


def test_list_in_a_wrong_order_without_sidecars_is_refused(
    tmp_path, images, acquisition, write_list, by_echo
):
    files = write_list(by_echo(images))
    with pytest.raises(InputError, match=r"channel_0.nii.gz: the order of the channels looks swapped"):
        read_channels(files, acquisition)


def test_one_echo_has_one_order(tmp_path, images, write_input):
    path = write_input(tmp_path / "mdme.nii.gz", images[::2])
    acquisition = make_acquisition(saturation_delays_ms=(150, 580, 4130), echo_times_ms=(22,))
    assert len(read_channels([path], acquisition).data) == 3


# ---------------------------------------------------------------- a real acquisition
def test_real_echoes_of_a_gradient_echo_are_three_channels(shared_data, tmp_path):
    path = shared_data("mri/gre_3echo_magnitude.nii")
    acquisition = make_acquisition(component="any", channels=3)
    volume = read_channels([path], acquisition)
    stored = np.asarray(nibabel.load(path).dataobj)
    assert stored.shape == (51, 51, 41, 3)
    assert stored.max() < 1e-2  # the scale trap
    scale = input_scale(volume, acquisition)
    scaled = volume.data / scale[:, None, None, None]
    # A crop inside the head: nearly all of it is foreground, whose mean is 1 by definition.
    assert np.allclose(scaled.mean(axis=(1, 2, 3)), 1, atol=0.3)
    written = write_volume(scaled[0], volume.source, tmp_path / "first.nii.gz")
    np.testing.assert_array_equal(nibabel.load(written).affine, nibabel.load(path).affine)
    np.testing.assert_allclose(nibabel.load(written).get_fdata() * scale[0], stored[..., 0], rtol=1e-6)
    with pytest.raises(InputError, match="has 3 channels, expected 4"):
        read_channels([path], make_acquisition(component="any", channels=4))


def test_real_echoes_are_magnitudes_of_one_delay(shared_data):
    path = shared_data("mri/gre_3echo_magnitude.nii")
    # Gradient echoes decay as spin echoes do: read as one delay with three echoes, their order bears out.
    options: dict[str, Any] = {"component": "magnitude", "saturation_delays_ms": [1000]}
    acquisition = make_acquisition(echo_times_ms=[4, 8, 12], **options)
    volume = read_channels([path], acquisition)
    means = volume.data.mean(axis=(1, 2, 3))
    assert means[0] > means[1] > means[2]
    with pytest.raises(InputError, match="holds real values, expected complex or phase-corrected"):
        read_channels([path], make_acquisition(saturation_delays_ms=[1000], echo_times_ms=[4, 8, 12]))


def test_series_of_one_image_is_read_as_a_volume_is(tmp_path):
    data = np.random.default_rng(0).random((4, 5, 6)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(data, np.diag([-1.0, 1, 1, 1])), tmp_path / "one.nii")
    volume = read_channels([tmp_path / "one.nii"], make_acquisition(component="any", channels=1))
    np.testing.assert_array_equal(volume.data[0], read_volume(tmp_path / "one.nii").data)
