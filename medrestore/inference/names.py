"""What files of restorations are called; apart from what restores, which takes seconds to import."""

from __future__ import annotations

__all__ = ["restored_name"]


def restored_name(name: str, suffix: str = ".nii.gz") -> str:
    """Return the file name of an image's restoration.

    >>> restored_name("sub-0001_ses-01"), restored_name("slide_x0_y0", ".png")
    ('sub-0001_ses-01_restored.nii.gz', 'slide_x0_y0_restored.png')
    """
    return f"{name}_restored{suffix}"
