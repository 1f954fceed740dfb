"""Files are whole or not there."""

import errno
import hashlib
from pathlib import Path

import pytest

from medrestore.checks import InputError
from medrestore.files import atomic_path, require_empty_folder, sha256_file


def test_a_failed_write_keeps_the_old_file_and_leaves_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "result.csv"
    path.write_text("old")

    def write() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_text("old")

    def write() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(InputError, match=r"model\.pt: the disk is full; the file from before is kept"):
        write()
    assert path.read_text() == "old"


def test_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "never-written"):
        pass


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc" * 1_000_000)
    assert sha256_file(tmp_path / "a") == hashlib.sha256(b"abc" * 1_000_000).hexdigest()


def test_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    assert require_empty_folder(tmp_path / "new" / "run", belongs="run").is_dir()
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(InputError, match="nothing is overwritten"):
        require_empty_folder(tmp_path, belongs="run", marker="run.json")
    with pytest.raises(InputError, match="is a file"):
        require_empty_folder(tmp_path / "thesis.tex", belongs="run")
    (tmp_path / "run.json").write_text("{}")
    assert require_empty_folder(tmp_path, belongs="run", marker="run.json") == tmp_path
