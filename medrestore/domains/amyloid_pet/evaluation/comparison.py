"""One scan at a time: every method's image of it, measured against its standard dose."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from medrestore.checks import InputError, about
from medrestore.data.identity import scan_name
from medrestore.data.intensity import foreground_scale
from medrestore.data.volumes import Volume
from medrestore.domains.amyloid_pet.changes import PARTS
from medrestore.domains.amyloid_pet.evaluation.classical import ClassicalFilter
from medrestore.domains.amyloid_pet.evaluation.figures import choose_scans, draw_evaluation, subject_panel
from medrestore.domains.amyloid_pet.measures import Reference, departure_quality, reading, scan_quality
from medrestore.domains.amyloid_pet.schema import REGION_TITLES, STANDARD_DOSE, dose_arm, region_codes
from medrestore.evaluation.arms import INPUT, read_on_grid
from medrestore.evaluation.observers import Observer
from medrestore.evaluation.panels import Panel
from medrestore.evaluation.titles import ANCHORED
from medrestore.evaluation.volumes import VolumeComparison
from medrestore.inference.anchor import GeometricTransfer, anchored
from medrestore.inference.volume_sources import RegionSource, VolumeFile
from medrestore.metrics.fidelity import psnr

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DoseComparison"]


@dataclass(frozen=True, eq=False, kw_only=True)
class DoseComparison(VolumeComparison[Reference]):
    """All that is needed to measure the scans of a split and to draw three of them."""

    true_name: ClassVar[str] = STANDARD_DOSE

    series: Mapping[str, Sequence[tuple[float, str]]]
    classical: Mapping[float, Mapping[str, ClassicalFilter]]
    tuned: Mapping[str, Mapping[str, object]]
    anchor: RegionSource | None
    maps: Path
    judges: Sequence[Observer]
    label_column: str
    target_labels: Sequence[int]
    reference_labels: Sequence[int]
    not_anchored: dict[str, str] = field(default_factory=dict)

    def true_of(self, row: Mapping[str, Any], target: Volume, degraded: Volume) -> Reference:
        """Return what the images of a scan are measured by."""
        true = super().true_of(row, target, degraded)
        with about(degraded.path):
            scale = foreground_scale(degraded.data, voxel_size_mm=degraded.voxel_size_mm)
        regions = None
        if row["regions_path"]:
            with about(row["regions_path"]):
                regions = region_codes(read_on_grid(row["regions_path"], target))
        departure = read_on_grid(row["departure_path"], target).data if row["departure_path"] else None
        dose = float(row["dose_fraction"])
        series = self.series.get(scan_name(row["subject_id"], row["session_id"]), ())
        plain = [(dose, degraded)] if series else []
        plain += [(fraction, read_on_grid(path, target)) for fraction, path in series if fraction != dose]
        curve = [(of, psnr(image.data, target.data, data_range=true.data_range)) for of, image in plain]
        return Reference(
            **vars(true),
            scale=scale,
            label=float(row[self.label_column]),
            dose_fraction=dose,
            regions=regions,
            regions_path=row["regions_path"],
            departure=departure,
            dose_curve=tuple(curve),
            target_labels=self.target_labels,
            reference_labels=self.reference_labels,
        )

    def baselines(
        self, row: Mapping[str, Any], degraded: Volume
    ) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Yield the images of the classical filters of a row's dose."""
        for name, item in self.classical[float(row["dose_fraction"])].items():
            yield name, item.restore(degraded.data, voxel_size_mm=degraded.voxel_size_mm)

    def _images(
        self, row: Mapping[str, Any], target: Volume, degraded: Volume
    ) -> Iterator[tuple[str, NDArray[np.float32], tuple[Path, ...]]]:
        """Yield each method's image, and beside it the anchored one.

        A scan whose anchor cannot be made, as one without regions, counts in these rows as it was restored.
        """
        transfer: GeometricTransfer | str | None = None
        for name, image, files in super()._images(row, target, degraded):
            yield name, image, files
            if self.anchor is None or name == INPUT:
                continue
            if transfer is None:
                transfer = self._transfer_of(self.anchor, row, degraded, image)
            held = image
            if not isinstance(transfer, str):
                try:
                    held = anchored(image, degraded.data, transfer).image
                except InputError as error:
                    self.not_anchored[scan_name(row["subject_id"], row["session_id"])] = str(error)
            yield f"{name}{ANCHORED}", held, files

    def _transfer_of(
        self, anchor: RegionSource, row: Mapping[str, Any], degraded: Volume, image: NDArray[np.float32]
    ) -> GeometricTransfer | str:
        """Return the transfer of a scan's regions, or why it has none: one for all methods."""
        name = scan_name(row["subject_id"], row["session_id"])
        item = VolumeFile(Path(row["degraded_path"]), name, row)
        found = anchor.find(item, degraded, image, self.maps / f"{name}{dose_arm(row)}")
        if not isinstance(found, str):
            try:
                return GeometricTransfer(found.codes, voxel_size_mm=degraded.voxel_size_mm)
            except InputError as error:
                found = str(error)
        self.not_anchored[name] = found
        return found

    def measured(self, image: NDArray[np.float32] | None, true: Reference) -> dict[str, Any]:
        """Measure how close an image is to standard dose, and what is read from it."""
        found: dict[str, Any] = {
            "label": true.label,
            "dose_fraction": 1.0 if image is None else true.dose_fraction,
            "data_range": true.data_range,
        }
        if image is not None:
            found |= scan_quality(image, true) | departure_quality(image, true)
        found |= reading(true.target if image is None else image, true, self.judges)
        if image is not None and "suvr" in found:
            found["suvr_bias"] = found["suvr"] - true.suvr
            found["suvr_absolute_error"] = abs(found["suvr_bias"])
        found[PARTS.name] = [
            {"part": REGION_TITLES.get(code, f"Region {code}"), "value": value}
            for code, value in true.regional_suvr_of(true.target if image is None else image).items()
        ]
        return found

    def facts(self, per_subject: pd.DataFrame) -> dict[str, Any]:
        """Return what is recorded when all is measured."""
        without = {"not_anchored": dict(sorted(self.not_anchored.items()))} if self.anchor else {}
        return {
            "tuned_filters": self.tuned,
            **without,
            **super().facts(per_subject),
            "dose_fractions": sorted({float(value) for value in self.rows["dose_fraction"]}),
            "units": sorted(set(self.rows["units"])),
        }

    def draw(self, per_subject: pd.DataFrame, _: pd.DataFrame, *, path: Path) -> None:
        """Draw a typical positive, a typical negative and a border case, and the agreement of the SUVR.

        Of several doses, at the lowest one.
        """
        if "dose" in per_subject:
            rows = self.rows[self.rows["dose_fraction"] == self.rows["dose_fraction"].min()]
            lowest = per_subject[per_subject["dose"].isin(set(rows["dose"]))].drop(columns="dose")
            replace(self, rows=rows).draw(lowest, _, path=path)
            return
        panels = self.panels({scan: title for title, scan in choose_scans(per_subject).items()}, per_subject)
        units = sorted(set(self.rows["units"]))
        draw_evaluation(panels, per_subject, unit=units[0] if len(units) == 1 else "", path=path)

    def panel(
        self, title: str, images: Mapping[str, NDArray[np.float32]], true: Reference, measured: pd.DataFrame
    ) -> Panel:
        """Return the slice of a scan that the figure shows, as each method has it."""
        return subject_panel(title, images, true, measured)
