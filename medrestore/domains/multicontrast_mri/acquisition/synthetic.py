"""Synthetic MRI: the contrasts that follow from a fit of the channels, by the sequences' signal equations."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from medrestore.checks import InputError, about, fail
from medrestore.data.intensity import foreground_scale
from medrestore.domains.multicontrast_mri.acquisition.acquisition import Acquisition
from medrestore.domains.multicontrast_mri.acquisition.channel_volume import ChannelVolume, read_protocol
from medrestore.evaluation.measures import foreground_mask
from medrestore.operators.mdme import MdmeProtocol
from medrestore.operators.mr_sequences import CONTRASTS
from medrestore.solvers.relaxometry import LEAST_DELAYS, LEAST_ECHOES, fit_relaxometry, synthesize

__all__ = ["require_fitted", "require_protocol", "scaled_synthetic_images", "synthetic_images"]


def require_fitted(acquisition: Acquisition, contrasts: Sequence[str]) -> None:
    """Require an acquisition that can be fitted, and contrasts that have a signal equation.

    Raises
    ------
    InputError
        When its component is ``any``, it has too few delays or echoes, or a contrast is of another sequence.
    """
    remedy = "leave synthetic channels out: synthetic false"
    delays, echoes = acquisition.saturation_delays_ms, acquisition.echo_times_ms
    if delays is None or echoes is None:
        fail("synthetic channels need an MDME acquisition, got images of other sequences", remedy=remedy)
    least = LEAST_DELAYS[acquisition.component]
    if len(delays) < least or len(echoes) < LEAST_ECHOES:
        fail(
            f"synthetic channels need {least} saturation delays and {LEAST_ECHOES} echo times or more, "
            f"got {len(delays)} and {len(echoes)}",
            remedy=remedy,
        )
    unknown = [name for name in contrasts if name not in CONTRASTS]
    if unknown:
        fail(
            f"there is no signal equation of {', '.join(unknown)}; there is one of {', '.join(CONTRASTS)}",
            remedy=remedy,
        )


def require_protocol(
    paths: Sequence[str] | Sequence[os.PathLike[str]], acquisition: Acquisition
) -> MdmeProtocol:
    """Return times and angles of an input, as its sidecar states them, in the order of the acquisition.

    Parameters
    ----------
    paths
        One 4D file, or a 3D one for each channel.
    acquisition
        As whose channels the input is read.

    Raises
    ------
    InputError
        When the sidecar does not state delays, echo times and repetition time, or those of another
        acquisition.
    """
    stated = read_protocol([str(path) for path in paths])
    delays, echoes = acquisition.saturation_delays_ms, acquisition.echo_times_ms
    if stated is None or delays is None or echoes is None:
        fail(
            "has no sidecar that states SaturationDelay, EchoTime and RepetitionTime, which the fit needs",
            path=paths[0],
            remedy="write it, or use a network without synthetic channels",
        )
    shape = (len(stated.saturation_delays_ms), len(stated.echo_times_ms))
    if shape != (len(delays), len(echoes)):
        raise InputError(
            f"{paths[0]}: its sidecar states {shape[0]} delays and {shape[1]} echo times, the acquisition "
            f"{acquisition.expected}"
        )
    order = np.argsort(np.argsort(delays))  # echo times always increase
    return replace(stated, saturation_delays_ms=tuple(np.sort(stated.saturation_delays_ms)[order]))


def synthetic_images(
    volume: ChannelVolume, acquisition: Acquisition, protocol: MdmeProtocol, contrasts: Sequence[str]
) -> dict[str, NDArray[np.float32]]:
    """Fit T1, T2, proton density and transmit field once, and compute contrasts by their signal equations.

    Parameters
    ----------
    volume
        Of :func:`~medrestore.domains.multicontrast_mri.acquisition.channel_volume.read_channels`.
    acquisition
        What its channels are.
    protocol
        Times and angles, in the acquisition's order.
    contrasts
        Wanted; those that are not in :data:`~medrestore.operators.mr_sequences.CONTRASTS` are left out.

    Returns
    -------
    dict
        Image (X, Y, Z) by contrast: magnitude, zero outside the head as the reference channel shows it.

    Raises
    ------
    InputError
        As in :func:`~medrestore.solvers.relaxometry.fit_relaxometry`.
    """
    reference = volume.reference(acquisition)
    maps = fit_relaxometry(
        volume.data,
        protocol=protocol,
        component=acquisition.component,
        mask=foreground_mask(reference.data, voxel_size_mm=reference.voxel_size_mm),
    )
    return {name: synthesize(maps, CONTRASTS[name]) for name in contrasts if name in CONTRASTS}


def scaled_synthetic_images(
    volume: ChannelVolume, acquisition: Acquisition, protocol: MdmeProtocol, contrasts: Sequence[str]
) -> dict[str, NDArray[np.float32]]:
    """Return what a network sees of :func:`synthetic_images`: each over its own foreground scale.

    Training and restoration both call it, so that they see the same, bit for bit.

    Raises
    ------
    InputError
        As there, and when an image has no foreground; names the contrast.
    """
    scaled = {}
    for name, image in synthetic_images(volume, acquisition, protocol, contrasts).items():
        with about(f"synthetic {name}"):
            scale = foreground_scale(image, voxel_size_mm=volume.voxel_size_mm)
        scaled[name] = image / np.float32(scale)
    return scaled
