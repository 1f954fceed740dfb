"""Acquisitions: what they say of their channels, and what a sidecar says of a protocol."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from medrestore.checks import InputError
from medrestore.data.intensity import foreground_scale
from medrestore.data.volumes import SourceGrid
from medrestore.domains.multicontrast_mri.acquisition.acquisition import Acquisition, make_acquisition
from medrestore.domains.multicontrast_mri.acquisition.channel_volume import (
    ChannelVolume,
    input_scale,
    read_protocol,
)
from medrestore.domains.multicontrast_mri.acquisition.sidecar import read_sidecar, read_sidecars
from medrestore.operators.mdme import MdmeProtocol


def test_channels_come_by_delay_then_by_echo():
    acquisition = make_acquisition(saturation_delays_ms=[100, 3000, 500], echo_times_ms=[20.5, 90])
    assert acquisition.names == (
        *("td100_te20.5", "td100_te90", "td3000_te20.5", "td3000_te90", "td500_te20.5", "td500_te90"),
    )
    assert acquisition.channels == 6
    assert acquisition.reference == 2  # longest delay, first echo
    assert acquisition.expected == "6 = 3 delays x 2 echoes"


def test_acquisition_is_by_default_the_protocol_of_the_operator():
    acquisition, protocol = make_acquisition(), MdmeProtocol()
    assert acquisition.saturation_delays_ms == protocol.saturation_delays_ms
    assert acquisition.echo_times_ms == protocol.echo_times_ms
    assert (acquisition.channels, acquisition.reference) == (len(protocol.channels), protocol.reference)


def test_images_of_any_sequence_have_no_times():
    acquisition = make_acquisition(component="any", channels=3)
    assert acquisition.names == ("channel_0", "channel_1", "channel_2")
    assert (acquisition.saturation_delays_ms, acquisition.reference, acquisition.expected) == (None, 0, "3")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"component": "magnitude", "saturation_delays_ms": (150, 2000), "echo_times_ms": (20,)},
        {"component": "any", "channels": 2},
    ],
)
def test_plain_values_describe_an_acquisition(options):
    acquisition = make_acquisition(**options)
    plain = json.loads(json.dumps(acquisition.as_plain()))
    assert Acquisition.from_plain(plain) == acquisition


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"component": "phase"}, "component must be one of .*'any', got 'phase'"),
        ({"component": "any"}, "component 'any' needs the number of channels"),
        ({"component": "any", "channels": 0}, r"channels must be in \[1, 1000\], got 0"),
        ({"component": "any", "channels": 2, "echo_times_ms": [20]}, "of an MDME acquisition, not of 'any'"),
        ({"channels": 7}, "channels must be 4 delays x 2 echoes = 8, got 7"),
        ({"saturation_delays_ms": [100, 100]}, "saturation_delays_ms must be different positive times"),
        ({"saturation_delays_ms": []}, "saturation_delays_ms must be different positive times"),
        ({"echo_times_ms": [-20]}, "echo_times_ms must be different positive times"),
        ({"echo_times_ms": [90, 20]}, "echo_times_ms must increase"),
    ],
)
def test_impossible_acquisition_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        make_acquisition(**options)


def test_plain_values_of_something_else_are_refused():
    with pytest.raises(InputError, match="acquisition has no key 'echoes'"):
        Acquisition.from_plain({"component": "any", "echoes": 3})
    with pytest.raises(InputError, match="acquisition must say its component"):
        Acquisition.from_plain({})


# ---------------------------------------------------------------- scale
def volume_of(data: np.ndarray) -> ChannelVolume:
    grid = SourceGrid.from_affine(data.shape[1:], np.diag([4.0, 4.0, 5.0, 1.0]))
    return ChannelVolume(data.astype(np.float32), grid.affine, grid)


@pytest.mark.parametrize("gain", [1.0, 1e-4, 1e4])
def test_channels_of_one_acquisition_share_the_scale_of_the_reference(gain):
    data = np.random.default_rng(0).gamma(4, 1, (8, 12, 10, 6)) * gain
    data[6] *= -1  # its magnitude counts
    acquisition = make_acquisition()
    scale = input_scale(volume_of(data), acquisition)
    expected = foreground_scale(-data[6].astype(np.float32), voxel_size_mm=(4, 4, 5))
    assert scale.tolist() == [expected] * 8
    # The mean of a gamma distribution of shape 4 is 4; 5 standard errors of 720 voxels: 5 * 2 / sqrt(720).
    assert scale[0] / gain == pytest.approx(4, abs=0.4)


def test_images_of_any_sequence_have_their_own_scales():
    data = np.random.default_rng(0).gamma(4, 1, (2, 12, 10, 6))
    data[1] *= 100
    scale = input_scale(volume_of(data), make_acquisition(component="any", channels=2))
    assert scale.tolist() == [
        foreground_scale(image.astype(np.float32), voxel_size_mm=(4, 4, 5)) for image in data
    ]


def test_channel_without_foreground_is_named():
    data = np.ones((2, 8, 8, 8))
    data[1] = 0
    with pytest.raises(InputError, match="channel_1: the image has no positive foreground"):
        input_scale(volume_of(data), make_acquisition(component="any", channels=2))


# ---------------------------------------------------------------- sidecars
def write(path: Path, content: object) -> Path:
    path.with_suffix(".json").write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize("by", ["delay", "echo"])
def test_protocol_is_what_the_sidecar_states(tmp_path, sidecar, by, protocol):
    assert read_protocol(write(tmp_path / "mdme.nii", sidecar(by=by))) == protocol


def test_without_times_no_protocol_is_stated(tmp_path, sidecar):
    assert read_protocol(tmp_path / "mdme.nii") is None
    for key in ("SaturationDelay", "EchoTime", "RepetitionTime"):
        content = {name: value for name, value in sidecar().items() if name != key}
        assert read_protocol(write(tmp_path / "mdme.nii", content)) is None


def test_channels_that_are_no_product_of_times_are_refused(tmp_path, sidecar):
    content = sidecar()
    content["EchoTime"][3] = 0.022
    with pytest.raises(InputError, match=r"mdme.json: .*not all combinations of one another"):
        read_protocol(write(tmp_path / "mdme.nii", content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no JSON"),
        ([1], "is no JSON object"),
        ({"ComplexComponent": "phase"}, "ComplexComponent must be one of 'complex', .*, got 'phase'"),
        ({"EchoTime": ["0.02"]}, r"EchoTime must be positive numbers, one per channel, got \['0.02'\]"),
        ({"EchoTime": [0.02, -1]}, "EchoTime must be positive numbers"),
        ({"EchoTime": []}, "EchoTime must be positive numbers"),
        ({"RepetitionTime": [4, 5]}, "RepetitionTime must be the same in all channels"),
        ({"FlipAngle": True}, "FlipAngle must be positive numbers"),
    ],
)
def test_faulty_sidecar_is_named(tmp_path, content, message):
    with pytest.raises(InputError, match=rf"mdme.json: {message}"):
        read_sidecar(write(tmp_path / "mdme.nii", content))


def test_sidecars_of_a_list_are_read_as_one(tmp_path):
    files = [
        write(tmp_path / f"{echo}.nii", {"EchoTime": echo / 1000, "ComplexComponent": "complex"})
        for echo in (22, 95)
    ]
    joined = read_sidecars(files)
    assert joined is not None
    assert (joined.component, joined.echo_times_ms) == ("complex", (22.0, 95.0))
    assert joined.saturation_delays_ms is None
    write(files[1], {"EchoTime": [0.02, 0.03], "ComplexComponent": "complex"})
    with pytest.raises(InputError, match=r"95.json: EchoTime must be one time, of the one channel"):
        read_sidecars(files)
    write(files[1], {"EchoTime": 0.095, "ComplexComponent": "magnitude"})
    with pytest.raises(InputError, match=r"95.json: ComplexComponent is 'magnitude', in .*22.json 'complex'"):
        read_sidecars(files)
    files[1].with_suffix(".json").unlink()
    with pytest.raises(InputError, match=r"95.nii: has no sidecar, but .*22.json is one"):
        read_sidecars(files)
