"""Adversarial criteria and feature matching, on one process and on two."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from medrestore.checks import InputError
from medrestore.losses.adversarial import (
    CRITERIA,
    discriminator_loss,
    feature_matching_loss,
    generator_adversarial_loss,
)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_bce_equals_torchs_binary_cross_entropy():
    real, fake = 3 * normal(5, 1), 3 * normal(5, 1, seed=1)
    expected = functional.binary_cross_entropy(torch.sigmoid(real), torch.ones(5, 1))
    expected += functional.binary_cross_entropy(torch.sigmoid(fake), torch.zeros(5, 1))
    # log(sigmoid) in float32 loses about 1e-6 against softplus.
    torch.testing.assert_close(discriminator_loss(real, fake, criterion="bce"), expected, rtol=1e-5, atol=0)
    as_real = functional.binary_cross_entropy(torch.sigmoid(fake), torch.ones(5, 1))
    torch.testing.assert_close(generator_adversarial_loss(fake, criterion="bce"), as_real, rtol=1e-5, atol=0)


def test_least_squares_and_hinge_by_hand():
    real, fake = torch.tensor([[2.0], [0.5]]), torch.tensor([[-3.0], [1.0]])
    assert discriminator_loss(real, fake, criterion="least_squares").item() == (1 + 0.25) / 2 + (9 + 1) / 2
    assert discriminator_loss(real, fake, criterion="hinge").item() == (0 + 0.5) / 2 + (0 + 2) / 2
    assert generator_adversarial_loss(fake, criterion="least_squares").item() == (16 + 0) / 2
    assert generator_adversarial_loss(fake, criterion="hinge").item() == 1.0


@pytest.mark.parametrize("criterion", CRITERIA)
def test_descent_makes_targets_real_and_restorations_fake(criterion):
    real, fake = torch.zeros(2, 1, requires_grad=True), torch.full((2, 1), 0.1, requires_grad=True)
    discriminator_loss(real, fake, criterion=criterion).backward()
    assert (real.grad < 0).all()
    assert (fake.grad > 0).all()
    fake.grad = None
    generator_adversarial_loss(fake, criterion=criterion).backward()
    assert (fake.grad < 0).all()


def test_generator_learns_where_it_is_found_out():
    # The saturating form log(1 - sigmoid(s)) has gradient e^-30 here; the non-saturating one has -1.
    fake = torch.full((1, 1), -30.0, requires_grad=True)
    generator_adversarial_loss(fake, criterion="bce").backward()
    assert fake.grad.item() == pytest.approx(-1)


def test_large_logits_stay_finite():
    assert discriminator_loss(torch.tensor([[-500.0]]), torch.tensor([[500.0]])).item() == 1000.0


def test_unknown_criterion_is_refused():
    with pytest.raises(
        InputError, match="criterion must be one of 'bce', 'least_squares', 'hinge', got 'wgan'"
    ):
        discriminator_loss(torch.zeros(1, 1), torch.zeros(1, 1), criterion="wgan")
    with pytest.raises(InputError, match="criterion must be one of"):
        generator_adversarial_loss(torch.zeros(1, 1), criterion="")


SHAPES = [(3, 8, 8), (5, 4, 4), (6, 2, 2)]


def layers(batch: int, seed: int) -> list[torch.Tensor]:
    return [normal(batch, *shape, seed=seed + index) for index, shape in enumerate(SHAPES)]


def slow_feature_matching(real: list[torch.Tensor], fake: list[torch.Tensor], chosen: list[int]) -> float:
    total = 0.0
    for index in chosen:
        squares, count = 0.0, 0
        for position in np.ndindex(*real[index].shape[1:]):
            a = np.mean([float(sample[position]) for sample in real[index]])
            b = np.mean([float(sample[position]) for sample in fake[index]])
            squares, count = squares + (a - b) ** 2, count + 1
        total += (squares / count) ** 0.5
    return total / len(chosen)


@pytest.mark.parametrize("chosen", [None, [1], [0, -1]])
def test_feature_matching_equals_a_slow_loop(chosen):
    real, fake = layers(4, seed=0), layers(4, seed=10)
    expected = slow_feature_matching(real, fake, chosen or [0, 1, 2])
    # float32 sums of a few hundred numbers.
    assert feature_matching_loss(real, fake, layers=chosen).item() == pytest.approx(expected, rel=1e-5)


def test_batches_need_not_be_equally_large():
    real, fake = layers(4, seed=0), layers(2, seed=10)
    assert feature_matching_loss(real, fake).item() == pytest.approx(
        slow_feature_matching(real, fake, [0, 1, 2]), rel=1e-5
    )


def test_width_and_size_do_not_scale_the_loss():
    real, fake = normal(4, 3, 8, 8), normal(4, 3, 8, 8, seed=1)
    narrow = feature_matching_loss([real], [fake])
    wide = feature_matching_loss([real.repeat(1, 2, 3, 3)], [fake.repeat(1, 2, 3, 3)])
    torch.testing.assert_close(narrow, wide, rtol=1e-5, atol=0)  # order of float32 sums


def test_no_gradient_flows_into_the_real_branch():
    real, fake = normal(2, 3, 4, 4).requires_grad_(), normal(2, 3, 4, 4, seed=1).requires_grad_()
    feature_matching_loss([real], [fake]).backward()
    assert real.grad is None
    assert fake.grad.abs().sum() > 0


def test_equal_means_give_a_zero_gradient_and_no_nan():
    real = normal(2, 3, 4, 4)
    fake = real.flip(0).requires_grad_()  # other images, the same mean
    loss = feature_matching_loss([real], [fake])
    loss.backward()
    assert loss.item() == 0
    assert not fake.grad.any()


def test_means_of_bf16_activations_are_taken_in_single():
    # Mean 1 + 2^-10 is no bfloat16 number: rounded to it, the difference would vanish.
    ones = torch.ones(8, 1, 1, 1, dtype=torch.bfloat16)
    above = ones.clone()
    above[0] = 1 + 2**-7
    for real, fake in ((ones, above), (above, ones)):
        loss = feature_matching_loss([real], [fake])
        assert loss.dtype == torch.float32
        assert loss.item() == 2**-10


@pytest.mark.parametrize("chosen", [[], [3], [-4]])
def test_layer_that_is_not_there_is_refused(chosen):
    with pytest.raises(InputError, match="layers must name at least one of the 3 layers"):
        feature_matching_loss(layers(1, 0), layers(1, 1), layers=chosen)


def test_features_that_do_not_match_are_refused():
    with pytest.raises(InputError, match="equally many layers, got 3 and 2"):
        feature_matching_loss(layers(1, 0), layers(1, 1)[:2])
    with pytest.raises(InputError, match=r"real \(3, 8, 8\), fake \(1, 8, 8\)"):
        feature_matching_loss([normal(2, 3, 8, 8)], [normal(2, 1, 8, 8)])


def generator_gradients(rank: int = 0, world_size: int = 1) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """One feature-matching step of a small generator on its share of a batch of four."""
    generator = nn.Conv2d(1, 1, 3, padding=1)
    discriminator = nn.ModuleList([nn.Conv2d(1, 4, 4, 2, 1), nn.Conv2d(4, 8, 4, 2, 1)])
    with torch.no_grad():
        for index, parameter in enumerate([*generator.parameters(), *discriminator.parameters()]):
            parameter.copy_(0.3 * normal(*parameter.shape, seed=100 + index))
    if world_size > 1:
        generator = nn.parallel.DistributedDataParallel(generator)

    def features(x: torch.Tensor) -> list[torch.Tensor]:
        seen = []
        for layer in discriminator:
            x = functional.leaky_relu(layer(x), 0.2)
            seen.append(x)
        return seen

    target, degraded = (normal(4, 1, 16, 16, seed=seed)[rank::world_size] for seed in (1, 2))
    loss = feature_matching_loss(features(target), features(generator(degraded)))
    loss.backward()
    return loss.detach(), [parameter.grad for parameter in generator.parameters()]


def work(rank: int, world_size: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world_size
    )
    torch.save(generator_gradients(rank, world_size), f"{folder}/rank{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_equal_one_with_the_joint_batch(tmp_path):
    torch.multiprocessing.spawn(work, args=(2, str(tmp_path)), nprocs=2)
    loss, gradients = generator_gradients()
    for rank in range(2):
        rank_loss, rank_gradients = torch.load(tmp_path / f"rank{rank}.pt", weights_only=True)
        # Means of four and of twice two numbers differ by float32 rounding.
        torch.testing.assert_close(rank_loss, loss, rtol=1e-5, atol=0)
        torch.testing.assert_close(rank_gradients, gradients, rtol=1e-4, atol=1e-7)


def test_group_of_one_process_changes_nothing(tmp_path):
    expected = generator_gradients()
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1
    )
    try:
        loss, gradients = generator_gradients()
    finally:
        torch.distributed.destroy_process_group()
    assert torch.equal(loss, expected[0])
    assert all(torch.equal(a, b) for a, b in zip(gradients, expected[1], strict=True))
