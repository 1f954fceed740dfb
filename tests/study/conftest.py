"""A small study on disk in the frozen layout, for all tests of the layer; made without plan or package."""

from __future__ import annotations

import csv
import http.client
import json
import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medrestore import rng
from medrestore.files import sha256_file
from medrestore.study.layout import (
    KEY_COLUMNS,
    QUALIFICATION,
    READING,
    READING_COLUMNS,
    TRAINING,
    Study,
    canonical_json,
    open_study,
    sha256_text,
)
from medrestore.study.protocol import Protocol
from medrestore.study.record.store import ReadStore

ARMS = ("armstandardzz", "armlowdosezz", "armtaskganzz")
SHAPE = (12, 12, 6)
LEVELS = {1: "none", 2: "moderate", 3: "frequent"}
QUESTIONS: dict[str, Any] = {
    "name": "florbetaben-like",
    "title": "Amyloid PET",
    "modality": "PET",
    "dimensions": 3,
    "instructions": "White matter is the reference.",
    "display": {"colormap": "gray", "colormaps": ["gray"], "planes": ["axial"]},
    "questions": [
        {"name": "frontal", "text": "Frontal uptake", "type": "choice", "options": LEVELS},
        {"name": "parietal", "text": "Parietal uptake", "type": "choice", "options": LEVELS},
        {
            "name": "load",
            "text": "Plaque load",
            "type": "derived",
            "rule": {"maximum_of": ["frontal", "parietal"]},
        },
        {"name": "positive", "text": "Amyloid positive?", "type": "yes_no"},
        {
            "name": "confidence",
            "text": "How sure?",
            "type": "choice",
            "options": {1: "guess", 2: "low", 3: "medium", 4: "high", 5: "certain"},
        },
        {
            "name": "score",
            "text": "Score",
            "type": "derived",
            "rule": {"signed_confidence": ["positive", "confidence"]},
        },
        {
            "name": "quality",
            "text": "Image quality",
            "type": "choice",
            "options": {1: "uninterpretable", 2: "poor", 3: "fair", 4: "good", 5: "excellent"},
        },
        {"name": "artifact", "text": "Artifact?", "type": "yes_no"},
        {
            "name": "artifact_place",
            "text": "Where?",
            "type": "point",
            "when": {"artifact": True},
        },
        {"name": "remark", "text": "Remark", "type": "text", "required": False},
    ],
    "decision": "positive",
    "score": "score",
    "quality": "quality",
    "consistent": {"positive": ["load", 2]},
}
GOOD_ANSWERS = {
    "frontal": 2,
    "parietal": 1,
    "positive": True,
    "confidence": 4,
    "quality": 4,
    "artifact": False,
}


def write_study(
    folder: Path,
    *,
    arms: Sequence[str] = ARMS,
    cases: int = 4,
    readers: Sequence[str] | Mapping[str, str] = ("reader_1", "reader_2"),
    training: int = 0,
    qualification: int = 0,
    attempts: int = 2,
    pass_mark: float = 0.8,
    duplicates: int = 1,
    washout_days: float = 0,
    primary: Mapping[str, Any] | None = None,
    guess: Mapping[str, Sequence[str]] | None = None,
    questions: Mapping[str, Any] = QUESTIONS,
    seed: int = 7,
    plan: Mapping[str, Any] | None = None,
) -> Study:
    """Write a study and open it.

    Every session shows each case once, its arm rotated from session to session; hidden duplicates make one
    more session. Odd cases are positive. ``training`` and ``qualification`` are numbers of further cases;
    ``readers`` may map a name to ``human`` or ``model``; ``plan`` overrides keys of the normal form.
    """
    kinds = dict(readers) if isinstance(readers, Mapping) else dict.fromkeys(readers, "human")
    random = rng.generator(seed, "test study")
    protocol = Protocol.load(questions, where="questions")
    truth: dict[str, int] = {}
    images: list[dict[str, Any]] = []
    (folder / "public" / "images").mkdir(parents=True)
    (folder / "private").mkdir(mode=0o700)
    shown = ((READING, cases, arms), (TRAINING, training, arms[:1]), (QUALIFICATION, qualification, arms[:1]))
    number = 0
    for phase, count, its_arms in shown:
        for _ in range(count):
            number += 1
            subject = f"sub-zz{number:03}"
            truth[f"{subject}_ses-zz01"] = number % 2
            for place, arm in enumerate(its_arms):
                images.append(_write_image(folder, random, subject, phase, arm, place, number % 2))
    key = pd.DataFrame(images, columns=list(KEY_COLUMNS))
    sessions = len(arms) + (duplicates > 0)
    reading_list = _reading_list(key, kinds, arms, duplicates=duplicates, attempts=attempts, seed=seed)
    normal = {
        "title": "A study",
        "seed": seed,
        "arms": {arm: {"images": "folder", "folder": f"/data/zzsource/{arm}"} for arm in arms},
        "truth": {"file": "/data/zzsource/truth.csv"},
        "cases": _cases(key, READING),
        "subjects": None,
        "readers": {name: {"kind": kind} for name, kind in kinds.items()},
        "questions": "florbetaben-like",
        "sessions": sessions,
        "washout_days": washout_days,
        "duplicate_fraction": duplicates / max(cases * len(arms), 1),
        "guess": None if guess is None else {label: list(names) for label, names in guess.items()},
        "deface": False,
        "training": {"arm": arms[0], "cases": _cases(key, TRAINING)} if training else None,
        "qualification": {
            "arm": arms[0],
            "cases": _cases(key, QUALIFICATION),
            "pass_mark": pass_mark,
            "attempts": attempts,
        }
        if qualification
        else None,
        "primary": dict(primary)
        if primary is not None
        else {
            "metric": "error_rate",
            "arm": arms[-1],
            "reference": arms[0],
            "margin": 0.05,
            "alpha": 0.05,
            "covariance": "jackknife",
        },
        **(plan or {}),
    }
    private, public = folder / "private", folder / "public"
    (public / "protocol.json").write_text(json.dumps(protocol.as_dict()), encoding="utf-8")
    (private / "plan.yaml").write_text("title: A study\n", encoding="utf-8")
    key.to_csv(private / "key.csv", index=False)
    reading_list.to_csv(private / "reading_list.csv", index=False)
    pd.DataFrame({"case": list(truth), "truth": list(truth.values())}).to_csv(
        private / "truth.csv", index=False
    )
    tokens = {name: f"token-{sha256_text(f'{seed} {name}')[:32]}" for name in kinds}
    pd.DataFrame({"reader": list(tokens), "token": list(tokens.values())}).to_csv(
        private / "tokens.csv", index=False
    )
    (private / "tokens.csv").chmod(0o600)
    design = {
        "format": 1,
        "study_id": sha256_text(f"study {seed}")[:12],
        "created": "2026-01-01T00:00:00+00:00",
        "software": {"medrestore": "0"},
        "generator": {"name": "numpy PCG64", "version": np.__version__},
        "salt": "00" * 16,
        "plan": normal,
        "plan_sha256": sha256_text(canonical_json(normal)),
        "reading_list_sha256": sha256_file(private / "reading_list.csv"),
        "protocol_sha256": sha256_file(public / "protocol.json"),
        "key_sha256": sha256_file(private / "key.csv"),
        "truth_sha256": sha256_file(private / "truth.csv"),
    }
    (private / "design.json").write_text(json.dumps(design), encoding="utf-8")
    return open_study(folder)


def _cases(key: pd.DataFrame, phase: str) -> list[str]:
    return list(dict.fromkeys(key.loc[key["phase"] == phase, "case"]))


def _write_image(
    folder: Path, random: np.random.Generator, subject: str, phase: str, arm: str, place: int, positive: int
) -> dict[str, Any]:
    """Write an image: the further the arm, the noisier; positive cases are brighter."""
    import nibabel

    image_id = random.bytes(8).hex()
    values = random.normal(800 + 400 * positive, 50 + 100 * place, SHAPE).clip(0, 3000).astype(np.int16)
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_xyzt_units("mm")
    image = nibabel.Nifti1Image(values, np.diag([2.0, 2.0, 3.0, 1.0]), header)
    image.header.set_slope_inter(0.001, 0)
    image.set_qform(image.affine, 1)
    image.set_sform(image.affine, 1)
    image.header["cal_max"] = 3.0
    path = folder / "public" / "images" / f"{image_id}.nii"
    image.to_filename(path)
    return {
        "image_id": image_id,
        "phase": phase,
        "case": f"{subject}_ses-zz01",
        "subject": subject,
        "arm": arm,
        "source": f"/data/zzsource/{arm}/{subject}_ses-zz01_restored.nii.gz",
        "sha256_source": sha256_text(image_id),
        "sha256_scrubbed": sha256_text(f"scrubbed {image_id}"),
        "sha256_served": sha256_file(path),
        "bytes": path.stat().st_size,
        "window_low": 0.0,
        "window_high": 3.0,
    }


def _reading_list(
    key: pd.DataFrame,
    readers: Mapping[str, str],
    arms: Sequence[str],
    *,
    duplicates: int,
    attempts: int,
    seed: int,
) -> pd.DataFrame:
    cases = _cases(key, READING)
    image_of = {(row.case, row.arm): row.image_id for row in key.itertuples() if row.phase == READING}
    rows: list[dict[str, Any]] = []
    for reader in readers:
        random = rng.generator(seed, "test order", reader)

        def add(phase: str, attempt: int, session: int, shown: list[tuple[str, int]]) -> None:
            for position, place in enumerate(random.permutation(len(shown)), start=1):  # noqa: B023
                image_id, repeat = shown[place]
                values = (phase, attempt, session, position, random.bytes(8).hex(), image_id, repeat)  # noqa: B023
                rows.append(dict(zip(READING_COLUMNS, (reader, *values), strict=True)))  # noqa: B023

        add(TRAINING, 0, 0, [(image, 0) for image in key.loc[key["phase"] == TRAINING, "image_id"]])
        for attempt in range(1, attempts + 1):
            test = key.loc[key["phase"] == QUALIFICATION, "image_id"]
            add(QUALIFICATION, attempt, 0, [(image, 0) for image in test])
        for session in range(1, len(arms) + 1):
            shown = [
                (image_of[case, arms[(place + session) % len(arms)]], 0) for place, case in enumerate(cases)
            ]
            add(READING, 0, session, shown)
        again = [
            (image_of[case, arms[place % len(arms)]], 1) for place, case in enumerate(cases[:duplicates])
        ]
        add(READING, 0, len(arms) + 1, again)
    return pd.DataFrame(rows, columns=list(READING_COLUMNS))


@dataclass(frozen=True)
class Reply:
    """A response, as it came over the wire."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def json(self) -> Any:
        """The body's content."""
        return json.loads(self.body)


class LiveServer:
    """A server of a study on a free port of this machine, run by a thread; the page is a stub."""

    def __init__(self, study: Study, store: ReadStore, port: int) -> None:
        self.study, self.store, self.port = study, store, port
        with (study.private / "tokens.csv").open(encoding="utf-8", newline="") as stream:
            self.tokens = {row["reader"]: row["token"] for row in csv.DictReader(stream)}

    def ask(
        self,
        method: str,
        path: str,
        *,
        reader: str | None = "reader_1",
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send a request with a reader's token; a body that is no bytes goes as JSON."""
        sent = {} if reader is None else {"Authorization": f"Bearer {self.tokens.get(reader, reader)}"}
        if body is not None:
            sent["Content-Type"] = "application/json"
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body=body, headers={**sent, **(headers or {})})
            response = connection.getresponse()
            return Reply(response.status, tuple(response.getheaders()), response.read())
        finally:
            connection.close()

    def raw(self, content: bytes, *, patience_s: float = 10) -> bytes:
        """Send bytes as they are; return what comes back until the server closes, or says nothing more."""
        parts: list[bytes] = []
        with socket.create_connection(("127.0.0.1", self.port), timeout=patience_s) as connection:
            with suppress(OSError):  # the server may refuse before it has heard all
                connection.sendall(content)
            with suppress(OSError):
                parts.extend(iter(lambda: connection.recv(1 << 16), b""))
        return b"".join(parts)

    def state(self, reader: str = "reader_1") -> dict[str, Any]:
        """Return a reader's state."""
        reply = self.ask("GET", "/api/state", reader=reader)
        assert reply.status == 200, reply
        state: dict[str, Any] = reply.json
        return state

    def answer(self, read_id: str, *, reader: str = "reader_1", **changes: Any) -> Reply:
        """Send good answers to a reading."""
        return self.ask("POST", "/api/answers", reader=reader, body=submission(read_id, **changes))

    def answer_next(self, reader: str = "reader_1") -> Reply:
        """Send good answers to the reading whose turn it is."""
        return self.answer(self.state(reader)["next"]["read_id"], reader=reader)


def submission(read_id: str, **changes: Any) -> dict[str, Any]:
    """Return what the page sends."""
    entry = {
        "answer_id": str(uuid.uuid4()),
        "read_id": read_id,
        "answers": dict(GOOD_ANSWERS),
        "seconds": 3.25,
    }
    return {**entry, "image_sha256": None, "reason": None, **changes}


def stub_page(folder: Path) -> dict[str, tuple[Path, str]]:
    """Write a page that needs no viewer: address -> (file, media type)."""
    folder.mkdir(exist_ok=True)
    page = {"/": ("index.html", "text/html"), "/page.js": ("page.js", "text/javascript")}
    for name, _ in page.values():
        (folder / name).write_text(f"stub {name}", encoding="utf-8")
    return {address: (folder / name, media_type) for address, (name, media_type) in page.items()}


@contextmanager
def running_server(
    study: Study, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> Iterator[LiveServer]:
    """Serve a study as ``medrestore study serve`` does, but by a thread and with a stub as page."""
    from medrestore.study.server.serve import listen, make_app, make_server

    with ReadStore(study, clock=clock) as store, listen("127.0.0.1", 0) as listener:
        page = stub_page(study.folder.with_name(f"{study.folder.name}-page"))
        server = make_server(make_app(study, store, page=page, clock=clock))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield LiveServer(study, store, listener.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="session")
def run_server() -> Callable[..., Any]:
    """Return :func:`running_server`: ``with run_server(study) as server: ...``."""
    return running_server


@pytest.fixture
def serve_study() -> Iterator[Callable[..., LiveServer]]:
    """Return a function that serves a study until the test ends: ``serve_study(study).ask("GET", "/")``."""
    with ExitStack() as stack:
        yield lambda study, **settings: stack.enter_context(running_server(study, **settings))


@pytest.fixture(scope="session")
def make_submission() -> Callable[..., dict[str, Any]]:
    """Return :func:`submission`: ``make_submission(read_id, seconds=...)``."""
    return submission


@pytest.fixture(scope="session")
def make_stub_page() -> Callable[[Path], dict[str, tuple[Path, str]]]:
    """Return :func:`stub_page`."""
    return stub_page


@pytest.fixture(scope="session")
def make_study() -> Callable[..., Study]:
    """Return :func:`write_study`: ``make_study(folder, cases=..., readers=..., training=...)``."""
    return write_study


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Return a study of 3 arms, 4 cases, 2 readers and one hidden duplicate, without training."""
    return write_study(tmp_path / "study")


@pytest.fixture(scope="session")
def good_answers() -> dict[str, Any]:
    """Return answers that fit the protocol of :func:`write_study`."""
    return dict(GOOD_ANSWERS)
