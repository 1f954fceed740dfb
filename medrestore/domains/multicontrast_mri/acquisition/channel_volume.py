"""The input of multi-contrast restoration: several channels of one acquisition, read as one volume."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medrestore.checks import InputError, fail
from medrestore.data.intensity import foreground_scale
from medrestore.data.volumes import Volume
from medrestore.domains.multicontrast_mri.acquisition.acquisition import Acquisition
from medrestore.domains.multicontrast_mri.acquisition.channel_files import read_files
from medrestore.domains.multicontrast_mri.acquisition.channel_order import (
    channel_order,
    require_falling_echoes,
)
from medrestore.domains.multicontrast_mri.acquisition.sidecar import Sidecar, read_sidecar, read_sidecars
from medrestore.operators.mdme import MdmeProtocol, phase_corrected

__all__ = ["ChannelVolume", "input_scale", "read_channels", "read_protocol"]


@dataclass(frozen=True, eq=False)
class ChannelVolume(Volume):
    """Several 3D images on one grid, in canonical axes; other parameters are those of a volume.

    Parameters
    ----------
    data : (C, X, Y, Z) float32
        In the file's units; signed where the phase was corrected.
    source
        The grid of one of the images.
    path
        The first file of a list.
    """

    def channel(self, index: int) -> Volume:
        """Return one of the images; a view."""
        return Volume(data=self.data[index], affine=self.affine, source=self.source, path=self.path)

    def reference(self, acquisition: Acquisition) -> Volume:
        """Return the magnitude of the acquisition's reference channel: what the head looks like."""
        magnitude = np.abs(self.data[acquisition.reference])
        return Volume(data=magnitude, affine=self.affine, source=self.source, path=self.path)


def read_channels(paths: Sequence[str | os.PathLike[str]], acquisition: Acquisition) -> ChannelVolume:
    """Read the channels of an input, in the order that the acquisition says.

    Parameters
    ----------
    paths
        One 4D NIfTI file, or a 3D one for every channel, in the acquisition's order.
    acquisition
        What the channels are.

    Returns
    -------
    ChannelVolume
        Channels by delay, then by echo. Complex values are phase-corrected, or their magnitude is taken.

    Notes
    -----
    Where sidecars (JSON, of the same name) give ``SaturationDelay`` and ``EchoTime`` of every channel, they
    say which channel is which: a file ordered by echo first is put in order, other times are refused. Without
    them the images must bear out the order: the mean magnitude over the head has to fall from echo to echo at
    every delay.

    Raises
    ------
    InputError
        When a file is missing, damaged, on another grid than the first or not finite; the number of channels
        is not the acquisition's; the sidecar contradicts it; the order looks swapped, or cannot be told; or
        values are real where the component asks for a phase.
    """
    if isinstance(paths, str | os.PathLike):
        raise InputError(f"paths must be a list of files, got {paths!r}")
    files = [Path(path) for path in paths]
    if not files:
        raise InputError("paths must name a file at least, got none")
    data, source = read_files(files, expected=acquisition.expected, names=acquisition.names)
    if acquisition.component == "any":
        if np.iscomplexobj(data):
            fail(
                "holds complex values, expected real ones for component 'any'",
                path=files[0],
                remedy="set component: phase_corrected or magnitude",
            )
    else:
        sidecar = read_sidecar(files[0]) if len(files) == 1 else read_sidecars(files)
        order = channel_order(sidecar, acquisition, path=files[0])
        if order is not None and order != list(range(len(order))):
            data = data[order]
        # As many voxels along the first axis as channels: it may be theirs, whatever the sidecar says.
        if order is None or source.shape[0] == acquisition.channels > 1:
            require_falling_echoes(data, acquisition, path=files[0])
        data = _component(data, acquisition, sidecar, files[0])
    return ChannelVolume(
        data=np.ascontiguousarray(data), affine=source.canonical_affine(), source=source, path=files[0]
    )


def input_scale(volume: ChannelVolume, acquisition: Acquisition) -> NDArray[np.float64]:
    """Return what each channel is divided by before a network sees it.

    Parameters
    ----------
    volume
        Of :func:`read_channels`.
    acquisition
        What its channels are.

    Returns
    -------
    (C,) float64
        Of an MDME acquisition the foreground's mean of the reference channel's magnitude, the same for all:
        what one channel is to another is what tells T1 and T2. Of ``any`` each channel's own.

    Raises
    ------
    InputError
        When a channel has no positive foreground; names the file.
    """
    if acquisition.component != "any":
        scale = _scale_of(volume.reference(acquisition), "")
        return np.full(acquisition.channels, scale)
    return np.array(
        [_scale_of(volume.channel(index), f"{name}: ") for index, name in enumerate(acquisition.names)]
    )


def read_protocol(path: str | os.PathLike[str] | Sequence[str]) -> MdmeProtocol | None:
    """Return the protocol that a file's sidecar states; None where it states none.

    Parameters
    ----------
    path
        NIfTI file of an MDME acquisition, or a list of files of a channel each.

    Returns
    -------
    MdmeProtocol or None
        Delays in the order in which they come in the file; None without sidecar, or without delays, echo
        times or repetition time in it.

    Raises
    ------
    InputError
        When the sidecar cannot be read, or its channels are not all combinations of delays and echo times.
    """
    files = [path] if isinstance(path, str | os.PathLike) else list(path)
    sidecar = read_sidecar(files[0]) if len(files) == 1 else read_sidecars(files)
    if sidecar is None or sidecar.saturation_delays_ms is None or sidecar.echo_times_ms is None:
        return None
    if sidecar.tr_ms is None:
        return None
    pairs = list(zip(sidecar.saturation_delays_ms, sidecar.echo_times_ms, strict=False))
    delays = tuple(dict.fromkeys(sidecar.saturation_delays_ms))
    echoes = tuple(sorted(set(sidecar.echo_times_ms)))
    if sorted(pairs) != sorted((delay, echo) for delay in delays for echo in echoes):
        fail(
            f"names {len(sidecar.saturation_delays_ms)} delays and {len(sidecar.echo_times_ms)} echo times "
            "that are not all combinations of one another",
            path=sidecar.path,
            remedy="give SaturationDelay and EchoTime of every channel, in the file's order",
        )
    standard = MdmeProtocol(delays, echoes, tr_ms=sidecar.tr_ms)
    return MdmeProtocol(
        delays,
        echoes,
        tr_ms=sidecar.tr_ms,
        saturation_deg=sidecar.saturation_deg or standard.saturation_deg,
        excitation_deg=sidecar.excitation_deg or standard.excitation_deg,
    )


def _component(
    data: NDArray[Any], acquisition: Acquisition, sidecar: Sidecar | None, path: Path
) -> NDArray[np.float32]:
    """Turn channels in the acquisition's order to the component that is wanted."""
    stated = sidecar.component if sidecar else None
    is_complex = np.iscomplexobj(data)
    if stated is not None and is_complex != (stated == "complex"):
        held = "complex" if is_complex else "real"
        fail(f"holds {held} values, its sidecar says ComplexComponent {stated!r}", path=path)
    wanted = acquisition.component
    if is_complex:
        if wanted == "magnitude":
            return np.asarray(np.abs(data), dtype=np.float32)
        return phase_corrected(data, reference=acquisition.reference)
    if wanted == "phase_corrected" and stated != "phase_corrected":
        said = f"its sidecar says ComplexComponent {stated!r}" if stated else "no sidecar says what they are"
        fail(
            f"holds real values, expected complex or phase-corrected ones; {said}",
            path=path,
            remedy="give complex data, or set component: magnitude; for values that are phase-corrected "
            'already, say "ComplexComponent": "phase_corrected" in the sidecar',
        )
    if wanted == "magnitude" and stated == "phase_corrected":
        fail(
            "holds phase-corrected values, expected magnitudes",
            path=path,
            remedy="set component: phase_corrected",
        )
    return np.asarray(data, dtype=np.float32)


def _scale_of(volume: Volume, prefix: str) -> float:
    try:
        return foreground_scale(volume.data, voxel_size_mm=volume.voxel_size_mm)
    except InputError as error:
        fail(f"{prefix}{error}", path=volume.path)
