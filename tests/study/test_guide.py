"""The guide to reader studies is true: its plan is accepted, its tables are those of page and package."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

from medrestore.domains.amyloid_pet.schema import COLUMNS
from medrestore.study.layout import QUALIFICATION, READING, TRAINING
from medrestore.study.measures import MEASURES
from medrestore.study.planning.plan import KEYS, read_plan
from medrestore.study.protocol import Protocol
from medrestore.study.questions import TYPES

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "reader_studies.md").read_text(encoding="utf-8")
YAML = re.findall(r"^```yaml\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The files that the guide's plan speaks of; none is opened by reading a plan."""
    rows = []
    for number in (*range(1, 5), *range(51, 58)):
        name = f"sub-{number:04}"
        files = {arm: f"{name}/{arm}.nii.gz" for arm in ("target", "degraded")}
        for file in files.values():
            (tmp_path / "cohort" / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "cohort" / file).touch()
        identity = {"subject_id": name, "session_id": "ses-01", "split": "test" if number > 50 else "train"}
        facts = {"amyloid_status": number % 2, "dose_fraction": 0.01, "tracer": "florbetaben", "units": "SUV"}
        sums = {f"{arm}_sha256": f"{number:063}{arm[0]}"[-64:].replace("t", "a") for arm in files}
        rows.append(dict.fromkeys(COLUMNS, "") | identity | facts | files | sums)
        for method in ("gan", "taskgan") if number > 51 else ():
            restored = tmp_path / "restored" / method / f"{name}_ses-01_restored.nii.gz"
            restored.parent.mkdir(parents=True, exist_ok=True)
            restored.touch()
    pd.DataFrame(rows).to_csv(tmp_path / "cohort" / "manifest.csv", index=False)
    return tmp_path


def test_plan_is_accepted_as_it_stands(place):
    (place / "plan.yaml").write_text(YAML[0], encoding="utf-8")
    plan = read_plan(place / "plan.yaml")
    assert plan.entry["cases"] == [f"sub-00{number}_ses-01" for number in range(52, 58)]
    assert plan.sources.groupby("phase").size().to_dict() == {READING: 24, TRAINING: 2, QUALIFICATION: 2}
    assert plan.entry["sessions"] == 5
    assert plan.protocol.questions[-1].name == "guess"


@pytest.mark.parametrize("line", re.findall(r"^# (\w+: \{.*?\})", YAML[0], re.MULTILINE))
def test_what_is_commented_out_is_accepted_too(line, place):
    key = line.partition(":")[0]
    plan = re.sub(rf"^{key}: .*$", line, YAML[0], flags=re.MULTILINE)
    plan = plan if f"\n{line}" in plan else f"{plan}\n{line}\n"
    if "consensus_of" in line:
        # Readers cannot be prepared by a truth that comes later, nor its arm be compared with it.
        plan = re.sub(r"^(training|qualification): .*$", "", plan, flags=re.MULTILINE)
        plan = plan.replace("reference: standard", "reference: gan")
    cases = [f"sub-{number:04}_ses-01" for number in (*range(1, 5), *range(51, 58))]
    table = pd.DataFrame({"case": cases, "truth": [0, 1] * 5 + [0], "subject": [name[:8] for name in cases]})
    for name in ("truth.csv", "subjects.csv"):
        table.to_csv(place / name, index=False)
    (place / "plan.yaml").write_text(plan, encoding="utf-8")
    assert read_plan(place / "plan.yaml").entry[key] is not None


def test_all_keys_and_metrics_of_a_plan_are_explained():
    commented = {line.partition(":")[0] for line in re.findall(r"^# (\w+:)", YAML[0], re.MULTILINE)}
    assert set(yaml.safe_load(YAML[0])) | commented == set(KEYS)
    assert [metric for metric in MEASURES if f"`{metric}`" not in GUIDE] == []


def test_own_questions_are_accepted():
    protocol = Protocol.load(yaml.safe_load(YAML[1]), where="guide")
    answers = protocol.check_answers({"nodule": True, "place": [1, 2, 3], "confidence": 3})
    assert answers["score"] == 6  # three levels each way
    assert [name for name in TYPES if f"`{name}`" not in GUIDE] == []


def test_presets_are_those_of_the_package():
    presets = {path.stem for path in (ROOT / "medrestore" / "study" / "planning" / "presets").glob("*.yaml")}
    assert set(re.findall(r"^\| `(\w+)`(?: \(2D\))? \|", GUIDE, re.MULTILINE)) >= presets
    assert len(presets) == 3


def test_keys_are_those_of_the_page():
    script = (ROOT / "medrestore" / "study" / "page" / "keyboard.js").read_text(encoding="utf-8")
    listed = re.search(r"KEYS = \[(.*?)\n\];", script, re.DOTALL)
    assert listed is not None
    keys = re.findall(r'\["([^"]+)", "([^"]+)"\]', listed[1])
    table = GUIDE.partition("| key | does |")[2].partition("\n\n")[0]
    found = re.findall(r"^\| (.+?) \| (.+) \|$", table, re.MULTILINE)
    plain = [(" ".join(key.split()), does) for key, does in keys]
    assert found == plain
    assert len(plain) > 10
