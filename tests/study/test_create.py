"""Making a study: what is frozen, what an interruption leaves, and a search of all that is handed out."""

from __future__ import annotations

import base64
import codecs
import gzip
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
import yaml

from medrestore.checks import InputError
from medrestore.files import sha256_file
from medrestore.study import create
from medrestore.study.create import create_study
from medrestore.study.handout import write_handout
from medrestore.study.images import package
from medrestore.study.layout import canonical_json, open_study, sha256_text

ARMS = ("zebrastandard", "quokkalowdose", "axolotlgan")
SECRETS = ("hospitalmercy", "DOE^JANE", "scanroom7", "19450708", "axolotl-v3.pt", "zebra_fulldose")
SHAPE = (16, 18, 8)


def write_source(path: Path, *, seed: int, noise: float, shape: tuple[int, ...] = SHAPE) -> None:
    """Write a scan whose header tells everything that must not be told."""
    volume = np.random.default_rng(seed).normal(0, noise, shape)
    volume[3:-3, 4:-4, 2:-2] += 2
    image = nibabel.Nifti1Image(volume.astype(np.float32), np.diag([2.0, 2.0, 3.0, 1.0]))
    image.set_sform(image.affine, 1)
    header = image.header
    header["descrip"], header["aux_file"] = b"DOE^JANE 19450708", b"axolotl-v3.pt"
    header["intent_name"], header["db_name"] = b"zebra_fulldose", b"scanroom7"
    header["toffset"], header["slice_duration"], header["slice_end"] = 1945.0708, 7.5, 7
    header["cal_max"], header["glmax"], header["extents"] = seed + 1, 99, 16384
    header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"hospitalmercy DOE^JANE"))
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)


def write_plan(folder: Path, *, cases: int = 4, shape: tuple[int, ...] = SHAPE, **changes: Any) -> Path:
    """Write sources of three arms, truth and a plan; return the plan."""
    names = [f"hospitalmercy{number:02}_ses-1" for number in range(cases)]
    for place, arm in enumerate(ARMS):
        for number, case in enumerate(names):
            path = folder / "scanroom7" / arm / f"{case}_restored.nii.gz"
            write_source(path, seed=10 * number + place, noise=(0.05, 0.4, 0.02)[place], shape=shape)
    truth = pd.DataFrame({"case": names, "truth": [number % 2 for number in range(cases)]})
    truth.to_csv(folder / "truth.csv", index=False)
    plan = {
        "title": "Brain scans",
        "seed": 5,
        "arms": {arm: f"scanroom7/{arm}" for arm in ARMS},
        "truth": {"file": "truth.csv"},
        "readers": {"reader_1": {}, "reader_2": {}, "network_1": {"kind": "model"}},
        "questions": "florbetaben",
        "duplicate_fraction": 0.1,
        **changes,
    }
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump(plan, sort_keys=False), encoding="utf-8")
    return path


def make(plan: Path, output: Path, **options: Any) -> Any:
    return create_study(plan, output=output, progress=False, **{"workers": 1, **options})


def states(folder: Path) -> dict[str, tuple[str, int, int]]:
    """Return content and times of all files below a folder."""
    return {
        str(path.relative_to(folder)): (sha256_file(path), path.stat().st_mtime_ns, path.stat().st_ctime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plan with training and qualification; tests must not change it."""
    folder = tmp_path_factory.mktemp("scanroom7")
    names = [f"hospitalmercy{number:02}_ses-1" for number in range(6)]
    return write_plan(
        folder,
        cases=6,
        training={"arm": ARMS[0], "cases": names[:1]},
        qualification={"arm": ARMS[0], "cases": names[1:2], "attempts": 2},
    )


@pytest.fixture(scope="module")
def folder(plan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A frozen study; tests must not change it."""
    output = tmp_path_factory.mktemp("made") / "study"
    make(plan, output)
    return output


class TestFrozenStudy:
    def test_holds_the_files_of_the_layout_alone(self, folder):
        images = {f"public/images/{name}.nii" for name in open_study(folder).key["image_id"]}
        others = {"public/protocol.json"} | {
            f"private/{name}"
            for name in ("plan.yaml", "design.json", "reading_list.csv", "key.csv", "truth.csv", "tokens.csv")
        }
        assert set(states(folder)) == images | others

    def test_every_image_is_read_and_every_reading_has_an_image(self, folder):
        study = open_study(folder)
        assert len(study.key) == 4 * 3 + 2  # four cases of the study in three arms, two in one arm
        assert Counter(study.key["phase"]) == {"reading": 12, "training": 1, "qualification": 1}
        assert set(study.reading_list["image_id"]) == set(study.key["image_id"])
        for reader in ("reader_1", "reader_2", "network_1"):
            rows = study.reading_list[study.reading_list["reader"] == reader]
            assert (rows["phase"] == "reading").sum() == 12 + 1  # and one duplicate: a tenth of 12
            assert (rows["phase"] == "qualification").sum() == 2  # attempts

    def test_truth_of_all_phases(self, folder):
        wanted = {f"hospitalmercy{number:02}_ses-1": number % 2 for number in range(6)}
        assert open_study(folder).truth == wanted

    def test_design_says_what_was_frozen_by_what(self, folder, plan):
        study = open_study(folder)
        design, private = study.design, folder / "private"
        assert design["format"] == 1
        assert design["software"]["numpy"] == np.__version__
        assert design["generator"]["version"] == np.__version__
        assert "PCG64" in design["generator"]["name"]
        assert design["plan_sha256"] == sha256_text(canonical_json(design["plan"]))
        for name, file in (
            ("reading_list", private / "reading_list.csv"),
            ("key", private / "key.csv"),
            ("truth", private / "truth.csv"),
            ("protocol", folder / "public" / "protocol.json"),
        ):
            assert design[f"{name}_sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
        assert (private / "plan.yaml").read_bytes() == plan.read_bytes()
        served = json.loads((folder / "public" / "protocol.json").read_text(encoding="utf-8"))
        assert served == json.loads(json.dumps(study.protocol.as_dict())) | {"study_id": design["study_id"]}

    def test_secrets_are_closed(self, folder):
        private = folder / "private"
        assert private.stat().st_mode & 0o777 == 0o700
        assert (private / "tokens.csv").stat().st_mode & 0o777 == 0o600
        tokens = pd.read_csv(private / "tokens.csv")
        assert list(tokens["reader"]) == ["reader_1", "reader_2", "network_1"]
        assert tokens["token"].nunique() == 3
        assert tokens["token"].map(len).min() >= 43  # 32 bytes

    def test_names_follow_from_the_salt_and_not_from_the_plan(self, plan, folder, tmp_path):
        first, second = open_study(folder), make(plan, tmp_path / "again")
        for name in ("plan_sha256", "truth_sha256"):
            assert first.design[name] == second.design[name]
        assert not set(first.key["image_id"]) & set(second.key["image_id"])
        assert not set(first.reading_list["read_id"]) & set(second.reading_list["read_id"])
        assert first.design["study_id"] != second.design["study_id"]
        # The images themselves are the same.
        assert list(first.key["sha256_served"]) == list(second.key["sha256_served"])

    def test_same_salt_same_bytes_whatever_the_workers(self, plan, tmp_path, monkeypatch):
        monkeypatch.setattr(create.secrets, "token_hex", lambda count: "5a" * count)
        for workers in (1, 2):
            make(plan, tmp_path / str(workers), workers=workers)
        for name in ("private/key.csv", "private/reading_list.csv", "public/protocol.json"):
            assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()

    def test_own_questions_with_many_options(self, tmp_path):
        """Numbers become texts in JSON, where 10 comes before 2: the checksum must hold when read back."""
        options = {number: f"level {number}" for number in range(1, 12)}
        question = {"name": "level", "text": "Level", "type": "choice", "options": options}
        path = write_plan(tmp_path, cases=3, questions={"questions": [question]}, truth=None)
        study = make(path, tmp_path / "study")
        assert list(study.protocol["level"].options) == list(range(1, 12))
        assert study.truth == {}
        assert study.design["truth_sha256"] == ""
        assert not (study.private / "truth.csv").exists()

    def test_refuses_no_workers(self, plan, tmp_path):
        with pytest.raises(InputError, match=r"workers must be in \[1, 1024\], got 0"):
            make(plan, tmp_path / "study", workers=0)


class TestOneImageForSeveral:
    @pytest.mark.parametrize("other", [(ARMS[1], 0), (ARMS[0], 1)], ids=["two arms", "two cases"])
    def test_copy_is_refused_until_it_is_mended(self, tmp_path, other):
        plan = write_plan(tmp_path)
        names = [f"hospitalmercy{number:02}_ses-1_restored.nii.gz" for number in range(4)]
        first, second = (tmp_path / "scanroom7" / arm / names[case] for arm, case in ((ARMS[0], 0), other))
        second.write_bytes(first.read_bytes())
        with pytest.raises(InputError, match="the same image stands for several") as caught:
            make(plan, tmp_path / "study")
        assert f"{first} " in str(caught.value)
        assert f"{second} " in str(caught.value)
        write_source(second, seed=99, noise=0.3)
        assert make(plan, tmp_path / "study").truth

    def test_folder_that_looks_like_a_home(self, tmp_path, monkeypatch):
        plan = write_plan(tmp_path)
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        study = make(plan, Path("~root") / "study")
        assert len(study.key) == 12
        assert (tmp_path / "here" / "~root" / "study" / "private" / "key.csv").is_file()


class TestCalledAgain:
    def test_frozen_study_is_returned_untouched(self, plan, folder):
        before = states(folder)
        again = make(plan, folder)
        assert again.design == open_study(folder).design
        assert states(folder) == before

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"seed": 6}, "the plan"),
            ({"washout_days": 30}, "the plan"),
            (
                {"questions": {"questions": [{"name": "a", "text": "A", "type": "yes_no"}], "decision": "a"}},
                "the plan, the questions",
            ),
        ],
    )
    def test_another_plan_is_refused(self, tmp_path, changes, message):
        make(write_plan(tmp_path), tmp_path / "study")
        before = states(tmp_path / "study")
        with pytest.raises(InputError, match=f"study: holds another study: {message} changed"):
            make(write_plan(tmp_path, **changes), tmp_path / "study")
        assert states(tmp_path / "study") == before

    def test_changed_truth_and_images_are_refused(self, tmp_path):
        plan = write_plan(tmp_path)
        make(plan, tmp_path / "study")
        truth = (tmp_path / "truth.csv").read_text()
        (tmp_path / "truth.csv").write_text(truth.replace("00_ses-1,0", "00_ses-1,1"))
        with pytest.raises(InputError, match="holds another study: the truth changed"):
            make(plan, tmp_path / "study")
        (tmp_path / "truth.csv").write_text(truth)
        source = next((tmp_path / "scanroom7" / ARMS[0]).iterdir())
        source.rename(source.with_name(source.name.replace("_restored", "")))
        for other in (tmp_path / "scanroom7" / ARMS[0]).glob("*_restored*"):
            other.rename(other.with_name(other.name.replace("_restored", "")))
        with pytest.raises(InputError, match="holds another study: the list of images changed"):
            make(plan, tmp_path / "study")

    def test_other_files_are_refused(self, plan, tmp_path):
        (tmp_path / "thesis.txt").write_text("mine")
        with pytest.raises(InputError, match="holds other files and no study"):
            make(plan, tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]

    def test_tampered_study_is_refused(self, tmp_path):
        plan = write_plan(tmp_path)
        make(plan, tmp_path / "study")
        path = tmp_path / "study" / "private" / "key.csv"
        path.write_text(path.read_text().replace(ARMS[0], ARMS[1]))
        with pytest.raises(InputError, match=r"key.csv: is not the file that was frozen"):
            make(plan, tmp_path / "study")


class TestInterrupted:
    @pytest.fixture
    def stopped(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
        """A plan and the folder that a call left which was stopped at its third case."""
        plan, calls = write_plan(tmp_path), []

        def stop(*arguments: Any) -> Any:
            calls.append(arguments)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return whole(*arguments)

        whole = package.package_case
        with monkeypatch.context() as patch:
            patch.setattr(package, "package_case", stop)
            with pytest.raises(KeyboardInterrupt):
                make(plan, tmp_path / "study")
        return plan, tmp_path / "study"

    def test_is_no_study_yet(self, stopped):
        with pytest.raises(InputError, match="is no study"):
            open_study(stopped[1])
        assert stopped[1].joinpath("private").stat().st_mode & 0o777 == 0o700

    def test_goes_on_where_it_stopped(self, stopped):
        plan, folder = stopped
        salt = json.loads((folder / "private" / "creation.json").read_text())["salt"]
        images = states(folder / "public" / "images")
        assert len(images) == 2 * 3
        study = make(plan, folder)
        assert study.design["salt"] == salt
        after = states(folder / "public" / "images")
        assert {name: after[name] for name in images} == images
        assert len(after) == 4 * 3
        assert sorted(path.name for path in (folder / "private").iterdir()) == [
            *("design.json", "key.csv", "plan.yaml", "reading_list.csv", "tokens.csv", "truth.csv")
        ]

    def test_refuses_to_go_on_with_another_plan(self, stopped, tmp_path):
        changed = write_plan(tmp_path, seed=6)
        with pytest.raises(
            InputError, match=r"study: holds another study, of which images are made \(the plan changed\)"
        ):
            make(changed, stopped[1])

    def test_a_refused_plan_is_mended(self, tmp_path):
        path = write_plan(tmp_path)
        bad = sorted((tmp_path / "scanroom7" / ARMS[1]).iterdir())[2]
        whole = bad.read_bytes()
        bad.write_bytes(whole[:400])
        with pytest.raises(InputError, match=bad.name):
            make(path, tmp_path / "study")
        made = states(tmp_path / "study" / "public" / "images")
        # Another plan begins anew; the same one would go on.
        mended = yaml.safe_load(path.read_text())
        names = [item.name.removesuffix("_restored.nii.gz") for item in sorted(bad.parent.iterdir())]
        mended["cases"] = [name for name in names if name not in bad.name]
        path.write_text(yaml.safe_dump(mended))
        study = make(path, tmp_path / "study")
        after = states(tmp_path / "study" / "public" / "images")
        assert len(after) == 3 * 3
        assert not set(made) & set(after)
        assert len(study.key) == 9

    def test_a_refused_plan_goes_on_when_its_image_is_mended(self, tmp_path):
        path = write_plan(tmp_path)
        bad = sorted((tmp_path / "scanroom7" / ARMS[1]).iterdir())[2]
        whole = bad.read_bytes()
        bad.write_bytes(whole[:400])
        with pytest.raises(InputError, match=bad.name):
            make(path, tmp_path / "study")
        made = states(tmp_path / "study" / "public" / "images")
        bad.write_bytes(whole)
        make(path, tmp_path / "study")
        after = states(tmp_path / "study" / "public" / "images")
        assert {name: after[name] for name in made} == made

    def test_stopped_between_tables_and_seal(self, tmp_path, monkeypatch):
        plan = write_plan(tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(create, "_write_tokens", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                make(plan, tmp_path / "study")
        key = (tmp_path / "study" / "private" / "key.csv").read_bytes()
        images = states(tmp_path / "study" / "public" / "images")
        make(plan, tmp_path / "study")
        assert (tmp_path / "study" / "private" / "key.csv").read_bytes() == key
        assert states(tmp_path / "study" / "public" / "images") == images

    def test_nothing_half_written_or_foreign_is_served(self, stopped):
        plan, folder = stopped
        for name in ("public/.partial-7-protocol.json", "private/.partial-7-key.csv"):
            (folder / name).write_text("half")
        (folder / "public" / "notes.txt").write_text("patient")
        with pytest.raises(InputError, match=r"notes.txt: is no file of this study"):
            make(plan, folder)
        (folder / "public" / "notes.txt").unlink()
        make(plan, folder)
        assert not list(folder.rglob(".partial-*"))

    @pytest.mark.slow
    def test_killed_again_and_again(self, tmp_path):
        """SIGKILL at random moments: in the end the study is the one that an undisturbed call makes."""
        plan = write_plan(tmp_path, cases=40, shape=(64, 64, 40))
        random = np.random.default_rng(0)
        call = (
            "import sys; from medrestore.study.create import create_study;"
            "print('started', flush=True);"
            "create_study(sys.argv[1], output=sys.argv[2], workers=1, progress=False)"
        )
        kills = 0
        for _ in range(10):
            process = subprocess.Popen(
                [sys.executable, "-c", call, str(plan), str(tmp_path / "study")], stdout=subprocess.PIPE
            )
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(float(random.uniform(0.1, 0.6)))
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stdout.close()
            kills += process.returncode == -signal.SIGKILL
        assert kills > 3
        study = make(plan, tmp_path / "study")
        undisturbed = make(plan, tmp_path / "undisturbed")
        assert list(study.key["sha256_served"]) == list(undisturbed.key["sha256_served"])
        for image_id, checksum in zip(study.key["image_id"], study.key["sha256_served"], strict=True):
            assert sha256_file(study.image_path(image_id)) == checksum
        assert not list((tmp_path / "study").rglob(".partial-*"))


def spellings(word: str) -> Iterator[bytes]:
    """Yield the ways in which a word could hide in bytes."""
    for text in {word, word.lower(), word.upper()}:
        yield text.encode()
        yield text.encode("utf-16-le")
        yield text.encode("utf-16-be")
        yield text.encode()[::-1]
        yield codecs.encode(text, "rot13").encode()
        yield text.encode().hex().encode()
        for shift in range(3):  # in base64 a word looks different at each place of three
            code = base64.b64encode(b"\0" * shift + text.encode())
            yield code[-(-8 * shift // 6) : 8 * (shift + len(text.encode())) // 6]
    yield hashlib.sha256(word.encode()).hexdigest().encode()
    yield hashlib.md5(word.encode(), usedforsecurity=False).hexdigest().encode()


def unpacked(content: bytes) -> Iterator[bytes]:
    """Yield the content, and whatever in it is packed by gzip or zlib."""
    yield content
    for match in re.finditer(rb"\x1f\x8b\x08|\x78[\x01\x5e\x9c\xda]", content):
        for bits in (31, 15):
            try:
                yield zlib.decompressobj(bits).decompress(content[match.start() :], 1 << 20)
            except zlib.error:
                continue


def findings(folder: Path, words: set[str]) -> list[str]:
    """Return where one of the words is in names or bytes below a folder."""
    found = []
    for path in (folder, *folder.rglob("*")):
        name = str(path.relative_to(folder)).encode().lower()
        found += [f"{path}: name holds {word}" for word in words if word.lower().encode() in name]
        attributes = os.listxattr(path) if hasattr(os, "listxattr") else []
        found += [f"{path}: attribute {name}" for name in attributes]
        if not path.is_file():
            continue
        for content in unpacked(path.read_bytes()):
            lower = content.lower()
            for word in words:
                found += [
                    f"{path}: holds {word} as {spelling[:40]!r}"
                    for spelling in spellings(word)
                    if spelling in content or spelling.lower() in lower
                ]
    return found


def secret_words(folder: Path, plan: Path) -> set[str]:
    """Return all that a study knows and no reader may: names, paths, what headers held, and the salt."""
    study = open_study(folder)
    words = {*ARMS, *SECRETS, study.design["salt"], str(plan.parent), plan.parent.name, "_restored"}
    for name in ("case", "subject", "arm", "source", "sha256_source"):
        words |= set(study.key[name])
    for source in study.key["source"]:
        words |= {part for part in Path(source).parts if len(part) > 5}
    return words


class TestNothingIsTold:
    """Every byte, name, size and time that leaves the study."""

    def test_search_finds_what_is_there(self, tmp_path):
        (tmp_path / "gz").mkdir()
        hidden = {
            "plain": b"..axolotlgan..",
            "capitals": b"AXOLOTLGAN",
            "utf16": "axolotlgan".encode("utf-16"),
            "base64": base64.b64encode(b"x: axolotlgan!"),
            "hex": b"axolotlgan".hex().encode(),
            "gz/packed": b"\x00\x01" + gzip.compress(b"arm: axolotlgan"),
            "axolotlgan.txt": b"",
        }
        for name, content in hidden.items():
            (tmp_path / name).write_bytes(content)
        places = {line.split(":")[0] for line in findings(tmp_path, {"axolotlgan"})}
        assert places == {str(tmp_path / name) for name in hidden}

    def test_sources_hold_it(self, plan):
        """The search would find what headers hold, had it been carried over."""
        path = next((plan.parent / "scanroom7" / ARMS[2]).iterdir())
        (plan.parent / "unpacked").mkdir()
        (plan.parent / "unpacked" / "a.nii").write_bytes(gzip.decompress(path.read_bytes()))
        found = findings(plan.parent / "unpacked", set(SECRETS))
        assert all(any(f"holds {word}" in line for line in found) for word in SECRETS)

    def test_public_folder(self, folder, plan):
        assert findings(folder / "public", secret_words(folder, plan)) == []

    def test_handout(self, folder, plan, tmp_path):
        write_handout(folder, reader="reader_1", output=tmp_path / "handout", progress=False)
        words = secret_words(folder, plan) | set(open_study(folder).key["image_id"])
        assert findings(tmp_path / "handout", words) == []

    @pytest.mark.parametrize("handed_out", [False, True])
    def test_sizes_and_times_are_equal(self, folder, tmp_path, handed_out):
        place = folder / "public"
        if handed_out:
            place = tmp_path / "handout"
            write_handout(folder, reader="reader_2", output=place, progress=False)
        images = list(place.rglob("*.nii"))
        assert len(images) == (14 + 1 if handed_out else 14)
        assert {path.stat().st_size for path in images} == {352 + 2 * int(np.prod(SHAPE))}
        assert {path.stat().st_mtime for path in (place, *place.rglob("*"))} == {946684800}
        assert {path.stat().st_mode for path in images} == {images[0].stat().st_mode}
        assert {path.stat().st_nlink for path in images} == {1}

    def test_headers_of_a_case_are_equal(self, folder):
        study = open_study(folder)
        for _, rows in study.key.groupby("case"):
            headers = {study.image_path(name).read_bytes()[:352] for name in rows["image_id"]}
            assert len(headers) == 1

    def test_order_of_names_and_readings_is_no_arm(self, tmp_path, monkeypatch):
        """Ranks of the arms by name and by place in a session, against what chance gives."""
        salts = iter(f"{number:064x}" for number in range(10**6))
        monkeypatch.setattr(create.secrets, "token_hex", lambda count: next(salts))
        plan = write_plan(tmp_path, cases=30, shape=(8, 12, 8))
        study = make(plan, tmp_path / "study")
        count = len(study.key)
        by_name = study.key.sort_values("image_id", ignore_index=True)
        readings = study.reading_list.merge(study.key[["image_id", "arm"]], on="image_id")
        readings = readings[readings["repeat"] == 0]
        for arm in ARMS:
            ranks = np.flatnonzero(by_name["arm"] == arm)
            # Mean of n of N ranks without replacement: variance (N - n)(N + 1) / (12 n).
            n = len(ranks)
            sd = np.sqrt((count - n) * (count + 1) / (12 * n))
            assert abs(ranks.mean() - (count - 1) / 2) < 3.5 * sd
            places = readings.groupby(["reader", "session"])["position"].rank(pct=True)
            mean = places[readings["arm"] == arm].mean()
            # Uniform in (0, 1]: SD 0.29 a reading, 90 readings an arm.
            assert abs(mean - 0.5) < 3.5 * 0.29 / np.sqrt(90) + 0.02
