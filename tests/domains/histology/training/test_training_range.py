"""What inference must know of a training on tiles."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from medrestore.checks import InputError
from medrestore.domains.histology.consistency import recording_of
from medrestore.domains.histology.degradation import degradation_facts, degradation_of
from medrestore.domains.histology.training.data import TileData
from medrestore.domains.histology.training.training_range import resolution_warnings
from medrestore.operators.recording import DegradationRange, degradation_called
from medrestore.operators.resampling import GaussianSubsampling


class Images:
    def __init__(self, images):
        self.held = images

    def __len__(self):
        return len(self.held)

    def images(self, places):
        return self.held[places]


def test_resolution_is_that_of_the_low_resolution_images():
    data = TileData(
        manifest="",
        cache_dir=None,
        seed=0,
        batch_size=1,
        batches_per_epoch=1,
        degradation=GaussianSubsampling(),
    )
    data.table = pd.DataFrame({"microns_per_pixel": [0.25, 0.5, 0.25, 4], "split": [*3 * ["train"], "test"]})
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 32, 32)).astype(np.uint8)
    data.training = SimpleNamespace(stack=Images(images))
    information = data.model_information
    assert information.pop("restorer") == "histology.ImageFileRestorer"
    seen = information["training_range"]
    measured = [recording_of(np.moveaxis(image, 0, -1)) for image in images]
    for name in ("fine_share", "blocking"):
        values = [found[name] for found in measured]
        assert seen.pop(name) == pytest.approx(np.quantile(values, (0.01, 0.99)).tolist(), rel=1e-12)
    assert information == {"scale": 4, "sigma": 2.0, "training_range": {"microns_per_pixel": [1.0, 2.0]}}
    assert json.loads(json.dumps(information)) == information


@pytest.mark.parametrize(
    "degradation",
    [
        GaussianSubsampling(2, 1.5),
        degradation_called("box", scale=2),
        degradation_called("gaussian2-noise5-jpeg70"),
        DegradationRange(sigma=(1, 2), jpeg_fraction=0.5, seed=3),
    ],
)
def test_what_weights_say_of_a_degradation_makes_it_again(degradation):
    facts = json.loads(json.dumps(degradation_facts(degradation)))
    assert degradation_of(facts) == degradation
    assert facts["scale"] == degradation.scale


def test_weights_that_name_no_degradation_are_refused():
    with pytest.raises(InputError, match="neither sigma nor degradation"):
        degradation_of({"scale": 4})


def test_a_range_leaves_no_room_for_corruption():
    given = {"manifest": "", "cache_dir": None, "seed": 0, "batch_size": 1, "batches_per_epoch": 1}
    with pytest.raises(InputError, match="corruption_fraction must be 0 with a range of degradations"):
        TileData(**given, degradation=DegradationRange(), corruption_fraction=0.1)


@pytest.mark.parametrize(
    ("microns", "warns"),
    [(1.0, False), (2.0, False), (0.92, False), (2.19, False), (0.9, True), (2.21, True)],
)
def test_a_tenth_beyond_the_range_is_tolerated(microns, warns):
    found = resolution_warnings(microns, {"microns_per_pixel": [1.0, 2.0]})
    assert bool(found) == warns
    assert found == [] or f"resolution is {microns:.3g} um per pixel, trained on 1 to 2" in found


def test_unknown_resolution_is_said():
    found = resolution_warnings(None, {"microns_per_pixel": [1.0, 2.0]})
    assert found == ["resolution is not known, trained on 1 to 2 um per pixel"]
    assert resolution_warnings(None, {}) == []
