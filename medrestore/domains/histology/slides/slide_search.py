"""Slides in folders: what is taken for one by its name, and what is passed over."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from medrestore.checks import fail, one_line
from medrestore.data.restorations import is_litter, is_restoration
from medrestore.domains.histology.slides.parts import SlideGroup, group_files

__all__ = ["SETTINGS_NAME", "SLIDE_SUFFIXES", "search_slides", "slides_in"]

SETTINGS_NAME = "tiles.json"
"""File of settings that marks a folder of tiles: its pictures are no slides."""

SLIDE_SUFFIXES = (
    *(".svs", ".tif", ".tiff", ".ndpi", ".vms", ".vmu", ".scn", ".mrxs", ".svslide", ".bif", ".czi", ".dcm"),
    *(".png", ".jpg", ".jpeg"),
)
"""Names by which slides and pictures are found in a folder."""


def slides_in(folder: Path) -> list[Path]:
    """Return the slides and pictures of a folder itself, sorted; no hidden ones and no restorations.

    Of a slide of several files it is the one that it is opened by.
    """
    return [group.path for group in group_files(_files(folder.iterdir())) if group.is_slide]


def search_slides(paths: Sequence[Path]) -> list[tuple[SlideGroup, tuple[str, ...]]]:
    """Find slides in files and in folders with all that lies in them.

    Parameters
    ----------
    paths
        Files and folders.

    Returns
    -------
    list
        Of each slide its files, and the names of the folders from the outside in: below the folder that was
        given, or below the one that all files that were given have in common. Folders that cannot be read
        come last, with the fault.

    Raises
    ------
    InputError
        When there is no such file or folder, or no slide in a folder.
    """
    folders: dict[Path, tuple[str, ...]] = {}
    unreadable: dict[Path, str] = {}
    named = [path.absolute() for path in paths if not path.is_dir()]
    common = Path(os.path.commonpath([path.parent for path in named])) if named else Path()
    for path in named:
        if not (path.is_file() or path.is_symlink()):
            fail("no such file or folder, expected slides", path=path)
        folders[path] = path.parent.relative_to(common).parts
    for path in paths:
        if path.is_dir():
            root = path.absolute()
            inside = {file: file.parent.relative_to(root).parts for file in _walk(root, unreadable)}
            if not any(group.is_slide for group in group_files(inside)):
                fail(
                    f"holds no slide ({', '.join(SLIDE_SUFFIXES)})",
                    path=path,
                    remedy="name the folder of the slides",
                )
            folders |= {file: below for file, below in inside.items() if file not in folders}
    # A label that lies among slides is passed over; one that was named is refused.
    groups = [group for group in group_files(folders) if group.is_slide or group.path in named]
    closed = [SlideGroup(folder, fault=reason) for folder, reason in unreadable.items()]
    return [*((group, folders[group.path]) for group in groups), *((group, ()) for group in closed)]


def _walk(root: Path, unreadable: dict[Path, str]) -> Iterator[Path]:
    """Yield the files of a folder and of those in it, each folder once, whatever links lead to it.

    Folders in it that cannot be read are added with the reason.
    """
    seen: set[str] = set()
    waiting, linked = [root], list[Path]()
    while waiting or linked:
        folder = waiting.pop() if waiting else linked.pop(0)
        if (real := os.path.realpath(folder)) in seen:
            continue
        seen.add(real)
        try:
            inside = sorted(folder.iterdir())
        except OSError as error:
            if folder == root:
                raise
            unreadable[folder] = f"cannot be looked into ({error.strerror or one_line(error)})"
            continue
        yield from _files(inside)
        further = [
            path
            for path in inside
            if path.is_dir()
            and not is_litter(path)
            and not (path / SETTINGS_NAME).exists()
            and not path.with_name(f"{path.name}.mrxs").exists()
        ]
        waiting += [path for path in further if not path.is_symlink()]
        linked += [path for path in further if path.is_symlink()]  # a folder is known by its own name


def _files(inside: Iterable[Path]) -> list[Path]:
    return sorted(
        file
        for file in inside
        if file.suffix.lower() in SLIDE_SUFFIXES
        and not is_litter(file)
        and not is_restoration(file)
        and (file.is_file() or (file.is_symlink() and not file.exists()))  # a link to nothing is told
    )
