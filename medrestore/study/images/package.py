"""The blinded package: every image of the plan under a random name, and the key that says which is which.

One case is one task: all of its arms are in memory together, and no two cases are in one process.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medrestore.checks import InputError, OutputError, Setbacks, about, fail
from medrestore.data.volumes import grid_difference, read_volume
from medrestore.data.workers import run_tasks
from medrestore.files import atomic_path, sha256_file
from medrestore.progress import progress_bar
from medrestore.study.images.blinding import (
    blinded_header,
    common_slope,
    quantized,
    read_picture,
    write_blinded,
)
from medrestore.study.images.window import display_window
from medrestore.study.layout import KEY_COLUMNS
from medrestore.study.protocol import Protocol

NAMES = KEY_COLUMNS[:5]
"""Columns of the key that name an image; attributes of :class:`ImageSource`."""

__all__ = ["ImageSource", "PackagedCase", "package_case", "package_images"]


@dataclass(frozen=True)
class ImageSource:
    """An image that is to be blinded.

    Parameters
    ----------
    image_id
        Its name from then on.
    phase, case, subject, arm
        What it is; these go into the key alone.
    path
        NIfTI, or PNG or TIFF.
    """

    image_id: str
    phase: str
    case: str
    subject: str
    arm: str
    path: Path


@dataclass(frozen=True)
class PackagedCase:
    """A case whose images are written.

    Parameters
    ----------
    rows
        Of the key: :data:`~medrestore.study.layout.KEY_COLUMNS`.
    face
        ``fit`` and ``margin`` of :class:`~medrestore.study.images.deface.Face`, where the face was removed.
    """

    rows: tuple[Mapping[str, Any], ...]
    face: Mapping[str, float] | None = None


def package_images(
    sources: pd.DataFrame,
    images: Path,
    *,
    records: Path,
    protocol: Protocol,
    deface: bool = False,
    workers: int = 1,
    progress: bool = True,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Write the blinded images of a study; those that an interrupted call left whole are kept.

    Parameters
    ----------
    sources
        One row an image: ``image_id``, ``phase``, ``case``, ``subject``, ``arm``, ``path``. The grid of a
        case's first row is that of all its images.
    images
        Folder of ``IMAGE_ID.nii``.
    records
        Private folder in which finished cases are noted until the study is frozen.
    protocol
        Its dimensions and modality say what images are expected.
    deface
        Remove the faces.
    workers
        Processes.
    progress
        Show a bar.

    Returns
    -------
    key : pandas.DataFrame
        :data:`~medrestore.study.layout.KEY_COLUMNS`, in the order of the sources.
    faces : pandas.DataFrame
        ``case``, ``fit``, ``margin``: how well the template fitted; empty without ``deface``.

    Raises
    ------
    InputError
        When an image cannot be read or has no signal, arms of a case are on different grids, a face is not
        found (all cases of which this is so are named), or the folder holds other files.
    """
    cases: dict[str, tuple[ImageSource, ...]] = {
        str(case): tuple(
            ImageSource(path=Path(str(row["path"])), **{name: str(row[name]) for name in NAMES})
            for _, row in rows.iterrows()
        )
        for case, rows in sources.groupby("case", sort=False)
    }
    # By random names: neither the time nor the place of a file on disk then says anything.
    order = sorted(cases, key=lambda case: min(source.image_id for source in cases[case]))
    done = {}
    for case in order:
        finished = finished_case(cases[case], images, records)
        if finished is not None:
            done[case] = finished
    setbacks = Setbacks("blinded", unit="case")
    tasks = [
        (cases[case], images, records, protocol.dimensions, protocol.modality, deface)
        for case in order
        if case not in done
    ]
    with progress_bar(
        total=len(order), initial=len(done), desc="blind images", unit="case", disable=not progress
    ) as bar:
        for case, packaged in run_tasks(_package_or_say_why, tasks, workers=workers):
            if isinstance(packaged, str):
                setbacks.note(case, packaged)
            else:
                done[case] = packaged
            bar.update()
    setbacks.raise_any(len(order))
    _require_only(images, {str(name) for name in sources["image_id"]})
    rows = {row["image_id"]: row for packaged in done.values() for row in packaged.rows}
    key = pd.DataFrame([rows[str(name)] for name in sources["image_id"]], columns=list(KEY_COLUMNS))
    faces = [{"case": case, **(done[case].face or {})} for case in cases if done[case].face]
    return key, pd.DataFrame(faces, columns=["case", "fit", "margin"])


def _package_or_say_why(sources: Sequence[ImageSource], *settings: Any) -> tuple[str, PackagedCase | str]:
    """Return a case by its name, or why it cannot be shown: the others are looked at all the same."""
    case = sources[0].case
    try:
        return case, package_case(sources, *settings)
    except OutputError:
        raise
    except InputError as error:
        return case, str(error)


def package_case(
    sources: Sequence[ImageSource],
    images: Path,
    records: Path,
    dimensions: int = 3,
    modality: str = "",
    deface: bool = False,
) -> PackagedCase:
    """Write the blinded images of one case, and then the record that they are whole.

    Parameters
    ----------
    sources
        All arms.
    images, records
        Folders.
    dimensions
        3: NIfTI volumes; 2: pictures.
    modality
        Decides where the display window starts.
    deface
        Remove the face, by one mask for all arms.

    Raises
    ------
    InputError
        As :func:`package_images`; names the files.
    """
    paths = [source.path for source in sources]
    fingerprints = [_fingerprint(path) for path in paths]
    with ThreadPoolExecutor(len(paths)) as pool:  # the disk is asked for all files at once
        checksums = list(pool.map(sha256_file, paths))
    if dimensions == 2:
        blinded = _blind_pictures(paths)
    else:
        blinded = _blind_volumes(paths, modality=modality, deface=deface, case=sources[0].case)
    for path, fingerprint in zip(paths, fingerprints, strict=True):
        if _fingerprint(path) != fingerprint:
            fail("changed while it was read", path=path, remedy="run again when it is complete")
    written: dict[str, Future[str]] = {}
    with ThreadPoolExecutor(len(paths)) as pool:  # while an image is flushed, the next one is made
        for place in sorted(range(len(sources)), key=lambda index: sources[index].image_id):
            path = images / f"{sources[place].image_id}.nii"
            voxels = blinded.voxels(place)
            written[sources[place].image_id] = pool.submit(write_blinded, blinded.header, voxels, path)
    rows: list[dict[str, Any]] = []
    for source, checksum in zip(sources, checksums, strict=True):
        served = written[source.image_id].result()
        rows.append(
            {
                **{name: str(getattr(source, name)) for name in NAMES},
                "source": str(source.path),
                "sha256_source": checksum,
                "sha256_scrubbed": served,  # the same bytes: the file is sent as it is
                "sha256_served": served,
                "bytes": (images / f"{source.image_id}.nii").stat().st_size,
                "window_low": blinded.window[0],
                "window_high": blinded.window[1],
            }
        )
    packaged = PackagedCase(tuple(rows), blinded.face)
    record = {"rows": packaged.rows, "face": packaged.face, "fingerprints": fingerprints}
    with atomic_path(_record_path(records, sources)) as temporary:
        temporary.write_text(json.dumps(record), encoding="utf-8")
    return packaged


@dataclass(frozen=True)
class _Blinded:
    """What the images of a case have in common, and the voxels of each."""

    header: bytes
    window: tuple[float, float]
    voxels: Callable[[int], NDArray[Any]]
    face: Mapping[str, float] | None = None


def _blind_volumes(paths: Sequence[Path], *, modality: str, deface: bool, case: str) -> _Blinded:
    volumes, unreadable = [], Setbacks("read")
    for path in paths:
        with unreadable.set_aside(path):
            volumes.append(read_volume(path, order="F"))
    if unreadable.reasons:
        raise InputError("; ".join(unreadable.reasons.values()))
    for volume in volumes[1:]:
        difference = grid_difference(volumes[0], volume)
        if difference:
            fail(
                f"is on another grid than {paths[0]}: {difference}",
                path=volume.path,
                remedy="resample all arms of a case to one grid",
            )
    arms = [volume.data for volume in volumes]
    size = volumes[0].voxel_size_mm
    with about(*paths):
        face = _remove_face(arms, volumes[0].affine, case=case) if deface else None
        window = display_window(arms, voxel_size_mm=size, modality=modality)
        for volume in volumes:
            if volume.data.min() == volume.data.max():
                fail(
                    f"holds no image: all voxels are {float(volume.data.flat[0]):g}",
                    path=volume.path,
                    remedy="make or copy it again, or leave the case out",
                )
        slope = common_slope(arms, window=window)
    header = blinded_header(arms[0].shape, volumes[0].affine, slope=slope, window=window, path=paths[0])
    return _Blinded(header, window, lambda place: quantized(arms[place], slope), face)


def _blind_pictures(paths: Sequence[Path]) -> _Blinded:
    pictures = [read_picture(path) for path in paths]
    for path, picture in zip(paths, pictures, strict=True):
        if picture.shape != pictures[0].shape:
            first, second = ("{} x {}".format(*item.shape[:2]) for item in (pictures[0], picture))
            fail(
                f"has {second} pixels, {paths[0]} has {first}",
                path=path,
                remedy="use one size for all arms of a case",
            )
    window = (0.0, 255.0)
    header = blinded_header(pictures[0].shape[:3], np.eye(4), slope=None, window=window, path=paths[0])
    return _Blinded(header, window, lambda place: pictures[place])


def _remove_face(
    arms: Sequence[NDArray[np.float32]], affine: NDArray[np.float64], *, case: str
) -> dict[str, float]:
    """Set the face to 0 in all arms, by one mask: found in their mean, so no arm decides, and least noisy."""
    from medrestore.study.images.deface import face_mask

    mean = arms[0].copy(order="K")
    for arm in arms[1:]:
        mean += arm
    mean /= np.float32(len(arms))
    try:
        face = face_mask(mean, affine)
    except InputError as error:
        raise InputError(f"case {case}: {error}") from error
    for arm in arms:
        np.copyto(arm, 0, where=face.mask)
    return {"fit": face.fit, "margin": face.margin}


def finished_case(sources: Sequence[ImageSource], images: Path, records: Path) -> PackagedCase | None:
    """Return the case when an interrupted call left it whole, of the same sources; None otherwise."""
    path = _record_path(records, sources)
    if not path.is_file():
        return None
    record = json.loads(path.read_text(encoding="utf-8"))
    wanted = [[*(str(getattr(source, name)) for name in NAMES), str(source.path)] for source in sources]
    if [[row[name] for name in (*NAMES, "source")] for row in record["rows"]] != wanted:
        return None
    if record["fingerprints"] != [_fingerprint(source.path) for source in sources]:
        return None
    for row in record["rows"]:
        image = images / f"{row['image_id']}.nii"
        if not image.is_file() or sha256_file(image) != row["sha256_served"]:
            return None
    return PackagedCase(tuple(record["rows"]), record["face"])


def _record_path(records: Path, sources: Sequence[ImageSource]) -> Path:
    return records / f"{min(source.image_id for source in sources)}.json"


def _fingerprint(path: Path) -> list[int]:
    """Return size and time of a file: what changes with its content, for no cost."""
    if not path.is_file():
        fail("no such file", path=path)
    state = path.stat()
    return [state.st_size, state.st_mtime_ns]


def _require_only(images: Path, names: set[str]) -> None:
    """Remove what killed calls left half written; refuse any other file among the images."""
    for path in images.iterdir():
        if path.name.startswith(".partial-"):
            path.unlink()
        elif path.stem not in names or path.suffix != ".nii":
            fail(
                "is no image of this study", path=path, remedy="move it elsewhere: all files here are served"
            )
