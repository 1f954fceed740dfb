"""What files of restorations are called, and how a restoration is known again; quick to import."""

from __future__ import annotations

import json
from pathlib import Path

from medrestore.checks import fail

__all__ = [
    "deviation_name",
    "is_litter",
    "is_our_record",
    "is_restoration",
    "refuse_restoration",
    "restored_name",
]

_ENDINGS = (".nii.gz", ".nii", ".tiff", ".png")
_RESTORED, _DEVIATION = "_restored", "_standard_deviation"
_LITTER = {
    *("thumbs.db", "desktop.ini", "@eadir", "__macosx"),
    *("$recycle.bin", "system volume information", "lost+found"),
}


def restored_name(name: str, suffix: str = ".nii.gz") -> str:
    """Return the file name of an image's restoration.

    >>> restored_name("sub-0001_ses-01"), restored_name("slide_x0_y0", ".png")
    ('sub-0001_ses-01_restored.nii.gz', 'slide_x0_y0_restored.png')
    """
    return f"{name}{_RESTORED}{suffix}"


def deviation_name(name: str) -> str:
    """Return the file name of the standard deviation of an image's restorations.

    >>> deviation_name("sub-0001_ses-01")
    'sub-0001_ses-01_standard_deviation.nii.gz'
    """
    return f"{name}{_DEVIATION}.nii.gz"


def is_restoration(path: Path) -> bool:
    """Say whether a file is a restoration, or the standard deviation of some: its sidecar says so.

    A file of such a name without the sidecar that this program writes is an image like others.
    """
    for ending in _ENDINGS:
        if path.name.lower().endswith(ending):
            stem = path.name[: -len(ending)]
            for part in (_RESTORED, _DEVIATION):
                if stem.endswith(part):
                    return _is_ours(path.with_name(restored_name(stem.removesuffix(part), ".json")))
    return False


def refuse_restoration(path: Path) -> None:
    """Refuse to restore a file that was restored.

    Raises
    ------
    InputError
        When its sidecar says so.
    """
    if is_restoration(path):
        fail(
            "is a restoration itself, as the JSON file beside it says",
            path=path,
            remedy="name the image that it was made from",
        )


def is_our_record(record: object) -> bool:
    """Say whether the content of a JSON file is that of a restoration's sidecar."""
    return isinstance(record, dict) and {"medrestore_version", "weights_sha256"} <= record.keys()


def _is_ours(sidecar: Path) -> bool:
    try:
        return is_our_record(json.loads(sidecar.read_text(encoding="utf-8-sig")))
    except (OSError, ValueError):
        return False


def is_litter(path: Path) -> bool:
    """Say whether a file or folder is what systems and programs leave beside images: hidden, or known.

    >>> is_litter(Path("._scan.nii.gz")), is_litter(Path("@eaDir")), is_litter(Path("scan.nii.gz"))
    (True, True, False)
    """
    return path.name.startswith((".", "~$")) or path.name.lower() in _LITTER
