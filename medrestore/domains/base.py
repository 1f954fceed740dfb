"""What a kind of image tells of itself, and how its folder is found: nothing else names it."""

from __future__ import annotations

import logging
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
from medrestore.kinds import added_kinds, own_kinds, spoken

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

_logger = logging.getLogger(__name__)


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
            fail(
                f"{self.name} has no manifests",
                path=manifest,
                remedy="name another kind of image, or a schema in its Domain",
            )
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
def _loaded() -> tuple[dict[str, Domain], dict[str, InputError]]:
    """Return all kinds of image by name, and why those of other packages that are broken are none."""
    found: dict[str, Domain] = {point.name: point.load() for point in own_kinds()}
    broken = {}
    for point in added_kinds():
        try:
            found[point.name] = _load(point)
        except InputError as error:
            broken[point.name] = error
            _logger.warning("warning: %s", error)
    return found, broken


def _load(point: EntryPoint) -> Domain:
    try:
        domain = point.load()
        if not isinstance(domain, Domain):
            raise TypeError(f"is {type(domain).__name__}, not Domain")
        if domain.name != point.name:
            raise ValueError(f"calls itself {domain.name!r}")
        domain.fit(pd.DataFrame())
    except (Exception, SystemExit) as error:  # of a package that is not ours: whatever goes wrong in it
        raise InputError(
            f"the kind of image {point.name!r} cannot be loaded from {point.value} "
            f"({type(error).__name__}: {one_line(error)}). Remedy: repair or uninstall that package"
        ) from error
    return domain


def _fits(table: pd.DataFrame) -> dict[str, int]:
    """Return how well a table fits each kind of image; that of a package which fails at it is left out."""
    own, fits = {point.name for point in own_kinds()}, {}
    for name, domain in _found().items():
        try:
            fits[name] = domain.fit(table)
        except Exception as error:
            if name in own:
                raise
            _logger.warning(
                "warning: the kind of image %r cannot tell whether a table is of it (%s: %s). "
                "Remedy: repair or uninstall the package that brings it",
                *(name, type(error).__name__, one_line(error)),
            )
    return fits


def _found() -> dict[str, Domain]:
    """Return all kinds of image: those of the folders here, and those that installed packages add."""
    return _loaded()[0]


def domain_called(name: str) -> Domain:
    """Return the kind of image of a name.

    Raises
    ------
    InputError
        When there is none: names those there are. When the package that brings it cannot be loaded.
    """
    found, broken = _loaded()
    if name in broken:
        raise broken[name]
    if name not in found:
        raise InputError(
            f"no kind of image is called {name!r}; there are {', '.join(found)}. Remedy: install the "
            "package that brings it, or evaluate again into a new folder"
        )
    return found[name]


def domain_of_table(manifest: str | os.PathLike[str]) -> Domain:
    """Return the kind of image that a manifest is of: the one whose required columns it has most of.

    Raises
    ------
    InputError
        When there is no such file, it is no CSV table, or its columns tell no kind of image, or two.
    """
    table, _ = parse_text_table(Path(manifest))
    held = {name: fit for name, fit in _fits(table).items() if _found()[name].schema is not None}
    most = max(held.values())
    best = [name for name, number in held.items() if number == most]
    if len(best) > 1 or most <= 0:
        names = [spoken(name) for name in (best if most > 0 else held)]
        fail(
            f"its columns do not tell the kind of image: {', '.join(names)}",
            path=manifest,
            remedy="name it, --domain NAME",
        )
    return _found()[best[0]]


def schema_of_table(table: pd.DataFrame) -> Schema | None:
    """Return the schema of the kind of image all of whose required columns a table has; None of no kind."""
    schemas = (_found()[name].schema_for(table) for name in _fits(table))
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
    fits = {_found()[name].quantity: fit for name, fit in _fits(table).items()}
    return max((one for one in fits if one is not None), key=fits.__getitem__)
