"""Tables of users: what spreadsheets do to them, and what is refused by row and column."""

from __future__ import annotations

from pathlib import Path

import pytest

from medrestore.checks import InputError
from medrestore.data.tables import (
    located,
    parse_text_table,
    read_text_table,
    require_column,
    table_problems,
)


def table(tmp_path: Path, content: str | bytes, **options: object) -> dict[str, list[object]]:
    path = tmp_path / "t.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_text_table(path, **options).to_dict("list")  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_rows_are_counted_as_a_spreadsheet_does(tmp_path, ending):
    text = ending.join(["a,b", "1,2", "", '"3', 'more",', "5,6"])
    found = table(tmp_path, text)
    assert found["row"] == [2, 4, 5]
    assert found["b"] == ["2", "", "6"]


def test_what_spreadsheets_append_is_left_out(tmp_path):
    found = table(tmp_path, "a,b,,\n1,2,,\n3\n,,,\n,,,,,,\n")
    assert found == {"a": ["1", "3"], "b": ["2", ""], "row": [2, 3]}


def test_cells_and_names_lose_their_margins(tmp_path):
    found = table(tmp_path, "\ufeffa , \u00a0b\n sub-01 ,\u200bx y\n")
    assert found == {"a": ["sub-01"], "b": ["x y"], "row": [2]}


def test_column_without_name_is_kept(tmp_path):
    assert table(tmp_path, ",a\n0,x\n") == {"Unnamed: 0": ["0"], "a": ["x"], "row": [2]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"there is nothing in it"),
        ("\n,,\n", r"there is nothing in it"),
        ("\na,b\n1,2\n", r"its first row is empty, expected the header"),
        ("a;b\n1;2\n", r"is separated by semicolons, expected commas"),
        ("a\tb\n1\t2\n", r"is separated by tabs, expected commas"),
        ("a|b\n1|2\n", r"is separated by bars, expected commas"),
        ("sep=;\na;b\n1;2\n", r"begins with the line 'sep=;', which is Excel's"),
        ("split,a,split\n1,2,3\n", r"row 1: has two columns 'split'"),
        ("split,a, split\n1,2,3\n", r"row 1: has two columns 'split'"),
        ("split,a,Split\n1,2,3\n", r"row 1: has columns 'split' and 'Split'"),
        ('a,b\n1,"2\n3,4\n', r"a quotation mark is not closed, from line 2 on"),
        ('a,b\n1,"2"x\n', r"'\,' expected after '\"', from line 2 on"),
        (b'a,b\n1,"' + b"x" * 200_000, r"a quotation mark is not closed"),
    ],
)
def test_what_is_no_table_is_refused_in_one_line(tmp_path, content, message):
    with pytest.raises(InputError, match=rf"t\.csv.*{message}.*Remedy") as refused:
        table(tmp_path, content)
    assert "\n" not in str(refused.value)


def test_longer_rows_are_named_and_the_others_read(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,2\n1,2,3\n4,5,\n6,7,8,9\n")
    found, problems = parse_text_table(path)
    assert found["a"].tolist() == ["1", "4"]
    assert list(map(str, problems)) == [
        "row 3: has more cells than the 2 columns of the header",
        "row 5: has more cells than the 2 columns of the header",
    ]
    with pytest.raises(InputError, match=r"is no CSV table \(row 3: has more .*; row 5: has more"):
        read_text_table(path)


def test_other_separators_where_they_are_allowed(tmp_path):
    assert table(tmp_path, "a;b\n1;2,5\n", separators=(",", ";"))["b"] == ["2,5"]


def test_a_title_above_the_header_is_no_header(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("# Cohort of 2021\nsplit\ntrain\n")
    problems = table_problems(read_text_table(path), required=("split", "subject_id"), optional=())
    assert list(map(str, problems)) == [
        "row 1: is no header: it has none of split, subject_id, but '# Cohort of 2021'"
    ]


def test_files_are_located_by_how_their_names_look(tmp_path):
    folder = tmp_path / "Mu\u0308ller \u00a0"
    folder.mkdir()
    (folder / "a\u200b.nii").touch()
    assert located(tmp_path, "M\u00fcller/a.nii") == folder / "a\u200b.nii"
    assert located(tmp_path, "M\u00fcller\\a.nii") == folder / "a\u200b.nii"
    assert located(tmp_path, "M\u00fcller/b.nii") == folder / "b.nii"
    (tmp_path / "loop").symlink_to("loop")
    assert located(tmp_path, "loop/a.nii") == tmp_path / "loop/a.nii"
    assert located(tmp_path, "x" * 300) == tmp_path / ("x" * 300)
    assert located(tmp_path, f"{folder.name}/../loop") == folder / "../loop"


def test_near_columns_are_named(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("Split,SubjectID,x\n1,2,3\n")
    found = read_text_table(path)
    problems = table_problems(found, required=("split", "subject_id", "tracer"), optional=())
    assert list(map(str, problems)) == [
        "row 1 split: no such column; did you mean 'Split'?",
        "row 1 subject_id: no such column; did you mean 'SubjectID'?",
        "row 1 tracer: no such column",
    ]
    problems = table_problems(found, required=("x",), optional=("split",))
    assert list(map(str, problems)) == ["row 1 split: is called 'Split' here: write it in lower case"]
    with pytest.raises(InputError, match=r"has no column 'splits'; did you mean 'Split'\?"):
        require_column(found, "splits", path)
    with pytest.raises(InputError, match="has no column 'truth'; it has Split, SubjectID, x"):
        require_column(found, "truth", path)
