"""The evaluation of pairs of volumes: every method's image of a scan, against the true one on its grid."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medrestore.checks import InputError, about, counted
from medrestore.data.identity import scan_name, scan_names
from medrestore.data.intensity import RELATIVE, Intensity
from medrestore.data.schema import Schema, split_rows
from medrestore.data.tables import records_of
from medrestore.data.volumes import Volume, read_volume
from medrestore.evaluation.arms import INPUT, find_restorations, read_on_grid, repeated_scans
from medrestore.evaluation.changes.pictures import Picture, cut_picture, telling_slice
from medrestore.evaluation.drawing import at_quartiles, head_box
from medrestore.evaluation.evaluate import Case, Comparison, Running, run_evaluation
from medrestore.evaluation.measures import foreground_mask, image_quality
from medrestore.evaluation.notes import interval_note
from medrestore.evaluation.panels import Panel, draw_panels
from medrestore.evaluation.record import Evaluation
from medrestore.evaluation.titles import Metrics

__all__ = ["TARGET_MAX", "TrueVolume", "VolumeComparison", "evaluate_volumes", "find_arms", "with_arms"]

TARGET_MAX = "target_max"
"""As a data range: the maximum of each true image in its foreground."""


@dataclass(frozen=True, eq=False)
class TrueVolume:
    """A true volume, and what other images of it are measured by.

    Parameters
    ----------
    target : (X, Y, Z) float32
        Its air is 0.
    foreground : (X, Y, Z) bool
        Of :func:`~medrestore.evaluation.measures.foreground_mask`.
    data_range
        R of PSNR and SSIM, in the unit of the target.
    voxel_size_mm
        Of X, Y, Z.
    """

    target: NDArray[np.float32]
    foreground: NDArray[np.bool_]
    data_range: float
    voxel_size_mm: Sequence[float]

    @property
    def middle(self) -> int:
        """The middle one of the axial slices that hold foreground."""
        held = np.flatnonzero(self.foreground.any(axis=(0, 1)))
        return int(held[len(held) // 2])


True_ = TypeVar("True_", bound=TrueVolume)


def find_arms(
    rows: pd.DataFrame,
    methods: Mapping[str, str | os.PathLike[str]],
    *,
    reserved: Sequence[str],
    known: Sequence[str] = (),
    beside: Sequence[str] = (),
) -> dict[str, dict[str, Path]]:
    """Find the restored volume of each method and scan, and check that all are there on their targets' grids.

    Parameters
    ----------
    rows
        Of the manifest, one for each scan to be evaluated; of :func:`with_arms` where a scan has several.
    methods
        Folder of restored volumes, ``SUBJECT_SESSION_restored.nii.gz``, by the method's name.
    reserved
        Rows that the evaluation adds by itself.
    known
        Names of further scans of which a folder may hold restorations: those of the other splits.
    beside
        Columns of further files that must be on the target's grid.

    Returns
    -------
    dict
        Path by scan and method.

    Raises
    ------
    InputError
        As :func:`~medrestore.evaluation.arms.find_restorations`, and when a scan is in the manifest more than
        once. Names all faults.
    """
    names = [_name_of(row) for row in records_of(rows)]
    columns = ("degraded", *beside)
    grids = {
        name: (str(row["target_path"]), [str(row[f"{column}_path"]) for column in columns])
        for name, row in zip(names, records_of(rows), strict=True)
    }
    return find_restorations(grids, methods, known=known, reserved=reserved, problems=repeated_scans(names))


def with_arms(rows: pd.DataFrame, arm: Callable[[Mapping[str, Any]], str]) -> pd.DataFrame:
    """Return rows with a column ``scan``: what their files are called where a scan has several rows.

    Parameters
    ----------
    rows
        Of the manifest.
    arm
        From a row to what follows the name of such a scan: the one that its restorations were named by.
    """
    return rows.assign(scan=scan_names(rows, arm))


def _name_of(row: Mapping[str, Any]) -> str:
    return str(row.get("scan") or scan_name(row["subject_id"], row["session_id"]))


@dataclass(frozen=True, eq=False)
class VolumeComparison(Comparison[True_, NDArray[np.float32]], Generic[True_]):
    """All that is needed to measure the scans of a split and to draw some; a kind of image adds its own.

    Parameters
    ----------
    rows
        Of the manifest, as :func:`find_arms` took them; the column of strata, where they have it, goes into
        the table per subject.
    arms
        Of :func:`find_arms`.
    metrics
        Of the kind of image.
    data_range
        R of PSNR and SSIM above air: :data:`TARGET_MAX`, or a number.
    intensity
        What air is.
    """

    rows: pd.DataFrame
    arms: Mapping[str, Mapping[str, Path]]
    metrics: Metrics
    data_range: str | float = TARGET_MAX
    intensity: Intensity = RELATIVE

    def true_of(self, _row: Mapping[str, Any], target: Volume, _degraded: Volume) -> Any:
        """Return what the images of a scan are measured by."""
        image = self.intensity.above_nothing(target.data)
        with about(target.path):
            mask = foreground_mask(image, voxel_size_mm=target.voxel_size_mm)
        peak = float(image[mask].max()) if self.data_range == TARGET_MAX else float(self.data_range)
        return TrueVolume(image, mask, peak, target.voxel_size_mm)

    def baselines(
        self, _row: Mapping[str, Any], _degraded: Volume
    ) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Yield images that the evaluation computes by itself."""
        yield from ()

    def cases(self, row: Mapping[str, Any]) -> Iterator[Case[True_, NDArray[np.float32]]]:
        """Yield the scan of a row."""
        target = read_volume(row["target_path"])
        degraded = read_on_grid(row["degraded_path"], target)
        names = ("subject_id", "session_id", self.metrics.strata.column)
        columns = {name: row[name] for name in names if name in row}
        images = self._images(row, target, degraded)
        yield Case(_name_of(row), columns, self.true_of(row, target, degraded), images)

    def _images(
        self, row: Mapping[str, Any], target: Volume, degraded: Volume
    ) -> Iterator[tuple[str, NDArray[np.float32], tuple[Path, ...]]]:
        above = self.intensity.above_nothing
        own = (Path(row["degraded_path"]),)
        yield INPUT, above(degraded.data), own
        for name, image in self.baselines(row, degraded):
            yield name, above(image), own
        for name, path in self.arms[_name_of(row)].items():
            yield name, above(read_on_grid(path, target).data), (path,)

    def measured(self, image: NDArray[np.float32] | None, true: True_) -> dict[str, Any]:
        """Measure an image: data range, and how close it is to the true one."""
        quality = {} if image is None else self.quality(image, true)
        return {"data_range": true.data_range, **quality}

    def quality(self, image: NDArray[np.float32], true: True_) -> dict[str, float]:
        """Measure how close an image is to the true one."""
        return image_quality(image, true.target, foreground=true.foreground, data_range=true.data_range)

    def picture(
        self,
        method: str,
        images: Mapping[str, NDArray[np.float32]],
        true: True_,
        _find: Mapping[str, Any] | None,
    ) -> Picture:
        """Return the slice in which the restoration departs most from the true image."""
        size = true.voxel_size_mm
        position = telling_slice(images[method], true.target, true.foreground, size)
        titles = {INPUT: self.metrics.label_of(INPUT), method: self.metrics.label_of(method)}
        shown = {titles[name]: images[name] for name in titles if name in images}
        box = head_box(true.foreground[:, :, position], voxel_size_mm=size)
        return cut_picture({self.metrics.label_of(self.true_name): true.target, **shown}, position, box, size)

    def facts(self, _: pd.DataFrame) -> dict[str, Any]:
        """Return what is recorded when all is measured."""
        return {"scans": len(self.rows)}

    def draw(self, per_subject: pd.DataFrame, _: pd.DataFrame, *, path: Path) -> None:
        """Draw the scans whose degraded images lie at the quartiles of the PSNR."""
        held = per_subject[per_subject["method"] == INPUT].sort_values("psnr", kind="stable")
        scans = at_quartiles([*zip(held["subject_id"], held["session_id"], strict=True)])
        chosen = {scan: " ".join(scan) for scan in scans}
        panels = self.panels(chosen, per_subject)
        draw_panels(panels, metrics=self.metrics, unit="")[0].save(path)

    def panels(self, chosen: Mapping[tuple[str, str], str], per_subject: pd.DataFrame) -> list[Panel]:
        """Return the slices of scans that the figure shows, by subject and session with a title."""
        rows = {(row["subject_id"], row["session_id"]): row for row in records_of(self.rows)}
        panels = []
        for scan, title in chosen.items():
            (case,) = self.cases(rows[scan])
            images = {name: image for name, image, _ in case.images} | {self.true_name: case.true.target}
            same = (per_subject["subject_id"] == scan[0]) & (per_subject["session_id"] == scan[1])
            panels.append(self.panel(title, images, case.true, per_subject[same].set_index("method")))
        return panels

    def panel(
        self, title: str, images: Mapping[str, NDArray[np.float32]], true: True_, measured: pd.DataFrame
    ) -> Panel:
        """Return the slice of a scan that the figure shows.

        Parameters
        ----------
        title
            Of the scan.
        images : (X, Y, Z) by method
            The true one last.
        true
            Of the scan.
        measured
            Its rows of the table per subject, by method.
        """
        texts = {name: f"{measured['psnr'][name]:.1f} dB" for name in images if name != self.true_name}
        return Panel.cut(images, true.middle, true.foreground, true.voxel_size_mm, title=title, texts=texts)


def evaluate_volumes(
    manifest: str | os.PathLike[str],
    *,
    domain: str,
    metrics: Metrics,
    schema: Schema,
    methods: Mapping[str, str | os.PathLike[str]],
    output: str | os.PathLike[str],
    intensity: Intensity = RELATIVE,
    split: str = "test",
    **running: Unpack[Running],
) -> Evaluation:
    """Evaluate methods on the scans of a split, for kinds of image that ask for no more than that.

    Parameters
    ----------
    manifest
        Of pairs: see :func:`~medrestore.data.pairs.pair_schema`.
    schema
        Of the manifest.
    methods
        Folder of restored volumes by the method's name: ``SUBJECT_SESSION_restored.nii.gz`` on the target's
        grid. Any software may have made them.
    intensity
        What air is.
    domain, metrics, output, split, running
        As in :func:`~medrestore.evaluation.evaluate.run_evaluation`.

    Raises
    ------
    InputError
        For manifests without pairs, a method, grid or scan that is wrong or missing (all named), or an output
        folder that holds other results.
    """
    if not {"degraded", "target"} <= set(schema.required):
        raise InputError(f"manifests of {domain} hold no pairs. Remedy: evaluate by a command of its own")
    table = schema.read(manifest)
    rows = split_rows(table, split)
    known = [scan_name(row["subject_id"], row["session_id"]) for row in records_of(table)]
    arms = find_arms(rows, methods, reserved=(INPUT, VolumeComparison.true_name), known=known)
    comparison = VolumeComparison[TrueVolume](rows, arms, metrics, intensity=intensity)
    return run_evaluation(
        rows,
        arms,
        output=output,
        domain=domain,
        metrics=metrics,
        manifest=manifest,
        split=split,
        methods=methods,
        settings={"data_range": comparison.data_range},
        prepare=lambda: comparison,
        notes=_notes_of,
        **running,
    )


def _notes_of(record: Mapping[str, Any], _: pd.DataFrame) -> list[str]:
    scans = f"{counted(record['subjects'], 'subject')}, {counted(record['scans'], 'scan')}"
    return [
        f"{scans} of split {record['split']}. {interval_note(record['subjects'])}",
        "PSNR, SSIM, RMSE: whole volume, air at 0; data range: maximum of each true image in its foreground. "
        "RMSE in units of the true image's mean there.",
    ]
