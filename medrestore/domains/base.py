"""What a kind of image tells of itself, and how its folder is found: nothing else names it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from numpy.typing import NDArray

from medrestore.checks import InputError, fail, one_line
from medrestore.data.intensity import RELATIVE, Intensity
from medrestore.data.tables import parse_text_table
from medrestore.evaluation.titles import MetricKey, Metrics
from medrestore.kinds import added_kinds, own_kinds

if TYPE_CHECKING:
    from medrestore.data.schema import Schema
    from medrestore.data.volumes import Volume
    from medrestore.evaluation.observers import Observer
    from medrestore.evaluation.record import Evaluation

__all__ = [
    "Domain",
    "Quantity",
    "domain_called",
    "domain_of_table",
    "label_of",
    "metrics_of",
    "quantities",
    "quantity_of",
    "schema_of_table",
]


@dataclass(frozen=True)
class Quantity:
    """What reader studies measure in the regions of an image, beside the reads.

    Parameters
    ----------
    name
        Of its column and its files.
    title, phrase
        On axes, and within a sentence.
    label_column
        Of a manifest: the class that the quantity rises with, where a plan names none.
    standard
        What the targets of a manifest are called in a sentence.
    measure
        From an image and the region code of each voxel to the number.
    scans
        From a manifest and its label column, or None, to its rows and the region map of each scan.
    look
        From a volume and observers to what each makes of it: ``NAME_score``.
    """

    name: str
    title: str
    phrase: str
    label_column: str
    standard: str
    measure: Callable[[NDArray[Any], NDArray[Any]], float]
    scans: Callable[[Path, str | None], tuple[pd.DataFrame, dict[str, Path]]]
    look: Callable[[Volume, Sequence[Observer]], Mapping[str, float]]


@dataclass(frozen=True)
class Domain:
    """A kind of image.

    Parameters
    ----------
    name
        Of its folder; records of its evaluations hold it.
    metrics
        What evaluations measure of it, and how tables show it.
    quantity
        What studies measure in regions of it.
    schema
        Of its manifests; one that depends on the table is given what the table holds, as text.
    intensity
        What air is in volumes of it, for :meth:`evaluate`.
    """

    name: str
    metrics: Metrics
    quantity: Quantity | None = None
    schema: Schema | Callable[[pd.DataFrame], Schema] | None = None
    intensity: Intensity = RELATIVE

    def schema_of(self, manifest: str | os.PathLike[str]) -> Schema:
        """Return the schema of a manifest.

        Raises
        ------
        InputError
            When there is no such file, it is no CSV table, or this kind of image has no manifests.
        """
        found = self.schema_for(parse_text_table(Path(manifest))[0])
        if found is None:
            raise InputError(f"{self.name} has no manifests. Remedy: name another kind of image")
        return found

    def schema_for(self, table: pd.DataFrame) -> Schema | None:
        """Return the schema of a table, given as text; None of a kind of image without manifests."""
        return self.schema(table) if callable(self.schema) else self.schema

    def evaluate(
        self,
        manifest: str | os.PathLike[str],
        *,
        methods: Mapping[str, str | os.PathLike[str]],
        output: str | os.PathLike[str],
        **running: Any,
    ) -> Evaluation:
        """Compare restorations with the true volumes, as a kind of image that brings no evaluation has it.

        Parameters are those of :func:`~medrestore.evaluation.volumes.evaluate_volumes`.
        """
        from medrestore.evaluation.volumes import evaluate_volumes

        return evaluate_volumes(
            manifest,
            domain=self.name,
            metrics=self.metrics,
            schema=self.schema_of(manifest),
            intensity=self.intensity,
            methods=methods,
            output=output,
            **running,
        )

    def fit(self, table: pd.DataFrame) -> int:
        """Return how many columns that its manifests must have a table has, less those that it lacks."""
        schema = self.schema_for(table)
        return sum(1 if name in table else -1 for name in (schema.required if schema else ()))


@cache
def _found() -> dict[str, Domain]:
    """Return all kinds of image: those of the folders here, and those that installed packages add."""
    here = [point.load() for point in own_kinds()]
    return {domain.name: domain for domain in [*here, *map(_loaded, added_kinds())]}


def _loaded(point: EntryPoint) -> Domain:
    try:
        domain: Domain = point.load()
    except Exception as error:  # of a package that is not ours: whatever goes wrong in it
        raise InputError(
            f"the kind of image {point.name!r} cannot be loaded from {point.value} "
            f"({type(error).__name__}: {one_line(error)}). Remedy: repair or uninstall that package"
        ) from error
    return domain


def domain_called(name: str) -> Domain:
    """Return the kind of image of a name.

    Raises
    ------
    InputError
        When there is none: names those there are.
    """
    if name not in _found():
        raise InputError(
            f"no kind of image is called {name!r}; there are {', '.join(_found())}. Remedy: install the "
            "package that brings it, or evaluate again into a new folder"
        )
    return _found()[name]


def domain_of_table(manifest: str | os.PathLike[str]) -> Domain:
    """Return the kind of image that a manifest is of: the one whose required columns it has most of.

    Raises
    ------
    InputError
        When there is no such file, it is no CSV table, or its columns tell no kind of image, or two.
    """
    table, _ = parse_text_table(Path(manifest))
    held = {name: domain.fit(table) for name, domain in _found().items() if domain.schema is not None}
    most = max(held.values())
    best = [name for name, number in held.items() if number == most]
    if len(best) > 1 or most <= 0:
        names = [name.replace("_", "-") for name in (best if most > 0 else held)]
        fail(
            f"its columns do not tell the kind of image: {', '.join(names)}",
            path=manifest,
            remedy="name it, --domain NAME",
        )
    return _found()[best[0]]


def schema_of_table(table: pd.DataFrame) -> Schema | None:
    """Return the schema of the kind of image all of whose required columns a table has; None of no kind."""
    schemas = [domain.schema_for(table) for domain in _found().values()]
    return next((one for one in schemas if one is not None and set(one.required) <= set(table)), None)


def metrics_of(name: str, measured: Iterable[str]) -> Metrics:
    """Return the metrics of the kind of image of an evaluation.

    Parameters
    ----------
    name
        As the evaluation's record holds it; empty in records that were written before they named it.
    measured
        Keys of its metrics. They tell the kind where the record does not: that which has most of them.

    Examples
    --------
    >>> metrics_of("", ["psnr", "patient/t1w/lesion_dice"]) == metrics_of("multicontrast_mri", [])
    True
    """
    if name:
        return domain_called(name).metrics
    names = {MetricKey.parse(key).name for key in measured}
    return max(_found().values(), key=lambda domain: len(names & domain.metrics.titles.keys())).metrics


def label_of(method: str) -> str:
    """Return a method's name as the first kind of image that knows it shows it."""
    labels = (domain.metrics.label_of(method) for domain in _found().values())
    return next((label for label in labels if label != method), method)


def quantities() -> tuple[Quantity, ...]:
    """Return what studies can measure in regions."""
    return tuple(domain.quantity for domain in _found().values() if domain.quantity is not None)


def quantity_of(manifest: str | os.PathLike[str] | None) -> Quantity:
    """Return what studies measure in the images of a manifest: of the kind whose columns it has most of.

    Without a manifest, and of one that is of no kind, that of the first: its schema tells what is wrong.
    """
    table = pd.DataFrame() if manifest is None else parse_text_table(Path(manifest))[0]
    fits = {one.quantity: one.fit(table) for one in _found().values() if one.quantity is not None}
    return max(fits, key=fits.__getitem__)
