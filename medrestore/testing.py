"""Contracts of what one may add, as functions that a test of one's own calls."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from medrestore.domains.base import Domain, domain_called, domain_of_table, metrics_of
from medrestore.evaluation.record import load_evaluation
from medrestore.evaluation.rendering import render
from medrestore.evaluation.tables import difference_table, summary_table
from medrestore.evaluation.titles import Metrics
from medrestore.inference.restorer import kind_of_weights, load_restorer, restorers_of
from medrestore.kinds import kinds
from medrestore.methods.base import Stage, Step
from medrestore.operators.base import Degradation, LinearDegradation

__all__ = ["check_degradation", "check_domain", "check_step", "check_task_network"]


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
    labels : (B, ...)
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


def check_domain(
    name: str,
    *,
    manifest: str | os.PathLike[str] | None = None,
    weights: str | os.PathLike[str] | None = None,
    evaluation: str | os.PathLike[str] | None = None,
) -> None:
    """Check what commands, tables and studies take for granted of a kind of image.

    Parameters
    ----------
    name
        Of its folder, or of its entry point.
    manifest
        Of some of its images, without a fault; splits may be empty.
    weights
        ``model.pt`` of a training on them.
    evaluation
        Folder of an evaluation of it.

    Raises
    ------
    AssertionError
        When it calls itself otherwise; a metric has no title, the title of another or no digits, or tables
        leave one out; baselines share a name, or a pair is one method twice; a table with the columns of its
        manifests is taken for that of another; nothing restores it. Of a manifest: when it is not known as
        one of this kind, has faults, or reads otherwise once it is written again. Of weights: when they are
        not known as those of this kind, or build no restorer. Of an evaluation: when it names another kind,
        lacks tables, notes or figure, or is not read back as it was written.
    """
    domain = domain_called(name)
    _require(domain.name == name, f"it calls itself {domain.name!r}, and is found as {name!r}")
    _check_metrics(domain.metrics)
    _check_schema(domain, manifest)
    restorers = [restorers_of(point) for point in kinds() if point.name == name]
    _require(any(restorers), "nothing restores it: no class of its module restoration restores files")
    if weights is not None:
        _require(kind_of_weights(weights) == name, "its weights name a restorer of another kind of image")
        _require(bool(load_restorer(weights).training.method), "its weights name no method")
    if evaluation is not None:
        _check_evaluation(domain, Path(evaluation))


def _check_metrics(metrics: Metrics) -> None:
    titles = metrics.titles
    said = [title.title for title in titles.values()]
    _require(all(said), "a metric has no title")
    _require(len(set(said)) == len(said), "two metrics have one title")
    _require(all(title.digits >= 0 for title in titles.values()), "a metric has fewer than no digits")
    _require(metrics.in_order([*titles][::-1]) == list(titles), "its metrics are not in their order")
    labels = metrics.baselines.values()
    _require(len(set(labels)) == len(labels), "two methods have one name")
    _require(all(first != second for first, second in metrics.pairs), "a pair is one method twice")
    values = {"label": 1.0, **dict.fromkeys(titles, 1.0), **dict.fromkeys(metrics.text_columns, "a")}
    values |= dict.fromkeys((f"{name}_bound" for name in metrics.bounded), "")
    images = [{**values, "subject_id": subject} for subject in ("a", "b")]
    table = pd.DataFrame([{**image, "method": name} for image in images for name in ("first", "second")])
    summary = summary_table(table, metrics=metrics, seed=0)
    differences = difference_table(table, metrics=metrics, pairs=[("first", "second")], seed=0)
    text = render(summary, differences, metrics)
    lacking = [title.title for title in titles.values() if title.shown and title.title not in text]
    _require(not lacking, f"tables do not show {', '.join(lacking)}")


def _check_schema(domain: Domain, manifest: str | os.PathLike[str] | None) -> None:
    schema = domain.schema_for(pd.DataFrame())
    with TemporaryDirectory() as folder:
        if schema is not None:
            header = Path(folder, "header.csv")
            pd.DataFrame(columns=schema.required).to_csv(header, index=False)
            _require(domain_of_table(header) is domain, "columns of its manifests are those of another kind")
        if manifest is not None:
            _require(domain_of_table(manifest) is domain, "its manifest is taken for one of another kind")
            schema = domain.schema_of(manifest)
            problems = schema.check(manifest, require_splits=())
            _require(not problems, f"its manifest has faults: {', '.join(map(str, problems))}")
            table = schema.read(manifest)
            again = schema.read(schema.write(table, Path(folder, "manifest.csv")))
            cells = [column.name for column in schema.columns if column.name in table]
            _require(
                table[cells].equals(again[cells]), "its manifest reads otherwise once it is written again"
            )


def _check_evaluation(domain: Domain, folder: Path) -> None:
    found = load_evaluation(folder, metrics_of=metrics_of)
    _require(found.record.get("domain") == domain.name, "its evaluation names another kind of image")
    tables, _, notes = (folder / "tables.md").read_text(encoding="utf-8").partition("\n- ")
    _require(tables.strip() == found.markdown.strip(), "its tables are not read back as they were written")
    _require(bool(notes), "nothing stands below its tables")
    _require((folder / "figure.png").read_bytes().startswith(b"\x89PNG"), "its figure is no PNG")


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
