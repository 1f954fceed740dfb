"""Slice-first memory maps of multi-contrast MRI: channels in, contrasts out, lesions where they are known."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medrestore.checks import InputError, about, fail
from medrestore.data.intensity import SMOOTHING_FWHM_MM, THRESHOLD, foreground_scale
from medrestore.data.nifti import sidecar_path
from medrestore.data.slice_maps import (
    MapWriter,
    SliceMaps,
    build_maps,
    center_window,
    centered_slices,
    known_checksum,
    require_checksum,
    stack_size,
)
from medrestore.data.volumes import Volume, grid_difference, read_grid, read_volume
from medrestore.domains.multicontrast_mri.acquisition.acquisition import Acquisition
from medrestore.domains.multicontrast_mri.acquisition.channel_volume import input_scale, read_channels
from medrestore.domains.multicontrast_mri.acquisition.synthetic import (
    require_fitted,
    require_protocol,
    scaled_synthetic_images,
)
from medrestore.domains.multicontrast_mri.schema import SEPARATOR, require_contrasts
from medrestore.files import sha256_file

__all__ = ["ContrastStack", "SyntheticStack"]

_FORMAT = 1
_SYNTHETIC_FORMAT = 1
"""Changes with what a fit gives: maps of an earlier one are then not taken for those of today's."""


@dataclass(frozen=True, eq=False)
class ContrastStack(SliceMaps):
    """All axial slices of all rows of a manifest of multi-contrast MRI, as read-only memory maps.

    Made by :meth:`build`; further parameters and attributes are those of
    :class:`~medrestore.data.slice_maps.SliceMaps`.

    Parameters
    ----------
    contrasts
        The K contrasts.
    acquisition
        What the C channels are.
    available : (V, K) bool
        Whether a volume has a contrast; where not, its target is 0.
    marked : (V,) bool
        Whether a volume has a lesion mask; where not, its lesions are 0 without meaning anything.
    scale : (V, C) float64
        What each channel was divided by.
    target_scale : (V, K) float64
        What each target was divided by, its own foreground scale; NaN where it is missing.

    Attributes
    ----------
    input : (N, C, X, Y) float32
        Channels over their scale.
    target : (N, K, X, Y) float32
        Contrasts over their scale.
    lesions : (N, X, Y) uint8
        1 in a lesion.
    """

    MAPS: ClassVar[tuple[str, ...]] = ("input", "target", "lesions")

    contrasts: tuple[str, ...]
    acquisition: Acquisition
    available: NDArray[np.bool_]
    marked: NDArray[np.bool_]
    scale: NDArray[np.float64]
    target_scale: NDArray[np.float64]
    input: NDArray[np.float32] = field(init=False, repr=False)
    target: NDArray[np.float32] = field(init=False, repr=False)
    lesions: NDArray[np.uint8] = field(init=False, repr=False)

    @classmethod
    def build(
        cls,
        table: pd.DataFrame,
        cache_dir: str | os.PathLike[str],
        *,
        contrasts: Sequence[str],
        acquisition: Acquisition,
        spatial_size: Sequence[int],
        workers: int | None = None,
        progress: bool = True,
    ) -> ContrastStack:
        """Open the stack of a table's rows, decoding the volumes first where no earlier call has.

        Other parameters are those of :meth:`~medrestore.data.slice_stack.SliceStack.build`; sidecars of
        inputs are among the files that a stack is named by.

        Parameters
        ----------
        contrasts
            Contrasts of the table.
        acquisition
            What the channels of the inputs are.

        Raises
        ------
        InputError
            As there, and when the table has no such contrast, an input is not the acquisition's, or a
            contrast or a mask is on another grid than its input.
        """
        names = require_contrasts(contrasts)
        size = stack_size(table, spatial_size)
        for name in names:
            if f"{name}_path" not in table:
                raise InputError(
                    f"the table was read without the contrast {name!r}. Remedy: name it there too"
                )
        volumes = table.reset_index(drop=True)
        subjects = [_Subject.of(row, names) for row in volumes.to_dict("records")]
        folder, index = build_maps(
            cache_dir,
            subjects,
            key={
                "format": _FORMAT,
                "files": [subject.checksums for subject in subjects],
                "acquisition": acquisition.as_plain(),
                "spatial_size": size,
                "scale": [SMOOTHING_FWHM_MM, THRESHOLD],
            },
            prefix="contrasts",
            depth=_depth,
            decode=partial(_decode_subject, size, acquisition),
            shapes={
                "input": ((acquisition.channels, *size), "<f4"),
                "target": ((len(names), *size), "<f4"),
                "lesions": (size, "|u1"),
            },
            unit="subject",
            workers=workers,
            progress=progress,
        )
        return cls(
            folder=folder,
            volumes=volumes,
            first_slice=np.array(index["first_slice"], dtype=np.int64),
            contrasts=names,
            acquisition=acquisition,
            available=np.array([[bool(file) for file in subject.targets] for subject in subjects]),
            marked=np.array([bool(subject.lesions) for subject in subjects]),
            scale=np.array(index["scale"], dtype=np.float64),
            target_scale=np.array(index["target_scale"], dtype=np.float64),
        )


@dataclass(frozen=True, eq=False)
class SyntheticStack(SliceMaps):
    """All axial slices of the contrasts that follow from a fit of the inputs, as a read-only memory map.

    Made by :meth:`build`; parameters and further attributes are those of
    :class:`~medrestore.data.slice_maps.SliceMaps`. Slices are numbered as those of :class:`ContrastStack`.

    Attributes
    ----------
    synthetic : (N, K, X, Y) float32
        Of
        :func:`~medrestore.domains.multicontrast_mri.acquisition.synthetic.scaled_synthetic_images`.
    """

    MAPS: ClassVar[tuple[str, ...]] = ("synthetic",)

    synthetic: NDArray[np.float32] = field(init=False, repr=False)

    @classmethod
    def build(
        cls,
        table: pd.DataFrame,
        cache_dir: str | os.PathLike[str],
        *,
        contrasts: Sequence[str],
        acquisition: Acquisition,
        spatial_size: Sequence[int],
        workers: int | None = None,
        progress: bool = True,
    ) -> SyntheticStack:
        """Open the stack of a table's rows, fitting the inputs first where no earlier call has.

        Parameters are those of :meth:`ContrastStack.build`.

        Raises
        ------
        InputError
            As there, and when an input cannot be fitted.
        """
        names = require_contrasts(contrasts)
        require_fitted(acquisition, names)
        size = stack_size(table, spatial_size)
        volumes = table.reset_index(drop=True)
        subjects = [_Subject.of(row, ()) for row in volumes.to_dict("records")]
        folder, index = build_maps(
            cache_dir,
            subjects,
            key={
                "format": _SYNTHETIC_FORMAT,
                "files": [subject.checksums[:2] for subject in subjects],
                "acquisition": acquisition.as_plain(),
                "contrasts": names,
                "spatial_size": size,
                "scale": [SMOOTHING_FWHM_MM, THRESHOLD],
            },
            prefix="synthetic",
            depth=_depth,
            decode=partial(_fit_subject, size, acquisition, names),
            shapes={"synthetic": ((len(names), *size), "<f4")},
            unit="subject",
            workers=workers,
            progress=progress,
        )
        return cls(folder=folder, volumes=volumes, first_slice=np.array(index["first_slice"], dtype=np.int64))


@dataclass(frozen=True)
class _Subject:
    """Files of a row with their checksums; empty where there is none."""

    inputs: tuple[str, ...]
    targets: tuple[str, ...]
    lesions: str
    checksums: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, row: Mapping[Any, Any], contrasts: Sequence[str]) -> _Subject:
        inputs = tuple(str(path) for path in row["input_paths"])
        given = str(row.get("input_sha256") or "").split(SEPARATOR)
        if len(given) != len(inputs):
            given = [""] * len(inputs)
        targets = tuple(str(row[f"{name}_path"]) for name in contrasts)
        lesions = str(row.get("lesions_path") or "")
        sidecars = [sidecar_path(path) for path in inputs]
        checksums = (
            tuple(known_checksum(path, sum_) for path, sum_ in zip(inputs, given, strict=True)),
            tuple(sha256_file(path) if path.is_file() else "" for path in sidecars),
            tuple(
                known_checksum(path, row.get(f"{name}_sha256")) if path else ""
                for name, path in zip(contrasts, targets, strict=True)
            ),
            (known_checksum(lesions, row.get("lesions_sha256")) if lesions else "",),
        )
        return cls(inputs, targets, lesions, checksums)


def _depth(subject: _Subject) -> int:
    """Read the number of axial slices from a file's header."""
    return read_grid(subject.inputs[0], channels=True).canonical_shape[2]


def _decode_subject(
    size: tuple[int, int], acquisition: Acquisition, subject: _Subject, writer: MapWriter
) -> dict[str, Any]:
    """Write one subject's slices at their place; return the scales of its channels and targets."""
    input_sums, _, target_sums, (lesion_sum,) = subject.checksums
    for path, expected in zip(subject.inputs, input_sums, strict=True):
        require_checksum(path, expected)
    volume = read_channels(subject.inputs, acquisition)
    with about(*subject.inputs):
        scale = input_scale(volume, acquisition)
    slices = np.zeros((writer.depth, acquisition.channels, *size), dtype="<f4")
    for channel, factor in enumerate(scale):
        centered_slices(volume.data[channel], size, scale=factor, out=slices[:, channel])
    writer.write("input", slices)
    fixed = volume.channel(0)
    del volume
    slices = np.zeros((writer.depth, len(subject.targets), *size), dtype="<f4")
    target_scale: list[float | None] = []
    for index, (path, expected) in enumerate(zip(subject.targets, target_sums, strict=True)):
        target_scale.append(_put_target(path, expected, fixed, size, slices[:, index]) if path else None)
    writer.write("target", slices)
    if subject.lesions:
        writer.write("lesions", _lesion_slices(subject.lesions, lesion_sum, fixed, size))
    return {"scale": scale.tolist(), "target_scale": target_scale}


def _fit_subject(
    size: tuple[int, int],
    acquisition: Acquisition,
    contrasts: Sequence[str],
    subject: _Subject,
    writer: MapWriter,
) -> dict[str, Any]:
    """Write the slices of one subject's synthetic images."""
    for path, expected in zip(subject.inputs, subject.checksums[0], strict=True):
        require_checksum(path, expected)
    protocol = require_protocol(subject.inputs, acquisition)
    volume = read_channels(subject.inputs, acquisition)
    with about(*subject.inputs):
        images = scaled_synthetic_images(volume, acquisition, protocol, contrasts)
    slices = np.zeros((writer.depth, len(contrasts), *size), dtype="<f4")
    for index, name in enumerate(contrasts):
        centered_slices(images[name], size, scale=1.0, out=slices[:, index])
    writer.write("synthetic", slices)
    return {}


def _put_target(
    path: str, expected: str, fixed: Volume, size: tuple[int, int], out: NDArray[np.float32]
) -> float:
    """Read one contrast into its slices; return its scale."""
    target = _on_grid(path, expected, fixed)
    with about(path):
        scale = foreground_scale(target.data, voxel_size_mm=target.voxel_size_mm)
    centered_slices(target.data, size, scale=scale, out=out)
    return scale


def _lesion_slices(path: str, expected: str, fixed: Volume, size: tuple[int, int]) -> NDArray[np.uint8]:
    mask = _on_grid(path, expected, fixed).data
    slices = np.zeros((mask.shape[2], *size), dtype=np.uint8)
    inside, place = center_window(mask.shape[:2], size)
    slices[(slice(None), *place)] = (mask[inside] > 0).transpose(2, 0, 1)
    return slices


def _on_grid(path: str, expected: str, fixed: Volume) -> Volume:
    require_checksum(path, expected)
    volume = read_volume(path)
    difference = grid_difference(volume, fixed)
    if difference:
        fail(
            f"is on another grid than the input {fixed.path}: {difference}",
            path=path,
            remedy="medrestore mri coregister",
        )
    return volume
