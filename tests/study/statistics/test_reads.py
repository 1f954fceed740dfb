"""Tables of reads: names stay text, and nothing wrong passes in silence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medrestore.checks import InputError
from medrestore.study.statistics.reads import read_table

HEADER = "reader,method,case,truth,rating\n"
ROWS = [
    f"{reader},{method},{case},{case % 2},{rating}"
    for reader, method, case, rating in [
        (r, m, c, (r * m + c) % 5 + 1) for r in (2, 1) for m in (10, 9) for c in (1, 2, 3, 4)
    ]
]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(rows: list[str] | str, header: str = HEADER) -> Path:
        path = tmp_path / "reads.csv"
        path.write_text(header + (rows if isinstance(rows, str) else "\n".join(rows) + "\n"))
        return path

    return write


def test_arrays_in_the_order_of_first_appearance(write):
    table = read_table(write(ROWS))
    assert (table.methods, table.readers, table.cases) == (("10", "9"), ("2", "1"), ("1", "2", "3", "4"))
    assert table.ratings.shape == (2, 2, 4)
    assert table.ratings[1, 0, 2] == (2 * 9 + 3) % 5 + 1  # method 9, reader 2, case 3
    assert table.truth is not None
    assert table.truth.tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize("name", ["method", "treatment", "modality", "arm", "Treatment", " arm "])
def test_names_of_the_method_column_and_other_columns(write, name):
    table = read_table(write([f"{row},x" for row in ROWS], f"reader,{name},case,truth,rating,case2\n"))
    assert table.methods == ("10", "9")


def test_ways_to_write_a_table(write):
    plain = read_table(write(ROWS))
    quoted = write(['"' + row.replace(",", '", "') + '"' for row in [*ROWS[:5], *ROWS[5:]]])
    quoted.write_bytes(b"\xef\xbb\xbf" + quoted.read_bytes().replace(b"\n", b"\r\n") + b"\r\n,,,,\r\n")
    assert np.array_equal(read_table(quoted).ratings, plain.ratings)
    assert read_table(quoted).readers == plain.readers
    frame = pd.read_csv(write(ROWS))
    assert np.array_equal(read_table(frame).ratings, plain.ratings)
    assert read_table(frame).methods == plain.methods
    shuffled = read_table(frame.sample(frac=1, random_state=3))
    order = [shuffled.cases.index(case) for case in plain.cases]
    assert sorted(shuffled.ratings[:, :, order].ravel()) == sorted(plain.ratings.ravel())


def test_truth_and_ratings_as_words(write):
    rows = [
        f"{r},{m},{c},{t},{d}"
        for r in "ab"
        for m in "xy"
        for c, t, d in [(1, "TRUE", "True"), (2, "0.0", "false")]
    ]
    table = read_table(write(rows))
    assert table.truth is not None
    assert table.truth.tolist() == [1, 0]
    assert table.ratings[0, 0].tolist() == [1, 0]


@pytest.mark.parametrize("value", ["", "NA", "nan", "  "])
def test_an_empty_rating_is_a_missing_read(write, value):
    rows = [*ROWS[:6], ROWS[6].rsplit(",", 1)[0] + f",{value}", *ROWS[7:]]
    table = read_table(write(rows))
    with pytest.raises(
        InputError, match=r"reads.csv: 1 of 16 reads is missing: reader '2', method '9', case '3'"
    ):
        table.resolve("refuse")
    dropped = table.resolve("drop_cases")
    assert (dropped.cases, dropped.dropped) == (("1", "2", "4"), ("3",))
    assert dropped.absent == (("2", "9", "3"),)
    assert dropped.truth is not None
    assert dropped.truth.tolist() == [1, 0, 0]
    assert np.isnan(table.resolve("available").ratings).sum() == 1


def test_many_missing_reads_are_counted_and_ten_are_listed(make_reads):
    reads = make_reads(0).drop(index=range(12))
    with pytest.raises(InputError, match=r"12 of 114 reads are missing") as caught:
        read_table(reads).resolve("refuse")
    assert str(caught.value).count("reader 'Ann'") == 10
    assert "--missing drop_cases to leave out the 12 of 19 cases" in str(caught.value)


def test_a_read_twice_is_refused_whatever_is_declared(write):
    with pytest.raises(
        InputError, match=r"1 row repeats a read: method '10', reader '2', case '1' \(rows 2 and 18\)"
    ):
        read_table(write([*ROWS, ROWS[0]]))


def test_a_reader_who_did_not_read_a_method_is_named(make_reads):
    reads = make_reads(0)
    split = reads[(reads["reader"] != "Bo") | (reads["method"] != "gan")]
    for missing in ("refuse", "drop_cases", "available"):
        with pytest.raises(InputError, match=r"not crossed.*reader 'Bo' has no read under method 'gan'"):
            read_table(split).resolve(missing)


def test_cases_of_their_own_for_each_reader_are_a_split_plot(make_reads):
    reads = make_reads(0)
    reads["case"] = reads["reader"] + reads["case"]
    for missing in ("refuse", "drop_cases"):
        with pytest.raises(
            InputError, match=r"no case was read by every reader under every method.*split-plot"
        ):
            read_table(reads).resolve(missing)


def test_a_name_in_two_spellings_is_pointed_out(make_reads):
    reads = make_reads(0)
    number = reads["case"].str.removeprefix("case ")
    reads["case"] = number.where(reads["method"] == "gan", number + ".0")
    with pytest.raises(InputError, match=r"case names '0.0' and '0' look like one, written in two ways"):
        read_table(reads).resolve("refuse")
    spelled = make_reads(0)
    spelled.loc[spelled.index[:3], "reader"] = "ann"
    with pytest.raises(InputError, match="reader names 'ann' and 'Ann' look like one"):
        read_table(spelled).resolve("refuse")


def test_names_that_are_alike_but_complete_are_two(make_reads):
    table = read_table(make_reads(0, methods=("1", "1.0"), readers=("x 1", "x"))).resolve("refuse")
    assert table.methods == ("1", "1.0")
    assert table.readers == ("x 1", "x")


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        ([], HEADER, "there is no row of reads"),
        (ROWS, "reader,way,case,truth,rating\n", "no column 'method' or 'treatment' or 'modality' or 'arm'"),
        (ROWS, "reader,method,case,truth,score\n", "no column 'rating'; there are 'reader'"),
        (ROWS, "reader,method,case,state,rating\n", "no column 'truth'"),
        ([row + ",1" for row in ROWS], "reader,arm,case,truth,rating,modality\n", "could all be the method"),
        (["1;2;3;1;4"], "reader;method;case;truth;rating\n", "separate columns by commas"),
        ([*ROWS, "1,9,5,1,4,8"], HEADER, "is no CSV table"),
        ([*ROWS, ",9,5,1,4"], HEADER, r"reads.csv, row 18: reader is empty"),
        ([*ROWS, "1,9,5,1,good"], HEADER, r"row 18: rating must be a finite number, got 'good'"),
        ([*ROWS, "1,9,5,1,inf"], HEADER, r"row 18: rating must be a finite number, got 'inf'"),
        ([*ROWS, "1,9,5,1,'3,5'"], HEADER, "is no CSV table"),
        ([*ROWS, "1,9,5,,4"], HEADER, r"row 18: truth of case '5' must be 0 or 1, got ''"),
        ([*ROWS, "1,9,5,2,4"], HEADER, r"row 18: truth of case '5' must be 0 or 1, got '2'"),
        (
            [*ROWS, "", "3,9,2,1,4"],
            HEADER,
            r"reads.csv, row 19: truth of case '2' is 1, but 0 in row 3",
        ),
    ],
)
def test_what_is_wrong_is_named(write, rows, header, message):
    with pytest.raises(InputError, match=message):
        read_table(write(rows, header))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ((HEADER + "\n".join(ROWS)).encode("utf-16"), "is UTF-16 text"),
        (b"PK\x03\x04", "is a workbook"),
        (b"reader,method,case,truth,rating\nM\xfcller,a,1,1,3\n", "is no UTF-8: byte 0xfc in line 2"),
        (b"reader,method,case,truth,truth,rating\n", "has two columns 'truth'"),
        (b"sep=,\nreader,method,case,truth,rating\n", "begins with the line 'sep=,'"),
    ],
)
def test_what_another_program_wrote_is_named_in_a_line(tmp_path, content, message):
    path = tmp_path / "reads.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"reads\.csv.*{message}.*Remedy") as refused:
        read_table(path)
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none.csv: there is no such file"):
        read_table(tmp_path / "none.csv")


def test_columns_mixed_up_do_not_fill_the_memory():
    n = 4000
    frame = pd.DataFrame({"reader": range(n), "method": range(n), "case": range(n), "rating": 1})
    with pytest.raises(InputError, match="not crossed"):
        read_table(frame, needs_truth=False)


def test_truth_is_left_alone_where_it_is_not_needed(write):
    rows = [",".join([*row.split(",")[:3], "?", row.split(",")[4]]) for row in ROWS]
    assert read_table(write(rows), needs_truth=False).truth is None
