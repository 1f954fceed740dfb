"""The training range: measured on degraded images, and what lies outside is said in words."""

import numpy as np
import pandas as pd
import pytest

from medrestore.data.training_range import (
    range_warnings,
    training_range,
    volume_features,
)
from medrestore.data.volumes import SourceGrid, Volume, read_volume
from medrestore.domains.amyloid_pet.schema import pair_schema
from medrestore.domains.amyloid_pet.training import AmyloidPETData


def sphere(
    noise: float, *, size_mm: tuple[float, float, float] = (2.0, 2.0, 3.0), gain: float = 1.0
) -> Volume:
    """A ball of radius 24 voxels and mean 1 with white noise inside."""
    axes = np.meshgrid(*(np.arange(n) - n / 2 for n in (64, 64, 12)), indexing="ij")
    inside = axes[0] ** 2 + axes[1] ** 2 < 24**2
    data = inside * (1 + noise * np.random.default_rng(0).normal(size=inside.shape))
    affine = np.diag([*size_mm, 1.0])
    return Volume((gain * data).astype(np.float32), affine, SourceGrid.from_affine(data.shape, affine))


def test_noise_is_that_which_was_put_in():
    features = volume_features(sphere(0.2))
    assert features["voxel_size_x_mm"] == 2
    assert features["voxel_size_z_mm"] == 3
    # Tolerance: a median over about 800 wavelet details scatters by 4 %; a fifth of the box around the ball
    # is free of noise, which lowers the median, and the foreground's rim lowers its mean.
    assert features["relative_noise"] == pytest.approx(0.2, rel=0.35)
    # Tolerance: the ball's rim, the same in both, is among the details: to the weaker noise it adds more.
    assert volume_features(sphere(0.4))["relative_noise"] == pytest.approx(
        2 * features["relative_noise"], rel=0.1
    )


def test_features_do_not_depend_on_the_unit():
    one, other = volume_features(sphere(0.2)), volume_features(sphere(0.2, gain=1000.0))
    assert one == pytest.approx(other, rel=1e-5)  # float32 data


def test_domain_holds_the_range_of_every_feature(tiny_cohort):
    table = pair_schema().read(tiny_cohort / "manifest.csv")
    domain = training_range(table, words=AmyloidPETData.words)
    noise = [volume_features(read_volume(path))["relative_noise"] for path in table["degraded_path"]]
    assert domain["features"]["relative_noise"] == [min(noise), max(noise)]
    # Tolerance: NIfTI keeps the affine as float32.
    assert domain["features"]["voxel_size_x_mm"] == pytest.approx([4.0, 4.0], rel=1e-6)
    assert domain["features"]["voxel_size_z_mm"] == pytest.approx([5.0, 5.0], rel=1e-6)
    assert (domain["tracer"], domain["units"], domain["dose_fraction"]) == (
        ["florbetaben"],
        ["SUV"],
        ["0.01"],
    )
    first = training_range(table, at_most=1)["features"]["relative_noise"]
    assert first == [noise[0], noise[0]]
    data = AmyloidPETData(
        manifest=tiny_cohort / "manifest.csv",
        cache_dir="",
        seed=0,
        batch_size=2,
        batches_per_epoch=1,
        label_column="amyloid_status",
        neighbors=2,
        spatial_size=(32, 32),
    )
    assert data.model_information == {
        "restorer": "amyloid_pet.VolumeFileRestorer",
        "neighbors": 2,
        "label_column": "amyloid_status",
        "spatial_size": [32, 32],
        "training_range": domain,
    }


DOMAIN = {
    "features": {
        **{f"voxel_size_{axis}_mm": [size, size] for axis, size in zip("xyz", (2.0, 2.0, 3.0), strict=True)},
        "relative_noise": [0.15, 0.25],
    },
    "tracer": ["florbetaben"],
}


def test_nothing_is_said_inside_the_domain():
    assert range_warnings(sphere(0.2), DOMAIN, words={"tracer": "florbetaben"}) == []
    assert range_warnings(sphere(0.2), DOMAIN) == []
    assert range_warnings(sphere(0.2, size_mm=(2.0, 2.0, 3.2)), DOMAIN) == []  # within a tenth


@pytest.mark.parametrize(
    ("volume", "tracer", "message"),
    [
        (sphere(0.2, size_mm=(2.0, 2.5, 3.0)), None, "voxel size y mm is 2.5, trained on 2 to 2"),
        (sphere(0.02), None, "relative noise is 0.0"),
        (sphere(0.9), None, "relative noise is 0."),
        (sphere(0.2), "FDG", "tracer is FDG, trained on florbetaben"),
    ],
)
def test_what_lies_outside_is_named(volume, tracer, message):
    (warning,) = range_warnings(volume, DOMAIN, words={"tracer": tracer})
    assert warning.startswith(message)


def test_image_without_any_detail_has_no_noise():
    data = np.full((8, 8, 8), 5.0, np.float32)
    grid = SourceGrid.from_affine(data.shape, np.eye(4))
    assert volume_features(Volume(data, np.eye(4), grid))["relative_noise"] == 0.0


def test_every_dose_is_measured_whatever_the_order_of_rows():
    # Four places evenly spaced over all 64 rows, 0, 21, 42 and 63, have one dose alone.
    doses, noise = [0.01, 0.25, 0.25] * 21 + [0.01], [0.4, 0.1, 0.1] * 21 + [0.4]
    table = pd.DataFrame({"dose_fraction": doses, "noise": noise})
    seen: list[float] = []

    def read(row):
        seen.append(row["noise"])
        return sphere(row["noise"])

    found = training_range(table, at_most=4, read=read, words=["dose_fraction", "tracer"])
    assert sorted(seen) == [0.1, 0.1, 0.4, 0.4]
    expected = [volume_features(sphere(noise))["relative_noise"] for noise in (0.1, 0.4)]
    assert found["features"]["relative_noise"] == expected
    assert found["dose_fraction"] == ["0.01", "0.25"]
    seen.clear()
    training_range(table, at_most=1, read=read, words=["dose_fraction"])
    assert sorted(seen) == [0.1, 0.4]  # each once, even so
