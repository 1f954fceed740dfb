"""Files are whole or not there."""

import errno
import hashlib
from pathlib import Path

import pytest

from medrestore.checks import InputError
from medrestore.files import atomic_path, beside, require_empty_folder, sha256_file


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


@pytest.mark.parametrize("name", ["ä" * 124 + ".nii.gz", "x" * 252 + ".nii"[:3]])
def test_a_name_of_any_length_that_a_file_can_have_is_written(name: str, tmp_path: Path) -> None:
    assert len(name.encode()) == 255
    with atomic_path(tmp_path / name) as temporary:
        assert temporary.suffix == Path(name).suffix
        temporary.write_text("whole")
    assert (tmp_path / name).read_text() == "whole"
    with (
        pytest.raises(InputError, match=r"would have 256 bytes, it can have 255.*Remedy"),
        atomic_path(tmp_path / f"{name}x"),
    ):
        pass
    other = "y" + name[1:]
    assert beside(tmp_path / name, ".partial-1-") != beside(tmp_path / other, ".partial-1-")


def test_checksum_of_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none: no such file$"):
        sha256_file(tmp_path / "none")
    with pytest.raises(InputError, match=r"is a folder$"):
        sha256_file(tmp_path)
    with pytest.raises(InputError, match=r"cannot be read \(File name too long\)"):
        sha256_file(tmp_path / ("x" * 300))


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
