"""Validation: figures against a plain loop, evaluation mode, and the warning when T and the observer part."""

import logging
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from training_case import STAGES, Batches, build_trainer, data_of

from medrestore.checks import InputError
from medrestore.engines.validation import Validation
from medrestore.engines.volume_measures import VolumeMeasures
from medrestore.networks.tasks.amyloid import AmyloidClassifier
from medrestore.networks.weights import describe, save_file


class Slices(Batches):
    """Two batches of four slices: subjects 0 and 1, two slices of each in every batch."""

    def __init__(self) -> None:
        super().__init__(batches=2)
        self.dataset = self

    def __iter__(self):
        for batch in super().__iter__():
            yield {**batch, "volume_index": torch.tensor([0, 1, 0, 1])}

    def __getitems__(self, indices):
        batches = list(self)
        whole = {key: torch.cat([batch[key] for batch in batches]) for key in batches[0]}
        return {key: value[list(indices)] for key, value in whole.items()}


@pytest.fixture
def observer(tmp_path: Path) -> Path:
    save_file(
        {"networks": {"task": describe(AmyloidClassifier(widen_factor=0.125, seed=9))}},
        tmp_path / "observer.pt",
    )
    return tmp_path / "observer.pt"


def test_figures_are_those_of_a_plain_loop(tmp_path, observer):
    validation = Validation(
        data_of(Slices(), measures=VolumeMeasures()),
        observers={"task": observer},
    )
    trainer = build_trainer(tmp_path / "run", handlers=[validation])
    trainer.run()
    metrics = trainer.state.metrics
    generator, task = trainer.averaged.module.eval(), trainer.step.bare("task").eval()
    judge = validation.observers["task"]
    batches = list(Slices())
    with torch.no_grad():
        restored = torch.cat([generator(batch["image"]) for batch in batches])
        target, status, subject = (
            torch.cat([batch[key] for batch in batches])
            for key in ("label", "amyloid_status", "volume_index")
        )
        psnr = []
        for index in (0, 1):
            mine = subject == index
            error = (restored[mine] - target[mine]).square().mean()
            psnr.append(10 * math.log10(target[mine].max() ** 2 / error))
        expected = {"psnr": sum(psnr) / 2, "l1": (restored - target).abs().mean()}
        for name, network in (("task", task), ("observer", judge)):
            for images, of in ((restored, ""), (target, "_target")):
                expected[f"{name}_mae{of}"] = (torch.sigmoid(network(images)) - status).abs().mean()
    for name, value in expected.items():
        # Tolerance: float32 sums in another order (1e-7), through logarithm and networks.
        assert metrics[f"validation_{name}"] == pytest.approx(float(value), rel=1e-4), name


def test_a_task_whose_label_batches_do_not_hold_is_not_asked(tmp_path, observer):
    class Unlabeled(Slices):
        def __iter__(self):
            for batch in super().__iter__():
                yield {key: value for key, value in batch.items() if key != "amyloid_status"}

    validation = Validation(data_of(Unlabeled(), measures=VolumeMeasures()), observers={"task": observer})
    trainer = build_trainer(tmp_path / "run", handlers=[validation])
    trainer.run()
    found = {name for name in trainer.state.metrics if name.startswith("validation_")}
    assert found == {"validation_psnr", "validation_l1"}


def test_validation_changes_nothing_of_the_training(tmp_path, observer):
    """Running statistics, modes and random state: a run ends alike with and without it."""
    plain = build_trainer(tmp_path / "plain")
    plain.run()
    watched = build_trainer(
        tmp_path / "watched",
        handlers=[
            Validation(
                data_of(Slices(), measures=VolumeMeasures()),
                observers={"task": observer},
            )
        ],
    )
    watched.run()
    for name, network in (("generator", "averaged"), ("task", "")):
        one, other = (
            getattr(trainer, network) if network else trainer.step.bare(name) for trainer in (plain, watched)
        )
        assert all(
            torch.equal(a, b)
            for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
        )
    assert not watched.averaged.training
    assert watched.step.bare("task").training


def test_epochs_without_a_learning_generator_judge_the_target_alone(tmp_path):
    validation = Validation(data_of(Slices(), measures=VolumeMeasures(), label_column="amyloid_status"))
    trainer = build_trainer(tmp_path, stages=STAGES[:1], handlers=[validation])
    trainer.run()
    assert set(trainer.state.metrics) == {"validation_task_mae_target"}
    assert validation.panel(trainer) is None


def test_interval(tmp_path):
    validation = Validation(
        data_of(Slices(), measures=VolumeMeasures(), label_column="amyloid_status"), interval=3
    )
    trainer = build_trainer(tmp_path, stages=STAGES[1:], handlers=[validation])
    seen: list[int] = []
    validation._run = lambda *_: seen.append(trainer.state.epoch) or {}  # type: ignore[method-assign]
    trainer.run()
    assert seen == [3]
    with pytest.raises(InputError, match="interval must be in"):
        Validation(data_of(Slices(), measures=VolumeMeasures()), interval=0)
    stranger = Validation(data_of(Slices(), measures=VolumeMeasures()), observers={"lesion": "model.pt"})
    with pytest.raises(InputError, match=r"observer is given for 'lesion', but the method has T \['task'\]"):
        build_trainer(tmp_path / "other", handlers=[stranger])


@pytest.mark.parametrize(("observer_error", "warned"), [(0.4, True), (0.25, False)])
def test_warns_when_task_and_observer_part(observer_error, warned, tmp_path, observer, caplog):
    """T errs by 0.05 more than on targets, the observer by 0.3 or 0.15: a gap of 0.25, or 0.1 (tolerated)."""
    validation = Validation(
        data_of(Slices(), measures=VolumeMeasures()),
        observers={"task": observer},
    )
    trainer = build_trainer(tmp_path / "run", handlers=[validation])
    metrics = {
        "validation_task_mae": 0.1,
        "validation_task_mae_target": 0.05,
        "validation_observer_mae": observer_error,
        "validation_observer_mae_target": 0.1 + 1e-9,
    }
    with caplog.at_level(logging.WARNING):
        validation._warn(trainer, metrics, "task")
    assert ("learning to please T" in caplog.text) is warned
    assert trainer.state.metrics["validation_observer_task_gap"] == pytest.approx(
        observer_error - 0.15, abs=1e-8
    )


def test_panel_shows_the_middle_slice_of_a_volume_of_each_class(tmp_path):
    """Volumes of 3, 2 and 3 slices, the second of class 1: slices 1 and 4 are shown."""

    class Set(Slices):
        labels = np.array([0, 0, 0, 1, 1, 0, 0, 0])
        volume = np.array([0, 0, 0, 1, 1, 2, 2, 2])
        shown_channel = 2

    validation = Validation(data_of(Set(), measures=VolumeMeasures("gray"), label_column="amyloid_status"))
    trainer = build_trainer(tmp_path, stages=STAGES[1:], handlers=[validation])
    trainer.run()
    figure = validation.panel(trainer)
    assert len(figure.axes) == 8
    assert [axis.get_title() for axis in figure.axes[:4]] == ["degraded", "restored", "target", "difference"]
    assert figure._suptitle.get_text() == "validation, epoch 3"
    batch = Set().__getitems__([1, 4])
    for row in range(2):
        degraded, _, target, _ = (axis.images[0] for axis in figure.axes[4 * row : 4 * row + 4])
        np.testing.assert_array_equal(degraded.get_array(), batch["image"][row, 2].T)
        np.testing.assert_array_equal(target.get_array(), batch["label"][row, 0].T)
        assert target.get_cmap().name == "gray"
