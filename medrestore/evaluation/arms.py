"""Finding and checking what is compared: each method's restored file of each image."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from medrestore.checks import InputError, counted, listed_lines
from medrestore.data.restorations import restored_name
from medrestore.data.texts import plain_text
from medrestore.data.volumes import Volume, grid_difference, read_series, read_volume

__all__ = [
    "INPUT",
    "file_problems",
    "find_files",
    "find_restorations",
    "raise_all",
    "read_on_grid",
    "repeated_scans",
]

INPUT = "input"


def repeated_scans(names: Sequence[str]) -> list[str]:
    """Say which scans are in a manifest's split more than once."""
    return [
        f"{name}: is in the manifest's split more than once; which of its arms to compare is not defined"
        for name in sorted({name for name in names if names.count(name) > 1})
    ]


def find_restorations(
    grids: Mapping[str, tuple[str, Sequence[str]]],
    methods: Mapping[str, str | os.PathLike[str]],
    *,
    known: Sequence[str],
    reserved: Sequence[str],
    channels: bool = False,
    problems: Sequence[str] = (),
) -> dict[str, dict[str, Path]]:
    """Find the restored volume of each method and image, and check that all are there on the same grid.

    Parameters
    ----------
    grids
        By the image's name, of which files are called ``NAME_restored.nii.gz``: the volume whose grid counts
        (with ``channels`` it may have a fourth axis of them), and others that must be on it too.
    methods
        Folder of restored volumes by the method's name.
    known
        Names of further images of which a folder may hold restorations.
    reserved
        Rows that the evaluation adds by itself.
    channels
        Whether the volume whose grid counts holds channels.
    problems
        Faults that were found before.

    Returns
    -------
    dict
        Path by image and method.

    Raises
    ------
    InputError
        Names all faults.
    """
    arms, faults = find_files(list(grids), methods, known=known, reserved=reserved)
    faults = [*faults, *problems]
    files: dict[str, tuple[str, Sequence[str | Path]]] = {
        name: (fixed, [*others, *arms[name].values()]) for name, (fixed, others) in grids.items()
    }
    raise_all([*faults, *file_problems(files, channels=channels)])
    return arms


def find_files(
    names: Sequence[str],
    methods: Mapping[str, str | os.PathLike[str]],
    *,
    known: Sequence[str],
    reserved: Sequence[str],
    suffix: str = ".nii.gz",
    unit: str = "scan",
) -> tuple[dict[str, dict[str, Path]], list[str]]:
    """Find the restored file of each method and image, and say what is wrong with names, folders and files.

    Parameters
    ----------
    names
        Of the images, of which files are called ``NAME_restoredSUFFIX``.
    methods
        Folder of restorations by the method's name.
    known
        Names of further images of which a folder may hold restorations.
    reserved
        Rows that the evaluation adds by itself.
    suffix
        Of the files.
    unit
        What an image is called in a message.

    Returns
    -------
    tuple
        Path by image and method of the files that are there, and the faults.
    """
    problems = [
        f"method {name!r}: the name is taken, an evaluation always has such a row"
        for name in methods
        if name in reserved
    ]
    problems += [
        f"method {name!r}: a name is made of letters, digits, '.', '_' and '-'"
        for name in methods
        if not re.fullmatch(r"[\w.\-]+", name)
    ]
    expected = {restored_name(name, suffix): name for name in names}
    allowed = set(expected) | {restored_name(name, suffix) for name in known}
    arms: dict[str, dict[str, Path]] = {name: {} for name in names}
    for method, folder in methods.items():
        if not Path(folder).is_dir():
            problems.append(f"method {method!r}: {folder} is no folder")
            continue
        found = [path for path in Path(folder).glob(restored_name("*", suffix)) if path.is_file()]
        held = {plain_text(path.name): path for path in found}  # as cells of the manifest are read
        for file, name in expected.items():
            if file in held:
                arms[name][method] = held[file]
            else:
                problems.append(f"method {method!r}: {Path(folder) / file} is missing")
        problems += [
            f"method {method!r}: {held[file]} belongs to no {unit} of the manifest"
            for file in sorted(held.keys() - allowed)
        ]
    return arms, problems


def raise_all(problems: Sequence[str]) -> None:
    """Raise one error that names all faults once, fifty of them in full; nothing without any.

    Raises
    ------
    InputError
        When there are faults.
    """
    if problems:
        different = list(dict.fromkeys(problems))
        number = counted(len(different), "problem")
        raise InputError(f"{number} in what is compared\n{listed_lines(different)}")


def file_problems(
    grids: Mapping[str, tuple[str, Sequence[str | Path]]], *, channels: bool = False
) -> list[str]:
    """Say which files cannot be read, to the last voxel, or are not on the grid of theirs.

    All are read before anything is compared: what is found wrong after hours helps nobody.

    Parameters
    ----------
    grids
        By any name: the file whose grid counts, and those that must be on it. Empty names are left out.
    channels
        Whether a file whose grid counts may hold channels.
    """
    reads: dict[tuple[str, bool], None] = {}
    for fixed, others in grids.values():
        reads[fixed, channels] = None
        reads |= {(str(path), False): None for path in others if str(path)}
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as executor:
        found = dict(zip(reads, executor.map(lambda read: _without_voxels(*read), reads), strict=True))
    problems = [problem for problem in found.values() if isinstance(problem, str)]
    for fixed, others in grids.values():
        expected = found[fixed, channels]
        for path in others:
            volume = found[str(path), False] if str(path) else ""
            if isinstance(expected, str) or isinstance(volume, str):
                continue
            difference = grid_difference(volume, expected)
            if difference:
                problems.append(f"{path}: is not on the grid of {fixed}: {difference}")
    return problems


def _without_voxels(path: str, channels: bool) -> Volume | str:
    """Read a file whole and return a volume of zeros on its grid, or what is wrong with it."""
    try:
        source = read_series(path)[1] if channels else read_volume(path).source
    except InputError as error:
        return str(error)
    zeros = np.broadcast_to(np.float32(0), source.canonical_shape)
    return Volume(data=zeros, affine=source.canonical_affine(), source=source, path=Path(path))


def read_on_grid(path: str | Path, target: Volume) -> Volume:
    """Read a volume that must be on the target's grid.

    Raises
    ------
    InputError
        When it cannot be read or is on another grid.
    """
    volume = read_volume(path)
    difference = grid_difference(volume, target)
    if difference:
        raise InputError(f"{path}: is not on the grid of {target.path}: {difference}")
    return volume
