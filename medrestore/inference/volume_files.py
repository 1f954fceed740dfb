"""Restore files of whatever kind: a volume, a folder or a manifest in, NIfTI on the same grid out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Unpack

from torch import nn

from medrestore.checks import InputError, about, counted, listed_lines, require_in_set
from medrestore.data.channels import channel_of, read_beside
from medrestore.data.intensity import RELATIVE, Intensity
from medrestore.data.pairs import pair_schema
from medrestore.data.schema import Schema
from medrestore.data.training_range import range_warnings
from medrestore.data.volumes import Volume, read_volume
from medrestore.files import sha256_file
from medrestore.inference.anchor import SIGMA_MM, GeometricTransfer, anchored
from medrestore.inference.file_restorer import RunSettings
from medrestore.inference.network import SampledSettings
from medrestore.inference.nifti import NiftiRestorer, Output, Restored
from medrestore.inference.slices import Restoration, VolumeRestorer
from medrestore.inference.volume_sources import NO_ANCHOR, RegionSource, VolumeFile, find_volumes

__all__ = ["ANCHORED", "VolumeFileRestorer"]

_ONLY = "restored"
"""Key of a volume's restoration as the network makes it."""

ANCHORED = "anchored"
"""Key of its anchored restoration, and folder of these in that of all."""


class VolumeFileRestorer(NiftiRestorer[VolumeFile, VolumeRestorer]):
    """Restore volumes one by one and write them on the source's grid, in its units.

    A kind of image says in a subclass what is its own.

    Parameters
    ----------
    dataset, inferer, run
        As in :class:`~medrestore.inference.file_restorer.FileRestorer`.
    anchor
        One of :attr:`anchors`: beside each restoration, ``anchored/NAME_restored.nii.gz`` is written, see
        :mod:`medrestore.inference.anchor`. The restoration itself is the same with and without.

    Notes
    -----
    A volume whose anchor cannot be made has the restoration alone; the sidecar of the anchored one says why,
    and :meth:`run` names all such volumes at its end.
    """

    unit = source = "volume"
    needs = ("neighbors",)
    training = "a training on volumes"

    schema: ClassVar[Schema] = pair_schema()
    """Of its manifests."""

    datatype: ClassVar[str] = ""
    """Name of the folders in which BIDS keeps such images."""

    intensity: ClassVar[Intensity] = RELATIVE
    """How networks see them."""

    words: ClassVar[tuple[str, ...]] = ()
    """Columns of words that tell whether a volume is of the range of the training."""

    anchors: ClassVar[Mapping[str, RegionSource]] = {}
    """By which regions restorations can be anchored."""

    def __init__(
        self,
        dataset: Sequence[VolumeFile],
        inferer: VolumeRestorer,
        *,
        anchor: str = NO_ANCHOR,
        **run: Unpack[RunSettings],
    ) -> None:
        require_in_set("anchor", anchor, (NO_ANCHOR, *self.anchors))
        self.anchor = anchor
        self.not_anchored: dict[str, str] = {}
        super().__init__(dataset, inferer, **run)

    @classmethod
    def find(cls, source: str | os.PathLike[str], *, split: str | None = None) -> list[VolumeFile]:
        """List the degraded volumes of a file, a folder or a manifest: see :func:`find_volumes`."""
        return find_volumes(source, schema=cls.schema, datatype=cls.datatype, split=split)

    @classmethod
    def build(
        cls, generator: nn.Module, model: Mapping[str, Any], settings: SampledSettings
    ) -> VolumeRestorer:
        """Make what restores from what ``model.pt`` says."""
        return VolumeRestorer(
            generator,
            neighbors=model["neighbors"],
            intensity=cls.intensity,
            channels=[channel_of(plain) for plain in model.get("channels", ())],
            **settings,
        )

    def outputs(self, item: VolumeFile) -> dict[str, Output]:
        """Name the restoration of a volume, and with an anchor the anchored one."""
        own = Output(item.name, self.provenance_of(item))
        if self.anchor == NO_ANCHOR:
            return {_ONLY: own}
        of_regions = self.anchors[self.anchor].provenance(item)
        anchoring = {"anchor": self.anchor, "anchor_sigma_mm": SIGMA_MM, **of_regions}
        return {_ONLY: own, ANCHORED: Output(item.name, {**own.provenance, **anchoring}, ANCHORED)}

    def provenance_of(self, item: VolumeFile) -> dict[str, Any]:
        """Return what a sidecar says of the source: keys as of :class:`Output`."""
        beside = {f"source_{name}_sha256": sha256_file(path) for name, path in self.beside(item).items()}
        return {"source_sha256": sha256_file(item.path), **beside}

    def beside(self, item: VolumeFile) -> dict[str, Path]:
        """Return the files of further channels that there are, by their column."""
        columns = {channel.column for channel in self.inferer.channels if channel.column}
        files = {name: str(item.row.get(f"{name}_path") or "") for name in sorted(columns)}
        return {name: Path(file) for name, file in files.items() if file}

    def restore(self, item: VolumeFile, wanted: Sequence[str]) -> Restored:
        """Read a volume and restore it."""
        volume = read_volume(item.path)
        with about(item.path):
            words = {name: item.row.get(name) for name in self.words}
            notes = range_warnings(volume, self.training_range, words=words, intensity=self.intensity)
            beside = {name: read_beside(path, volume) for name, path in self.beside(item).items()}
            restoration = self.inferer.restore(volume, beside=beside)
            made = {_ONLY: restoration}
            found_of: dict[str, dict[str, Any]] = {}
            if ANCHORED in wanted:
                made, found_of = self._with_anchor(item, volume, restoration)
        found = {"intensity_scale": restoration.scale}
        return Restored(made, volume.source, found, notes, found_of)

    def run(self) -> list[Path]:
        """Restore what is not there yet and return all restorations, in the order of the dataset."""
        try:
            written = super().run()
        finally:
            if self.not_anchored:
                reasons = [f"{name}: {reason}" for name, reason in self.not_anchored.items()]
                self.logger.warning(
                    f"the anchor was left out of {len(reasons)} of {counted(self.sources, 'volume')}:\n"
                    f"{listed_lines(reasons)}"
                )
        without = {self.files(f"{ANCHORED}/{name}")[0] for name in self.not_anchored}
        return [path for path in written if path not in without]

    def _with_anchor(
        self, item: VolumeFile, volume: Volume, restoration: Restoration
    ) -> tuple[dict[str, Restoration], dict[str, dict[str, Any]]]:
        """Return the restorations by key, and what the sidecar of the anchored one says."""
        stem = self.output_dir / ANCHORED / item.name
        found = self.anchors[self.anchor].find(item, volume, restoration.mean, stem)
        if not isinstance(found, str):
            try:
                transfer = GeometricTransfer(found.codes, voxel_size_mm=volume.voxel_size_mm)
                result = anchored(restoration.mean, volume.data, transfer)
            except InputError as error:
                found = str(error)
        if isinstance(found, str):
            self.not_anchored[item.name] = found
            return {_ONLY: restoration}, {ANCHORED: {"anchor_left_out": found}}
        deviation = restoration.standard_deviation
        if deviation is not None:
            deviation = result.with_uncertainty(deviation)
        held = replace(restoration, mean=result.image, standard_deviation=deviation)
        facts = {"anchor_map": dict(found.facts), "anchoring": result.facts}
        return {_ONLY: restoration, ANCHORED: held}, {ANCHORED: facts}
