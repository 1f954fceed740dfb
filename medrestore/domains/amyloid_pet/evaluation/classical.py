"""Classical filters as rows of an evaluation, their parameter tuned on the validation split alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medrestore.checks import InputError, require_known_keys
from medrestore.data.volumes import read_volume
from medrestore.evaluation.arms import read_on_grid
from medrestore.solvers.filters import ValidationPair, gaussian_filter, non_local_means, tune

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

__all__ = ["FILTERS", "ClassicalFilter", "tuned_filters"]

MOST_SCANS = 8
"""Validation scans that serve to tune, evenly spaced over the split."""

NLM_STEP = 3
"""Every third axial slice serves to tune non-local means, which restore each slice by itself."""


@dataclass(frozen=True)
class ClassicalFilter:
    """A filter with one parameter.

    Parameters
    ----------
    name
        ``gaussian`` or ``nlm``.
    parameter
        ``fwhm_mm`` of the Gaussian; ``strength`` of non-local means, in units of the estimated noise.
    value
        Of the parameter.
    """

    name: str
    parameter: str
    value: float

    def restore(self, volume: NDArray[np.float32], *, voxel_size_mm: Sequence[float]) -> NDArray[np.float32]:
        """Filter a volume (X, Y, Z)."""
        if self.name == "gaussian":
            return gaussian_filter(volume, fwhm_mm=self.value, voxel_size_mm=voxel_size_mm)
        return non_local_means(volume, strength=self.value)


FILTERS: dict[str, tuple[str, tuple[float, ...]]] = {
    "gaussian": ("fwhm_mm", (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 14.0, 16.0, 20.0)),
    # The noise of a post-filtered reconstruction is smooth: its estimate from neighboring voxels is far too
    # low.
    "nlm": ("strength", (1.0, 8.0, 64.0, 128.0, 256.0, 512.0)),
}
"""Parameter and candidates of each filter."""


def tuned_filters(
    validation: pd.DataFrame,
    *,
    given: Mapping[str, float | None] | None = None,
    data_range: float | None = None,
) -> tuple[dict[str, ClassicalFilter], dict[str, dict[str, object]]]:
    """Choose each filter's parameter by the mean PSNR over the validation scans.

    Parameters
    ----------
    validation
        The manifest's rows of the validation split.
    given
        Parameters by filter: these filters alone, without tuning where they are numbers; ``{}`` for none. All
        are tuned when not given.
    data_range
        Of the PSNR; the maximum of each target when not given.

    Returns
    -------
    tuple
        The filters by name, and what is recorded of each: parameter, value, how it was chosen, and the
        candidates with their mean PSNR in dB.

    Raises
    ------
    InputError
        For an unknown filter, or no validation scan to tune on.
    """
    wanted: Mapping[str, float | None] = dict.fromkeys(FILTERS) if given is None else given
    require_known_keys("filters", wanted, FILTERS)
    numbers = {name: float(value) for name, value in wanted.items() if value is not None}
    filters = {name: ClassicalFilter(name, FILTERS[name][0], value) for name, value in numbers.items()}
    record: dict[str, dict[str, object]] = {
        name: {"parameter": item.parameter, "value": item.value, "chosen": "given"}
        for name, item in filters.items()
    }
    tuned = [name for name in wanted if name not in numbers]
    if not tuned:
        return filters, record
    if validation.empty:
        raise InputError(
            "the manifest has no validation scan to tune the classical filters on. Remedy: give their "
            "parameters (filters: {gaussian: FWHM_MM, nlm: STRENGTH}), or {} to leave them out"
        )
    pairs: list[ValidationPair] = []
    voxel_sizes: dict[int, tuple[float, float, float]] = {}
    chosen_rows = np.unique(np.linspace(0, len(validation) - 1, MOST_SCANS).round().astype(int))
    for row in validation.iloc[chosen_rows].itertuples():
        target = read_volume(str(row.target_path))
        degraded = read_on_grid(str(row.degraded_path), target)
        pairs.append(ValidationPair(degraded.data, target.data, data_range or float(target.data.max())))
        voxel_sizes[id(degraded.data)] = target.voxel_size_mm
    every_third = [
        ValidationPair(pair.degraded[..., ::NLM_STEP], pair.target[..., ::NLM_STEP], pair.data_range)
        for pair in pairs
    ]
    restorations: dict[str, tuple[list[ValidationPair], Callable[[NDArray[Any], float], NDArray[Any]]]] = {
        "gaussian": (
            pairs,
            lambda volume, fwhm: gaussian_filter(volume, fwhm_mm=fwhm, voxel_size_mm=voxel_sizes[id(volume)]),
        ),
        "nlm": (every_third, lambda volume, strength: non_local_means(volume, strength=strength)),
    }
    for name in tuned:
        parameter, candidates = FILTERS[name]
        held, restore = restorations[name]
        found = tune(candidates, held, restore=restore)
        filters[name] = ClassicalFilter(name, parameter, found.best)
        record[name] = {
            "parameter": parameter,
            "value": found.best,
            "chosen": f"best mean PSNR of {len(pairs)} validation scans",
            "candidates": list(candidates),
            "mean_psnr": [round(value, 4) for value in found.mean_psnr],
        }
    return filters, record
