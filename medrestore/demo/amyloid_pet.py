"""The main job on a simulated amyloid PET cohort: train, restore, evaluate, rehearse a reader study."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from medrestore.experiments.runs import command, how_to_compare, say, train_run
from medrestore.files import atomic_path, require_empty_folder

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BUNDLE", "EXPERIMENT", "METHODS", "NETWORK_READERS", "SUVR_READERS", "run_demo"]

BUNDLE = "amyloid_pet_taskgan"
EXPERIMENT = "amyloid_pet_evaluation"
METHODS = ("l1", "l1_task", "gan", "taskgan")
"""Overlays of the bundle that are trained and compared."""

STUDY_METHODS = ("gan", "taskgan")
"""Methods that readers compare with standard and low dose, as in the paper's table 3."""

NETWORK_READERS = {"network_1": 7002, "network_2": 7003}
"""Model readers that are task networks, and the seeds of their trainings. No generator has met them: T is
part of Task-GAN's loss, and the observer was watched while the methods were trained."""

SUVR_READERS = ("suvr_1", "suvr_2", "suvr_3")

REHEARSAL_FILE, HUMAN_FILE = "study_plan.yaml", "study_plan_human.yaml"

REHEARSAL_PLAN = """\
# The study that the demo rehearses: all readers are models. docs/reader_studies.md explains every key.
title: Brain PET
seed: {seed}
arms:
{arms}
truth: {{manifest: cohort/manifest.csv, column: amyloid_status}}
readers:
{readers}
questions: florbetaben
washout_days: 0              # models forget
duplicate_fraction: 0.1      # shown again without notice: do readers agree with themselves?
primary: {{metric: error_rate, arm: {primary}, reference: standard, margin: 0.05}}
"""

HUMAN_PLAN = """\
# A short study for you to try, without days between sessions. docs/reader_studies.md explains every key.
title: Brain PET
seed: {seed}
arms:
{arms}
truth: {{manifest: cohort/manifest.csv, column: amyloid_status}}
cases: [{cases}]
readers: [reader_1]
questions: florbetaben
washout_days: 0              # in earnest 14 or more
duplicate_fraction: 0.1
training: {{arm: standard, cases: [{training}]}}
qualification: {{arm: standard, cases: [{qualification}], pass_mark: 0.5}}
primary: {{metric: error_rate, arm: {primary}, reference: standard, margin: 0.05}}
"""


def run_demo(
    output: str | os.PathLike[str],
    *,
    seed: int = 0,
    size: str = "demo",
    variants: Sequence[str] = ("demo",),
    methods: Sequence[str] = METHODS,
) -> Path:
    """Simulate a cohort, train Task-GAN and its baselines, restore, evaluate, and rehearse a reader study.

    Parameters
    ----------
    output
        A new folder, or that of an earlier call, which is continued.
    seed
        Of the cohort and the trainings.
    size
        Of the cohort: ``demo`` | ``reference``.
    variants
        Overlays that every training gets before its own.
    methods
        Overlays that are trained, one a run.

    Returns
    -------
    Path
        The folder of the evaluation.

    Raises
    ------
    InputError
        When ``output`` holds other things.
    """
    from medrestore.domains.amyloid_pet.evaluation.evaluate import evaluate
    from medrestore.domains.amyloid_pet.simulate.cohort import simulate_cohort
    from medrestore.inference.restorer import restore_files
    from medrestore.tracking.evaluations import log_evaluation
    from medrestore.tracking.store import experiment_name, tracking_uri_of

    began = time.monotonic()
    folder = require_empty_folder(output, belongs="demo", marker="cohort").resolve()
    tracking_uri, experiment = tracking_uri_of(None, folder), experiment_name(None, EXPERIMENT)
    say(f"1 of 5: simulating the cohort ({size})")
    manifest = simulate_cohort(folder / "cohort", size=size, seed=seed)
    observer, task = (folder / "runs" / name / "model.pt" for name in ("observer", "task"))
    runs = ("observer", "task", *methods)
    for number, method in enumerate(runs, start=1):
        say(f"2 of 5: training {method} ({number} of {len(runs)})")
        overrides: dict[str, Any] = {}
        overlays = [*variants, method]
        if method != "observer":
            overrides |= {"seed": seed, "observer": str(observer)}
        if method in ("l1_task", "taskgan"):
            overrides |= {"task_weights": str(task)}
        train_run(BUNDLE, folder, method, overlays, overrides, tracking_uri=tracking_uri)
    say("3 of 5: restoring the test subjects")
    restored = {method: folder / "restored" / method for method in methods}
    for method, place in restored.items():
        restore_files(
            manifest,
            weights=folder / "runs" / method / "model.pt",
            output_dir=place,
            bundle=BUNDLE,
            split="test",
        )
    say("4 of 5: evaluating")
    evaluation = evaluate(
        manifest,
        methods=restored,
        output=folder / "evaluation",
        task=folder / "runs" / "taskgan" / "model.pt" if "taskgan" in methods else None,
        observers=[observer],
        dose_series=manifest.with_name("dose_series.csv"),
    )
    typer.echo(evaluation.markdown)
    log_evaluation(evaluation, experiment=experiment, tracking_uri=tracking_uri)
    say("5 of 5: rehearsing the reader study")
    arms = [method for method in methods if method in STUDY_METHODS] or list(methods[-1:])
    report = _rehearse(folder, arms, variants=variants, seed=seed, tracking_uri=tracking_uri)
    trial, study = folder / "study_human", partial(command, "medrestore", "study")
    minutes = (time.monotonic() - began) / 60
    typer.echo(
        f"\nDone in {minutes:.1f} minutes.\n"
        f"  table and figure:   {folder / 'evaluation'}\n"
        f"  restored NIfTI:     {folder / 'restored'}\n"
        f"{how_to_compare(experiment, tracking_uri)}\n"
        f"  rehearsed study:    {report}\n"
        f"  be a reader:        {study('create', folder / HUMAN_FILE, '--output', trial)}\n"
        f"                      {study('serve', trial)}"
    )
    return folder / "evaluation"


def _rehearse(
    folder: Path, methods: Sequence[str], *, variants: Sequence[str], seed: int, tracking_uri: str
) -> Path:
    """Let model readers read the restored test subjects, analyze their reads; return the report."""
    from medrestore.domains.amyloid_pet.schema import pair_schema
    from medrestore.study.analysis.analyze import analyze_study
    from medrestore.study.create import create_study
    from medrestore.study.models.readers import simulate
    from medrestore.study.report.report import write_report
    from medrestore.tracking.studies import log_study

    manifest = folder / "cohort" / "manifest.csv"
    for name, text in _plans(pair_schema().read(manifest), methods, seed=seed).items():
        if not (folder / name).exists():  # whoever has changed a plan keeps it
            with atomic_path(folder / name) as temporary:
                temporary.write_text(text, encoding="utf-8")
    weights = [
        train_run(
            BUNDLE,
            folder,
            name,
            [*variants, "observer"],
            {"seed": reader_seed, "run_name": name},
            tracking_uri=tracking_uri,
        )
        for name, reader_seed in NETWORK_READERS.items()
    ]
    study = create_study(folder / REHEARSAL_FILE, output=folder / "study")
    simulate(study.folder, weights=weights, manifest=manifest, seed=seed)
    analysis = analyze_study(study.folder, manifest=manifest)
    report = write_report(analysis, study.folder / "analysis")
    errors = analysis.main.tables.errors
    errors["wrong"] = [f"{row.errors} of {row.reads}" for row in errors.itertuples()]
    by_reader = errors.pivot_table(index="reader", columns="arm", values="wrong", aggfunc="first", sort=False)
    typer.echo(f"{analysis.summary}\n\nWrong decisions\n{by_reader.rename_axis(index=None, columns=None)}")
    log_study(analysis, report, tracking_uri=tracking_uri)
    return report / "report.html"


def _plans(table: pd.DataFrame, methods: Sequence[str], *, seed: int) -> dict[str, str]:
    """Return the plans of the rehearsal and of a short study for a person, by the name of their file."""
    from medrestore.data.identity import scan_name

    names = {
        split: {
            label: [scan_name(row.subject_id, row.session_id) for row in rows.itertuples()]
            for label, rows in part.groupby("amyloid_status")
        }
        for split, part in table.groupby("split")
    }

    def some(split: str, count: int) -> str:
        """Name as many scans of each class."""
        return ", ".join(name for scans in names[split].values() for name in scans[:count])

    arms = "".join(
        f"  {arm}: {{manifest: cohort/manifest.csv, column: {column}, split: test}}\n"
        for arm, column in (("standard", "target"), ("low_dose", "degraded"))
    ) + "\n".join(f"  {method}: restored/{method}" for method in methods)
    readers = "\n".join(f"  {name}: {{kind: model}}" for name in (*NETWORK_READERS, *SUVR_READERS))
    common = {"seed": seed, "arms": arms, "primary": methods[-1]}
    return {
        REHEARSAL_FILE: REHEARSAL_PLAN.format(**common, readers=readers),
        HUMAN_FILE: HUMAN_PLAN.format(
            **common, cases=some("test", 2), training=some("train", 1), qualification=some("validation", 1)
        ),
    }
