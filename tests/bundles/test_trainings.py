"""What holds of the trainings of every bundle: overlays learn, properties are there, runs survive a kill."""

from __future__ import annotations

import functools
import json
import operator
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from trained import learned, monai_bundle, require_resumable

from medrestore.engines.bundle import open_bundle
from medrestore.networks.weights import load_file
from medrestore.tracking.store import open_client

BUNDLES = Path(__file__).parents[2] / "bundles"
Training = Callable[..., tuple[Path, dict[str, Any]]]


class Case(NamedTuple):
    """What is to be expected of one bundle."""

    fixture: str
    learn: dict[str, set[str]]  # networks that each overlay of a training of its own teaches
    modifiers: set[str]  # overlays that go before one of these, or need weights that are not shipped
    says: dict[str, Any]  # of every model.pt
    epochs: tuple[dict[str, int], int]  # numbers, and the epochs that follow
    resumed: tuple[dict[str, int], int]  # numbers of the training that is killed, before these epochs


G, GAN = {"generator"}, {"generator", "discriminator"}
ALL, SR = {*GAN, "task"}, {*GAN, "encoder"}
CASES = {
    "amyloid_pet_taskgan": Case(
        fixture="tiny",
        learn={
            **{"l1": G, "l1_task": {"generator", "task"}, "gan": GAN, "taskgan": ALL, "paper": ALL},
            **{"observer": {"task"}, "task": {"task"}, "blend": ALL, "guided": ALL},
        },
        modifiers={"demo"},
        says={"neighbors": 2, "training_range/tracer": ["florbetaben"]},
        epochs=({"pretrain_epochs": 3, "joint_epochs": 90, "generator_dropout_levels": 1}, 3 + 90),
        resumed=({"batches_per_epoch": 6, "joint_epochs": 4}, 5),
    ),
    "multicontrast_mri_taskgan": Case(
        fixture="tiny_mri",
        learn={
            **{"l1": G, "gan": GAN, "taskgan": ALL, "paper": ALL},
            **{"observer": {"task"}, "task": {"task"}, "segmenter": {"segmenter"}},
        },
        modifiers={"demo", "lesions"},
        says={"acquisition/saturation_delays_ms": [150, 600, 2000]},
        epochs=({"contrast_epochs": 30, "mixed_epochs": 60, "generator_dropout_levels": 1}, 1 + 30 + 60),
        resumed=({"batches_per_epoch": 6}, 4),  # in the stage of one contrast per epoch
    ),
    "histology_srgan": Case(
        fixture="tiny_histology",
        learn={"e": SR, "qe": SR, "sqe": SR, "autoencoder": {"encoder"}},
        modifiers={"demo", "any_blur", "srgan"},
        # The pixel is four times the example's.
        says={"scale": 4, "sigma": 2.0, "training_range/microns_per_pixel": [2.0, 2.0]},
        epochs=({}, 3),
        resumed=({"batches_per_epoch": 12, "adversarial_epochs": 2}, 4),
    ),
}
OVERLAYS = [(bundle, overlay) for bundle, case in CASES.items() for overlay in case.learn]


@pytest.fixture
def training(request: pytest.FixtureRequest) -> Callable[[str], Training]:
    """Return what finds the shared trainings of a bundle."""
    return lambda bundle: request.getfixturevalue(f"{CASES[bundle].fixture}_training")


@pytest.fixture
def overrides(request: pytest.FixtureRequest) -> Callable[[str], dict[str, Any]]:
    """Return what finds the overrides of a bundle's tiny trainings."""
    return lambda bundle: dict(request.getfixturevalue(f"{CASES[bundle].fixture}_overrides"))


@pytest.mark.parametrize("bundle", [path.parents[1] for path in BUNDLES.glob("*/configs/train.yaml")])
def test_every_overlay_is_tested(bundle):
    case = CASES[bundle.name]
    assert {path.stem for path in (bundle / "variants").glob("*.yaml")} == set(case.learn) | case.modifiers


@pytest.mark.parametrize(("bundle", "overlay"), OVERLAYS)
def test_overlay_teaches_its_networks(bundle, overlay, training):
    folder, before = training(bundle)(overlay)
    assert learned(folder, before) == CASES[bundle].learn[overlay]
    model = load_file(folder / "model.pt")
    for place, value in CASES[bundle].says.items():
        assert functools.reduce(operator.getitem, place.split("/"), model) == value


@pytest.mark.parametrize("config", ["train", "inference"])
@pytest.mark.parametrize("bundle", CASES)
def test_required_properties_are_there(bundle, config, training, overrides, tmp_path):
    given = overrides(bundle)
    numbers, epochs = CASES[bundle].epochs
    if config == "train":
        given |= numbers
    else:
        weights = training(bundle)(next(iter(CASES[bundle].learn)))[0] / "model.pt"
        given = {"dataset_dir": given["dataset_dir"], "device": "cpu", "weights": str(weights)}
    given["output_dir"] = str(tmp_path / "output")
    workflow = open_bundle(BUNDLES / bundle, config, overrides=given)
    workflow.initialize()
    assert workflow.check_properties() == []
    if config == "train":
        assert workflow.max_epochs == epochs


@pytest.mark.filterwarnings("ignore:parsing config_file")  # MONAI's, of any configuration
@pytest.mark.parametrize("bundle", CASES)
@pytest.mark.parametrize(
    "given", ["--seed 1", "--seed=1", "--args_file args.json", "--config_file ['{}','args.json']"]
)
def test_a_number_named_alone_to_monai_is_refused(bundle, given, monkeypatch, tmp_path):
    """MONAI would set a key that nothing reads, and train with another seed than was asked for."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "args.json").write_text('{"seed": 1}')
    config = BUNDLES / bundle / "configs" / "train.yaml"
    words = [] if "--config_file" in given else ["--config_file", config]
    with pytest.raises(RuntimeError, match="require_parameters") as refused:
        monai_bundle(monkeypatch, "run", *words, *given.format(config).split())
    assert re.match(r"seed would change nothing.*write parameters::seed", str(refused.value.__cause__))
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
@pytest.mark.parametrize("bundle", CASES)
def test_killed_and_resumed_training_is_bit_identical(bundle, overrides, trainings, tmp_path, call):
    numbers, epochs = CASES[bundle].resumed
    store = f"sqlite:///{trainings}/mlflow.db"
    given = {**overrides(bundle), **numbers, "tracking_uri": store}
    require_resumable(call, BUNDLES / bundle, given, tmp_path, epochs=epochs)
    key = json.loads((tmp_path / "killed" / "mlflow_run.json").read_text())["run_id"]
    run = open_client(store).get_run(key)
    assert run.info.status == "FINISHED"
    assert run.data.tags["resumed_at_iteration"] != "0"
