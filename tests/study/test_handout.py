"""Handout: the images of one reader in order, and a table that the import takes back."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from medrestore.checks import InputError
from medrestore.files import sha256_file
from medrestore.study.handout import write_handout
from medrestore.study.layout import Study
from medrestore.study.record.exchange import import_reads
from medrestore.study.record.store import ReadStore


def hand_out(study: Study, output: Path, reader: str = "reader_1") -> int:
    return write_handout(study.folder, reader=reader, output=output, progress=False)


def names_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


class TestFiles:
    def test_sessions_in_reading_order(self, study, tmp_path):
        readings = study.reading_list[study.reading_list["reader"] == "reader_1"]
        assert hand_out(study, tmp_path / "out") == len(readings) == 3 * 4 + 1
        wanted = {
            f"session-{row.session}/{row.position:03}_{row.read_id}.nii": row.image_id
            for row in readings.itertuples()
        }
        assert names_below(tmp_path / "out") == sorted([*wanted, "README.txt", "reads.csv"])
        for name, image_id in wanted.items():
            assert sha256_file(tmp_path / "out" / name) == sha256_file(study.image_path(image_id))

    def test_each_reader_has_names_and_an_order_of_its_own(self, study, tmp_path):
        hand_out(study, tmp_path / "1")
        hand_out(study, tmp_path / "2", "reader_2")
        first, second = (pd.read_csv(tmp_path / name / "reads.csv") for name in "12")
        assert not set(first["read_id"]) & set(second["read_id"])

    def test_practice_comes_first(self, make_study, tmp_path):
        study = make_study(tmp_path / "study", training=2, qualification=3, attempts=2)
        assert hand_out(study, tmp_path / "out") == 2 + 3 + 13
        files = pd.read_csv(tmp_path / "out" / "reads.csv")["file"]
        phases = study.reading_list.set_index("read_id")["phase"]
        assert [name.split("/")[0] for name in files] == ["session-0"] * 5 + sorted(
            name.split("/")[0] for name in files[5:]
        )
        numbers = [int(name.split("/")[1][:3]) for name in files[:5]]
        assert numbers == [1, 2, 3, 4, 5]
        assert [phases[name.split("_")[1][:-4]] for name in files[:5]] == (
            ["training"] * 2 + ["qualification"] * 3
        )
        text = (tmp_path / "out" / "README.txt").read_text()
        assert "Begin with session-0: 5 images to practice" in text

    def test_copies_not_links(self, study, tmp_path):
        hand_out(study, tmp_path / "out")
        images = list((tmp_path / "out").rglob("*.nii"))
        assert len({path.stat().st_ino for path in images}) == len(images) == 13
        assert {path.stat().st_nlink for path in images} == {1}
        assert not any(path.is_symlink() for path in images)

    def test_nothing_but_the_handout_is_left(self, study, tmp_path):
        hand_out(study, tmp_path / "out")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "study"]


class TestTable:
    def test_columns_are_what_is_asked(self, study, tmp_path):
        hand_out(study, tmp_path / "out")
        table = pd.read_csv(tmp_path / "out" / "reads.csv", dtype=str)
        asked = ["frontal", "parietal", "positive", "confidence", "quality", "artifact"]
        assert list(table.columns) == ["file", "read_id", *asked, "artifact_place", "remark"]
        assert table[asked].isna().all(axis=None)
        assert list(table["read_id"]) == [name[-20:-4] for name in table["file"]]
        order = study.reading_list[study.reading_list["reader"] == "reader_1"]
        order = order.sort_values(["session", "position"])
        assert list(table["read_id"]) == list(order["read_id"])

    def test_filled_in_it_is_imported(self, study, good_answers, tmp_path):
        hand_out(study, tmp_path / "out")
        table = pd.read_csv(tmp_path / "out" / "reads.csv", dtype=str)
        for name, value in good_answers.items():
            table[name] = {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
        table.to_csv(tmp_path / "out" / "reads.csv", index=False)
        assert import_reads(study.folder, tmp_path / "out" / "reads.csv").new == 13
        with ReadStore(study) as store:
            current = store.current()
        assert set(current["read_id"]) == set(table["read_id"])
        assert all(answers.items() >= good_answers.items() for answers in current["answers"])


class TestReadme:
    def test_says_what_is_asked_in_words(self, study, tmp_path):
        hand_out(study, tmp_path / "out")
        text = (tmp_path / "out" / "README.txt").read_text(encoding="utf-8")
        for part in (
            "Amyloid PET",
            "White matter is the reference.",
            "reader reader_1: 13 images",
            "frontal: Frontal uptake\n  write one of these numbers:\n    1  none\n    2  moderate",
            "positive: Amyloid positive?\n  write yes or no",
            "artifact_place: Where?\n  only if artifact is yes; otherwise leave it empty\n  write x y z",
            "remark: Remark\n  write in your own words\n  may be left empty",
            "Read session-1 first, and so on to session-4.",
        ):
            assert part in text
        for derived in ("load", "score", "Plaque load"):
            assert derived not in text
        assert max(map(len, text.splitlines())) <= 110

    def test_says_how_long_to_wait(self, make_study, tmp_path):
        study = make_study(tmp_path / "study", washout_days=14)
        hand_out(study, tmp_path / "out")
        text = " ".join((tmp_path / "out" / "README.txt").read_text().split())
        assert "Leave at least 14 days between two sessions." in text


class TestRefusals:
    def test_unknown_reader(self, study, tmp_path):
        with pytest.raises(InputError, match="reader must be one of 'reader_1', 'reader_2', got 'reader_3'"):
            hand_out(study, tmp_path / "out", "reader_3")
        assert not (tmp_path / "out").exists()

    def test_model_reader(self, make_study, tmp_path):
        study = make_study(tmp_path / "study", readers={"reader_1": "human", "network_1": "model"})
        with pytest.raises(InputError, match="reader 'network_1' is a model"):
            hand_out(study, tmp_path / "out", "network_1")

    def test_folder_that_is_there(self, study, tmp_path, monkeypatch):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / ".DS_Store").write_bytes(b"")
        monkeypatch.chdir(tmp_path / "out")
        hand_out(study, Path())
        assert {"README.txt", "reads.csv"} < set(names_below(tmp_path / "out"))
        assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "study"]

    def test_folder_with_files(self, study, tmp_path):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "reads.csv").write_text("filled in for hours")
        with pytest.raises(InputError, match="holds other files and no handout; nothing is overwritten"):
            hand_out(study, tmp_path / "out")
        assert (tmp_path / "out" / "reads.csv").read_text() == "filled in for hours"

    @pytest.mark.parametrize(
        ("fault", "message"),
        [("flipped bit", "is not the image that was frozen"), ("missing", "is missing")],
    )
    def test_damaged_image(self, study, tmp_path, fault, message):
        image = study.image_path(str(study.reading_list["image_id"][0]))
        content = bytearray(image.read_bytes())
        content[-1] ^= 1
        if fault == "missing":
            image.unlink()
        else:
            image.write_bytes(content)
        with pytest.raises(InputError, match=f"{image.name}: {message}; nothing was written"):
            hand_out(study, tmp_path / "out")
        assert [path.name for path in tmp_path.iterdir()] == ["study"]
