"""The main job of a kind of image from nothing to a table, as its ``demo.yaml`` describes it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import typer

from medrestore.experiments.description import Run, call, methods_of, read_description
from medrestore.experiments.runs import command, how_to_compare, say, train_run
from medrestore.files import atomic_path, require_empty_folder

__all__ = ["Demo", "Rehearsal", "find_demo", "run_demo"]

FILE = "demo.yaml"


@dataclass(frozen=True)
class Rehearsal:
    """A reader study whose readers are models.

    Parameters
    ----------
    methods
        Those that are arms: of those trained, or the last one where none is.
    readers
        Seeds of the trainings of readers that are networks.
    overlay
        That trains them.
    label_column, picked
        Column of classes, and by name in a plan: split, and how many scans of each class.
    plans
        Texts by file; the models read the first, a person may read the last.
    """

    methods: Sequence[str]
    readers: Mapping[str, int]
    overlay: str
    label_column: str
    picked: Mapping[str, tuple[str, int]]
    plans: Mapping[str, str]


@dataclass(frozen=True)
class Demo:
    """A demonstration.

    Parameters
    ----------
    bundle, experiment
        What is trained, and where MLflow has the evaluation.
    marker
        Folder that tells an earlier demonstration.
    prepare
        Steps to a manifest in ``cohort``: ``title`` (none where it belongs to the step before), ``call``,
        ``arguments``; what their values may be: :func:`~medrestore.experiments.description.value_of`, of
        ``folder``, ``seed``, ``size`` and ``made``, by the step before.
    runs
        By name, in their order.
    restoring
        Headline.
    evaluate
        ``call`` and ``arguments``, beside manifest, methods and output; ``$weights.RUN`` is None where that
        run is not trained.
    closing
        Text at the end.
    size
        Of a cohort that is simulated.
    rehearsal
        Where reader studies are part of it.
    """

    bundle: str
    experiment: str
    marker: str
    prepare: Sequence[Mapping[str, Any]]
    runs: Mapping[str, Run]
    restoring: str
    evaluate: Mapping[str, Any]
    closing: str
    size: str | None = None
    rehearsal: Rehearsal | None = None


def find_demo(subject: str) -> Demo:
    """Return the demonstration of a kind of image; refuse another one, naming those there are."""
    return read_description(Demo, subject, FILE)


def run_demo(
    subject: str,
    output: str | os.PathLike[str],
    *,
    seed: int = 0,
    size: Any = None,
    variants: Sequence[str] = ("demo",),
    methods: Sequence[str] | None = None,
) -> Path:
    """Prepare a cohort, train a method and its baselines, restore, evaluate; return the evaluation's folder.

    Parameters
    ----------
    subject
        Kind of image, its underscores as hyphens.
    output
        A new folder, or that of an earlier call, which is continued.
    seed
        Of the cohort and the trainings.
    size
        Of a simulated cohort, as its function takes it; that of the demonstration when not given.
    variants
        Overlays that every training gets before its own.
    methods
        Runs that are compared; all when not given.

    Raises
    ------
    InputError
        When ``output`` holds other things, or there is no such demonstration.
    """
    from medrestore.tracking.store import tracking_uri_of

    began = time.monotonic()
    demo = find_demo(subject)
    folder = require_empty_folder(output, belongs="demo", marker=demo.marker).resolve()
    size = demo.size if size is None else size
    work = _Work(
        demo,
        folder,
        variants,
        tuple(methods_of(demo.runs) if methods is None else methods),
        {"folder": folder, "seed": seed, "size": size, "size_name": getattr(size, "name", size)},
        tracking_uri_of(None, folder),
    )
    work.prepare()
    work.train()
    work.restore()
    texts = {"compare": work.evaluate(), **(work.rehearse() if demo.rehearsal is not None else {})}
    minutes = (time.monotonic() - began) / 60
    typer.echo("\n" + demo.closing.format(minutes=minutes, folder=folder, **texts))
    return folder / "evaluation"


@dataclass
class _Work:
    """A call of :func:`run_demo`; ``known`` is what values of the description stand for."""

    demo: Demo
    folder: Path
    variants: Sequence[str]
    compared: tuple[str, ...]
    known: dict[str, Any]
    tracking_uri: str
    step: int = 0

    def prepare(self) -> None:
        for step in self.demo.prepare:
            if "title" in step:
                self._headline(step["title"].format_map(self.known))
            self.known["made"] = call(step, self.known)

    def train(self) -> None:
        runs = {
            name: run for name, run in self.demo.runs.items() if not run.compared or name in self.compared
        }
        weights = {name: self.folder / "runs" / name / "model.pt" for name in runs}
        for number, (name, run) in enumerate(runs.items(), start=1):
            self._headline(f"training {name} ({number} of {len(runs)})", next_step=number == 1)
            seed = {"seed": self.known["seed"]} if run.seeded else {}
            self._train(name, name, seed | {key: str(weights[need]) for key, need in run.needs.items()})
        self.known["weights"] = weights

    def restore(self) -> None:
        from medrestore.inference.restorer import restore_files

        self._headline(self.demo.restoring)
        for method in self.compared:
            restore_files(
                self.known["made"],
                weights=self.known["weights"][method],
                output_dir=self.folder / "restored" / method,
                bundle=self.demo.bundle,
                split="test",
            )

    def evaluate(self) -> str:
        """Evaluate and record; return how to compare the record with others."""
        from medrestore.tracking.evaluations import log_evaluation
        from medrestore.tracking.store import experiment_name

        self._headline("evaluating")
        evaluation = call(
            self.demo.evaluate,
            self.known,
            manifest=self.known["made"],
            methods={method: self.folder / "restored" / method for method in self.compared},
            output=self.folder / "evaluation",
        )
        typer.echo(evaluation.markdown)
        experiment = experiment_name(None, self.demo.experiment)
        log_evaluation(evaluation, experiment=experiment, tracking_uri=self.tracking_uri)
        return how_to_compare(experiment, self.tracking_uri)

    def rehearse(self) -> dict[str, str]:
        """Let models read the restored test subjects, analyze their reads; return texts for the closing."""
        from medrestore.study.analysis.analyze import analyze_study
        from medrestore.study.create import create_study
        from medrestore.study.models.readers import simulate
        from medrestore.study.report.report import write_report
        from medrestore.tracking.studies import log_study

        self._headline("rehearsing the reader study")
        rehearsal = cast(Rehearsal, self.demo.rehearsal)
        manifest, seed = self.known["made"], self.known["seed"]
        methods = [name for name in self.compared if name in rehearsal.methods] or list(self.compared[-1:])
        for name, text in _plans(rehearsal, manifest, methods, seed=seed).items():
            if not (self.folder / name).exists():  # whoever has changed a plan keeps it
                with atomic_path(self.folder / name) as temporary:
                    temporary.write_text(text, encoding="utf-8")
        weights = [
            self._train(name, rehearsal.overlay, {"seed": reader_seed, "run_name": name})
            for name, reader_seed in rehearsal.readers.items()
        ]
        read, *_, tried = (self.folder / name for name in rehearsal.plans)
        study = create_study(read, output=self.folder / "study")
        simulate(study.folder, weights=weights, manifest=manifest, seed=seed)
        analysis = analyze_study(study.folder, manifest=manifest)
        report = write_report(analysis, study.folder / "analysis")
        errors = analysis.main.tables.errors
        errors["wrong"] = [f"{row.errors} of {row.reads}" for row in errors.itertuples()]
        table = errors.pivot_table(index="reader", columns="arm", values="wrong", aggfunc="first", sort=False)
        typer.echo(f"{analysis.summary}\n\nWrong decisions\n{table.rename_axis(index=None, columns=None)}")
        log_study(analysis, report, tracking_uri=self.tracking_uri)
        trial, words = self.folder / "study_human", partial(command, "medrestore", "study")
        return {
            "report": str(report / "report.html"),
            "create": words("create", tried, "--output", trial),
            "serve": words("serve", trial),
        }

    def _train(self, name: str, overlay: str, overrides: Mapping[str, Any]) -> Path:
        overlays = [*self.variants, overlay]
        return train_run(
            self.demo.bundle, self.folder, name, overlays, overrides, tracking_uri=self.tracking_uri
        )

    def _headline(self, text: str, *, next_step: bool = True) -> None:
        self.step += next_step
        steps = sum("title" in step for step in self.demo.prepare) + 3
        say(f"{self.step} of {steps + (self.demo.rehearsal is not None)}: {text}")


def _plans(rehearsal: Rehearsal, manifest: Path, methods: Sequence[str], *, seed: int) -> dict[str, str]:
    """Return the plans of the rehearsal and of a short study for a person, by the name of their file."""
    import pandas as pd

    from medrestore.data.identity import scan_name

    table = pd.read_csv(manifest, dtype=str, keep_default_na=False)
    picked = {
        name: ", ".join(
            scan_name(row.subject_id, row.session_id)
            for _, rows in table[table["split"] == split].groupby(rehearsal.label_column)
            for row in rows.head(most).itertuples()
        )
        for name, (split, most) in rehearsal.picked.items()
    }
    arms = "\n".join(f"  {method}: restored/{method}" for method in methods)
    given = {"seed": seed, "arms": arms, "primary": methods[-1], **picked}
    return {name: text.format(**given) for name, text in rehearsal.plans.items()}
