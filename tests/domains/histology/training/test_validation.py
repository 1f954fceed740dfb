"""Validation of super-resolutions: numbers of a plain loop, a gain over bicubic, and the panel."""

import numpy as np
import pytest
import torch
from training_case import Batches, build_trainer, data_of

from medrestore.domains.histology.training.validation import TileMeasures
from medrestore.engines.validation import Validation
from medrestore.methods.srgan import SRGAN
from medrestore.networks.autoencoder import TextureAutoencoder
from medrestore.networks.discriminators import ImageDiscriminator
from medrestore.networks.super_resolution import SRResNet

PATIENTS = (5, 2, 5)


class Tiles(Batches):
    """Three tiles of two patients, in batches of two and one."""

    volume = np.array(PATIENTS)

    def __getitems__(self, indices):
        chosen = torch.as_tensor(np.asarray(indices))
        random = torch.Generator().manual_seed(0)
        target = torch.rand((3, 3, 32, 32), generator=random)
        return {
            "image": torch.nn.functional.avg_pool2d(target, 4)[chosen],
            "label": target[chosen],
            "volume_index": torch.tensor(PATIENTS)[chosen],
        }

    @property
    def dataset(self):
        return self

    def __len__(self):
        return 2

    def __iter__(self):
        yield self.__getitems__([0, 1])
        yield self.__getitems__([2])


def build_step(*, skip: str = "bicubic") -> SRGAN:
    networks = {
        "generator": SRResNet(channels=4, blocks=1, norm="none", enlargement_skip=skip),
        "discriminator": ImageDiscriminator(3, channels=(4, 4)),
        "encoder": TextureAutoencoder(channels=(4, 4), blocks=0),
    }
    return SRGAN(
        networks=networks,
        optimizers={name: torch.optim.Adam(n.parameters(), lr=0.01) for name, n in networks.items()},
        adversarial_weight=0.001,
        manifold_weight=0.1,
        structure_weight=0.1,
        exponent=0.5,
        epsilon=1e-4,
    )


STAGE = {"name": "adversarial", "epochs": 2, "train": ["generator", "discriminator"]}


def test_metrics_are_those_of_a_plain_loop(tmp_path):
    validation = Validation(data_of(Tiles(), measures=TileMeasures()), interval=2)
    trainer = build_trainer(
        tmp_path, step=build_step(), batches=Tiles(), stages=[STAGE], handlers=[validation], ema_decay=0.5
    )
    trainer.run()
    network = trainer.averaged.module.eval()
    psnr, rrmse, gain = [], [], []
    batch = Tiles().__getitems__([0, 1, 2])
    for patient in (5, 2):
        chosen = [index for index, value in enumerate(PATIENTS) if value == patient]
        target = batch["label"][chosen]
        with torch.no_grad():
            restored = network(batch["image"][chosen]).clamp(0, 1)
        enlarged = torch.nn.functional.interpolate(
            batch["image"][chosen], scale_factor=4, mode="bicubic", align_corners=False
        ).clamp(0, 1)
        error = ((restored - target) ** 2).mean().item()
        psnr.append(-10 * np.log10(error))
        rrmse.append(np.sqrt(error / (target**2).mean().item()))
        gain.append(10 * np.log10(((enlarged - target) ** 2).mean().item() / error))
    # Sums of thousands of float32 squares in another order.
    assert trainer.state.metrics["validation_psnr"] == pytest.approx(np.mean(psnr), abs=1e-4)
    assert trainer.state.metrics["validation_rrmse"] == pytest.approx(np.mean(rrmse), rel=1e-5)
    assert trainer.state.metrics["validation_psnr_gain"] == pytest.approx(np.mean(gain), abs=1e-4)


def test_stage_without_generator_restores_nothing(tmp_path):
    validation = Validation(data_of(Tiles(), measures=TileMeasures()))
    stage = {"name": "autoencoder", "epochs": 1, "train": ["encoder"]}
    trainer = build_trainer(
        tmp_path, step=build_step(), batches=Tiles(), stages=[stage], handlers=[validation]
    )
    trainer.run()
    assert not any(name.startswith("validation") for name in trainer.state.metrics)
    assert validation.panel(trainer) is None


def test_panel_shows_a_tile_of_each_patient(tmp_path):
    validation = Validation(data_of(Tiles(), measures=TileMeasures()), interval=2)
    trainer = build_trainer(tmp_path, step=build_step(), batches=Tiles(), stages=[STAGE])
    trainer.run()
    figure = validation.panel(trainer)
    shown = [axis.images[0].get_array() for axis in figure.axes]
    assert len(shown) == 2 * 4
    tiles = Tiles().__getitems__([1, 0])["label"].permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(shown[2], tiles[0])  # of patient 2, then of patient 5
    np.testing.assert_array_equal(shown[6], tiles[1])
    np.testing.assert_allclose(shown[3], np.abs(shown[1] - shown[2]).mean(2), atol=1e-6)  # float32
    trainer.state.epoch = 1
    assert validation.panel(trainer) is None
