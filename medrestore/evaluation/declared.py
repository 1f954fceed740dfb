"""What a restoration may change in a kind of image, as the kind declares it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Changes", "Decisions", "Finds", "Parts", "Stratum", "Tables"]

Tables: TypeAlias = "Mapping[str, pd.DataFrame]"
"""Of parts and finds, by their names."""


@dataclass(frozen=True)
class Decisions:
    """What classifiers decide of an image: columns ``JUDGE_score``, ``JUDGE_error`` and ``label``.

    Parameters
    ----------
    classes
        What a label says, by its number.
    """

    classes: Mapping[int, str]


@dataclass(frozen=True)
class Parts:
    """A number that is measured in each of several parts of an image.

    Parameters
    ----------
    name
        Of its table, ``NAME.csv``; what a comparison finds under it has ``part`` and ``value``.
    title
        Of the number.
    limit
        Relative change to the true image from which on it is one.
    why
        Where the limit is from, a sentence.
    """

    name: str
    title: str
    limit: float
    why: str


@dataclass(frozen=True)
class Finds:
    """Things that a reader marks in an image, found or not, true or not.

    Parameters
    ----------
    name
        Of their table, ``NAME.csv``; what a comparison finds under it has ``real`` (1 of a true one, 0 of a
        mark that is none), ``found`` (1 where it is marked), ``found_in_true`` (1 where the reader marks it
        in the true image), ``volume_ml``, ``x_mm``, ``y_mm``, ``z_mm`` and ``slice``.
    one, many
        What they are called.
    sizes_ml
        Volumes between which strata lie.
    why
        Who marks them, a sentence.
    """

    name: str
    one: str
    many: str
    sizes_ml: Sequence[float]
    why: str


@dataclass(frozen=True)
class Stratum:
    """Images that are judged apart.

    Parameters
    ----------
    title
        What they are told apart by.
    of
        From a method's rows of the table per subject, those of the true image beside them as ``true_COLUMN``,
        and the tables of parts and finds to the name of each row's stratum; empty where it has none.
    """

    title: str
    of: Callable[[pd.DataFrame, Tables], pd.Series[str]]


@dataclass(frozen=True)
class Changes:
    """All of it; what a kind of image does not declare is not shown.

    Parameters
    ----------
    decisions, parts, finds, strata
        As above.
    colors
        Of pictures, a color map of matplotlib.
    """

    decisions: Decisions | None = None
    parts: Parts | None = None
    finds: Finds | None = None
    strata: tuple[Stratum, ...] = ()
    colors: str = "gray"
