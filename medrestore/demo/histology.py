"""The main job on a histology picture: cut tiles, train SRGAN_SQE and its ablations, restore, evaluate."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from medrestore.experiments.runs import how_to_compare, say, train_run
from medrestore.files import require_empty_folder

__all__ = ["BUNDLE", "EXPERIMENT", "METHODS", "run_demo"]

BUNDLE = "histology_srgan"
EXPERIMENT = "histology_evaluation"
METHODS = ("e", "qe", "sqe")
"""Overlays of the bundle that are trained and compared; SRGAN itself needs weights of VGG19."""

ENCODER = "autoencoder"


def run_demo(
    output: str | os.PathLike[str],
    *,
    seed: int = 0,
    variants: Sequence[str] = ("demo",),
    methods: Sequence[str] = METHODS,
) -> Path:
    """Cut scikit-image's example picture into tiles, train SRGAN_SQE and its ablations, restore, evaluate.

    Parameters
    ----------
    output
        A new folder, or that of an earlier call, which is continued.
    seed
        Of the trainings.
    variants
        Overlays that every training gets before its own.
    methods
        Overlays that are trained, one a run; they share one autoencoder.

    Returns
    -------
    Path
        The folder of the evaluation.

    Notes
    -----
    Training, validation and test are regions of one picture, hence of one patient: an example of how to work,
    no evidence on how well a method generalizes.

    Raises
    ------
    InputError
        When ``output`` holds other things.
    """
    from medrestore.domains.histology.evaluation.evaluate import evaluate_tiles
    from medrestore.domains.histology.slides.example import EXAMPLE_TILES, write_example
    from medrestore.domains.histology.slides.tiles import make_tiles
    from medrestore.inference.restorer import restore_files
    from medrestore.tracking.evaluations import log_evaluation
    from medrestore.tracking.store import experiment_name, tracking_uri_of

    began = time.monotonic()
    folder = require_empty_folder(output, belongs="demo", marker="slides").resolve()
    tracking_uri, experiment = tracking_uri_of(None, folder), experiment_name(None, EXPERIMENT)
    say("1 of 4: cutting the example picture into tiles")
    manifest = make_tiles(write_example(folder / "slides"), output=folder / "cohort", **EXAMPLE_TILES)
    weights = {name: folder / "runs" / name / "model.pt" for name in (ENCODER, *methods)}
    for number, run in enumerate(weights, start=1):
        say(f"2 of 4: training {run} ({number} of {len(weights)})")
        overlays = [*variants, run]
        overrides: dict[str, Any] = {"seed": seed}
        if run != ENCODER:
            overrides["encoder_weights"] = str(weights[ENCODER])
        train_run(BUNDLE, folder, run, overlays, overrides, tracking_uri=tracking_uri)
    say("3 of 4: restoring the test tiles")
    restored = {method: folder / "restored" / method for method in methods}
    for method, place in restored.items():
        restore_files(manifest, weights=weights[method], output_dir=place, bundle=BUNDLE, split="test")
    say("4 of 4: evaluating")
    evaluation = evaluate_tiles(manifest, methods=restored, output=folder / "evaluation", seed=seed)
    typer.echo(evaluation.markdown)
    log_evaluation(evaluation, experiment=experiment, tracking_uri=tracking_uri)
    minutes = (time.monotonic() - began) / 60
    typer.echo(
        f"\nDone in {minutes:.1f} minutes. One picture, one patient: an example, no evidence.\n"
        f"  table and figure:   {folder / 'evaluation'}\n"
        f"  tiles on the slide: {folder / 'cohort' / 'overview'}\n"
        f"  restored tiles:     {folder / 'restored'}\n"
        f"{how_to_compare(experiment, tracking_uri)}"
    )
    return folder / "evaluation"
