"""Texts of users: what a file seems to be, and what nobody sees in a name."""

from __future__ import annotations

import os

import pytest

from medrestore.checks import InputError
from medrestore.data.texts import alike, plain_text, read_json_object, read_text

TEXT = "Fläche,größer\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_utf8_is_read_with_and_without_its_mark(tmp_path, encoding):
    path = tmp_path / "a.csv"
    path.write_text(TEXT, encoding=encoding)
    assert read_text(path) == TEXT


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (TEXT.encode("utf-16"), "is UTF-16 text, expected UTF-8"),
        (TEXT.encode("utf-16-be"), "is UTF-16 text without its mark"),
        (TEXT.encode("utf-16-le"), "is UTF-16 text without its mark"),
        (TEXT.encode("utf-32"), "is UTF-32 text"),
        (b"a,b\n1,2\nM\xe4x,3\n", "is no UTF-8: byte 0xe4 in line 3 .'ä' in Windows-1252"),
        (b"a,b\n1,2\x00\n" * 1, r"holds NUL bytes \(line 2\)"),
        (b"PK\x03\x04rest of a workbook", "is a workbook .*xlsx"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "is a workbook of old Excel"),
        (b"\x1f\x8b\x08\x00", "is compressed with gzip"),
    ],
)
def test_what_is_no_utf8_is_named_in_one_line(tmp_path, content, message):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"a\.csv: {message}.*Remedy: ") as refused:
        read_text(path)
    assert "\n" not in str(refused.value)


def test_what_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(InputError, match=r"a\.csv: no such file, expected a table"):
        read_text(tmp_path / "a.csv", what="a table")
    with pytest.raises(InputError, match=r": is a folder, expected a table"):
        read_text(tmp_path, what="a table")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(InputError, match=r"loop: cannot be read \(Too many levels of symbolic links\)"):
        read_text(tmp_path / "loop")
    with pytest.raises(InputError, match=r"cannot be read \(File name too long\)"):
        read_text(tmp_path / ("x" * 300))


@pytest.mark.parametrize(
    "written",
    [
        *("é1 ", "\u00a0é1", "e\u03011", "\ufeffé1", "é\u200b1", "é1\u2028".strip(), "\u202aé1\u202c"),
    ],
)
def test_what_nobody_sees_is_no_part_of_a_name(written):
    assert plain_text(written) == "é1"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("sub-01", "SUB-01", True),
        ("sub-01", "sub-1", True),
        ("sub-01", "sub_01", True),
        ("sub-01", "sub–01", True),  # a dash that a spreadsheet made of the hyphen
        ("sub-01", "ｓｕｂ-01", True),
        ("007", "7", True),
        ("7", "7.0", True),
        ("sub-10", "sub-1", False),
        ("sub-100", "sub-10", False),
        ("1-11", "11-1", False),
        ("1.10", "1.1", False),
        ("a1", "a2", False),
        ("3ca01b2f", "3ca1b02f", False),  # checksums as pseudonyms
    ],
)
def test_names_alike(one, other, same):
    assert (alike(one) == alike(other)) is same


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is no JSON"),
        (b"[1]", "is no JSON object of keys and values"),
        (b'{"Units": "SUV", "Units": "BQML"}', "has the key 'Units' twice"),
        (b"[" * 100_000, "is no JSON"),
        ('{"Units": "SUV"}'.encode("utf-16"), "is UTF-16 text"),
    ],
)
def test_what_is_no_json_is_refused(tmp_path, content, message):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"a\.json: {message}.*Remedy"):
        read_json_object(path)


def test_json_with_a_byte_order_mark_is_json(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b'\xef\xbb\xbf{"Units": "SUV"}' + os.linesep.encode())
    assert read_json_object(path) == {"Units": "SUV"}
