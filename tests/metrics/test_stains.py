"""Stain densities against scikit-image and by hand."""

import numpy as np
import pytest
from skimage.color import combine_stains, rgb2hed, rgb_from_hed
from skimage.data import immunohistochemistry

from medrestore import rng
from medrestore.checks import InputError
from medrestore.metrics.stains import stain_density, stain_drift, stain_statistics

DENSITY = 1e-5
"""Tables are in single precision: densities to 6e-8 relative, three of them of either sign added up."""


def mixed(hematoxylin: float, eosin: float) -> np.ndarray:
    """Return the color, (3,), of two densities by the law of Lambert and Beer."""
    density = hematoxylin * rgb_from_hed[0] + eosin * rgb_from_hed[1]
    return 255 * 10**-density


def test_densities_equal_scikit_images_where_it_does_not_cut_off():
    section = np.maximum(immunohistochemistry(), 1)  # its logarithm of 0 differs
    expected = 6 * rgb2hed(section)  # its unit is 10**-6
    for place, stain in enumerate(("hematoxylin", "eosin")):
        density = stain_density(section, stain)
        assert density.shape == (512, 512)
        assert density.dtype == np.float32
        np.testing.assert_allclose(np.maximum(density, 0), expected[..., place], rtol=0, atol=DENSITY)


def test_densities_below_zero_are_kept_so_that_noise_does_not_raise_the_mean():
    noise = rng.generator(0, "background").integers(-6, 7, (64, 64, 3))
    background = (240 + noise).astype(np.uint8)
    density = stain_density(background, "eosin")
    assert density.min() < 0
    flat = stain_density(np.full((1, 1, 3), 240, dtype=np.uint8), "eosin")[0, 0]
    # Standard error of the mean: 0.016 a pixel (sd of the noise, 3.7, over 240 ln 10, times the row's norm of
    # about 2.3) over 64, three of them; the cut-off mean would lie 0.006 too high.
    assert density.mean() == pytest.approx(flat, abs=8e-4)


@pytest.mark.parametrize(("hematoxylin", "eosin"), [(0.5, 0.0), (0.0, 0.7), (0.3, 0.2)])
def test_known_mixtures_are_separated(hematoxylin, eosin):
    color = mixed(hematoxylin, eosin)
    rgb = np.round(color).astype(np.uint8)[None, None]
    # Rounding to 8 bits is 0.5 / (255 ln 10) at white and more in the dark, times a row of the matrix.
    tolerance = 3 * 0.5 / (color.min() * np.log(10))
    assert stain_density(rgb, "hematoxylin")[0, 0] == pytest.approx(hematoxylin, abs=tolerance)
    assert stain_density(rgb, "eosin")[0, 0] == pytest.approx(eosin, abs=tolerance)
    theirs = combine_stains(np.array([[[hematoxylin, eosin, 0]]]) / 6, rgb_from_hed)
    np.testing.assert_allclose(255 * theirs[0, 0], color, rtol=1e-6)  # one law, stated twice


def test_statistics_are_mean_and_deviation_of_the_densities():
    section = immunohistochemistry()[:40, :30]
    statistics = stain_statistics(section)
    hematoxylin = stain_density(section, "hematoxylin").astype(float)
    eosin = stain_density(section, "eosin").astype(float)
    expected = (hematoxylin.mean(), hematoxylin.std(), eosin.mean(), eosin.std())
    assert statistics == pytest.approx(expected, abs=1e-9)  # sums in double precision
    assert all(isinstance(value, float) for value in statistics)


def test_black_has_a_finite_density():
    assert np.isfinite(stain_density(np.zeros((2, 2, 3), dtype=np.uint8), "hematoxylin")).all()


def test_drift_is_signed_and_knows_which_stain_changed():
    place = np.indices((32, 32)).sum(axis=0) % 2
    densities = np.where(place, 0.6, 0.2)[..., None]
    target = np.round(mixed(0, 0.3) * 10 ** (-densities * rgb_from_hed[0])).astype(np.uint8)
    weaker = np.round(mixed(0, 0.3) * 10 ** (-0.5 * densities * rgb_from_hed[0])).astype(np.uint8)
    drift = stain_drift(weaker, target)
    # Mean 0.4 and deviation 0.2 of hematoxylin are halved; rounding as above, at 60 of 255 or lighter.
    assert drift == pytest.approx((-0.2, -0.1, 0, 0), abs=0.011)
    assert stain_drift(target, weaker) == tuple(-value for value in drift)
    assert stain_drift(target, target) == (0, 0, 0, 0)


def test_bad_input_is_refused():
    section = immunohistochemistry()[:4, :4]
    for bad in (section / 255, section[..., 0], section[..., :2], section.astype(np.int16)):
        with pytest.raises(InputError, match=r"rgb must be \(H, W, 3\) of uint8, got"):
            stain_statistics(bad)
    with pytest.raises(InputError, match="must hold a pixel"):
        stain_statistics(section[:0])
    with pytest.raises(InputError, match="stain must be one of 'hematoxylin', 'eosin', got 'dab'"):
        stain_density(section, "dab")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="shapes must be equal"):
        stain_drift(section, section[:3])
