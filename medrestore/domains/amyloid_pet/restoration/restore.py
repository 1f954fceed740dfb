"""Restore files: a volume, a folder or a manifest in; NIfTI on the same grid and its provenance out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from medrestore.checks import InputError, about, fail
from medrestore.data.identity import scan_name
from medrestore.data.manifest import read_manifest, split_rows
from medrestore.data.nifti_search import nifti_files
from medrestore.data.restorations import restored_name
from medrestore.data.training_range import domain_warnings
from medrestore.data.volumes import read_volume
from medrestore.files import sha256_file
from medrestore.inference.files import NiftiEvaluator, Output, Restored
from medrestore.inference.slices import VolumeRestorer
from medrestore.networks.device import require_device
from medrestore.networks.weights import build_network, load_model

__all__ = ["VolumeEvaluator", "VolumeFile", "find_volumes", "load_restorer", "restored_name"]


_ONLY = "restored"
"""Key of a volume's one restoration."""


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
    return list(_sources(Path(source), split, dose_fraction))


def load_restorer(
    weights: str | os.PathLike[str],
    *,
    facts: Mapping[str, Any] | None = None,
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
    facts
        What a plain state dict of the generator does not say: see
        :func:`~medrestore.networks.weights.load_model`.
    device
        CUDA when available, if not given.

    Raises
    ------
    InputError
        When the weights are missing, damaged, or of a training on several contrasts or on tiles.
    """
    target = require_device(device)
    model = load_model(weights, facts=facts)
    if "contrasts" in model:
        fail(
            f"was trained on several contrasts ({', '.join(model['contrasts'])})",
            path=weights,
            remedy="restore with the bundle that it was trained with",
        )
    if "neighbors" not in model:
        fail(
            "names no neighbors: these are no weights of a training on volumes",
            path=weights,
            remedy="restore with the bundle that they were trained with",
        )
    return VolumeRestorer(
        build_network(model, "generator", path=weights),
        neighbors=model["neighbors"],
        batch_size=batch_size,
        device=target,
        precision=precision,
        samples=samples,
        seed=seed,
    )


class VolumeEvaluator(NiftiEvaluator[VolumeFile]):
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
    facts
        As given to that function.
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
        facts: Mapping[str, Any] | None = None,
        bundle: str = "",
        progress: bool = True,
    ) -> None:
        model = load_model(weights, facts=facts)
        self.restorer = inferer
        self.samples = inferer.samples
        self.training_dose_fraction = model["domain"].get("dose_fraction", [])
        super().__init__(
            dataset,
            inferer,
            model=model,
            weights=weights,
            output_dir=output_dir,
            bundle=bundle,
            progress=progress,
            unit="volume",
            source="volume",
        )

    def outputs(self, item: VolumeFile) -> dict[str, Output]:
        """Name the one restoration of a volume."""
        provenance = {
            "training_dose_fraction": self.training_dose_fraction,
            "source_sha256": sha256_file(item.path),
            "source_dose_fraction": item.dose_fraction,
        }
        return {_ONLY: Output(item.name, provenance)}

    def restore(self, item: VolumeFile, wanted: Sequence[str]) -> Restored:
        """Read a volume and restore it."""
        volume = read_volume(item.path)
        with about(item.path):
            notes = domain_warnings(volume, self.domain, tracer=item.tracer)
            restoration = self.restorer.restore(volume)
        found = {"intensity_scale": restoration.scale}
        return Restored(dict.fromkeys(wanted, restoration), volume.source, found, notes)


def _sources(source: Path, split: str | None, dose_fraction: float | None) -> Iterator[VolumeFile]:
    if source.suffix.lower() == ".csv":
        table = read_manifest(source, label_column=None)
        rows = split_rows(table, split, dose_fraction=dose_fraction)
        several = rows.duplicated(["subject_id", "session_id"], keep=False)
        for row, repeated in zip(rows.to_dict("records"), several, strict=True):
            dose = f"_dose-{row['dose_fraction']:g}" if repeated else ""
            yield VolumeFile(
                Path(row["degraded_path"]),
                f"{scan_name(row['subject_id'], row['session_id'])}{dose}",
                row["tracer"],
                float(row["dose_fraction"]),
            )
        return
    if split is not None or dose_fraction is not None:
        raise InputError(f"split and dose fraction are those of a manifest, but {source} is none")
    for path, name in nifti_files(source, datatype="pet"):
        yield VolumeFile(path, name)
