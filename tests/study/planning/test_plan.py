"""Plans: the normal form, where images, subjects and truth come from, and every fault by its key."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from medrestore.checks import InputError
from medrestore.study.planning.plan import SOURCE_COLUMNS, Plan, read_plan

CASES = [f"sub-{number:02}_ses-01" for number in range(8)]
ARMS = ("standard", "low_dose", "gan")
PLAN: Mapping[str, Any] = {
    "title": "Brain PET, winter reading",
    "seed": 20261121,
    "arms": {arm: arm for arm in ARMS},
    "truth": {"file": "truth.csv"},
    "readers": ["reader_1", "reader_2"],
    "questions": "florbetaben",
}
PRIMARY = {"metric": "error_rate", "arm": "gan", "reference": "standard"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with three arms of eight cases, one image a case, and their truth."""
    for arm in ARMS:
        (tmp_path / arm).mkdir()
        for case in CASES:
            ending = "_restored.nii.gz" if arm == "gan" else ".nii.gz"
            (tmp_path / arm / f"{case}{ending}").write_bytes(b"")
    pd.DataFrame({"case": CASES, "truth": [0, 1] * 4}).to_csv(tmp_path / "truth.csv", index=False)
    return tmp_path


@pytest.fixture
def plan(folder: Path) -> Callable[..., Plan]:
    """Return what reads the plan with some keys changed; None leaves a key out."""

    def read(more: Mapping[Any, Any] | None = None, /, **changes: Any) -> Plan:
        entry = {**PLAN, **(more or {}), **changes}
        entry = {key: value for key, value in entry.items() if value is not None}
        (folder / "plan.yaml").write_text(yaml.safe_dump(entry, sort_keys=False))
        return read_plan(folder / "plan.yaml")

    return read


def refused(plan: Callable[..., Plan], more: Mapping[Any, Any] | None = None, /, **changes: Any) -> list[str]:
    """Return the faults of a changed plan, one a line, without the file in front."""
    with pytest.raises(InputError) as caught:
        plan(more, **changes)
    first, *lines = str(caught.value).splitlines()
    file, _, fault = first.partition("plan.yaml: ")
    assert file, "every message begins with the file"
    if lines:
        assert fault == f"{len(lines)} problems"
    return [line.strip() for line in lines] or [fault]


# The normal form


def test_a_short_plan_has_every_default(plan, folder):
    read = plan()
    assert read.entry == {
        "title": "Brain PET, winter reading",
        "seed": 20261121,
        "arms": {arm: {"images": "folder", "folder": str(folder / arm)} for arm in ARMS},
        "truth": {"file": str(folder / "truth.csv")},
        "cases": CASES,
        "subjects": None,
        "readers": {"reader_1": {"kind": "human"}, "reader_2": {"kind": "human"}},
        "questions": "florbetaben",
        "sessions": 3,
        "washout_days": 14,
        "duplicate_fraction": 0,
        "guess": None,
        "deface": False,
        "training": None,
        "qualification": None,
        "primary": None,
    }
    assert json.loads(json.dumps(read.entry)) == read.entry
    assert read.text == (folder / "plan.yaml").read_text()
    assert read.truth == dict(zip(CASES, [0, 1] * 4, strict=True))
    assert read.protocol.title == "Brain PET, winter reading"


def test_every_section_in_its_normal_form(plan, folder):
    read = plan(
        readers={"anna": {"kind": "human"}, "net": {"kind": "model"}, "ben": None},
        sessions=6,
        washout_days=21,
        duplicate_fraction=0.1,
        deface=True,
        guess={"A full scan": ["standard"], "A short scan": ["low_dose"], "A processed scan": ["gan"]},
        training={"arm": "standard", "cases": [CASES[0]]},
        qualification={"arm": "low_dose", "cases": CASES[1:3]},
        primary={**PRIMARY, "metric": "auc", "margin": 0.05, "covariance": "delong"},
    )
    assert read.entry["readers"] == {
        "anna": {"kind": "human"},
        "net": {"kind": "model"},
        "ben": {"kind": "human"},
    }
    assert (read.entry["sessions"], read.entry["washout_days"]) == (6, 21)
    assert read.entry["deface"] is True
    assert read.entry["training"] == {"arm": "standard", "cases": [CASES[0]]}
    assert read.entry["qualification"] == {
        "arm": "low_dose",
        "cases": CASES[1:3],
        "pass_mark": 0.8,
        "attempts": 2,
    }
    assert read.entry["primary"] == {
        "metric": "auc",
        "arm": "gan",
        "reference": "standard",
        "margin": 0.05,
        "alpha": 0.05,
        "covariance": "delong",
    }
    assert read.entry["cases"] == CASES[3:]


def test_the_guess_becomes_the_last_question(plan):
    labels = {"A full scan": ["standard"], "Something else": ["low_dose", "gan"]}
    question = plan(guess=labels).protocol.questions[-1]
    assert (question.name, question.type, question.required) == ("guess", "choice", True)
    assert question.options == {1: "A full scan", 2: "Something else", 3: "I cannot tell"}
    assert plan().protocol.questions[-1].name != "guess"


def test_sources_are_training_qualification_and_every_case_in_every_arm(plan, folder):
    sources = plan(
        training={"arm": "standard", "cases": [CASES[5]]},
        qualification={"arm": "gan", "cases": [CASES[2]]},
        cases=[CASES[7], CASES[0], CASES[5]],
    ).sources
    assert tuple(sources.columns) == SOURCE_COLUMNS
    expected = [
        ("training", CASES[5], "sub-05", "standard", str(folder / "standard" / f"{CASES[5]}.nii.gz")),
        ("qualification", CASES[2], "sub-02", "gan", str(folder / "gan" / f"{CASES[2]}_restored.nii.gz")),
    ]
    for number in (7, 0):
        for arm in ARMS:
            name = CASES[number] + ("_restored" if arm == "gan" else "")
            path = str(folder / arm / f"{name}.nii.gz")
            expected.append(("reading", CASES[number], f"sub-{number:02}", arm, path))
    assert list(sources.itertuples(index=False, name=None)) == expected


@pytest.mark.parametrize(
    ("fraction", "arms", "sessions"), [(0, ARMS, 3), (0.1, ARMS, 4), (0.3, ARMS, 4), (0.1, ARMS[:2], 3)]
)
def test_sessions_are_the_fewest_possible(plan, fraction, arms, sessions):
    assert plan(duplicate_fraction=fraction, arms={arm: arm for arm in arms}).entry["sessions"] == sessions


def test_questions_may_be_a_file_or_stand_in_the_plan(plan, folder):
    own = {"title": "Not this one", "questions": [{"name": "seen", "text": "Seen?", "type": "yes_no"}]}
    (folder / "own").mkdir()
    (folder / "own" / "my.yaml").write_text(yaml.safe_dump(own))
    read = plan(questions="own/my.yaml", truth=None)
    assert read.entry["questions"] == str(folder / "own" / "my.yaml")
    assert [question.name for question in read.protocol.questions] == ["seen"]
    read = plan(questions=own, truth=None)
    assert read.entry["questions"] == own
    assert read.protocol.title == PLAN["title"]
    assert read.entry["truth"] is None
    assert read.truth == {}


def test_a_consensus_needs_no_truth_beforehand(plan):
    read = plan(truth={"consensus_of": "standard"})
    assert read.entry["truth"] == {"consensus_of": "standard", "ties": "refuse"}
    assert read.truth == {}
    assert plan(truth={"consensus_of": "gan", "ties": "exclude"}).entry["truth"]["ties"] == "exclude"


def test_the_arm_that_is_the_truth_cannot_be_judged_by_it(plan):
    truth = {"consensus_of": PRIMARY["reference"]}
    with pytest.raises(InputError, match=r"primary: error_rate cannot be compared with arm '\w+', whose"):
        plan(truth=truth, primary={**PRIMARY, "metric": "error_rate"})
    assert plan(truth=truth, primary={**PRIMARY, "metric": "mean_rating"}).entry["primary"] is not None


# Images


def test_maps_beside_restorations_are_no_images(plan, folder):
    (folder / "gan" / f"{CASES[0]}_standard_deviation.nii.gz").write_bytes(b"")
    (folder / "gan" / f"{CASES[0]}_restored.json").write_text("{}")
    (folder / "gan" / ".partial-1-x.nii.gz").write_bytes(b"")
    assert plan().entry["cases"] == CASES


def test_2d_studies_take_png_and_tiff(plan, folder):
    for arm in ("plain", "net"):
        (folder / arm).mkdir()
        for case in ("field-a", "field-b"):
            (folder / arm / f"{case}.{'png' if arm == 'plain' else 'TIFF'}").write_bytes(b"")
    read = plan(arms={"plain": "plain", "net": "net"}, questions="histology", truth=None)
    assert read.entry["cases"] == ["field-a", "field-b"]
    assert refused(plan, questions="histology", truth=None)[0].startswith(
        f"arms.standard: {folder / 'standard'}: holds no file that ends in .png, .tif, .tiff"
    )
    assert "deface: is for volumes" in refused(plan, questions="histology", truth=None, deface=True)[0]


def manifest(folder: Path, cohort: Path, **arms: Any) -> dict[str, Any]:
    """Return arms from a cohort's manifest."""
    del folder
    columns = {"standard": "target", "low_dose": "degraded"}
    return {
        arm: {"manifest": str(cohort / "manifest.csv"), "column": column, "split": "test"}
        for arm, column in columns.items()
    } | arms


def test_arms_subjects_and_truth_from_a_manifest(plan, folder, tiny_cohort):
    (folder / "net").mkdir()
    for number in (6, 7):
        (folder / "net" / f"sub-{number:04}_ses-01_restored.nii.gz").write_bytes(b"")
    read = plan(
        arms=manifest(folder, tiny_cohort, net="net"),
        truth={"manifest": str(tiny_cohort / "manifest.csv"), "column": "amyloid_status"},
    )
    assert read.entry["cases"] == ["sub-0006_ses-01", "sub-0007_ses-01"]
    assert read.truth == {"sub-0006_ses-01": 0, "sub-0007_ses-01": 1}
    assert read.entry["arms"]["standard"] == {
        "images": "manifest",
        "manifest": str(tiny_cohort / "manifest.csv"),
        "column": "target",
        "split": "test",
        "dose_fraction": None,
    }
    rows = read.sources.set_index(["case", "arm"])
    assert rows.loc[("sub-0006_ses-01", "low_dose"), "path"] == str(
        (tiny_cohort / "subjects" / "sub-0006" / "degraded.nii.gz").resolve()
    )
    assert set(rows["subject"]) == {"sub-0006", "sub-0007"}


def test_training_may_take_cases_of_another_split(plan, folder, tiny_cohort):
    truth = {"manifest": str(tiny_cohort / "manifest.csv"), "column": "amyloid_status"}
    read = plan(
        arms=manifest(folder, tiny_cohort),
        truth=truth,
        training={"arm": "standard", "cases": ["sub-0001_ses-01"]},
    )
    assert read.sources.iloc[0]["path"].endswith("subjects/sub-0001/target.nii.gz")
    assert read.truth["sub-0001_ses-01"] == 1
    assert len(read.entry["cases"]) == 2


def test_a_fault_of_the_manifest_is_told(plan, folder, tiny_cohort, tmp_path):
    text = (tiny_cohort / "manifest.csv").read_text().replace(",0.01,", ",7,", 1)
    (folder / "bad.csv").write_text(text)
    arms = {"standard": "standard", "gan": {"manifest": "bad.csv", "column": "target"}}
    with pytest.raises(InputError, match=r"arms\.gan: .*bad\.csv: 1 problem\n  row 2 dose_fraction"):
        plan(arms=arms)


def test_a_dose_fraction_chooses_among_rows_of_one_scan(plan, folder):
    rows = []
    for case in CASES:
        subject, session = case.split("_")
        for dose in (0.01, 0.1):
            name = f"dose/{case}-{dose}.nii"
            (folder / "dose").mkdir(exist_ok=True)
            (folder / name).write_bytes(b"")
            rows.append({"subject_id": subject, "session_id": session, "dose_fraction": dose, "scan": name})
    pd.DataFrame(rows).to_csv(folder / "doses.csv", index=False)
    arm = {"manifest": "doses.csv", "column": "scan"}
    arms = {"standard": "standard", "tenth": {**arm, "dose_fraction": 0.1}}
    paths = plan(arms=arms).sources.query("arm == 'tenth'")["path"]
    assert [Path(path).name for path in paths] == [f"{case}-0.1.nii" for case in CASES]
    assert (
        "names another file than an earlier row; choose by split or dose_fraction"
        in (refused(plan, arms={"standard": "standard", "tenth": arm})[0])
    )
    assert (
        "no row of dose fraction 0.5; it holds 0.01, 0.1"
        in (refused(plan, arms={"standard": "standard", "tenth": {**arm, "dose_fraction": 0.5}})[0])
    )


def test_a_plain_table_names_cases_subjects_and_images(plan, folder):
    table = pd.DataFrame(
        {
            "case": CASES,
            "subject": [f"person {number // 2}" for number in range(8)],
            "t1": [f"standard/{case}.nii.gz" for case in CASES],
            "fast": [str(folder / "low_dose" / f"{case}.nii.gz") for case in CASES],
            "lesion": [1, 0] * 4,
        }
    )
    table.to_csv(folder / "mr.csv", index=False)
    read = plan(
        arms={
            "full": {"manifest": "mr.csv", "column": "t1"},
            "fast": {"manifest": "mr.csv", "column": "fast"},
        },
        truth={"manifest": "mr.csv", "column": "lesion"},
        questions="mr_contrast",
    )
    assert read.truth == dict(zip(CASES, [1, 0] * 4, strict=True))
    assert read.entry["sessions"] == 4  # two scans a subject, two arms
    subjects = read.sources.drop_duplicates("case").set_index("case")["subject"]
    assert subjects[CASES[0]] == subjects[CASES[1]] == "person 0"


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("holes", "mr.csv: row 3: holes of sub-01_ses-01 is empty"),
        ("gone", "mr.csv: row 2: gone of sub-00_ses-01: no such file ("),
        ("dicom", r"row 2: dicom of sub-00_ses-01 must end in .nii or .nii.gz, got 'standard/a.dcm'"),
        ("t1w", "mr.csv: has no column 't1w'; did you mean 't1'?"),
        ("nothing_like_it", "has no column 'nothing_like_it'; it has case, t1, holes, gone, dicom"),
    ],
)
def test_what_is_wrong_with_a_table_of_images(plan, folder, column, message):
    good = [f"standard/{case}.nii.gz" for case in CASES]
    table = {
        "case": CASES,
        "t1": good,
        "holes": [good[0], "", *good[2:]],
        "gone": ["standard/none.nii.gz", *good[1:]],
        "dicom": ["standard/a.dcm", *good[1:]],
    }
    pd.DataFrame(table).to_csv(folder / "mr.csv", index=False)
    (fault,) = refused(plan, arms={"full": {"manifest": "mr.csv", "column": column}, "low_dose": "low_dose"})
    assert fault.startswith("arms.full: ")
    assert message in fault


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "neither a column 'case' nor the columns 'subject_id' and 'session_id'"),
        ("case,truth\n,1\n", "row 2: case is empty"),
        ("case,subject,truth\nx,a,1\nx,b,1\n", "row 3: case x belongs to another subject in an earlier row"),
        ('case,truth\n"x,1\n', "is no CSV table"),
    ],
)
def test_what_is_wrong_with_a_table(plan, folder, text, message):
    (folder / "bad.csv").write_text(text)
    (fault,) = refused(plan, truth={"file": "bad.csv"})
    assert fault.startswith(f"truth: {folder / 'bad.csv'}")
    assert message in fault


def test_one_file_in_two_arms_is_refused(plan, folder):
    assert refused(plan, arms={"a1": "standard", "a2": "standard"}) == [
        f"arms.a2: {CASES[0]} is the very file of arm 'a1': {folder / 'standard' / f'{CASES[0]}.nii.gz'}"
    ]


def test_two_files_of_a_case_are_refused(plan, folder):
    (folder / "standard" / f"{CASES[0]}.nii").write_bytes(b"")
    (fault,) = refused(plan)
    assert f"has two files of {CASES[0]}: {CASES[0]}.nii and {CASES[0]}.nii.gz" in fault


def test_an_arm_that_is_not_there(plan, folder):
    assert refused(plan, arms={"standard": "standard", "gan": "gone"}) == [
        f"arms.gan: {folder / 'gone'}: no such folder"
    ]
    gone = {"manifest": "gone.csv", "column": "x"}
    assert refused(plan, arms={"standard": "standard", "gan": gone}) == [
        f"arms.gan: {folder / 'gone.csv'}: no such file, expected a manifest or a CSV table of cases"
    ]


def test_a_split_of_a_table_without_splits(plan, folder):
    pd.DataFrame({"case": CASES, "x": ""}).to_csv(folder / "t.csv", index=False)
    arm = {"manifest": "t.csv", "column": "x", "split": "test"}
    assert refused(plan, arms={"full": arm, "gan": "gan"}) == [
        f"arms.full: {folder / 't.csv'}: has no column 'split'"
    ]


def test_a_split_that_holds_nothing(plan, folder, tiny_cohort):
    arms = manifest(folder, tiny_cohort)
    arms["standard"]["split"] = "tset"
    (fault,) = refused(plan, arms=arms)
    assert "no row of split 'tset'; it holds test, train, validation" in fault


# Cases


def test_cases_that_an_arm_lacks_are_named(plan, folder):
    (folder / "gan" / f"{CASES[3]}_restored.nii.gz").unlink()
    (folder / "low_dose" / "sub-99_ses-01.nii.gz").write_bytes(b"")
    standard, gan, truth = refused(plan)
    assert truth.endswith("has no truth of sub-99_ses-01")
    assert standard.startswith("arms.standard: lacks 1 of 9 cases: sub-99_ses-01. Remedy: ")
    assert gan.startswith("arms.gan: lacks 2 of 9 cases: sub-03_ses-01, sub-99_ses-01. Remedy: ")
    assert plan(cases=CASES[:3]).entry["cases"] == CASES[:3]
    left = plan(cases={"exclude": [CASES[3], "sub-99_ses-01"]}).entry["cases"]
    assert left == [*CASES[:3], *CASES[4:]]


def test_a_training_case_need_not_be_in_every_arm(plan, folder):
    (folder / "gan" / f"{CASES[3]}_restored.nii.gz").unlink()
    read = plan(training={"arm": "standard", "cases": [CASES[3]]})
    assert read.entry["cases"] == [*CASES[:3], *CASES[4:]]


@pytest.mark.parametrize(
    ("cases", "fault"),
    [
        (["sub-77_ses-01", CASES[0]], "cases: no arm has sub-77_ses-01"),
        ({"exclude": ["sub-77_ses-01"]}, "cases: no arm has sub-77_ses-01"),
        ([CASES[0], CASES[0]], "cases: it names sub-00_ses-01 twice"),
        ([7], "cases: it: a case must be a text, got 7. Remedy: put it in quotes"),
        ([], "cases: it must be a list of cases, got []"),
        ({"excluded": [CASES[0]]}, "cases: it has no key 'excluded'; did you mean 'exclude'?"),
        ({"exclude": CASES}, "cases: no case is left for the study"),
    ],
)
def test_wrong_cases(plan, cases, fault):
    assert refused(plan, cases=cases)[0] == fault


# Truth


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("2", "row 2: truth of sub-00_ses-01 must be 0 or 1, got '2'"),
        ("", "row 2: truth of sub-00_ses-01 must be 0 or 1, got ''"),
        ("yes", "row 2: truth of sub-00_ses-01 must be 0 or 1, got 'yes'"),
        ("0.5", "row 2: truth of sub-00_ses-01 must be 0 or 1, got '0.5'"),
    ],
)
def test_a_truth_is_0_or_1(plan, folder, value, message):
    table = pd.DataFrame({"case": CASES, "truth": [value, *"1010101"]})
    table.to_csv(folder / "truth.csv", index=False)
    assert refused(plan) == [f"truth: {folder / 'truth.csv'}: {message}"]
    assert plan(cases=CASES[1:]).truth == dict(zip(CASES[1:], [1, 0] * 4, strict=False))


def test_every_case_needs_a_truth_and_one_only(plan, folder):
    table = pd.DataFrame({"case": [*CASES[2:], CASES[2]], "truth": [*"010101", "1"]})
    table.to_csv(folder / "truth.csv", index=False)
    (fault,) = refused(plan)
    assert "row 8: truth of sub-02_ses-01 contradicts an earlier row" in fault
    assert "has no truth of sub-00_ses-01, sub-01_ses-01" in fault


def test_a_training_case_needs_a_truth(plan, folder):
    pd.DataFrame({"case": CASES[1:], "truth": [*"1010101"]}).to_csv(folder / "truth.csv", index=False)
    (fault,) = refused(plan, training={"arm": "standard", "cases": [CASES[0]]})
    assert fault.endswith("has no truth of sub-00_ses-01")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("case,truth\ncase_01,1\n".encode("utf-16"), "is UTF-16 text, expected UTF-8"),
        (b"case;truth\ncase_01;1\n", "is separated by semicolons, expected commas"),
        (b"case,truth,truth\ncase_01,1,0\n", "has two columns 'truth'"),
        (b"case,truth\ncase_01,1,0\n", "row 2: has more cells than the 2 columns of the header"),
        (b"case,Truth\ncase_01,1\n", "has no column 'truth'; did you mean 'Truth'?"),
        (b"case,truth\na_1,1\nA_01,0\n", "row 3: case 'A_01' and 'a_1' of row 2 look like one case"),
        (b"case,truth\n1.2E+10,1\n", "row 2: case '1.2E+10' is a long number that a spreadsheet rounded"),
    ],
)
def test_tables_that_a_spreadsheet_spoiled(plan, folder, content, message):
    (folder / "truth.csv").write_bytes(content)
    faults = " ".join(refused(plan))
    assert message in faults
    assert str(folder / "truth.csv") in faults


def test_names_are_compared_as_they_look(plan, folder):
    case = "sub-\u00e9_ses-01"
    for arm in ARMS:
        ending = "_restored.nii.gz" if arm == "gan" else ".nii.gz"
        (folder / arm / f"sub-e\u0301_ses-01{ending}").write_bytes(b"")
    table = pd.DataFrame({"case": [*CASES, f" {case}\u00a0"], "truth": [*[0, 1] * 4, 1]})
    table.to_csv(folder / "truth.csv", index=False)
    read = plan(cases=[*CASES, case])
    assert read.truth[case] == 1
    assert set(read.sources["case"]) == {*CASES, case}


# Subjects


def several_scans(folder: Path, names: list[str]) -> None:
    for arm in ARMS:
        for path in (folder / arm).iterdir():
            path.unlink()
        for name in names:
            (folder / arm / f"{name}.nii.gz").write_bytes(b"")
    pd.DataFrame({"case": names, "truth": 0}).to_csv(folder / "truth.csv", index=False)


def test_scans_of_a_subject_take_sessions_of_their_own(plan, folder):
    several_scans(folder, ["p1_ses-a", "p1_ses-b", "p2_ses-a"])
    read = plan()
    assert read.sources["subject"].tolist() == ["p1"] * 6 + ["p2"] * 3
    assert read.entry["sessions"] == 6
    (fault,) = refused(plan, sessions=5, duplicate_fraction=0.1)
    assert fault == (
        "sessions: must be 7 or more, got 5: 3 arms x 2 scans of subject p1 + 1 for hidden duplicates, "
        "and nobody may be seen twice in a session"
    )


def test_subjects_are_never_guessed(plan, folder):
    several_scans(folder, ["case_01", "case_02", "other"])
    (fault,) = refused(plan)
    assert fault.startswith("subjects: are case_01 and case_02 two scans of one subject, or two subjects?")
    assert plan(subjects="one_per_case").entry["sessions"] == 3
    table = pd.DataFrame({"case": ["case_01", "case_02", "other"], "subject": ["a", "a", "b"]})
    table.to_csv(folder / "subjects.csv", index=False)
    read = plan(subjects={"file": "subjects.csv"})
    assert read.entry["subjects"] == {"file": str(folder / "subjects.csv")}
    assert read.entry["sessions"] == 6
    table.iloc[1:].to_csv(folder / "subjects.csv", index=False)
    assert refused(plan, subjects={"file": "subjects.csv"}) == [
        f"subjects: {folder / 'subjects.csv'}: names no subject of case_01"
    ]
    assert refused(plan, subjects="each") == [
        "subjects: must be {file: subjects.csv} or one_per_case, got 'each'"
    ]


def test_tables_that_contradict_each_other_about_a_subject(plan, folder):
    for name, subject in (("a", "x"), ("b", "y")):
        images = [f"{'standard' if name == 'a' else 'low_dose'}/{case}.nii.gz" for case in CASES]
        table = pd.DataFrame({"case": CASES, "subject": [subject, *CASES[1:]], "image": images})
        table.to_csv(folder / f"{name}.csv", index=False)
    arms = {name: {"manifest": f"{name}.csv", "column": "image"} for name in "ab"}
    assert refused(plan, arms=arms) == ["subjects: arm 'b' says that sub-00_ses-01 is of y, another arm of x"]


# Readers, names, title


@pytest.mark.parametrize(
    ("readers", "fault"),
    [
        (["a", "a"], "readers: 'a' is there twice"),
        (["a", "A"], "readers.A: another one has this name, but for upper and lower case"),
        ([], "readers: is missing or empty, got []"),
        ("anna", "readers: is missing or empty, got 'anna'"),
        ({"a": {"kind": "robot"}}, "readers.a: kind must be one of 'human', 'model', got 'robot'"),
        ({"a": {"kinds": "model"}}, "readers.a: it has no key 'kinds'; did you mean 'kind'?"),
        ({"a": "model"}, "readers.a: must be a mapping such as {kind: model}, got 'model'"),
    ],
)
def test_wrong_readers(plan, readers, fault):
    assert refused(plan, readers=readers) == [fault]


@pytest.mark.parametrize(
    "name", ["a b", "../a", "a/b", "", ".hidden", "-x", "ä", "a.b", "x" * 65, "a\nb", "a,b", "=1+1"]
)
def test_names_that_are_unsafe_in_files_and_tables(plan, name):
    (fault,) = refused(plan, readers=[name, "b"])
    assert "a name has up to 64 letters" in fault
    (fault, *_) = refused(plan, arms={name: "standard", "gan": "gan"})
    assert "a name has up to 64 letters" in fault


def test_a_name_that_yaml_takes_for_something_else(plan):
    assert refused(plan, arms={False: "standard", "gan": "gan"})[0] == (
        "arms.False: a name must be a text, got False. Remedy: put it in quotes"
    )
    assert refused(plan, readers=[1, "b"]) == [
        "readers.1: a name must be a text, got 1. Remedy: put it in quotes"
    ]


@pytest.mark.parametrize("title", ["The GAN study", "Low-dose PET", "is it low dose?", "gan"])
def test_a_title_must_not_name_an_arm(plan, title):
    (fault,) = refused(plan, title=title)
    assert fault.startswith(f"title: {title!r} contains the arm ")


@pytest.mark.parametrize("title", ["Organs of elegance", "Lowest doses", "Etalon"])
def test_a_title_may_contain_an_arm_within_a_word(plan, title):
    assert plan(title=title).entry["title"] == title


@pytest.mark.parametrize("title", [None, "", "  ", 7, "x" * 201])
def test_a_title_is_a_text(plan, title):
    assert refused(plan, title=title)[0].startswith("title: must be a text of up to 200 characters, got ")


def test_questions_must_not_name_an_arm(plan):
    own = {
        "instructions": "Read it.",
        "questions": [
            {"name": "q", "text": "Worse?", "type": "choice", "options": {1: "Better than low dose", 2: "No"}}
        ],
    }
    assert refused(plan, questions=own, truth=None) == [
        "questions: question 'q' contains the arm 'low_dose', and readers see it. Remedy: rename the arm"
    ]


# The other keys


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"seed": None}, "seed: it must be a whole number, 0 or more, got None"),
        ({"seed": -1}, "seed: it must be a whole number, 0 or more, got -1"),
        ({"seed": True}, "seed: it must be a whole number, 0 or more, got True"),
        ({"seed": "7"}, "seed: it must be a whole number, 0 or more, got '7'"),
        ({"arms": None}, "arms: is missing or empty, got None"),
        ({"arms": {"gan": "gan"}}, "arms: a comparison needs two or more, got gan alone"),
        ({"arms": {"a": 7}}, "arms.a: must be a folder or a mapping with manifest and column, got 7"),
        ({"arms": {"a": {"manifest": "m"}}}, "arms.a: needs a column, got None"),
        ({"arms": {"a": {"colum": "m"}}}, "arms.a: it has no key 'colum'; did you mean 'column'?"),
        ({"arms": {"a": "standard", "A": "gan"}}, "arms.A: another one has this name"),
        ({"sessions": 2}, "sessions: must be 3 or more, got 2: 3 arms, and nobody may be seen twice"),
        ({"sessions": 2.5}, "sessions: it must be a whole number, 1 or more, got 2.5"),
        ({"washout_days": -1}, "washout_days: it must be in [0, 3650], got -1"),
        ({"washout_days": "two weeks"}, "washout_days: it must be a number, got 'two weeks'"),
        ({"duplicate_fraction": 0.5}, "duplicate_fraction: must be 0 or in [0.05, 0.3], got 0.5. Remedy: "),
        ({"duplicate_fraction": 0.01}, "duplicate_fraction: must be 0 or in [0.05, 0.3], got 0.01"),
        ({"duplicate_fraction": "10 %"}, "duplicate_fraction: it must be a number, got '10 %'"),
        ({"duplicate_fraction": True}, "duplicate_fraction: it must be a number, got True"),
        ({"duplicate_fraction": float("nan")}, "duplicate_fraction: it must be a number, got nan"),
        ({"deface": "yes"}, "deface: must be true or false, got 'yes'"),
        ({"questions": None}, "questions: is missing. Remedy: name a preset"),
        ({"questions": "florbetapen"}, "'florbetapen' is neither a preset nor a file ("),
        ({"questions": "florbetapen"}, "; did you mean 'florbetaben'?"),
        ({"questions": 7}, "questions: must be a preset, a YAML file or a mapping, got 7"),
        ({"questions": {"questions": []}}, "questions: questions: questions must be a list of at least one"),
        ({"washout": 3}, "the plan has no key 'washout'; did you mean 'washout_days'?"),
        ({3: 3}, "the plan has no key 3; known keys: arms, "),
        ({"truth": None}, "truth: is missing; the decision 'amyloid_status' is compared with it. Remedy: "),
        ({"truth": "truth.csv"}, "truth: must be a mapping with file, manifest or consensus_of"),
        ({"truth": {"file": "a", "manifest": "b"}}, "truth: must have one of file, manifest, consensus_of"),
        ({"truth": {"column": "b"}}, "truth: must have one of file, manifest, consensus_of, got column"),
        ({"truth": {"manifest": "truth.csv"}}, "truth: needs a column, got None"),
        ({"truth": {"file": "gone.csv"}}, "gone.csv: no such file"),
        (
            {"truth": {"consensus_of": "standart"}},
            "truth: consensus_of must be an arm, got 'standart'; did you",
        ),
        (
            {"truth": {"consensus_of": "gan", "ties": "coin"}},
            "truth: ties must be one of 'refuse', 'exclude'",
        ),
        (
            {"truth": {"consensus_of": "gan"}, "training": {"arm": "gan", "cases": CASES[:1]}},
            "training: needs",
        ),
        ({"primary": ["auc"]}, "primary: must be a mapping, got ['auc']"),
        ({"primary": {**PRIMARY, "metric": "roc"}}, "primary: metric must be one of 'auc', 'error_rate', "),
        (
            {"primary": {**PRIMARY, "arm": "gann"}},
            "primary: arm must be an arm, got 'gann'; did you mean 'gan'?",
        ),
        ({"primary": {**PRIMARY, "reference": None}}, "primary: reference must be an arm, got None; arms: "),
        ({"primary": {**PRIMARY, "reference": "gan"}}, "primary: arm and reference are both 'gan'"),
        ({"primary": {**PRIMARY, "margin": 0}}, "primary: margin must be in (0, 1], got 0"),
        ({"primary": {**PRIMARY, "margin": 5}}, "primary: margin must be in (0, 1], got 5"),
        ({"primary": {**PRIMARY, "alpha": 0.9}}, "primary: alpha must be in (0, 0.5], got 0.9"),
        ({"primary": {**PRIMARY, "covariance": "delong"}}, "primary: covariance delong is for metric auc"),
        ({"primary": {**PRIMARY, "margins": 1}}, "primary: it has no key 'margins'; did you mean 'margin'?"),
        ({"training": {"arm": "gan", "cases": ["x"]}}, "training: arm 'gan' has no image of x"),
        ({"training": {"arm": "gan"}}, "training: cases must be a list of cases, got None"),
        ({"training": {"arm": "g", "cases": ["x"]}}, "training: arm must be an arm, got 'g'"),
        ({"training": {"arm": "gan", "cases": ["x"], "pass_mark": 1}}, "training: it has no key 'pass_mark'"),
        (
            {"qualification": {"arm": "gan", "cases": ["x"], "attempts": 0}},
            "qualification: attempts must be a",
        ),
        (
            {"qualification": {"arm": "gan", "cases": ["x"], "pass_mark": 0}},
            "pass_mark must be in (0, 1], got 0",
        ),
        ({"guess": {"One": list(ARMS)}}, "guess: must map two labels or more to lists of arms"),
        (
            {"guess": {"One": ["gan"], "Two": ["standard"]}},
            "guess: every arm must be in exactly one list: low_dose",
        ),
        (
            {"guess": {"One": ["gan", "low_dose"], "Two": ["standard", "gan"]}},
            "exactly one list: gan is in 2",
        ),
        (
            {"guess": {"GAN": ["gan"], "Two": ["standard", "low_dose"]}},
            "guess: label 'GAN' is the name of an arm",
        ),
        (
            {"guess": {"Low dose": ["low_dose"], "Two": ["gan"]}},
            "guess: label 'Low dose' is the name of an arm",
        ),
        ({"guess": {"One": "gan", "Two": ["standard"]}}, "guess: 'One' must be a text with a list of arms"),
        (
            {"guess": {"One": ["gann"], "Two": ["standard"]}},
            "guess: it must be an arm, got 'gann'; did you mean",
        ),
    ],
)
def test_every_fault_names_its_key(plan, changes, fault):
    faults = refused(plan, changes)
    assert len(faults) == 1
    assert fault in faults[0]


def test_all_faults_are_told_at_once(plan, folder):
    (folder / "truth.csv").write_text("case,truth\n")
    faults = refused(
        plan,
        title="gan",
        seed=-1,
        arms={"standard": "standard", "gan": "gone"},
        readers=["x y"],
        duplicate_fraction=2,
        primary={**PRIMARY, "metric": "roc"},
        sesions=3,
    )
    assert [fault.partition(":")[0] for fault in faults] == [
        "the plan has no key 'sesions'; did you mean 'sessions'?",
        "title",
        "seed",
        "duplicate_fraction",
        "primary",
        "readers.x y",
        "arms.gan",
    ]


def test_faults_of_cases_truth_and_subjects_are_told_together(plan, folder):
    several_scans(folder, ["case_01", "case_02"])
    (folder / "gan" / "case_02.nii.gz").unlink()
    (folder / "truth.csv").write_text("case,truth\ncase_01,1\n")
    faults = refused(plan)
    assert [fault.partition(":")[0] for fault in faults] == ["arms.gan", "truth", "subjects"]


def test_preparations_and_study_share_no_subject(plan, folder):
    several_scans(folder, ["p1_ses-a", "p1_ses-b", "p2_ses-a", "p3_ses-a", "p3_ses-b"])
    (fault,) = refused(plan, training={"arm": "gan", "cases": ["p1_ses-a"]})
    assert fault.startswith("training: p1_ses-a and p1_ses-b of the study are scans of one subject")
    exclude = {"exclude": ["p1_ses-b"]}
    assert plan(training={"arm": "gan", "cases": ["p1_ses-a"]}, cases=exclude).entry["cases"] == [
        "p2_ses-a",
        "p3_ses-a",
        "p3_ses-b",
    ]
    both = {"arm": "gan", "cases": ["p1_ses-a"]}
    faults = refused(plan, training=both, qualification=both, cases=exclude)
    assert faults == ["qualification: p1_ses-a is a case of the training too"]
    (fault,) = refused(plan, training=both, qualification={"arm": "gan", "cases": ["p1_ses-b"]})
    assert fault.startswith("training: p1_ses-a and p1_ses-b of the qualification are scans of one subject")


def test_preparation_needs_a_decision(plan):
    own = {"questions": [{"name": "seen", "text": "Seen?", "type": "yes_no"}]}
    (fault,) = refused(plan, questions=own, truth=None, training={"arm": "gan", "cases": [CASES[0]]})
    assert fault.startswith("training: needs questions with a decision")


@pytest.mark.parametrize(
    ("metric", "part"), [("auc", "score"), ("error_rate", "decision"), ("mean_rating", "quality")]
)
def test_the_primary_endpoint_needs_its_question(plan, metric, part):
    own = {"questions": [{"name": "seen", "text": "Seen?", "type": "yes_no"}]}
    (fault,) = refused(plan, questions=own, truth=None, primary={**PRIMARY, "metric": metric})
    assert fault == f"primary: metric {metric} needs questions that name a {part}"


def test_a_margin_of_a_mean_rating_may_exceed_one(plan):
    primary = {**PRIMARY, "metric": "mean_rating", "margin": 1.5}
    assert plan(primary=primary).entry["primary"]["margin"] == 1.5


def test_the_name_guess_is_kept(plan):
    own = {"questions": [{"name": "guess", "text": "Seen?", "type": "yes_no"}]}
    assert refused(plan, questions=own, truth=None) == [
        "questions: the name 'guess' is kept for the plan's own question. Remedy: rename yours"
    ]


# Notes


def test_too_few_cases_of_a_class_are_noted_where_the_metric_needs_them(plan, folder):
    pd.DataFrame({"case": CASES, "truth": [1, *[0] * 7]}).to_csv(folder / "truth.csv", index=False)
    note = "primary.metric auc needs 2 cases or more with truth 1; the study has 1"
    assert note in plan(primary={**PRIMARY, "metric": "auc"}).notes
    assert not any("truth" in text for text in plan(primary=PRIMARY).notes)
    assert not any("truth" in text for text in plan(primary={**PRIMARY, "metric": "specificity"}).notes)


def test_a_complete_plan_has_no_notes(plan):
    assert plan(duplicate_fraction=0.1, primary=PRIMARY).notes == ()
    assert len(plan(readers=["one"]).notes) == 2


# YAML


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title: a\nseed: [1\n", "plan.yaml: line 3, column 1: is no YAML: "),
        (
            "title: a\narms:\n  gan: x\n  gan: y\n",
            "line 4, column 3: is no YAML: the key 'gan' is there twice",
        ),
        ("title: a\n\tseed: 1\n", "line 2, column 1: is no YAML: found character '\\t'"),
        ("- a\n", "plan.yaml: must hold keys and values, got list"),
        ("", "plan.yaml: must hold keys and values, got NoneType"),
        (
            "title: !!python/object:os.system x\n",
            "line 1, column 8: is no YAML: could not determine a constructor",
        ),
        ("title: \x07\n", "is no YAML: "),
    ],
)
def test_text_that_is_no_plan(tmp_path, text, message):
    (tmp_path / "plan.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        read_plan(tmp_path / "plan.yaml")
    assert message in str(caught.value)


def test_files_that_are_no_text(tmp_path):
    with pytest.raises(InputError, match=r"none\.yaml: no such file"):
        read_plan(tmp_path / "none.yaml")
    (tmp_path / "plan.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is UTF-16 text"):
        read_plan(tmp_path / "plan.yaml")
    with pytest.raises(InputError, match="is a folder"):
        read_plan(tmp_path)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("title: " + "[" * 2000 + "]" * 2000, "is no YAML: brackets too deep"),
        ("seed: " + "1" * 5000, "is no YAML: Exceeds the limit"),
        ("washout_days: 2026-13-41", "is no YAML: month must be in 1..12"),
        ('title: "\\ud800"', "holds what is no letter or sign"),
        ('truth: {file: "tr\\0uth.csv"}', "holds what is no letter or sign"),
        ("readers: {? [a, b] : c}", "a list or mapping cannot be a key"),
        ("questions: {consistent: {? {a: b} : c}}", "a list or mapping cannot be a key"),
        ("washout_days: " + "1" * 400, "washout_days: it must be a number"),
        ("duplicate_fraction: " + "1" * 400, "duplicate_fraction: it must be a number"),
        ("sessions: 100000000", "sessions: must be 1000 or less"),
        ("guess: {a: [[standard]], b: [low_dose, gan]}", "guess: it must be an arm, got ['standard']"),
        ("truth: {consensus_of: {a: b}}", "truth: consensus_of must be an arm"),
        ("training: {arm: [gan], cases: [sub-00_ses-01]}", "training: arm must be an arm"),
        ("primary: {metric: auc, arm: [gan], reference: standard}", "primary: arm must be an arm"),
        ("guess: {a: [standard], A: [low_dose, gan]}", "guess: label 'a' is there twice"),
        ("guess: {i cannot tell: [standard], A: [low_dose, gan]}", "label 'i cannot tell' is there twice"),
        ("arms: {standard: standard, gan: " + "y" * 300 + "}", "arms.gan: "),
        ("questions: " + "y" * 300, "is neither a preset nor a file"),
    ],
)
def test_what_a_plan_may_hold_is_told_in_words(folder, line, fault):
    key = line.partition(":")[0]
    others = {name: value for name, value in PLAN.items() if name != key}
    (folder / "plan.yaml").write_text(f"{line}\n{yaml.safe_dump(others)}")
    with pytest.raises(InputError, match=r"plan\.yaml: ") as caught:
        read_plan(folder / "plan.yaml")
    assert fault in str(caught.value)


def test_numbers_are_read_as_people_write_them(folder):
    text = "washout_days: 1e1\nprimary: {metric: error_rate, arm: gan, reference: standard, margin: 5e-2}\n"
    (folder / "plan.yaml").write_text(text + yaml.safe_dump(dict(PLAN)))
    entry = read_plan(folder / "plan.yaml").entry
    assert (entry["washout_days"], entry["primary"]["margin"]) == (10.0, 0.05)


def test_one_file_is_no_two_cases(plan, folder):
    images = [f"standard/{case}.nii.gz" for case in (CASES[0], CASES[0], *CASES[2:])]
    table = pd.DataFrame({"case": CASES, "image": images})
    table.to_csv(folder / "images.csv", index=False)
    arms = {"standard": {"manifest": "images.csv", "column": "image"}, "gan": "gan"}
    (fault,) = refused(plan, arms=arms)
    assert fault.startswith(f"arms.standard: {CASES[1]} and {CASES[0]} are the very same file: ")
