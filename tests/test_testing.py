"""Contracts over all methods and task networks, those that are found in the package."""

from __future__ import annotations

import pytest
import torch
from defined import defined_classes
from torch import Tensor, nn
from training_case import Batches, build_step

from medrestore import methods, testing
from medrestore.data.pairs import pair_schema
from medrestore.domains.base import Domain
from medrestore.evaluation.titles import FIDELITY, Metrics
from medrestore.kinds import own_kinds
from medrestore.methods.base import Stage, Step
from medrestore.methods.srgan import SRGAN
from medrestore.methods.supervised import Supervised
from medrestore.networks import tasks
from medrestore.networks.autoencoder import TextureAutoencoder
from medrestore.networks.discriminators import ImageDiscriminator
from medrestore.networks.segmenter import LesionSegmenter
from medrestore.networks.super_resolution import SRResNet
from medrestore.networks.tasks.amyloid import AmyloidClassifier
from medrestore.networks.tasks.contrast import ContrastClassifier
from medrestore.testing import check_domain, check_step, check_task_network


def random(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def adam(networks: dict[str, nn.Module]) -> dict[str, torch.optim.Optimizer]:
    return {name: torch.optim.Adam(network.parameters(), lr=0.01) for name, network in networks.items()}


def srgan() -> SRGAN:
    networks = {
        "generator": SRResNet(channels=4, blocks=1, norm="none"),
        "discriminator": ImageDiscriminator(3, channels=(4, 4)),
        "encoder": TextureAutoencoder(channels=(4, 4), blocks=0),
    }
    weights = dict.fromkeys(("adversarial_weight", "manifold_weight", "structure_weight"), 0.1)
    return SRGAN(networks=networks, optimizers=adam(networks), exponent=0.5, epsilon=1e-4, **weights)


def supervised() -> Supervised:
    networks = {"segmenter": LesionSegmenter(channels=(2, 4), residual_units=0)}
    return Supervised(networks=networks, optimizers=adam(networks), loss=nn.BCEWithLogitsLoss())


SLICES = next(iter(Batches()))
TILES = {"image": random(2, 3, 8, 8), "label": random(2, 3, 32, 32)}
MASKS = {"image": random(2, 1, 16, 16), "label": random(2, 1, 16, 16).round()}

STEPS = [
    (build_step, SLICES, ("task",)),
    (build_step, SLICES, ("generator",)),
    (build_step, SLICES, ("generator", "discriminator", "task")),
    (srgan, TILES, ("encoder",)),
    (srgan, TILES, ("generator",)),
    (srgan, TILES, ("generator", "discriminator")),
    (supervised, MASKS, ("segmenter",)),
]

TASKS = [
    (AmyloidClassifier(widen_factor=0.125), random(3, 1, 32, 32), torch.tensor([0.0, 1.0, 1.0])),
    (
        ContrastClassifier(classes=3, channels=(4, 8), strided_layers=2),
        random(3, 1, 32, 32),
        torch.tensor([0, 1, 2]),
    ),
]
SEGMENTER = (
    LesionSegmenter(channels=(2, 4), residual_units=0),
    random(3, 1, 16, 16),
    random(3, 1, 16, 16).round(),
)


@pytest.mark.parametrize(("build", "batch", "train"), STEPS)
def test_step_keeps_the_contract(build, batch, train):
    losses = check_step(build(), Stage("stage", 1, train), batch)
    assert losses


@pytest.mark.parametrize(("network", "images", "labels"), [*TASKS, SEGMENTER])
def test_task_network_keeps_the_contract(network, images, labels):
    check_task_network(network, images, labels)


@pytest.mark.parametrize("name", [point.name for point in own_kinds()])
def test_kind_of_image_keeps_the_contract(name):
    check_domain(name)


@pytest.mark.parametrize(
    ("domain", "reason"),
    [
        (Domain("us", Metrics(FIDELITY)), "it calls itself 'us'"),
        (Domain("ct", Metrics({**FIDELITY, "again": FIDELITY["psnr"]})), "two metrics have one title"),
        (Domain("ct", Metrics(FIDELITY, pairs=(("gan", "gan"),))), "a pair is one method twice"),
        (Domain("ct", Metrics(FIDELITY, baselines={"a": "A", "b": "A"})), "two methods have one name"),
        (
            Domain("ct", Metrics(FIDELITY), schema=pair_schema()),
            "columns of its manifests are those of another",
        ),
        (Domain("ct", Metrics(FIDELITY)), "nothing restores it"),
    ],
)
def test_what_a_kind_of_image_lacks_is_told(domain, reason, monkeypatch):
    monkeypatch.setattr(testing, "domain_called", lambda _: domain)
    with pytest.raises(AssertionError, match=reason):
        check_domain("ct")


def test_everything_in_the_package_has_a_case():
    assert set(defined_classes(methods, Step)) == {type(build()) for build, _, _ in STEPS}
    assert set(defined_classes(tasks, nn.Module)) == {type(network) for network, _, _ in TASKS}


def test_what_breaks_a_contract_is_told():
    class Unfrozen(Supervised):
        def step(self, engine, batch):
            other = self.networks["other"](batch["image"]).mean()
            engine.minimize("segmenter", self.networks["segmenter"](batch["image"]).mean() + other)
            return {}

    step = supervised()
    step.__class__ = Unfrozen
    step.networks["other"] = nn.Conv2d(1, 1, 1)
    step.enter = lambda stage: setattr(step, "stage", stage)
    with pytest.raises(AssertionError, match=r"the loss of the segmenter reaches \['other', 'segmenter'\]"):
        check_step(step, Stage("stage", 1, ("segmenter",)), MASKS)
    network, images, labels = TASKS[0]
    network.error = lambda x, y: 2 + (network.probability(x) - y).abs()
    with pytest.raises(AssertionError, match=r"its error lies outside of \[0, 1\]"):
        check_task_network(network, images, labels)
    del network.error
