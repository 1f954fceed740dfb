"""Sidecars of an acquisition's files: what each channel is, and whether the values are complex."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medrestore.checks import fail
from medrestore.data.nifti import sidecar_path
from medrestore.data.texts import read_json_object

__all__ = ["COMPONENTS", "Sidecar", "read_sidecar", "read_sidecars"]

COMPONENTS = ("complex", "magnitude", "phase_corrected")
"""What ``ComplexComponent`` may say."""


@dataclass(frozen=True)
class Sidecar:
    """What the sidecar of a file, or those of a list of files, say.

    Parameters
    ----------
    path
        JSON file; the first of a list.
    component
        One of :data:`COMPONENTS`; None where it is not said.
    saturation_delays_ms, echo_times_ms
        Of each channel, in the order of the file; None where they are not given.
    tr_ms, saturation_deg, excitation_deg
        Repetition time and flip angles; None where they are not given.
    """

    path: Path
    component: str | None = None
    saturation_delays_ms: tuple[float, ...] | None = None
    echo_times_ms: tuple[float, ...] | None = None
    tr_ms: float | None = None
    saturation_deg: float | None = None
    excitation_deg: float | None = None


def read_sidecar(path: str | os.PathLike[str]) -> Sidecar | None:
    """Read the sidecar of a NIfTI file; None where there is none.

    Raises
    ------
    InputError
        When it is no JSON object, or one of the keys looked at holds something else than it should.
    """
    file = sidecar_path(path)
    if not file.is_file():
        return None
    content = read_json_object(file)
    component = content.get("ComplexComponent")
    if component is not None and component not in COMPONENTS:
        known = ", ".join(map(repr, COMPONENTS))
        fail(f"ComplexComponent must be one of {known}, got {component!r}", path=file)
    return Sidecar(
        path=file,
        component=component,
        saturation_delays_ms=_milliseconds(content, "SaturationDelay", file),
        echo_times_ms=_milliseconds(content, "EchoTime", file),
        tr_ms=_single(_milliseconds(content, "RepetitionTime", file), "RepetitionTime", file),
        saturation_deg=_single(_numbers(content, "SaturationFlipAngle", file), "SaturationFlipAngle", file),
        excitation_deg=_single(_numbers(content, "FlipAngle", file), "FlipAngle", file),
    )


def read_sidecars(paths: Sequence[str | os.PathLike[str]]) -> Sidecar | None:
    """Read the sidecars of a list of files, one channel each, as one; None where no file has one.

    Raises
    ------
    InputError
        As :func:`read_sidecar` does, and when some files have one and others not, or two contradict each
        other.
    """
    found = [read_sidecar(path) for path in paths]
    held = [sidecar for sidecar in found if sidecar is not None]
    if not held:
        return None
    if len(held) < len(found):
        without = next(path for path, sidecar in zip(paths, found, strict=True) if sidecar is None)
        fail(
            f"has no sidecar, but {held[0].path} is one",
            path=without,
            remedy="give every file of the list its sidecar, or none",
        )
    if len(held) == 1:
        return held[0]
    for sidecar in held[1:]:
        if sidecar.component != held[0].component:
            fail(
                f"ComplexComponent is {sidecar.component!r}, in {held[0].path} {held[0].component!r}",
                path=sidecar.path,
            )
    return Sidecar(
        path=held[0].path,
        component=held[0].component,
        saturation_delays_ms=_joined(held, "saturation_delays_ms", "SaturationDelay"),
        echo_times_ms=_joined(held, "echo_times_ms", "EchoTime"),
        tr_ms=held[0].tr_ms,
        saturation_deg=held[0].saturation_deg,
        excitation_deg=held[0].excitation_deg,
    )


def _joined(sidecars: Sequence[Sidecar], name: str, key: str) -> tuple[float, ...] | None:
    """Put the one time of every file behind one another."""
    times = [getattr(sidecar, name) for sidecar in sidecars]
    if all(time is None for time in times):
        return None
    for sidecar, time in zip(sidecars, times, strict=True):
        if time is None or len(time) != 1:
            fail(f"{key} must be one time, of the one channel of its file, got {time}", path=sidecar.path)
    return tuple(time[0] for time in times)


def _milliseconds(content: dict[str, Any], key: str, file: Path) -> tuple[float, ...] | None:
    seconds = _numbers(content, key, file)
    # Rounded far below a scanner's clock: 0.095 s is 95 ms, not 95.00000000000001.
    return None if seconds is None else tuple(round(1000 * value, 6) for value in seconds)


def _numbers(content: dict[str, Any], key: str, file: Path) -> tuple[float, ...] | None:
    value = content.get(key)
    if value is None:
        return None
    values = value if isinstance(value, list) else [value]
    numeric = all(isinstance(entry, int | float) and not isinstance(entry, bool) for entry in values)
    if not values or not numeric or not np.isfinite(values).all() or min(values) <= 0:
        fail(f"{key} must be positive numbers, one per channel, got {value!r}", path=file)
    return tuple(float(entry) for entry in values)


def _single(values: tuple[float, ...] | None, key: str, file: Path) -> float | None:
    if values is None:
        return None
    if len(set(values)) > 1:
        fail(f"{key} must be the same in all channels, got {list(values)}", path=file)
    return values[0]
