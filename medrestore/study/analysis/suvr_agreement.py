"""Regional quantification beside the reads: the composite SUVR of every arm against the reference arm."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medrestore.checks import InputError, about, fail
from medrestore.data.phantoms.template import COMPOSITE_REGIONS, REFERENCE_REGION
from medrestore.data.volumes import Volume, read_volume
from medrestore.domains.amyloid_pet.evaluation.arms import region_maps
from medrestore.domains.amyloid_pet.schema import pair_schema
from medrestore.evaluation.arms import read_on_grid
from medrestore.metrics.quantitative import bland_altman, composite_suvr
from medrestore.study.analysis.tables import records
from medrestore.study.layout import READING, Study

__all__ = ["SuvrAgreement", "suvr_agreement"]


@dataclass(frozen=True, eq=False)
class SuvrAgreement:
    """Composite SUVR of every case and arm, and its agreement with the reference arm.

    Parameters
    ----------
    reference
        The arm that the others are compared with.
    per_case
        ``case``, ``arm``, ``suvr``, ``difference`` (to the reference arm's, NaN for itself), ``truth`` (NaN
        where it is not known).
    agreement
        One row an arm but the reference: ``arm``, ``cases``, ``bias``, ``sd``, ``lower``, ``upper`` (95 %
        limits).
    """

    reference: str
    per_case: pd.DataFrame
    agreement: pd.DataFrame


def suvr_agreement(
    study: Study,
    manifest: str | os.PathLike[str],
    *,
    reference: str,
    truth: dict[str, int] | None = None,
    target_labels: Sequence[int] = COMPOSITE_REGIONS,
    reference_labels: Sequence[int] = (REFERENCE_REGION,),
    workers: int | None = None,
) -> SuvrAgreement:
    """Measure the SUVR in the images that the study was made from.

    Parameters
    ----------
    study
        Its key tells the files of every arm.
    manifest
        Has a region map for every case.
    reference
        Arm that the others are compared with.
    truth
        Case -> 0 or 1, for the plot alone.
    target_labels, reference_labels
        Region codes of the composite SUVR.
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
    from medrestore.progress import progress_bar

    if study.protocol.dimensions != 3:
        raise InputError("SUVR needs volumes, but the study shows single images. Remedy: leave --volumes out")
    regions = _regions(study, Path(manifest))
    images = study.key[study.key["phase"] == READING]

    def measure(group: pd.DataFrame) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        first: Volume | None = None
        codes = np.empty(0, np.int16)
        for row in records(group):
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
                suvr = composite_suvr(
                    volume.data, codes, target_labels=target_labels, reference_labels=reference_labels
                )
            found.append({"case": row["case"], "arm": row["arm"], "suvr": suvr})
        return found

    groups = [group for _, group in images.groupby("case", sort=False)]
    count = workers or min(4, os.cpu_count() or 1)
    with ThreadPoolExecutor(count) as pool:
        done = progress_bar(
            pool.map(measure, groups), total=len(groups), desc="SUVR", unit="case", leave=False
        )
        per_case = pd.DataFrame([row for rows in done for row in rows])
    standard = per_case[per_case["arm"] == reference].set_index("case")["suvr"]
    per_case["difference"] = per_case["suvr"] - per_case["case"].map(standard)
    per_case.loc[per_case["arm"] == reference, "difference"] = np.nan
    per_case["truth"] = per_case["case"].map(truth or {}).astype(float)
    rows = []
    for arm in study.arms:
        group = per_case[per_case["arm"] == arm]
        if arm == reference or len(group) < 2:
            continue
        agreement = bland_altman(group["suvr"].to_numpy(), (group["suvr"] - group["difference"]).to_numpy())
        rows.append({"arm": arm, "cases": len(group), **agreement._asdict()})
    columns = ["arm", "cases", "bias", "sd", "lower", "upper"]
    return SuvrAgreement(reference, per_case, pd.DataFrame(rows, columns=columns))


def _regions(study: Study, manifest: Path) -> dict[str, Path]:
    found = region_maps(pair_schema(label_column=None).read(manifest))
    cases = study.key.loc[study.key["phase"] == READING, "case"].unique()
    absent = [case for case in cases if case not in found]
    if absent:
        fail(
            f"{len(absent)} of {len(cases)} cases are not in it or have no region map, such as {absent[0]!r}",
            path=manifest,
            remedy="name a manifest with regions of every case, or leave --volumes out",
        )
    return {case: found[case] for case in cases}
