"""What co-registrations of a manifest's images share: how they are read, linked, judged and told."""

from __future__ import annotations

import math
import os
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medrestore.checks import fail
from medrestore.data.nifti import nifti_stem, sidecar_path
from medrestore.data.registration import Registration
from medrestore.data.volumes import Volume, read_volume
from medrestore.files import atomic_path

__all__ = [
    "FIGURES",
    "link_image",
    "link_or_copy",
    "quality_of",
    "read_oriented",
    "require_orientation",
    "write_rows",
]

FIGURES = (
    *("information_before", "information_after", "distinctness"),
    *("displacement_mean_mm", "displacement_most_mm", "rotation_deg", "overlap", "outside"),
)
"""Numbers in the record of a registration; all but the last are those of
:class:`~medrestore.data.registration.Registration`."""


def read_oriented(path: str | os.PathLike[str]) -> Volume:
    """Read an image to register.

    Raises
    ------
    InputError
        As :func:`~medrestore.data.volumes.read_volume`, and when it states no orientation.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a missing orientation is refused instead
        return require_orientation(read_volume(path))


def require_orientation(volume: Volume) -> Volume:
    """Refuse an image that may be mirrored: a registration cannot tell the sides of a head for sure."""
    if not volume.source.states_orientation:
        fail(
            "states no orientation (qform and sform codes are 0): left and right would be a guess",
            path=volume.path,
            remedy="convert it again from the scanner's files, or set its codes",
        )
    return volume


def quality_of(registration: Registration, *, outside: float) -> dict[str, Any]:
    """Return the quality of a registration in values that JSON can hold.

    Parameters
    ----------
    registration
        What was found.
    outside
        Share of the fixed image's voxels that the moving one does not reach.
    """
    figures = {name: float(getattr(registration, name)) for name in FIGURES[:-1]}
    figures["outside"] = outside
    return {
        "identity_kept": registration.identity_kept,
        "matrix": registration.matrix.tolist(),
        **{name: value if math.isfinite(value) else None for name, value in figures.items()},
    }


def link_or_copy(source: Path, path: Path) -> None:
    """Make ``path`` the same file as ``source``, or a copy of it."""
    path.unlink(missing_ok=True)
    try:
        os.link(source, path)
    except OSError:  # another file system, or one without links
        with atomic_path(path) as temporary:
            shutil.copyfile(source, temporary)


def link_image(source: Path, folder: Path, stem: str) -> str:
    """Link an image and its sidecar into a folder, under a name of its own; return the image's.

    Images of one scan that lie in several folders may share a name: those they had are not kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / (stem + source.name[len(nifti_stem(source)) :].lower())
    for file, link in ((source, place), (sidecar_path(source), sidecar_path(place))):
        if file.is_file():
            link_or_copy(file, link)
    return place.name


def write_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], path: Path) -> None:
    """Write a table of a co-registration, numbers with six digits."""
    import pandas as pd

    with atomic_path(path) as temporary:
        pd.DataFrame(rows, columns=list(columns)).to_csv(
            temporary, index=False, lineterminator="\n", float_format="%.6g"
        )
