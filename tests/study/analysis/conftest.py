"""Studies that were read: every answer is a function of the reading, so that a test can count by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from medrestore import rng
from medrestore.study.layout import READING, Study
from medrestore.study.record.store import ReadStore

Answer = Callable[[Mapping[str, Any]], Mapping[str, Any] | None]

START = datetime(2026, 3, 2, 9, tzinfo=UTC)
GUESS = {
    "name": "guess",
    "text": "Which kind of image was it?",
    "type": "choice",
    "options": {1: "A full scan", 2: "A short scan", 3: "A restored scan", 4: "I cannot tell"},
}
GUESS_LABELS = {
    "A full scan": ["armstandardzz"],
    "A short scan": ["armlowdosezz"],
    "A restored scan": ["armtaskganzz"],
}


def answers(positive: bool, *, confidence: int = 4, quality: int = 4, **more: Any) -> dict[str, Any]:
    """Return all answers of a read that follow from its decision."""
    level = 2 if positive else 1
    given = {"frontal": level, "parietal": level, "positive": positive, "confidence": confidence}
    return {**given, "quality": quality, "artifact": False, **more}


def readings(study: Study) -> list[dict[str, Any]]:
    """Return all readings with arm, case and truth."""
    table = study.reading_list.merge(study.key[["image_id", "case", "arm", "sha256_served"]], on="image_id")
    table["truth"] = table["case"].map(study.truth)
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def read_study(
    study: Study,
    answer: Answer,
    *,
    seconds: Callable[[Mapping[str, Any]], float | None] = lambda _: 30.0,
    days_between: float = 14.0,
) -> Study:
    """Put a read of every reading on record, session by session; None leaves a reading out."""
    now = [START]
    with ReadStore(study, clock=lambda: now[0]) as store:
        for row in sorted(readings(study), key=lambda row: (row["session"], row["reader"], row["position"])):
            now[0] = START + timedelta(days=days_between * max(row["session"] - 1, 0))
            given = answer(row)
            if given is not None:
                store.append(
                    answer_id=f"a-{row['read_id']}",
                    read_id=row["read_id"],
                    reader=row["reader"],
                    answers=given,
                    origin="model" if study.readers[row["reader"]] == "model" else "page",
                    seconds=seconds(row),
                    image_sha256=row["sha256_served"],
                )
    return study


def correct_read(
    study: Study, row: Mapping[str, Any], given: Mapping[str, Any], *, reason: str = "wrong key"
) -> None:
    """Put a correction of a reading on record."""
    with ReadStore(study, clock=lambda: START + timedelta(days=90)) as store:
        store.append(
            answer_id=f"c-{row['read_id']}",
            read_id=row["read_id"],
            reader=row["reader"],
            answers=given,
            origin="page",
            reason=reason,
            seconds=2.0,
        )


def noisy(row: Mapping[str, Any], *, seed: int = 0, guess: bool = False) -> dict[str, Any]:
    """Answer as a reader would who errs more, and sees less quality, under later arms."""
    arm = {"armstandardzz": 0.7, "armlowdosezz": 1.7, "armtaskganzz": 1.0}.get(row["arm"], 1.0)
    random = rng.generator(seed, "answer", row["read_id"])
    signal = (2 * row["truth"] - 1) + random.normal(0, arm)
    confidence = min(5, 1 + int(2 * abs(signal)))
    quality = int(min(5, max(1, round(5.3 - 1.6 * arm + random.normal(0, 0.6)))))
    more = {"guess": int(random.integers(1, 5))} if guess else {}
    return answers(bool(signal > 0), confidence=confidence, quality=quality, **more)


def with_guess(questions: Mapping[str, Any]) -> dict[str, Any]:
    """Return questions that ask for the kind of image too."""
    return {**questions, "questions": [*questions["questions"], GUESS]}


@pytest.fixture(scope="session")
def a_read() -> Callable[..., dict[str, Any]]:
    """Return :func:`answers`."""
    return answers


@pytest.fixture(scope="session")
def fill() -> Callable[..., Study]:
    """Return :func:`read_study`."""
    return read_study


@pytest.fixture(scope="session")
def correct() -> Callable[..., None]:
    """Return :func:`correct_read`."""
    return correct_read


@pytest.fixture(scope="session")
def readings_of() -> Callable[[Study], list[dict[str, Any]]]:
    """Return :func:`readings`."""
    return readings


@pytest.fixture(scope="session")
def noisy_answer() -> Callable[..., dict[str, Any]]:
    """Return :func:`noisy`."""
    return noisy


@pytest.fixture(scope="session")
def guess_labels() -> dict[str, list[str]]:
    """Label of a kind of image -> arms."""
    return dict(GUESS_LABELS)


@pytest.fixture(scope="session")
def read_example(
    make_study: Callable[..., Study], tmp_path_factory: pytest.TempPathFactory, questions: Mapping[str, Any]
) -> Study:
    """Return a study of 3 arms, 20 cases, 3 readers and 4 duplicates that was read to its end.

    Tests must not change it.
    """
    study = make_study(
        tmp_path_factory.mktemp("read") / "study",
        cases=20,
        readers=("reader_1", "reader_2", "reader_3"),
        duplicates=4,
        washout_days=14,
        qualification=4,
        guess=GUESS_LABELS,
        questions=with_guess(questions),
        primary={
            **{"metric": "error_rate", "arm": "armtaskganzz", "reference": "armstandardzz"},
            **{"margin": 0.3, "alpha": 0.05, "covariance": "jackknife"},
        },
    )

    def answer(row: Mapping[str, Any]) -> Mapping[str, Any] | None:
        if row["phase"] != READING:
            return answers(bool(row["truth"]), guess=4) if row["attempt"] == 1 else None
        return noisy(row, guess=True)

    def seconds(row: Mapping[str, Any]) -> float:
        return float(20 + 10 * (row["session"] == 1) + row["position"] % 7)

    return read_study(study, answer, seconds=seconds)


@pytest.fixture(scope="session")
def questions(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return the questions of a small study, as :func:`write_study` asks them."""
    import inspect

    write_study = request.getfixturevalue("make_study")
    default = inspect.signature(write_study).parameters["questions"].default
    return dict(default)


@pytest.fixture
def study_folder(tmp_path: Path) -> Path:
    """Return the place of a new study."""
    return tmp_path / "study"
