"""Multi-contrast MRI: one acquisition in, an image of every wanted contrast out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray
from torch import nn

from medrestore.checks import InputError, about, fail
from medrestore.data.columns import path_problem
from medrestore.data.identity import identity_problems, scan_name
from medrestore.data.nifti_search import nifti_files
from medrestore.data.schema import split_rows
from medrestore.data.tables import located, read_text_table, refuse
from medrestore.data.training_range import range_warnings
from medrestore.domains.multicontrast_mri.acquisition.acquisition import Acquisition
from medrestore.domains.multicontrast_mri.acquisition.channel_volume import (
    ChannelVolume,
    input_scale,
    read_channels,
)
from medrestore.domains.multicontrast_mri.acquisition.synthetic import (
    require_fitted,
    require_protocol,
    scaled_synthetic_images,
)
from medrestore.files import sha256_file
from medrestore.inference.file_restorer import RunSettings
from medrestore.inference.network import SampledSettings
from medrestore.inference.nifti import NiftiRestorer, Output, Restored
from medrestore.inference.slices import Restoration, SliceRestorer
from medrestore.operators.mdme import MdmeProtocol

__all__ = [
    "ContrastFileRestorer",
    "ContrastRestorer",
    "InputFiles",
    "find_inputs",
]


class ContrastRestorer(SliceRestorer):
    """Restore images of several contrasts from the channels of one acquisition, by one generator for all.

    Parameters
    ----------
    generator
        As in :class:`~medrestore.inference.slices.SliceRestorer`, with a plane for each contrast: 1 for the
        wanted one and 0 for the others.
    contrasts
        Names of the K contrasts in the order of their planes.
    acquisition
        What the C channels are.
    synthetic
        Whether the network sees the wanted contrast of the fit too, as in training.
    neighbors, batch_size, device, precision, samples, seed
        As in :class:`~medrestore.inference.slices.SliceRestorer`.

    Raises
    ------
    InputError
        As in :class:`~medrestore.inference.slices.SliceRestorer`, and when the contrasts are none or not
        distinct.
    """

    def __init__(
        self,
        generator: nn.Module,
        *,
        neighbors: int,
        contrasts: Sequence[str],
        acquisition: Acquisition,
        synthetic: bool = False,
        **running: Unpack[SampledSettings],
    ) -> None:
        if not contrasts or len(set(contrasts)) < len(contrasts):
            raise InputError(f"contrasts must be distinct names, at least one, got {list(contrasts)}")
        super().__init__(
            generator,
            neighbors=neighbors,
            channels=acquisition.channels,
            planes=len(contrasts),
            beside=int(synthetic),
            **running,
        )
        if synthetic:
            require_fitted(acquisition, contrasts)
        self.synthetic = synthetic
        self.contrasts = tuple(contrasts)
        self.acquisition = acquisition

    def wanted(self, contrasts: Sequence[str] | None) -> tuple[str, ...]:
        """Return the contrasts asked for, in the order they were trained in; all when None.

        Raises
        ------
        InputError
            When one is not among those trained, or none is asked for.
        """
        if contrasts is None:
            return self.contrasts
        unknown = [name for name in contrasts if name not in self.contrasts]
        if unknown or not contrasts:
            raise InputError(
                f"contrasts asked for: {', '.join(map(repr, unknown or contrasts)) or 'none'}; "
                f"trained on {', '.join(self.contrasts)}. Remedy: name some of these"
            )
        return tuple(name for name in self.contrasts if name in contrasts)

    def restore(
        self,
        volume: ChannelVolume,
        *,
        contrasts: Sequence[str] | None = None,
        protocol: MdmeProtocol | None = None,
    ) -> dict[str, Restoration]:
        """Restore the contrasts of a volume of any size, in relative units: 1 is the mean over the head.

        Parameters
        ----------
        volume
            (C, X, Y, Z) float32 in canonical axes.
        contrasts
            Those wanted; all when not given.
        protocol
            Times and angles of the channels, for a network that sees synthetic images.

        Returns
        -------
        dict
            By contrast, in the order they were trained in.

        Raises
        ------
        InputError
            When a contrast is unknown, the channels are of another number than the acquisition's or have no
            foreground to scale by, the protocol is needed and missing, or a result is not finite or of
            another size.
        """
        count = len(self.contrasts)
        planes = {
            name: [float(index == self.contrasts.index(name)) for index in range(count)]
            for name in self.wanted(contrasts)
        }
        if len(volume.data) != self.acquisition.channels:
            raise InputError(
                f"the volume has {len(volume.data)} channels, "
                f"the network was trained on {self.acquisition.channels}"
            )
        scale = [float(value) for value in input_scale(volume, self.acquisition)]
        images = self._synthetic(volume, tuple(planes), protocol) if self.synthetic else None
        return self.restorations(list(volume.data), scale, planes, scale=1.0, beside=images)

    def _synthetic(
        self, volume: ChannelVolume, contrasts: Sequence[str], protocol: MdmeProtocol | None
    ) -> dict[str, NDArray[np.float32]]:
        """Return what the fit says of each contrast, (1, X, Y, Z) as the network sees it."""
        if protocol is None:
            raise InputError(
                "the network sees synthetic images, which need the protocol of the channels. "
                "Remedy: give protocol, read_protocol of the files"
            )
        images = scaled_synthetic_images(volume, self.acquisition, protocol, contrasts)
        return {name: image[None] for name, image in images.items()}


@dataclass(frozen=True)
class InputFiles:
    """An acquisition on disk.

    Parameters
    ----------
    paths
        One 4D NIfTI file, or one 3D file for each channel, in their order.
    name
        Stem of the files that are written for it, before the contrast.
    """

    paths: tuple[Path, ...]
    name: str


def find_inputs(source: str | os.PathLike[str], *, split: str | None = None) -> list[InputFiles]:
    """List the acquisitions of a file, a folder or a manifest.

    Parameters
    ----------
    source
        A 4D NIfTI file, a folder of them, or a manifest (CSV) whose ``input`` column is taken: one 4D file,
        or 3D files joined by ``;``. No contrast needs to be there.
    split
        Of a manifest, the rows of this split only.

    Raises
    ------
    InputError
        When there is nothing to restore, or a split is asked of something that has none.
    """
    return list(_inputs(Path(source), split))


class ContrastFileRestorer(NiftiRestorer[InputFiles, ContrastRestorer]):
    """Restore the contrasts of acquisitions and write them: one iteration is one subject.

    Parameters
    ----------
    dataset, inferer, output_dir, bundle, progress
        As in :class:`~medrestore.inference.file_restorer.FileRestorer`. Files are called
        ``NAME_CONTRAST_restored.nii.gz`` (1 = mean over the head).
    contrasts
        Those wanted; all when not given.

    Raises
    ------
    InputError
        For an unknown contrast, unreadable input or weights, an acquisition other than the one trained on, or
        an output of other provenance.

    Notes
    -----
    The sidecar names a source of several files by their sums, joined by ``;``.
    """

    unit = source = "subject"
    needs = ("neighbors", "contrasts", "acquisition")
    training = "a training on several contrasts"
    find = staticmethod(find_inputs)

    def __init__(
        self,
        dataset: Sequence[InputFiles],
        inferer: ContrastRestorer,
        *,
        contrasts: Sequence[str] | None = None,
        **run: Unpack[RunSettings],
    ) -> None:
        self.contrasts = inferer.wanted(contrasts)
        super().__init__(dataset, inferer, **run)

    @classmethod
    def build(
        cls, generator: nn.Module, model: Mapping[str, Any], settings: SampledSettings
    ) -> ContrastRestorer:
        """Make what restores from what ``model.pt`` says."""
        return ContrastRestorer(
            generator,
            neighbors=model["neighbors"],
            contrasts=model["contrasts"],
            acquisition=Acquisition.from_plain(model["acquisition"]),
            synthetic=model.get("synthetic", False),
            **settings,
        )

    def outputs(self, item: InputFiles) -> dict[str, Output]:
        """Name the restorations of an acquisition: one for each contrast."""
        provenance = {
            "source_sha256": ";".join(sha256_file(path) for path in item.paths),
            "acquisition": self.inferer.acquisition.as_plain(),
        }
        return {
            contrast: Output(f"{item.name}_{contrast}", {**provenance, "contrast": contrast})
            for contrast in self.contrasts
        }

    def restore(self, item: InputFiles, wanted: Sequence[str]) -> Restored:
        """Read an acquisition and restore these contrasts."""
        acquisition = self.inferer.acquisition
        try:
            volume = read_channels(item.paths, acquisition)
        except InputError as error:
            raise InputError(f"{error}. (The weights were trained on {_in_words(acquisition)})") from error
        with about(*item.paths):
            notes = range_warnings(volume.reference(acquisition), self.training_range)
            protocol = require_protocol(item.paths, acquisition) if self.inferer.synthetic else None
            restorations = self.inferer.restore(volume, contrasts=wanted, protocol=protocol)
        scales = next(iter(restorations.values())).input_scale
        found: Mapping[str, Any] = {"input_scale": list(scales), "intensity_unit": "mean over the head"}
        return Restored(restorations, volume.source, found, notes)


def _in_words(acquisition: Acquisition) -> str:
    delays, echoes = acquisition.saturation_delays_ms, acquisition.echo_times_ms
    if delays is None or echoes is None:
        return f"{acquisition.channels} images of any sequence"
    times = [", ".join(f"{time:g}" for time in kind) for kind in (delays, echoes)]
    return f"saturation delays {times[0]} ms, echo times {times[1]} ms, {acquisition.component}"


def _inputs(source: Path, split: str | None) -> Iterator[InputFiles]:
    if source.suffix.lower() == ".csv":
        yield from _rows(source, split)
        return
    if split is not None:
        raise InputError(f"a split is that of a manifest, but {source} is none. Remedy: leave it out")
    for path, name in nifti_files(source, datatype="anat"):
        yield InputFiles((path,), name)


def _rows(manifest: Path, split: str | None) -> Iterator[InputFiles]:
    """Read what a restoration needs of a manifest of several contrasts, and no more: new scans have none."""
    table = read_text_table(manifest)
    needed = ["subject_id", "session_id", "input", *(["split"] if split is not None else [])]
    lacking = [name for name in needed if name not in table]
    if lacking:
        fail(f"lacks the columns {', '.join(lacking)}", path=manifest, row=1)
    rows = split_rows(table, split) if split is not None else table
    if rows.empty:
        fail("there is no row below the header", path=manifest)
    problems = identity_problems(rows)
    if problems:
        refuse(manifest, problems)
    for row in rows.to_dict("records"):
        for name in needed:
            if row[name] == "":
                fail(f"{name} is empty", path=manifest, row=row["row"])
        files = [file.strip() for file in row["input"].split(";")]
        for file in files:
            problem = path_problem(file) if file else "has an empty name in its list"
            if problem:
                fail(f"input {problem}", path=manifest, row=row["row"])
        paths = tuple(located(manifest.parent, file) for file in files)
        yield InputFiles(paths, scan_name(row["subject_id"], row["session_id"]))
