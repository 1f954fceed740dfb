"""Volumes restored file by file: NIfTI on the source's grid, provenance beside it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from medrestore.data.grid import SourceGrid
from medrestore.data.restorations import deviation_name, restored_name
from medrestore.data.volumes import write_volume
from medrestore.inference.file_restorer import FileRestorer, Output, SourceType
from medrestore.inference.slices import Restoration, SliceRestorer

__all__ = ["NiftiRestorer", "Output", "Restored"]

SliceRestorerType = TypeVar("SliceRestorerType", bound=SliceRestorer)


class Restored(NamedTuple):
    """What was made of one source.

    Parameters
    ----------
    restorations
        By key. Of one that could not be made of this source the sidecar alone is written.
    grid
        On which they are written.
    found
        Plain values for the sidecar that were not known before.
    notes
        On what lies outside the range of the training, in words.
    found_of
        Further values for the sidecar of a restoration, by key.
    """

    restorations: Mapping[str, Restoration]
    grid: SourceGrid
    found: Mapping[str, Any]
    notes: list[str]
    found_of: Mapping[str, Mapping[str, Any]] = {}


class NiftiRestorer(FileRestorer[SourceType, SliceRestorerType]):
    """Restore sources one by one and write NIfTI files: one iteration is one source.

    A subclass says which outputs a source has (:meth:`outputs`) and makes those that are not there yet
    (:meth:`restore`). Parameters are those of :class:`~medrestore.inference.file_restorer.FileRestorer`;
    ``output_dir`` is the folder for ``NAME_restored.nii.gz`` (float32, the source's grid),
    ``NAME_restored.json`` and, with samples, ``NAME_standard_deviation.nii.gz``.

    Raises
    ------
    InputError
        For unreadable input, an output of other provenance, or two sources of one name.
    """

    @abstractmethod
    def restore(self, item: SourceType, wanted: Sequence[str]) -> Restored:
        """Read a source and make the restorations of these keys."""

    def files(self, name: str) -> list[Path]:
        """Name the files of an output: the restoration and, with samples, their standard deviation."""
        deviation = [self.output_dir / deviation_name(name)] if self.inferer.samples else []
        return [self.output_dir / restored_name(name), *deviation]

    def sidecar(self, name: str) -> Path:
        """Name the JSON file of an output."""
        return self.output_dir / restored_name(name, ".json")

    def make(self, item: SourceType, missing: Mapping[str, Output]) -> None:
        """Restore these outputs of a source and write them."""
        restored = self.restore(item, list(missing))
        self.warn_outside(item.name, restored.notes)
        for key, output in missing.items():
            record = {
                **output.provenance,
                **restored.found,
                **restored.found_of.get(key, {}),
                "outside_training_domain": restored.notes,
            }
            self.write_sidecar(output.stem, record)
            if key in restored.restorations:
                self._write(output.stem, restored.restorations[key], restored.grid)

    def _write(self, name: str, restoration: Restoration, grid: SourceGrid) -> None:
        if restoration.standard_deviation is not None:
            write_volume(restoration.standard_deviation, grid, self.output_dir / deviation_name(name))
        # The restoration comes last: when it is there, so is all that belongs to it.
        write_volume(restoration.mean, grid, self.output_dir / restored_name(name))
