"""Precision by device, and layers whose gradients some processors get wrong."""

from __future__ import annotations

import copy
import logging

import pytest
import torch
from torch import nn

from medrestore.checks import InputError
from medrestore.networks import precision
from medrestore.networks.precision import autocast_dtype, bf16_is_native, require_sound_gradients
from medrestore.networks.tasks.amyloid import AmyloidClassifier

CPU = torch.device("cpu")


@pytest.mark.parametrize("width", [1, 4, 7])
def test_a_narrow_strided_shortcut_is_refused_by_its_place(width):
    network = nn.Sequential(nn.Conv2d(1, width, 3), nn.Conv2d(width, 8, 1, stride=2))
    with pytest.raises(InputError, match=rf"network 'task': 1 is a 1 x 1 .* {width} input .*channels_last"):
        require_sound_gradients("task", network)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(8, 8, 1, stride=2),
        nn.Conv2d(4, 8, 1),
        nn.Conv2d(4, 8, 3, stride=2),
        nn.Conv3d(4, 8, 1, stride=2),
    ],
)
def test_layers_that_are_right_everywhere_pass(layer):
    require_sound_gradients("any", layer)


@pytest.mark.parametrize("width", [1 / 16, 7 / 64])
def test_task_network_is_not_built_that_narrow(width):
    with pytest.raises(InputError, match=r"widen_factor must be in \[0\.125, inf\]"):
        AmyloidClassifier(widen_factor=width)


def test_gradients_of_the_narrowest_task_network_are_those_of_the_contiguous_order():
    """In float64 nothing is left to oneDNN: what it computes in float32 must agree."""
    network = AmyloidClassifier(widen_factor=1 / 8)
    exact = copy.deepcopy(network).double()
    network = network.to(memory_format=torch.channels_last)
    images = torch.randn(4, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    network(images.to(memory_format=torch.channels_last)).sum().backward()
    exact(images.double()).sum().backward()
    for (name, found), (_, true) in zip(network.named_parameters(), exact.named_parameters(), strict=True):
        # float32 keeps 7 digits; batch statistics of some 10 values lose three more.
        torch.testing.assert_close(
            found.grad.double(), true.grad, rtol=0, atol=2e-3 * float(true.grad.abs().max() + 1e-3), msg=name
        )


def test_bf16_where_it_is_emulated_is_warned_of_with_its_factor(monkeypatch, caplog):
    monkeypatch.setattr(precision, "bf16_is_native", lambda _: False)
    monkeypatch.setattr(precision, "bf16_slowdown", lambda _: 13.0)
    with caplog.at_level(logging.WARNING):
        assert autocast_dtype("bf16", CPU) is torch.bfloat16
        assert autocast_dtype("auto", CPU) is None
        assert autocast_dtype("fp32", CPU) is None
    assert [record.getMessage() for record in caplog.records] == [
        "precision bf16: this processor emulates it, a convolution takes 13.0 times as long as in fp32. "
        "Use --precision auto"
    ]


def test_native_bf16_is_not_warned_of(monkeypatch, caplog):
    monkeypatch.setattr(precision, "bf16_is_native", lambda _: True)
    assert autocast_dtype("bf16", CPU) is torch.bfloat16
    assert autocast_dtype("auto", CPU) is torch.bfloat16
    assert not caplog.records


@pytest.mark.parametrize("limit", ["AVX2", "avx512_core", "SSE41"])
def test_what_onednn_may_not_use_is_not_native(limit, monkeypatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert not bf16_is_native(CPU)


def test_the_slowdown_is_measured():
    assert 0 < precision.bf16_slowdown(CPU) < 1000
