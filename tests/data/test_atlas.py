"""Region maps from the average head: known warps found back in any unit and grid; wrong images refused."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from atlas_head import COARSE, NEGATIVE, POSITIVE, SHAPE, T1, scan, true_places
from scipy import ndimage
from scipy.interpolate import BSpline
from scipy.optimize import approx_fprime
from scipy.spatial.transform import Rotation

from medrestore.checks import InputError
from medrestore.data import atlas
from medrestore.data.atlas import REGIONS, AtlasRegistration, register_atlas
from medrestore.data.atlas_model import RIDGE, SplineField, spline_bases, tissue_maps
from medrestore.data.registration_images import moved
from medrestore.data.volumes import SourceGrid, Volume, read_volume

GRAY = tuple(range(REGIONS["cerebellum"], REGIONS["white_matter"]))


def error_mm(found, volume, codes):
    """Distance from where the brain's voxels truly lie in the template, (N,)."""
    places = moved(np.argwhere((codes > 0) & (codes < REGIONS["head"])), volume.affine)
    return np.linalg.norm(found.template_mm(places) - true_places(places), axis=1)


def overlap(first, second, codes):
    """Dice of places whose region is one of some codes."""
    held = np.isin(first, codes), np.isin(second, codes)
    return 2 * np.count_nonzero(held[0] & held[1]) / (np.count_nonzero(held[0]) + np.count_nonzero(held[1]))


@pytest.fixture(scope="module")
def positive():
    """A head with amyloid, its true codes, and its registration."""
    volume, codes = scan(POSITIVE)
    return volume, codes, register_atlas(volume)


# A third of a voxel of 4 mm: the bend is smooth, and thousands of voxels show it.
TOLERANCE_MM = 4 / 3


class TestKnownWarp:
    def test_of_an_amyloid_scan_is_found_back(self, positive):
        volume, codes, found = positive
        assert found.failure == ""
        away = error_mm(found, volume, codes)
        assert away.mean() < TOLERANCE_MM
        # Most of what the affine alone leaves of the bend is taken out.
        assert away.mean() < error_mm(replace(found, warps=()), volume, codes).mean() / 2
        assert found.coverage > 0.99
        assert found.orientation > 0.5 < found.distinctness
        # 1 / 0.93, and what the bend takes of it: 6 sin(x / 30) has slopes of up to 6 / 30.
        assert 1 / 0.93 - 6 / 30 < found.scale_least <= found.scale_most < 1 / 0.93 + 6 / 30
        assert found.least_volume > 0

    def test_its_regions_lie_on_the_scan(self, positive):
        volume, codes, found = positive
        regions = found.regions(volume)
        assert regions.dtype == np.int16
        assert regions.shape == volume.data.shape
        assert set(np.unique(regions)) == {0, *REGIONS.values()}
        # Cortex is a voxel thick here: an error of half of one costs a quarter of it.
        assert overlap(regions, codes, GRAY) > 0.75
        assert overlap(regions, codes, (*GRAY, 8, 9)) > 0.95  # the brain as a whole
        assert overlap(regions, codes, [REGIONS["cerebellum"]]) > 0.8

    @pytest.mark.parametrize("values", [NEGATIVE, T1], ids=["negative", "t1"])
    def test_whatever_the_tissues_look_like(self, values):
        volume, codes = scan(values)
        found = register_atlas(volume, settings=COARSE)
        assert found.failure == ""
        assert error_mm(found, volume, codes).mean() < TOLERANCE_MM

    def test_on_an_oblique_grid_of_thick_sagittal_slices(self):
        affine = np.array([[0, 0, 6.0, -90], [0, -3.0, 0, 100], [3.0, 0, 0, -88], [0, 0, 0, 1.0]])
        turn = np.eye(4)
        turn[:3, :3] = Rotation.from_euler("xyz", (-5, 9, 4), degrees=True).as_matrix()
        volume, codes = scan(POSITIVE, affine=turn @ affine, shape=(64, 72, 30))
        found = register_atlas(volume, settings=COARSE)
        assert found.failure == ""
        assert error_mm(found, volume, codes).mean() < TOLERANCE_MM
        assert overlap(found.regions(volume), codes, (*GRAY, 8, 9)) > 0.95


class TestSameResult:
    def test_in_any_unit_to_the_last_byte(self, positive):
        volume = positive[0]
        first = register_atlas(volume, settings=COARSE)
        # By a power of two, which rounds nothing: SUV to about what Bq/mL are.
        second = register_atlas(replace(volume, data=volume.data * np.float32(4096)), settings=COARSE)
        assert first.matrix.tobytes() == second.matrix.tobytes()
        assert [warp.coefficients.tobytes() for warp in first.warps] == [
            warp.coefficients.tobytes() for warp in second.warps
        ]
        assert (first.distinctness, first.unexplained) == (second.distinctness, second.unexplained)

    def test_of_several_threads_one_searches_at_a_time(self, monkeypatch):
        searching, most = [], []

        def search(*_given):
            searching.append(None)
            most.append(len(searching))
            time.sleep(0.05)
            searching.pop()
            return AtlasRegistration(np.eye(4))

        monkeypatch.setattr(atlas, "_search", search)
        volume, _ = scan(POSITIVE)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(register_atlas, [volume] * 4))
        assert most == [1] * 4


class TestFailure:
    @pytest.mark.parametrize("sigma", [0.0, 2.0], ids=["white", "smooth"])
    def test_noise(self, positive, sigma):
        noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=SHAPE), sigma)
        found = register_atlas(replace(positive[0], data=np.abs(noise).astype(np.float32)), settings=COARSE)
        assert found.failure

    def test_a_head_upside_down(self, positive):
        turned = np.ascontiguousarray(positive[0].data[:, :, ::-1])
        found = register_atlas(replace(positive[0], data=turned), settings=COARSE)
        assert "is explained by a head no better than by one upside down" in found.failure
        assert found.orientation < 0

    def test_half_of_a_head(self, positive):
        volume = positive[0]
        affine = volume.affine.copy()
        affine[2, 3] += 4.0 * 24
        data = np.ascontiguousarray(volume.data[:, :, 24:])
        upper = Volume(data, affine, SourceGrid.from_affine(data.shape, affine))
        found = register_atlas(upper, settings=COARSE)
        assert "of the brain, at least 80% is needed" in found.failure
        assert found.coverage < 0.8

    def test_an_image_that_is_the_same_everywhere(self, positive):
        found = register_atlas(replace(positive[0], data=np.ones(SHAPE, np.float32)))
        assert found.failure == "the image is the same everywhere"

    def test_voxels_that_are_not_finite(self, positive):
        data = positive[0].data.copy()
        data[3, 4, 5] = np.nan
        with pytest.raises(InputError, match="not finite"):
            register_atlas(replace(positive[0], data=data))


class TestModel:
    def test_the_gradient_is_the_slope_of_what_is_unexplained(self):
        maps = tissue_maps(6.0, 2)
        random = np.random.default_rng(0)
        places = random.uniform((-60, -90, -40), (60, 60, 60), (40, 3))
        values, weights = random.uniform(0, 1, 40), random.uniform(0.5, 1, 40)
        found = maps.explain(values, places, weights=weights)

        def cost(flat):
            at = flat.reshape(-1, 3)
            return np.log(maps.explain(values, at, weights=weights, with_gradient=False).unexplained)

        slopes = approx_fprime(places.ravel(), cost, 1e-3).reshape(-1, 3)
        # Fractions are float32 (1e-7), divided by a step of 1e-3 mm; the curve itself bends little over that.
        assert np.allclose(found.gradient, slopes, atol=1e-3)

    def test_tissues_that_are_there_explain_everything(self):
        maps = tissue_maps(6.0, 2)
        places = np.random.default_rng(0).uniform((-60, -90, -40), (60, 60, 60), (500, 3))
        at = (places - maps.first_mm) / maps.voxel_mm
        fractions = [
            ndimage.map_coordinates(maps.fractions[..., tissue], at.T, order=1)
            for tissue in range(maps.fractions.shape[3])
        ]
        values = np.linspace(0.2, 1.4, len(fractions))
        image = values @ np.array(fractions)
        found = maps.explain(image, places, weights=np.ones(len(places)))
        # No more is left than the true values leave: nothing, and what the ridge takes of them.
        assert found.unexplained <= RIDGE * (values**2).sum() / image.var()
        assert np.abs(found.residual).max() < 0.05  # of values up to 1.4
        assert np.allclose(maps.fractions.sum(axis=-1), 1, atol=1e-5)  # float32

    def test_splines_are_those_of_scipy(self):
        places = np.linspace(-3.9, 11.9, 50)
        for order, ours in enumerate(spline_bases(places, first=-4.0, spacing=4.0, count=5)):
            for at in range(5):
                center = -4.0 + 4.0 * at
                spline = BSpline.basis_element(center + 4.0 * np.arange(-2, 3))
                inside = np.abs(places - center) < 8.0
                expected = np.where(inside, spline(places, nu=order), 0)
                assert np.allclose(ours[:, at], expected, atol=1e-12)  # rounding

    def test_a_field_is_its_splines_summed(self):
        random = np.random.default_rng(0)
        warp = SplineField(random.normal(size=(3, 5, 6, 4)), np.array([-4.0, 0.0, 8.0]), 4.0)
        places = random.uniform((-14, -10, -2), (24, 30, 30), (60, 3))
        bases = [
            spline_bases(places[:, axis], first=warp.first_mm[axis], spacing=4.0, count=count)[0]
            for axis, count in enumerate((5, 6, 4))
        ]
        expected = np.einsum("ni,nj,nk,cijk->nc", *bases, warp.coefficients)
        assert np.allclose(warp.at(places), expected, atol=1e-12)  # rounding


class TestRealScans:
    @pytest.mark.parametrize(
        "name",
        [
            "pet/florbetapir_a.nii.gz",
            "pet/fdg_template_116_healthy_mni2mm.nii",
            "mri/avg152_T1.nii",
            "mri/tcga_du_7294_t1.nii.gz",
        ],
    )
    def test_are_explained_by_a_head_of_a_usual_size(self, name, shared_data):
        volume = read_volume(shared_data(name))
        found = register_atlas(volume, settings=COARSE)
        assert found.failure == ""
        assert 0.95 < found.scale_least <= found.scale_most < 1.3
        regions = found.regions(volume)
        liters = {
            code: np.count_nonzero(regions == code) * np.prod(volume.voxel_size_mm) / 1e6
            for code in REGIONS.values()
        }
        # Brains of adults have 1.0 to 1.6 liters of tissue, cerebellar cortex is about a tenth of it.
        assert 0.9 < sum(liters[code] for code in range(1, 9)) < 1.7
        assert 0.05 < liters[REGIONS["cerebellum"]] < 0.2
