"""The trainer: stages, precision, accumulation, and runs that survive being killed."""

import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from monai.handlers import from_engine
from trained import differing
from training_case import STAGES, Batches, build_step, build_trainer

from medrestore.checks import InputError
from medrestore.interruption import Terminated
from medrestore.networks.weights import load_file, load_network

SCRIPT = Path(__file__).parents[1] / "training_case.py"


class Broken(Batches):
    """Batches whose targets are not finite from an epoch on."""

    def __init__(self, *, from_epoch: int = 0) -> None:
        super().__init__()
        self.from_epoch = from_epoch

    def __iter__(self):
        for batch in super().__iter__():
            yield {**batch, "label": batch["label"] * (float("nan") if self.epoch >= self.from_epoch else 1)}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train to the end in one go, in a process of its own."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    subprocess.run([sys.executable, str(SCRIPT), str(folder), "0"], check=True, capture_output=True)
    return folder


def test_resumed_after_an_epoch_is_bit_identical(uninterrupted, tmp_path):
    trainer = build_trainer(tmp_path)

    class StopError(Exception):
        pass

    def stop(engine) -> None:
        if engine.state.epoch == 3 and engine.state.iteration % 3 == 2:
            raise StopError

    trainer.add_event_handler(Events.ITERATION_COMPLETED, stop)
    with pytest.raises(StopError):
        trainer.run()
    assert load_file(tmp_path / "checkpoint.pt")["epoch"] == 2
    assert not (tmp_path / "model.pt").exists()
    build_trainer(tmp_path).run()
    for name in ("checkpoint.pt", "model.pt"):
        assert differing(uninterrupted / name, tmp_path / name) == []


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.0, 0.25, 0.6])
def test_killed_and_resumed_is_bit_identical(uninterrupted, tmp_path, delay):
    """SIGKILL at a moment after the first checkpoint; the last checkpoint loads and the run ends alike."""
    # Pauses of 0.1 s an iteration: nine iterations are left after the first checkpoint.
    command = [sys.executable, str(SCRIPT), str(tmp_path), "0.1"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not (tmp_path / "checkpoint.pt").exists() and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert load_file(tmp_path / "checkpoint.pt")["epoch"] < 4
    assert not (tmp_path / "model.pt").exists()
    build_trainer(tmp_path).run()
    for name in ("checkpoint.pt", "model.pt"):
        assert differing(uninterrupted / name, tmp_path / name) == []


@pytest.mark.parametrize(
    ("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)]
)
def test_a_signal_ends_a_run_that_the_same_call_continues(number, kind, uninterrupted, tmp_path):
    trainer = build_trainer(tmp_path)
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=5), lambda: os.kill(os.getpid(), number))
    with pytest.raises(
        kind, match=r"interrupted in epoch 2 of 4; checkpoint.pt holds .*the same call"
    ) as caught:
        trainer.run()
    assert type(caught.value) is kind
    build_trainer(tmp_path).run()
    assert differing(uninterrupted / "model.pt", tmp_path / "model.pt") == []


def test_an_interruption_before_the_first_checkpoint_says_so(tmp_path):
    trainer = build_trainer(tmp_path)
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED(once=1), lambda: os.kill(os.getpid(), signal.SIGTERM)
    )
    with pytest.raises(Terminated, match="Begin anew with the same call"):
        trainer.run()
    build_trainer(tmp_path, stages=STAGES[:1]).run()


def test_two_trainings_in_one_folder_are_kept_apart(tmp_path):
    trainer = build_trainer(tmp_path, stages=STAGES[:1])
    refused: list[str] = []

    @trainer.on(Events.ITERATION_COMPLETED(once=1))
    def run_another() -> None:
        with pytest.raises(InputError, match="another process is at work on this training") as caught:
            build_trainer(tmp_path, stages=STAGES[:1]).run()
        refused.append(str(caught.value))

    trainer.run()
    assert str(tmp_path) in refused[0]
    assert (tmp_path / "model.pt").is_file()


def test_the_file_that_monai_writes_first_is_no_other_run(tmp_path):
    (tmp_path / "config_20261128_101112.json").write_text("{}")
    build_trainer(tmp_path, stages=STAGES[:1]).run()
    assert (tmp_path / "model.pt").is_file()


def test_handlers_of_monai_read_the_loss(tmp_path):
    """With the transform that ``monai.bundle run --tracking`` gives them."""

    class Reader:
        output_transform = staticmethod(from_engine(["loss"], first=True))
        read: list[object]

        def attach(self, engine: Engine) -> None:
            self.read = []
            engine.add_event_handler(
                Events.ITERATION_COMPLETED,
                lambda: self.read.append(self.output_transform(engine.state.output)),
            )

    reader = Reader()
    build_trainer(tmp_path, stages=STAGES[:1], handlers=[reader]).run()
    assert len(reader.read) == 3
    assert all(isinstance(value, float) for value in reader.read)


def test_what_is_done_every_few_epochs_is_done_after_the_last(tmp_path):
    trainer = build_trainer(tmp_path)
    due: list[int] = []
    trainer.add_event_handler(trainer.every(3), lambda: due.append(trainer.state.epoch))
    trainer.run()
    assert due == [3, 4]


def test_a_run_killed_at_its_very_end_records_the_last_epoch(tmp_path):
    build_trainer(tmp_path).run()
    (tmp_path / "model.pt").unlink()
    trainer = build_trainer(tmp_path)
    due: list[int] = []
    trainer.add_event_handler(trainer.every(3), lambda: due.append(trainer.state.epoch))
    trainer.run()
    assert due == [4]
    assert (tmp_path / "model.pt").is_file()


def test_finished_run_is_left_as_it_is(uninterrupted, tmp_path):
    for name in ("checkpoint.pt", "model.pt"):
        (tmp_path / name).write_bytes((uninterrupted / name).read_bytes())
    before = (tmp_path / "checkpoint.pt").stat().st_mtime_ns
    build_trainer(tmp_path).run()
    assert (tmp_path / "checkpoint.pt").stat().st_mtime_ns == before


def test_checkpoint_of_another_configuration_or_network_is_refused(uninterrupted, tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes((uninterrupted / "checkpoint.pt").read_bytes())
    with pytest.raises(InputError, match="was written with seed 3, this run has 4"):
        build_trainer(tmp_path, seed=4).run()
    alone = [STAGES[0], {**STAGES[1], "train": ["generator", "discriminator"]}]
    with pytest.raises(
        InputError, match=r"with stages .*'task'\], 'cosine'\]\], this run has .* or another output_dir"
    ):
        build_trainer(tmp_path, stages=alone).run()
    with pytest.raises(InputError, match=r"is the checkpoint of another generator"):
        build_trainer(tmp_path, step=build_step(norm="instance")).run()
    step = build_step()
    step.optimizers["task"].param_groups[0]["lr"] = 0.5
    with pytest.raises(
        InputError, match=r"optimizer of task was made with initial_lr 0.002, this run has 0.5"
    ):
        build_trainer(tmp_path, step=step).run()
    (tmp_path / "checkpoint.pt").write_bytes(b"PK half a checkpoint")
    with pytest.raises(InputError, match="is damaged"):
        build_trainer(tmp_path).run()


@pytest.mark.parametrize(("jitter", "told"), [(0.1, 0), (0.2, 1)])
def test_numbers_that_changed_are_told_when_a_run_is_continued(jitter, told, uninterrupted, tmp_path, caplog):
    (tmp_path / "checkpoint.pt").write_bytes((uninterrupted / "checkpoint.pt").read_bytes())
    (tmp_path / "config.yaml").write_text("{jitter: 0.1, gone: 2}")
    build_trainer(tmp_path, parameters={"jitter": jitter, "new": 1}).run()
    assert caplog.text.count("jitter was 0.1 up to epoch 4, and is 0.2") == told
    assert "new" not in caplog.text


def test_model_holds_the_averaged_generator_and_loads(uninterrupted):
    checkpoint = load_file(uninterrupted / "checkpoint.pt")
    generator = load_network(uninterrupted / "model.pt", "generator")
    averaged = checkpoint["averaged_generator"]
    last = checkpoint["step"]["networks"]["generator"]
    differs = False
    for name, value in generator.state_dict().items():
        assert torch.equal(value, averaged[f"module.{name}"])
        differs |= not torch.equal(value, last[name])
    assert differs
    assert not generator.training
    assert load_file(uninterrupted / "model.pt")["neighbors"] == 1


def test_only_the_networks_of_the_stage_change(tmp_path):
    step = build_step()
    before = {
        name: {k: v.clone() for k, v in net.state_dict().items()} for name, net in step.networks.items()
    }
    build_trainer(tmp_path, step=step, stages=STAGES[:1]).run()
    changed = {
        name
        for name, net in step.networks.items()
        if any(not torch.equal(v, before[name][k]) for k, v in net.state_dict().items())
    }
    assert changed == {"task"}


def test_task_network_that_the_stage_does_not_train_stays_bit_identical(tmp_path):
    step = build_step()
    before = {k: v.clone() for k, v in step.networks["task"].state_dict().items()}
    build_trainer(tmp_path, step=step, stages=[{**STAGES[1], "train": ["generator", "discriminator"]}]).run()
    assert all(torch.equal(v, before[k]) for k, v in step.networks["task"].state_dict().items())


def test_learning_rate_follows_the_stage(tmp_path):
    trainer = build_trainer(tmp_path)
    rates: list[float] = []

    def note(engine) -> None:
        rates.append(engine.step.optimizers["task"].param_groups[0]["lr"])

    trainer.add_event_handler(Events.ITERATION_COMPLETED, note)
    trainer.run()
    expected = [1e-3 * (1 + math.cos(math.pi * i / 3)) for i in range(3)]
    expected += [1e-3 * (1 + math.cos(math.pi * i / 9)) for i in range(9)]
    # Tolerance: the factor is rounded to 12 digits.
    assert rates == pytest.approx(expected, abs=1e-12)


def test_events_and_outputs(tmp_path):
    trainer = build_trainer(tmp_path)
    completed: list[int] = []
    outputs: list[dict[str, float]] = []
    trainer.add_event_handler(
        IterationEvents.MODEL_COMPLETED, lambda engine: completed.append(engine.state.iteration)
    )
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: outputs.append(engine.state.output))
    trainer.run()
    assert completed == list(range(1, 13))
    assert outputs[0]["loss"] == outputs[0]["task_target"]
    assert outputs[-1]["loss"] == outputs[-1]["generator"]


def test_accumulated_gradients_equal_the_larger_batch(tmp_path):
    """Two batches of 2, accumulated, give the weights of one batch of 4 when the loss is a mean (L1, SGD)."""

    class Halves(Batches):
        def __iter__(self):
            for batch in super().__iter__():
                for half in (slice(0, 2), slice(2, 4)):
                    yield {key: value[half] for key, value in batch.items()}

        def __len__(self) -> int:
            return 2 * self.batches

    weights = []
    for name, batches, accumulation in (("whole", Batches(), 1), ("halves", Halves(), 2)):
        step = build_step(norm="instance", dropout=0.0, adversarial_weight=0.0, task_weight=0.0)
        step.optimizers["generator"] = torch.optim.SGD(step.networks["generator"].parameters(), lr=0.1)
        stage = {"name": "joint", "epochs": 1, "train": ["generator"], "schedule": "constant"}
        build_trainer(
            tmp_path / name, step=step, batches=batches, stages=[stage], accumulation=accumulation
        ).run()
        weights.append([p.detach().clone() for p in step.networks["generator"].parameters()])
    # Tolerance: float32 sums in another order over three steps.
    for a, b in zip(*weights, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_bf16_trains_float32_weights(tmp_path):
    trainer = build_trainer(tmp_path, precision="bf16")
    assert trainer.autocast is torch.bfloat16
    trainer.run()
    assert all(p.dtype == torch.float32 for p in trainer.step.networks["generator"].parameters())


def test_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(tmp_path, caplog):
    with pytest.raises(InputError, match=r"iteration 7: pixel, .* not finite"):
        build_trainer(tmp_path, batches=Broken(from_epoch=3)).run()
    assert load_file(tmp_path / "checkpoint.pt")["epoch"] == 2
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_log_tells_stages_and_no_epoch(tmp_path, caplog):
    caplog.set_level("INFO")
    build_trainer(tmp_path).run()
    said = [record.getMessage() for record in caplog.records if record.name.endswith("RestorationTrainer")]
    assert said[0].startswith("stage ")
    assert not any(re.search(r"resuming|Epoch\[", line) for line in said)


def test_a_run_without_a_checkpoint_takes_other_settings(tmp_path):
    parameters = {"learning_rate": 10.0}
    with pytest.raises(InputError, match="not finite"):
        build_trainer(tmp_path / "run", batches=Broken(), parameters=parameters).run()
    build_trainer(tmp_path / "run", parameters={"learning_rate": 0.001}).run()
    assert "0.001" in (tmp_path / "run" / "config.yaml").read_text()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file: is a file, expected a folder for training.*Remedy"):
        build_trainer(tmp_path / "file").run()


def test_settings_out_of_range(tmp_path):
    with pytest.raises(InputError, match=r"ema_decay must be in \[0, 1\)"):
        build_trainer(tmp_path, ema_decay=1.0)
    with pytest.raises(InputError, match="accumulation must be in"):
        build_trainer(tmp_path, accumulation=0)
    with pytest.raises(InputError, match="precision fp16 needs a CUDA device"):
        build_trainer(tmp_path, precision="fp16")
    with pytest.raises(InputError, match="precision must be one of"):
        build_trainer(tmp_path, precision="fp8")
