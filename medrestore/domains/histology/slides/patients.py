"""Which patient a slide is of: what names of files and folders tell, and when two names are one patient's."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from medrestore.checks import InputError
from medrestore.data.texts import alike, plain_text

__all__ = [
    "ACCESSION",
    "PATIENT_RULES",
    "Told",
    "compile_pattern",
    "matched_patient",
    "named_patient",
    "patient_folder",
    "patient_key",
]

PATIENT_RULES = (
    "the barcode of TCGA, CPTAC, GTEx, TARGET or HCMI in its name, else in a folder's (C3L-00001-21: "
    "C3L-00001); DICOM's PatientID, as a pseudonym; an accession number (S19-1000 A1, H21.0123.A, "
    "19S1000-A1: all before the block); patient, case, subject, sub or donor with a number "
    "(patient_007_node_1: patient_007); the folder below the one that is given; all before the first "
    "underscore, where it ends in its one number (p12_a: p12)"
)
"""The rules in the order in which they are tried, for texts of help."""


ACCESSION = "accession number"
"""The rule that tells a case, of which a patient may have several."""


class Told(NamedTuple):
    """A patient, and the rule that told it; an empty rule where the name is the slide's own."""

    patient: str
    rule: str


_BEGIN = r"(?<![A-Za-z0-9])"
_BARCODES = tuple(
    re.compile(_BEGIN + pattern, re.IGNORECASE)
    for pattern in (
        r"(TCGA)[-_. ]([A-Z0-9]{2})[-_. ]([A-Z0-9]{4})(?![A-Z0-9])",
        r"(C3[LN])[-_. ](\d{5})(?!\d)",
        r"(GTEX)[-_. ]([A-Z0-9]{4,5})(?![A-Z0-9])",
        r"(TARGET)[-_. ](\d{2})[-_. ]([A-Z0-9]{6})(?![A-Z0-9])",
        r"(HCM)[-_. ]([A-Z]{4})[-_. ](\d{4})(?![A-Z0-9])",
    )
)

_LABORATORY = r"(?!(?:HE|IHC|IMG|DSC|ROI|SVS|WSI|TMA|X)[^A-Z])(?P<laboratory>[A-Z]{1,3})"
_YEAR = r"(?P<year>(?:19|20)?\d{2})"
# Three digits with nothing behind them may be anything: A01-100 a tile of patient A01.
_NUMBER = r"(?P<number>\d{4,8}|\d{3}(?=[-_. ;(]*[A-Z]|[-_. ;(]+\d))"
_ACCESSIONS = tuple(
    re.compile(_BEGIN + pattern, re.IGNORECASE)
    for pattern in (
        # An underscore stands in names for much else: p10_201 may be a tile of patient 10.
        rf"{_LABORATORY}[-_. ]?{_YEAR}(?:[-. ]{_NUMBER}|_(?P<longer>\d{{4,8}}))(?!\d)",
        rf"{_YEAR}{_LABORATORY}[-. ]?{_NUMBER}(?!\d)",
        rf"{_YEAR}[-. ]{_LABORATORY}[-. ](?P<number>\d{{4,8}})(?!\d)",
    )
)
_HASH = re.compile(
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?<![0-9a-z])[0-9a-f]{16,}(?![0-9a-z])", re.IGNORECASE
)
"""Names that programs make up, which hold any letters and digits."""
_BLOCK = re.compile(r"[-_. ;]*(?:[A-Z]{1,2}\d{0,3}(?:[-_. ;].*)?)?", re.IGNORECASE)

_NUMBERED = re.compile(_BEGIN + r"(?:patient|pat|pt|case|subject|subj|sub|donor)s?[-_. ]*\d+", re.IGNORECASE)
# A name with one number, at its end, or a program's: what follows a number may be a block or a stain of the
# patient (12345-2_HE, P1-CD3_1, P1B_HE), except behind a year (21-012345_HE).
_BEFORE_UNDERSCORE = re.compile(
    rf"((?:(?:19|20)?\d{{2}}[-. ](?=\d{{3}}))?[^\d_]*\d+|{_HASH.pattern})\s*_", re.IGNORECASE
)
_NO_PATIENT = re.compile(
    # Magnifications and stains, parts of a patient, years and dates.
    r"\d+x|(he|h&e|h\+e|ihc)[-. ]?\d*|cd\d+[a-z]?|ki-?67|her-?2(neu)?|pd-?l?1|ck\d+|er|pr|"
    r"(slide|image|img|scan|block|section|level|roi|region|core|tma)s?[-. ]?\d+|"
    r"(19|20)\d\d([-.]?\d\d([-.]?\d\d)?)?",
    re.IGNORECASE,
)
_NO_PATIENT_FOLDER = re.compile(
    r"train(ing)?|val(id(ation)?)?|tun(e|ing)|test(ing)?|"
    r"(fold|batch|cent(er|re)|site|scanner|hospital|lab|cohort|part|set|group|run|export)s?[-_ ]?[a-z]?\d*|"
    r"aperio|hamamatsu|leica|philips|3d-?histech|ventana|roche|zeiss|olympus|motic|grundium|huron|"
    r"slides?|wsis?|images?|pictures?|scans?|svs|ndpi|tiffs?|dicom|data|tumou?rs?|normals?|benign|malignant|"
    r"cancer|healthy|positive|negative|"
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[\d.]{20,}",  # folders of GDC's downloads, UIDs of DICOM
    re.IGNORECASE,
)


def named_patient(stem: str, *, folders: Sequence[str] = (), dicom: str = "") -> Told:
    """Return the patient that the name of a slide, or where it lies, tells.

    Parameters
    ----------
    stem : str
        Name of the file without suffix.
    folders : sequence of str
        Names of the folders between the one that was given and the file, from the outside in.
    dicom : str
        Pseudonym of the PatientID; empty where there is none.

    Returns
    -------
    Told
        By the first rule of :data:`PATIENT_RULES` that applies; the stem itself, and no rule, where none
        does.

    Notes
    -----
    A barcode or accession number is sought in the folders too before a folder is taken for a patient: portals
    put every slide into a folder of its own. Of folders the outermost is taken, for what lies below may be
    stains or blocks of one patient; folders named after splits, classes, batches or stains are passed over.

    Examples
    --------
    >>> named_patient("TCGA-18-5592-01Z-00-DX1")
    Told(patient='TCGA-18-5592', rule='TCGA barcode')
    >>> named_patient("h21.0123.A").patient, named_patient("patient_007_node_1").patient
    ('H21.0123', 'patient_007')
    >>> named_patient("HE", folders=("train", "P7", "block 1"))
    Told(patient='P7', rule='folder')
    >>> named_patient("tumor_001")
    Told(patient='tumor_001', rule='')
    """
    names = [_plain(text) for text in (stem, *reversed(folders))]
    told = next(filter(None, map(_barcode, names)), None)
    if told is None and dicom:
        told = Told(dicom, "PatientID")
    if told is None:
        told = next(filter(None, map(_identifier, names)), None)
    if told is not None:
        return told
    if folder := patient_folder(folders):
        return Told(folder, "folder")
    found = _BEFORE_UNDERSCORE.match(_plain(stem))
    if found and not _NO_PATIENT.fullmatch(found.group(1)):
        return Told(found.group(1).strip(), "the part before the underscore")
    return Told(stem, "")


def patient_folder(folders: Sequence[str]) -> str:
    """Return the outermost folder whose name may be a patient's; empty where there is none.

    >>> patient_folder(("train", "P7", "HE")), patient_folder(("tumor", "batch 2"))
    ('P7', '')
    """
    for folder in map(_plain, folders):
        if not (_NO_PATIENT_FOLDER.fullmatch(folder) or _NO_PATIENT.fullmatch(folder)):
            return folder
    return ""


def _barcode(text: str) -> Told | None:
    for pattern in _BARCODES:
        if found := pattern.search(text):
            program = found.group(1).upper()
            kind = "CPTAC" if program.startswith("C3") else {"HCM": "HCMI"}.get(program, program)
            return Told("-".join(found.groups()).upper(), f"{kind} barcode")
    return None


def _identifier(text: str) -> Told | None:
    """Return the patient by an accession number, or the number of a patient or case."""
    for pattern in _ACCESSIONS:
        if found := pattern.search(_HASH.sub(" ", text)):
            return Told(found.group().upper(), ACCESSION)
    found = _NUMBERED.search(text)
    return Told(found.group(), "number of patient or case") if found else None


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Return a pattern of patients, compiled.

    Raises
    ------
    InputError
        When it is no regular expression or has not one group.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(
            f"patient_pattern {pattern!r} is no regular expression: {error}. "
            r"Remedy: write, for instance, '^(S\d+-\d+)'"
        ) from error
    if compiled.groups != 1:
        raise InputError(
            f"patient_pattern {pattern!r} must have one group, got {compiled.groups}. Remedy: put "
            "parentheses around the part that names the patient, and (?:...) around others"
        )
    return compiled


def matched_patient(pattern: re.Pattern[str], stem: str, *, folders: Sequence[str] = ()) -> Told | None:
    r"""Return what the group of a pattern finds in a slide's name, None where it finds nothing.

    A pattern with a slash is sought in the name with its folders before it (``P1/HE/block``), any other in
    the name alone.

    Examples
    --------
    >>> matched_patient(compile_pattern(r"^(\w+)/"), "a", folders=("P1", "HE")).patient
    'P1'
    >>> matched_patient(compile_pattern(r"case(\d+)"), "a_1") is None
    True
    """
    found = pattern.search("/".join((*folders, stem)) if "/" in pattern.pattern else stem)
    name = (found.group(1) or "").strip() if found else ""
    return Told(name, "pattern") if name else None


def patient_key(name: str) -> str:
    """Return what all ways to write a patient's name have in common.

    Case, width of letters, separators and zeros in front of a number are no difference; of an accession
    number and a barcode, neither is the block or sample behind it.

    Examples
    --------
    >>> {patient_key(name) for name in ("S19-1000", "s19-01000 A1", "S2019.1000", "19S1000")}
    {'s19-1000'}
    >>> patient_key("Sub_01 ") == patient_key("sub-1"), patient_key("a") == patient_key("b")
    (True, False)
    """
    text = _plain(name)
    for pattern in _BARCODES:
        if found := pattern.match(text):
            return "-".join(found.groups()).casefold()
    folded = alike(text)
    for pattern in _ACCESSIONS:
        found = pattern.match(text) or pattern.match(folded)
        if found and _BLOCK.fullmatch(found.string, found.end()):
            number = found.group("number") or found.groupdict().get("longer")
            return f"{found.group('laboratory')}{found.group('year')[-2:]}-{int(number or 0)}".casefold()
    return re.sub(r"(?<=[^\W\d_])-(?=\d)", "", folded)


def _plain(text: str) -> str:
    """Return a text with one form of letters, dashes and spaces, and none around it."""
    return re.sub(r"[\u2010-\u2015\u2212]", "-", unicodedata.normalize("NFKC", plain_text(text)))
