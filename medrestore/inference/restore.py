"""Restore files: a volume, a folder or a manifest in; NIfTI on the same grid and its provenance out."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.engines.evaluator import Evaluator
from tqdm.auto import tqdm

from medrestore import __version__
from medrestore.checks import InputError, fail
from medrestore.data.domain import domain_warnings
from medrestore.data.manifest import read_manifest, split_rows
from medrestore.data.volumes import nifti_stem, read_volume, write_volume
from medrestore.files import atomic_path, sha256_file
from medrestore.inference.volume import VolumeRestorer
from medrestore.networks.weights import build_network, load_file

__all__ = ["VolumeEvaluator", "VolumeFile", "find_volumes", "load_restorer", "restored_name"]


def restored_name(name: str) -> str:
    """Return the file name of a restoration.

    >>> restored_name("sub-0001_ses-01")
    'sub-0001_ses-01_restored.nii.gz'
    """
    return f"{name}_restored.nii.gz"


@dataclass(frozen=True)
class VolumeFile:
    """A degraded volume on disk.

    Parameters
    ----------
    path
        NIfTI file.
    name
        Stem of the files that are written for it.
    tracer, dose_fraction
        As a manifest says; None when not known.
    """

    path: Path
    name: str
    tracer: str | None = None
    dose_fraction: float | None = None


def find_volumes(
    source: str | os.PathLike[str], *, split: str | None = None, dose_fraction: float | None = None
) -> list[VolumeFile]:
    """List the degraded volumes of a file, a folder or a manifest.

    Parameters
    ----------
    source
        A NIfTI volume, a folder of them, or a manifest (CSV) whose ``degraded`` column is taken.
    split
        Of a manifest, the rows of this split only.
    dose_fraction
        Of a manifest, the rows at this dose fraction only.

    Raises
    ------
    InputError
        When there is nothing to restore, or a split is asked of something that has none.
    """
    found = list(_sources(Path(source), split, dose_fraction))
    missing = [str(item.path) for item in found if not item.path.is_file()]
    if missing:
        raise InputError(f"{', '.join(missing)}: does not exist")
    return found


def load_restorer(
    weights: str | os.PathLike[str],
    *,
    batch_size: int = 8,
    device: str | torch.device | None = None,
    precision: str = "auto",
    samples: int = 0,
    seed: int = 0,
) -> VolumeRestorer:
    """Build the restorer that a finished training describes; parameters as those of :class:`VolumeRestorer`.

    Parameters
    ----------
    weights
        ``model.pt`` of a training: names the generator's architecture and the number of neighbors.
    device
        CUDA when available, if not given.
    """
    target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model = load_file(weights)
    return VolumeRestorer(
        build_network(model, "generator", path=weights),
        neighbors=model["neighbors"],
        batch_size=batch_size,
        device=target,
        precision=precision,
        samples=samples,
        seed=seed,
    )


class VolumeEvaluator(Evaluator):
    """Restore volumes one by one and write them, as a MONAI engine: one iteration is one volume.

    Parameters
    ----------
    dataset
        Of :func:`find_volumes`.
    inferer
        Of :func:`load_restorer`, from the same weights.
    weights
        ``model.pt``, for the provenance and the training domain.
    output_dir
        Folder for ``NAME_restored.nii.gz`` (float32, the source's grid and units), ``NAME_restored.json``
        and, with samples, ``NAME_standard_deviation.nii.gz``. A restoration that is there with the same
        provenance is kept; any other file of that name is refused.
    bundle
        Name of the bundle, for the provenance.
    progress
        Show a progress bar.

    Raises
    ------
    InputError
        For unreadable input or weights, or an output of other provenance.

    Notes
    -----
    Neither the header nor the sidecar holds a source's name or path: the sidecar names it by SHA-256.
    """

    def __init__(
        self,
        dataset: Sequence[VolumeFile],
        inferer: VolumeRestorer,
        *,
        weights: str | os.PathLike[str],
        output_dir: str | os.PathLike[str],
        bundle: str = "",
        progress: bool = True,
    ) -> None:
        model = load_file(weights)
        self.domain: Mapping[str, Any] = model["domain"]
        self.restorer = inferer
        self.output_dir = Path(output_dir)
        common: dict[str, Any] = {
            "medrestore_version": __version__,
            "bundle": Path(bundle).name if bundle else "",
            "method": model["method"],
            "weights_sha256": sha256_file(weights),
            "training_dose_fraction": model["domain"].get("dose_fraction", []),
            "samples": inferer.samples,
            "seed": inferer.seed if inferer.samples else None,
            "precision": str(inferer.autocast or torch.float32).removeprefix("torch."),
        }
        self.written = [self.output_dir / restored_name(item.name) for item in dataset]
        todo = []
        for item in dataset:
            provenance = {
                **common,
                "source_sha256": sha256_file(item.path),
                "source_dose_fraction": item.dose_fraction,
            }
            if not _is_done(self.output_dir, item.name, provenance):
                todo.append((item, provenance))
        super().__init__(
            device=inferer.device, val_data_loader=todo, iteration_update=self._restore, decollate=False
        )
        self.logger.setLevel(logging.WARNING)
        self.bar = tqdm(total=len(todo), desc="restoring", unit="volume", disable=not progress or not todo)

    def run(self) -> list[Path]:
        """Restore what is not there yet and return all restored volumes, in the order of the dataset."""
        try:
            self.output_dir.mkdir(parents=True, exist_ok=True)
            if len(self.data_loader) > 0:
                super().run()
        finally:
            self.bar.close()
        return self.written

    def _restore(self, _: Any, entry: tuple[VolumeFile, dict[str, Any]]) -> dict[str, float]:
        item, provenance = entry
        volume = read_volume(item.path)
        try:
            notes = domain_warnings(volume, self.domain, tracer=item.tracer)
            restoration = self.restorer.restore(volume)
        except InputError as error:
            fail(str(error), path=item.path)
        if notes:
            self.logger.warning(
                f"{item.name}: outside the training domain: {'; '.join(notes)}. "
                "Do not rely on this restoration"
            )
        deviation = restoration.standard_deviation
        if deviation is not None:
            write_volume(deviation, volume.source, self.output_dir / f"{item.name}_standard_deviation.nii.gz")
        record = {**provenance, "intensity_scale": restoration.scale, "outside_training_domain": notes}
        with atomic_path(_sidecar(self.output_dir, item.name)) as temporary:
            temporary.write_text(json.dumps(record, indent=2) + "\n")
        # The restoration comes last: when it is there, so is all that belongs to it.
        write_volume(restoration.mean, volume.source, self.output_dir / restored_name(item.name))
        self.bar.update()
        return {"scale": restoration.scale}


def _sources(source: Path, split: str | None, dose_fraction: float | None) -> Iterator[VolumeFile]:
    if source.suffix == ".csv":
        table = read_manifest(source)
        rows = split_rows(table, split, dose_fraction=dose_fraction)
        several = rows.duplicated(["subject_id", "session_id"], keep=False)
        for row, repeated in zip(rows.to_dict("records"), several, strict=True):
            dose = f"_dose-{row['dose_fraction']:g}" if repeated else ""
            yield VolumeFile(
                Path(row["degraded_path"]),
                f"{row['subject_id']}_{row['session_id']}{dose}",
                row["tracer"],
                float(row["dose_fraction"]),
            )
        return
    if split is not None or dose_fraction is not None:
        raise InputError(f"split and dose fraction are those of a manifest, but {source} is none")
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
    for path, name in zip(paths, names, strict=True):
        yield VolumeFile(path, name)


def _sidecar(folder: Path, name: str) -> Path:
    return folder / restored_name(name).replace(".nii.gz", ".json")


def _is_done(folder: Path, name: str, provenance: dict[str, Any]) -> bool:
    image, sidecar = folder / restored_name(name), _sidecar(folder, name)
    if not image.exists():
        return False
    try:
        record = json.loads(sidecar.read_text())
    except (OSError, ValueError):
        record = None
    if record is None:
        raise InputError(
            f"{image}: is there without a readable {sidecar.name}; nothing is overwritten. "
            "Remedy: move it away"
        )
    if any(record.get(key) != value for key, value in provenance.items()):
        raise InputError(
            f"{image}: was restored by other weights, settings or source; nothing is overwritten. "
            "Remedy: name another output folder"
        )
    return True
