"""The step of one network, a segmenter here: its loss, and nothing else learns."""

from __future__ import annotations

import math

import pytest
import torch
from monai.losses import DiceCELoss
from step_case import Recorder
from torch import nn

from medrestore.checks import InputError
from medrestore.methods.base import Stage
from medrestore.methods.supervised import Supervised


def test_step_minimizes_dice_and_cross_entropy_by_hand():
    network = nn.Conv2d(1, 1, 1)
    with torch.no_grad():
        network.weight.fill_(math.log(3))
        network.bias.zero_()
    step = Supervised(
        networks={"segmenter": network},
        optimizers={"segmenter": torch.optim.SGD(network.parameters(), lr=1.0)},
        loss=DiceCELoss(sigmoid=True, batch=True, smooth_nr=0.0, smooth_dr=0.0),
    )
    step.enter(Stage("segmentation", 1, ("segmenter",)))
    engine = Recorder(step.networks)
    # Probabilities: 3/4 where the image is 1, 1/2 where it is 0. The second slice holds no lesion.
    image = torch.tensor([[1.0, 0.0], [0.0, 0.0]]).reshape(2, 1, 1, 2)
    mask = torch.tensor([[1, 0], [0, 0]], dtype=torch.uint8).reshape(2, 1, 1, 2)
    losses = step.step(engine, {"image": image, "label": mask})
    dice = 1 - 2 * (3 / 4) / ((3 / 4 + 3 / 2) + 1)
    cross_entropy = -(math.log(3 / 4) + 3 * math.log(1 / 2)) / 4
    assert set(losses) == {"segmenter"}
    assert not losses["segmenter"].requires_grad
    assert losses["segmenter"].item() == pytest.approx(dice + cross_entropy, rel=1e-6)  # float32
    assert engine.losses["segmenter"] == losses["segmenter"].item()
    assert network.weight.grad is not None


def test_moving_average_is_of_the_one_network_that_there_is():
    network = nn.Conv2d(1, 1, 1)
    assert (
        Supervised(networks={"segmenter": network}, optimizers={}, loss=DiceCELoss()).averaged == "segmenter"
    )
    with pytest.raises(InputError, match=r"must hold one network, got \['one', 'two'\]"):
        Supervised(networks={"one": network, "two": network}, optimizers={}, loss=DiceCELoss())
