"""Restore files: a volume, a folder or a manifest in; NIfTI on the same grid and its provenance out."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from medrestore import __version__
from medrestore.checks import InputError, require_in_range
from medrestore.data.domain import domain_warnings
from medrestore.data.manifest import read_manifest
from medrestore.data.volumes import read_volume
from medrestore.files import atomic_path, sha256_file
from medrestore.inference.nifti import write_volume
from medrestore.inference.volume import VolumeRestorer
from medrestore.networks.precision import autocast_dtype
from medrestore.networks.weights import load_file, load_network

__all__ = ["restore_volumes", "restored_name"]


def restored_name(name: str) -> str:
    """Return the file name of a restoration.

    >>> restored_name("sub-0001_ses-01")
    'sub-0001_ses-01_restored.nii.gz'
    """
    return f"{name}_restored.nii.gz"


@dataclass(frozen=True)
class _Source:
    path: Path
    name: str
    tracer: str | None = None
    dose_fraction: float | None = None


def restore_volumes(
    source: str | os.PathLike[str],
    *,
    output: str | os.PathLike[str],
    weights: str | os.PathLike[str],
    bundle: str = "",
    samples: int = 0,
    split: str | None = None,
    precision: str = "auto",
    batch_size: int = 8,
    device: str | torch.device | None = None,
    seed: int = 0,
    progress: bool = True,
) -> list[Path]:
    """Restore every volume of ``source`` with the generator of a finished training.

    Parameters
    ----------
    source
        A NIfTI volume, a folder of them, or a manifest (CSV) whose ``degraded`` column is restored.
    output
        Folder for ``NAME_restored.nii.gz`` (float32, the source's grid and units) and ``NAME_restored.json``.
        A restoration that is there with the same provenance is kept; any other file of that name is refused.
    weights
        ``model.pt`` of a training.
    bundle
        Name of the bundle, for the provenance.
    samples
        Number of restorations drawn with dropout on (the paper's z); their mean is the restoration and
        ``NAME_standard_deviation.nii.gz`` says where they part. 0: one restoration, dropout off.
    split
        Of a manifest, restore the rows of this split only.
    precision
        ``auto`` | ``fp32`` | ``bf16`` | ``fp16``.
    batch_size
        Slices that pass the generator at a time.
    device
        CUDA when available, if not given.
    seed
        Names the streams of the samples.
    progress
        Show a progress bar.

    Returns
    -------
    list of Path
        The restored volumes, in the order of the source.

    Raises
    ------
    InputError
        For unreadable input or weights, or an output of other provenance.

    Notes
    -----
    Neither the header nor the sidecar holds a source's name or path: the sidecar names it by SHA-256.
    """
    import logging

    require_in_range("samples", samples, 0, 10_000)
    logger = logging.getLogger(__name__)
    sources = list(_sources(Path(source), split))
    target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model = load_file(weights)
    casting = autocast_dtype(precision, target)
    used = {None: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[casting]
    common: dict[str, Any] = {
        "medrestore_version": __version__,
        "bundle": Path(bundle).name if bundle else "",
        "method": model["method"],
        "weights_sha256": sha256_file(weights),
        "training_dose_fraction": model["domain"].get("dose_fraction", []),
        "samples": samples,
        "seed": seed if samples else None,
        "precision": used,
    }
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    todo = [(item, _provenance(item, common)) for item in sources]
    done = {item.name for item, provenance in todo if _is_done(folder, item.name, provenance)}
    restorer = VolumeRestorer(
        load_network(weights, "generator", device=target),
        neighbors=model["neighbors"],
        batch_size=batch_size,
        device=target,
        precision=used,
        samples=samples,
        seed=seed,
    )
    for item, provenance in tqdm(todo, desc="restoring", unit="volume", disable=not progress):
        if item.name in done:
            continue
        volume = read_volume(item.path)
        notes = domain_warnings(volume, model["domain"], tracer=item.tracer)
        if notes:
            logger.warning(f"{item.path.name}: outside the training domain: {'; '.join(notes)}. Do not trust it unread")
        restoration = restorer.restore(volume)
        if restoration.standard_deviation is not None:
            write_volume(
                restoration.standard_deviation, volume.source, folder / f"{item.name}_standard_deviation.nii.gz"
            )
        record = {**provenance, "intensity_scale": restoration.scale, "outside_training_domain": notes}
        with atomic_path(_sidecar(folder, item.name)) as temporary:
            temporary.write_text(json.dumps(record, indent=2) + "\n")
        # The restoration comes last: when it is there, so is all that belongs to it.
        write_volume(restoration.mean, volume.source, folder / restored_name(item.name))
    return [folder / restored_name(item.name) for item in sources]


def _sources(source: Path, split: str | None) -> Iterator[_Source]:
    if source.suffix == ".csv":
        table = read_manifest(source)
        rows = table if split is None else table[table["split"] == split]
        if rows.empty:
            raise InputError(f"{source}: has no row of split {split!r}; it has {sorted(set(table['split']))}")
        several = rows.duplicated(["subject_id", "session_id"], keep=False)
        for row, repeated in zip(rows.itertuples(), several, strict=True):
            dose = f"_dose-{row.dose_fraction:g}" if repeated else ""
            yield _Source(
                Path(row.degraded_path), f"{row.subject_id}_{row.session_id}{dose}", row.tracer, float(row.dose_fraction)
            )
        return
    if split is not None:
        raise InputError(f"split {split!r} is that of a manifest, but {source} is none")
    if not source.exists():
        raise InputError(f"{source}: does not exist. Remedy: name a NIfTI volume, a folder of them or a manifest")
    paths = sorted([*source.glob("*.nii"), *source.glob("*.nii.gz")]) if source.is_dir() else [source]
    if not paths:
        raise InputError(f"{source}: holds no .nii or .nii.gz file")
    names = [path.name.removesuffix(".gz").removesuffix(".nii") for path in paths]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise InputError(f"{source}: {', '.join(sorted(twice))} is there both as .nii and .nii.gz. Remedy: move one away")
    for path, name in zip(paths, names, strict=True):
        yield _Source(path, name)


def _sidecar(folder: Path, name: str) -> Path:
    return folder / restored_name(name).replace(".nii.gz", ".json")


def _provenance(item: _Source, common: dict[str, Any]) -> dict[str, Any]:
    if not item.path.is_file():
        raise InputError(f"{item.path}: does not exist")
    return {**common, "source_sha256": sha256_file(item.path), "source_dose_fraction": item.dose_fraction}


def _is_done(folder: Path, name: str, provenance: dict[str, Any]) -> bool:
    image, sidecar = folder / restored_name(name), _sidecar(folder, name)
    if not image.exists():
        return False
    try:
        record = json.loads(sidecar.read_text())
    except (OSError, ValueError):
        record = None
    if record is None:
        raise InputError(f"{image}: is there without a readable {sidecar.name}; nothing is overwritten. Remedy: move it away")
    if any(record.get(key) != value for key, value in provenance.items()):
        raise InputError(
            f"{image}: was restored by other weights, settings or source; nothing is overwritten. "
            "Remedy: name another output folder"
        )
    return True
