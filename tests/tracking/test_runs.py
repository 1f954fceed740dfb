from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events

from medrestore.checks import InputError
from medrestore.files import sha256_file
from medrestore.tracking.outbox import UNSENT
from medrestore.tracking.runs import RUN_FILE, MLflowRun
from medrestore.tracking.store import experiment_id, open_client
from medrestore.tracking.sync import sync_run


def make_trainer(
    *, fail_at: int = 0, error: type[BaseException] = RuntimeError, shift: float = 0.0
) -> Engine:
    """An engine whose loss at iteration i is i + shift, with optimizers and stage as our trainer has them."""

    def iterate(engine: Engine, _: Any) -> dict[str, Any]:
        if engine.state.iteration == fail_at:
            raise error("the data ran out")
        pixel = engine.state.iteration + shift
        return {"pixel": pixel, "adversarial": torch.tensor(0.5), "image": torch.zeros(2, 2)}

    trainer = Engine(iterate)
    weight = torch.nn.Parameter(torch.zeros(1))
    other = torch.nn.Parameter(torch.zeros(1))
    trainer.step = SimpleNamespace(
        stage=SimpleNamespace(name="joint"),
        optimizers={
            "generator": torch.optim.Adam([weight], lr=0.002),
            "task": torch.optim.Adam([{"params": [weight], "lr": 0.1}, {"params": [other], "lr": 0.2}]),
        },
    )
    return trainer


def curve(client: Any, run_id: str | None, name: str) -> dict[int, float]:
    points = client.get_metric_history(run_id, name)
    assert len({point.step for point in points}) == len(points), "a step was recorded twice"
    return {point.step: point.value for point in points}


def test_records_all_that_a_training_is(tmp_path, tracking_uri):
    for name in ("config.yaml", "manifest.csv", "extra.txt"):
        (tmp_path / name).write_text(f"cohort: {Path.home()}/{name}\n")
    run = MLflowRun(
        "records",
        "taskgan",
        output_dir=tmp_path / "run",
        tracking_uri=tracking_uri,
        parameters={"seed": 3, "stages": [{"name": "joint", "epochs": 2}]},
        tags={"dose": "0.01"},
        configuration=tmp_path / "config.yaml",
        manifest=tmp_path / "manifest.csv",
        artifacts=[tmp_path / "extra.txt"],
        weights=tmp_path / "run" / "model.pt",
        interval=2,
        panel=lambda engine: draw(),
    )
    trainer = make_trainer()
    run.attach(trainer)

    # Attached after the recorder, as an engine may do it: what they leave must be recorded all the same.
    @trainer.on(Events.EPOCH_COMPLETED)
    def validate(engine: Engine) -> None:
        engine.state.metrics["psnr"] = 20.0 + engine.state.epoch
        engine.state.metrics.setdefault("computed_once", 1.0)

    @trainer.on(Events.COMPLETED)
    def save(_: Engine) -> None:
        (tmp_path / "run" / "model.pt").write_bytes(b"weights")

    trainer.run([0] * 4, max_epochs=2)

    client = open_client(tracking_uri)
    found = client.get_run(run.run_id)
    assert (found.info.status, found.info.run_name) == ("FINISHED", "taskgan")
    assert found.data.params == {
        "seed": "3",
        "stages.0.name": "joint",
        "stages.0.epochs": "2",
        "manifest_sha256": sha256_file(tmp_path / "manifest.csv"),
    }
    assert found.data.tags["dose"] == "0.01"
    assert found.data.tags["weights_sha256"] == sha256_file(tmp_path / "run" / "model.pt")
    assert found.data.tags["environment.torch"].startswith("2.")
    assert curve(client, run.run_id, "joint/pixel") == {2: 2.0, 4: 4.0, 6: 6.0, 8: 8.0}
    assert curve(client, run.run_id, "joint/adversarial")[8] == 0.5
    assert curve(client, run.run_id, "learning_rate/generator") == dict.fromkeys((2, 4, 6, 8), 0.002)
    assert curve(client, run.run_id, "learning_rate/task_0")[8] == 0.1
    assert curve(client, run.run_id, "learning_rate/task_1")[8] == 0.2
    assert curve(client, run.run_id, "psnr") == {4: 21.0, 8: 22.0}
    assert curve(client, run.run_id, "computed_once") == {4: 1.0}
    assert curve(client, run.run_id, "epoch") == {4: 1.0, 8: 2.0}
    assert "joint/image" not in found.data.metrics
    assert {item.path for item in client.list_artifacts(run.run_id, "panels")} == {
        "panels/epoch_0001.png",
        "panels/epoch_0002.png",
    }
    assert {item.path for item in client.list_artifacts(run.run_id)} == {
        "configuration", "environment.json", "extra.txt", "model", "panels"
    }  # fmt: skip
    config = Path(client.download_artifacts(run.run_id, "configuration/config.yaml", str(tmp_path)))
    assert config.read_text() == "cohort: ~/config.yaml\n"


def draw() -> Any:
    from matplotlib import pyplot

    return pyplot.figure(figsize=(1, 1))


def test_nothing_identifying_is_recorded(tmp_path, tracking_uri):
    import getpass
    import platform

    run = MLflowRun("anonymous", "run", output_dir=tmp_path, tracking_uri=tracking_uri)
    run.start()
    run.finish()
    found = open_client(tracking_uri).get_run(run.run_id)
    assert not {"mlflow.user", "mlflow.source.name"} & set(found.data.tags)
    recorded = [*found.data.tags.values(), *found.data.params.values(), str(found.info.user_id)]
    for secret in (getpass.getuser(), platform.node(), str(Path.home()), str(Path.cwd())):
        assert not any(value == secret or (len(secret) > 4 and secret in value) for value in recorded)


def test_default_store_and_artifacts_lie_in_the_output_folder(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run = MLflowRun("default", "run", output_dir=tmp_path / "out put")
    run.start()
    run.finish()
    names = sorted(path.name for path in (tmp_path / "out put").iterdir())
    assert names == ["mlartifacts", "mlflow.db", RUN_FILE]
    assert list((tmp_path / "out put" / "mlartifacts").rglob("environment.json"))
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize(("error", "status"), [(RuntimeError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_an_exception_ends_the_run_and_is_raised(tmp_path, tracking_uri, error, status):
    run = MLflowRun("failures", "run", output_dir=tmp_path, tracking_uri=tracking_uri, interval=1)
    trainer = make_trainer(fail_at=3, error=error)
    run.attach(trainer)
    with pytest.raises(error, match="the data ran out"):
        trainer.run([0] * 4, max_epochs=2)
    client = open_client(tracking_uri)
    found = client.get_run(run.run_id)
    assert found.info.status == status
    assert curve(client, run.run_id, "joint/pixel") == {1: 1.0, 2: 2.0}
    assert found.data.tags.get("failure") == (
        "RuntimeError('the data ran out')" if status == "FAILED" else None
    )


def test_a_resumed_training_continues_its_run_and_repeats_no_step(tmp_path, tracking_uri):
    given = {"output_dir": tmp_path, "tracking_uri": tracking_uri, "interval": 1}
    first = MLflowRun("resumed", "run", parameters={"a": 1, "b": 2}, **given)
    trainer = make_trainer(fail_at=6)
    first.attach(trainer)
    with pytest.raises(RuntimeError):
        trainer.run([0] * 4, max_epochs=3)

    # Epoch 1 was the last checkpoint: iterations 5 to 12 run again. The shift shows which values were kept.
    second = MLflowRun("resumed", "run", parameters={"a": 1, "b": 5, "c": 7}, **given)
    trainer = make_trainer(shift=0.25)
    second.attach(trainer)
    trainer.load_state_dict({"epoch_length": 4, "max_epochs": 3, "iteration": 4})
    trainer.run([0] * 4)

    assert second.run_id == first.run_id
    client = open_client(tracking_uri)
    found = client.get_run(second.run_id)
    assert found.info.status == "FINISHED"
    expected = {step: float(step) for step in range(1, 6)} | {step: step + 0.25 for step in range(6, 13)}
    assert curve(client, second.run_id, "joint/pixel") == expected
    assert found.data.params == {"a": "1", "b": "2", "c": "7"}
    assert found.data.tags["changed.b"] == "2 -> 5 at iteration 4"
    assert found.data.tags["resumed_at_iteration"] == "4"
    assert len(client.search_runs([found.info.experiment_id])) == 1


def test_a_training_that_begins_anew_with_other_parameters_is_another_run(tmp_path, tracking_uri):
    runs = []
    given = {"output_dir": tmp_path, "tracking_uri": tracking_uri, "interval": 1}
    for rate, stop in ((10, 3), (1, 3), (1, 0)):  # refused, mended and interrupted, called again
        run = MLflowRun("anew", "run", parameters={"learning_rate": rate}, **given)
        trainer = make_trainer(fail_at=stop)
        run.attach(trainer)
        with pytest.raises(RuntimeError) if stop else nullcontext():
            trainer.run([0] * 4, max_epochs=1)
        runs.append(run.run_id)
    assert runs[0] != runs[1] == runs[2]
    client = open_client(tracking_uri)
    refused, mended = (client.get_run(run_id) for run_id in runs[:2])
    assert (refused.info.status, refused.data.params) == ("FAILED", {"learning_rate": "10"})
    assert (mended.info.status, mended.data.params) == ("FINISHED", {"learning_rate": "1"})
    assert set(curve(client, runs[1], "joint/pixel")) == {1, 2, 3, 4}


def test_an_engine_that_runs_on_is_recorded_once(tmp_path, tracking_uri):
    run = MLflowRun("on", "run", output_dir=tmp_path, tracking_uri=tracking_uri, interval=1)
    trainer = make_trainer()
    run.attach(trainer)
    trainer.run([0] * 2, max_epochs=1)
    trainer.run([0] * 2, max_epochs=2)
    client = open_client(tracking_uri)
    assert curve(client, run.run_id, "joint/pixel") == {1: 1.0, 2: 2.0, 3: 3.0, 4: 4.0}
    assert client.get_run(run.run_id).info.status == "FINISHED"


def test_only_the_first_process_records(tmp_path, tracking_uri, monkeypatch):
    from medrestore.tracking import runs as module

    monkeypatch.setattr(module, "get_rank", lambda: 1)
    run = MLflowRun("second process", "run", output_dir=tmp_path / "run", tracking_uri=tracking_uri)
    trainer = make_trainer()
    run.attach(trainer)
    trainer.run([0] * 2, max_epochs=1)
    assert run.run_id is None
    assert not (tmp_path / "run").exists()


def test_what_a_store_does_not_take_is_kept_named_and_sent_by_the_next_call(
    tmp_path, tracking_uri, monkeypatch, caplog
):
    run = MLflowRun("kept", "run", output_dir=tmp_path, tracking_uri=tracking_uri)
    run.start()
    with monkeypatch.context() as patch:
        patch.setattr("mlflow.MlflowClient.log_batch", refuse)
        run.log({"loss": 1.0, "other": 3.0}, step=1)
        run.log({"loss": 2.0}, step=2)
        run.log_figure(draw(), "panels/epoch_0001.png")
        run.finish()
    assert "MLflow has not taken 4 records of run" in caplog.text
    assert f"call the same again, or: medrestore track sync {tmp_path}" in caplog.text
    client = open_client(tracking_uri)
    assert client.get_run(run.run_id).info.status == "RUNNING"
    assert sync_run(tmp_path) == 4
    assert curve(client, run.run_id, "loss") == {1: 1.0, 2: 2.0}
    assert curve(client, run.run_id, "other") == {1: 3.0}
    assert client.get_run(run.run_id).info.status == "FINISHED"
    assert [item.path for item in client.list_artifacts(run.run_id, "panels")] == ["panels/epoch_0001.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [RUN_FILE]
    assert sync_run(tmp_path) == 0


def refuse(*_: Any, **__: Any) -> None:
    from mlflow.exceptions import MlflowException

    raise MlflowException("no connection")


def test_a_resumed_run_sends_first_what_the_last_call_could_not(tmp_path, tracking_uri, monkeypatch):
    first = MLflowRun("resent", "run", output_dir=tmp_path, tracking_uri=tracking_uri, interval=1)
    trainer = make_trainer(fail_at=4)
    first.attach(trainer)
    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        # From the first iteration on: the beginning is recorded.
        trainer.add_event_handler(
            Events.ITERATION_STARTED(once=1), lambda: patch.setattr("mlflow.MlflowClient.log_batch", refuse)
        )
        trainer.run([0] * 4, max_epochs=2)

    second = MLflowRun("resent", "run", output_dir=tmp_path, tracking_uri=tracking_uri, interval=1)
    trainer = make_trainer(shift=0.25)
    second.attach(trainer)
    trainer.run([0] * 4, max_epochs=2)
    client = open_client(tracking_uri)
    expected = {1: 1.0, 2: 2.0, 3: 3.0} | {step: step + 0.25 for step in range(4, 9)}
    assert curve(client, second.run_id, "joint/pixel") == expected
    found = client.get_run(second.run_id)
    assert found.info.status == "FINISHED"
    assert found.data.tags["failure"] == "RuntimeError('the data ran out')"
    assert not (tmp_path / UNSENT).exists()


def test_a_finished_training_that_is_called_again_completes_its_record(tmp_path, tracking_uri, monkeypatch):
    from medrestore.engines.trainer import RestorationTrainer, TrainingEvents

    class Finished(RestorationTrainer):
        def __init__(self) -> None:
            Engine.__init__(self, lambda *_: None)
            self.register_events(*TrainingEvents)

    run = MLflowRun("again", "run", output_dir=tmp_path, tracking_uri=tracking_uri)
    with monkeypatch.context() as patch:
        run.start()
        patch.setattr("mlflow.MlflowClient.set_terminated", refuse)
        run.finish()
    assert (tmp_path / UNSENT).is_dir()
    trainer = Finished()
    MLflowRun("again", "run", output_dir=tmp_path, tracking_uri=tracking_uri).attach(trainer)
    trainer.fire_event(TrainingEvents.FOUND_FINISHED)
    assert open_client(tracking_uri).get_run(run.run_id).info.status == "FINISHED"
    assert not (tmp_path / UNSENT).exists()


def test_a_run_that_the_store_does_not_hold_is_replaced_with_a_warning(tmp_path, tracking_uri, caplog):
    (tmp_path / RUN_FILE).write_text(json.dumps({"run_id": "0" * 32}))
    run = MLflowRun("replaced", "run", output_dir=tmp_path, tracking_uri=tracking_uri)
    with caplog.at_level(logging.WARNING, logger="medrestore.tracking"):
        run.start()
    run.finish()
    assert "names a run that" in caplog.text
    assert json.loads((tmp_path / RUN_FILE).read_text())["run_id"] == run.run_id != "0" * 32


def test_training_goes_on_while_the_store_is_out_of_reach(tmp_path, tracking_uri, monkeypatch, caplog):
    """A call of the store that hangs, and then fails, takes no time of the training."""

    def hang(*_: Any, **__: Any) -> None:
        hung.set()
        let_go.wait(30)
        refuse()

    hung, let_go = threading.Event(), threading.Event()
    run = MLflowRun("unreachable", "run", output_dir=tmp_path, tracking_uri=tracking_uri)
    run.start()
    with monkeypatch.context() as patch:
        patch.setattr("mlflow.MlflowClient.log_batch", hang)
        run.log({"loss": 1.0}, step=1)
        assert hung.wait(30)
        run.log({"loss": 2.0}, step=2)  # would wait for the store, were it not beside the training
        assert not let_go.is_set()
        let_go.set()
        told = "took no record (no connection); records are kept in"
        for _ in range(300):  # the thread that sends tells it in its own time, and not once the run ends
            if told in caplog.text:
                break
            time.sleep(0.1)
        run.finish("KILLED")
    assert told in caplog.text
    assert sync_run(tmp_path) == 3
    client = open_client(tracking_uri)
    assert curve(client, run.run_id, "loss") == {1: 1.0, 2: 2.0}
    assert client.get_run(run.run_id).info.status == "KILLED"


def test_rates_of_networks_that_learn_and_no_curve_twice(tmp_path, tracking_uri):
    from medrestore.engines.trainer import RestorationTrainer

    run = MLflowRun("rates", "run", output_dir=tmp_path, tracking_uri=tracking_uri, interval=1)

    class Partly(RestorationTrainer):
        def __init__(self) -> None:
            step = make_trainer().step  # type: ignore[attr-defined]
            step.learning = lambda stage: stage.train
            Engine.__init__(self, lambda *_: {"generator": 2.0, "pixel": 1.0, "loss": 2.0})
            self.step = step
            self.stages = (SimpleNamespace(train=("generator",)),)  # type: ignore[assignment]

    trainer = Partly()
    run.start()
    trainer.add_event_handler(Events.ITERATION_COMPLETED, run._iteration)
    Engine.run(trainer, [0] * 2, max_epochs=1)
    run.finish()
    assert set(open_client(tracking_uri).get_run(run.run_id).data.metrics) == {
        "joint/generator",
        "joint/pixel",
        "learning_rate/generator",
    }


def test_weights_that_a_run_starts_from_are_told_apart(tmp_path, tracking_uri):
    (tmp_path / "model.pt").write_bytes(b"weights")
    run = MLflowRun(
        "inputs",
        "run",
        output_dir=tmp_path / "run",
        tracking_uri=tracking_uri,
        inputs={"observer": tmp_path / "model.pt", "task_weights": None},
    )
    run.start()
    run.finish()
    assert open_client(tracking_uri).get_run(run.run_id).data.params == {
        "observer": "model.pt",
        "observer_sha256": sha256_file(tmp_path / "model.pt"),
        "task_weights": "None",
    }


def test_variables_of_mlflow_count_where_nothing_is_given(tmp_path, tracking_uri, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "from the environment")
    by_variable = MLflowRun(None, "run", output_dir=tmp_path, default_experiment="default")
    assert (by_variable.experiment, by_variable.tracking_uri) == ("from the environment", tracking_uri)
    given = MLflowRun("given", "run", output_dir=tmp_path, tracking_uri="sqlite:///x.db")
    assert (given.experiment, given.tracking_uri) == ("given", "sqlite:///x.db")
    with caplog.at_level(logging.INFO, logger="medrestore.tracking"):
        by_variable.start()
    by_variable.finish()
    assert f"run 'run' of experiment 'from the environment' at {tracking_uri}" in caplog.text
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME")
    default = MLflowRun(None, "run", output_dir=tmp_path, default_experiment="default")
    assert (default.experiment, default.tracking_uri) == ("default", f"sqlite:///{tmp_path}/mlflow.db")


def test_an_interpreter_that_ends_marks_the_run_killed(tmp_path, tracking_uri, monkeypatch):
    import atexit

    at_exit: list[Callable[[], None]] = []
    monkeypatch.setattr(atexit, "register", at_exit.append)
    run = MLflowRun("ended", "run", output_dir=tmp_path, tracking_uri=tracking_uri)
    run.start()
    run.log({"loss": 1.0}, step=1)
    for call in at_exit:
        call()
    client = open_client(tracking_uri)
    assert client.get_run(run.run_id).info.status == "KILLED"
    assert curve(client, run.run_id, "loss") == {1: 1.0}


def test_an_output_that_is_no_dictionary_is_refused(tmp_path, tracking_uri):
    trainer = Engine(lambda engine, batch: 1.0)
    MLflowRun("refused", "run", output_dir=tmp_path, tracking_uri=tracking_uri, interval=1).attach(trainer)
    with pytest.raises(InputError, match="must be a dictionary of losses by name, got float"):
        trainer.run([0])


def test_wrong_settings_are_refused(tmp_path, tracking_uri):
    with pytest.raises(InputError, match="interval must be in"):
        MLflowRun("wrong", "run", output_dir=tmp_path, interval=0)
    with pytest.raises(InputError, match="tracking_uri 'nonsense://x': MLflow cannot open this store"):
        MLflowRun("wrong", "run", output_dir=tmp_path, tracking_uri="nonsense://x").start()
    client = open_client(tracking_uri)
    client.delete_experiment(experiment_id(client, "deleted", tracking_uri))
    with pytest.raises(InputError, match="experiment 'deleted' was deleted"):
        MLflowRun("deleted", "run", output_dir=tmp_path, tracking_uri=tracking_uri).start()
