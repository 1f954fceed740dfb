"""One subject at a time: every method's images of all contrasts, measured against the true ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medrestore.checks import about
from medrestore.data.identity import scan_name
from medrestore.data.volumes import Volume, read_volume
from medrestore.domains.multicontrast_mri.domain import DOMAIN
from medrestore.domains.multicontrast_mri.evaluation.classical import (
    MdmeInput,
    fitted_images,
    input_channels,
)
from medrestore.domains.multicontrast_mri.evaluation.figures import Showcase, draw_contrasts
from medrestore.domains.multicontrast_mri.evaluation.judges import ContrastObserver, LesionReader
from medrestore.domains.multicontrast_mri.evaluation.measures import TrueImage, measure_image, normalized
from medrestore.evaluation.arms import read_on_grid
from medrestore.evaluation.changes.pictures import Picture, cut_picture
from medrestore.evaluation.evaluate import Case, Comparison
from medrestore.evaluation.measures import foreground_mask
from medrestore.metrics.lesions import surrounding_ring

__all__ = ["CLASSICAL", "TRUE", "ContrastComparison", "read_lesions"]

CLASSICAL, TRUE = "classical", "true"

AROUND_MM = 40.0
"""Shown on each side of a lesion's center."""


def read_lesions(path: str, target: Volume | None = None) -> NDArray[np.bool_] | None:
    """Read a lesion mask (X, Y, Z), on the target's grid; None for an empty path."""
    if not path:
        return None
    volume = read_volume(path) if target is None else read_on_grid(path, target)
    mask: NDArray[np.bool_] = volume.data > 0.5
    return mask


@dataclass(frozen=True, eq=False)
class ContrastComparison(Comparison[TrueImage, NDArray[np.float32]]):
    """All that is needed to measure the subjects of a split and to draw one.

    Parameters
    ----------
    rows
        Of the split, those without any contrast too.
    contrasts
        That are compared.
    arms
        Path by image (``SUBJECT_SESSION_CONTRAST``) and method.
    inputs
        By scan, what can be fitted classically.
    observers
        T and independent ones.
    reader
        Independent segmenter of lesions.
    percentile
        Of the true image in the head: the data range.
    showcase
        What the figure shows.
    """

    rows: pd.DataFrame
    contrasts: Sequence[str]
    arms: Mapping[str, Mapping[str, Path]]
    inputs: Mapping[str, MdmeInput]
    observers: Sequence[ContrastObserver]
    reader: LesionReader | None
    percentile: float
    showcase: Showcase

    def cases(self, row: Mapping[str, Any]) -> Iterator[Case[TrueImage, NDArray[np.float32]]]:
        """Yield the contrasts that a subject has."""
        scan = scan_name(row["subject_id"], row["session_id"])
        trues, source = self._true_images(row), self.inputs.get(scan)
        synthetic = {} if source is None else fitted_images(source, list(trues))
        for contrast, (true, target) in trues.items():
            columns = {
                "subject_id": row["subject_id"],
                "session_id": row["session_id"],
                "group": row["group"],
                "contrast": contrast,
                "data_range": true.data_range,
            }
            images = self._images(f"{scan}_{contrast}", synthetic.get(contrast), target)
            yield Case(f"{scan}, {contrast}", columns, true, images)

    def measured(self, image: NDArray[np.float32] | None, true: TrueImage) -> dict[str, Any]:
        """Measure an image: :func:`measure_image`, in units of its mean over the head."""
        return measure_image(None if image is None else normalized(image, true.head), true)

    def picture(
        self,
        method: str,
        images: Mapping[str, NDArray[np.float32]],
        true: TrueImage,
        find: Mapping[str, Any] | None,
    ) -> Picture | None:
        """Return the surroundings of a lesion that is lost or invented, beside the classical fit."""
        if find is None or true.affine is None:
            return None
        size = np.linalg.norm(true.affine[:3, :3], axis=0)
        place = np.linalg.solve(true.affine, [find["x_mm"], find["y_mm"], find["z_mm"], 1.0])
        box = [
            slice(max(round(center - AROUND_MM / step), 0), round(center + AROUND_MM / step) + 1)
            for center, step in zip(place[:2], size[:2], strict=True)
        ]
        label = DOMAIN.metrics.label_of
        shown = {label(TRUE): true.image} | {
            label(name): normalized(images[name], true.head) for name in (CLASSICAL, method) if name in images
        }
        return cut_picture(shown, int(find["slice"]) - 1, (box[0], box[1]), size.tolist())

    def facts(self, _: pd.DataFrame) -> dict[str, Any]:
        """Return what is recorded when all is measured."""
        acquired = self.rows[[f"{name}_path" for name in self.contrasts]] != ""
        held = acquired.any(axis=1)
        groups = self.rows.loc[held, "group"].value_counts().items()
        return {
            "scans": int(held.sum()),
            "scans_without_contrasts": int((~held).sum()),
            "groups": {str(name): int(count) for name, count in groups if name},
            "available": {name: int(acquired[f"{name}_path"].sum()) for name in self.contrasts},
            "fitted_scans": len(self.inputs),
        }

    def draw(self, _: pd.DataFrame, summary: pd.DataFrame, *, path: Path) -> None:
        """Draw the slice of the showcase, and the PSNR of every contrast."""
        shown = self.showcase
        channels = input_channels(shown.row["input_paths"], self.inputs.get(shown.scan))
        images = {
            case.true.contrast: {
                **{name: shown.cut(normalized(image, case.true.head)) for name, image, _ in case.images},
                TRUE: shown.cut(case.true.image),
            }
            for case in self.cases(shown.row)
        }
        cut = {name: shown.cut(channel) for name, channel in channels.items()}
        draw_contrasts(shown, cut, images, summary, path=path)

    def _images(
        self, name: str, synthetic: NDArray[np.float32] | None, target: Volume
    ) -> Iterator[tuple[str, NDArray[np.float32], tuple[Path, ...]]]:
        """Yield every image of one contrast by the name of its method."""
        if synthetic is not None:
            yield CLASSICAL, synthetic, ()
        for method, path in self.arms[name].items():
            yield method, read_on_grid(path, target).data, (path,)

    def _true_images(self, row: Mapping[str, Any]) -> dict[str, tuple[TrueImage, Volume]]:
        """Return the true image of each contrast that the subject has; all share lesions and ring."""
        volumes: dict[str, Volume] = {}
        for contrast in self.contrasts:
            path = row[f"{contrast}_path"]
            if path:
                first = next(iter(volumes.values()), None)
                volumes[contrast] = read_volume(path) if first is None else read_on_grid(path, first)
        heads, images = {}, {}
        for contrast, volume in volumes.items():
            with about(volume.path):
                heads[contrast] = foreground_mask(volume.data, voxel_size_mm=volume.voxel_size_mm)
                images[contrast] = normalized(volume.data, heads[contrast])
        first = next(iter(volumes.values()))
        lesions, ring = read_lesions(row["lesions_path"], first), None
        if lesions is not None and lesions.any():
            ring = surrounding_ring(
                lesions,
                list(images.values()),
                voxel_size_mm=first.voxel_size_mm,
                inside=np.logical_and.reduce(list(heads.values())),
            )
        return {
            contrast: (
                TrueImage(
                    contrast=contrast,
                    image=images[contrast],
                    head=heads[contrast],
                    data_range=float(np.percentile(images[contrast][heads[contrast]], self.percentile)),
                    observers=self.observers,
                    reader=self.reader if self.reader and self.reader.contrast == contrast else None,
                    lesions=lesions,
                    affine=volume.affine,
                    ring=ring,
                ),
                volume,
            )
            for contrast, volume in volumes.items()
        }
