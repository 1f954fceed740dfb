"""Files are whole or not there."""

import errno
import getpass
import hashlib
import os
from pathlib import Path

import pytest

from medrestore.checks import InputError
from medrestore.files import (
    atomic_path,
    beside,
    name_the_nameless,
    only_process,
    require_empty_folder,
    sha256_file,
    with_home,
)

USER_VARIABLES = ("HOME", "LOGNAME", "USER", "LNAME", "USERNAME")


def test_a_failed_write_keeps_the_old_file_and_leaves_no_trace(tmp_path):
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


def test_a_full_disk_is_named(tmp_path):
    path = tmp_path / "model.pt"
    path.write_text("old")

    def write() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(InputError, match=r"model\.pt: the disk is full; the file from before is kept"):
        write()
    assert path.read_text() == "old"


def test_other_errors_pass(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "never-written"):
        pass


@pytest.mark.parametrize("name", ["ä" * 124 + ".nii.gz", "x" * 252 + ".nii"[:3]])
def test_a_name_of_any_length_that_a_file_can_have_is_written(name, tmp_path):
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


def test_checksum_of_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"none: no such file$"):
        sha256_file(tmp_path / "none")
    with pytest.raises(InputError, match=r"is a folder$"):
        sha256_file(tmp_path)
    with pytest.raises(InputError, match=r"cannot be read \(File name too long\)"):
        sha256_file(tmp_path / ("x" * 300))


def test_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc" * 1_000_000)
    assert sha256_file(tmp_path / "a") == hashlib.sha256(b"abc" * 1_000_000).hexdigest()


def test_folder_with_other_things_is_refused(tmp_path):
    assert require_empty_folder(tmp_path / "new" / "run", belongs="run").is_dir()
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(InputError, match="nothing is overwritten"):
        require_empty_folder(tmp_path, belongs="run", marker="run.json")
    with pytest.raises(InputError, match="is a file"):
        require_empty_folder(tmp_path / "thesis.tex", belongs="run")
    (tmp_path / "run.json").write_text("{}")
    assert require_empty_folder(tmp_path, belongs="run", marker="run.json") == tmp_path


def test_one_process_at_a_time_works_in_a_folder(tmp_path):
    with only_process(tmp_path / "run", work="training"):
        # A lock of the operating system belongs to the open file: another one stands for another process.
        with (
            pytest.raises(
                InputError, match=r"run: another process is at work on this training. Remedy: wait"
            ),
            only_process(tmp_path / "run", work="training"),
        ):
            pass
        require_empty_folder(tmp_path / "run", belongs="training")  # the lock is nobody's result
    with only_process(tmp_path / "run", work="training"):
        pass


@pytest.mark.parametrize("error", [OSError(errno.ENOLCK, "No locks available"), NotImplementedError()])
def test_a_file_system_without_locks_is_worked_in(error, tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    with only_process(tmp_path, work="training"):
        (tmp_path / "done").touch()


def test_files_that_others_write_first_are_tolerated_by_name(tmp_path):
    (tmp_path / "config_20261128_101112.json").touch()
    require_empty_folder(tmp_path, belongs="training", tolerated=["config_[0-9]*_[0-9]*.json"])
    (tmp_path / "notes.json").touch()
    with pytest.raises(InputError, match="holds other files and no training"):
        require_empty_folder(tmp_path, belongs="training", tolerated=["config_[0-9]*_[0-9]*.json"])


def test_a_user_whom_nobody_knows_has_a_name_and_no_home(monkeypatch):
    import pwd

    def unknown(_: object) -> None:
        raise KeyError("uid not found")

    for name in ("getpwuid", "getpwnam"):
        monkeypatch.setattr(pwd, name, unknown)
    environment = {name: value for name, value in os.environ.items() if name not in USER_VARIABLES}
    monkeypatch.setattr(os, "environ", environment)
    name_the_nameless()
    assert getpass.getuser() == "nobody"
    assert not (Path.home() / ".cache").exists()
    assert with_home("~other/run") == "~other/run"
    with pytest.raises(InputError, match=r"~/run: the home folder is not known .* Remedy: write"):
        with_home("~/run")


def test_a_user_who_is_known_keeps_name_and_home(monkeypatch):
    monkeypatch.setenv("HOME", "/srv/somebody")
    monkeypatch.setenv("LOGNAME", "somebody")
    before = dict(os.environ)
    name_the_nameless()
    assert dict(os.environ) == before
    assert with_home("~/run") == "/srv/somebody/run"


@pytest.mark.parametrize("name", ["folder", "file/below.csv"])
def test_a_place_where_no_file_can_be_is_refused(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with (
        pytest.raises(InputError, match=r"(folder: is a folder|file: is a file), expected a .*Remedy: name"),
        atomic_path(tmp_path / name),
    ):
        pass


def test_a_home_that_nobody_wrote_out_is_no_folder():
    for path in ("~", "~/run", Path("~/run")):
        with pytest.raises(InputError, match=r"begins with ~, .* Remedy: write the home folder out"):
            require_empty_folder(path, belongs="run")
    assert require_empty_folder("~run", belongs="run", make=False) == Path("~run")
