"""The blend generator: convex without a residual, the image itself where its logit is largest, exportable."""

import pytest
import torch
from torch import nn

from medrestore.networks.blend import BlendGenerator
from medrestore.networks.unet import UNetGenerator

BASE = {"network": "unet.UNetGenerator", "channels": [4, 8], "dropout_levels": 1}


def blend_of(found: torch.Tensor, *, residual_scale: float = 0.0) -> BlendGenerator:
    """Return a generator of three candidates whose base network says ``found``, whatever it sees."""

    class Said(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return found.expand(len(x), -1, *x.shape[2:])

    generator = BlendGenerator(6, candidates=[2, 4, 5], base=BASE)
    generator.base = Said()
    nn.init.constant_(generator.residual_scale, residual_scale)
    return generator


def images(seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 6, 8, 4, generator=torch.Generator().manual_seed(seed))


def test_weights_are_those_of_the_softmax_worked_out_by_hand():
    # exp(4 l) of l = 0, log(2) / 4, log(5) / 4 is 1, 2, 5: eighths. The residual 3 counts 10 * .05.
    logits = torch.log(torch.tensor([1.0, 2.0, 5.0])) / 4
    generator = blend_of(torch.cat([logits, torch.tensor([3.0])])[None, :, None, None], residual_scale=0.05)
    x = images()
    expected = x[:, 2] / 8 + x[:, 4] / 4 + x[:, 5] * 5 / 8 + 1.5
    torch.testing.assert_close(generator(x)[:, 0], expected, rtol=0, atol=1e-6)  # float32, values of about 1


def test_without_a_residual_the_output_lies_between_the_candidates():
    x = images()
    generator = BlendGenerator(6, candidates=[2, 4, 5], base=BASE).eval()  # as it begins
    shown = x[:, [2, 4, 5]]
    restored = generator(x)[:, 0]
    assert (restored >= shown.amin(1) - 1e-6).all()  # weights of float32 sum to 1 within their rounding
    assert (restored <= shown.amax(1) + 1e-6).all()
    # Initial logits are small: near the mean, at a distance of the weights' departure from a third.
    assert (restored - shown.mean(1)).abs().max() < 0.25 * (shown.amax(1) - shown.amin(1)).max()
    with torch.no_grad():
        generator.residual_scale.fill_(5)
    assert (generator(x)[:, 0] > shown.amax(1)).any()


@pytest.mark.parametrize("candidate", range(3))
def test_candidate_of_a_far_larger_logit_passes_unchanged(candidate):
    found = torch.zeros(1, 4, 1, 1)
    found[0, candidate] = 30  # exp(-120) is 0 in float32
    x = images()
    assert torch.equal(blend_of(found)(x)[:, 0], x[:, [2, 4, 5][candidate]])


def test_base_network_is_the_one_that_is_named():
    generator = BlendGenerator(6, candidates=[2, 4, 5], base=BASE, seed=3)
    expected = UNetGenerator(6, 4, channels=(4, 8), dropout_levels=1, seed=3)
    assert str(generator.base) == str(expected)
    assert all(
        torch.equal(a, b) for a, b in zip(generator.base.parameters(), expected.parameters(), strict=True)
    )


def test_torchscript_says_the_same():
    generator = BlendGenerator(6, candidates=[2, 4, 5], base=BASE).eval()
    nn.init.constant_(generator.residual_scale, 0.07)
    x = images()
    assert torch.equal(torch.jit.script(generator)(x), generator(x))


def test_blend_is_of_float32_whatever_the_base_computes_in():
    x = images()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        restored = blend_of(torch.tensor([30.0, 0, 0, 0])[None, :, None, None])(x)
    assert torch.equal(restored[:, 0], x[:, 2])
