"""Task-GAN's step: equation 4, who learns from whom, and what stays as it was."""

from collections.abc import Iterator

import pytest
import torch
from step_case import Discriminator, take_step
from torch import Tensor, nn

from medrestore.checks import InputError
from medrestore.losses.task import contrast_loss, lesion_loss, task_regression_loss
from medrestore.methods.base import Stage, Task
from medrestore.methods.taskgan import TaskGAN
from medrestore.networks.segmenter import LesionSegmenter
from medrestore.testing import check_step

JOINT = Stage("joint", 1, ("generator", "discriminator", "task"))
PRETRAIN = Stage("pretrain", 1, ("task",))


class Generator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 1, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        return self.convolution(image)


class Classifier(nn.Module):
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
        yield {"generator": Generator(), "discriminator": Discriminator(1), "task": Classifier()}


def build(networks: dict[str, nn.Module], **settings: object) -> TaskGAN:
    optimizers = {name: torch.optim.Adam(network.parameters()) for name, network in networks.items()}
    own = {name: settings.pop(name) for name in {"weight", "update", "loss", "label_column"} & set(settings)}
    task = {"weight": 0.7, "label_column": "amyloid_status", "loss": task_regression_loss, **own}
    values = {"adversarial_weight": 0.3, "tasks": {"task": Task(**task)}, **settings}
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
        ({"adversarial_weight": 0.0, "weight": 0.0}, {"generator"}, {"pixel", "generator"}),
        (
            {"adversarial_weight": 0.0},
            {"generator", "task"},
            {"pixel", "task_restored", "generator", "task_target", "task_joint"},
        ),
        (
            {"weight": 0.0},
            {"generator", "discriminator"},
            {"pixel", "feature_matching", "generator", "discriminator"},
        ),
        (
            {"update": "real_only"},
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
        build(networks, loss=contrast_loss, label_column="contrast"),
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
        build(networks, update="never")


# ---------------------------------------------------------------------------- several task networks
@pytest.fixture
def marked(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Lesion masks, known of the second and the last image."""
    masks = (torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(5)) > 0.8).float()
    known = torch.tensor([False, True, False, True])
    return {**batch, "lesions": masks, "lesions_known": known}


def with_lesions(networks: dict[str, nn.Module], *, weight: float, network: nn.Module) -> TaskGAN:
    networks["lesion"] = network
    tasks = {
        "task": Task(weight=0.7, label_column="amyloid_status", loss=task_regression_loss),
        "lesion": Task(weight=weight, label_column="lesions", loss=lesion_loss),
    }
    return build(networks, tasks=tasks)


def segmenter() -> nn.Module:
    return LesionSegmenter(channels=(2, 4), residual_units=0, seed=3)


def test_a_second_task_asks_the_images_that_have_an_answer_alone(networks, marked):
    step = with_lesions(networks, weight=0.1, network=segmenter())
    restored = networks["generator"](marked["image"]).detach()
    engine, losses = take_step(step, JOINT, marked)
    with torch.no_grad():
        expected = lesion_loss(networks["lesion"].eval()(restored[[1, 3]]), marked["lesions"][[1, 3]])
        terms = losses["pixel"] + 0.3 * losses["feature_matching"] + 0.7 * losses["task_restored"]
    # Tolerance: float32 sums of some hundred terms in another order.
    torch.testing.assert_close(losses["lesion_restored"], expected, rtol=1e-5, atol=1e-6)
    assert engine.losses["generator"] == pytest.approx((terms + 0.1 * expected).item(), rel=1e-5)


def test_only_images_with_an_answer_get_a_gradient_of_the_second_task(networks, marked):
    step = with_lesions(networks, weight=0.1, network=segmenter())
    image = marked["image"].clone().requires_grad_()
    step.adversarial_weight = 0.0
    step.tasks.pop("task")
    restored = networks["generator"](image)
    marked["label"] = restored.detach() - 1  # the sign of L1 is then one, and its gradient even
    take_step(step, Stage("joint", 1, ("generator",)), {**marked, "image": image})
    (plain,) = torch.autograd.grad((restored - marked["label"]).abs().mean(), image)
    pairs = zip(image.grad, plain, strict=True)
    same = [torch.allclose(own, other, rtol=1e-5, atol=1e-9) for own, other in pairs]
    assert same == [True, False, True, False]


def test_without_any_answer_the_second_task_has_no_say(networks, marked):
    step = with_lesions(networks, weight=0.1, network=segmenter())
    nobody = {**marked, "lesions_known": torch.zeros(4, dtype=torch.bool)}
    engine, losses = take_step(step, JOINT, nobody)
    assert losses["lesion_restored"] == 0
    terms = losses["pixel"] + 0.3 * losses["feature_matching"] + 0.7 * losses["task_restored"]
    assert engine.losses["generator"] == pytest.approx(terms.item(), rel=1e-6)


def after_a_step(batch: dict[str, Tensor], *, weight: float | None) -> dict[str, dict[str, Tensor]]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        own = {"generator": Generator(), "discriminator": Discriminator(1), "task": Classifier()}
    step = build(own) if weight is None else with_lesions(own, weight=weight, network=segmenter())
    check_step(step, JOINT, batch)
    return {name: network.state_dict() for name, network in own.items()}


def test_a_task_of_weight_0_changes_nothing_and_a_frozen_one_is_not_changed(marked):
    alone, beside, counted = (after_a_step(marked, weight=weight) for weight in (None, 0.0, 10.0))
    for name, state in alone.items():
        assert all(torch.equal(value, beside[name][key]) for key, value in state.items())
    assert not torch.equal(
        alone["generator"]["convolution.weight"], counted["generator"]["convolution.weight"]
    )
    fresh = segmenter().state_dict()
    assert all(torch.equal(value, counted["lesion"][key]) for key, value in fresh.items())


def test_a_second_task_learns_from_the_images_that_have_an_answer(networks, marked):
    step = with_lesions(networks, weight=0.1, network=nn.Conv2d(1, 1, 3, padding=1))
    everyone = Stage("joint", 1, ("generator", "discriminator", "task", "lesion"))
    with torch.no_grad():
        expected = lesion_loss(networks["lesion"](marked["label"][[1, 3]]), marked["lesions"][[1, 3]])
    engine, losses = take_step(step, everyone, marked)
    torch.testing.assert_close(losses["lesion_target"], expected)
    assert engine.touched["lesion"] == {"lesion"}
    nobody = {**marked, "lesions_known": torch.zeros(4, dtype=torch.bool)}
    engine, losses = take_step(step, everyone, nobody)
    assert losses["lesion_target"] == losses["lesion_joint"] == 0
    assert engine.losses["lesion"] == 0  # it steps all the same: processes step together


def test_a_task_that_comes_trained_has_weights(networks):
    task = {"label_column": "amyloid_status", "loss": task_regression_loss, "comes_trained": True}
    with pytest.raises(InputError, match=r"task judges G with weight 0\.7, and nothing.*give task_weights"):
        build(networks, tasks={"task": Task(weight=0.7, **task)})
    build(networks, tasks={"task": Task(weight=0.0, **task)})


def test_a_task_without_a_network_is_refused(networks):
    task = Task(weight=0.1, label_column="lesions", loss=lesion_loss)
    with pytest.raises(InputError, match="task 'lesion' has no network"):
        build(networks, tasks={"lesion": task})
