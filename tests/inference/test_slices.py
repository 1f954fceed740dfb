"""Restored volumes against loops over slices, with networks small enough to work out."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medrestore.checks import InputError
from medrestore.data.intensity import foreground_scale
from medrestore.data.volumes import SourceGrid, Volume, read_volume
from medrestore.inference.slices import VolumeRestorer
from medrestore.networks.unet import UNetGenerator


class Blur(nn.Module):
    """Two convolutions with normalization and dropout between, on sizes that are a multiple of 8."""

    stride_multiple = 8

    def __init__(self, channels: int = 1, out_channels: int = 1, dropout: float = 0.5) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.dropout = nn.Dropout(dropout)
        self.second = nn.Conv2d(6, out_channels, 3, padding=1)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(0.4 * torch.rand(parameter.shape, generator=generator))
            self.norm.running_mean.copy_(torch.linspace(-1, 1, 6))
            self.norm.running_var.copy_(torch.linspace(0.5, 2, 6))

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[2] % 8 == x.shape[3] % 8 == 0
        y: Tensor = self.second(self.dropout(self.norm(self.first(x)).relu()))
        return y


class Offsets(nn.Module):
    """Restores slice z + j as slice z of the input plus 10^j: tells apart which prediction went where."""

    def __init__(self, out_channels: int = 3) -> None:
        super().__init__()
        self.out_channels = out_channels

    def forward(self, x: Tensor) -> Tensor:
        middle = x[:, x.shape[1] // 2]
        return torch.stack([middle + 10.0**channel for channel in range(self.out_channels)], dim=1)


def volume_of(shape: tuple[int, int, int], seed: int = 0) -> Volume:
    affine = np.diag([3.0, 3.0, 4.0, 1.0])
    data = np.random.default_rng(seed).gamma(3.0, 1.0, shape).astype(np.float32)
    return Volume(data, affine, SourceGrid.from_affine(shape, affine))


def loop(network: nn.Module, volume: Volume, neighbors: int, multiple: int) -> np.ndarray:
    """One slice at a time: pad, take the neighbors, restore, cut."""
    x, y, z = volume.data.shape
    scale = foreground_scale(volume.data, voxel_size_mm=volume.voxel_size_mm)
    height, width = -(-x // multiple) * multiple, -(-y // multiple) * multiple
    top, left = (height - x) // 2, (width - y) // 2
    restored = np.zeros_like(volume.data)
    network.eval()
    for index in range(z):
        channels = np.zeros((1, 2 * neighbors + 1, height, width), np.float32)
        for channel in range(2 * neighbors + 1):
            other = min(max(index + channel - neighbors, 0), z - 1)
            channels[0, channel, top : top + x, left : left + y] = volume.data[:, :, other] / np.float32(
                scale
            )
        with torch.no_grad():
            output = network(torch.from_numpy(channels))[0, 0]
        restored[:, :, index] = output[top : top + x, left : left + y].numpy() * scale
    return restored


@pytest.mark.parametrize("shape", [(16, 24, 5), (13, 10, 7), (8, 8, 1), (3, 17, 2)])
@pytest.mark.parametrize("neighbors", [0, 2])
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_restoration_is_that_of_a_loop_over_slices(shape, neighbors, batch_size):
    network = Blur(2 * neighbors + 1)
    volume = volume_of(shape)
    restoration = VolumeRestorer(network, neighbors=neighbors, batch_size=batch_size).restore(volume)
    expected = loop(network, volume, neighbors, 8)
    # float32 sums of some 50 terms in another order (channels last, other batches): 1e-6 of the largest.
    np.testing.assert_allclose(restoration.mean, expected, atol=3e-6 * np.abs(expected).max())
    assert restoration.standard_deviation is None
    assert restoration.scale == foreground_scale(volume.data, voxel_size_mm=(3, 3, 4))
    assert restoration.mean.dtype == np.float32
    assert restoration.mean.shape == shape


def test_network_without_a_stride_gets_the_plane_as_it_is():
    class Identity(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            assert x.shape[2:] == (7, 9)
            return x

    volume = volume_of((7, 9, 4))
    restored = VolumeRestorer(Identity(), neighbors=0).restore(volume).mean
    np.testing.assert_allclose(
        restored, volume.data, rtol=2**-22
    )  # a division and a multiplication: two roundings


def test_result_follows_the_unit_of_the_input():
    network, volume = Blur(), volume_of((16, 16, 4))
    restorer = VolumeRestorer(network, neighbors=0)
    scaled = Volume(volume.data * np.float32(1024), volume.affine, volume.source)
    # A power of two scales float32 without rounding.
    np.testing.assert_array_equal(
        restorer.restore(scaled).mean, restorer.restore(volume).mean * np.float32(1024)
    )


def test_overlapping_predictions_of_a_slice_are_averaged():
    volume = volume_of((4, 5, 6))
    scale = foreground_scale(volume.data, voxel_size_mm=(3, 3, 4))
    for batch_size in (1, 2, 4, 6):
        restored = VolumeRestorer(Offsets(3), neighbors=1, batch_size=batch_size).restore(volume).mean / scale
        data = volume.data / scale
        for z in range(6):
            # Channel 0 of slice z + 1, channel 1 of slice z, channel 2 of slice z - 1: where there is such a
            # slice.
            predictions = [
                data[:, :, z + 1 - channel] + 10.0**channel
                for channel in range(3)
                if 0 <= z + 1 - channel < 6
            ]
            # Values of up to 111 in float32.
            np.testing.assert_allclose(restored[:, :, z], np.mean(predictions, axis=0), rtol=1e-6)


@pytest.mark.parametrize("network", [Offsets(2), nn.Upsample(scale_factor=2), nn.AvgPool2d(2)])
def test_output_of_another_size_is_refused(network):
    with pytest.raises(InputError, match="expected slices of the same size and an odd number of channels"):
        VolumeRestorer(network, neighbors=0).restore(volume_of((8, 8, 2)))


def test_given_network_is_left_as_it_was():
    network = Blur().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    restorer = VolumeRestorer(network, neighbors=0, precision="bf16", samples=2)
    restorer.restore(volume_of((8, 8, 3)))
    assert network.training
    assert network.dropout.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert network.first.weight.dtype == torch.float32
    with torch.no_grad():
        network.second.weight.zero_()
    assert restorer.restore(volume_of((8, 8, 3))).mean.std() > 0  # a copy: not that of the changed weights


def test_bfloat16_is_near_float32():
    network, volume = Blur(5), volume_of((24, 24, 9))
    full = VolumeRestorer(network, neighbors=2).restore(volume).mean
    restorer = VolumeRestorer(network, neighbors=2, precision="bf16")
    half = restorer.restore(volume).mean
    assert half.dtype == np.float32
    assert restorer.network.get_submodule("first").weight.dtype == torch.bfloat16
    assert restorer.network.get_submodule("norm").running_mean.dtype == torch.float32
    # Eight bits of mantissa: 2^-9 for each rounding, of input, weights, two intermediate images and the
    # output.
    difference = np.sqrt(np.mean((half - full) ** 2)) / np.sqrt(np.mean(full**2))
    assert 0 < difference < 5 * 2**-9


# ---------------------------------------------------------------- samples
def test_samples_have_the_mean_and_deviation_of_separate_passes():
    network, volume = Blur(3), volume_of((10, 12, 5))
    restoration = VolumeRestorer(network, neighbors=1, batch_size=2, samples=4, seed=7).restore(volume)
    passes = []
    single = VolumeRestorer(network, neighbors=1, batch_size=2, samples=2, seed=7)
    with torch.inference_mode():
        slices = single._padded_slices(volume.data[None], [restoration.scale], margin=1)
        for sample in range(4):
            restored = single._pass(slices, {"": ()}, {}, sample)[0]
            passes.append(single._unpadded(restored, volume.data.shape[:2], restoration.scale))
    assert restoration.standard_deviation is not None
    # float32 update against float64 sums of four values of up to 10.
    np.testing.assert_allclose(restoration.mean, np.mean(passes, axis=0, dtype=float), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        restoration.standard_deviation, np.std(passes, axis=0, ddof=1, dtype=float), rtol=1e-4, atol=1e-5
    )
    assert restoration.standard_deviation.min() > 0


def test_deviation_of_dropout_is_that_worked_out_by_hand():
    class Dropped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dropout = nn.Dropout(0.5)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.dropout(x)
            return y

    volume = Volume(
        np.full((16, 16, 4), 3.0, np.float32), np.eye(4), SourceGrid.from_affine((16, 16, 4), np.eye(4))
    )
    restoration = VolumeRestorer(Dropped(), neighbors=0, samples=400).restore(volume)
    # Each voxel is 0 or 6, evenly: mean 3, deviation 3. Of 400 samples the mean is off by 3 / 20, five of
    # these.
    assert restoration.standard_deviation is not None
    assert np.abs(restoration.mean - 3).max() < 5 * 3 / 20
    assert restoration.standard_deviation.mean() == pytest.approx(3, rel=0.01)
    assert restoration.mean.mean() == pytest.approx(3, rel=0.01)


def test_samples_are_a_function_of_the_seed():
    network, volume = Blur(), volume_of((8, 8, 4))
    first = VolumeRestorer(network, neighbors=0, samples=3, seed=1).restore(volume)
    torch.rand(5)
    restorer = VolumeRestorer(network, neighbors=0, samples=3, seed=1)
    again, third = restorer.restore(volume), restorer.restore(volume)
    other = VolumeRestorer(network, neighbors=0, samples=3, seed=2).restore(volume)
    np.testing.assert_array_equal(again.mean, first.mean)
    np.testing.assert_array_equal(third.mean, first.mean)
    assert not np.array_equal(other.mean, first.mean)


def test_global_random_state_is_left_alone():
    network = Blur()  # its initialization draws
    state = torch.get_rng_state()
    VolumeRestorer(network, neighbors=0, samples=2).restore(volume_of((8, 8, 4)))
    assert torch.equal(torch.get_rng_state(), state)


def test_normalization_keeps_its_statistics_in_samples():
    # Without dropout's noise a sample is the plain restoration: batch norm in training mode would change it.
    network = Blur(dropout=0.5)
    network.dropout.p = 1e-12
    volume = volume_of((8, 8, 4))
    plain = VolumeRestorer(network, neighbors=0).restore(volume).mean
    restoration = VolumeRestorer(network, neighbors=0, samples=2).restore(volume)
    np.testing.assert_allclose(restoration.mean, plain, rtol=1e-6)
    assert restoration.standard_deviation is not None
    assert restoration.standard_deviation.max() == 0


# ---------------------------------------------------------------- bad input
def test_samples_of_a_network_without_dropout_are_refused():
    for network in (nn.Conv2d(1, 1, 1), Blur(dropout=0.0)):
        with pytest.raises(InputError, match="samples need a generator with dropout"):
            VolumeRestorer(network, neighbors=0, samples=4)


def test_generator_of_another_input_is_refused():
    generator = UNetGenerator(46, channels=(4, 8), dropout_levels=1)
    with pytest.raises(InputError, match="takes 46 channels, the slices of this acquisition have 5"):
        VolumeRestorer(generator, neighbors=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"neighbors": -1}, "neighbors must be in"),
        ({"batch_size": 0}, "batch_size must be in"),
        ({"samples": 1}, r"samples \(other than 0\) must be in \[2"),
        ({"samples": -1}, r"samples \(other than 0\) must be in \[2"),
        ({"precision": "fp8"}, "precision must be one of"),
        ({"precision": "fp16"}, "precision fp16 needs a CUDA device"),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        VolumeRestorer(Blur(), **{"neighbors": 0, **options})  # type: ignore[arg-type]


def test_result_that_is_not_finite_is_refused():
    network = Blur()
    with torch.no_grad():
        network.second.bias.fill_(float("nan"))
    with pytest.raises(InputError, match=r"the restored volume is not finite. Remedy: check the weights$"):
        VolumeRestorer(network, neighbors=0).restore(volume_of((8, 8, 2)))
    with pytest.raises(InputError, match="check the weights, or use precision fp32"):
        VolumeRestorer(network, neighbors=0, precision="bf16").restore(volume_of((8, 8, 2)))


def test_empty_image_is_refused():
    volume = Volume(np.zeros((8, 8, 2), np.float32), np.eye(4), SourceGrid.from_affine((8, 8, 2), np.eye(4)))
    with pytest.raises(InputError, match="no positive foreground"):
        VolumeRestorer(Blur(), neighbors=0).restore(volume)


# ---------------------------------------------------------------- real data, GPU
@pytest.mark.parametrize(
    "name", ["pet/florbetapir_a.nii.gz", "pet/fdg_template_116_healthy_mni2mm.nii", "mri/avg152_T1.nii"]
)
def test_real_volume_is_restored_on_its_grid(shared_data, name):
    volume = read_volume(shared_data(name))
    restoration = VolumeRestorer(Blur(3), neighbors=1).restore(volume)
    assert restoration.mean.shape == volume.data.shape
    assert np.isfinite(restoration.mean).all()
    assert restoration.mean.std() > 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_gpu_restores_what_the_cpu_does():
    network, volume = Blur(3), volume_of((13, 10, 7))
    expected = VolumeRestorer(network, neighbors=1).restore(volume).mean
    for precision, tolerance in (
        ("fp32", 1e-3),
        ("bf16", 5 * 2**-8),
        ("fp16", 5 * 2**-11),
    ):  # fp32: TF32 convolutions
        restored = (
            VolumeRestorer(network, neighbors=1, device="cuda", precision=precision).restore(volume).mean
        )
        np.testing.assert_allclose(restored, expected, atol=tolerance * np.abs(expected).max())
    state = torch.cuda.get_rng_state()
    first = VolumeRestorer(network, neighbors=1, device="cuda", samples=3).restore(volume).standard_deviation
    again = VolumeRestorer(network, neighbors=1, device="cuda", samples=3).restore(volume).standard_deviation
    assert first is not None
    assert again is not None
    np.testing.assert_array_equal(first, again)
    assert torch.equal(torch.cuda.get_rng_state(), state)


def test_copies_of_an_oblique_scan_are_restored_alike_however_they_are_stored(tmp_path):
    """Axes flipped and permuted, as sform or as qform, whose voxel sizes differ by rounding."""
    angles = np.radians([-20, -40, -30])
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        c, s = np.cos(angle), np.sin(angle)
        one = np.eye(3)
        others = [other for other in range(3) if other != axis]
        one[np.ix_(others, others)] = [[c, -s], [s, c]]
        turn = one @ turn
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn @ np.diag([2.0, 2.0, 3.0]), (-40, 12, 7)
    random = np.random.default_rng(0)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in (26, 31, 14)), indexing="ij")
    data = (5 * (x**2 + y**2 + z**2 < 0.6) * random.gamma(4.0, 0.25, x.shape)).astype(np.float32)
    original = nibabel.Nifti1Image(data, affine)
    restorer = VolumeRestorer(Blur(3), neighbors=1)
    results, sizes = [], set()
    for code in ("RAS", "LPS", "PSR", "SAL"):
        target = nibabel.orientations.axcodes2ornt(code)
        start = nibabel.orientations.io_orientation(affine)
        copy = original.as_reoriented(nibabel.orientations.ornt_transform(start, target))
        for sform, qform in ((1, 0), (0, 1)):
            stored = nibabel.Nifti1Image(copy.dataobj, copy.affine)
            stored.set_qform(copy.affine, qform)
            stored.set_sform(copy.affine, sform)
            nibabel.save(stored, tmp_path / "copy.nii")
            volume = read_volume(tmp_path / "copy.nii")
            sizes.add(volume.voxel_size_mm)
            results.append((volume.data, restorer.restore(volume).mean))
    assert len(sizes) > 1  # or this would show nothing
    for given, restored in results[1:]:
        np.testing.assert_array_equal(given, results[0][0])
        np.testing.assert_allclose(restored, results[0][1], rtol=1e-6, atol=1e-6)  # float32 of one scale
