"""Regional quantification beside the reads: what regions of every arm measure against the reference arm."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medrestore.checks import InputError, about, fail
from medrestore.data.tables import records_of
from medrestore.data.volumes import Volume, read_volume
from medrestore.domains.base import Quantity
from medrestore.evaluation.arms import read_on_grid
from medrestore.metrics.quantitative import bland_altman
from medrestore.progress import progress_bar
from medrestore.study.layout import READING, Study

__all__ = ["Quantified", "quantified"]


@dataclass(frozen=True, eq=False)
class Quantified:
    """A quantity of every case and arm, and its agreement with the reference arm.

    Parameters
    ----------
    quantity
        What was measured.
    reference
        The arm that the others are compared with.
    per_case
        ``case``, ``arm``, the quantity's name, ``difference`` (to the reference arm's, NaN for itself),
        ``truth`` (NaN where it is not known).
    agreement
        One row an arm but the reference: ``arm``, ``cases``, ``bias``, ``sd``, ``lower``, ``upper`` (95 %
        limits).
    """

    quantity: Quantity
    reference: str
    per_case: pd.DataFrame
    agreement: pd.DataFrame


def quantified(
    study: Study,
    manifest: str | os.PathLike[str],
    *,
    quantity: Quantity,
    reference: str,
    truth: dict[str, int] | None = None,
    workers: int | None = None,
) -> Quantified:
    """Measure a quantity in the images that the study was made from.

    Parameters
    ----------
    study
        Its key tells the files of every arm.
    manifest
        Has a region map for every case.
    quantity
        Of the kind of image.
    reference
        Arm that the others are compared with.
    truth
        Case -> 0 or 1, for the plot alone.
    workers
        Threads; as many as cores, at most 4, when not given.

    Raises
    ------
    InputError
        When a case is not in the manifest or has no region map, a source file is gone, or its grid is another
        one than that of its region map.

    Notes
    -----
    Agreement: Bland & Altman 1986, arm minus reference arm.
    """
    if study.protocol.dimensions != 3:
        raise InputError(
            f"{quantity.title} needs volumes, but the study shows single images. Remedy: leave --volumes out"
        )
    regions = _regions(study, Path(manifest), quantity)
    images = study.key[study.key["phase"] == READING]

    def measure(group: pd.DataFrame) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        first: Volume | None = None
        codes = np.empty(0, np.int16)
        for row in records_of(group):
            source = Path(row["source"])
            if not source.is_file():
                fail(
                    f"the image of arm {row['arm']!r} is gone",
                    path=source,
                    remedy="put it back, or leave --volumes out",
                )
            volume = read_volume(source) if first is None else read_on_grid(source, first)
            if first is None:
                first = volume
                codes = np.rint(read_on_grid(regions[row["case"]], volume).data).astype(np.int16)
            with about(source, regions[row["case"]]):
                value = quantity.measure(volume.data, codes)
            found.append({"case": row["case"], "arm": row["arm"], quantity.name: value})
        return found

    groups = [group for _, group in images.groupby("case", sort=False)]
    count = workers or min(4, os.cpu_count() or 1)
    with ThreadPoolExecutor(count) as pool:
        done = progress_bar(
            pool.map(measure, groups), total=len(groups), desc=quantity.title, unit="case", leave=False
        )
        per_case = pd.DataFrame([row for rows in done for row in rows])
    standard = per_case[per_case["arm"] == reference].set_index("case")[quantity.name]
    per_case["difference"] = per_case[quantity.name] - per_case["case"].map(standard)
    per_case.loc[per_case["arm"] == reference, "difference"] = np.nan
    per_case["truth"] = per_case["case"].map(truth or {}).astype(float)
    rows = []
    for arm in study.arms:
        group = per_case[per_case["arm"] == arm]
        if arm == reference or len(group) < 2:
            continue
        own = group[quantity.name]
        agreement = bland_altman(own.to_numpy(), (own - group["difference"]).to_numpy())
        rows.append({"arm": arm, "cases": len(group), **agreement._asdict()})
    columns = ["arm", "cases", "bias", "sd", "lower", "upper"]
    return Quantified(quantity, reference, per_case, pd.DataFrame(rows, columns=columns))


def _regions(study: Study, manifest: Path, quantity: Quantity) -> dict[str, Path]:
    _, found = quantity.scans(manifest, None)
    cases = study.key.loc[study.key["phase"] == READING, "case"].unique()
    absent = [case for case in cases if case not in found]
    if absent:
        fail(
            f"{len(absent)} of {len(cases)} cases are not in it or have no region map, such as {absent[0]!r}",
            path=manifest,
            remedy="name a manifest with regions of every case, or leave --volumes out",
        )
    return {case: found[case] for case in cases}
