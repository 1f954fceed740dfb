"""One evaluation for every kind of image: methods against true images, to tables, figure and record."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Generic, TypedDict, TypeVar

import pandas as pd

from medrestore import __version__
from medrestore.checks import about
from medrestore.data.tables import records_of
from medrestore.evaluation.changes.page import DECISIONS
from medrestore.evaluation.changes.pictures import Picture, caption_of
from medrestore.evaluation.changes.tables import INVENTED, LOST, decision_table, find_table
from medrestore.evaluation.changes.written import Taken, kept, write_changes, write_pages
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
from medrestore.evaluation.verdict import restorations
from medrestore.files import atomic_path, sha256_file

__all__ = ["Case", "Comparison", "Measured", "Running", "run_evaluation"]

PICTURED = (LOST, INVENTED)
"""Changes of finds that pictures show."""

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


@dataclass(frozen=True, eq=False)
class Measured:
    """What was measured of a row of the manifest.

    Parameters
    ----------
    rows
        Of ``per_subject.csv``: one for each case and method.
    found
        Rows of tables of parts and finds, by the table's name.
    taken
        Pictures.
    """

    rows: list[dict[str, Any]]
    found: dict[str, list[dict[str, Any]]]
    taken: list[Taken]


class Comparison(ABC, Generic[True_, Image]):
    """What a kind of image does in its evaluation."""

    true_name: ClassVar[str] = "true"
    """Of the true image's rows, the last ones of each case."""

    @abstractmethod
    def cases(self, row: Mapping[str, Any]) -> Iterator[Case[True_, Image]]:
        """Yield the cases of a row of the manifest."""

    @abstractmethod
    def measured(self, image: Image | None, true: True_) -> Mapping[str, Any]:
        """Measure an image, or where it is None the true one itself.

        Under the names of the tables of parts and finds that the kind of image declares
        (:mod:`medrestore.evaluation.declared`): a list of their rows.
        """

    @abstractmethod
    def facts(self, per_subject: pd.DataFrame) -> Mapping[str, Any]:
        """Return what is recorded when all is measured, beside the number of subjects."""

    @abstractmethod
    def draw(self, per_subject: pd.DataFrame, summary: pd.DataFrame, *, path: Path) -> None:
        """Draw the figure into a PNG file."""

    def picture(
        self, _method: str, _images: Mapping[str, Image], _true: True_, _find: Mapping[str, Any] | None
    ) -> Picture | None:
        """Return a picture of what a method made of an image; None of kinds that have no such picture.

        Parameters
        ----------
        _method
            The restoration.
        _images
            Of all methods, the true one is not among them.
        _true
            What they are measured by.
        _find
            Row of the table of finds that it shows; None where it shows the whole.
        """
        return None

    def measure(self, row: Mapping[str, Any], metrics: Metrics) -> Measured:
        """Measure the cases of a row of the manifest."""
        parts, finds = metrics.changes.parts, metrics.changes.finds
        names = [one.name for one in (parts, finds) if one is not None]
        pictured = metrics.changes.decisions is not None or finds is not None
        whole = Measured([], {name: [] for name in names}, [])
        for case in self.cases(row):
            own = Measured([], {name: [] for name in names}, [])
            images: dict[str, Image] = {}
            true: Iterable[tuple[str, Image | None, Sequence[Path]]] = [(self.true_name, None, ())]
            for method, image, files in chain(case.images, true):
                with about(f"{case.name}, method {method!r}"), about(*files) if files else nullcontext():
                    measured = dict(self.measured(image, case.true))
                for name in names:
                    own.found[name] += [
                        {**_named(case, metrics), "method": method, **item} for item in measured.pop(name, ())
                    ]
                own.rows.append({**case.columns, "method": method, **measured})
                if image is not None and pictured:
                    images[method] = image
            whole.rows.extend(own.rows)
            for name in names:
                whole.found[name].extend(own.found[name])
            if pictured:
                whole.taken.extend(self._pictures(case, images, own, metrics))
        return whole

    def _pictures(
        self, case: Case[True_, Image], images: Mapping[str, Image], own: Measured, metrics: Metrics
    ) -> Iterator[Taken]:
        """Yield pictures of what restorations lose, repair and invent in a case."""
        table, finds = pd.DataFrame(own.rows), metrics.changes.finds
        methods = restorations(table, metrics)
        shown: list[tuple[str, str, Mapping[str, Any] | None, Mapping[str, Any]]] = []
        if metrics.changes.decisions is not None:
            turned = decision_table(table, methods, true_name=self.true_name, metrics=metrics)
            first = turned.drop_duplicates(["method", "change"])  # one picture, whichever judge it was
            shown += [(DECISIONS, "distance", None, row) for row in records_of(first)]
        if finds is not None and own.found[finds.name]:
            changed = find_table(pd.DataFrame(own.found[finds.name]))
            changed = changed[changed["method"].isin(methods) & changed["change"].isin(PICTURED)]
            changed = changed.sort_values("volume_ml", ascending=False, kind="stable")
            first = changed.groupby(["method", "change"], sort=False).head(1)
            shown += [(finds.name, "volume_ml", row, row) for row in records_of(first)]
        for name, weight, find, row in shown:
            picture = self.picture(row["method"], images, case.true, find)
            if picture is not None:
                caption = caption_of(case.name, row, picture)
                yield Taken(row["method"], name, row["change"], float(row[weight]), caption, picture)


def _named(case: Case[Any, Any], metrics: Metrics) -> dict[str, Any]:
    """Return the columns that name a case."""
    names = ("subject_id", "session_id", "group", metrics.strata.column)
    return {name: case.columns[name] for name in names if name in case.columns}


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
        measure = partial(comparison.measure, metrics=metrics)
        whole = Measured([], {}, [])
        for one in measure_scans(rows, measure, workers=workers, progress=progress, unit=unit):
            whole.rows.extend(one.rows)
            for name, items in one.found.items():
                whole.found.setdefault(name, []).extend(items)
            whole.taken[:] = kept([*whole.taken, *one.taken])
        per_subject = pd.DataFrame(whole.rows)
        texts = [name for name in metrics.text_columns if name in per_subject]
        per_subject[texts] = per_subject[texts].fillna("")
        summary = summary_table(per_subject, metrics=metrics, seed=seed)
        differences = difference_table(per_subject, metrics=metrics, pairs=pairs, seed=seed)
        record |= {"subjects": int(rows["subject_id"].nunique()), "true": comparison.true_name}
        record |= {**comparison.facts(per_subject)}
        with atomic_path(claim.folder / "figure.png") as temporary:
            comparison.draw(per_subject, summary, path=temporary)
        result = Evaluation(claim.folder, per_subject, summary, differences, record, metrics)
        write_changes(result, found=whole.found, taken=whole.taken)
        write_pages(result)
        write_evaluation(result, notes=notes(record, summary))
        return result
