"""NIfTI files in folders: what is an image to restore, what it is called, what is passed over."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from medrestore.checks import counted, fail
from medrestore.data.nifti import nifti_stem
from medrestore.data.restorations import is_litter, is_restoration, refuse_restoration

__all__ = ["nifti_files"]

_DATATYPES = frozenset(
    {
        "anat",
        "beh",
        "dwi",
        "eeg",
        "fmap",
        "func",
        "ieeg",
        "meg",
        "micr",
        "motion",
        "mrs",
        "nirs",
        "perf",
        "pet",
    }
)
"""Folders by which BIDS sorts the images of a session."""

_NO_IMAGES = frozenset({"derivatives", "sourcedata", "code", "phenotype", "stimuli"})
"""Folders of a BIDS data set that hold no images of its own."""

_OTHERS = {
    ".img": "pairs (.hdr, .img): convert them, for example by nibabel: "
    "python -c \"import nibabel as n; n.save(n.load('SCAN.img'), 'SCAN.nii.gz')\"",
    ".dcm": "DICOM (.dcm): convert it, for example by dcm2niix",
    ".mgz": "MGH (.mgz): convert it, for example by mri_convert",
    ".nrrd": "NRRD (.nrrd): convert it, for example by SimpleITK",
    ".mha": "MetaImage (.mha): convert it, for example by SimpleITK",
}


def nifti_files(source: Path, *, datatype: str) -> list[tuple[Path, str]]:
    """List the NIfTI files that a path names, and what restorations of them are called.

    Parameters
    ----------
    source
        A file, or a folder. Of a folder these are the files in it; where it has none, those of all folders
        in it, as of a BIDS data set.
    datatype
        Name of the folder in which BIDS keeps such images, ``pet``: those of its other kinds are left out.

    Returns
    -------
    list
        Path and name, sorted by path. The name is the file's without its ending; in front of it are the
        folders below the source that it does not name itself: ``site-2/pet/sub-01_pet.nii.gz`` is
        ``site-2_sub-01_pet``. Two may have one name: ``a.nii`` and ``a.nii.gz``.

    Raises
    ------
    InputError
        When there is none.

    Notes
    -----
    Passed over are hidden files, what systems and other programs leave beside images, and restorations that
    this program made: their sidecars say so.
    """
    if not os.path.lexists(source):
        fail("does not exist", path=source, remedy="name a NIfTI volume, a folder of them or a manifest")
    if not source.is_dir():
        refuse_restoration(source)
        return [(source, nifti_stem(source))]
    found = _images(source)
    below = _below(source, datatype)
    if found:
        if next(below, None) is not None:
            logging.getLogger(__name__).warning(
                f"{source}: images in folders below it are not restored. To restore them, name their folders"
            )
    elif tables := [path for path in _entries(source) if path.name.lower() == "manifest.csv"]:
        fail("holds no NIfTI file but a manifest", path=source, remedy=f"name {tables[0]}")
    else:
        found = list(below)
    if not found:
        _refuse_empty(source)
    return [(path, _name(path, source)) for path in found]


def _is_nifti(path: Path) -> bool:
    return path.name.lower().endswith((".nii", ".nii.gz")) and not is_litter(path)


def _images(folder: Path) -> list[Path]:
    """Return what is called like an image: also a folder or a dead link, whose fault is told in its turn."""
    return [path for path in _entries(folder) if _is_nifti(path) and not is_restoration(path)]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        fail(f"cannot be read ({error.strerror})", path=folder, remedy="have it made readable, or move it")


def _below(root: Path, datatype: str) -> Iterator[Path]:
    """Yield the images in the folders of a folder, each folder once, whatever links lead to it."""
    left_out = (_DATATYPES - {datatype}) | _NO_IMAGES
    seen = {os.path.realpath(root)}
    waiting = [root]
    while waiting:
        folder = waiting.pop(0)
        if folder != root:
            yield from _images(folder)
        for path in _entries(folder):
            if not path.is_dir() or is_litter(path) or _is_nifti(path) or path.name in left_out:
                continue
            if (real := os.path.realpath(path)) not in seen:
                seen.add(real)
                waiting.append(path)


def _name(path: Path, root: Path) -> str:
    stem = nifti_stem(path)
    own = {*stem.split("_"), *_DATATYPES}
    return "_".join([*(part for part in path.parent.relative_to(root).parts if part not in own), stem])


def _refuse_empty(folder: Path) -> None:
    """Say what a folder holds instead of images."""
    entries = _entries(folder)
    made = [path for path in entries if _is_nifti(path) and is_restoration(path)]
    if made:
        fail(
            f"holds nothing but {counted(len(made), 'image')} that this program made (restorations, standard "
            "deviations), as the JSON files beside them say",
            path=folder,
            remedy="name the folder of the images that they were made from",
        )
    others = [text for ending, text in _OTHERS.items() if any(p.suffix.lower() == ending for p in entries)]
    fail(
        "holds no .nii or .nii.gz file, nor does any folder in it"
        + (" but " + "; ".join(others)) * bool(others),
        path=folder,
        remedy="" if others else "name a folder of NIfTI volumes or a manifest",
    )
