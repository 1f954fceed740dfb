"""Files restored one by one, whatever they hold: NIfTI on the source's grid, provenance beside it."""

from __future__ import annotations

import json
import logging
import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import torch
from monai.engines.evaluator import Evaluator
from tqdm.auto import tqdm

from medrestore import __version__
from medrestore.checks import InputError
from medrestore.data.grid import SourceGrid
from medrestore.data.volumes import nifti_stem, write_volume
from medrestore.files import atomic_path, sha256_file
from medrestore.inference.slices import Restoration, SliceRestorer

__all__ = ["Output", "RestorationEvaluator", "Restored", "nifti_files", "restored_name"]


def restored_name(name: str) -> str:
    """Return the file name of a restoration.

    >>> restored_name("sub-0001_ses-01")
    'sub-0001_ses-01_restored.nii.gz'
    """
    return f"{name}_restored.nii.gz"


def nifti_files(source: Path) -> list[tuple[Path, str]]:
    """List the NIfTI files that a path names, with their stems: the file itself, or those of a folder.

    Raises
    ------
    InputError
        When there is none, or one stem is there twice.
    """
    if not source.exists():
        raise InputError(
            f"{source}: does not exist. Remedy: name a NIfTI volume, a folder of them or a manifest"
        )
    paths = sorted([*source.glob("*.nii"), *source.glob("*.nii.gz")]) if source.is_dir() else [source]
    if not paths:
        raise InputError(f"{source}: holds no .nii or .nii.gz file")
    names = [nifti_stem(path) for path in paths]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise InputError(
            f"{source}: {', '.join(sorted(twice))} is there both as .nii and .nii.gz. Remedy: move one away"
        )
    return list(zip(paths, names, strict=True))


class Source(Protocol):
    """What is restored: whatever it holds, it has a name for messages."""

    @property
    def name(self) -> str:
        """Stem of the files that are written for it."""
        ...


SourceType = TypeVar("SourceType", bound=Source)


@dataclass(frozen=True)
class Output:
    """One restoration that a source is to have.

    Parameters
    ----------
    name
        Stem of its files.
    provenance
        Plain values beside those that all restorations of a run share.
    """

    name: str
    provenance: Mapping[str, Any]


class Restored(NamedTuple):
    """What an evaluator made of one source.

    Parameters
    ----------
    restorations
        By key.
    grid
        On which they are written.
    found
        Plain values for the sidecar that were not known before.
    notes
        On what lies outside the training domain, in words.
    """

    restorations: Mapping[str, Restoration]
    grid: SourceGrid
    found: Mapping[str, Any]
    notes: list[str]


class RestorationEvaluator(Evaluator, Generic[SourceType]):
    """Restore sources one by one and write them, as a MONAI engine: one iteration is one source.

    A subclass says which outputs a source has (:meth:`outputs`) and makes those that are not there yet
    (:meth:`restore`).

    Parameters
    ----------
    dataset
        The sources.
    inferer
        Made from the same weights.
    model
        Content of ``weights``.
    weights
        ``model.pt``, for the provenance.
    output_dir
        Folder for ``NAME_restored.nii.gz`` (float32, the source's grid), ``NAME_restored.json`` and, with
        samples, ``NAME_standard_deviation.nii.gz``. A restoration that is there with the same provenance is
        kept; any other file of that name is refused.
    bundle
        Name of the bundle, for the provenance.
    progress
        Show a progress bar.
    unit
        What the bar counts.

    Raises
    ------
    InputError
        For unreadable input, an output of other provenance, or two sources of one name.

    Notes
    -----
    Neither the header nor the sidecar holds a source's name or path: the sidecar names it by SHA-256.
    """

    def __init__(
        self,
        dataset: Sequence[SourceType],
        inferer: SliceRestorer,
        *,
        model: Mapping[str, Any],
        weights: str | os.PathLike[str],
        output_dir: str | os.PathLike[str],
        bundle: str,
        progress: bool,
        unit: str,
    ) -> None:
        self.domain: Mapping[str, Any] = model["domain"]
        self.output_dir = Path(output_dir)
        common: dict[str, Any] = {
            "medrestore_version": __version__,
            "bundle": Path(bundle).name if bundle else "",
            "method": model["method"],
            "weights_sha256": sha256_file(weights),
            "samples": inferer.samples,
            "seed": inferer.seed if inferer.samples else None,
            "precision": str(inferer.autocast or torch.float32).removeprefix("torch."),
        }
        self.written: list[Path] = []
        todo: list[tuple[SourceType, dict[str, Output]]] = []
        for item in dataset:
            missing: dict[str, Output] = {}
            for key, output in self.outputs(item).items():
                if Path(output.name).name != output.name:
                    raise InputError(f"{output.name!r}: no file can have this name. Remedy: use other ids")
                # As JSON gives it back, to compare with what a finished restoration's sidecar says.
                provenance = json.loads(json.dumps({**common, **output.provenance}))
                self.written.append(self.output_dir / restored_name(output.name))
                if not _is_done(self.output_dir, output.name, provenance):
                    missing[key] = Output(output.name, provenance)
            if missing:
                todo.append((item, missing))
        twice = {path.name for path in self.written if self.written.count(path) > 1}
        if twice:
            raise InputError(f"two inputs would be restored to one file: {', '.join(sorted(twice))}")
        super().__init__(
            device=inferer.device, val_data_loader=todo, iteration_update=self._iterate, decollate=False
        )
        self.logger.setLevel(logging.WARNING)
        self.bar = tqdm(total=len(todo), desc="restoring", unit=unit, disable=not progress or not todo)

    @abstractmethod
    def outputs(self, item: SourceType) -> dict[str, Output]:
        """Name the restorations of a source, by keys that :meth:`restore` knows."""

    @abstractmethod
    def restore(self, item: SourceType, wanted: Sequence[str]) -> Restored:
        """Read a source and make the restorations of these keys."""

    def run(self) -> list[Path]:
        """Restore what is not there yet and return all restored volumes, in the order of the dataset."""
        try:
            self.output_dir.mkdir(parents=True, exist_ok=True)
            if len(self.data_loader) > 0:
                super().run()
        finally:
            self.bar.close()
        return self.written

    def _iterate(self, _: Any, entry: tuple[SourceType, dict[str, Output]]) -> dict[str, float]:
        item, missing = entry
        restored = self.restore(item, list(missing))
        if restored.notes:
            self.logger.warning(
                f"{item.name}: outside the training domain: {'; '.join(restored.notes)}. "
                "Do not rely on this restoration"
            )
        for key, output in missing.items():
            record = {**output.provenance, **restored.found, "outside_training_domain": restored.notes}
            self._write(output.name, restored.restorations[key], restored.grid, record)
        self.bar.update()
        return {"restored": float(len(missing))}

    def _write(self, name: str, restoration: Restoration, grid: SourceGrid, record: dict[str, Any]) -> None:
        # The sidecar comes first: what lies beside it is known to be ours when a killed run is continued.
        with atomic_path(_sidecar(self.output_dir, name)) as temporary:
            temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        if restoration.standard_deviation is not None:
            write_volume(restoration.standard_deviation, grid, _deviation(self.output_dir, name))
        # The restoration comes last: when it is there, so is all that belongs to it.
        write_volume(restoration.mean, grid, self.output_dir / restored_name(name))


def _deviation(folder: Path, name: str) -> Path:
    return folder / f"{name}_standard_deviation.nii.gz"


def _sidecar(folder: Path, name: str) -> Path:
    return folder / restored_name(name).replace(".nii.gz", ".json")


def _is_done(folder: Path, name: str, provenance: dict[str, Any]) -> bool:
    """Say whether a restoration is there; refuse what is there and is not this one, whole or half made."""
    image, sidecar = folder / restored_name(name), _sidecar(folder, name)
    ours = [image, _deviation(folder, name), sidecar] if provenance["samples"] else [image, sidecar]
    there = [path for path in ours if path.exists()]
    if not there:
        return False
    try:
        record = json.loads(sidecar.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        record = None
    if not isinstance(record, dict):
        raise InputError(
            f"{there[0]}: is there without a readable {sidecar.name}; nothing is overwritten. "
            "Remedy: move it away"
        )
    if any(record.get(key) != value for key, value in provenance.items()):
        raise InputError(
            f"{there[0]}: was restored by other weights, settings or source; nothing is overwritten. "
            "Remedy: name another output folder"
        )
    return image.exists()
