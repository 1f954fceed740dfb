"""A folder belongs to the settings of its results; a run that left none is mended and called again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from medrestore.checks import InputError
from medrestore.claims import Claim, claimed


def claim(folder: Path, settings: Mapping[str, Any], **options: Any) -> AbstractContextManager[Claim]:
    """Claim a folder whose results are its text files."""
    return claimed(
        folder,
        settings,
        record="settings.json",
        belongs="experiment",
        other="another experiment",
        has_results=lambda folder: any(folder.glob("parts/*.txt")),
        remains=("parts", "log"),
        **options,
    )


def work(folder: Path, settings: Mapping[str, Any], *, fail: str = "", results: int = 1) -> None:
    """Make results and then fail."""
    with claim(folder, settings) as held:
        for number in range(results):
            (held.folder / "parts").mkdir(exist_ok=True)
            (held.folder / "parts" / f"{number}.txt").write_text(str(settings))
        if fail:
            raise InputError(fail)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


class TestWithoutResults:
    def test_a_refused_run_leaves_nothing_and_can_be_mended(self, tmp_path):
        folder = tmp_path / "new" / "run"
        with pytest.raises(InputError, match="raise the counts"):
            work(folder, {"counts": 1}, fail="raise the counts", results=0)
        assert not folder.exists()
        work(folder, {"counts": 2})
        assert files(folder) == ["parts/0.txt", "settings.json"]

    def test_a_folder_that_was_there_stays(self, tmp_path):
        (tmp_path / "empty").mkdir()
        with pytest.raises(InputError, match="no"):
            work(tmp_path, {"counts": 1}, fail="no", results=0)
        assert tmp_path.is_dir()
        assert files(tmp_path) == []
        work(tmp_path, {"counts": 2})

    def test_a_killed_run_gives_way_and_its_remains_go(self, tmp_path):
        (tmp_path / "settings.json").write_text(json.dumps({"counts": 1}))
        (tmp_path / "parts" / "half").mkdir(parents=True)
        (tmp_path / "parts" / "half" / "image.part").touch()
        (tmp_path / "log").touch()
        (tmp_path / "mine.md").touch()
        work(tmp_path, {"counts": 2})
        assert files(tmp_path) == ["mine.md", "parts/0.txt", "settings.json"]
        assert json.loads((tmp_path / "settings.json").read_text()) == {"counts": 2}

    def test_other_files_keep_an_owner(self, tmp_path):
        folder = tmp_path / "run"
        with pytest.raises(InputError, match="no"), claim(folder, {"counts": 1}) as held:
            (held.folder / "log").touch()
            raise InputError("no")
        assert files(folder) == ["log", "settings.json"]
        work(folder, {"counts": 2})
        assert files(folder) == ["parts/0.txt", "settings.json"]

    def test_an_interruption_is_no_result(self, tmp_path):
        with pytest.raises(KeyboardInterrupt), claim(tmp_path / "run", {"counts": 1}):
            raise KeyboardInterrupt
        work(tmp_path / "run", {"counts": 2})

    @pytest.mark.parametrize(
        "litter", [".DS_Store", "._settings.json", "Thumbs.db", ".partial-7-settings.json"]
    )
    def test_litter_of_other_programs_is_nothing(self, tmp_path, litter):
        (tmp_path / litter).touch()
        work(tmp_path, {"counts": 1})


class TestWithResults:
    def test_the_same_settings_continue(self, tmp_path):
        with pytest.raises(InputError, match="later"):
            work(tmp_path, {"counts": 1}, fail="later")
        with claim(tmp_path, {"counts": 1}, facts={"salt": 2}) as held:
            assert held.facts == {}
            held.note({"salt": 3})
        with claim(tmp_path, {"counts": 1}, facts={"salt": 4}) as held:
            assert held.facts == {"salt": 3}

    def test_others_are_refused_by_name(self, tmp_path):
        before = {
            "seed": 0,
            "scan": {"angles": 80, "fwhm": 5.0},
            "weights": "0f" * 32,
            "pairs": ["a", "b"] * 30,
        }
        with pytest.raises(InputError, match="later"):
            work(tmp_path, before, fail="later")
        now = {"seed": 1, "scan": {"angles": 40, "fwhm": 5.0}, "weights": "1e" * 32, "pairs": []}
        with pytest.raises(InputError) as caught:
            work(tmp_path, now)
        assert str(caught.value) == (
            f"{tmp_path}: holds another experiment (seed 0 -> 1, scan.angles 80 -> 40, weights changed, "
            "pairs changed); nothing is overwritten. Remedy: give the settings that it was begun with to "
            "continue it, or name a new folder"
        )
        assert json.loads((tmp_path / "settings.json").read_text()) == before

    def test_what_is_finished_is_read_from_a_folder_that_cannot_be_written(self, tmp_path, monkeypatch):
        work(tmp_path, {"counts": 1})

        def no(*_: Any, **__: Any) -> None:
            raise AssertionError("was locked")

        monkeypatch.setattr("medrestore.claims.only_process", no)
        with claim(tmp_path, {"counts": 1}, is_finished=lambda _: True) as held:
            assert held.finished


class TestRefused:
    def test_a_second_process(self, tmp_path):
        folder = tmp_path / "run"
        with claim(folder, {"counts": 1}):
            for counts in (1, 2):
                with pytest.raises(InputError, match="run: another process is at work on this experiment"):
                    work(folder, {"counts": counts})
            assert files(folder) == [".lock", "settings.json"]
        work(folder, {"counts": 1})
        assert ".lock" not in files(folder)

    @pytest.mark.parametrize("text", ["{", "[1]", '{"mine": 1}', "\x00"])
    def test_a_record_of_somebody_else(self, tmp_path, text):
        (tmp_path / "settings.json").write_text(text)
        with pytest.raises(InputError, match=r"(is not readable JSON|holds another experiment).*Remedy"):
            work(tmp_path, {"counts": 1})
        assert (tmp_path / "settings.json").read_text() == text

    def test_other_files(self, tmp_path):
        (tmp_path / "deep").mkdir()
        (tmp_path / "deep" / "thesis.tex").touch()
        with pytest.raises(InputError, match=r"holds other files and no experiment.*Remedy: name"):
            work(tmp_path, {"counts": 1})
        assert files(tmp_path) == ["deep/thesis.tex"]

    @pytest.mark.parametrize("name", ["file", "file/below", "gone", "gone/below"])
    def test_a_file_where_the_folder_should_be(self, tmp_path, name):
        (tmp_path / "file").touch()
        (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
        with pytest.raises(
            InputError, match=r"(file: is a file|gone: is a link that leads nowhere).*Remedy: name"
        ):
            work(tmp_path / name, {"counts": 1})


COMMANDS: dict[str, list[str]] = {
    "simulate amyloid-pet": [],
    "simulate multicontrast-mri": [],
    "demo": [],
    "histology tiles": [],
}
"""Commands that need nothing but an output."""


@pytest.mark.parametrize("command", [*COMMANDS])
def test_commands_refuse_an_output_that_is_a_file(call, tmp_path, command):
    (tmp_path / "out").write_text("mine")
    ended = call(*command.split(), *COMMANDS[command], "--output", tmp_path / "out")
    ended.refused("out: is a file, expected a folder for", "Remedy: name a new folder")
    assert (tmp_path / "out").read_text() == "mine"
