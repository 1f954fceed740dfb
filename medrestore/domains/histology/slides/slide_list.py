"""Which slides tiles are cut from: their files, patients and splits."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from medrestore import rng
from medrestore.checks import InputError, counted, fail, require_in_set
from medrestore.data.row_checks import SPLITS
from medrestore.data.splits import assign_splits
from medrestore.data.tables import located
from medrestore.domains.histology.slides.patients import (
    ACCESSION,
    Told,
    compile_pattern,
    matched_patient,
    named_patient,
    patient_folder,
    patient_key,
)
from medrestore.domains.histology.slides.slide_search import search_slides
from medrestore.domains.histology.slides.slide_table import Cases, read_slide_table

__all__ = [
    "SlideEntry",
    "describe_patients",
    "find_slides",
    "merge_copies",
    "require_patients",
    "require_splits",
]

_DEFAULT_FRACTIONS = {"train": 0.7, "validation": 0.1, "test": 0.2}
_SHOWN = 3
"""Examples in a message."""
_PATIENT_REMEDY = (
    "name a rule (--patient-pattern; '^(.+)$' where each slide is a patient of its own), a table (--cases), "
    "or put the slides into a folder for each patient"
)

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SlideEntry:
    """A slide to cut tiles from.

    Parameters
    ----------
    path : Path
        Absolute; of a slide of several files the one that it is opened by.
    subject_id : str
        The patient.
    split : str
        Empty until it is assigned.
    microns_per_pixel : float or None, um
        Resolution of level 0 that was stated; None where the file's holds.
    name : str
        Names its tiles; the file's name without suffix, with folders in front where slides share it.
    rule : str
        What told the patient; empty where nothing did, and ``subject_id`` is the file's name.
    fault : str
        Why it cannot be used, as its name and place tell; empty where it may be fine.
    doubt : str
        Why the patient may be another than the name told; empty where it is plain.
    """

    path: Path
    subject_id: str
    split: str = ""
    microns_per_pixel: float | None = None
    name: str = field(default="", compare=False)
    rule: str = field(default="", compare=False)
    fault: str = field(default="", compare=False)
    doubt: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.path.stem)


def find_slides(
    slides: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    patient_pattern: str | None = None,
    cases: str | os.PathLike[str] | None = None,
    microns_per_pixel: float | None = None,
) -> list[SlideEntry]:
    """Return the slides of folders, files or a table, sorted by path.

    Parameters
    ----------
    slides : path or sequence of paths
        Folders, whose slides are taken with those of the folders in them; files; or one table (CSV) with the
        column ``slide``, relative to it, and maybe ``subject_id`` (or ``patient``), ``split`` and
        ``microns_per_pixel``. Hidden files, litter and folders of tiles are passed over; files that are one
        slide and links to one file are one entry.
    patient_pattern : str or None
        Regular expression with one group, the patient, searched in a slide's name, or in the name with the
        folders before it where it holds a slash. When None,
        :data:`~medrestore.domains.histology.slides.patients.PATIENT_RULES`. Of no use where a table names the
        patient.
    cases : path or None
        Table (CSV) of the same columns that tells the patients of slides found in folders; ``slide`` is the
        slide's name, with or without suffix and folders.
    microns_per_pixel : float or None, um
        Resolution of level 0 of all slides for which a table states none.

    Raises
    ------
    InputError
        When there is no slide, the pattern or the cases tell no patient at all, or a table has a fault.

    Notes
    -----
    Ways to write one patient (:func:`~medrestore.domains.histology.slides.patients.patient_key`) are made
    one, the first by path. A slide that cannot be used for its name or place has a ``fault``.
    """
    paths = [Path(slides)] if isinstance(slides, (str, os.PathLike)) else [Path(path) for path in slides]
    if not paths:
        raise InputError("there is no slide: the list of folders and files is empty")
    if patient_pattern is not None and cases is not None:
        raise InputError("patient_pattern and cases both tell the patients. Remedy: give one of them")
    tables = [path for path in paths if path.suffix.lower() == ".csv"]
    if tables and len(paths) > 1:
        fail(
            "is a table, and is given with other slides",
            path=tables[0],
            remedy="give a table of slides alone, or one that tells the patients as cases (--cases)",
        )
    rule = _rule(patient_pattern)
    if len(paths) == 1 and paths[0].suffix.lower() == ".csv":
        if cases is not None:
            fail("is a table of slides, which tells the patients", path=paths[0], remedy="give no cases")
        entries = _of_table(paths[0], rule, microns_per_pixel)
    elif cases is not None:
        entries = _of_cases(paths, Cases(Path(cases)), microns_per_pixel)
    else:
        entries = _of_folders(paths, rule, microns_per_pixel)
    if patient_pattern is not None and not any(entry.rule for entry in entries):
        number = counted(len(entries), "slide")
        raise InputError(
            f"patient_pattern {patient_pattern!r} finds no patient in any of {number}, for instance in "
            f"{entries[0].path.stem!r}. Remedy: it is searched in names without suffix, and where it holds "
            "a slash in names with their folders; try it on this one"
        )
    entries = merge_copies(entries, _inodes(entries))
    return _with_names(_one_form(entries))


def require_splits(
    entries: Sequence[SlideEntry],
    *,
    fractions: Mapping[str, float] | None,
    seed: int,
    kept: Mapping[str, str] | None = None,
) -> list[SlideEntry]:
    """Return the slides with their splits, by patient; those that a table gave are kept.

    Parameters
    ----------
    entries
        Slides of all splits.
    fractions, seed
        As :func:`~medrestore.data.splits.assign_splits` takes them.
    kept
        Splits that patients were given before, by
        :func:`~medrestore.domains.histology.slides.patients.patient_key`: they keep them, and others get what
        the splits lack.

    Raises
    ------
    InputError
        When a patient is in two splits, some slides have a split and some have none, splits are given and
        fractions too, or there are too few patients.
    """
    for name in fractions or {}:
        require_in_set("a split in fractions", name, SPLITS)
    given = [entry for entry in entries if entry.split]
    if not given:
        if kept:
            return _join_splits(entries, kept, fractions=fractions or _DEFAULT_FRACTIONS, seed=seed)
        subjects = [entry.subject_id for entry in entries]
        shares = fractions or _DEFAULT_FRACTIONS
        try:
            split_of = assign_splits(subjects, [0] * len(subjects), fractions=shares, seed=seed)
        except InputError as error:
            raise InputError(
                f"{error}. Remedy: take more patients, other fractions, or a table with a column split"
            ) from error
        return [replace(entry, split=split_of[entry.subject_id]) for entry in entries]
    if fractions is not None:
        raise InputError("the table gives the splits, so no fractions can be given")
    if len(given) < len(entries):
        bare = next(entry for entry in entries if not entry.split)
        fail("has no split, others have", path=bare.path, remedy="give every slide a split, or none")
    first: dict[str, SlideEntry] = {}
    for entry in entries:
        other = first.setdefault(entry.subject_id, entry)
        if other.split != entry.split:
            raise InputError(
                f"patient {entry.subject_id} is in two splits: {other.path} in {other.split}, "
                f"{entry.path} in {entry.split}. Remedy: put all slides of a patient into one split"
            )
    return list(entries)


def _join_splits(
    entries: Sequence[SlideEntry], kept: Mapping[str, str], *, fractions: Mapping[str, float], seed: int
) -> list[SlideEntry]:
    """Give patients without a split, in an order drawn from the seed, the one that lacks most."""
    subjects = sorted({entry.subject_id for entry in entries})
    split_of = {subject: kept[key] for subject in subjects if (key := patient_key(subject)) in kept}
    new = [subject for subject in subjects if subject not in split_of]
    for index in rng.generator(seed, "splits", "joined").permutation(len(new)):
        held = Counter(split_of.values())
        lack = {name: part * len(subjects) - held[name] for name, part in fractions.items()}
        split_of[new[index]] = max(lack, key=lambda name: lack[name])
    return [replace(entry, split=split_of[entry.subject_id]) for entry in entries]


def require_patients(
    entries: Sequence[SlideEntry], *, fractions: Mapping[str, float] | None
) -> list[SlideEntry]:
    """Give slides whose patient nobody tells a fault, where a split would rest on a guess.

    Returns
    -------
    list of SlideEntry
        Unchanged where a table gave the splits, which is warned of, or where there is one split alone.

    Raises
    ------
    InputError
        When the patient of no slide is told.
    """
    usable = [entry for entry in entries if not entry.fault]
    untold = [entry for entry in usable if not entry.rule or entry.doubt]
    if not untold or len(fractions or _DEFAULT_FRACTIONS) == 1:
        return list(entries)
    if any(entry.split for entry in usable):
        _logger.warning(
            "nothing tells the patient of %s (%s): each is taken for a patient of its own",
            counted(len(untold), "slide"),
            _examples([entry.path.name for entry in untold]),
        )
        return list(entries)
    if len(untold) == len(usable):
        patients = counted(len({entry.subject_id for entry in usable}), "patient")
        guess = f"nothing tells the patients ({_examples([entry.path.name for entry in untold])}), and by a "
        guess += f"guess one patient may lie in training and in test. Remedy: {_PATIENT_REMEDY}"
        raise InputError(f"{counted(len(usable), 'slide')}, {patients}: {untold[0].doubt or guess}")
    reason = f"nothing tells its patient, and by a guess it may lie in two splits. Remedy: {_PATIENT_REMEDY}"
    guessed = {entry.path: entry.doubt or reason for entry in untold}
    return [replace(entry, fault=guessed.get(entry.path, entry.fault)) for entry in entries]


def merge_copies(entries: Sequence[SlideEntry], identities: Mapping[Path, str]) -> list[SlideEntry]:
    """Make one entry of slides that are the same; give all a fault where their patients or splits differ.

    Parameters
    ----------
    entries : sequence of SlideEntry
        By path.
    identities : mapping
        What copies of a slide have in common, by path; a slide that is not in it has no copy.
    """
    same: dict[str, list[SlideEntry]] = {}
    for entry in entries:
        if not entry.fault and entry.path in identities:
            same.setdefault(identities[entry.path], []).append(entry)
    changed: dict[Path, SlideEntry | None] = {}
    for copies in (copies for copies in same.values() if len(copies) > 1):
        told = [entry for entry in copies if entry.rule] or copies
        patients = {patient_key(entry.subject_id) for entry in told}
        splits = {entry.split for entry in copies}
        if (len(patients) > 1 and told[0].rule) or len(splits) > 1:
            for entry in copies:
                other = next(other for other in copies if other is not entry)
                changed[entry.path] = replace(entry, fault=_same_slide(entry, other))
            continue
        first = min(copies, key=lambda entry: (entry.path.is_symlink(), entry.path))
        for entry in copies:
            changed[entry.path] = None
            if entry is not first:
                _logger.warning("%s is the same slide as %s, and is left out", entry.path, first.path)
        changed[first.path] = replace(first, subject_id=told[0].subject_id, rule=told[0].rule)
    kept = (changed.get(entry.path, entry) for entry in entries)
    return [entry for entry in kept if entry is not None]


def describe_patients(entries: Sequence[SlideEntry]) -> list[str]:
    """Return lines that say what told the patients, with an example of each rule."""
    lines = []
    for rule, number in Counter(entry.rule for entry in entries).most_common():
        example = next(entry for entry in entries if entry.rule == rule)
        if rule:
            lines.append(
                f"patients of {counted(number, 'slide')} by {rule}, as {example.path.name}: "
                f"{example.subject_id}"
            )
        else:
            lines.append(f"nothing tells the patient of {counted(number, 'slide')}, as {example.path.name}")
    if len(entries) > 1 and len({entry.subject_id for entry in entries}) == len(entries):
        lines.append(f"each of {len(entries)} slides is a patient of its own: see that it is so")
    return lines


def _rule(patient_pattern: str | None) -> Callable[[str, tuple[str, ...], str], Told]:
    """Return what tells the patient of a slide's stem, folders and PatientID."""
    if patient_pattern is None:
        return lambda stem, folders, dicom: named_patient(stem, folders=folders, dicom=dicom)
    pattern = compile_pattern(patient_pattern)

    def by_pattern(stem: str, folders: tuple[str, ...], _: str) -> Told:
        return matched_patient(pattern, stem, folders=folders) or Told(stem, "")

    return by_pattern


def _of_folders(
    paths: Sequence[Path], rule: Callable[[str, tuple[str, ...], str], Told], microns_per_pixel: float | None
) -> list[SlideEntry]:
    entries = []
    numbers: dict[str, dict[str, str]] = {}
    found = search_slides(paths)
    for group, folders in found:
        told = rule(group.path.stem, folders, group.patient)
        entries.append(
            SlideEntry(group.path, told.patient, "", microns_per_pixel, rule=told.rule, fault=group.fault)
        )
        if told.rule == ACCESSION:
            numbers.setdefault(patient_folder(folders), {})[patient_key(told.patient)] = told.patient
    doubts = {
        folder: f"folder {folder} holds slides of {_examples(list(cases.values()))}: one patient or several? "
        "Remedy: --patient-pattern '^([^/]+)/' takes the folder, '([A-Z]+[0-9]+-[0-9]+)' the accession number"
        for folder, cases in numbers.items()
        if folder and len(cases) > 1
    }
    return [
        replace(entry, doubt=doubts.get(patient_folder(folders), "")) if entry.rule == ACCESSION else entry
        for entry, (_, folders) in zip(entries, found, strict=True)
    ]


def _of_table(
    path: Path, rule: Callable[[str, tuple[str, ...], str], Told], microns_per_pixel: float | None
) -> list[SlideEntry]:
    entries: dict[Path, SlideEntry] = {}
    for row in read_slide_table(path, files=True):
        slide = Path(os.path.normpath(located(path.parent, row.slide)))
        folders = tuple(part for part in Path(row.slide).parent.parts if part not in ("..", slide.anchor))
        told = Told(row.subject_id, "the table") if row.subject_id else rule(slide.stem, folders, "")
        microns = microns_per_pixel if row.microns_per_pixel is None else row.microns_per_pixel
        if slide in entries:
            fail(f"{row.slide} is there more than once", path=path, row=row.number, remedy="name it once")
        entries[slide] = SlideEntry(slide, told.patient, row.split, microns, rule=told.rule)
    return sorted(entries.values(), key=lambda entry: entry.path)


def _of_cases(paths: Sequence[Path], cases: Cases, microns_per_pixel: float | None) -> list[SlideEntry]:
    entries = []
    for group, folders in search_slides(paths):
        row = cases.row_of(group.path, folders=folders)
        if row is None:
            fault = group.fault or f"is not in {cases.path}. Remedy: add its row, or leave the slide out"
            entries.append(SlideEntry(group.path, group.path.stem, "", microns_per_pixel, fault=fault))
            continue
        microns = microns_per_pixel if row.microns_per_pixel is None else row.microns_per_pixel
        entries.append(SlideEntry(group.path, row.subject_id, row.split, microns, rule="the table of cases"))
    if not any(entry.rule for entry in entries):
        fail(
            f"names none of {counted(len(entries), 'slide')}, for instance not {entries[0].path.name}",
            path=cases.path,
            remedy="write the names of the slides' files into the column slide",
        )
    if cases.unused:
        _logger.warning(
            "%s: %s not found (%s)", cases.path, counted(len(cases.unused), "slide"), _examples(cases.unused)
        )
    return entries


def _one_form(entries: Sequence[SlideEntry]) -> list[SlideEntry]:
    """Write each patient in one way."""
    first: dict[str, SlideEntry] = {}
    for entry in entries:
        other = first.setdefault(patient_key(entry.subject_id), entry)
        if entry.subject_id != other.subject_id and "table" in entry.rule:
            _logger.warning("%s and %s are taken for one patient", other.subject_id, entry.subject_id)
    return [replace(entry, subject_id=first[patient_key(entry.subject_id)].subject_id) for entry in entries]


def _with_names(entries: Sequence[SlideEntry]) -> list[SlideEntry]:
    """Name slides by their files, with as many folders in front as tell those of one name apart."""
    places: dict[tuple[Path, str], list[SlideEntry]] = {}
    for entry in entries:  # some file systems know no case
        places.setdefault((entry.path.parent, entry.path.stem.casefold()), []).append(entry)
    endings = Counter(
        (stem, parts[:depth])
        for folder, stem in places
        for parts in [_reversed_parts(folder)]
        for depth in range(len(parts) + 1)
    )
    taken: set[str] = set()
    named = []
    for entry in entries:
        beside = [
            other for other in places[entry.path.parent, entry.path.stem.casefold()] if other is not entry
        ]
        fault = entry.fault
        if beside and not fault:
            other = beside[0].path.name
            fault = f"has the name of {other}, so their tiles would be called the same"
            fault += ". Remedy: rename one of them"
        stem, parts = entry.path.stem.casefold(), _reversed_parts(entry.path.parent)
        depth = 0
        while depth < len(parts) and endings[stem, parts[:depth]] > 1:
            depth += 1
        folders = entry.path.parent.parts[len(parts) - depth :]
        name = "_".join((*folders, entry.path.stem))
        while name.casefold() in taken:  # P1_a of another folder
            name += "_"
        if not beside:
            taken.add(name.casefold())
        named.append(replace(entry, name=name, fault=fault))
    return named


def _reversed_parts(folder: Path) -> tuple[str, ...]:
    return tuple(part.casefold() for part in folder.parts[::-1])


def _inodes(entries: Sequence[SlideEntry]) -> dict[Path, str]:
    """Return by path what links to one file have in common."""
    inodes = {}
    for entry in entries:
        try:
            status = entry.path.stat()
        except OSError:
            continue  # who opens it tells why
        inodes[entry.path] = f"{status.st_dev}-{status.st_ino}"
    return inodes


def _same_slide(entry: SlideEntry, other: SlideEntry) -> str:
    if entry.split != other.split:
        where = f"which is in {other.split or 'no split'}, and this one in {entry.split or 'none'}"
    else:
        where = f"which is of patient {other.subject_id}, and this one of {entry.subject_id}"
    return f"is the same slide as {other.path}, {where}. Remedy: keep one of them, or correct the patient"


def _examples(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
