"""Tiles for training and evaluation: cut from slides by a grid, kept where there is sharp tissue.

Nothing but the manifest is stored of a tile; it is read from its slide when it is needed.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from medrestore import __version__
from medrestore.checks import InputError, OutputError, Setbacks, counted, fail, require_in_range
from medrestore.claims import Claim, claimed
from medrestore.data.row_checks import SPLITS
from medrestore.data.workers import run_tasks, worker_count
from medrestore.domains.histology.schema import TILES
from medrestore.domains.histology.slides.patients import patient_key
from medrestore.domains.histology.slides.resolution import require_given, require_microns
from medrestore.domains.histology.slides.scan import FIGURES, TileRules, has_tiles, read_scan, scan_slide
from medrestore.domains.histology.slides.slide_list import (
    SlideEntry,
    describe_patients,
    find_slides,
    require_patients,
    require_splits,
)
from medrestore.domains.histology.slides.slide_search import SETTINGS_NAME
from medrestore.domains.histology.slides.survey import usable_slides
from medrestore.domains.histology.slides.tissue import MINIMUM_FOCUS
from medrestore.files import atomic_path, require_file_place

__all__ = ["make_tiles"]

_logger = logging.getLogger(__name__)


def make_tiles(
    slides: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    output: str | os.PathLike[str],
    manifest: str | os.PathLike[str] | None = None,
    tile_size: int = 256,
    stride: int | None = None,
    microns_per_pixel: float = 0.25,
    slide_microns_per_pixel: float | None = None,
    override_microns_per_pixel: bool = False,
    fractions: Mapping[str, float] | None = None,
    patient_pattern: str | None = None,
    cases: str | os.PathLike[str] | None = None,
    minimum_tissue: float = 0.5,
    minimum_focus: float = MINIMUM_FOCUS,
    check_pen: bool = True,
    seed: int = 0,
    workers: int | None = None,
    progress: bool = True,
    report: Callable[[str], None] | None = None,
) -> Path:
    """Find the tiles of slides and write their manifest, split by patient.

    Parameters
    ----------
    slides : path or sequence of paths
        Folders with all that lies in them, files, or one table (CSV): see
        :func:`~medrestore.domains.histology.slides.slide_list.find_slides`.
    output : path
        A new or empty folder, or one that a run with the same settings left: its finished slides are kept.
    manifest : path or None
        The manifest; ``manifest.csv`` in ``output`` when None.
    tile_size, stride : int, pixels
        Side of a tile, and from tile to tile (the side when None: tiles do not overlap). The grid begins at
        the top left corner of what was scanned; what is left at the right and below is not used.
    microns_per_pixel : float, um
        Resolution of the tiles.
    slide_microns_per_pixel : float or None, um
        Resolution of level 0 of all slides that state none and for which a table states none.
    override_microns_per_pixel : bool
        What is given, here or in a table, holds for slides too that state another resolution.
    fractions : mapping or None
        Part of the patients by split; train 0.7, validation 0.1, test 0.2 when None. Not with a table that
        gives the splits.
    patient_pattern, cases
        What tells the patients of slides that no table names: see
        :func:`~medrestore.domains.histology.slides.slide_list.find_slides`.
    minimum_tissue : float
        Part of a tile that must be tissue.
    minimum_focus : float
        Least :func:`~medrestore.domains.histology.slides.tissue.focus_score`; 0 keeps all.
    check_pen : bool
        Drop tiles under ink of a pen.
    seed : int
        Of the splits.
    workers : int or None
        Processes, each with one slide at a time; one per core when None.
    progress : bool
        Show a progress bar.
    report : callable or None
        Gets lines for a person: what told the patients, and slides, patients and tiles by split.

    Returns
    -------
    Path
        The manifest. In ``output`` also ``slides.csv`` (of each slide size, resolution, tissue area, tiles
        kept, and dropped for lack of tissue, ink or focus) and ``overview/``, with a picture of each slide.

    Raises
    ------
    InputError
        When there is no slide, a patient is in two splits or nobody tells any, a split would stay empty, no
        tile is left, or folder or manifest hold other things. When slides cannot serve (damaged, without
        resolution or of too coarse a one, smaller than a tile, of unknown patient, one slide under two
        patients): all are named after the manifest of the others is written.

    Notes
    -----
    A slide without a tile is warned of by name and left out. Splits are assigned to patients before tiles
    are dropped, so they do not depend on what counts as tissue. Where the wanted resolution is within 2 % of
    one that the slide is stored at, pixels are taken as they are. Slides that could not serve may be mended,
    replaced or removed, and the call repeated: patients keep their splits, and the manifest is written anew.
    """
    rules = TileRules(
        tile_size=tile_size,
        stride=tile_size if stride is None else stride,
        microns_per_pixel=microns_per_pixel,
        minimum_tissue=minimum_tissue,
        minimum_focus=minimum_focus,
        check_pen=check_pen,
        override_microns_per_pixel=override_microns_per_pixel,
    )
    _require_rules(rules)
    count = worker_count(workers)
    target = Path(output) / "manifest.csv" if manifest is None else require_file_place(manifest)
    if slide_microns_per_pixel is not None:
        require_microns("slide_microns_per_pixel", slide_microns_per_pixel)
    found = find_slides(
        slides, patient_pattern=patient_pattern, cases=cases, microns_per_pixel=slide_microns_per_pixel
    )
    if all(entry.microns_per_pixel is None for entry in found):  # a table may give it
        require_given(slide_microns_per_pixel, override=override_microns_per_pixel)
    require_splits(found, fractions=fractions, seed=seed)  # numbers that no better name of a patient mends
    setbacks = Setbacks("cut into tiles", unit="slide")
    usable = usable_slides(require_patients(found, fractions=fractions), rules, setbacks)
    if not usable:
        setbacks.raise_any(len(found))
    with claimed(
        output,
        {"version": __version__, "rules": asdict(rules)},
        record=SETTINGS_NAME,
        belongs="tiles",
        other="tiles of other slides or settings",
        has_results=has_tiles,
        is_finished=lambda held: (
            held.get("complete", False) and target.exists() and _slide_table(Path(output)) is not None
        ),
        remains=("slides", "overview", "slides.csv"),
    ) as claim:
        _require_record(claim)
        name = _place(target, claim.folder)
        drawn = {"fractions": dict(fractions or {}), "seed": seed}
        entries = _with_splits(usable, claim, drawn, setbacks, len(found))
        if not _is_made(claim, target, entries, drawn, setbacks):
            scanned = _scan_all(entries, rules, claim, setbacks, workers=count, bar=progress)
            if not scanned:
                setbacks.raise_any(len(found))
            if len(scanned) < len(entries):  # the splits are shares of the patients that are left
                done = {entry.path for entry, _ in scanned}
                left = [entry for entry in usable if entry.path in done]
                entries = _with_splits(left, claim, drawn, setbacks, len(found))
                scanned = [(entry, record) for entry, (_, record) in zip(entries, scanned, strict=True)]
            facts = {"slides": _listed(entries, claim.folder), "drawn": drawn}
            finished = {*claim.facts.get("finished", []), name}
            # A manifest that a killed run wrote is known to be ours.
            claim.note({**facts, "finished": sorted(finished - {name}), "begun": name, "complete": False})
            _write_slides(scanned, claim.folder)
            _write_manifest(scanned, rules, target, claim.folder)
            claim.note({**facts, "finished": sorted(finished), "complete": not setbacks.reasons})
        elif not claim.finished and not setbacks.reasons:
            claim.note({**claim.facts, "complete": True})
        table = _slide_table(claim.folder)
        if report is not None and table is not None:
            for line in describe_patients(entries) + _describe_splits(table):
                report(line)
    setbacks.raise_any(len(found))
    return target


def _require_rules(rules: TileRules) -> None:
    require_in_range("tile_size", rules.tile_size, 8, 65_536)
    require_in_range("stride", rules.stride, 1, math.inf)
    require_microns("microns_per_pixel", rules.microns_per_pixel)
    require_in_range("minimum_tissue", rules.minimum_tissue, 0, 1)
    require_in_range("minimum_focus", rules.minimum_focus, 0, math.inf)


def _require_record(claim: Claim) -> None:
    """Require that the record of an earlier call is as it was written: splits are taken from it."""
    slides, finished = claim.facts.get("slides", []), claim.facts.get("finished", [])
    whole = isinstance(slides, list) and all(
        isinstance(slide, dict) and isinstance(slide.get("subject_id"), str) and slide.get("split") in SPLITS
        for slide in slides
    )
    if not whole or not isinstance(finished, list) or not all(isinstance(name, str) for name in finished):
        fail("was changed, and is no record of tiles any more", path=claim.record, remedy="name a new folder")


def _with_splits(
    entries: Sequence[SlideEntry], claim: Claim, drawn: Mapping[str, Any], setbacks: Setbacks, total: int
) -> list[SlideEntry]:
    """Return the slides with splits; patients keep those that an earlier call has written."""
    written = claim.facts.get("slides", []) if claim.facts.get("drawn") == drawn else []
    kept = {patient_key(slide["subject_id"]): slide["split"] for slide in written}
    try:
        return require_splits(entries, fractions=drawn["fractions"] or None, seed=drawn["seed"], kept=kept)
    except InputError as error:
        # Too few patients may be left because slides were set aside, so these are told too.
        try:
            setbacks.raise_any(total)
        except InputError as others:
            raise InputError(f"{error}\n{others}") from error
        raise


def _is_made(
    claim: Claim, target: Path, entries: Sequence[SlideEntry], drawn: Mapping[str, Any], setbacks: Setbacks
) -> bool:
    """Return whether the manifest is there, of these slides; refuse one of other slides or of anybody else.

    Where slides were set aside, a later call may go on with others; a complete manifest stays as it is.
    """
    name = _place(target, claim.folder)
    finished = claim.facts.get("finished", [])
    same = claim.facts.get("slides") == _listed(entries, claim.folder)
    if finished and not same:
        if claim.facts.get("complete"):
            setbacks.raise_any(len(entries) + len(setbacks.reasons))  # what has become of some since
        if claim.facts.get("complete") or claim.facts.get("drawn") != drawn:
            fail(
                "holds tiles of other slides or settings (the slides, their patients or splits changed)",
                path=claim.folder,
                remedy="name the slides that it was made from, or a new folder",
            )
    if target.exists() and name not in (*finished, claim.facts.get("begun")):
        fail("exists, and nothing is overwritten", path=target, remedy="name a new manifest")
    return target.exists() and name in finished and same and _slide_table(claim.folder) is not None


def _place(path: Path, folder: Path) -> str:
    """Return a path as it is seen from a folder: absolute ones would name people and machines."""
    return Path(os.path.relpath(path.absolute(), folder.absolute())).as_posix()


def _listed(entries: Sequence[SlideEntry], folder: Path) -> list[dict[str, Any]]:
    return [
        {
            "path": _place(entry.path, folder),
            "subject_id": entry.subject_id,
            "split": entry.split,
            "microns_per_pixel": entry.microns_per_pixel,
        }
        for entry in entries
    ]


def _scan_all(
    entries: Sequence[SlideEntry],
    rules: TileRules,
    claim: Claim,
    setbacks: Setbacks,
    *,
    workers: int,
    bar: bool,
) -> list[tuple[SlideEntry, dict[str, Any]]]:
    """Scan the slides that are not finished; return the records of all that can be read, in order."""
    from medrestore.progress import progress_bar

    for left in claim.folder.glob("*/.partial-*"):  # of a process that was killed
        left.unlink(missing_ok=True)
    records = {
        index: record
        for index, entry in enumerate(entries)
        if (record := read_scan(entry, claim.folder, claim.fingerprint)) is not None
    }
    waiting = [
        (index, entry, rules, claim.folder, claim.fingerprint)
        for index, entry in enumerate(entries)
        if index not in records
    ]
    failures = {}
    with progress_bar(
        total=len(entries), initial=len(records), desc="tiles", unit="slide", disable=not bar
    ) as progress:
        for index, record, failure in run_tasks(_scan, waiting, workers=workers):
            if failure:
                failures[index] = failure
            else:
                records[index] = record
            progress.update()
    for index, failure in sorted(failures.items()):
        setbacks.note(entries[index].path, failure)
    return [(entry, records[index]) for index, entry in enumerate(entries) if index in records]


def _scan(
    index: int, entry: SlideEntry, rules: TileRules, folder: Path, fingerprint: str
) -> tuple[int, dict[str, Any], str]:
    """Scan a slide; a damaged one is reported after the others are done."""
    try:
        return index, scan_slide(entry, rules, folder, fingerprint), ""
    except OutputError:
        raise
    except InputError as error:
        return index, {}, str(error)


def _write_slides(scanned: Sequence[tuple[SlideEntry, Mapping[str, Any]]], folder: Path) -> None:
    rows = []
    for entry, record in scanned:
        figures = record["figures"]
        rows.append(
            {
                "slide": f"{entry.name}{entry.path.suffix}",
                "subject_id": entry.subject_id,
                "split": entry.split,
                **{name: figures[name] for name in FIGURES},  # a record that was read has them by name
            }
        )
        if not figures["tiles"]:
            reason = "no tissue was found" if not figures["tissue_area_mm2"] else "every tile was dropped"
            _logger.warning("%s gives no tile: %s (see overview)", f"{entry.name}{entry.path.suffix}", reason)
    with atomic_path(folder / "slides.csv") as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False, lineterminator="\n", encoding="utf-8")


def _slide_table(folder: Path) -> pd.DataFrame | None:
    """Return the table of slides; None where it was taken away or is another one by now."""
    try:
        table = pd.read_csv(
            (folder / "slides.csv").absolute(),
            dtype={"subject_id": "str", "tiles": "int64"},
            na_values=[""],
            keep_default_na=False,  # a patient may be called NA
        )
    except (OSError, ValueError):
        return None
    return table if {"subject_id", "split", "tiles"} <= {*table.columns} else None


def _describe_splits(table: pd.DataFrame) -> list[str]:
    """Return lines that count slides, patients and tiles by split, from the table of slides."""
    lines = []
    for split in SPLITS:
        if (rows := table[table["split"] == split]).empty:
            continue
        slides, patients = counted(len(rows), "slide"), counted(rows["subject_id"].nunique(), "patient")
        lines.append(f"{split}: {slides}, {patients}, {counted(int(rows['tiles'].sum()), 'tile')}")
    return lines


def _write_manifest(
    scanned: Sequence[tuple[SlideEntry, Mapping[str, Any]]],
    rules: TileRules,
    target: Path,
    folder: Path,
) -> None:
    rows = []
    for entry, record in scanned:
        slide = Path(os.path.relpath(entry.path, target.parent.absolute())).as_posix()
        given = "" if record["given_microns_per_pixel"] is None else record["given_microns_per_pixel"]
        rows += [
            {
                "subject_id": entry.subject_id,
                "slide": slide,
                "split": entry.split,
                "tile": f"{entry.name}_x{x}_y{y}",
                "x": x,
                "y": y,
                "tile_size": rules.tile_size,
                "microns_per_pixel": rules.microns_per_pixel,
                "slide_microns_per_pixel": given,
                "tissue_fraction": tissue,
                "focus": focus,
                "slide_sha256": record["sha256"],
            }
            for x, y, tissue, focus in record["tiles"]
        ]
    if not rows:
        fail(
            f"no tile is left of {counted(len(scanned), 'slide')}",
            path=folder / "slides.csv",
            remedy="look at overview; where it shows tissue, lower --minimum-tissue or --minimum-focus",
        )
    filled = {row["split"] for row in rows}
    for split in SPLITS:
        if split not in filled and any(entry.split == split for entry, _ in scanned):
            _logger.warning("split %s has no tile: none is left of its slides", split)
    TILES.write(pd.DataFrame(rows), target)
