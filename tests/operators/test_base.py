"""One contract over all linear operators: shapes, types, linearity, and the adjoint by the dot test."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from medrestore.operators.base import LinearOperator
from medrestore.operators.projector import ParallelProjector, ProjectionGeometry
from medrestore.operators.resampling import GaussianSubsampling

GEOMETRY = ProjectionGeometry(pixels=24, slices=5, pixel_mm=4.0, slice_mm=6.0, angles=12, fwhm_mm=7.0)

OPERATORS: dict[str, Callable[[], LinearOperator]] = {
    "projector": lambda: ParallelProjector(GEOMETRY),
    "projector without blur": lambda: ParallelProjector(
        ProjectionGeometry(pixels=25, slices=3, angles=7, fwhm_mm=0.0)
    ),
    "subset of the projector": lambda: ParallelProjector(GEOMETRY).subset(1, 3),
    "subsampling": lambda: GaussianSubsampling((3, 16, 24), scale=4, sigma=2.0),
    "subsampling by an odd scale": lambda: GaussianSubsampling((2, 3, 9, 6), scale=3, sigma=0.7),
}


@pytest.fixture(params=OPERATORS.values(), ids=OPERATORS.keys())
def operator(request: pytest.FixtureRequest) -> LinearOperator:
    return request.param()  # type: ignore[no-any-return]


def drawn(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_follows_the_protocol(operator: LinearOperator) -> None:
    assert isinstance(operator, LinearOperator)


def test_shapes_and_types(operator: LinearOperator) -> None:
    data = operator.forward(drawn(operator.domain_shape, 0))
    image = operator.adjoint(drawn(operator.range_shape, 1))
    assert data.shape == operator.range_shape
    assert image.shape == operator.domain_shape
    assert data.dtype == image.dtype == np.float32


def test_adjoint_by_the_dot_test(operator: LinearOperator) -> None:
    x, y = drawn(operator.domain_shape, 2), drawn(operator.range_shape, 3)
    ax, aty = operator.forward(x).astype(np.float64), operator.adjoint(y).astype(np.float64)
    # Sums of float32 products: their error grows with the norms of what is multiplied, not with the sum.
    bound = 1e-5 * np.linalg.norm(ax) * np.linalg.norm(y)
    assert abs(np.vdot(ax, y) - np.vdot(x, aty)) < bound


def test_linear_and_input_untouched(operator: LinearOperator) -> None:
    x, y = drawn(operator.domain_shape, 4), drawn(operator.domain_shape, 5)
    before = x.copy()
    sum_of_both = operator.forward(2 * x - y)
    np.testing.assert_array_equal(x, before)
    # float32 rounding of sums of some hundred terms.
    np.testing.assert_allclose(
        sum_of_both, 2 * operator.forward(x) - operator.forward(y), atol=1e-4 * np.abs(sum_of_both).max()
    )
