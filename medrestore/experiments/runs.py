"""What demonstrations share: trainings in folders of their own, and headlines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

__all__ = ["say", "train_run"]


def train_run(
    bundle: str,
    folder: Path,
    run: str,
    overlays: Sequence[str],
    overrides: Mapping[str, Any],
    *,
    tracking_uri: str,
) -> Path:
    """Train one run of a bundle, or keep it when it is finished; return its weights.

    Parameters
    ----------
    bundle
        Name of a bundle that ships with the package.
    folder
        Of the demonstration: the cohort is in ``cohort``, the run goes to ``runs/RUN``.
    run
        Name of its folder.
    overlays
        Of the bundle, in this order.
    overrides
        Values by key.
    tracking_uri
        MLflow store.
    """
    from medrestore.engines.bundle import open_bundle

    places = {
        "dataset_dir": str(folder / "cohort"),
        "output_dir": str(folder / "runs" / run),
        "tracking_uri": tracking_uri,
    }
    workflow = open_bundle(bundle, "train", variants=overlays, overrides={**places, **overrides})
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    return folder / "runs" / run / "model.pt"


def say(text: str) -> None:
    """Print a headline."""
    typer.secho(f"\n{text}", bold=True)
