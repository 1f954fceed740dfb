"""What a stage and a method ask of the trainer: batches of one class, and whose moving average is kept."""

import pytest
import torch
from ignite.engine import Events
from torch import nn
from training_case import STAGES, Batches, build_trainer

from medrestore.checks import InputError
from medrestore.methods.supervised import Supervised
from medrestore.networks.segmenter import LesionSegmenter
from medrestore.networks.weights import load_file, load_network

ONE_CLASS = [STAGES[0], {**STAGES[1], "name": "contrasts", "epochs": 2, "batches": "one_class"}]


def build_segmentation() -> Supervised:
    network = LesionSegmenter(channels=(2, 4), residual_units=0)
    return Supervised(
        networks={"segmenter": network},
        optimizers={"segmenter": torch.optim.Adam(network.parameters(), lr=0.05)},
        loss=nn.BCEWithLogitsLoss(),
    )


class Masks(Batches):
    """Slices and where they are bright."""

    def __iter__(self):
        for batch in super().__iter__():
            yield {"image": batch["label"], "label": (batch["label"] > 0.5).float()}


def test_stage_says_which_batches_its_epochs_draw(tmp_path):
    batches = Batches()
    build_trainer(tmp_path, batches=batches, stages=[*ONE_CLASS, {**STAGES[1], "name": "mixed"}]).run()
    assert batches.kinds == {
        1: "mixed",
        2: "one_class",
        3: "one_class",
        4: "mixed",
        5: "mixed",
        6: "mixed",
    }


def test_resumed_run_draws_the_batches_of_its_stage(tmp_path):
    build_trainer(tmp_path, stages=ONE_CLASS, max_epochs=2).run()
    batches = Batches()
    (tmp_path / "model.pt").unlink()
    build_trainer(tmp_path, batches=batches, stages=ONE_CLASS).run()
    assert batches.kinds == {3: "one_class"}


def test_checkpoint_of_mixed_stages_does_not_mention_batches(tmp_path):
    """As checkpoints did before stages had a choice: these are continued."""
    build_trainer(tmp_path, max_epochs=2).run()
    stages = load_file(tmp_path / "checkpoint.pt")["configuration"]["stages"]
    assert stages == [
        ["pretrain", 1, ["task"], "cosine"],
        ["joint", 3, ["generator", "discriminator", "task"], "cosine"],
    ]
    (tmp_path / "model.pt").unlink()
    build_trainer(tmp_path).run()
    assert load_file(tmp_path / "checkpoint.pt")["epoch"] == 4


def test_run_with_other_batches_does_not_continue_it(tmp_path):
    build_trainer(tmp_path, stages=STAGES[1:], max_epochs=1).run()
    with pytest.raises(InputError, match=r"was written with stages .*, this run has .*'one_class'"):
        build_trainer(tmp_path, stages=[{**STAGES[1], "batches": "one_class"}]).run()


def test_moving_average_is_that_of_the_network_which_the_method_names(tmp_path):
    step = build_segmentation()
    stage = {"name": "segmentation", "epochs": 2, "train": ["segmenter"], "schedule": "constant"}
    seen = [{k: v.clone() for k, v in step.bare("segmenter").state_dict().items()}]
    trainer = build_trainer(tmp_path, step=step, batches=Masks(), stages=[stage], ema_decay=0.75)
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED,
        lambda: seen.append({k: v.clone() for k, v in step.bare("segmenter").state_dict().items()}),
    )
    trainer.run()
    network = load_network(tmp_path / "model.pt", "segmenter")
    for name, value in network.state_dict().items():
        if not value.is_floating_point():
            continue
        # torch's moving average begins with the weights after the first iteration.
        average = seen[1][name]
        for state in seen[2:]:
            average = 0.75 * average + 0.25 * state[name]
        torch.testing.assert_close(value, average)
        assert not torch.equal(value, seen[-1][name])
    assert set(load_file(tmp_path / "model.pt")["networks"]) == {"segmenter"}


def test_killed_segmentation_continues_bit_identically(tmp_path):
    stage = {"name": "segmentation", "epochs": 3, "train": ["segmenter"]}
    for name, first in (("whole", 3), ("halved", 1)):
        for epochs in {first, 3}:
            build_trainer(
                tmp_path / name, step=build_segmentation(), batches=Masks(), stages=[stage], max_epochs=epochs
            ).run()
    ours, theirs = (
        load_file(tmp_path / name / "checkpoint.pt")["averaged_generator"] for name in ("halved", "whole")
    )
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
