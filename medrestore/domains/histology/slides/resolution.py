"""Micrometers per pixel: which numbers can be those of a microscope, and which of several holds."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from medrestore.checks import InputError, fail

__all__ = [
    "COARSEST_MICRONS",
    "FINEST_MICRONS",
    "STATE_IT",
    "Statement",
    "implausible",
    "require_given",
    "require_microns",
    "stated_microns",
]

FINEST_MICRONS = 0.05
"""No light microscope resolves what lies between finer pixels."""

COARSEST_MICRONS = 20.0
"""Coarser resolutions in a file, in um/pixel, are those of a screen or printer."""

STATE_IT = (
    "state its micrometers per pixel by --slide-microns-per-pixel (microns_per_pixel of a bundle or a table "
    "of slides, slide_microns_per_pixel of a manifest of tiles)"
)
"""Remedy for a slide whose own resolution is of no use; of all commands that read slides."""

_OVERRIDE = f"for this slide alone, {STATE_IT}, with --override-microns-per-pixel, as the file states another"
_ANISOTROPY = 0.01
_UNITS = (
    (1e3, "millimeters"),
    (1e4, "centimeters"),
    (1e6, "meters"),
    (1e-3, "nanometers"),
    (25_400.0, "inches"),
)


@dataclass(frozen=True)
class Statement:
    """What a file says about its resolution in one place.

    Parameters
    ----------
    place : str
        Where it stands, for messages: ``openslide.mpp-x and -y``.
    x, y : float or None, um per pixel
        None where there is no number.
    written : str
        As it stands in the file, where that tells more than ``x`` and ``y``.
    everyday : bool
        Programs that know no microscope write it too, for screens and printers.
    """

    place: str
    x: float | None
    y: float | None
    written: str = ""
    everyday: bool = False


def implausible(microns: float) -> str:
    """Say why a number is no resolution of a microscope, with what it is likely to be; empty when it can be.

    >>> implausible(0.25), implausible(0.00025)
    ('', 'must be in [0.05, 20] micrometers, got 0.00025; as millimeters it would be 0.25')
    """
    if FINEST_MICRONS <= microns <= COARSEST_MICRONS:
        return ""
    return (
        f"must be in [{FINEST_MICRONS:g}, {COARSEST_MICRONS:g}] micrometers, got {microns:g}"
        f"{_other_unit(microns)}"
    )


def require_microns(name: str, microns: float) -> None:
    """Require a resolution that a microscope can have.

    Raises
    ------
    InputError
        Names the parameter, the range, and the unit that was probably meant.
    """
    if reason := implausible(microns):
        raise InputError(f"{name} {reason}")


def require_given(microns: float | None, *, override: bool) -> None:
    """Require that a resolution of slides is plausible where one is given, and given where it is to overrule.

    Raises
    ------
    InputError
        Names the option.
    """
    if microns is not None:
        require_microns("the slide's microns_per_pixel", microns)
    elif override:
        raise InputError(
            "--override-microns-per-pixel needs a resolution. Remedy: give it by --slide-microns-per-pixel"
        )


def stated_microns(path: Path, statements: Iterable[Statement]) -> tuple[float | None, str]:
    """Return the resolution that a file states, the first usable of its statements.

    Parameters
    ----------
    path : Path
        For messages.
    statements : iterable of Statement
        The most trustworthy first.

    Returns
    -------
    microns : float or None, um
        Geometric mean of both axes; None when nothing is stated.
    reason : str
        Why nothing usable is stated, for an error message; may be empty.

    Raises
    ------
    InputError
        When the first number that is not an everyday one cannot be that of a microscope, or its pixels are
        not square.
    """
    reasons = []
    for statement in statements:
        place, x, y = statement.place, statement.x, statement.y
        if x is None or y is None or not all(math.isfinite(value) and value > 0 for value in (x, y)):
            said = statement.written or f"{x} and {y}"
            reasons.append(f"{place}: {said}")
            continue
        if statement.everyday and min(x, y) > COARSEST_MICRONS:
            reasons.append(
                f"the file states {max(x, y):.3g} micrometers per pixel, those of a screen or printer"
            )
            continue
        for value in (x, y):
            if implausible(value):
                fail(
                    f"states {value:g} micrometers per pixel ({place}), which no microscope has"
                    f"{_other_unit(value)}",
                    path=path,
                    remedy=_OVERRIDE,
                )
        if abs(x - y) > _ANISOTROPY * min(x, y):
            fail(
                f"has pixels that are not square: {x:g} by {y:g} micrometers ({place})",
                path=path,
                remedy=f"{_OVERRIDE}, if they are square after all",
            )
        return math.sqrt(x * y), ""
    return None, f" ({'; '.join(reasons)})" if reasons else ""


def _other_unit(microns: float) -> str:
    for factor, unit in _UNITS:
        if FINEST_MICRONS <= microns * factor <= COARSEST_MICRONS:
            return f"; as {unit} it would be {microns * factor:.4g}"
    return ""
