"""Which channel of a file is which: by its sidecar, or borne out by the images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medrestore.checks import fail
from medrestore.data.nifti import sidecar_path
from medrestore.domains.multicontrast_mri.acquisition.acquisition import Acquisition
from medrestore.domains.multicontrast_mri.acquisition.sidecar import Sidecar

__all__ = ["RELATIVE_TOLERANCE", "TOLERANCE_MS", "channel_order", "require_falling_echoes"]

RELATIVE_TOLERANCE = 0.01
TOLERANCE_MS = 0.1
"""Largest difference of a sidecar's time from the configured one, the larger of both: scanners write times
rounded to 0.1 ms or fit them to their gradients; another protocol is off by more than one in a hundred."""

_STATE = 'state the order in a sidecar {name}: "SaturationDelay" and "EchoTime" of every channel, in seconds'


def channel_order(sidecar: Sidecar | None, acquisition: Acquisition, *, path: Path) -> list[int] | None:
    """Return the place in the file of every channel of the acquisition, as a sidecar states it.

    Parameters
    ----------
    sidecar
        Of the file, or of the list of files.
    acquisition
        The channels that are wanted.
    path
        The image file, for the messages.

    Returns
    -------
    list of int or None
        ``file[order[c]]`` is channel c; None where nothing states the order.

    Raises
    ------
    InputError
        When the sidecar's times are not those of the acquisition, within the tolerance.
    """
    wanted_delays, wanted_echoes = acquisition.saturation_delays_ms, acquisition.echo_times_ms
    if sidecar is None or wanted_delays is None or wanted_echoes is None:
        return None
    kinds = (
        ("SaturationDelay", sidecar.saturation_delays_ms, wanted_delays),
        ("EchoTime", sidecar.echo_times_ms, wanted_echoes),
    )
    matched = []
    for key, stated, wanted in kinds:
        if stated is None:
            continue
        found, expected = _milliseconds(stated), _milliseconds(wanted)
        nearest = [_match(time, wanted) for time in stated]
        if None in nearest or set(nearest) != set(range(len(wanted))):
            fail(
                f"{key} is {found}, configured are {expected} (tolerance {RELATIVE_TOLERANCE:.0%} or "
                f"{TOLERANCE_MS:g} ms)",
                path=sidecar.path,
                remedy="configure the times of this acquisition, or correct the sidecar",
            )
        if len(stated) != acquisition.channels:
            fail(
                f"{key} has {len(stated)} entr{'y' if len(stated) == 1 else 'ies'}, expected one for each of "
                f"the {acquisition.channels} channels of {path}",
                path=sidecar.path,
            )
        matched.append(nearest)
    if len(matched) < len(kinds):
        return None
    place = {pair: index for index, pair in enumerate(zip(*matched, strict=True))}
    pairs = [(delay, echo) for delay in range(len(wanted_delays)) for echo in range(len(wanted_echoes))]
    missing = [pair for pair in pairs if pair not in place]
    if missing:
        delay, echo = missing[0]
        fail(
            f"names no channel of delay {wanted_delays[delay]:g} ms and echo {wanted_echoes[echo]:g} ms",
            path=sidecar.path,
            remedy="give SaturationDelay and EchoTime of every channel, in the file's order",
        )
    return [place[pair] for pair in pairs]


def require_falling_echoes(data: NDArray[Any], acquisition: Acquisition, *, path: Path) -> None:
    """Require that the mean magnitude over the head falls from echo to echo at every delay.

    T2 decay makes it so whatever the tissue; recovery from one delay to the next does not.

    Parameters
    ----------
    data : (C, X, Y, Z)
        Channels, in the acquisition's order if all is well.
    acquisition
        What the channels should be.
    path
        The file, for the messages.

    Raises
    ------
    InputError
        When it does not; says so where it would in the other order, echo by echo.
    """
    delays, echoes = len(acquisition.saturation_delays_ms or ()), len(acquisition.echo_times_ms or ())
    if echoes < 2:
        return
    magnitude = np.abs(data[:, ::2, ::2, ::2])
    average = magnitude.mean(axis=0)
    head = average > 0.3 * np.percentile(average, 99)
    means = magnitude[:, head].mean(axis=1)
    if _falls(means.reshape(delays, echoes)):
        return
    state = _STATE.format(name=sidecar_path(path).name)
    if _falls(means.reshape(echoes, delays).T):
        fail(
            "the order of the channels looks swapped: their magnitude falls from echo to echo as if for each "
            "echo all delays came, expected for each delay all echoes",
            path=path,
            remedy=f"{state}; or store the channels by delay first",
        )
    shown = ", ".join(f"{name} {mean:.3g}" for name, mean in zip(acquisition.names, means, strict=True))
    fail(
        f"the order of the channels cannot be told: their mean magnitude does not fall from echo to echo "
        f"({shown})",
        path=path,
        remedy=state,
    )


def _falls(means: NDArray[np.floating]) -> bool:
    return bool((np.diff(means, axis=1) < 0).all())


def _match(time: float, wanted: tuple[float, ...]) -> int | None:
    """Return the index of the wanted time that is this one."""
    distances = [abs(time - other) for other in wanted]
    index = int(np.argmin(distances))
    tolerance = max(RELATIVE_TOLERANCE * wanted[index], TOLERANCE_MS)
    return index if distances[index] <= tolerance * (1 + 1e-9) else None


def _milliseconds(times: tuple[float, ...]) -> str:
    """Write times in ms, each once.

    >>> _milliseconds((22.0, 95.0, 22.0))
    '22, 95 ms'
    """
    return ", ".join(f"{time:g}" for time in dict.fromkeys(times)) + " ms"
