"""Compare restorations of several MR contrasts with the true images, contrast by contrast."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, Unpack

import numpy as np
import pandas as pd

from medrestore.checks import about, fail, require_in_range
from medrestore.data.identity import scan_name
from medrestore.data.schema import split_rows
from medrestore.data.tables import read_text_table, records_of
from medrestore.data.volumes import read_volume
from medrestore.domains.multicontrast_mri.domain import DOMAIN
from medrestore.domains.multicontrast_mri.evaluation.classical import MdmeInput, mdme_input
from medrestore.domains.multicontrast_mri.evaluation.comparison import (
    CLASSICAL,
    TRUE,
    ContrastComparison,
    read_lesions,
)
from medrestore.domains.multicontrast_mri.evaluation.figures import Showcase
from medrestore.domains.multicontrast_mri.evaluation.judges import load_contrast_observer, load_lesion_reader
from medrestore.domains.multicontrast_mri.evaluation.measures import DATA_RANGE_PERCENTILE
from medrestore.domains.multicontrast_mri.evaluation.notes import notes_of
from medrestore.domains.multicontrast_mri.schema import contrast_columns, contrast_schema, group_problems
from medrestore.evaluation.arms import INPUT, find_restorations, repeated_scans
from medrestore.evaluation.evaluate import Running, run_evaluation
from medrestore.evaluation.measures import foreground_mask
from medrestore.evaluation.observers import named_observers
from medrestore.evaluation.record import Evaluation
from medrestore.evaluation.titles import MEAN

__all__ = ["evaluate_contrasts"]

PathLike: TypeAlias = str | os.PathLike[str]


def evaluate_contrasts(
    manifest: PathLike,
    *,
    methods: Mapping[str, PathLike],
    output: PathLike,
    contrasts: Sequence[str] | None = None,
    task: PathLike | None = None,
    observers: Sequence[PathLike] = (),
    segmenter: PathLike | None = None,
    split: str = "test",
    classical: bool = True,
    data_range_percentile: float = DATA_RANGE_PERCENTILE,
    device: str = "cpu",
    **running: Unpack[Running],
) -> Evaluation:
    """Evaluate methods on the subjects of a split, each contrast against the true image of the same subject.

    Parameters
    ----------
    manifest
        Of the cohort, its contrasts on the grid of the input.
    methods
        Folder of restored volumes by the method's name: ``SUBJECT_SESSION_CONTRAST_restored.nii.gz`` on the
        input's grid, in any unit. Any software may have made them.
    contrasts
        That are evaluated; all of the manifest when not given. Contrasts that a subject lacks are left out
        and counted.
    task
        ``model.pt`` with T.
    observers
        ``model.pt`` of independent contrast classifiers, never seen by any method in training.
    segmenter
        ``model.pt`` of an independent lesion segmenter, trained on true images of one contrast.
    classical
        Add a row of synthetic MRI the classical way, where the input is an MDME acquisition whose sidecar
        gives the protocol.
    data_range_percentile
        Of the true image in the head: R of PSNR and SSIM.
    device
        Where judges run.
    output, split, running
        As in :func:`~medrestore.evaluation.evaluate.run_evaluation`.

    Returns
    -------
    Evaluation

    Raises
    ------
    InputError
        For a method, grid or image that is wrong or missing (all named), weights that hold no such judge or
        one of other contrasts, or an output folder that holds other results.

    Notes
    -----
    Intensities of MR images are arbitrary: every image, true, restored or computed, is divided by its own
    mean over the head of the true image before anything is measured.
    """
    require_in_range("data_range_percentile", data_range_percentile, 50, 100)
    names = tuple(contrasts) if contrasts is not None else _contrasts_of(Path(manifest))
    if MEAN in names:
        fail(f"a contrast cannot be named {MEAN!r}: tables name the mean over contrasts so", path=manifest)
    table = contrast_schema(names).read(manifest)
    rows = split_rows(table, split)
    for problem in group_problems(rows):
        fail(f"{problem.column} {problem.message}", path=manifest, row=problem.row)
    held = (rows[[f"{name}_path" for name in names]] != "").any(axis=1)
    compared = rows[held].reset_index(drop=True)
    if compared.empty:
        fail(f"split {split!r} has no true image of {', '.join(names)}", path=manifest)
    arms = _find(table, compared, methods, names)
    judges = [
        load_contrast_observer(path, name=name, contrasts=names, device=device)
        for name, path in named_observers(task, observers).items()
    ]
    reader = None if segmenter is None else load_lesion_reader(segmenter, contrasts=names, device=device)
    weights = {judge.name: judge.weights_sha256 for judge in [*judges, *([reader] if reader else [])]}

    def prepare() -> ContrastComparison:
        inputs: dict[str, MdmeInput] = {}
        if classical:
            found = {_scan(row): mdme_input(row["input_paths"]) for row in records_of(compared)}
            inputs = {scan: source for scan, source in found.items() if source is not None}
        return ContrastComparison(
            rows=rows,
            contrasts=names,
            arms=arms,
            inputs=inputs,
            observers=judges,
            reader=reader,
            percentile=data_range_percentile,
            showcase=_choose(compared, names),
        )

    return run_evaluation(
        compared,
        arms,
        output=output,
        domain=DOMAIN.name,
        metrics=DOMAIN.metrics,
        manifest=manifest,
        split=split,
        methods=methods,
        settings={
            "contrasts": list(names),
            "judges": weights,
            "classical": classical,
            "data_range": f"percentile {data_range_percentile:g} of the true image in the head",
        },
        prepare=prepare,
        notes=notes_of,
        **running,
    )


def _scan(row: Mapping[str, Any]) -> str:
    return scan_name(row["subject_id"], row["session_id"])


def _contrasts_of(path: Path) -> tuple[str, ...]:
    """Return the contrasts of a manifest: its columns of files beside input and lesions."""
    found = tuple(contrast_columns(read_text_table(path)))
    if not found:
        fail(
            "has no column of a contrast, with its CONTRAST_sha256",
            path=path,
            remedy="name a manifest of multi-contrast MRI",
        )
    return found


def _find(
    table: pd.DataFrame, compared: pd.DataFrame, methods: Mapping[str, PathLike], names: Sequence[str]
) -> dict[str, dict[str, Path]]:
    """Find the restored volume of every true image; all on the grid of the input."""
    grids = {
        f"{_scan(row)}_{name}": (row["input_paths"][0], [row[f"{name}_path"], row["lesions_path"]])
        for row in records_of(compared)
        for name in names
        if row[f"{name}_path"]
    }
    # A method may have restored other splits, and contrasts that were not acquired, or are not evaluated.
    others = {*names, *contrast_columns(table)}
    known = [f"{_scan(row)}_{name}" for row in records_of(table) for name in others]
    return find_restorations(
        grids,
        methods,
        known=known,
        reserved=(INPUT, CLASSICAL, TRUE),
        channels=True,
        problems=repeated_scans([_scan(row) for row in records_of(compared)]),
    )


def _choose(rows: pd.DataFrame, names: Sequence[str]) -> Showcase:
    """Choose what the figure shows before anything is measured, so that no result can have a say in it.

    The patient whose lesion volume is the median (the lower of two), in the slice of its largest lesion area;
    without lesions the middle scan of the split, in the middle slice of the head.
    """
    volumes = []
    for row in records_of(rows):
        lesions = read_lesions(row["lesions_path"])
        if lesions is not None and lesions.any():
            volumes.append((int(lesions.sum()), row, int(lesions.sum(axis=(0, 1)).argmax())))
    if volumes:
        volumes.sort(key=lambda item: (item[0], _scan(item[1])))
        _, row, position = volumes[(len(volumes) - 1) // 2]
    else:
        row, position = records_of(rows)[(len(rows) - 1) // 2], -1
    target = read_volume(next(row[f"{name}_path"] for name in names if row[f"{name}_path"]))
    with about(target.path):
        head = foreground_mask(target.data, voxel_size_mm=target.voxel_size_mm)
    if position < 0:
        held = np.flatnonzero(head.any(axis=(0, 1)))
        position = int(held[len(held) // 2])
    return Showcase(
        row=row,
        position=position,
        head=head[:, :, position],
        voxel_size_mm=target.voxel_size_mm[:2],
        lesions=bool(volumes),
    )
