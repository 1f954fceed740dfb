"""Grids of voxels: canonical axes in memory, the stored ones kept for writing back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medrestore.checks import InputError, fail, require_in_set

__all__ = ["GRID_FIELDS", "SourceGrid", "require_usable_affine", "steps_in"]

_CANONICAL = np.array([[0, 1], [1, 1], [2, 1]])
GRID_FIELDS = (
    *("pixdim", "xyzt_units", "qform_code", "sform_code", "srow_x", "srow_y", "srow_z"),
    *("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
)
"""Fields of a NIfTI header that describe its grid."""


@dataclass(frozen=True, eq=False)
class SourceGrid:
    """How a file stores its grid: all that is needed to write another volume on exactly the same one.

    Parameters
    ----------
    shape
        As stored: (I, J, K), or (I, J, K, 1).
    affine : (4, 4) float64
        Stored voxel indices to millimeters, RAS+.
    header
        NIfTI fields that describe the grid: pixdim, xyzt_units, qform and sform with their codes.
    nifti_version
        1 or 2.
    dtype
        Voxel type of the file.
    """

    shape: tuple[int, ...]
    affine: NDArray[np.float64]
    header: Mapping[str, Any]
    nifti_version: int = 1
    dtype: str = "float32"

    @classmethod
    def from_affine(cls, shape: Sequence[int], affine: ArrayLike, *, code: int = 1) -> SourceGrid:
        """Make the grid of a new volume.

        Parameters
        ----------
        shape
            (I, J, K).
        affine : (4, 4)
            Voxel indices to mm, RAS+.
        code
            NIfTI's name of the space: 1 scanner, 2 aligned to another image, 3 Talairach, 4 MNI.

        Notes
        -----
        Written to sform and qform alike; to sform alone where the affine is sheared: no qform can hold that.

        Raises
        ------
        InputError
            When the affine is singular or not finite, or the shape is not three positive numbers.
        """
        import nibabel
        from nibabel.spatialimages import HeaderDataError

        require_in_set("code", code, (1, 2, 3, 4))
        matrix = np.array(affine, dtype=np.float64)
        require_usable_affine(matrix)
        if len(shape) != 3 or min(shape) < 1:
            raise InputError(f"shape must be three positive numbers, got {tuple(shape)}")
        header = nibabel.Nifti1Header()
        header.set_data_shape(shape)
        header.set_zooms(np.linalg.norm(matrix[:3, :3], axis=0))
        header.set_sform(matrix, code)
        try:
            header.set_qform(matrix, code, strip_shears=False)
        except HeaderDataError:
            header["qform_code"] = 0
        header.set_xyzt_units("mm")
        return cls(
            shape=tuple(int(count) for count in shape),
            affine=header.get_best_affine().astype(np.float64),
            header={name: np.array(header[name]) for name in GRID_FIELDS},
        )

    @property
    def states_orientation(self) -> bool:
        """Whether the file says which way its axes run: a qform or sform code above 0."""
        return bool(self.header["qform_code"] > 0 or self.header["sform_code"] > 0)

    @property
    def canonical_shape(self) -> tuple[int, int, int]:
        """Shape (X, Y, Z) of the volume in canonical axes."""
        order = np.argsort(self._orientation()[:, 0])
        x, y, z = (self.shape[axis] for axis in order)
        return x, y, z

    def canonical_affine(self) -> NDArray[np.float64]:
        """Return the affine (4, 4) of the volume in canonical axes, to mm."""
        from nibabel.orientations import inv_ornt_aff

        affine: NDArray[np.float64] = self.affine @ inv_ornt_aff(self._orientation(), self.shape[:3])
        return affine

    def to_canonical(self, stored: NDArray[Any]) -> NDArray[Any]:
        """Turn an array (I, J, K) as stored to canonical axes (X, Y, Z); a view."""
        from nibabel.orientations import apply_orientation

        turned: NDArray[Any] = apply_orientation(stored, self._orientation())
        return turned

    def to_stored(self, canonical: NDArray[Any]) -> NDArray[Any]:
        """Turn an array (X, Y, Z) to the stored axes and shape; the inverse of :meth:`to_canonical`."""
        from nibabel.orientations import apply_orientation, ornt_transform

        turned: NDArray[Any] = apply_orientation(canonical, ornt_transform(_CANONICAL, self._orientation()))
        return turned.reshape(self.shape)

    def _orientation(self) -> NDArray[np.int64]:
        from nibabel.orientations import io_orientation

        orientation: NDArray[np.int64] = io_orientation(self.affine).astype(np.int64)
        return orientation


def steps_in(length: float, size: float) -> float:
    """Return how often a voxel size goes into a length, to three decimals: to be made a whole number next.

    Copies of one scan have voxel sizes that differ by rounding, 2 and 2.0000002 mm. What is done in whole
    voxels must be the same for all of them.

    >>> int(6 / 2.0000002), int(steps_in(6, 2.0000002)), steps_in(6, 4)
    (2, 3, 1.5)
    """
    return round(float(length) / float(size), 3)


def require_usable_affine(affine: NDArray[np.float64], *, path: Path | None = None, source: str = "") -> None:
    """Require an affine (4, 4) that maps voxels to space one to one: finite, not singular.

    Parameters
    ----------
    affine
        Voxel indices to mm.
    path, source
        The file that it is of, and the fields of its header that it is made from.
    """
    if affine.shape != (4, 4):
        fail(f"affine must be (4, 4), got {affine.shape}", path=path)
    # Relative to the voxel volume, so that micrometer voxels are as good as millimeter ones.
    with np.errstate(over="ignore", invalid="ignore"):  # of numbers that no scan has
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        volume = abs(np.linalg.det(affine[:3, :3]))
        usable = np.isfinite(affine).all() and np.isfinite(volume) and volume > 1e-6 * np.prod(lengths)
    if not usable:
        fail(
            f"has no usable affine{f' ({source})' * bool(source)}: {affine.tolist()}",
            path=path,
            remedy="set sform or qform from the scan's true geometry",
        )
