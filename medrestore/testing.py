"""Contracts of what one may add, as functions that a test of one's own calls."""

from __future__ import annotations

import json

import torch
from torch import Tensor

from medrestore.operators.base import Degradation, LinearDegradation

__all__ = ["check_degradation"]


def check_degradation(degradation: Degradation, target: Tensor) -> None:
    """Check what training, evaluation and solvers take for granted of a degradation.

    Parameters
    ----------
    degradation
        With every setting that it needs.
    target : float
        An image of the shape that it takes.

    Raises
    ------
    AssertionError
        When its key is no plain data, it changes what it is given, is not finite, gives another image the
        second time or lets no gradient pass; where it is linear, also when sums are not kept or the adjoint
        fails the dot test, <A x, y> = <x, A^T y>, on arrays or as the gradient.
    """
    json.dumps(degradation.key)
    before, x = target.clone(), target.clone().requires_grad_()
    degraded = degradation(x)
    _require(torch.equal(x, before), "it changes what it is given")
    _require(degraded.isfinite().all(), "it is not finite")
    _require(torch.equal(degraded, degradation(target)), "it is not a function of the image alone")
    y = torch.linspace(-1, 1, degraded.numel()).reshape(degraded.shape).cos().to(degraded)
    (gradient,) = torch.autograd.grad((degraded * y).sum(), x)
    _require(gradient.isfinite().all(), "its gradient is not finite")
    if not isinstance(degradation, LinearDegradation):
        return
    image, data = target.float().numpy(force=True), y.float().numpy(force=True)
    of_array, adjoint = (
        torch.from_numpy(part).to(target) for part in (degradation.forward(image), degradation.adjoint(data))
    )
    _require(torch.equal(of_array, degraded), "it does not do the same to arrays")
    _require(torch.equal(adjoint, gradient), "its gradient is not the adjoint")
    # Sums of float32 products: their error grows with the norms of what is multiplied, not with the sum.
    norms = degraded.double().norm() * y.double().norm()
    gap = (degraded.double() * y).sum() - (target.double() * adjoint).sum()
    _require(gap.abs() < 1e-5 * norms, "its adjoint fails the dot test")
    other = target.flip(-1)
    both, by_parts = degradation(2 * target + other), 2 * degradation(target) + degradation(other)
    # float32 rounding of sums of some hundred terms.
    _require((both - by_parts).abs().max() <= 1e-4 * both.abs().max(), "it is not linear")


def _require(holds: Tensor | bool, reason: str) -> None:
    if not holds:
        raise AssertionError(reason)
