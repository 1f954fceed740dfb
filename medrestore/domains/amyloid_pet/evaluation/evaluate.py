"""Compare restorations of test scans with standard dose, as the paper does and as the clinic would."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import pandas as pd

from medrestore.checks import InputError, about, require_in_range, require_in_set
from medrestore.data.identity import scan_name
from medrestore.data.schema import at_dose, split_rows
from medrestore.data.tables import records_of
from medrestore.domains.amyloid_pet.anchors import ANCHORS
from medrestore.domains.amyloid_pet.domain import DOMAIN
from medrestore.domains.amyloid_pet.evaluation.classical import FILTERS, ClassicalFilter, tuned_filters
from medrestore.domains.amyloid_pet.evaluation.comparison import DoseComparison
from medrestore.domains.amyloid_pet.evaluation.notes import notes_of
from medrestore.domains.amyloid_pet.schema import (
    COMPOSITE_REGIONS,
    REFERENCE_REGION,
    STANDARD_DOSE,
    dose_arm,
    pair_schema,
)
from medrestore.evaluation.arms import INPUT, file_problems, raise_all
from medrestore.evaluation.evaluate import Running, run_evaluation
from medrestore.evaluation.observers import load_observer, named_observers
from medrestore.evaluation.record import Evaluation
from medrestore.evaluation.titles import ANCHORED, MetricKey
from medrestore.evaluation.volumes import TARGET_MAX, find_arms, with_arms
from medrestore.files import sha256_file
from medrestore.inference.anchor import SIGMA_MM
from medrestore.inference.volume_sources import NO_ANCHOR

__all__ = ["evaluate"]


def evaluate(
    manifest: str | os.PathLike[str],
    *,
    methods: Mapping[str, str | os.PathLike[str]],
    output: str | os.PathLike[str],
    task: str | os.PathLike[str] | None = None,
    observers: Sequence[str | os.PathLike[str]] = (),
    split: str = "test",
    dose_fraction: float | None = None,
    dose_series: str | os.PathLike[str] | None = None,
    label_column: str = "amyloid_status",
    target_labels: Sequence[int] = COMPOSITE_REGIONS,
    reference_labels: Sequence[int] = (REFERENCE_REGION,),
    data_range: str | float = TARGET_MAX,
    filters: Mapping[str, float | None] | None = None,
    anchor: str = NO_ANCHOR,
    device: str = "cpu",
    **running: Unpack[Running],
) -> Evaluation:
    """Evaluate methods on the scans of a split, each against the standard dose of the same subject.

    Parameters
    ----------
    manifest
        Of the cohort.
    methods
        Folder of restored volumes by the method's name: ``SUBJECT_SESSION_restored.nii.gz`` on the target's
        grid. Any software may have made them.
    task
        ``model.pt`` with T.
    observers
        ``model.pt`` of independent classifiers, never seen by any method in training.
    dose_fraction
        Rows of this dose fraction are evaluated; all of the split when not given. Of scans that are there at
        several doses, each dose is then a column of the tables, with filters tuned on its own validation
        scans; restorations are called ``SUBJECT_SESSION_dose-DOSE_restored.nii.gz``, as ``restore`` names
        them.
    dose_series
        Manifest of plain reconstructions of the same subjects at other dose fractions, for the dose
        equivalent.
    label_column
        Column of y, 0 or 1.
    target_labels, reference_labels
        Region codes of the composite SUVR; scans without a region map have none.
    data_range
        R of PSNR and SSIM: ``target_max``, the maximum of each scan's standard dose in the head; or a number,
        in the images' unit.
    filters
        Parameters of the classical filters, ``gaussian`` (FWHM in mm) and ``nlm`` (strength); ``{}`` leaves
        them out. Tuned on the validation split when not given, or where None is.
    anchor
        One of :data:`~medrestore.domains.amyloid_pet.anchors.ANCHORS`: every method has a second row, of
        its images anchored to the unrestored scans, NAME_anchored. Region maps that an anchor makes are kept
        in the folder ``regions`` of the output; the SUVR is that of the manifest's regions.
    device
        Where classifiers run.
    output, split, running
        As in :func:`~medrestore.evaluation.evaluate.run_evaluation`.

    Returns
    -------
    Evaluation

    Raises
    ------
    InputError
        For a method, grid, scan or label that is wrong or missing (all named), weights that hold no
        classifier, or an output folder that holds other results.
    """
    table = pair_schema(label_column=label_column).read(manifest)
    rows = at_dose(split_rows(table, split), dose_fraction)
    others = [scan_name(row["subject_id"], row["session_id"]) for row in records_of(table)]
    others += [name + dose_arm(row) for name, row in zip(others, records_of(table), strict=True)]
    doses = sorted({float(dose) for dose in rows["dose_fraction"]})
    if rows.duplicated(["subject_id", "session_id"]).any():
        rows = with_arms(rows, dose_arm).assign(dose=[f"{dose:g}" for dose in rows["dose_fraction"]])
    require_in_set("anchor", anchor, (NO_ANCHOR, *ANCHORS))
    reserved = [INPUT, *FILTERS, STANDARD_DOSE]
    if anchor != NO_ANCHOR:
        if anchor == "regions" and not any(rows["regions_path"]):
            raise InputError(
                f"{manifest}: names no region map in split {split}, so nothing can be anchored by regions. "
                "Remedy: fill in the column regions, or leave anchor out"
            )
        reserved += [f"{name}{ANCHORED}" for name in (*FILTERS, *methods)]
        running.setdefault("pairs", [*DOMAIN.metrics.pairs, *_pairs_with_anchor(list(methods))])
    arms = find_arms(rows, methods, reserved=reserved, known=others, beside=["regions", "departure"])
    series = _series(rows, dose_series, label_column)
    if data_range != TARGET_MAX:
        require_in_range("data_range", float(data_range), 0, float("inf"), include_low=False)
    judges = [
        load_observer(path, name=name, device=device)
        for name, path in named_observers(task, observers).items()
    ]

    def prepare() -> DoseComparison:
        validation = table[table["split"] == "validation"]
        if dose_fraction is not None:
            validation = validation[np.isclose(validation["dose_fraction"], dose_fraction)]
        classical, tuned = _filters_of(
            validation,
            doses,
            apart="dose" in rows,
            given=filters,
            data_range=None if data_range == TARGET_MAX else float(data_range),
        )
        return DoseComparison(
            rows=rows,
            arms=arms,
            metrics=DOMAIN.metrics,
            series=series,
            classical=classical,
            tuned=tuned,
            anchor=None if anchor == NO_ANCHOR else ANCHORS[anchor],
            maps=Path(output) / "regions",
            judges=judges,
            data_range=data_range,
            label_column=label_column,
            target_labels=target_labels,
            reference_labels=reference_labels,
        )

    return run_evaluation(
        rows,
        arms,
        output=output,
        domain=DOMAIN.name,
        metrics=DOMAIN.metrics,
        manifest=manifest,
        split=split,
        methods=methods,
        settings={
            "dose_series_sha256": sha256_file(dose_series) if dose_series else None,
            "dose_fraction": dose_fraction,
            "classifiers": {judge.name: judge.weights_sha256 for judge in judges},
            "label_column": label_column,
            "target_labels": list(target_labels),
            "reference_labels": list(reference_labels),
            "data_range": data_range,
            "filters": dict(filters) if filters is not None else None,
            **({} if anchor == NO_ANCHOR else {"anchor": anchor, "anchor_sigma_mm": SIGMA_MM}),
        },
        prepare=prepare,
        notes=notes_of,
        **running,
    )


def _filters_of(
    validation: pd.DataFrame, doses: Sequence[float], *, apart: bool, **tuning: Any
) -> tuple[dict[float, dict[str, ClassicalFilter]], dict[str, dict[str, object]]]:
    """Return the filters of every dose and what is recorded of them; ``apart``: each dose has its own."""
    if not apart:
        classical, tuned = tuned_filters(validation, **tuning)
        return dict.fromkeys(doses, classical), tuned
    found: dict[float, dict[str, ClassicalFilter]] = {}
    record: dict[str, dict[str, object]] = {}
    for dose in doses:
        with about(f"dose fraction {dose:g}"):
            found[dose], tuned = tuned_filters(
                validation[np.isclose(validation["dose_fraction"], dose)], **tuning
            )
        record |= {str(MetricKey(name, f"{dose:g}")): item for name, item in tuned.items()}
    return found, record


def _pairs_with_anchor(methods: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs of anchored methods: with themselves without, GAN without, and standard dose."""
    pairs = []
    for name in methods:
        with_anchor = f"{name}{ANCHORED}"
        others = dict.fromkeys([name, *(["gan"] if "gan" in methods else []), STANDARD_DOSE])
        pairs += [(with_anchor, other) for other in others]
    return [*pairs, *((name, STANDARD_DOSE) for name in methods)]


def _series(
    rows: pd.DataFrame, path: str | os.PathLike[str] | None, label_column: str
) -> dict[str, list[tuple[float, str]]]:
    """Return dose fraction and file of each scan's plain reconstructions."""
    if path is None:
        return {}
    found: dict[str, list[tuple[float, str]]] = {}
    for row in records_of(pair_schema(label_column=label_column).read(path)):
        name = scan_name(row["subject_id"], row["session_id"])
        found.setdefault(name, []).append((float(row["dose_fraction"]), str(row["degraded_path"])))
    wanted = {scan_name(row["subject_id"], row["session_id"]): row for row in records_of(rows)}
    missing = [name for name in wanted if name not in found]
    if missing:
        raise InputError(
            f"{path}: has no reconstruction of {', '.join(missing)}. Remedy: leave dose_series out"
        )
    series = {name: found[name] for name in wanted}
    raise_all(
        file_problems(
            {
                name: (str(row["target_path"]), [file for _, file in series[name]])
                for name, row in wanted.items()
            }
        )
    )
    return series
