"""One evaluation for every kind of image: methods against true images, to tables, figure and record."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from medrestore import __version__
from medrestore.evaluation.record import (
    Evaluation,
    claimed_evaluation,
    files_checksum,
    load_evaluation,
    measure_scans,
    write_evaluation,
)
from medrestore.evaluation.tables import difference_table, summary_table
from medrestore.evaluation.titles import Metrics
from medrestore.files import atomic_path, sha256_file

__all__ = ["Comparison", "run_evaluation"]


class Comparison(Protocol):
    """What a kind of image does in its evaluation."""

    def measure(self, row: Mapping[str, Any]) -> Sequence[dict[str, Any]]:
        """Return the rows of ``per_subject.csv`` of a row of the manifest: one for each image and method."""
        ...

    def facts(self, per_subject: pd.DataFrame) -> Mapping[str, Any]:
        """Return what is recorded when all is measured, beside the number of subjects."""
        ...

    def draw(self, per_subject: pd.DataFrame, summary: pd.DataFrame, *, path: Path) -> None:
        """Draw the figure into a PNG file."""
        ...


def run_evaluation(
    rows: pd.DataFrame,
    arms: Mapping[str, Mapping[str, Path]],
    *,
    output: str | os.PathLike[str],
    domain: str,
    metrics: Metrics,
    manifest: str | os.PathLike[str],
    split: str,
    methods: Iterable[str],
    settings: Mapping[str, Any],
    prepare: Callable[[], AbstractContextManager[Comparison]],
    notes: Callable[[Mapping[str, Any], pd.DataFrame], Sequence[str]],
    pairs: Sequence[tuple[str, str]],
    seed: int,
    workers: int | None,
    progress: bool,
    unit: str = "scan",
) -> Evaluation:
    """Evaluate methods on rows of a manifest, or return the evaluation that the folder holds.

    Parameters
    ----------
    rows
        Of the manifest, those of the split that is evaluated.
    arms
        Path by image and method, of :func:`~medrestore.evaluation.arms.find_files`.
    output
        New or empty folder. One that holds this very evaluation is returned as it is.
    domain, metrics
        Name and metrics of the kind of image.
    manifest, split, methods
        Where the rows are from, and names of those that restored the images of ``arms``.
    settings
        What tells this evaluation from others of its kind, beside what is recorded of all.
    prepare
        Does what has to be done before the first image, once the folder is claimed.
    notes
        From record and summary to what stands below the tables.
    pairs
        Methods whose paired differences are reported.
    seed
        Of the bootstrap.
    workers, progress, unit
        As in :func:`~medrestore.evaluation.record.measure_scans`.

    Raises
    ------
    InputError
        When the folder holds other results, or rows could not be measured: all of them.
    """
    record: dict[str, Any] = {
        "medrestore_version": __version__,
        "manifest_sha256": sha256_file(manifest),
        "split": split,
        "methods": {name: files_checksum([arms[image][name] for image in sorted(arms)]) for name in methods},
        "pairs": [list(pair) for pair in pairs],
        "seed": seed,
        **settings,
    }
    with claimed_evaluation(output, record) as claim:
        if claim.finished:
            return load_evaluation(claim.folder, metrics_of=lambda *_: metrics)
        record["domain"] = domain  # no setting: what was measured tells it, and older records do not hold it
        with prepare() as comparison:
            measured = measure_scans(rows, comparison.measure, workers=workers, progress=progress, unit=unit)
            per_subject = pd.DataFrame(list(measured))
            texts = [name for name in metrics.text_columns if name in per_subject]
            per_subject[texts] = per_subject[texts].fillna("")
            summary = summary_table(per_subject, metrics=metrics, seed=seed)
            differences = difference_table(per_subject, metrics=metrics, pairs=pairs, seed=seed)
            record |= {"subjects": int(rows["subject_id"].nunique()), **comparison.facts(per_subject)}
            with atomic_path(claim.folder / "figure.png") as temporary:
                comparison.draw(per_subject, summary, path=temporary)
        result = Evaluation(claim.folder, per_subject, summary, differences, record, metrics)
        write_evaluation(result, notes=notes(record, summary))
        return result
