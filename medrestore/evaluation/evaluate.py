"""One evaluation for every kind of image: methods against true images, to tables, figure and record."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Generic, TypedDict, TypeVar

import pandas as pd

from medrestore import __version__
from medrestore.checks import about
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

__all__ = ["Case", "Comparison", "Running", "run_evaluation"]

True_ = TypeVar("True_")
Image = TypeVar("Image")


@dataclass(frozen=True, eq=False)
class Case(Generic[True_, Image]):
    """A true image, and what methods made of its degraded one.

    Parameters
    ----------
    name
        In messages.
    columns
        What the table per subject says of it.
    true
        What images are measured by.
    images
        Name of the method, image, and the files that it is from; read one after another, once.
    """

    name: str
    columns: Mapping[str, Any]
    true: True_
    images: Iterator[tuple[str, Image, Sequence[Path]]]


class Comparison(ABC, Generic[True_, Image]):
    """What a kind of image does in its evaluation."""

    true_name: ClassVar[str] = "true"
    """Of the true image's rows, the last ones of each case."""

    @abstractmethod
    def cases(self, row: Mapping[str, Any]) -> Iterator[Case[True_, Image]]:
        """Yield the cases of a row of the manifest."""

    @abstractmethod
    def measured(self, image: Image | None, true: True_) -> Mapping[str, Any]:
        """Measure an image, or where it is None the true one itself."""

    @abstractmethod
    def facts(self, per_subject: pd.DataFrame) -> Mapping[str, Any]:
        """Return what is recorded when all is measured, beside the number of subjects."""

    @abstractmethod
    def draw(self, per_subject: pd.DataFrame, summary: pd.DataFrame, *, path: Path) -> None:
        """Draw the figure into a PNG file."""

    def measure(self, row: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the rows of ``per_subject.csv`` of a row of the manifest: one for each case and method."""
        found: list[dict[str, Any]] = []
        for case in self.cases(row):
            true: Iterable[tuple[str, Image | None, Sequence[Path]]] = [(self.true_name, None, ())]
            for method, image, files in chain(case.images, true):
                with about(f"{case.name}, method {method!r}"), about(*files) if files else nullcontext():
                    measured = self.measured(image, case.true)
                found.append({**case.columns, "method": method, **measured})
        return found


class Running(TypedDict, total=False):
    """How an evaluation of whatever kind of image is run: parameters of :func:`run_evaluation`."""

    pairs: Sequence[tuple[str, str]]
    seed: int
    workers: int | None
    progress: bool


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
    prepare: Callable[[], Comparison[Any, Any]],
    notes: Callable[[Mapping[str, Any], pd.DataFrame], Sequence[str]],
    unit: str = "scan",
    pairs: Sequence[tuple[str, str]] | None = None,
    seed: int = 0,
    workers: int | None = None,
    progress: bool = True,
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
        Methods whose paired differences are reported; those of the metrics when not given.
    seed
        Of the bootstrap.
    workers, progress, unit
        As in :func:`~medrestore.evaluation.record.measure_scans`.

    Raises
    ------
    InputError
        When the folder holds other results, or rows could not be measured: all of them.
    """
    pairs = metrics.pairs if pairs is None else pairs
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
        comparison = prepare()
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
