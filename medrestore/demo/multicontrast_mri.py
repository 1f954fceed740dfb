"""The main job on a simulated multi-contrast MRI cohort: co-register, train, restore, evaluate."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from medrestore.experiments.runs import how_to_compare, say, train_run
from medrestore.files import require_empty_folder

if TYPE_CHECKING:
    from medrestore.domains.multicontrast_mri.simulate.design import MriCohortSize

__all__ = ["BUNDLE", "EXPERIMENT", "METHODS", "run_demo"]

BUNDLE = "multicontrast_mri_taskgan"
EXPERIMENT = "multicontrast_mri_evaluation"
METHODS = ("l1", "gan", "taskgan")
"""Overlays of the bundle that are trained and compared; the classical fit needs no training."""

JUDGES = ("observer", "segmenter", "task")
"""Overlays that are trained on true images alone: contrast observer, lesion segmenter, and T."""


def run_demo(
    output: str | os.PathLike[str],
    *,
    seed: int = 0,
    size: str | MriCohortSize = "demo",
    variants: Sequence[str] = ("demo",),
    methods: Sequence[str] = METHODS,
) -> Path:
    """Simulate a cohort, co-register it, train Task-GAN and its baselines, restore six contrasts, evaluate.

    Parameters
    ----------
    output
        A new folder, or that of an earlier call, which is continued.
    seed
        Of the cohort and the trainings.
    size
        Of the cohort: ``demo`` | ``large`` | ``reference``, or other numbers of subjects and another grid.
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
    from medrestore.domains.multicontrast_mri.acquisition.acquisition import make_acquisition
    from medrestore.domains.multicontrast_mri.evaluation.evaluate import evaluate_contrasts
    from medrestore.domains.multicontrast_mri.registration.coregister import coregister_manifest
    from medrestore.domains.multicontrast_mri.simulate.cohort import simulate_mdme_cohort
    from medrestore.inference.restorer import restore_files
    from medrestore.operators.mdme import MdmeProtocol
    from medrestore.operators.mr_sequences import CONTRASTS
    from medrestore.tracking.evaluations import log_evaluation
    from medrestore.tracking.store import experiment_name, tracking_uri_of

    began = time.monotonic()
    folder = require_empty_folder(output, belongs="demo", marker="simulated").resolve()
    tracking_uri, experiment = tracking_uri_of(None, folder), experiment_name(None, EXPERIMENT)
    say(f"1 of 5: simulating the cohort ({size if isinstance(size, str) else size.name})")
    raw = simulate_mdme_cohort(folder / "simulated", size=size, seed=seed)
    say("2 of 5: co-registering the six contrasts to the MDME images")
    protocol = MdmeProtocol()
    manifest = coregister_manifest(
        raw,
        folder / "cohort",
        contrasts=tuple(CONTRASTS),
        acquisition=make_acquisition(
            saturation_delays_ms=protocol.saturation_delays_ms, echo_times_ms=protocol.echo_times_ms
        ),
    )
    weights = {name: folder / "runs" / name / "model.pt" for name in (*JUDGES, *methods)}
    for number, run in enumerate(weights, start=1):
        say(f"3 of 5: training {run} ({number} of {len(weights)})")
        overlays, overrides = [*variants, run], dict[str, Any]()
        if run != "observer":
            overrides["seed"] = seed
        if run in methods:
            overrides["observer"] = str(weights["observer"])
        if run == "taskgan":
            overrides["task_weights"] = str(weights["task"])
        train_run(BUNDLE, folder, run, overlays, overrides, tracking_uri=tracking_uri)
    say("4 of 5: restoring the test subjects")
    restored = {method: folder / "restored" / method for method in methods}
    for method, place in restored.items():
        restore_files(manifest, weights=weights[method], output_dir=place, bundle=BUNDLE, split="test")
    say("5 of 5: evaluating")
    evaluation = evaluate_contrasts(
        manifest,
        methods=restored,
        output=folder / "evaluation",
        task=weights["task"],
        observers=[weights["observer"]],
        segmenter=weights["segmenter"],
        seed=seed,
    )
    typer.echo(evaluation.markdown)
    log_evaluation(evaluation, experiment=experiment, tracking_uri=tracking_uri)
    minutes = (time.monotonic() - began) / 60
    typer.echo(
        f"\nDone in {minutes:.1f} minutes.\n"
        f"  table and figure:   {folder / 'evaluation'}\n"
        f"  co-registration:    {folder / 'cohort' / 'registration.csv'}, and a picture for each subject\n"
        f"  restored NIfTI:     {folder / 'restored'}\n"
        f"{how_to_compare(experiment, tracking_uri)}"
    )
    return folder / "evaluation"
