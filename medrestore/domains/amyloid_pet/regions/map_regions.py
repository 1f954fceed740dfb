"""Region maps for a cohort, a folder or a scan that has none: the average head registered to each."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrestore import __version__
from medrestore.checks import Setbacks, counted, fail, require_in_set
from medrestore.claims import any_record, claimed
from medrestore.data.coregistered import link_image, write_rows
from medrestore.data.identity import scan_name
from medrestore.data.nifti_search import nifti_files
from medrestore.data.schema import split_rows
from medrestore.data.tables import records_of
from medrestore.data.workers import named_results, worker_count
from medrestore.domains.amyloid_pet.regions.scan_regions import (
    FIGURES,
    MAP_ENDING,
    ScanFiles,
    map_scan,
)
from medrestore.domains.amyloid_pet.schema import pair_schema

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["map_regions"]

SETTINGS_NAME = "regions.json"
QUALITY_NAME = "regions.csv"
LEFT_OUT_NAME = "left_out.csv"
FILES = "files"
"""Folder of links to the files of the manifest."""

IMAGES = ("target", "degraded")

_logger = logging.getLogger(__name__)


def map_regions(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    image: str = "target",
    split: str | None = None,
    replace: bool = False,
    workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Register the average head to scans, and write a region map of each.

    Parameters
    ----------
    source : path
        A manifest of amyloid PET, a NIfTI volume (PET or T1), or a folder of them.
    output : path
        A new or empty folder, or one that an interrupted run of the same settings left: scans that are
        finished, and whose images are the same as then, are kept.
    image : str
        Of a manifest, the column of the images that are registered: ``target`` or ``degraded``, of which that
        of the highest dose is taken.
    split : str or None
        Of a manifest, the rows of this split only.
    replace : bool
        Register the scans of a manifest that have a region map too; it is left out of the new manifest.
    workers : int or None
        Processes; one per core when None.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Path
        ``manifest.csv`` for a manifest, whose files the folder holds as links; else ``regions.csv``, which is
        there for both: a row for each scan with the quality of its registration. Beside them the maps
        ``NAME_regions.nii.gz`` (int16, codes of
        :data:`~medrestore.data.phantoms.template.REGIONS`) with a picture and a record each, and
        ``left_out.csv`` with the scans whose registration failed and why; they are logged as warnings too,
        and have no regions in the manifest.

    Raises
    ------
    InputError
        When the manifest has a fault, the folder holds other things or a run of other settings, no
        registration succeeds, or, at the end, images cannot be used: all are named.
    """
    require_in_set("image", image, IMAGES)
    count = worker_count(workers)
    path = Path(source)
    table = None
    if path.suffix.lower() == ".csv":
        table = split_rows(pair_schema().read(path), split)
        scans = _scans(table, image, replace=replace)
        if not scans:
            fail("has a region map for every scan", path=path, remedy="replace them, or use them as they are")
    else:
        if split is not None:
            fail(f"a split is that of a manifest, but {path} is none")
        scans = [ScanFiles(name, file, file) for file, name in nifti_files(path, datatype="pet")]
    twice = sorted({scan.name for scan in scans if sum(other.name == scan.name for other in scans) > 1})
    if twice:
        fail(f"two images would have one map: {twice[0]}{MAP_ENDING}", remedy="rename one of them")
    settings = {"version": __version__, "image": image, "split": split, "replace": replace}
    with claimed(
        output,
        settings,
        record=SETTINGS_NAME,
        belongs="region maps",
        other="region maps of other settings",
        has_results=_has_maps,
        remains=(QUALITY_NAME, LEFT_OUT_NAME, FILES),
    ) as claim:
        records = named_results(
            map_scan,
            [(claim.folder, scan) for scan in scans],
            workers=count,
            progress=progress,
            description="regions",
            unit="scan",
        )
        setbacks = Setbacks("used", unit="scan")
        written = _write_quality(claim.folder, scans, records, setbacks)
        if table is not None:
            written = _write_manifest(claim.folder, table, scans, records)
    setbacks.raise_any(len(scans))
    return written


def _has_maps(folder: Path) -> bool:
    return any_record(folder, "*_regions.json", lambda record: not record["failure"])


def _scans(table: pd.DataFrame, image: str, *, replace: bool) -> list[ScanFiles]:
    """Return the scans of a manifest that are to get a map, each once: at its highest dose."""
    rows = table.sort_values("dose_fraction", ascending=False, kind="stable")
    first = rows.drop_duplicates(["subject_id", "session_id"]).sort_index()
    return [
        ScanFiles(_name(row), Path(row[f"{image}_path"]), Path(row["target_path"]))
        for row in records_of(first)
        if replace or not row["regions_path"]
    ]


def _name(row: Mapping[str, Any]) -> str:
    return scan_name(row["subject_id"], row["session_id"])


def _write_quality(
    folder: Path, scans: Sequence[ScanFiles], records: Mapping[str, Mapping[str, Any]], setbacks: Setbacks
) -> Path:
    """Write the quality of all registrations and what is left out; note images of no use."""
    quality, left_out = [], []
    for scan in scans:
        record = records[scan.name]
        failure = record["failure"]
        status = "failed" if failure else "registered"
        quality.append({"scan": scan.name, "status": status, **record["registration"]})
        if failure:
            left_out.append({"scan": scan.name, "reason": failure})
        if record["unusable"]:
            setbacks.note(scan.name, failure)
        elif failure:
            _logger.warning("%s is left out: %s", scan.name, failure)
    path = folder / QUALITY_NAME
    write_rows(quality, ("scan", "status", *FIGURES), path)
    write_rows(left_out, ("scan", "reason"), folder / LEFT_OUT_NAME)
    if len(left_out) == len(scans):
        if len(setbacks.reasons) == len(scans):
            setbacks.raise_any(len(scans))
        fail(
            f"no map is left: the registration of all {len(scans)} failed "
            f"({left_out[0]['scan']}: {left_out[0]['reason']})",
            path=folder / LEFT_OUT_NAME,
            remedy="look at the pictures: is it a head, the right way up?",
        )
    if left_out:
        _logger.warning("%s of %d left out", counted(len(left_out), "scan"), len(scans))
    return path


def _write_manifest(
    folder: Path,
    table: pd.DataFrame,
    scans: Sequence[ScanFiles],
    records: Mapping[str, Mapping[str, Any]],
) -> Path:
    """Write the manifest with the maps, beside links to all of its other files."""
    import pandas as pd

    schema, rows = pair_schema(), list[dict[str, Any]]()
    mapped = {scan.name for scan in scans}
    for row in records_of(table.astype(object)):
        name, number = _name(row), f"{float(row['dose_fraction']):.9g}"
        for column in schema.files:
            source = row[f"{column.name}_path"]
            if not source or (column.name == "regions" and name in mapped):
                continue
            stem = f"{name}_{column.name}" + f"_dose-{number}" * (column.name == "degraded")
            row[column.name] = f"{FILES}/{link_image(Path(source), folder / FILES, stem)}"
        if name in mapped:
            digest = records[name]["sha256"].get(f"{name}{MAP_ENDING}", "")
            row["regions"] = f"{name}{MAP_ENDING}" if digest else ""
            row["regions_sha256"] = digest
        rows.append(row)
    return schema.write(pd.DataFrame(rows), folder / "manifest.csv")
