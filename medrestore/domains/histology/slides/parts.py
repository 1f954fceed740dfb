"""Slides that are several files: which files are one slide, by what it is known again, and its checksum."""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from medrestore.checks import fail
from medrestore.files import sha256_file

__all__ = ["SlideGroup", "group_files", "require_slide", "slide_checksum", "slide_identity", "slide_parts"]

_WHOLE_SLIDE_IMAGE = "1.2.840.10008.5.1.4.1.1.77.1.6"
_DICOM_TAGS = (
    *("SOPClassUID", "SeriesInstanceUID", "ImageType", "PatientID", "TotalPixelMatrixColumns"),
    "TotalPixelMatrixRows",
)
_INDEX_BYTES = 1 << 20
"""Of a Hamamatsu index, which is a few kB of text."""

_NOBODY = re.compile(
    r"(anon(ymous|ymized|ymised)?|unknown|none|nobody|n/?a|patient|test|[0x*]*)", re.IGNORECASE
)
"""PatientIDs that stand for no patient."""
_HAMAMATSU_PIXELS = r"(?:ImageFile(?:\([\d,]+\))?|MapFile)"
_HAMAMATSU_PARTS = rf"(?:{_HAMAMATSU_PIXELS}|OptimisationFile|MacroImage)"


@dataclass(frozen=True)
class SlideGroup:
    """The files of one slide.

    Parameters
    ----------
    path : Path
        The file that it is opened by.
    patient : str
        Pseudonym of DICOM's PatientID, empty where there is none.
    fault : str
        Why it cannot be looked into; empty where it can.
    is_slide : bool
        Whether it is more than the label, the overview or the thumbnail of a slide.
    """

    path: Path
    patient: str = ""
    fault: str = ""
    is_slide: bool = True


@dataclass(frozen=True)
class _Dicom:
    """What the header of a file of a DICOM slide says."""

    series: str
    flavor: str
    patient: str
    pixels: int


def group_files(files: Iterable[Path]) -> list[SlideGroup]:
    """Return one group for each slide among some files, sorted by path.

    The files of a DICOM series in one folder are one slide, opened by its finest level; labels, overviews and
    thumbnails are none, and a series that holds nothing else is no slide. Pictures that a Hamamatsu index
    (.vms, .vmu) names are parts of its slide.
    """
    listed = sorted(set(files))
    parts: set[Path] = set()
    for path in listed:
        if path.suffix.lower() in (".vms", ".vmu"):
            parts.update(part for part in slide_parts(path) if part != path)
    groups: list[SlideGroup] = []
    series: dict[tuple[Path, str], list[tuple[Path, _Dicom]]] = {}
    for path in listed:
        header = _dicom(path)
        if header is not None:
            series.setdefault((path.parent, header.series), []).append((path, header))
        elif path not in parts:
            groups.append(SlideGroup(path))
    for members in series.values():
        volumes = [(header.pixels, path) for path, header in members if header.flavor == "VOLUME"]
        patient = members[0][1].patient
        if volumes:
            finest = max(pixels for pixels, _ in volumes)
            path = min(path for pixels, path in volumes if pixels == finest)
            groups.append(SlideGroup(path, patient))
        else:
            groups.append(SlideGroup(members[0][0], patient, is_slide=False))
    return sorted(groups, key=lambda group: group.path)


def require_slide(path: str | os.PathLike[str]) -> None:
    """Require a file that is a slide with all its parts, as far as headers and names tell.

    Raises
    ------
    InputError
        When there is no such file, it is the label, overview or thumbnail of a slide, or a part is missing.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if path.is_symlink() and not path.exists():
        fail(
            "is a link that leads nowhere", path=path, remedy="put the slide where it leads, or take it away"
        )
    if not path.is_file():
        fail("no such file, expected a slide or picture", path=path)
    header = _dicom(path)
    if header is not None and header.flavor != "VOLUME":
        what = header.flavor.lower() or "unnamed picture"
        fail(f"is the {what} of a slide, and no slide", path=path, remedy="name a level of the slide")
    if suffix == ".mrxs" and not path.with_suffix("").is_dir():
        fail(
            f"lacks its folder {path.stem}, which holds its pixels",
            path=path,
            remedy="copy it beside the file",
        )
    if suffix in (".vms", ".vmu"):
        missing = [name for name in _named_by(path, _HAMAMATSU_PIXELS) if not (path.parent / name).is_file()]
        if missing:
            fail(f"lacks {missing[0]}, a picture that it names", path=path, remedy="copy it beside the file")


def slide_parts(path: str | os.PathLike[str]) -> tuple[Path, ...]:
    """Return the files whose pixels are those of a slide, sorted; most slides are one file.

    Parameters
    ----------
    path : path
        A slide, in any format.

    Returns
    -------
    tuple of Path
        Of MIRAX the file and its folder's, of a Hamamatsu index the files that it names, of DICOM the levels
        of the series that lie in one folder, without label and overview.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".mrxs":
        folder = path.with_suffix("")
        inside = [file for file in folder.rglob("*") if file.is_file()] if folder.is_dir() else []
        return (path, *sorted(inside))
    if suffix in (".vms", ".vmu"):
        named = (path.parent / name for name in _named_by(path, _HAMAMATSU_PARTS))
        return (path, *(file for file in named if file.is_file()))
    header = _dicom(path)
    if header is None or header.flavor != "VOLUME":
        return (path,)
    levels = [
        file
        for file in path.parent.iterdir()
        if file.is_file()
        and (other := _dicom(file))
        and (other.series, other.flavor) == (header.series, "VOLUME")
    ]
    return tuple(sorted({path, *levels}))


def slide_checksum(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a slide's bytes in hexadecimal, over all its files where it has several.

    Notes
    -----
    Of several files it is the sum of their sums, in the sums' order: renaming files does not change it.
    """
    parts = slide_parts(path)
    if len(parts) == 1:
        return sha256_file(path)
    return hashlib.sha256("\n".join(sorted(map(sha256_file, parts))).encode()).hexdigest()


def slide_identity(path: str | os.PathLike[str]) -> str:
    """Return what two copies of a slide have in common, whatever they are called.

    It is the series of a DICOM slide, else OpenSlide's quick hash, of the coarsest level and of the
    properties, which a copy without its label keeps; the checksum of what OpenSlide does not know.
    """
    import openslide

    header = _dicom(Path(path))
    if header is not None:
        return f"series {header.series}"
    try:
        if openslide.OpenSlide.detect_format(str(path)):
            with openslide.OpenSlide(str(path)) as slide:
                if quick := slide.properties.get(openslide.PROPERTY_NAME_QUICKHASH1):
                    return f"quickhash {quick}"
    except openslide.OpenSlideError:
        pass  # who opens it to read it tells why
    return slide_checksum(path)


def _named_by(index: Path, keys: str) -> list[str]:
    """Return the names of files that a Hamamatsu index has under some keys."""
    try:
        text = index.read_bytes()[:_INDEX_BYTES].decode("utf-8", errors="replace")
    except OSError:
        return []
    return sorted({name.strip() for name in re.findall(f"^{keys}=(.+)$", text, re.MULTILINE)})


def _dicom(path: Path) -> _Dicom | None:
    """Return the header of a file of a DICOM slide, None of any other file."""
    if path.suffix.lower() != ".dcm":
        return None
    try:
        status = path.stat()
    except OSError:
        return None
    return _dicom_header(str(path), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=1 << 16)
def _dicom_header(path: str, size: int, modified_ns: int) -> _Dicom | None:
    del size, modified_ns  # a file that changed is read again
    import pydicom

    try:
        with warnings.catch_warnings():  # what is odd about a header is not the user's to mend
            warnings.simplefilter("ignore")
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_DICOM_TAGS))
        if str(header.get("SOPClassUID", "")) != _WHOLE_SLIDE_IMAGE:
            return None
        kinds = list(header.get("ImageType", None) or ())
        patient = str(header.get("PatientID", "") or "").strip()
        pixels = int(header.get("TotalPixelMatrixColumns", 0) or 0) * int(
            header.get("TotalPixelMatrixRows", 0) or 0
        )
        return _Dicom(
            series=str(header.get("SeriesInstanceUID", "")),
            flavor=str(kinds[2]).upper() if len(kinds) > 2 else "VOLUME",
            patient=_pseudonym(patient),
            pixels=pixels,
        )
    except Exception:  # pydicom raises whatever a damaged header makes it meet
        return None


def _pseudonym(patient: str) -> str:
    """Return a name that tells one PatientID from another without naming it; a barcode is its own."""
    if _NOBODY.fullmatch(patient):
        return ""
    return f"patient-{hashlib.sha256(patient.encode()).hexdigest()[:12]}"
