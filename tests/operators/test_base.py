"""One contract over all degradations, those that are found in the package."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from defined import defined_classes

from medrestore import operators
from medrestore.operators.base import Degradation, LinearDegradation
from medrestore.operators.projector import ParallelProjector, ProjectionGeometry
from medrestore.operators.recording import RecordedSubsampling
from medrestore.operators.resampling import GaussianSubsampling, KernelSubsampling
from medrestore.testing import check_degradation

GEOMETRY = ProjectionGeometry(pixels=24, slices=5, pixel_mm=4.0, slice_mm=6.0, angles=12, fwhm_mm=7.0)
UNBLURRED = ProjectionGeometry(pixels=25, slices=3, angles=7, fwhm_mm=0.0)

CASES: dict[str, tuple[Callable[[], Degradation], tuple[int, ...]]] = {
    "projector": (lambda: ParallelProjector(GEOMETRY), (24, 24, 5)),
    "projector without blur": (lambda: ParallelProjector(UNBLURRED), (25, 25, 3)),
    "subset of the projector": (lambda: ParallelProjector(GEOMETRY).subset(1, 3), (24, 24, 5)),
    "subsampling": (lambda: GaussianSubsampling(scale=4, sigma=2.0), (3, 16, 24)),
    "box": (lambda: KernelSubsampling("box", scale=4), (3, 16, 24)),
    "bicubic by an odd scale": (lambda: KernelSubsampling("bicubic", scale=3), (2, 3, 9, 6)),
    "lanczos": (lambda: KernelSubsampling("lanczos", scale=2), (3, 16, 24)),
    "recorded": (
        lambda: RecordedSubsampling(GaussianSubsampling(), noise_sd=3, jpeg_quality=60),
        (3, 32, 64),
    ),
    "subsampling by an odd scale": (lambda: GaussianSubsampling(scale=3, sigma=0.7), (2, 3, 9, 6)),
}


@pytest.mark.parametrize(("build", "shape"), CASES.values(), ids=CASES.keys())
def test_degradation_keeps_the_contract(build, shape):
    check_degradation(build(), torch.randn(shape, generator=torch.Generator().manual_seed(0)))


def test_every_degradation_of_the_package_has_a_case():
    assert set(defined_classes(operators, Degradation)) == {type(build()) for build, _ in CASES.values()}


class Doubling(LinearDegradation):
    """Twice the image; what is broken of it, a subclass says."""

    key = {}  # noqa: RUF012

    def forward(self, image):
        return 2 * image

    def adjoint(self, data):
        return 2 * data


class Shifting(Doubling):
    def forward(self, image):
        return image + 1


class Unmatched(Doubling):
    def adjoint(self, data):
        return data


class Overwriting(Doubling):
    def forward(self, image):
        image *= 2
        return image


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (Shifting, "fails the dot test|not linear"),
        (Unmatched, "dot test"),
        (Overwriting, "changes what it is"),
    ],
)
def test_what_breaks_the_contract_is_told(broken, reason):
    target = torch.ones(3, 4)
    check_degradation(Doubling(), target)
    with pytest.raises(AssertionError, match=reason):
        check_degradation(broken(), target)
