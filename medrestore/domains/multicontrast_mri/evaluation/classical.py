"""Synthetic MRI the classical way as a row of an evaluation: a fit of the input, and signal equations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medrestore.checks import about
from medrestore.data.volumes import read_series
from medrestore.domains.multicontrast_mri.acquisition.acquisition import Acquisition, make_acquisition
from medrestore.domains.multicontrast_mri.acquisition.channel_volume import read_channels, read_protocol
from medrestore.domains.multicontrast_mri.acquisition.sidecar import read_sidecar
from medrestore.domains.multicontrast_mri.acquisition.synthetic import synthetic_images
from medrestore.operators.mdme import MdmeProtocol
from medrestore.solvers.relaxometry import LEAST_DELAYS, LEAST_ECHOES

__all__ = ["MdmeInput", "fitted_images", "input_channels", "mdme_input"]


@dataclass(frozen=True)
class MdmeInput:
    """An input that can be fitted: its files, and what was acquired.

    Parameters
    ----------
    paths
        Of :func:`~medrestore.domains.multicontrast_mri.acquisition.channel_volume.read_channels`.
    acquisition
        What the channels are.
    protocol
        Times and angles.
    """

    paths: tuple[str, ...]
    acquisition: Acquisition
    protocol: MdmeProtocol


def mdme_input(paths: Sequence[str]) -> MdmeInput | None:
    """Return what an input's sidecar says of it; None where it is none that can be fitted.

    Parameters
    ----------
    paths
        One 4D file, or a 3D one for each channel.
    """
    protocol = read_protocol(paths)
    if protocol is None:
        return None
    delays, echoes = protocol.saturation_delays_ms, protocol.echo_times_ms
    sidecar = read_sidecar(paths[0])
    magnitude = sidecar is not None and sidecar.component == "magnitude"
    component = "magnitude" if magnitude else "phase_corrected"
    if len(delays) < LEAST_DELAYS[component] or len(echoes) < LEAST_ECHOES:
        return None
    acquisition = make_acquisition(
        component=component,
        saturation_delays_ms=delays,
        echo_times_ms=echoes,
    )
    return MdmeInput(tuple(paths), acquisition, protocol)


def fitted_images(source: MdmeInput, contrasts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """Fit an input once and compute every contrast that has a signal equation.

    Parameters
    ----------
    source
        The input.
    contrasts
        Wanted.

    Returns
    -------
    dict
        Of :func:`~medrestore.domains.multicontrast_mri.acquisition.synthetic.synthetic_images`.
    """
    volume = read_channels(source.paths, source.acquisition)
    with about(*source.paths):
        return synthetic_images(volume, source.acquisition, source.protocol, contrasts)


def input_channels(paths: Sequence[str], source: MdmeInput | None) -> dict[str, NDArray[np.float32]]:
    """Return the channels of an input as images (X, Y, Z) by name, for a look at them: magnitudes."""
    if source is not None:
        data = read_channels(source.paths, source.acquisition).data
        names: Sequence[str] = [f"TD {delay:g}, TE {echo:g} ms" for delay, echo in source.protocol.channels]
    else:
        data = np.concatenate([read_series(path)[0] for path in paths])
        names = [f"channel {number}" for number in range(1, len(data) + 1)]
    return {name: np.abs(image).astype(np.float32) for name, image in zip(names, data, strict=True)}
