"""SRGAN_SQE's step: the paper's terms, who learns from whom in which stage, and what stays as it was."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from skimage.metrics import structural_similarity
from step_case import Discriminator, Recorder, take_step
from torch import Tensor, nn

from medrestore.checks import InputError
from medrestore.methods.base import Stage
from medrestore.methods.srgan import SRGAN
from medrestore.networks.autoencoder import TextureAutoencoder
from medrestore.networks.vgg import VGG19Features
from medrestore.networks.weights import describe, save_file

AUTOENCODER = Stage("autoencoder", 1, ("encoder",))
WARM_UP = Stage("warm_up", 1, ("generator",))
JOINT = Stage("joint", 1, ("generator", "discriminator"))
EPSILON = 1e-3


class Generator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 3 * 16, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        return nn.functional.pixel_shuffle(self.convolution(image), 4)


class Encoder(TextureAutoencoder):
    """Keeps what it encodes, and whether gradients flowed."""

    def __init__(self) -> None:
        super().__init__(channels=(4, 6), blocks=1)
        self.seen: list[tuple[Tensor, bool]] = []

    def encode(self, x: Tensor) -> Tensor:
        encoding = super().encode(x)
        self.seen.append((x, encoding.requires_grad))
        return encoding


@pytest.fixture
def batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "image": torch.rand(2, 3, 4, 5, generator=generator),
        "label": torch.rand(2, 3, 16, 20, generator=generator),
    }


@pytest.fixture
def networks() -> Iterator[dict[str, Any]]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        yield {"generator": Generator(), "discriminator": Discriminator(3), "encoder": Encoder()}


def build(networks: dict[str, Any], **settings: Any) -> SRGAN:
    optimizers = {
        name: torch.optim.Adam(network.parameters())
        for name, network in networks.items()
        if list(network.parameters())
    }
    values = {
        "adversarial_weight": 0.3,
        "manifold_weight": 0.5,
        "structure_weight": 0.7,
        "exponent": 1.0,
        "epsilon": EPSILON,
        **settings,
    }
    return SRGAN(networks=networks, optimizers=optimizers, **values)


def quasi_norm(residual: Tensor, exponent: float) -> float:
    return ((residual**2 + EPSILON) ** (exponent / 2)).mean().item()


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_generator_minimizes_the_papers_terms(networks, batch, exponent):
    engine, losses = take_step(build(networks, fidelity_weight=2.0, exponent=exponent), JOINT, batch)
    x = batch["label"]
    with torch.no_grad():
        restored = networks["generator"](batch["image"])
        encodings = [networks["encoder"].encode(images) for images in (restored, x)]
        probability = torch.sigmoid(networks["discriminator"](restored).logits)
    expected = {
        "fidelity": quasi_norm(restored - x, exponent),
        "manifold": quasi_norm(encodings[0] - encodings[1], exponent),
        "structure": -sum(
            structural_similarity(
                restored[i, j].double().numpy(),
                x[i, j].double().numpy(),
                data_range=1.0,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
            )
            for i in range(2)
            for j in range(3)
        )
        / 6,
        "adversarial": -probability.log().mean().item(),
    }
    # Tolerance: float32 means of up to 2,000 terms in another order.
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value, rel=1e-5, abs=1e-6), name
    total = sum(
        weight * expected[name]
        for name, weight in {"fidelity": 2.0, "manifold": 0.5, "structure": 0.7, "adversarial": 0.3}.items()
    )
    assert engine.losses["generator"] == pytest.approx(total, rel=1e-5)
    assert losses["generator"].item() == engine.losses["generator"]


def test_each_loss_reaches_its_own_network_alone(networks, batch):
    engine, _ = take_step(build(networks), JOINT, batch)
    assert engine.touched == {"generator": {"generator"}, "discriminator": {"discriminator"}}


def test_every_term_reaches_the_generator(networks, batch):
    """The gradient of the sum differs when any one term is left out."""

    def gradient(**settings: float) -> Tensor:
        step = build(networks, **settings)
        step.enter(JOINT)
        found: list[Tensor] = []

        class Keeper(Recorder):
            def minimize(self, name: str, loss: Tensor) -> None:
                super().minimize(name, loss)
                if name == "generator":
                    found.append(networks["generator"].convolution.weight.grad.clone())

        step.step(Keeper(networks), batch)
        return found[0]

    whole = gradient()
    for name in ("fidelity_weight", "adversarial_weight", "manifold_weight", "structure_weight"):
        assert (gradient(**{name: 0.0}) - whole).abs().max() > 1e-5, name


def test_discriminator_sees_target_as_real_and_restored_as_fake(networks, batch):
    _, losses = take_step(build(networks), JOINT, batch)
    fake_for_generator, real, fake = networks["discriminator"].seen
    restored = networks["generator"](batch["image"]).detach()
    assert fake_for_generator.requires_grad
    assert real is batch["label"]
    assert not fake.requires_grad
    torch.testing.assert_close(fake, restored)
    probabilities = [
        torch.sigmoid(networks["discriminator"](images).logits) for images in (batch["label"], restored)
    ]
    expected = -probabilities[0].log().mean() - (1 - probabilities[1]).log().mean()
    assert losses["discriminator"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_nothing_is_done_twice(networks, batch):
    """D sees the target once; E encodes the target once, without a gradient, and the restored image once."""
    take_step(build(networks), JOINT, batch)
    assert sum(image is batch["label"] for image in networks["discriminator"].seen) == 1
    assert len(networks["discriminator"].seen) == 3
    assert [(image is batch["label"], gradient) for image, gradient in networks["encoder"].seen] == [
        (True, False),
        (False, True),
    ]


@pytest.mark.parametrize(
    ("stage", "settings", "learning", "terms"),
    [
        (AUTOENCODER, {}, {"encoder"}, {"reconstruction"}),
        (WARM_UP, {}, {"generator"}, {"fidelity", "generator"}),
        (
            JOINT,
            {},
            {"generator", "discriminator"},
            {"fidelity", "manifold", "structure", "adversarial", "generator", "discriminator"},
        ),
        (
            JOINT,
            {"structure_weight": 0.0},
            {"generator", "discriminator"},
            {"fidelity", "manifold", "adversarial", "generator", "discriminator"},
        ),
        (
            JOINT,
            {"manifold_weight": 0.0},
            {"generator", "discriminator"},
            {"fidelity", "structure", "adversarial", "generator", "discriminator"},
        ),
        (
            JOINT,
            {"adversarial_weight": 0.0},
            {"generator"},
            {"fidelity", "manifold", "structure", "generator"},
        ),
    ],
    ids=["autoencoder", "warm_up", "sqe", "qe", "no_manifold", "no_discriminator"],
)
def test_stages_and_variants(networks, batch, stage, settings, learning, terms):
    step = build(networks, **settings)
    step.enter(stage)
    before = {name: [p.clone() for p in network.parameters()] for name, network in networks.items()}
    engine = Recorder(networks, optimizers=step.optimizers)
    losses = step.step(engine, batch)
    assert set(losses) == terms
    assert not any(loss.requires_grad for loss in losses.values())
    assert set(engine.losses) == learning
    for name, network in networks.items():
        same = [torch.equal(p, q) for p, q in zip(network.parameters(), before[name], strict=True)]
        assert all(same) != (name in learning), name
        assert all(p.requires_grad == (name in learning) for p in network.parameters())
        assert network.training == (name in learning)
    if "discriminator" not in learning:
        assert networks["discriminator"].seen == []
    if "manifold" not in terms and "reconstruction" not in terms:
        assert networks["encoder"].seen == []


@pytest.mark.parametrize("exponent", [2.0, 0.5])
def test_autoencoder_learns_targets_alone(networks, batch, exponent):
    _, losses = take_step(
        build(networks, autoencoder_exponent=exponent), AUTOENCODER, {"label": batch["label"]}
    )
    residual = networks["encoder"](batch["label"]).detach() - batch["label"]
    expected = (residual**2).mean().item() if exponent == 2 else quasi_norm(residual, exponent)
    assert losses["reconstruction"].item() == pytest.approx(expected, rel=1e-5)


def test_vgg_takes_the_encoders_place(networks, batch):
    networks["encoder"] = VGG19Features(layer=4, seed=0)
    step = build(networks, exponent=2.0, epsilon=0.0, structure_weight=0.0)
    assert set(step.optimizers) == {"generator", "discriminator"}
    step.enter(JOINT)
    losses = step.step(Recorder(networks), batch)
    with torch.no_grad():
        restored = networks["generator"](batch["image"])
        difference = networks["encoder"].encode(restored) - networks["encoder"].encode(batch["label"])
    assert losses["manifold"].item() == pytest.approx((difference**2).mean().item(), rel=1e-5)
    with pytest.raises(InputError, match=r"trains \['encoder'\], which have no optimizer"):
        step.enter(AUTOENCODER)


def test_generator_steps_under_autocast(networks, batch):
    """Losses are float32, close to those of single precision."""
    step = build(networks)
    step.enter(JOINT)
    expected = step.step(Recorder(networks), batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = step.step(Recorder(networks), batch)
    for name, loss in losses.items():
        assert loss.dtype == torch.float32, name
        # bfloat16 has 8 bits: 2^-8 of values around 1, averaged.
        assert loss.item() == pytest.approx(expected[name].item(), abs=0.01), name


def test_encoder_starts_from_weights(networks, tmp_path):
    trained = TextureAutoencoder(channels=(4, 6), blocks=1, seed=9)
    save_file({"networks": {"encoder": describe(trained)}}, tmp_path / "model.pt")
    build(networks, encoder_weights=tmp_path / "model.pt")
    for name, value in trained.state_dict().items():
        assert torch.equal(networks["encoder"].state_dict()[name], value)
    save_file({"networks": {"encoder": describe(TextureAutoencoder(channels=(4, 8)))}}, tmp_path / "other.pt")
    with pytest.raises(InputError, match=r"other.pt: is the checkpoint of another encoder"):
        build(networks, encoder_weights=tmp_path / "other.pt")
    del networks["encoder"]
    with pytest.raises(InputError, match="encoder_weights are given, but networks hold no encoder"):
        build(networks, manifold_weight=0.0, encoder_weights=tmp_path / "model.pt")


def test_only_needed_networks_are_asked_for(networks, batch):
    alone = {"generator": networks["generator"]}
    step = build(alone, adversarial_weight=0.0, manifold_weight=0.0)
    step.enter(WARM_UP)
    assert set(step.step(Recorder(networks), batch)) == {"fidelity", "generator"}
    with pytest.raises(InputError, match=r"networks must hold discriminator, encoder, got \['generator'\]"):
        build(alone)


def test_stages_that_make_no_sense(networks):
    step = build(networks)
    with pytest.raises(InputError, match="stage 'all' trains the encoder beside the generator"):
        step.enter(Stage("all", 1, ("encoder", "generator", "discriminator")))
    with pytest.raises(InputError, match="stage 'd' trains the discriminator without the generator"):
        step.enter(Stage("d", 1, ("discriminator",)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fidelity_weight": -1.0}, "fidelity_weight must be in"),
        ({"adversarial_weight": float("inf")}, "adversarial_weight must be in"),
        ({"manifold_weight": -1.0}, "manifold_weight must be in"),
        ({"structure_weight": float("nan")}, "structure_weight must be in"),
        ({"exponent": 3.0}, r"exponent must be in \(0, 2\], got 3.0"),
        ({"autoencoder_exponent": 0.0}, r"autoencoder_exponent must be in \(0, 2\], got 0.0"),
        ({"epsilon": -1.0}, "epsilon must be in"),
        ({"epsilon": 0.0}, "epsilon must be positive for an exponent below 2, got 0"),
        ({"criterion": "kl"}, "criterion must be one of 'bce', 'least_squares', 'hinge', got 'kl'"),
    ],
)
def test_settings_out_of_range(networks, settings, message):
    with pytest.raises(InputError, match=message):
        build(networks, **settings)
