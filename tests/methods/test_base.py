"""Stages and steps."""

import math

import pytest
import torch
from torch import nn

from medrestore.checks import InputError
from medrestore.methods.base import Stage, Step, frozen, make_stages


class _Idle(Step):
    method = "idle"

    def step(self, engine, batch):
        return {}


def _step() -> _Idle:
    networks = {"generator": nn.Linear(2, 2), "task": nn.Sequential(nn.Linear(2, 1), nn.Dropout())}
    return _Idle(
        networks=networks,
        optimizers={
            name: torch.optim.SGD(network.parameters(), lr=1.0) for name, network in networks.items()
        },
    )


def test_cosine_schedule():
    stage = Stage("joint", 4, ("generator",))
    assert stage.learning_rate_factor(0.0) == 1.0
    # Tolerance: the factor is rounded to 12 digits so that it is the same on every platform.
    assert stage.learning_rate_factor(0.25) == pytest.approx((1 + math.sqrt(0.5)) / 2, abs=1e-12)
    assert Stage("joint", 4, ("generator",), "constant").learning_rate_factor(0.9) == 1.0


def test_batches_are_mixed_unless_the_stage_says_otherwise():
    stages = make_stages(
        [
            {"name": "contrasts", "epochs": 6, "train": ["generator"], "batches": "one_class"},
            {"name": "mixed", "epochs": 1, "train": ["generator"]},
        ]
    )
    assert [stage.batches for stage in stages] == ["one_class", "mixed"]


def test_faulty_stages_are_refused_by_name():
    with pytest.raises(InputError, match="stage has no key 'epoch'; did you mean 'epochs'"):
        make_stages([{"name": "a", "epoch": 1, "train": ["task"]}])
    with pytest.raises(InputError, match=r"epochs of stage 'a' must be in"):
        make_stages([{"name": "a", "epochs": 0, "train": ["task"]}])
    with pytest.raises(InputError, match="schedule of stage 'a' must be one of"):
        make_stages([{"name": "a", "epochs": 1, "train": ["task"], "schedule": "linear"}])
    with pytest.raises(InputError, match="batches of stage 'a' must be one of 'mixed', 'one_class'"):
        make_stages([{"name": "a", "epochs": 1, "train": ["task"], "batches": "one"}])
    with pytest.raises(InputError, match="trains no network"):
        make_stages([{"name": "a", "epochs": 1, "train": []}])
    with pytest.raises(InputError, match=r"must have the keys name, epochs and train, got \{'name': 'a'\}"):
        make_stages([{"name": "a"}])
    with pytest.raises(InputError, match="must have the keys name, epochs and train, got 'a'"):
        make_stages(["a"])  # type: ignore[list-item]
    with pytest.raises(InputError, match="at least one stage"):
        make_stages([])
    with pytest.raises(InputError, match="names of their own"):
        make_stages([{"name": "a", "epochs": 1, "train": ["task"]}] * 2)


def test_entering_a_stage_sets_modes_and_gradients():
    step = _step()
    with pytest.raises(InputError, match="entered no stage"):
        step.learns("task")
    step.enter(Stage("pretrain", 1, ("task",)))
    assert step.learns("task") and not step.learns("generator")
    assert step.networks["task"].training and not step.networks["generator"].training
    assert all(p.requires_grad for p in step.networks["task"].parameters())
    assert not any(p.requires_grad for p in step.networks["generator"].parameters())


def test_stage_without_optimizer_is_refused():
    with pytest.raises(InputError, match=r"trains \['critic'\], which have no optimizer"):
        _step().enter(Stage("joint", 1, ("critic",)))
    with pytest.raises(InputError, match="have no network"):
        _Idle(networks={}, optimizers={"task": torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)})


def test_frozen_lets_gradients_through_to_the_input_only():
    network = nn.Linear(3, 1)
    x = torch.ones(1, 3, requires_grad=True)
    with frozen(network):
        y = network(x)
    y.sum().backward()
    assert network.weight.grad is None
    assert torch.equal(x.grad, network.weight.detach())
    assert all(p.requires_grad for p in network.parameters())


PRETRAINING = {"name": "pretrain", "epochs": 2, "train": ["task"]}
JOINT = {"name": "joint", "epochs": 3, "train": ["generator", "task"]}


@pytest.mark.parametrize(
    ("given", "names", "epochs"), [((), ["pretrain", "joint"], 5), (("task",), ["joint"], 3)]
)
def test_stage_that_trains_only_networks_with_weights_falls_away(given, names, epochs):
    step = _step()
    step.given = frozenset(given)
    assert [stage.name for stage in step.left([PRETRAINING, JOINT])] == names
    assert step.epochs([PRETRAINING, JOINT]) == epochs


def test_training_of_nothing_but_networks_with_weights_is_refused():
    step = _step()
    step.given = frozenset({"task"})
    with pytest.raises(
        InputError, match=r"nothing to train: task comes with weights.*leave out these weights"
    ):
        step.left([PRETRAINING])
