"""Task-GAN's step: equation 4, who learns from whom, and what stays as it was."""

from collections.abc import Iterator

import pytest
import torch
from step_case import Discriminator, take_step
from torch import Tensor, nn

from medrestore.checks import InputError
from medrestore.losses.task import contrast_loss
from medrestore.methods.base import Stage
from medrestore.methods.taskgan import TaskGAN

JOINT = Stage("joint", 1, ("generator", "discriminator", "task"))
PRETRAIN = Stage("pretrain", 1, ("task",))


class Generator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 1, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        return self.convolution(image)


class Task(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(1, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.out(image.mean((2, 3))).flatten()


@pytest.fixture
def batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "image": torch.rand(4, 3, 8, 8, generator=generator),
        "label": torch.rand(4, 1, 8, 8, generator=generator),
        "amyloid_status": torch.tensor([0.0, 1.0, 1.0, 0.0]),
    }


@pytest.fixture
def networks() -> Iterator[dict[str, nn.Module]]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        yield {"generator": Generator(), "discriminator": Discriminator(1), "task": Task()}


def build(networks: dict[str, nn.Module], **settings: object) -> TaskGAN:
    optimizers = {name: torch.optim.Adam(network.parameters()) for name, network in networks.items()}
    values = {"adversarial_weight": 0.3, "task_weight": 0.7, "label_column": "amyloid_status", **settings}
    return TaskGAN(networks=networks, optimizers=optimizers, **values)


def test_generator_minimizes_equation_4(networks, batch):
    engine, losses = take_step(build(networks), JOINT, batch)
    x, y = batch["label"], batch["amyloid_status"]
    restored = networks["generator"](batch["image"])
    pixel = (restored - x).abs().mean()
    difference = networks["discriminator"](x).features[0].mean(0) - networks["discriminator"](
        restored
    ).features[0].mean(0)
    matching = difference.norm() / difference.numel() ** 0.5
    task = ((torch.sigmoid(networks["task"](restored)) - y) ** 2).mean()
    # Tolerance: float32 sums of up to 1,024 terms in another order.
    torch.testing.assert_close(losses["pixel"], pixel.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(losses["feature_matching"], matching.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(losses["task_restored"], task.detach(), rtol=1e-5, atol=1e-6)
    assert engine.losses["generator"] == pytest.approx((pixel + 0.3 * matching + 0.7 * task).item(), rel=1e-5)


def test_each_loss_reaches_its_own_network_alone(networks, batch):
    engine, _ = take_step(build(networks), JOINT, batch)
    assert engine.touched == {
        "generator": {"generator"},
        "discriminator": {"discriminator"},
        "task": {"task"},
    }


def test_discriminator_sees_target_as_real_and_restored_as_fake(networks, batch):
    _, losses = take_step(build(networks), JOINT, batch)
    real, fake_for_generator, fake = networks["discriminator"].seen
    restored = networks["generator"](batch["image"]).detach()
    assert torch.equal(real, batch["label"])
    assert fake_for_generator.requires_grad
    assert not fake.requires_grad
    torch.testing.assert_close(fake, restored)
    bce = nn.functional.binary_cross_entropy_with_logits
    on_real, on_fake = (
        networks["discriminator"](batch["label"]).logits,
        networks["discriminator"](restored).logits,
    )
    expected = bce(on_real, torch.ones_like(on_real)) + bce(on_fake, torch.zeros_like(on_fake))
    assert losses["discriminator"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_discriminator_features_of_the_target_are_computed_once(networks, batch):
    take_step(build(networks), JOINT, batch)
    assert sum(torch.equal(image, batch["label"]) for image in networks["discriminator"].seen) == 1


@pytest.mark.parametrize(
    ("settings", "learning", "terms"),
    [
        ({"adversarial_weight": 0.0, "task_weight": 0.0}, {"generator"}, {"pixel", "generator"}),
        (
            {"adversarial_weight": 0.0},
            {"generator", "task"},
            {"pixel", "task_restored", "generator", "task_target", "task_joint"},
        ),
        (
            {"task_weight": 0.0},
            {"generator", "discriminator"},
            {"pixel", "feature_matching", "generator", "discriminator"},
        ),
        (
            {"task_update": "real_only"},
            {"generator", "discriminator", "task"},
            {"pixel", "feature_matching", "task_restored", "generator", "discriminator", "task_target"},
        ),
    ],
    ids=["l1", "l1_task", "gan", "real_only"],
)
def test_variants(networks, batch, settings, learning, terms):
    engine, losses = take_step(build(networks, **settings), JOINT, batch)
    assert set(engine.losses) == learning
    assert set(losses) == terms
    for name, network in networks.items():
        assert all(p.requires_grad == (name in learning) for p in network.parameters())


def test_task_loss_of_ones_own_takes_the_place_of_the_regression(networks, batch):
    """A classifier of three contrasts, patch by patch: eq. 3 by cross-entropy."""
    networks["task"] = nn.Conv2d(1, 3, 3)
    contrast = torch.tensor([0, 2, 1, 0])
    engine, losses = take_step(
        build(networks, task_loss=contrast_loss, label_column="contrast"),
        JOINT,
        {**batch, "contrast": contrast},
    )
    with torch.no_grad():
        restored = networks["generator"](batch["image"])
        expected = {}
        for name, images in (("task_target", batch["label"]), ("task_restored", restored)):
            probability = torch.softmax(networks["task"](images), 1)
            of_truth = torch.stack([probability[index, label] for index, label in enumerate(contrast)])
            expected[name] = -of_truth.log().mean()
    # Tolerance: float32 means of 144 logarithms in another order.
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(losses["task_joint"], losses["task_restored"])
    assert engine.touched == {name: {name} for name in ("generator", "discriminator", "task")}


def test_joint_update_teaches_task_both_terms_of_equation_3(networks, batch):
    y = batch["amyloid_status"]
    engine, _ = take_step(build(networks), JOINT, batch)
    with torch.no_grad():
        restored = networks["generator"](batch["image"])
        on_target = ((torch.sigmoid(networks["task"](batch["label"])) - y) ** 2).mean()
        on_restored = ((torch.sigmoid(networks["task"](restored)) - y) ** 2).mean()
    assert engine.losses["task"] == pytest.approx((on_target + on_restored).item(), rel=1e-5)


def test_pretraining_touches_the_task_network_alone(networks, batch):
    engine, losses = take_step(build(networks), PRETRAIN, batch)
    assert set(losses) == {"task_target"}
    assert engine.touched == {"task": {"task"}}
    assert networks["discriminator"].seen == []


def test_settings_out_of_range(networks):
    with pytest.raises(InputError, match="adversarial_weight must be in"):
        build(networks, adversarial_weight=-1.0)
    with pytest.raises(
        InputError, match=r"must be one of 'joint', 'real_only', got 'never'.*leave task out of the stage"
    ):
        build(networks, task_update="never")
