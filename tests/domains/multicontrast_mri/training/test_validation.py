"""Validation of a segmenter: Dice of each volume by a plain count, and its panel."""

import numpy as np
import pytest
import torch
from torch import nn
from training_case import Batches, build_trainer, data_of

from medrestore.domains.multicontrast_mri.training.validation import LesionMeasures
from medrestore.engines.validation import Validation
from medrestore.methods.supervised import Supervised
from medrestore.networks.segmenter import LesionSegmenter

STAGE = {"name": "segmentation", "epochs": 2, "train": ["segmenter"]}


class Masks(Batches):
    """Slices of volumes 4, 7 and 9, and where they are bright; volume 7 has no lesion."""

    def __iter__(self):
        for batch in super().__iter__():
            volume = torch.tensor([4, 7, 9, 7])
            mask = (batch["label"] > 0.5).float() * (volume != 7)[:, None, None, None]
            yield {"image": batch["label"], "label": mask, "volume_index": volume}


def build_step() -> Supervised:
    network = LesionSegmenter(channels=(2, 4), residual_units=0)
    return Supervised(
        networks={"segmenter": network},
        optimizers={"segmenter": torch.optim.Adam(network.parameters(), lr=0.05)},
        loss=nn.BCEWithLogitsLoss(),
    )


def test_dice_is_that_of_a_plain_count(tmp_path):
    validation = Validation(data_of(Masks(), measures=LesionMeasures()), interval=2)
    stage = {**STAGE, "epochs": 10}
    trainer = build_trainer(
        tmp_path, step=build_step(), batches=Masks(), stages=[stage], handlers=[validation], ema_decay=0.5
    )
    trainer.run()
    network = trainer.averaged.module.eval()
    found: dict[int, list[np.ndarray]] = {4: [], 7: [], 9: []}
    truth: dict[int, list[np.ndarray]] = {4: [], 7: [], 9: []}
    for batch in Masks():
        for index, volume in enumerate(batch["volume_index"].tolist()):
            with torch.no_grad():
                logits = network(batch["image"][index : index + 1])
            found[volume].append(logits.numpy() > 0)
            truth[volume].append(batch["label"][index].numpy() == 1)
    dice = []
    for volume in (4, 9):
        a, b = np.concatenate(found[volume]).ravel(), np.concatenate(truth[volume]).ravel()
        dice.append(2 * sum(a[b]) / (sum(a) + sum(b)))
    assert min(dice) > 0 and max(dice) < 1
    # Counts are whole numbers; their ratio is rounded to float32.
    assert trainer.state.metrics["validation_dice"] == pytest.approx(sum(dice) / 2, rel=1e-6)
    assert trainer.state.metrics["validation_false_positive_pixels"] == np.concatenate(found[7]).sum()


def test_volumes_without_lesions_alone_have_no_dice(tmp_path):
    class Healthy(Masks):
        def __iter__(self):
            for batch in super().__iter__():
                yield {**batch, "label": torch.zeros_like(batch["label"])}

    trainer = build_trainer(
        tmp_path,
        step=build_step(),
        batches=Masks(),
        stages=[STAGE],
        handlers=[Validation(data_of(Healthy(), measures=LesionMeasures()))],
    )
    trainer.run()
    assert set(trainer.state.metrics) == {"validation_false_positive_pixels"}


def test_panel_shows_the_largest_lesions(tmp_path):
    validation = Validation(data_of(Masks(), measures=LesionMeasures()), interval=2)
    trainer = build_trainer(tmp_path, step=build_step(), batches=Masks(), stages=[STAGE])
    trainer.run()
    slices = [
        (mask.sum().item(), image[0].numpy().T)
        for batch in Masks()
        for image, mask in zip(batch["image"], batch["label"], strict=True)
    ]
    largest = sorted(slices, key=lambda entry: -entry[0])[:3]
    figure = validation.panel(trainer)
    assert len(figure.axes) == 3
    for axis, (_, image) in zip(figure.axes, largest, strict=True):
        np.testing.assert_array_equal(axis.images[0].get_array(), image)
    trainer.state.epoch = 1
    assert validation.panel(trainer) is None
