"""How restorations degrade when part of the training pairs is corrupted: many trainings, one figure."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medrestore import __version__
from medrestore.checks import counted
from medrestore.claims import claimed
from medrestore.experiments.corruption_figure import corruption_figure
from medrestore.experiments.corruption_plan import (
    LEVELS,
    evaluation_folder,
    make_jobs,
    make_plan,
    require_ready,
)
from medrestore.experiments.corruption_results import TABLES, StudyResults, pool_cells, write_results
from medrestore.experiments.corruption_tables import tables_text
from medrestore.experiments.jobs import run_jobs
from medrestore.files import atomic_path

__all__ = ["run_corruption_study"]

RECORD = "study.json"
RESULTS = ("results.csv", "evaluations/*/per_subject.csv", "runs/*/model.pt", "runs/*/checkpoint.pt")
"""What makes a folder that of its settings: others would be mixed with it."""


def run_corruption_study(
    subject: str,
    manifest: str | os.PathLike[str],
    *,
    output: str | os.PathLike[str],
    levels: Sequence[float] = LEVELS,
    variants: Sequence[str] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    overlays: Sequence[str] = (),
    overrides: Mapping[str, Any] | None = None,
    jobs: int = 1,
    experiment: str | None = None,
    tracking_uri: str | None = None,
    show: Callable[[Path], None] | None = None,
    progress: bool = True,
) -> Path:
    """Train every variant at every level of corruption and with every seed; restore, evaluate, draw.

    Parameters
    ----------
    subject
        Kind of image, which says what is trained (``corruption.yaml``).
    manifest
        With rows of the splits train, validation and test.
    output
        New or empty folder, or that of an earlier call with the same settings, which is continued: what is
        done is kept. Later calls may name other levels and seeds.
    levels
        Parts of the training pairs whose target is corrupted, from 0 to 1.
    variants
        Overlays of the bundle that are trained and compared, in this order: changes are compared with those
        of the first, and each variant with the one before it. Those of the kind of image when not given.
    seeds
        One training of each variant and level for each: of weights, batches and the choice of corrupted
        pairs.
    overlays
        Of the bundle, that every training gets before its own: names or YAML files.
    overrides
        Values by key of the bundle's ``train.yaml``, for all trainings.
    jobs
        Child processes at a time; they share the cores.
    experiment
        Name in MLflow; ``MLFLOW_EXPERIMENT_NAME`` when not given, and ``corruption_study`` without that.
    tracking_uri
        Any that MLflow knows; ``MLFLOW_TRACKING_URI`` when not given, and ``sqlite:///OUTPUT/mlflow.db``
        without that.
    show
        Called with ``output`` when the results are there, before they are recorded.
    progress
        Show a progress bar.

    Returns
    -------
    Path
        ``output``, with ``results.csv``, ``by_seed.csv``, ``changes.csv``, ``differences.csv``, ``tables.md``
        and ``figure.png``; below it ``runs``, ``restored``, ``evaluations`` and, in ``jobs``, the log of
        every child process.

    Raises
    ------
    InputError
        For settings that make no study, a folder of another study, or jobs that failed (each with the end of
        its log).

    Notes
    -----
    At each level and seed what methods need, as an autoencoder, is trained once for all of them, on the
    corrupted targets as they are: who has a badly curated training set has no clean one for it. Papers report
    one training of each; here are several, and intervals over patients. Order is by seed: a study that is cut
    short can be read with fewer seeds by a call that names those that are done.
    """
    from medrestore.evaluation.record import load_evaluation
    from medrestore.tracking.outbox import UNSENT
    from medrestore.tracking.parents import open_parent_run
    from medrestore.tracking.recording import RUN_FILE
    from medrestore.tracking.store import URI_VARIABLE, experiment_name, tracking_uri_of

    plan = make_plan(
        subject, Path(manifest), levels, variants, seeds, overlays=overlays, overrides=overrides, jobs=jobs
    )
    require_ready(plan)
    with claimed(
        output,
        plan.record(),
        record=RECORD,
        belongs="corruption study",
        other="another corruption study",
        has_results=lambda folder: any(next(folder.glob(name), None) for name in RESULTS),
        remains=("jobs", "runs", "restored", "evaluations", RUN_FILE, UNSENT),
        facts={"medrestore_version": __version__},
    ) as claim:
        folder = claim.folder.resolve()
        uri = tracking_uri_of(tracking_uri, folder)
        experiment = experiment_name(experiment, "corruption_study")
        selected = {"levels": list(plan.levels), "seeds": list(plan.seeds)}
        with open_parent_run(
            folder,
            experiment=experiment,
            run_name="corruption study",
            kind="corruption study",
            tracking_uri=uri,
            parameters={**claim.settings, **selected, "overlays": list(plan.overlays)},
        ) as parent:
            work = make_jobs(plan, folder, experiment=experiment, parent_run=parent.run_id)
            # A variable, not a part of the task: an address may hold a password, and tasks lie in the folder.
            run_jobs(
                work,
                folder=folder / "jobs",
                parallel=plan.jobs,
                environment={URI_VARIABLE: uri},
                progress=progress,
            )
            places = {cell: evaluation_folder(folder, *cell) for cell in plan.cells()}
            cells = {
                cell: load_evaluation(place, metrics_of=lambda *_: plan.metrics).per_subject
                for cell, place in places.items()
            }
            found = pool_cells(cells, plan.study, plan.metrics, variants=plan.variants)
            write_results(found, folder)
            _draw(found, folder)
            claim.note({"medrestore_version": __version__, **selected, "finished": True})
            if show is not None:
                show(folder)
            _log(parent, found)
            names = ("figure.png", "tables.md", RECORD, *(f"{name}.csv" for name in TABLES))
            parent.log_files([folder / name for name in names])
    return folder


def _draw(found: StudyResults, folder: Path) -> None:
    with atomic_path(folder / "figure.png") as temporary:
        corruption_figure(found).savefig(temporary, format="png")
    with atomic_path(folder / "tables.md") as temporary:
        temporary.write_text(tables_text(found, notes=_notes(found)), encoding="utf-8")


def _notes(found: StudyResults) -> list[str]:
    unit = found.study.unit
    seeds = found.seeds
    patients = int(found.results["patients"].max())
    several = f"a {unit}'s value is the mean over seeds, " if seeds > 1 else ""
    lines = [
        f"{counted(patients, 'test patient')}, {counted(seeds, 'seed')}; {several}a patient's "
        f"the mean over {unit}s."
    ]
    if patients > 1:
        lines.append("In parentheses: 95 % bootstrap intervals over patients.")
    if seeds > 1:
        lines.append(
            "Seeds are no further patients: how much the chance of a training matters is in by_seed.csv."
        )
    if any(level > 0 for level in found.levels):
        lines.append(f"Corrupted are the targets of training pairs alone; test {unit}s are clean.")
    if len(found.changes) and len(found.variants) > 1:
        lines.append("A ratio is given where the interval of the first method's change leaves out 0.")
    if patients == 1:
        lines.append("One patient gives no interval: these numbers say nothing about other patients.")
    return lines


def _log(parent: Any, found: StudyResults) -> None:
    """Record the means by name, and once more as curves whose step is the level in percent."""
    curves: dict[int, dict[str, float]] = {}
    values: dict[str, float] = {}
    for row in found.results.to_dict("records"):
        if math.isnan(row["level"]):
            values[f"{row['variant']}/{row['metric']}"] = row["mean"]
            continue
        key = f"{row['variant']}/level_{_decimal(row['level'])}/{row['metric']}"
        values |= {key: row["mean"], f"{key}_low": row["low"], f"{key}_high": row["high"]}
        step = round(100 * row["level"])
        curves.setdefault(step, {})[f"{row['variant']}/{row['metric']}_by_percent"] = row["mean"]
    parent.log_metrics(values)
    for step, points in curves.items():
        parent.log_metrics(points, step=step)


def _decimal(level: float) -> str:
    return f"{level:.2f}" if round(level, 2) == level else f"{level:g}"
