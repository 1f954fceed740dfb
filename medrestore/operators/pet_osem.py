"""Iterative reconstruction of PET counts: ordered-subsets expectation maximization."""

from __future__ import annotations

from math import gcd

import numpy as np
from numpy.typing import NDArray

from medrestore.checks import fail, require_in_range
from medrestore.operators.pet import PetAcquisition
from medrestore.operators.projector import ParallelProjector

__all__ = ["OsemReconstruction"]


def _spread_order(count: int) -> list[int]:
    """Return the subsets in an order in which neighbors look from directions far apart.

    >>> _spread_order(8)
    [0, 3, 6, 1, 4, 7, 2, 5]
    """
    step = max(1, round(count * 0.382))  # the golden section leaves the widest gaps at every length
    while gcd(step, count) != 1:
        step += 1
    return [index * step % count for index in range(count)]


class OsemReconstruction:
    r"""OSEM for the scans of one patient, at any dose, in units of activity.

    Update for each subset S of the angles:

        x <- x / (A_S^T w_S) * A_S^T ( w_S y_S / (w_S A_S x + b_S) ),   w = k a

    w holds attenuation and normalization to activity, b the expected scatter and randoms.

    Parameters
    ----------
    acquisition : PetAcquisition
        The scan's model at the standard dose.
    subsets : int
        Number of subsets; must divide the number of angles.

    Notes
    -----
    Hudson and Larkin, IEEE Trans Med Imaging 13:601 (1994). With one subset this is MLEM (Shepp
    and Vardi 1982). The update is unchanged when counts, w and b are all multiplied by the same factor. So
    the counts of a dose fraction f, divided by f, are reconstructed with the model of the standard dose, and
    the sensitivities A_S^T w_S are computed once for all doses. Bins in which the model expects nothing are
    left out of the back-projection.
    """

    def __init__(self, acquisition: PetAcquisition, *, subsets: int = 15) -> None:
        angles = acquisition.projector.geometry.angles
        require_in_range("subsets", subsets, 1, angles)
        if angles % subsets:
            fail(f"subsets must divide the number of angles, {angles}, got {subsets}")
        self.acquisition = acquisition
        self.subsets = subsets
        self._visible = np.zeros(acquisition.projector.domain_shape, dtype=np.float32)
        self._sensitivity = 0.0
        weight = acquisition.attenuation * np.float32(acquisition.counts_per_line_integral)
        self._parts: list[tuple[int, ParallelProjector, NDArray[np.float32], NDArray[np.float32]]] = []
        for index in _spread_order(subsets):
            projector = acquisition.projector.subset(index, subsets)
            weight_s = np.ascontiguousarray(weight[index::subsets])
            sensitivity = projector.adjoint(weight_s)
            inverse = np.divide(1, sensitivity, out=np.zeros_like(sensitivity), where=sensitivity > 0)
            self._parts.append((index, projector, weight_s, inverse))
            self._visible[sensitivity > 0] = 1
            self._sensitivity += float(sensitivity.sum(dtype=np.float64))

    def reconstruct(
        self, counts: NDArray[np.int64], *, dose_fraction: float = 1.0, iterations: int = 2
    ) -> NDArray[np.float32]:
        """Reconstruct the counts of a scan at a fraction of the standard dose.

        Parameters
        ----------
        counts : (angles, bins, Z), counts
            Recorded counts.
        dose_fraction : float
            Fraction of the standard dose at which they were recorded.
        iterations : int
            Passes over all subsets.

        Returns
        -------
        (X, X, Z) float32, activity unit
            0 outside the circular field of view.
        """
        require_in_range("dose_fraction", dose_fraction, 0.0, 1.0, include_low=False)
        require_in_range("iterations", iterations, 1, 10_000)
        if counts.shape != self.acquisition.projector.range_shape:
            fail(f"counts must have shape {self.acquisition.projector.range_shape}, got {counts.shape}")
        scaled = counts.astype(np.float32) / np.float32(dose_fraction)
        image = self._uniform_start(scaled)
        for _ in range(iterations):
            for index, projector, weight, inverse_sensitivity in self._parts:
                expected = (
                    projector.forward(image) * weight + self.acquisition.background[index :: self.subsets]
                )
                ratio = np.zeros_like(expected)
                np.divide(scaled[index :: self.subsets], expected, out=ratio, where=expected > 0)
                image *= projector.adjoint(ratio * weight) * inverse_sensitivity
        return image

    def _uniform_start(self, scaled: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the uniform image that explains the recorded events less the expected background."""
        recorded = float(scaled.sum(dtype=np.float64))
        trues = recorded - float(self.acquisition.background.sum(dtype=np.float64))
        # At a very low dose the background can exceed what was recorded; the start must be positive all the
        # same.
        return self._visible * np.float32(max(trues, 1e-3 * recorded) / self._sensitivity)
