"""The main job on an embedded cohort: simulate, train, restore, evaluate; every step is kept."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from medrestore.files import require_empty_folder

__all__ = ["BUNDLE", "EXPERIMENT", "METHODS", "run_demo"]

BUNDLE = "amyloid_pet_taskgan"
EXPERIMENT = "amyloid_pet_evaluation"
METHODS = ("l1", "l1_task", "gan", "taskgan")
"""Overlays of the bundle that are trained and compared."""


def run_demo(
    output: str | os.PathLike[str],
    *,
    seed: int = 0,
    size: str = "demo",
    variants: Sequence[str] = ("demo",),
    methods: Sequence[str] = METHODS,
) -> Path:
    """Simulate a cohort, train Task-GAN and its baselines, restore the test subjects and evaluate them.

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
    from medrestore.data.phantoms.cohort import simulate_cohort
    from medrestore.engines.bundle import open_bundle
    from medrestore.evaluation.evaluate import evaluate
    from medrestore.inference.restore import VolumeEvaluator, find_volumes, load_restorer
    from medrestore.tracking.evaluations import log_evaluation

    began = time.monotonic()
    folder = require_empty_folder(output, belongs="demo", marker="cohort").resolve()
    tracking_uri = f"sqlite:///{folder / 'mlflow.db'}"
    _say(f"1 of 4: simulating the cohort ({size})")
    manifest = simulate_cohort(folder / "cohort", size=size, seed=seed)
    observer, task = (folder / "runs" / name / "model.pt" for name in ("observer", "task"))
    runs = ("observer", "task", *methods)
    for number, method in enumerate(runs, start=1):
        _say(f"2 of 4: training {method} ({number} of {len(runs)})")
        overrides: dict[str, Any] = {
            "dataset_dir": str(folder / "cohort"),
            "output_dir": str(folder / "runs" / method),
            "tracking_uri": tracking_uri,
        }
        overlays = [*variants, method]
        if method != "observer":
            overrides |= {"seed": seed, "observer": str(observer)}
        if method in ("l1_task", "taskgan"):
            overrides |= {"task_weights": str(task)}
            overlays.insert(-1, "pretrained")
        workflow = open_bundle(BUNDLE, "train", variants=overlays, overrides=overrides)
        workflow.initialize()
        workflow.run()
        workflow.finalize()
    _say("3 of 4: restoring the test subjects")
    restored = {method: folder / "restored" / method for method in methods}
    for method, place in restored.items():
        weights = folder / "runs" / method / "model.pt"
        VolumeEvaluator(
            find_volumes(manifest, split="test"),
            load_restorer(weights),
            weights=weights,
            output_dir=place,
            bundle=BUNDLE,
        ).run()
    _say("4 of 4: evaluating")
    evaluation = evaluate(
        manifest,
        methods=restored,
        output=folder / "evaluation",
        task=folder / "runs" / "taskgan" / "model.pt" if "taskgan" in methods else None,
        observers=[observer],
        dose_series=manifest.with_name("dose_series.csv"),
    )
    log_evaluation(evaluation, experiment=EXPERIMENT, tracking_uri=tracking_uri)
    typer.echo(evaluation.markdown)
    minutes = (time.monotonic() - began) / 60
    typer.echo(
        f"\nDone in {minutes:.1f} minutes.\n"
        f"  table and figure:   {folder / 'evaluation'}\n"
        f"  restored NIfTI:     {folder / 'restored'}\n"
        f"  compare in MLflow:  mlflow ui --host 127.0.0.1 --backend-store-uri {tracking_uri}\n"
        f"  or on the terminal: medrestore compare {EXPERIMENT} --tracking-uri {tracking_uri}"
    )
    return folder / "evaluation"


def _say(text: str) -> None:
    typer.secho(f"\n{text}", bold=True)
