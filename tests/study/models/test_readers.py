"""Model readers: what they answer, by hand; that they are repeatable, resumable and leave people alone."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from manifest import cells, write_manifest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import nn

from medrestore.checks import InputError
from medrestore.data.intensity import foreground_scale
from medrestore.data.volumes import SourceGrid, read_volume, write_volume
from medrestore.domains.amyloid_pet.schema import pair_schema
from medrestore.networks.tasks.amyloid import AmyloidClassifier
from medrestore.networks.weights import describe, save_file
from medrestore.study.create import create_study
from medrestore.study.layout import open_study
from medrestore.study.models import scores as model_scores
from medrestore.study.models.readers import answers_of, simulate
from medrestore.study.models.scores import best_threshold
from medrestore.study.protocol import Protocol
from medrestore.study.record.store import ReadStore

SHAPE = (24, 26, 8)
# Stored right to left and front to back, so that a map read without its orientation lies elsewhere.
AFFINE = np.diag([-5.0, -5.0, 6.0, 1.0]) + np.outer([1, 1, 1, 0], [0, 0, 0, 30.0])
SIZE = (48, 48)
"""Of the slices that the network sees."""
FITTED = {"fit-1": 1.00, "fit-2": 1.20, "fit-3": 1.40, "fit-4": 1.80}
"""Composite SUVR by subject; the halves are negative and positive: the threshold is 1.3."""
READ = {"read-1": 1.10, "read-2": 1.27, "read-3": 1.33, "read-4": 1.70}
"""Composite SUVR of the study's cases; read-3 is negative all the same."""
STATUS = {"read-1": 0, "read-2": 0, "read-3": 0, "read-4": 1}
PLAN = """
title: Brain PET
seed: 5
arms:
  fulldosezz: {manifest: manifest.csv, column: target, split: test}
  reduceddosezz: {manifest: manifest.csv, column: degraded, split: test}
truth: {manifest: manifest.csv, column: amyloid_status}
readers: {anna: {}, net_a: {kind: model}, suvr_a: {kind: model}, suvr_b: {kind: model}}
questions: florbetaben
washout_days: 0
duplicate_fraction: 0.25
"""


def head(suvr: float) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """A block of four cortical regions of one uptake around a cerebellum of 1, different on all sides."""
    regions = np.zeros(SHAPE, dtype=np.int16)
    regions[4:22, 4:20, 1:7] = 10
    for number, place in enumerate((5, 8, 11, 14), start=2):
        regions[6:12, place : place + 3, 2:6] = number
    regions[14:20, 6:10, 1:3] = 1
    image = np.where(regions > 0, 0.8, 0.0).astype(np.float32)
    image[(regions > 1) & (regions < 6)] = suvr
    image[regions == 1] = 1
    return image, regions


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four scans to fit to and four to read, standard dose and a noisy one; a plan; weights of a network."""
    folder = tmp_path_factory.mktemp("model_readers")
    grid = SourceGrid.from_affine(SHAPE, AFFINE)
    rows = []
    for number, (name, suvr) in enumerate({**FITTED, **READ}.items()):
        target, regions = head(suvr)
        noise = np.random.default_rng(number).normal(0, 0.1, SHAPE)
        place = f"subjects/{name}"
        write_volume(target, grid, folder / place / "target.nii.gz")
        write_volume((target + noise).astype(np.float32), grid, folder / place / "degraded.nii.gz")
        write_volume(regions, grid, folder / place / "regions.nii.gz", dtype="int16")
        rows.append(
            {
                "subject_id": name,
                "session_id": "ses-1",
                "split": "test" if name in READ else "train" if number % 2 else "validation",
                "amyloid_status": STATUS.get(name, int(suvr > 1.3)),
                "dose_fraction": 0.01,
                "tracer": "florbetaben",
                "units": "SUV",
                **{column: f"{place}/{column}.nii.gz" for column in ("target", "degraded", "regions")},
            }
        )
    write_manifest(pair_schema(), rows, folder)
    (folder / "plan.yaml").write_text(PLAN)
    network = AmyloidClassifier(widen_factor=1 / 8, norm="instance", seed=1)
    save_file({"networks": {"task": describe(network)}, "spatial_size": SIZE}, folder / "model.pt")
    create_study(folder / "plan.yaml", output=folder / "study", workers=1)
    return folder


@pytest.fixture
def fresh(cohort: Path, tmp_path: Path) -> Path:
    """A study that nobody has read."""
    shutil.copytree(cohort / "study", tmp_path / "study")
    return tmp_path / "study"


def reads_of(folder: Path) -> pd.DataFrame:
    """All reads with what was shown: ``case``, ``arm``, ``repeat``, and the answers as columns."""
    study = open_study(folder)
    with ReadStore(study, read_only=True) as store:
        rows = store.rows()
    table = rows.merge(study.reading_list.drop(columns=["reader", "phase"]), on="read_id")
    table = table.merge(study.key[["image_id", "case", "arm", "sha256_served"]], on="image_id")
    return pd.concat([table, pd.DataFrame(list(table["answers"]))], axis=1)


def test_without_noise_each_reader_answers_as_worked_out_by_hand(cohort, fresh):
    weights = [cohort / "model.pt"]
    # 2 arms of 4 cases and a quarter of these again, by three model readers.
    assert simulate(fresh, weights=weights, manifest=cohort / "manifest.csv", noise=0, seed=1) == 3 * 10
    table = reads_of(fresh)
    assert set(table["reader"]) == {"net_a", "suvr_a", "suvr_b"}
    assert set(table["origin"]) == {"model"}
    assert (table["image_sha256"] == table["sha256_served"]).all()
    assert set(table["answers"].iloc[0]) == {"amyloid_status", "confidence", "score"}

    standard = table[(table["arm"] == "fulldosezz") & (table["repeat"] == 0)]
    by_suvr = standard[standard["reader"] == "suvr_a"].set_index("case")
    assert by_suvr["amyloid_status"].to_dict() == {
        "read-1_ses-1": False,
        "read-2_ses-1": False,
        "read-3_ses-1": True,  # 1.33 lies above 1.3, whatever the truth
        "read-4_ses-1": True,
    }
    # The spread over cases is 0.219, in the noisy arm nearly so. From 1.3, read-1 is 0.91 of it, which is in
    # the fourth of five parts of 1.25; read-2 and read-3 are 0.14, in the first; read-4 is 1.83.
    assert by_suvr["confidence"].to_dict() == {
        "read-1_ses-1": 4,
        "read-2_ses-1": 1,
        "read-3_ses-1": 1,
        "read-4_ses-1": 5,
    }
    assert by_suvr.loc["read-4_ses-1", "score"] == 10
    # Without noise readers by SUVR are one, and a repeated image is read as before.
    suvr = table[table["reader"] != "net_a"].groupby("image_id")["score"]
    assert (suvr.min() == suvr.max()).all()
    assert (suvr.size() >= 2).all()


def test_network_reads_the_middle_of_each_image_over_its_own_scale(cohort, fresh):
    network = AmyloidClassifier(widen_factor=1 / 8, norm="instance", seed=1).eval()
    slices = {}
    for path in (fresh / "public" / "images").glob("*.nii"):
        volume = read_volume(path).data
        # The foreground in a plain way: 12 mm of smoothing, voxels above .3 of the maximum. No head is 40
        # slices high here, so all that hold foreground are read.
        smooth = gaussian_filter(volume, 12 / 2.3548 / np.array([5, 5, 6]))
        height = np.flatnonzero((smooth > 0.3 * smooth.max()).any(axis=(0, 1)))
        inside = slice(int(height[0]), int(height[-1]) + 1)
        slices[path.stem] = torch.zeros(inside.stop - inside.start, 1, *SIZE)
        scale = foreground_scale(volume, voxel_size_mm=(5, 5, 6))
        slices[path.stem][:, 0, 12:36, 11:37] = torch.from_numpy(volume[:, :, inside] / scale).permute(
            2, 0, 1
        )
    with torch.no_grad():
        # Untrained, it calls all images positive: its bias is moved until half of them are negative.
        logits = {name: network(stack).mean().item() for name, stack in slices.items()}
        network.resnet.fc.bias -= float(np.median(list(logits.values())))
        chances = {name: torch.sigmoid(network(stack)).mean().item() for name, stack in slices.items()}
    weights = fresh.with_name("model.pt")
    save_file({"networks": {"task": describe(network)}, "spatial_size": SIZE}, weights)
    assert simulate(fresh, weights=[weights] * 3, noise=0) == 30
    read = reads_of(fresh).drop_duplicates("image_id")
    odds = read["image_id"].map({name: math.log(chance / (1 - chance)) for name, chance in chances.items()})
    spread = np.sqrt(odds.groupby(read["arm"]).var(ddof=0).mean())
    level = np.minimum(odds.abs() / spread / 1.25 * 5, 4).astype(int) + 1
    assert (odds > 0).tolist() == read["amyloid_status"].tolist()
    assert level.tolist() == read["confidence"].tolist()
    assert read["amyloid_status"].nunique() == 2
    assert read["confidence"].nunique() > 2


def test_noise_is_that_asked_for_and_new_in_each_presentation(cohort, fresh, monkeypatch):
    from medrestore.study.models import readers as model_readers

    distances: list[float] = []

    def answer(protocol: Protocol, distance: float) -> dict[str, Any]:
        distances.append(distance)
        return answers_of(protocol, distance)

    monkeypatch.setattr(model_readers, "answers_of", answer)
    copies = [fresh.with_name(f"copy_{number}") for number in range(3)]
    for copy in copies:
        shutil.copytree(fresh, copy)
    found = []
    for copy, noise, seed in zip((fresh, *copies), (0, 0.5, 0.5, 0.5), (1, 1, 1, 2), strict=True):
        distances.clear()
        simulate(
            copy, manifest=cohort / "manifest.csv", weights=[cohort / "model.pt"], noise=noise, seed=seed
        )
        found.append(np.array(distances))
    without, with_noise, again, other = found
    assert with_noise.tolist() == again.tolist()
    assert reads_of(copies[0])["answers"].tolist() == reads_of(copies[1])["answers"].tolist()
    assert (with_noise != other).all()
    by_network = slice(0, 10)  # net_a comes first; the others shift their thresholds too
    draws = np.concatenate([(run - without)[by_network] for run in (with_noise, other)])
    # 20 draws of standard deviation 0.5: theirs lies within a factor of 2 with a chance of .9999.
    assert 0.25 < draws.std() < 1
    assert len(np.unique(draws)) == 20
    # Readers by SUVR differ by more than noise: each has a threshold of its own, the same for all images.
    shifts = (with_noise - without)[10:].reshape(2, 10)
    assert len(np.unique(shifts)) == 20


def test_interrupted_call_is_continued_and_a_finished_one_adds_nothing(cohort, fresh, tmp_path, monkeypatch):
    shutil.copytree(fresh, tmp_path / "uninterrupted")
    call: Callable[[Path], int] = lambda folder: simulate(  # noqa: E731
        folder, weights=[cohort / "model.pt"], manifest=cohort / "manifest.csv", seed=3
    )
    assert call(tmp_path / "uninterrupted") == 30
    append_many, calls = ReadStore.append_many, []

    def fail_at_second(self: ReadStore, entries: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return append_many(self, entries)

    monkeypatch.setattr(ReadStore, "append_many", fail_at_second)
    with pytest.raises(KeyboardInterrupt):
        call(fresh)
    monkeypatch.undo()
    assert len(reads_of(fresh)) == 10
    assert call(fresh) == 20
    columns = ["answer_id", "read_id", "reader", "answers"]
    assert reads_of(fresh)[columns].equals(reads_of(tmp_path / "uninterrupted")[columns])

    monkeypatch.setattr(model_scores, "image_scores", None)  # nothing is computed where nothing is to be read
    assert call(fresh) == 0
    for settings in ({"seed": 4}, {"seed": 3, "noise": 0.4}):
        with pytest.raises(
            InputError, match=r"30 reads of net_a, suvr_a, suvr_b are on record.* another seed"
        ):
            simulate(fresh, weights=[cohort / "model.pt"], manifest=cohort / "manifest.csv", **settings)


COMPLETE = {
    **dict.fromkeys(("rctu_lateral_temporal", "rctu_frontal", "rctu_parietal"), 2),
    "rctu_posterior_cingulate_precuneus": 1,
    "amyloid_status": True,
    "confidence": 3,
    "image_quality": 4,
    "artefact": False,
}


def test_reads_brought_in_from_elsewhere_are_kept(cohort, fresh):
    opened = open_study(fresh)
    first = opened.reading_list[opened.reading_list["reader"] == "net_a"].iloc[0]
    with ReadStore(opened) as store:
        store.append(
            answer_id="mine", read_id=first["read_id"], reader="net_a", answers=COMPLETE, origin="import"
        )
    assert simulate(fresh, weights=[cohort / "model.pt"], manifest=cohort / "manifest.csv") == 29
    table = reads_of(fresh)
    assert table[table["answer_id"] == "mine"]["answers"].item()["confidence"] == 3


def test_people_are_never_answered_for(cohort, fresh):
    simulate(fresh, weights=[cohort / "model.pt"], manifest=cohort / "manifest.csv")
    assert "anna" not in set(reads_of(fresh)["reader"])


def test_training_and_qualification_are_left_out(make_study, tmp_path, cohort):
    study = make_study(tmp_path / "study", readers={"net": "model"}, training=1, qualification=1)
    # 3 arms of 4 cases and a duplicate; not the 1 + 2 x 1 of the preparation.
    assert simulate(study.folder, weights=[cohort / "model.pt"]) == 13
    assert set(reads_of(study.folder)["phase"]) == {"reading"}


@pytest.mark.parametrize(
    ("readers", "weights", "manifest", "message"),
    [
        (["anna"], 1, None, "has no model readers.*kind: model"),
        ({"net": "model"}, 2, None, r"has 1 model reader \(net\), got 2 weights"),
        ({"net": "model", "other": "model"}, 1, None, "no weights are left for other.*manifest with regions"),
        ({"net": "model"}, 0, "gone.csv", "gone.csv: no such file"),
        ({"net": "model"}, 0, "manifest.csv", "has no region map of sub-zz001_ses-zz01, .* or give weights"),
    ],
)
def test_study_that_does_not_fit_is_refused(
    make_study, tmp_path, cohort, readers, weights, manifest, message
):
    study = make_study(tmp_path / "study", readers=readers)
    with pytest.raises(InputError, match=message):
        simulate(
            study.folder,
            weights=[cohort / "model.pt"] * weights,
            manifest=None if manifest is None else cohort / manifest,
        )
    assert reads_of(study.folder).empty


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decision": ""}, "ask for no decision"),
        ({"dimensions": 2}, "holds single images"),
    ],
)
def test_questions_that_no_model_can_answer_are_refused(make_study, tmp_path, cohort, change, message):
    questions = {
        "questions": [{"name": "positive", "text": "Positive?", "type": "yes_no"}],
        "decision": "positive",
        **change,
    }
    study = make_study(tmp_path / "study", readers={"net": "model"}, questions=questions)
    with pytest.raises(InputError, match=message):
        simulate(study.folder, weights=[cohort / "model.pt"])


def test_threshold_is_never_fitted_to_the_cases_of_the_study(cohort, fresh, tmp_path):
    shutil.copytree(cohort / "subjects", tmp_path / "subjects")
    table = cells(cohort / "manifest.csv")
    table["split"] = ["train" if name in READ else "test" for name in table["subject_id"]]
    table.to_csv(tmp_path / "manifest.csv", index=False)
    with pytest.raises(InputError, match="nothing to fit the SUVR threshold to"):
        simulate(fresh, weights=[cohort / "model.pt"], manifest=tmp_path / "manifest.csv")


def test_image_that_was_changed_is_not_read(cohort, fresh):
    image = sorted((fresh / "public" / "images").glob("*.nii"))[0]
    content = bytearray(image.read_bytes())
    content[-1] ^= 1
    image.write_bytes(content)
    with pytest.raises(InputError, match=f"{image.name}: is not the image that was frozen"):
        simulate(fresh, weights=[cohort / "model.pt"] * 3)
    assert reads_of(fresh).empty


def test_network_that_cannot_tell_images_apart_is_refused(cohort, fresh):
    network = AmyloidClassifier(widen_factor=1 / 8, norm="instance", seed=1)
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    save_file({"networks": {"task": describe(network)}, "spatial_size": SIZE}, fresh.with_name("zero.pt"))
    with pytest.raises(InputError, match="net_a gives all images of an arm the same score"):
        simulate(fresh, weights=[fresh.with_name("zero.pt")] * 3)


LEVELS = {1: "no", 2: "hardly", 3: "maybe", 4: "likely", 5: "yes"}
SCORES: dict[str, list[dict[str, Any]]] = {
    "derived": [
        {"name": "sure", "text": "Sure?", "type": "choice", "options": LEVELS},
        {
            "name": "score",
            "text": "Score",
            "type": "derived",
            "rule": {"signed_confidence": ["positive", "sure"]},
        },
    ],
    "choice": [{"name": "score", "text": "Score", "type": "choice", "options": LEVELS}],
    "integer": [{"name": "score", "text": "Score", "type": "integer", "range": [0, 100]}],
    "number": [{"name": "score", "text": "Score", "type": "number", "range": [-1, 1]}],
    "open": [{"name": "score", "text": "Score", "type": "number"}],
    "maximum": [
        {"name": "sure", "text": "Sure?", "type": "choice", "options": LEVELS},
        {"name": "score", "text": "Score", "type": "derived", "rule": {"maximum_of": ["sure"]}},
    ],
}


@pytest.mark.parametrize(
    ("kind", "distance", "expected"),
    [
        # Five parts of 1.25: level 1 below .25, 2 below .5, ..., 5 from 1.
        ("derived", 0.24, {"positive": True, "sure": 1}),
        ("derived", -0.26, {"positive": False, "sure": 2}),
        ("derived", 0.99, {"positive": True, "sure": 4}),
        ("derived", -7.0, {"positive": False, "sure": 5}),
        ("derived", 0.0, {"positive": False, "sure": 1}),
        # The normal distribution at 0, 1 and -1.5: .5, .8413, .0668.
        ("choice", 0.0, {"positive": False, "score": 3}),
        ("choice", 1.0, {"positive": True, "score": 5}),
        ("choice", -1.5, {"positive": False, "score": 1}),
        ("integer", 1.0, {"positive": True, "score": 84}),
        ("number", -1.5, {"positive": False, "score": pytest.approx(2 * 0.0668072 - 1, abs=1e-6)}),
        ("open", 1.0, {"positive": True}),
        ("maximum", 1.0, {"positive": True}),
        ("none", 1.0, {"positive": True}),
    ],
)
def test_answers(kind, distance, expected):
    entry = {
        "questions": [
            {"name": "positive", "text": "Positive?", "type": "yes_no"},
            *SCORES.get(kind, []),
        ],
        "decision": "positive",
        "score": "score" if kind in SCORES else "",
    }
    protocol = Protocol.load(entry, where="questions")
    answers = answers_of(protocol, distance)
    assert answers == expected
    assert protocol.check_answers(answers, complete=False)  # the record takes it


@pytest.mark.parametrize("seed", range(20))
def test_threshold_is_the_best_of_all(seed):
    random = np.random.default_rng(seed)
    labels = random.permutation([0] * 6 + [1] * 5)
    values = np.round(random.normal(labels, 1), 1)  # ties occur
    found = best_threshold(values, labels)
    ordered = np.unique(values)
    places = (ordered[1:] + ordered[:-1]) / 2

    def youden(threshold: float) -> float:
        above = values > threshold
        return float(above[labels == 1].mean() + (~above)[labels == 0].mean())

    best = max(youden(place) for place in places)
    assert youden(found) == pytest.approx(best, abs=1e-12)
    room = dict(zip(places, np.diff(ordered), strict=True))
    widest = max(gap for place, gap in room.items() if youden(place) > best - 1e-9)
    nearest = min(places, key=lambda place: abs(place - found))
    assert nearest == pytest.approx(found)
    assert room[nearest] == pytest.approx(widest)
