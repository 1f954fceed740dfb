"""The region map of one scan: registered, written with its picture, and a record of how sure it is."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medrestore import __version__
from medrestore.checks import InputError, without_place
from medrestore.data.atlas import register_atlas
from medrestore.data.coregistered import read_oriented
from medrestore.data.volumes import Volume, read_volume, write_volume
from medrestore.domains.amyloid_pet.regions.picture import draw_regions
from medrestore.files import sha256_file, write_json

__all__ = ["FIGURES", "MAP_ENDING", "ScanFiles", "map_scan", "map_volume"]

MAP_ENDING = "_regions.nii.gz"

FIGURES = (
    *("orientation", "distinctness", "unexplained", "coverage", "scale_least", "scale_most"),
    *("warp_mean_mm", "warp_most_mm", "least_volume"),
)
"""Numbers in the record, those of :class:`~medrestore.data.atlas.AtlasRegistration`."""


@dataclass(frozen=True)
class ScanFiles:
    """A scan, ready to be sent to another process.

    Parameters
    ----------
    name
        Stem of the files that are written for it.
    image
        What is registered: PET, or T1 in the same scanner coordinates as the grid.
    grid
        The image whose grid the map is to have; the same file, or another one.
    """

    name: str
    image: Path
    grid: Path


def map_scan(folder: Path, scan: ScanFiles) -> tuple[str, dict[str, Any]]:
    """Map one scan; return its name and record, see :func:`map_volume`.

    Of files that cannot be used no record is written: it says why (``failure``), and that they are
    ``unusable``.
    """
    try:
        image = read_oriented(scan.image)
        grid = image if scan.grid == scan.image else read_oriented(scan.grid)
        return scan.name, map_volume(image, grid, folder / scan.name)[1]
    except InputError as error:
        failure = without_place(error, scan.image, scan.grid)
        return scan.name, {"registration": {}, "failure": failure, "unusable": True, "sha256": {}}


def map_volume(image: Volume, grid: Volume, stem: Path) -> tuple[NDArray[np.int16] | None, dict[str, Any]]:
    """Register an image, and write the map on a grid, a picture and a record; what is there already is kept.

    Parameters
    ----------
    image : Volume
        Registered.
    grid : Volume
        The map's, in the same space.
    stem
        Of the files: ``_regions.nii.gz``, which a registration that failed has not, ``_regions.png``, and
        ``_regions.json``, which is written last.

    Returns
    -------
    (X, Y, Z) int16 or None
        The map; None where the registration failed.
    dict
        The record: what was found (``registration``, ``matrix``), why it failed (``failure``), a checksum
        of image and grid (``registered``) and of the files (``sha256``).
    """
    place, picture = Path(f"{stem}{MAP_ENDING}"), Path(f"{stem}_regions.png")
    digest = _digest(image, grid)
    record = _finished(stem, digest)
    if record is not None:
        return None if record["failure"] else read_volume(place).data.astype(np.int16), record
    found = register_atlas(image)
    codes = found.regions(grid)
    draw_regions(grid, codes, found, title=stem.name, path=picture)
    written = [picture]
    if found.failure:
        place.unlink(missing_ok=True)
    else:
        written.append(write_volume(codes, grid.source, place, dtype="int16"))
    figures = {name: float(getattr(found, name)) for name in FIGURES}
    record = {
        "version": __version__,
        "registered": digest,
        "registration": {name: value if math.isfinite(value) else None for name, value in figures.items()},
        "matrix": found.matrix.tolist(),
        "failure": found.failure,
        "unusable": False,
        "sha256": {path.name: sha256_file(path) for path in written},
    }
    write_json(_record_of(stem), record)
    return None if found.failure else codes, record


def _record_of(stem: Path) -> Path:
    return Path(f"{stem}_regions.json")


def _digest(image: Volume, grid: Volume) -> str:
    """Return a checksum of all that a map depends on."""
    total = hashlib.sha256()
    for part in (image.data, image.affine, grid.affine, np.array(grid.data.shape)):
        total.update(np.ascontiguousarray(part).tobytes())
    return total.hexdigest()


def _finished(stem: Path, digest: str) -> dict[str, Any] | None:
    """Return the record of a map that is whole, of the same image and grid."""
    try:
        record: dict[str, Any] = json.loads(_record_of(stem).read_text(encoding="utf-8"))
        whole = (
            record["version"] == __version__
            and record["registered"] == digest
            and all(sha256_file(stem.parent / name) == of for name, of in record["sha256"].items())
        )
    except (OSError, InputError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return record if whole else None
