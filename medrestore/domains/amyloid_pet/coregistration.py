"""MR of a cohort on its PET's grid: registered to the smoothed degraded PET, resampled once.

What an MR is registered to must be there at restoration too, so it is no standard dose. As it is, a PET of 1
% of the dose is too noisy for it: the headers alone agree better than what a search finds.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medrestore import __version__
from medrestore.checks import InputError, counted, require_in_range, without_place
from medrestore.claims import any_record, claimed
from medrestore.data.coregistered import FIGURES, link_image, quality_of, read_oriented, write_rows
from medrestore.data.identity import scan_name
from medrestore.data.registration import MOST_MM, register_rigid, resample
from medrestore.data.registration_images import FixedHead
from medrestore.data.tables import records_of
from medrestore.data.volumes import Volume, write_volume
from medrestore.data.workers import named_results, worker_count
from medrestore.domains.amyloid_pet.schema import GUIDES, dose_arm, pair_schema
from medrestore.evaluation.registration_picture import Pictured, draw_registrations
from medrestore.files import atomic_path, sha256_file, write_json

__all__ = ["coregister_guides"]

SETTINGS_NAME = "coregistration.json"
RECORD_NAME = "registration.json"
"""File of a scan's folder with what was found and the checksums of its images; written last."""

PICTURE_NAME = "registration.png"

SMOOTH_MM = 7.0
"""Standard deviation of the Gaussian before a registration. At 1 % of the dose, over seven simulated
validation subjects, 0.9 mm are left by 4 and 7 mm, 1.0 by 5 mm, of 1.6 mm by the headers alone; a restoration
by a network leaves 1.3 mm: the headers agreed better in five of them. In standard doses 0.3 to 0.5 are."""

LEAST_DISTINCTNESS = 0.16
"""Distinctness below which a registration counts as failed: in the same subjects it was 0.22 to 0.30, of
another one's T1 at most 0.10."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Scan:
    """A scan, ready to be sent to another process: what its MR is registered to, and the MR."""

    name: str
    fixed: str
    guides: dict[str, str]

    def checksums(self) -> dict[str, str]:
        """Return those of all that is read."""
        return {name: sha256_file(path) for name, path in {"fixed": self.fixed, **self.guides}.items()}


def coregister_guides(
    manifest: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    most_mm: float = MOST_MM,
    workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Bring the MR of a manifest onto the grid of its PET.

    Parameters
    ----------
    manifest : path
        Manifest of amyloid PET; MR on any grid, in the scanner coordinates of the PET.
    output : path
        A new or empty folder, or one that an interrupted run with the same settings left: scans that are
        finished, and whose files are the same as then, are kept.
    most_mm : float, mm
        Displacement of the head above which a registration counts as failed.
    workers : int or None
        Processes; one per core when None.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Path
        ``manifest.csv``, of all rows; the cell of an MR whose registration failed is empty. Beside it
        ``registration.csv`` (a row per scan and MR), ``left_out.csv`` (those that failed, and why; they are
        logged and counted too) and ``subjects/``, with a picture each.

    Raises
    ------
    InputError
        When the manifest has a fault, no row has MR, or the folder holds other things or a run of other
        settings.

    Notes
    -----
    MR is registered to the degraded PET, smoothed by a Gaussian of :data:`SMOOTH_MM`; of a scan at several
    doses, to the lowest, so that what a network is shown at that dose is as good as it is in use. PET and
    region maps are hard links, copies where the file system has none.
    """
    manifest = Path(manifest)
    require_in_range("most_mm", most_mm, 0, 1000, include_low=False)
    count = worker_count(workers)
    schema = pair_schema(label_column=None)
    table = schema.read(manifest)
    rows = records_of(table)
    scans = _scans(rows, manifest)
    settings = {
        "version": __version__,
        "most_mm": most_mm,
        "smooth_mm": SMOOTH_MM,
        "least_distinctness": LEAST_DISTINCTNESS,
    }
    with claimed(
        output,
        settings,
        record=SETTINGS_NAME,
        belongs="co-registration",
        other="a co-registration of other settings",
        has_results=lambda folder: any_record(folder, f"subjects/*/{RECORD_NAME}", bool),
        remains=("subjects", "registration.csv", "left_out.csv"),
    ) as claim:
        records = _records(claim.folder, claim.fingerprint, scans, most_mm, count, progress=progress)
        quality, left_out = [], []
        for name, record in records.items():
            for guide, found in record["registrations"].items():
                status = "failed" if guide in record["failures"] else "registered"
                quality.append({"scan": name, "guide": guide, "status": status, **found})
            left_out += [
                {"scan": name, "guide": key, "reason": why} for key, why in record["failures"].items()
            ]
        write_rows(quality, ("scan", "guide", "status", *FIGURES), claim.folder / "registration.csv")
        write_rows(left_out, ("scan", "guide", "reason"), claim.folder / "left_out.csv")
        if left_out:
            total = sum(len(scan.guides) for scan in scans.values())
            told = "\n".join(f"  {row['scan']}, {row['guide']}: {row['reason']}" for row in left_out)
            _logger.warning(f"{len(left_out)} of {counted(total, 'MR scan')} are left out:\n{told}")
        made = [row | _cells(claim.folder, row, records) for row in rows]
        import pandas as pd

        return schema.write(pd.DataFrame(made), claim.folder / "manifest.csv")


def _scans(rows: list[dict[str, Any]], manifest: Path) -> dict[str, _Scan]:
    """Return the scans that have MR, by name; of several doses what is of the lowest."""
    scans: dict[str, _Scan] = {}
    for row in sorted(rows, key=lambda row: -float(row["dose_fraction"])):
        guides = {guide: str(row[f"{guide}_path"]) for guide in GUIDES if row[f"{guide}_path"]}
        name = scan_name(row["subject_id"], row["session_id"])
        if guides:
            scans[name] = _Scan(name, str(row["degraded_path"]), guides)
    if not scans:
        raise InputError(f"{manifest}: no row has MR: {', '.join(GUIDES)} are empty or not there")
    return scans


def _records(
    folder: Path,
    fingerprint: str,
    scans: Mapping[str, _Scan],
    most_mm: float,
    workers: int,
    *,
    progress: bool,
) -> dict[str, dict[str, Any]]:
    """Register the scans that are not finished; return the records of all, in order."""
    held = {name: _finished(folder, fingerprint, scan) for name, scan in scans.items()}
    finished = {name: record for name, record in held.items() if record is not None}
    waiting = [(folder, fingerprint, scan, most_mm) for name, scan in scans.items() if name not in finished]
    found = named_results(
        _coregister,
        waiting,
        workers=workers,
        progress=progress,
        description="coregister",
        unit="scan",
        finished=finished,
    )
    return {name: found[name] for name in scans}


def _finished(folder: Path, fingerprint: str, scan: _Scan) -> dict[str, Any] | None:
    """Return the record of a scan that is whole, of the same settings and the same files."""
    place = folder / "subjects" / scan.name
    try:
        record: dict[str, Any] = json.loads((place / RECORD_NAME).read_text(encoding="utf-8"))
        whole = (
            record["fingerprint"] == fingerprint
            and record["sources"] == scan.checksums()
            and all(sha256_file(place / name) == digest for name, digest in record["sha256"].items())
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return record if whole else None


def _coregister(folder: Path, fingerprint: str, scan: _Scan, most_mm: float) -> tuple[str, dict[str, Any]]:
    """Register, resample, draw and write the MR of one scan; return its name and record."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    place = folder / "subjects" / scan.name
    place.mkdir(parents=True, exist_ok=True)
    for left in (place / RECORD_NAME, *place.glob(".partial-*")):
        left.unlink(missing_ok=True)
    found: dict[str, Any] = {}
    failures: dict[str, str] = {}
    pictures: list[Pictured] = []
    with threadpool_limits(limits=1):
        try:
            fixed = _smoothed(read_oriented(scan.fixed))
            head = FixedHead.of(fixed)
        except InputError as error:
            failures = dict.fromkeys(scan.guides, f"its PET is of no use: {without_place(error, scan.fixed)}")
        for name, path in ({} if failures else scan.guides).items():
            try:
                moving = read_oriented(path)
                registration = register_rigid(
                    moving, head, most_mm=most_mm, least_distinctness=LEAST_DISTINCTNESS
                )
            except InputError as error:
                failures[name] = without_place(error, path)
                continue
            resampled = resample(moving, fixed, matrix=registration.matrix)
            found[name] = quality_of(registration, outside=resampled.outside)
            after = replace(fixed, data=resampled.data)
            pictures.append(Pictured(name, moving, registration, after))
            if registration.failure:
                failures[name] = registration.failure
            else:
                write_volume(after.data, after.source, place / f"{name}.nii.gz")
        if pictures:
            with atomic_path(place / PICTURE_NAME) as temporary:
                draw_registrations(fixed, pictures, head_mm=head.points_mm, title=scan.name, path=temporary)
    made = [f"{name}.nii.gz" for name in found if name not in failures] + [PICTURE_NAME] * bool(pictures)
    record = {
        "version": __version__,
        "fingerprint": fingerprint,
        "sources": scan.checksums(),
        "registrations": found,
        "failures": failures,
        "sha256": {name: sha256_file(place / name) for name in made},
    }
    write_json(place / RECORD_NAME, record)
    return scan.name, record


def _smoothed(volume: Volume) -> Volume:
    from scipy.ndimage import gaussian_filter

    sigma = [SMOOTH_MM / size for size in volume.voxel_size_mm]
    return replace(volume, data=gaussian_filter(volume.data, sigma, output=volume.data.dtype))


def _cells(folder: Path, row: Mapping[str, Any], records: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Link the images of a row that stay as they are; return its cells of files and checksums."""
    name = scan_name(row["subject_id"], row["session_id"])
    place = folder / "subjects" / name
    stems = {"degraded": f"degraded{dose_arm(row)}"} | {
        key: key for key in ("target", "regions", "departure")
    }
    cells: dict[str, str] = {}
    for column, stem in stems.items():
        path = row[f"{column}_path"]
        cells[column] = f"subjects/{name}/{link_image(Path(path), place, stem)}" if path else ""
    held = records.get(name, {}).get("sha256", {})
    for guide in GUIDES:
        file = f"{guide}.nii.gz"
        cells[guide] = f"subjects/{name}/{file}" if file in held else ""
        cells[f"{guide}_sha256"] = held.get(file, "")
    return cells
