"""Co-registration of one subject: its contrasts registered, resampled, drawn and written."""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medrestore import __version__
from medrestore.checks import InputError
from medrestore.claims import any_record
from medrestore.data.coregistered import link_or_copy, quality_of, read_oriented, require_orientation
from medrestore.data.identity import scan_name
from medrestore.data.nifti import sidecar_path
from medrestore.data.registration import register_rigid, resample
from medrestore.data.registration_images import FixedHead
from medrestore.data.volumes import nifti_stem, write_volume
from medrestore.domains.multicontrast_mri.acquisition.acquisition import Acquisition
from medrestore.domains.multicontrast_mri.acquisition.channel_volume import read_channels
from medrestore.evaluation.registration_picture import Pictured, draw_registrations
from medrestore.files import atomic_path, sha256_file, write_json

__all__ = [
    "RegistrationRun",
    "SubjectFiles",
    "coregister_subject",
    "has_registered",
    "read_finished",
]

RECORD_NAME = "registration.json"
"""File of a subject's folder with what was found and the checksums of all others; written last."""

PICTURE_NAME = "registration.png"


@dataclass(frozen=True)
class SubjectFiles:
    """A row of the manifest, ready to be sent to another process.

    Parameters
    ----------
    subject_id, session_id
        Whose it is.
    files
        Absolute paths by column: ``input`` (one, or one for each channel), the contrasts that are there, and
        ``lesions`` where there is a mask.
    stated
        What the manifest says of their checksums, likewise; none where it says nothing.
    """

    subject_id: str
    session_id: str
    files: dict[str, tuple[str, ...]]
    stated: dict[str, tuple[str, ...]]

    @property
    def name(self) -> str:
        """Name of the folder."""
        return scan_name(self.subject_id, self.session_id)

    @property
    def contrasts(self) -> dict[str, str]:
        """Paths of the contrasts."""
        return {name: paths[0] for name, paths in self.files.items() if name not in ("input", "lesions")}

    def checksums(self) -> dict[str, list[str]]:
        """Return the checksums of all files, and of the input's sidecars."""
        sidecars = [path for path in map(sidecar_path, self.files["input"]) if path.is_file()]
        return {name: [sha256_file(path) for path in paths] for name, paths in self.files.items()} | {
            "sidecars": [sha256_file(path) for path in sidecars]
        }


@dataclass(frozen=True)
class RegistrationRun:
    """What is the same for all subjects.

    Parameters
    ----------
    folder
        Of the output.
    manifest_folder
        Messages name files relative to it.
    acquisition
        What the channels of the inputs are.
    most_mm
        Displacement above which a registration counts as failed.
    fingerprint
        Of the settings.
    """

    folder: Path
    manifest_folder: Path
    acquisition: Acquisition
    most_mm: float
    fingerprint: str

    def place(self, subject: SubjectFiles) -> Path:
        """Return the folder of a subject."""
        return self.folder / "subjects" / subject.name


def read_finished(run: RegistrationRun, subject: SubjectFiles) -> dict[str, Any] | None:
    """Return the record of a subject that is whole, of the same settings and the same files."""
    place = run.place(subject)
    try:
        record: dict[str, Any] = json.loads((place / RECORD_NAME).read_text(encoding="utf-8"))
        whole = (
            record["fingerprint"] == run.fingerprint
            and isinstance(record["unusable"], list)
            and record["sources"] == subject.checksums()
            and all(sha256_file(place / name) == digest for name, digest in record["sha256"].items())
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return record if whole else None


def has_registered(folder: Path) -> bool:
    """Return whether a co-registration's folder holds a subject none of whose registrations failed."""
    return any_record(folder, f"subjects/*/{RECORD_NAME}", lambda record: not record["failures"])


def coregister_subject(run: RegistrationRun, subject: SubjectFiles) -> tuple[str, dict[str, Any]]:
    """Register, resample, draw and write one subject; return its name and record.

    Images are written only when no registration failed. The record holds what was found
    (``registrations``), what failed and why (``failures``, by column), which of these for their file
    (``unusable``), the names of the linked files (``files``), and checksums of what was read (``sources``)
    and of what lies in the folder (``sha256``).
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    place = run.place(subject)
    place.mkdir(parents=True, exist_ok=True)
    for left in (place / RECORD_NAME, *place.glob(".partial-*")):
        left.unlink(missing_ok=True)
    sources = subject.checksums()
    unusable = _changed(subject, sources)
    failures: dict[str, str] = {}
    found: dict[str, Any] = {}
    pictures: list[Pictured] = []
    if not unusable:
        with threadpool_limits(limits=1):
            found, pictures, unusable = _registered(run, subject, failures)
    failures |= unusable
    files: dict[str, list[str]] = {}
    if not failures:
        files = _linked(subject, place)
        for shown in pictures:
            path = write_volume(shown.after.data, shown.after.source, place / f"{shown.title}.nii.gz")
            files[shown.title] = [path.name]
    made = [name for names in files.values() for name in names] + [PICTURE_NAME] * bool(pictures)
    record = {
        "version": __version__,
        "fingerprint": run.fingerprint,
        "subject_id": subject.subject_id,
        "session_id": subject.session_id,
        "sources": sources,
        "registrations": found,
        "failures": failures,
        "unusable": list(unusable),
        "files": files,
        "sha256": {name: sha256_file(place / name) for name in made},
    }
    write_json(place / RECORD_NAME, record)
    return subject.name, record


def _changed(subject: SubjectFiles, found: dict[str, list[str]]) -> dict[str, str]:
    """Return which columns' files have other checksums than the manifest says."""
    return {
        name: f"has checksum {', '.join(found[name])}, the manifest says {', '.join(stated)}"
        for name, stated in subject.stated.items()
        if stated and list(stated) != found[name]
    }


def _registered(
    run: RegistrationRun, subject: SubjectFiles, failures: dict[str, str]
) -> tuple[dict[str, Any], list[Pictured], dict[str, str]]:
    """Register and resample all contrasts, and draw them; return which columns' files are of no use too.

    What else fails is added to ``failures``, by column.
    """
    found: dict[str, Any] = {}
    pictures: list[Pictured] = []
    unusable: dict[str, str] = {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a missing orientation is refused instead
            volume = read_channels(subject.files["input"], run.acquisition)
        reference = require_orientation(volume.reference(run.acquisition))
        head = FixedHead.of(reference)
    except InputError as error:
        return found, pictures, {"input": _told(error, run)}
    for name, path in subject.contrasts.items():
        try:
            moving = read_oriented(path)
            registration = register_rigid(moving, head, most_mm=run.most_mm)
        except InputError as error:
            unusable[name] = _told(error, run)
            continue
        resampled = resample(moving, reference, matrix=registration.matrix)
        found[name] = quality_of(registration, outside=resampled.outside)
        pictures.append(Pictured(name, moving, registration, replace(reference, data=resampled.data)))
        if registration.failure:
            failures[name] = registration.failure
    if pictures:
        with atomic_path(run.place(subject) / PICTURE_NAME) as temporary:
            draw_registrations(
                reference, pictures, head_mm=head.points_mm, title=subject.name, path=temporary
            )
    return found, pictures, unusable


def _told(error: InputError, run: RegistrationRun) -> str:
    """Return a message with paths relative to the manifest."""
    return str(error).replace(f"{run.manifest_folder}{os.sep}", "")


def _linked(subject: SubjectFiles, place: Path) -> dict[str, list[str]]:
    """Link input, its sidecars and the lesions into the subject's folder; return their names there."""
    inputs = [Path(path) for path in subject.files["input"]]
    stems = [f"input_{index:02d}" for index in range(len(inputs))] if len(inputs) > 1 else ["input"]
    pairs = [("input", path, stem + _ending(path)) for path, stem in zip(inputs, stems, strict=True)]
    sidecars = [(sidecar_path(path), f"{stem}.json") for path, stem in zip(inputs, stems, strict=True)]
    pairs += [("sidecars", path, name) for path, name in sidecars if path.is_file()]
    lesions = map(Path, subject.files.get("lesions", ()))
    pairs += [("lesions", path, f"lesions{_ending(path)}") for path in lesions]
    names: dict[str, list[str]] = {}
    for column, path, name in pairs:
        link_or_copy(path, place / name)
        names.setdefault(column, []).append(name)
    return names


def _ending(path: Path) -> str:
    return path.name[len(nifti_stem(path)) :].lower()
