"""Contracts of what one may add, as functions that a test of one's own calls."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from medrestore.methods.base import Stage, Step
from medrestore.operators.base import Degradation, LinearDegradation

__all__ = ["check_degradation", "check_step", "check_task_network"]


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


def check_task_network(network: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Check what methods, validation and evaluation take for granted of a task network T.

    Parameters
    ----------
    network
        With ``probability``, ``error`` and ``architecture``.
    images : (B, C, H, W) float
        That it can judge.
    labels : (B,)
        What they show.

    Raises
    ------
    AssertionError
        When its probabilities lie outside of [0, 1]; its error is not one number in [0, 1] an image, or
        depends on what else is in the batch; no gradient passes to the images; or its architecture builds
        another network.
    """
    judge: Any = network.eval()
    x = images.clone().requires_grad_()
    probability, error = judge.probability(x), judge.error(x, labels)
    _require(len(probability) == len(images), "its probability is not of each image")
    _require(((probability >= 0) & (probability <= 1)).all(), "its probability lies outside of [0, 1]")
    _require(error.shape == (len(images),), "its error is not one number an image")
    _require(((error >= 0) & (error <= 1)).all(), "its error lies outside of [0, 1]")
    by_itself = torch.cat([judge.error(images[i : i + 1], labels[i : i + 1]) for i in range(len(images))])
    # Convolutions of another batch size add up in another order: float32 rounding, 1e-7 a term.
    _require((by_itself - error).abs().max() < 1e-5, "its error depends on what else is in the batch")
    (gradient,) = torch.autograd.grad(judge(x).sum(), x)
    _require(gradient.isfinite().all() and gradient.any(), "no gradient passes to the images")
    state, rebuilt = network.state_dict(), type(network)(**judge.architecture).state_dict()
    same = state.keys() == rebuilt.keys() and all(state[name].shape == rebuilt[name].shape for name in state)
    _require(same, "its architecture builds another network")


class _Engine:
    """Stands for the trainer: propagates each loss, and looks whose weights it reaches."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.minimized: list[str] = []

    def minimize(self, name: str, loss: Tensor) -> None:
        for network in self.step.networks.values():
            network.zero_grad(set_to_none=True)
        loss.backward()
        reached = {
            other
            for other, network in self.step.networks.items()
            if any(parameter.grad is not None for parameter in network.parameters())
        }
        _require(reached == {name}, f"the loss of the {name} reaches {sorted(reached)}")
        self.step.optimizers[name].step()
        self.minimized.append(name)


def check_step(step: Step, stage: Stage, batch: Mapping[str, Tensor]) -> dict[str, float]:
    """Check what the trainer takes for granted of a method, in one iteration of a stage.

    Parameters
    ----------
    step
        The method, with its networks and optimizers.
    stage
        That is entered.
    batch
        As the loader gives it.

    Returns
    -------
    dict
        Its losses by name.

    Raises
    ------
    AssertionError
        When not every learning network, and it alone, is minimized once, a loss reaches another network than
        its own, one that does not learn changes by a bit, a loss is not a finite number without a graph, or
        the state lacks a network or an optimizer.
    """
    step.enter(stage)
    learning = [name for name in step.networks if step.learns(name)]
    before = {name: _copy(network) for name, network in step.networks.items()}
    engine = _Engine(step)
    losses = step.step(engine, batch)
    _require(sorted(engine.minimized) == sorted(learning), f"{learning} learn, {engine.minimized} step")
    for name, network in step.networks.items():
        same = all(torch.equal(value, before[name][key]) for key, value in network.state_dict().items())
        _require(same != (name in learning), f"the {name} {'stays as it is' if same else 'changes'}")
    for name, loss in losses.items():
        detached = not isinstance(loss, Tensor) or not loss.requires_grad
        _require(detached and torch.tensor(float(loss)).isfinite(), f"the loss {name} is {loss}")
    state = step.state()
    _require(state["networks"].keys() == step.networks.keys(), "the state lacks a network")
    _require(state["optimizers"].keys() == step.optimizers.keys(), "the state lacks an optimizer")
    return {name: float(loss) for name, loss in losses.items()}


def _copy(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def _require(holds: Tensor | bool, reason: str) -> None:
    if not holds:
        raise AssertionError(reason)
