"""Patients told by names of slides and folders, and the ways to write one."""

from __future__ import annotations

import pytest

from medrestore.checks import InputError
from medrestore.domains.histology.slides.patients import (
    compile_pattern,
    matched_patient,
    named_patient,
    patient_key,
)


@pytest.mark.parametrize(
    ("stem", "patient"),
    [
        ("TCGA-18-5592-01Z-00-DX1.0f2c", "TCGA-18-5592"),
        ("TCGA-18-5592", "TCGA-18-5592"),
        ("tcga-cr-7000-01a-01-ts0", "TCGA-CR-7000"),
        ("HE_TCGA.18.5592.01Z", "TCGA-18-5592"),
        ("C3L-00001-21", "C3L-00001"),
        ("c3n-02000-22_HE", "C3N-02000"),
        ("GTEX-1117F-0126", "GTEX-1117F"),
        ("TARGET-30-PAKXDC-01A", "TARGET-30-PAKXDC"),
        ("HCM-BROD-0001-C71-01A", "HCM-BROD-0001"),
        ("S19-1000 A1", "S19-1000"),
        ("S19-1000_A1_HE", "S19-1000"),
        ("s19-1000.B", "S19-1000"),
        ("S19\u20111000 A1", "S19-1000"),  # a hyphen that does not break
        ("HE_S19-1000-2", "S19-1000"),
        ("H21.0123.A", "H21.0123"),
        ("19S1000-A1", "19S1000"),
        ("19-S-01234-A1", "19-S-01234"),
        ("SP19-0012345;1", "SP19-0012345"),
        ("S_2019_1000_A1", "S_2019_1000"),
        ("S19-123 A1", "S19-123"),
        ("NB19-001.1", "NB19-001"),
        ("01BR001-d2f1", "01BR001"),
        ("S19-1000.12ab3456-1111-2222-3333-7734c7fde805", "S19-1000"),
        ("patient_007_node_1", "patient_007"),
        ("patient007_node1_a", "patient007"),
        ("Case 12 - HE", "Case 12"),
        ("sub-01_stain-HE", "sub-01"),
        ("p0_a", "p0"),
        ("21-012345_1A", "21-012345"),  # a year and a number
        ("p10_201", "p10"),  # tile 201 of patient 10, no accession number of a laboratory P
    ],
)
def test_names_that_tell_their_patient(stem, patient):
    told = named_patient(stem)
    assert told.patient == patient
    assert told.rule


@pytest.mark.parametrize(
    "stem",
    [
        "TCGA-18-55921-01Z",  # no barcode: its third field has five characters
        *("tumor-12", "tumor_001", "_odd", "slide_001", "CMU-1", "a"),
        *("HE_001", "KI67_001", "CD3_001", "20x_001", "2021-03-05_001"),  # stains, magnifications, dates
        "1.2.840.113619.2.55.3",
        *("P1-CD3_1", "12345-2_HE", "21-012345-1A_HE", "P1B_1"),  # a block or stain, maybe
        *("slide1_P001", "HE2_P001", "block 3_P001"),  # of patient P001
        *("A01-100", "p10-201"),  # a tile of a patient, as likely as an accession number
        *("12ab3456-1111-2222-3333-7734c7fde805", "12ab3456789c3d27dda1494c73cf256d"),
    ],
)
def test_names_that_tell_nothing_stand_for_themselves(stem):
    assert named_patient(stem) == (stem, "")


@pytest.mark.parametrize(
    ("folders", "stem", "patient"),
    [
        (("P7", "block 1"), "HE", "P7"),
        (("train", "P7"), "KI67_001", "P7"),
        (("f2a0b1c2-0000-4000-8000-0123456789ab",), "TCGA-18-5592-01Z", "TCGA-18-5592"),
        (("tumor",), "S19-1000 A1", "S19-1000"),
        (("S19-1000",), "A1", "S19-1000"),
        (("TCGA-18-5592", "slides"), "one", "TCGA-18-5592"),
        (("center_0",), "patient_007_node_1", "patient_007"),
        (("batch 2",), "p0_a", "p0"),
        (("P7",), "1_HE", "P7"),
    ],
)
def test_folders_tell_where_names_are_no_identifiers(folders, stem, patient):
    assert named_patient(stem, folders=folders).patient == patient


def test_patient_id_of_dicom_comes_before_folders():
    assert named_patient("1.2.3", folders=("collection",), dicom="patient-1f").patient == "patient-1f"
    assert named_patient("S19-1000 A1", dicom="patient-1f").patient == "patient-1f"  # who may have several
    assert named_patient("TCGA-18-5592-01Z", dicom="patient-1f").patient == "TCGA-18-5592"


@pytest.mark.parametrize(
    "writings",
    [
        (
            "S19-1000",
            "s19-1000",
            "S19.1000",
            "S19-01000",
            "S2019-1000",
            "19S1000",
            "S19-1000 A1",
            "S 19 1000",
        ),
        ("TCGA-18-5592", "tcga-18-5592-01z", "TCGA_18_5592"),
        ("sub-01", "SUB_1", "sub 01 ", "sub01"),
        ("patient_007", "Patient 7"),
        ("M\u00fcller", "Mu\u0308ller"),
    ],
)
def test_writings_of_one_patient(writings):
    assert len({patient_key(name) for name in writings}) == 1


def test_other_patients_stay_apart():
    names = (
        "S19-1000",
        "S19-1001",
        "H19-1000",
        "S20-1000",
        "p1",
        "p11",
        "p1-1",
        "US01-001-002",
        "US01-001-003",
    )
    assert len({patient_key(name) for name in names}) == len(names)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        (r"a_\d", r"must have one group, got 0\. Remedy"),
        (r"(a)_(\d)", r"must have one group, got 2\. Remedy"),
        (r"(a", r"is no regular expression: .*Remedy"),
    ],
)
def test_patterns_that_do_not_serve(pattern, words):
    with pytest.raises(InputError, match=words):
        compile_pattern(pattern)


def test_patterns():
    assert matched_patient(compile_pattern(r"^(tumor_\d+)"), "tumor_001_a") == ("tumor_001", "pattern")
    assert matched_patient(compile_pattern(r"(x*)a"), "a_1") is None
    assert matched_patient(compile_pattern(r"^[^/]+/([^/]+)/"), "a", folders=("site", "P1")) == (
        "P1",
        "pattern",
    )
