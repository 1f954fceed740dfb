"""The plan of a study: read from YAML, checked as a whole, brought into its normal form."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from medrestore.checks import InputError, counted, require_known_keys
from medrestore.data.texts import read_text
from medrestore.study.layout import QUALIFICATION, READING, TRAINING
from medrestore.study.measures import MEASURES
from medrestore.study.planning import sections
from medrestore.study.planning.design import least_sessions
from medrestore.study.planning.protocols import find_protocol, read_yaml, require_neutral, with_guess
from medrestore.study.planning.sources import (
    ArmImages,
    find_images,
    listed,
    read_cases,
    read_truth,
    subjects_of,
)
from medrestore.study.protocol import Protocol

__all__ = ["SOURCE_COLUMNS", "Plan", "read_plan"]

KEYS = (
    *("title", "seed", "arms", "truth", "cases", "subjects", "readers", "questions", "sessions"),
    *("washout_days", "duplicate_fraction", "guess", "deface", "training", "qualification", "primary"),
)
PREPARATIONS = (TRAINING, QUALIFICATION)
SOURCE_COLUMNS = ("phase", "case", "subject", "arm", "path")
LEAST_OF_CLASS = 2
"""Cases of a class below which a figure of merit has no variance."""
MOST_SESSIONS = 1000
"""Beyond this nobody reads, and drawing the orders would take all memory."""

T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """A plan that can be carried out.

    Parameters
    ----------
    entry
        Its normal form, ready for JSON: all keys of a plan, defaults filled in, absolute paths; ``cases``
        lists the cases of the study, ``sessions`` is a number. Sections that are not there are None.
    protocol
        What readers are asked. Its title is the plan's; its last question is the guess, if wanted.
    sources
        One row an image, :data:`SOURCE_COLUMNS`: training, qualification, then every case in every arm.
    truth
        Case -> 0 or 1, of all phases; empty for a consensus, and where the questions need none.
    text
        The file as it was.
    notes
        What the user should know before the study begins.
    """

    entry: dict[str, Any]
    protocol: Protocol
    sources: pd.DataFrame
    truth: dict[str, int]
    text: str
    notes: tuple[str, ...] = ()


def read_plan(path: str | os.PathLike[str]) -> Plan:
    """Read a plan and check all of it; the images themselves are not opened.

    Parameters
    ----------
    path
        A YAML file; ``docs/reader_studies.md`` explains its keys. Paths in it are relative to its folder.

    Raises
    ------
    InputError
        When the plan has faults; names all that can be told, each by its key.
    """
    path = Path(path)
    given = read_yaml(path)
    faults = _Faults(path)
    faults.keep("", lambda: require_known_keys("the plan", given, KEYS))
    entry, protocol = _sections(given, path.parent.resolve(), faults)
    images = _images(entry["arms"], protocol, faults) if protocol is not None else {}
    faults.refuse()
    assert protocol is not None  # noqa: S101 (a fault otherwise)
    cases = _cases(images, entry, faults)
    if not cases:
        faults.add("cases", "no case is left for the study")
        faults.refuse()
    prepared = [
        case
        for phase in PREPARATIONS
        for case in (entry[phase]["cases"] if entry[phase] else ())
        if images[entry[phase]["arm"]].path(case)
    ]
    every = list(dict.fromkeys([*cases, *prepared]))
    truth: dict[str, int] = {}
    if entry["truth"] and "consensus_of" not in entry["truth"]:
        truth = faults.keep("truth", lambda: read_truth(entry["truth"], every)) or {}
    subjects = faults.keep("subjects", lambda: _subjects(every, images, entry))
    if subjects is not None:
        for phase in PREPARATIONS:
            with faults.at(phase):
                _require_unseen(phase, cases, subjects, entry)
        with faults.at("sessions"):
            entry["sessions"] = _sessions(given, cases, subjects, entry)
    faults.refuse()
    assert subjects is not None  # noqa: S101 (a fault otherwise)
    entry["cases"] = cases
    return Plan(
        entry=entry,
        protocol=protocol,
        sources=_source_table(images, cases, subjects, entry),
        truth=truth,
        text=read_text(path),
        notes=tuple(_notes(cases, truth, entry)),
    )


class _Faults:
    """Faults of a plan, gathered so that all are told at once."""

    def __init__(self, path: Path) -> None:
        self.path, self.found = path, list[str]()

    def add(self, key: str, message: str) -> None:
        self.found.append(f"{key}: {message}" if key else message)

    def keep(self, key: str, check: Callable[[], T]) -> T | None:
        """Return what a check returns; keep its fault under a key and return None."""
        try:
            return check()
        except InputError as error:
            self.add(key, str(error))
            return None

    @contextmanager
    def at(self, key: str) -> Iterator[None]:
        """Keep the fault of a block under a key, and go on behind it."""
        try:
            yield
        except InputError as error:
            self.add(key, str(error))

    def refuse(self) -> None:
        """Raise all faults that were kept."""
        if len(self.found) == 1:
            raise InputError(f"{self.path}: {self.found[0]}")
        if self.found:
            shown = "\n".join("  " + line.replace("\n", "\n  ") for line in self.found)
            raise InputError(f"{self.path}: {counted(len(self.found), 'problem')}\n{shown}")


def _sections(
    given: Mapping[str, Any], folder: Path, faults: _Faults
) -> tuple[dict[str, Any], Protocol | None]:
    """Check every section; those that need others come after them."""
    arms: dict[str, Any] = _named(
        "arms", given.get("arms"), faults, lambda x: sections.arm_section(x, folder)
    )
    if len(arms) == 1 == len(given["arms"]):
        faults.add("arms", f"a comparison needs two or more, got {', '.join(arms)} alone")
    protocol, questions = None, None
    with faults.at("questions"):
        if "questions" not in given:
            raise InputError("is missing. Remedy: name a preset, e.g. questions: florbetaben")
        protocol, questions = find_protocol(given["questions"], folder=folder)
    readers = given.get("readers")
    if isinstance(readers, list):
        for name, count in Counter(map(repr, readers)).items():
            if count > 1:
                faults.add("readers", f"{name} is there twice")
        readers = {name if isinstance(name, Hashable) else repr(name): None for name in readers} or []
    entry: dict[str, Any] = dict.fromkeys(KEYS)
    checks: dict[str, Callable[[], Any]] = {
        "title": lambda: sections.title_section(given.get("title"), arms),
        "seed": lambda: sections.whole("it", given.get("seed"), 0),
        "truth": lambda: sections.truth_section(given.get("truth"), folder, arms, protocol),
        "cases": lambda: sections.cases_section(given.get("cases")),
        "subjects": lambda: sections.subjects_section(given.get("subjects"), folder),
        "washout_days": lambda: sections.number("it", given.get("washout_days", 14), 0, 3650),
        "duplicate_fraction": lambda: sections.fraction_section(given.get("duplicate_fraction", 0)),
        "guess": lambda: sections.guess_section(given.get("guess"), arms),
        "deface": lambda: _flag(given.get("deface", False), protocol),
        "primary": lambda: sections.primary_section(given.get("primary"), arms, protocol),
    }
    for phase in PREPARATIONS:
        checks[phase] = _preparation_check(phase, given, arms, protocol)
    for key, check in checks.items():
        entry[key] = faults.keep(key, check)
    entry |= {
        "arms": arms,
        "questions": questions,
        "readers": _named("readers", readers, faults, sections.reader_section),
    }
    if isinstance(entry["truth"], dict) and "consensus_of" in entry["truth"]:
        for phase in PREPARATIONS:
            if entry[phase]:
                faults.add(
                    phase,
                    "needs the truth beforehand, but a consensus is known after the study only. Remedy: give "
                    f"the truth by file, or leave {phase} out",
                )
        primary, arm = entry["primary"], entry["truth"]["consensus_of"]
        if primary and arm in (primary["arm"], primary["reference"]) and MEASURES[primary["metric"]].judged:
            faults.add(
                "primary",
                f"{primary['metric']} cannot be compared with arm {arm!r}, whose consensus is the truth: "
                "it is right by definition. Remedy: compare two other arms, or give the truth by file",
            )
    if protocol is not None:
        with faults.at("questions"):
            require_neutral(protocol, arms)
            protocol = with_guess(protocol, entry["guess"])
        protocol = dataclasses.replace(protocol, title=entry["title"] or "")
    return entry, protocol


def _preparation_check(
    phase: str, given: Mapping[str, Any], arms: Mapping[str, Any], protocol: Protocol | None
) -> Callable[[], Any]:
    return lambda: sections.preparation_section(phase, given.get(phase), arms, protocol)


def _named(key: str, given: object, faults: _Faults, check: Callable[[Any], T]) -> dict[str, T]:
    """Check a mapping of names, each entry on its own."""
    if not isinstance(given, Mapping) or not given:
        faults.add(key, f"is missing or empty, got {given!r}")
        return {}
    checked: dict[str, T] = {}
    for name, value in given.items():
        with faults.at(f"{key}.{name}" if str(name).isprintable() else f"{key}.{name!r}"):
            sections.require_name(name)
            if name.casefold() in {other.casefold() for other in checked}:
                raise InputError("another one has this name, but for upper and lower case")
            checked[name] = check(value)
    return checked


def _flag(value: object, protocol: Protocol | None) -> bool:
    if not isinstance(value, bool):
        raise InputError(f"must be true or false, got {value!r}")
    if value and protocol is not None and protocol.dimensions == 2:
        raise InputError("is for volumes; these questions are about 2D images")
    return value


def _images(arms: Mapping[str, Any], protocol: Protocol, faults: _Faults) -> dict[str, ArmImages]:
    images: dict[str, ArmImages] = {}
    owners: dict[Path, tuple[str, str]] = {}
    for name, arm in arms.items():
        with faults.at(f"arms.{name}"):
            found = find_images(arm, dimensions=protocol.dimensions)
            for case, file in found.files.items():
                arm_of, case_of = owners.setdefault(file, (name, case))
                if arm_of != name:
                    raise InputError(f"{case} is the very file of arm {arm_of!r}: {file}")
                if case_of != case:
                    raise InputError(f"{case} and {case_of} are the very same file: {file}")
            images[name] = found
    return images


def _cases(images: Mapping[str, ArmImages], entry: Mapping[str, Any], faults: _Faults) -> list[str]:
    """Return the cases of the study: what ``cases`` says, without those that prepare the readers."""
    known = sorted({case for arm in images.values() for case in arm.files})
    prepared: dict[str, str] = {}
    for phase in PREPARATIONS:
        if entry[phase]:
            arm = images[entry[phase]["arm"]]
            absent = {case for case in entry[phase]["cases"] if arm.path(case) is None}
            if absent:
                faults.add(phase, f"arm {entry[phase]['arm']!r} has no image of {listed(absent)}")
            for case in entry[phase]["cases"]:
                if prepared.setdefault(case, phase) != phase:
                    faults.add(phase, f"{case} is a case of the {prepared[case]} too")
    wanted = entry["cases"] or {}
    unknown = set(wanted.get("only", [])) | set(wanted.get("exclude", []))
    unknown -= {*known, *prepared}
    if unknown:
        faults.add("cases", f"no arm has {listed(unknown)}")
    chosen = [
        case for case in wanted.get("only", known) if case not in {*wanted.get("exclude", ()), *prepared}
    ]
    for name, arm in images.items():
        lacks = set(chosen) - set(arm.files) - unknown
        if lacks:
            faults.add(
                f"arms.{name}",
                f"lacks {len(lacks)} of {len(chosen)} cases: {listed(lacks)}. Remedy: add the images, choose "
                "by 'split', or list the study's cases ('cases: [...]' or 'cases: {exclude: [...]}')",
            )
    return [case for case in chosen if case not in unknown]


def _subjects(cases: list[str], images: Mapping[str, ArmImages], entry: Mapping[str, Any]) -> dict[str, str]:
    if entry["subjects"] == sections.ONE_PER_CASE:
        return {case: case for case in cases}
    known: dict[str, str] = {}
    tables = [(f"arm {name!r}", arm.subjects) for name, arm in images.items()]
    if entry["subjects"]:
        path = Path(entry["subjects"]["file"])
        table = read_cases(path)
        named = dict(zip(table["case"], table["subject"], strict=True))
        absent = [case for case in cases if not named.get(case)]
        if absent:
            raise InputError(f"{path}: names no subject of {listed(absent)}")
        tables = [(str(path), named)]
    for name, table_subjects in tables:
        for case in cases:
            subject = table_subjects.get(case)
            if subject and known.setdefault(case, subject) != subject:
                raise InputError(f"{name} says that {case} is of {subject}, another arm of {known[case]}")
    return subjects_of(cases, known=known)


def _require_unseen(
    phase: str, cases: list[str], subjects: Mapping[str, str], entry: Mapping[str, Any]
) -> None:
    """Require that nobody whose scan prepares the readers is met again."""
    later = {subjects.get(case): (case, "the study") for case in cases}
    if phase == TRAINING and entry[QUALIFICATION]:
        later |= {subjects.get(case): (case, "the qualification") for case in entry[QUALIFICATION]["cases"]}
    for case in entry[phase]["cases"] if entry[phase] else ():
        other, where = later.get(subjects.get(case), (case, ""))
        if case in subjects and other != case:
            raise InputError(
                f"{case} and {other} of {where} are scans of one subject, whose truth readers would know. "
                "Remedy: leave one out ('cases: {exclude: [...]}'), or prepare by another"
            )


def _sessions(
    given: Mapping[str, Any], cases: list[str], subjects: Mapping[str, str], entry: Mapping[str, Any]
) -> int:
    arms, fraction = len(entry["arms"]), entry["duplicate_fraction"]
    scans = Counter(subjects[case] for case in cases)
    subject, most = scans.most_common(1)[0]
    least = least_sessions(arms, scans=most, duplicate_fraction=fraction)
    wanted = given.get("sessions")
    if wanted is None:
        return least
    sections.whole("it", wanted, 1)
    if wanted > max(MOST_SESSIONS, least):
        raise InputError(f"must be {max(MOST_SESSIONS, least)} or less, got {wanted}; {least} are needed")
    if wanted < least:
        why = f"{arms} arms" + (f" x {most} scans of subject {subject}" if most > 1 else "")
        why += f" + {least - arms * most} for hidden duplicates" if fraction else ""
        raise InputError(
            f"must be {least} or more, got {wanted}: {why}, and nobody may be seen twice in a session"
        )
    return int(wanted)


def _source_table(
    images: Mapping[str, ArmImages],
    cases: list[str],
    subjects: Mapping[str, str],
    entry: Mapping[str, Any],
) -> pd.DataFrame:
    rows = []
    for phase in PREPARATIONS:
        if entry[phase]:
            name = entry[phase]["arm"]
            arm = images[name]
            for case in entry[phase]["cases"]:
                rows.append((phase, case, subjects[case], name, str(arm.path(case))))
    rows += [
        (READING, case, subjects[case], name, str(arm.files[case]))
        for case in cases
        for name, arm in images.items()
    ]
    return pd.DataFrame(rows, columns=list(SOURCE_COLUMNS))


def _notes(cases: list[str], truth: Mapping[str, int], entry: Mapping[str, Any]) -> Iterator[str]:
    """Tell what is allowed but will hurt."""
    primary = entry["primary"]
    counts = Counter(truth[case] for case in cases if case in truth)
    for label in MEASURES[primary["metric"]].classes if primary and truth else ():
        if counts[label] < LEAST_OF_CLASS:
            yield (
                f"primary.metric {primary['metric']} needs {LEAST_OF_CLASS} cases or more with truth "
                f"{label}; the study has {counts[label]}"
            )
    if not entry["duplicate_fraction"]:
        yield "no hidden duplicates: agreement within readers cannot be told (duplicate_fraction: 0.1)"
    if len(entry["readers"]) < 2:
        yield "one reader: conclusions hold for this reader alone"
