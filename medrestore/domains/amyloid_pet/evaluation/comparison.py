"""One scan at a time: every method's image of it, measured against its standard dose."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medrestore.checks import about
from medrestore.data.identity import scan_name
from medrestore.data.intensity import foreground_scale
from medrestore.data.tables import records_of
from medrestore.data.volumes import Volume, read_volume
from medrestore.domains.amyloid_pet.evaluation.arms import STANDARD_DOSE
from medrestore.domains.amyloid_pet.evaluation.classical import ClassicalFilter
from medrestore.domains.amyloid_pet.evaluation.figures import SubjectPanel, choose_scans, draw_evaluation
from medrestore.domains.amyloid_pet.evaluation.measures import Reference, reading, scan_quality
from medrestore.evaluation.arms import INPUT, read_on_grid
from medrestore.evaluation.measures import foreground_mask
from medrestore.evaluation.observers import Observer
from medrestore.metrics.fidelity import psnr

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Comparison"]


@dataclass(frozen=True, eq=False)
class Comparison:
    """All that is needed to measure the scans of a split and to draw three of them."""

    rows: pd.DataFrame
    arms: Mapping[str, Mapping[str, Path]]
    series: Mapping[str, Sequence[tuple[float, str]]]
    classical: Mapping[str, ClassicalFilter]
    tuned: Mapping[str, Mapping[str, object]]
    judges: Sequence[Observer]
    data_range: str | float
    label_column: str
    target_labels: Sequence[int]
    reference_labels: Sequence[int]

    def reference(self, row: Mapping[str, Any], target: Volume, degraded: Volume) -> Reference:
        """Return what the images of a scan are measured by."""
        with about(target.path):
            mask = foreground_mask(target.data, voxel_size_mm=target.voxel_size_mm)
        with about(degraded.path):
            scale = foreground_scale(degraded.data, voxel_size_mm=degraded.voxel_size_mm)
        peak = float(target.data[mask].max()) if self.data_range == "target_max" else float(self.data_range)
        regions = None
        if row["regions_path"]:
            regions = np.rint(read_on_grid(row["regions_path"], target).data).astype(np.int16)
        series = self.series.get(scan_name(row["subject_id"], row["session_id"]), ())
        plain = [(float(row["dose_fraction"]), degraded)] if series else []
        plain += [(fraction, read_on_grid(path, target)) for fraction, path in series]
        curve = [(dose, psnr(image.data, target.data, data_range=peak)) for dose, image in plain]
        return Reference(
            target=target.data,
            foreground=mask,
            data_range=peak,
            scale=scale,
            label=float(row[self.label_column]),
            regions=regions,
            dose_curve=tuple(curve),
        )

    def images(
        self, row: Mapping[str, Any], target: Volume, degraded: Volume
    ) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Yield every image of a scan by the name of its method."""
        yield INPUT, degraded.data
        for name, item in self.classical.items():
            yield name, item.restore(degraded.data, voxel_size_mm=degraded.voxel_size_mm)
        for name, path in self.arms[scan_name(row["subject_id"], row["session_id"])].items():
            yield name, read_on_grid(path, target).data
        yield STANDARD_DOSE, target.data

    def measure(self, row: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return a row of ``per_subject.csv`` for each image of a scan."""
        target = read_volume(row["target_path"])
        degraded = read_on_grid(row["degraded_path"], target)
        reference = self.reference(row, target, degraded)
        scan, found = scan_name(row["subject_id"], row["session_id"]), []
        for method, image in self.images(row, target, degraded):
            measured: dict[str, Any] = {
                "subject_id": row["subject_id"],
                "session_id": row["session_id"],
                "method": method,
                "label": reference.label,
                "dose_fraction": float(row["dose_fraction"]) if method != STANDARD_DOSE else 1.0,
                "data_range": reference.data_range,
            }
            own = self.arms[scan].get(method, target.path if method == STANDARD_DOSE else degraded.path)
            with about(f"{scan}, method {method!r}"):
                if method != STANDARD_DOSE:
                    with about(own):
                        measured |= scan_quality(image, reference)
                with about(own, row["regions_path"] or None):
                    measured |= reading(
                        image,
                        reference,
                        self.judges,
                        target_labels=self.target_labels,
                        reference_labels=self.reference_labels,
                    )
            found.append(measured)
        if reference.regions is not None:
            standard = found[-1]["suvr"]
            for measured in found[:-1]:
                measured["suvr_bias"] = measured["suvr"] - standard
                measured["suvr_absolute_error"] = abs(measured["suvr_bias"])
        return found

    def facts(self, _: pd.DataFrame) -> dict[str, Any]:
        """Return what is recorded when all is measured."""
        return {
            "tuned_filters": self.tuned,
            "scans": len(self.rows),
            "dose_fractions": sorted({float(value) for value in self.rows["dose_fraction"]}),
            "units": sorted(set(self.rows["units"])),
        }

    def draw(self, per_subject: pd.DataFrame, _: pd.DataFrame, *, path: Path) -> None:
        """Draw a typical positive, a typical negative and a border case, and the agreement of the SUVR."""
        of = {(row["subject_id"], row["session_id"]): row for row in records_of(self.rows)}
        chosen = choose_scans(per_subject)
        panels = [self.panel(of[scan], per_subject, title) for title, scan in chosen.items()]
        units = sorted(set(self.rows["units"]))
        draw_evaluation(panels, per_subject, unit=units[0] if len(units) == 1 else "", path=path)

    def panel(self, row: Mapping[str, Any], per_subject: pd.DataFrame, title: str) -> SubjectPanel:
        """Return the slice of a scan that the figure shows, as each method has it."""
        target = read_volume(row["target_path"])
        degraded = read_on_grid(row["degraded_path"], target)
        reference = self.reference(row, target, degraded)
        same = per_subject["subject_id"] == row["subject_id"]
        same &= per_subject["session_id"] == row["session_id"]
        return SubjectPanel.cut(
            title=title,
            images=dict(self.images(row, target, degraded)),
            reference=reference,
            voxel_size_mm=target.voxel_size_mm,
            target_labels=self.target_labels,
            measured=per_subject[same].set_index("method"),
        )
