from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import medrestore
from medrestore.checks import InputError
from medrestore.study.analysis.analyze import StudyAnalysis, analyze_study
from medrestore.study.analysis.reader_group import Settings
from medrestore.study.analysis.unblinded import unblind
from medrestore.study.labels import arm_label
from medrestore.study.layout import Study
from medrestore.study.report import report
from medrestore.study.report.report import PRIVATE_FILES, RECORD, render_report, write_report
from medrestore.study.report.texts import held

STANDARD, LOW, RESTORED = "armstandardzz", "armlowdosezz", "armtaskganzz"


class Page(HTMLParser):
    """Addresses, tables and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: set[str] = set()
        self.tables: list[list[list[str]]] = []
        self.text, self.cell = "", False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [
            value or "" for name, value in attrs if name in ("src", "href", "action", "srcset")
        ]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self.cell = True

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.cell:
            self.tables[-1][-1][-1] += data

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self.cell = False


@pytest.fixture(scope="module")
def analysis(read_example: Study) -> StudyAnalysis:
    return analyze_study(read_example)


@pytest.fixture(scope="module")
def files(analysis: StudyAnalysis) -> dict[str, bytes]:
    return render_report(analysis)


@pytest.fixture(scope="module")
def page(files: dict[str, bytes]) -> Page:
    return Page(files["report.html"].decode())


def test_the_page_loads_nothing(page, files):
    assert b"default-src 'none'; img-src data:; style-src 'unsafe-inline'" in files["report.html"]
    assert b"@import" not in files["report.html"]
    assert b"url(" not in files["report.html"]
    assert all(address.startswith(("#", "data:image/svg+xml;base64,")) for address in page.addresses)
    assert page.tags.isdisjoint({"script", "link", "iframe", "form", "object", "embed"})


def test_contents_lead_to_sections(files, page):
    html = files["report.html"].decode()
    links = [address[1:] for address in page.addresses if address.startswith("#")]
    assert len(links) >= 10
    assert re.findall(r'<section id="([^"]+)">', html) == links


def test_the_first_table_is_that_of_the_paper(page, read_example):
    table = page.tables[0]
    assert table[0] == ["Error rate (errors/reads)", *map(arm_label, read_example.arms)]
    reads = unblind(read_example).long("positive", "human", judged=True)
    wrong = reads[reads["rating"] != reads["truth"]]
    assert table[1][0] == "Human experts, 3 readers"
    for place, arm in enumerate(read_example.arms, start=1):
        errors = int((wrong["method"] == arm).sum())
        assert re.fullmatch(rf"\d\.\d\d \({errors}/60\)", table[1][place])
        assert float(table[1][place][:4]) == pytest.approx(errors / 60, abs=0.0051)
        mine = int(((wrong["method"] == arm) & (wrong["reader"] == "reader_2")).sum())
        assert table[3][place].endswith(f"({mine}/20)")


def test_the_ground_truth_comes_first(make_study, fill, noisy_answer, study_folder):
    study = make_study(
        study_folder,
        cases=12,
        readers={"anna": "human", "bert": "human", "carl": "human", "net_1": "model", "net_2": "model"},
        primary={
            **{"metric": "error_rate", "arm": RESTORED, "reference": LOW, "margin": 0.2},
            **{"alpha": 0.05, "covariance": "jackknife"},
        },
        plan={"truth": {"consensus_of": STANDARD, "ties": "refuse"}},
    )
    fill(study, noisy_answer)
    rendered = render_report(analyze_study(study))
    table = Page(rendered["report.html"].decode()).tables[0]
    assert table[0][1] == f"{arm_label(STANDARD)} (ground truth)"
    assert [row[1] for row in table[1:5]] == ["0 (ground truth)"] * 4
    assert table[5][:2] == ["Model readers (model), 2 readers", "–"]  # the truth of others is not theirs
    assert table[6][0] == "net 1 (model)"
    assert "majority of the readers' decisions" in rendered["methods.txt"].decode()
    assert {"human/errors.csv", "model/errors.csv", "model/analysis_primary.json"} <= set(rendered)


def test_nothing_shared_names_a_case_or_a_path(files, read_example):
    secret = [
        *read_example.plan["cases"],
        *read_example.key["subject"],
        "sub-zz",
        "/data/",
        str(read_example.folder),
    ]
    secret += list(read_example.key["image_id"])
    for name, content in files.items():
        found = [word for word in secret if word.encode() in content]
        assert bool(found) == (name in PRIVATE_FILES), name


def test_the_same_reads_give_the_same_bytes(files, read_example):
    assert render_report(analyze_study(read_example.folder)) == files


def test_tables_and_json_hold_what_was_found(files, analysis):
    assert json.loads(files["analysis.json"]) == analysis.main.primary.as_dict()  # type: ignore[union-attr]
    for name, found in analysis.main.measures.items():
        assert json.loads(files[f"human/analysis_{name}.json"]) == found.as_dict()
    rows = list(csv.DictReader(files["human/differences.csv"].decode().splitlines()))
    assert len(rows) == 7 * 3
    assert {row["measure"] for row in rows} == set(analysis.main.measures)
    reads = list(csv.DictReader(files["reads.csv"].decode().splitlines()))
    assert len(reads) == 3 * (3 * 20 + 4)
    one = next(row for row in reads if row["repeat"] == "0")
    table = analysis.unblinded.planned.set_index("read_id")
    assert one["positive"] == str(table.loc[one["read_id"], "answers"]["positive"])


def test_methods_say_what_was_done(files, analysis):
    text = files["methods.txt"].decode()
    paragraphs, _, references = text.partition("\n\nReferences\n\n")
    for words in (
        "3 readers read 20 cases under 3 conditions",
        "with a washout of at least 14 days",
        "10 of 20 cases were positive",
        "error rate with Armtaskganzz against Armstandardzz, two-sided alpha 0.05",
        "one-sided at 0.025 against a margin of 0.3",
        "Holm's correction",
        "12 hidden duplicates",
        "qualified by 4 further cases, of which 80%",
        "Bang's index",
        analysis.study.plan_sha256[:12],
        "No read was missing.",
    ):
        assert words in paragraphs, words
    cited = sorted({int(n) for group in re.findall(r"\[([\d, ]+)\]", paragraphs) for n in group.split(", ")})
    listed = [int(line.split(".")[0]) for line in references.strip().splitlines()]
    assert cited == listed == list(range(1, len(listed) + 1))


def test_integrity_is_told(page, analysis):
    text = page.text
    for value in (
        analysis.study.plan_sha256,
        analysis.study.design["reading_list_sha256"],
        analysis.chain_head,
        f"{len(analysis.unblinded.rows)}, chain intact",
        "192 of 192 reads that told what was shown",
    ):
        assert value in text, value


def test_what_a_reader_typed_is_no_html(
    make_study, fill, noisy_answer, correct, readings_of, a_read, study_folder
):
    study = fill(make_study(study_folder, cases=6), noisy_answer)
    row = next(row for row in readings_of(study) if row["phase"] == "reading")
    correct(study, row, a_read(True), reason="<script>alert(1)</script>")
    html = render_report(analyze_study(study))["report.html"].decode()
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


def test_a_rehearsal_is_called_one_everywhere(make_study, fill, noisy_answer, study_folder):
    study = make_study(study_folder, cases=8, readers={"net_1": "model", "suvr_1": "model"})
    rendered = render_report(analyze_study(fill(study, noisy_answer)))
    html = rendered["report.html"].decode()
    assert "<h1>Rehearsal with model readers: A study</h1>" in html
    assert "<title>Rehearsal with model readers: A study</title>" in html
    table = Page(html).tables[0]
    assert [row[0] for row in table[1:]] == [
        "Model readers (model), 2 readers",
        "net 1 (model)",
        "suvr 1 (model)",
    ]
    assert "Human experts" not in html
    assert "as a rehearsal" in rendered["methods.txt"].decode()
    assert not any(name.startswith("human/") for name in rendered)


def test_a_second_analysis_brings_its_own_files_up_to_date(analysis, files, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "render_report", lambda _: files)
    folder = write_report(analysis, tmp_path / "analysis")
    record = json.loads((folder / RECORD).read_text())
    assert set(record["files"]) == set(files)
    assert {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} == {*files, RECORD}
    (folder / "my notes.txt").write_text("mine")
    (folder / "report.html").write_text("old")
    (folder / "old.csv").write_text("of a measure that is gone")
    (folder / RECORD).write_text(json.dumps({**record, "files": [*record["files"], "old.csv"]}))
    write_report(analysis, folder)
    assert (folder / "report.html").read_bytes() == files["report.html"]
    assert (folder / "my notes.txt").read_text() == "mine"
    assert not (folder / "old.csv").exists()


def test_other_files_are_left_alone(analysis, files, make_study, fill, noisy_answer, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "render_report", lambda _: files)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "report.html").write_text("mine")
    with pytest.raises(InputError, match="holds other files and no analysis of a study"):
        write_report(analysis, mine)
    assert (mine / "report.html").read_text() == "mine"
    folder = write_report(analysis, tmp_path / "analysis")
    record = json.loads((folder / RECORD).read_text())
    record["files"].remove("methods.txt")
    (folder / RECORD).write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"methods\.txt: is there already and is no file of this analysis"):
        write_report(analysis, folder)
    other = fill(make_study(tmp_path / "study", cases=6, seed=8), noisy_answer)
    with pytest.raises(InputError, match="holds the analysis of study"):
        write_report(analyze_study(other), folder)


def test_left_out_cases_are_told(make_study, fill, noisy_answer, study_folder):
    study = make_study(study_folder, cases=10)
    lost = study.plan["cases"][7]
    fill(
        study, lambda row: None if row["case"] == lost and row["reader"] == "reader_1" else noisy_answer(row)
    )
    rendered = render_report(analyze_study(study, Settings(missing="drop_cases")))
    assert "1 of 10 cases were left out of the analysis of human readers" in rendered["report.html"].decode()
    assert "Reads were missing: 1 case was left out, as declared." in rendered["methods.txt"].decode()
    assert rendered["left_out_cases.csv"].decode().splitlines()[1:] == [f"{lost},human,not read by all"]
    assert lost.encode() not in rendered["report.html"]


def test_a_protocol_without_decision_reports_what_it_has(make_study, fill, questions, study_folder):
    asked = {**questions, "decision": "", "score": "", "consistent": {}}
    kept = ("quality", "remark")
    asked["questions"] = [item for item in questions["questions"] if item["name"] in kept]
    primary = {"metric": "mean_rating", "arm": RESTORED, "reference": STANDARD, "margin": 0.5}
    study = make_study(
        study_folder,
        cases=8,
        questions=asked,
        primary={**primary, "alpha": 0.05, "covariance": "jackknife"},
        plan={"truth": None},
    )
    fill(study, lambda row: {"quality": 3 + (len(row["arm"]) + row["position"] + len(row["case"])) % 3})
    rendered = render_report(analyze_study(study))
    text = Page(rendered["report.html"].decode()).text
    assert "Mean image quality was" in text
    assert "Human experts" not in text
    assert "Reference standard" not in text


def test_every_text_and_source_is_used():
    """A source is cited where the code names it; a line that nothing names would be a claim left behind."""
    folder = Path(medrestore.__file__).parent / "study"
    files = [path for path in folder.rglob("*") if path.suffix in {".py", ".jinja", ".html"}]
    code = "".join(path.read_text(encoding="utf-8") for path in files)
    sections = dict(held("texts"))
    sources = {line["source"] for line in sections.pop("agreements")}
    keys = {key for section in sections.values() for key in section} | held("references").keys() - sources
    assert len(keys) > 30
    assert [key for key in sorted(keys) if not re.search(rf"""["'.]{re.escape(key)}\b""", code)] == []
