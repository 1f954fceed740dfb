"""Restored contrasts against a loop over slices and contrasts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medrestore.checks import InputError
from medrestore.data.intensity import foreground_scale
from medrestore.data.volumes import SourceGrid
from medrestore.domains.multicontrast_mri.acquisition.acquisition import Acquisition, make_acquisition
from medrestore.domains.multicontrast_mri.acquisition.channel_volume import ChannelVolume
from medrestore.domains.multicontrast_mri.restoration import ContrastRestorer
from medrestore.networks.unet import UNetGenerator

NAMES = ("t1w", "stir", "pdw")
ACQUISITION = make_acquisition(saturation_delays_ms=[100, 2000], echo_times_ms=[20, 90])
IMAGES = make_acquisition(component="any", channels=2)


class Blur(nn.Module):
    """Two convolutions with normalization and dropout between, on sizes that are a multiple of 8."""

    stride_multiple = 8

    def __init__(self, in_channels: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.first = nn.Conv2d(in_channels, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.dropout = nn.Dropout(dropout)
        self.second = nn.Conv2d(6, 1, 3, padding=1)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(0.4 * torch.rand(parameter.shape, generator=generator) - 0.1)
            self.norm.running_mean.copy_(torch.linspace(-1, 1, 6))
            self.norm.running_var.copy_(torch.linspace(0.5, 2, 6))

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[2] % 8 == x.shape[3] % 8 == 0
        y: Tensor = self.second(self.dropout(self.norm(self.first(x)).relu()))
        return y


class Shown(nn.Module):
    """Gives one of its input's channels: tells where each one is."""

    def __init__(self, channel: int) -> None:
        super().__init__()
        self.channel = channel

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.channel : self.channel + 1]


def volume_of(shape: tuple[int, int, int], channels: int, seed: int = 0) -> ChannelVolume:
    affine = np.diag([3.0, 3.0, 4.0, 1.0])
    data = np.random.default_rng(seed).gamma(3.0, 1.0, (channels, *shape)).astype(np.float32)
    data[0] *= -1  # signed, as after a short saturation delay
    return ChannelVolume(data, affine, SourceGrid.from_affine(shape, affine))


def scales_of(volume: ChannelVolume, acquisition: Acquisition) -> list[float]:
    """One scale for an MDME acquisition: delay 2000, echo 20 is channel 2; each its own for other images."""
    if acquisition.component == "any":
        return [foreground_scale(image, voxel_size_mm=(3, 3, 4)) for image in volume.data]
    return [foreground_scale(volume.data[2], voxel_size_mm=(3, 3, 4))] * len(volume.data)


def loop(
    network: nn.Module, volume: ChannelVolume, contrast: int, neighbors: int, scales: list[float]
) -> NDArray[np.float32]:
    """One slice at a time: pad, take the neighbors' channels and the planes, restore, cut."""
    channels, x, y, z = volume.data.shape
    height, width = -(-x // 8) * 8, -(-y // 8) * 8
    top, left = (height - x) // 2, (width - y) // 2
    restored = np.zeros((x, y, z), np.float32)
    network.eval()
    for index in range(z):
        planes = []
        for offset, channel in itertools.product(range(-neighbors, neighbors + 1), range(channels)):
            plane = np.zeros((height, width), np.float32)
            image = volume.data[channel, :, :, min(max(index + offset, 0), z - 1)]
            plane[top : top + x, left : left + y] = image / np.float32(scales[channel])
            planes.append(plane)
        planes += [np.full((height, width), float(other == contrast), np.float32) for other in range(3)]
        with torch.no_grad():
            output = network(torch.from_numpy(np.stack(planes))[None])[0, 0]
        restored[:, :, index] = output[top : top + x, left : left + y].numpy()
    return restored


def restorer_of(network: nn.Module, neighbors: int = 1, **settings: object) -> ContrastRestorer:
    options = {"contrasts": NAMES, "acquisition": ACQUISITION, **settings}
    return ContrastRestorer(network, neighbors=neighbors, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(16, 24, 5), (13, 10, 7), (3, 17, 1)])
@pytest.mark.parametrize("neighbors", [0, 2])
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_restoration_is_that_of_a_loop_over_slices_and_contrasts(shape, neighbors, batch_size):
    network, volume = Blur((2 * neighbors + 1) * 4 + 3), volume_of(shape, 4)
    restored = restorer_of(network, neighbors, batch_size=batch_size).restore(volume)
    assert list(restored) == list(NAMES)
    scales = scales_of(volume, ACQUISITION)
    for index, restoration in enumerate(restored.values()):
        expected = loop(network, volume, index, neighbors, scales)
        # float32 sums of some 200 terms in another order (channels last, other batches): 1e-6 of the largest.
        np.testing.assert_allclose(restoration.mean, expected, atol=3e-6 * np.abs(expected).max())
        assert (restoration.mean.dtype, restoration.mean.shape) == (np.float32, shape)
        assert restoration.standard_deviation is None
        assert restoration.scale == 1.0
        assert restoration.input_scale == tuple(scales)
    assert np.abs(restored["t1w"].mean - restored["pdw"].mean).max() > 0.01


def test_images_of_any_sequence_have_their_own_scales():
    network, volume = Blur(3 * 2 + 3), volume_of((8, 8, 4), 2)
    volume.data[0] *= -50
    restored = restorer_of(network, acquisition=IMAGES).restore(volume)["stir"]
    scales = scales_of(volume, IMAGES)
    assert scales[0] > 10 * scales[1]
    assert restored.input_scale == tuple(scales)
    expected = loop(network, volume, 1, 1, scales)
    np.testing.assert_allclose(restored.mean, expected, atol=3e-6 * np.abs(expected).max())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_planes_say_which_contrast_is_wanted(precision):
    volume = volume_of((8, 8, 5), 4)
    for plane, wanted in enumerate(NAMES):
        restored = restorer_of(Shown(3 * 4 + plane), batch_size=2, precision=precision).restore(volume)
        for name, restoration in restored.items():
            np.testing.assert_array_equal(restoration.mean, float(name == wanted))


def test_one_contrast_alone_is_what_it_is_among_all():
    volume = volume_of((16, 16, 5), 4)
    for samples in (0, 3):
        restorer = restorer_of(Blur(15), samples=samples, batch_size=2, seed=4)
        together = restorer.restore(volume)
        alone = restorer.restore(volume, contrasts=["pdw", "stir"])
        assert list(alone) == ["stir", "pdw"]  # in the order of training
        for name, restoration in alone.items():
            np.testing.assert_array_equal(restoration.mean, together[name].mean)
            if samples:
                deviation = together[name].standard_deviation
                np.testing.assert_array_equal(restoration.standard_deviation, deviation)


def test_only_wanted_contrasts_are_computed():
    calls = []

    class Counted(Blur):
        def forward(self, x: Tensor) -> Tensor:
            calls.append(len(x))
            return super().forward(x)

    restorer_of(Counted(15), batch_size=4).restore(volume_of((8, 8, 6), 4), contrasts=["stir"])
    assert calls == [4, 2]


def test_samples_differ_by_contrast_and_seed_and_repeat():
    # Mean and deviation of a hundred coin flips at every voxel: dropout of the planes alone.
    class Flip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dropout = nn.Dropout(0.5)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.dropout(x[:, -3:].sum(dim=1, keepdim=True))
            return y

    volume = volume_of((16, 16, 4), 4)
    first = restorer_of(Flip(), samples=100, seed=1).restore(volume)
    again = restorer_of(Flip(), samples=100, seed=1).restore(volume)
    other = restorer_of(Flip(), samples=100, seed=2).restore(volume)
    for name, restoration in first.items():
        np.testing.assert_array_equal(restoration.mean, again[name].mean)
        assert not np.array_equal(restoration.mean, other[name].mean)
        assert restoration.standard_deviation is not None
        # 0 or 2, evenly: mean 1, deviation 1. A mean of 100 is off by 1/10; five of these.
        assert np.abs(restoration.mean - 1).max() < 0.5
        assert restoration.standard_deviation.mean() == pytest.approx(1, rel=0.02)
    assert not np.array_equal(first["t1w"].mean, first["stir"].mean)


def test_bfloat16_is_near_float32():
    network, volume = Blur(5 * 4 + 3), volume_of((24, 24, 9), 4)
    full = restorer_of(network, 2).restore(volume)
    half = restorer_of(network, 2, precision="bf16").restore(volume)
    for name in NAMES:
        assert half[name].mean.dtype == np.float32
        difference = np.sqrt(np.mean((half[name].mean - full[name].mean) ** 2))
        # Eight bits of mantissa: 2^-9 for each rounding, of input, weights, two intermediate images and the
        # output.
        assert 0 < difference < 5 * 2**-9 * np.sqrt(np.mean(full[name].mean ** 2))


@pytest.mark.parametrize(
    ("contrasts", "message"),
    [
        (["t1c"], r"contrasts asked for: 't1c'; trained on t1w, stir, pdw\. Remedy"),
        (["t1w", "x", "y"], "asked for: 'x', 'y'; trained on t1w, stir, pdw"),
        ([], "asked for: none; trained on"),
    ],
)
def test_unknown_contrast_is_refused(contrasts, message):
    with pytest.raises(InputError, match=message):
        restorer_of(Blur(15)).restore(volume_of((8, 8, 3), 4), contrasts=contrasts)


def test_other_number_of_channels_is_refused():
    with pytest.raises(InputError, match="the volume has 3 channels, the network was trained on 4"):
        restorer_of(Blur(15)).restore(volume_of((8, 8, 3), 3))


def test_generator_of_other_channels_is_refused():
    generator = UNetGenerator(5, channels=(4, 8), dropout_levels=1)
    with pytest.raises(InputError, match="takes 5 channels, the slices of this acquisition have 15"):
        restorer_of(generator)


@pytest.mark.parametrize("contrasts", [(), ("t1w", "t1w")])
def test_contrasts_of_a_restorer_are_distinct(contrasts):
    with pytest.raises(InputError, match="contrasts must be distinct names, at least one, got"):
        restorer_of(Blur(15), contrasts=contrasts)


def test_image_without_foreground_is_refused():
    volume = volume_of((8, 8, 3), 4)
    volume.data[2] = 0
    with pytest.raises(InputError, match="no positive foreground"):
        restorer_of(Blur(15)).restore(volume)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_gpu_restores_what_the_cpu_does():
    network, volume = Blur(15), volume_of((13, 10, 7), 4)
    expected = restorer_of(network).restore(volume)
    # fp32: TF32 convolutions.
    for precision, tolerance in (("fp32", 1e-3), ("bf16", 5 * 2**-8), ("fp16", 5 * 2**-11)):
        restored = restorer_of(network, device="cuda", precision=precision).restore(volume)
        for name in NAMES:
            largest = np.abs(expected[name].mean).max()
            np.testing.assert_allclose(restored[name].mean, expected[name].mean, atol=tolerance * largest)
