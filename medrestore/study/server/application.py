"""The application behind the reading page: what a reader with a link may ask, and nothing else.

A reader is known by the secret of the link, sees the image to be read now, the one after it, and those that
may still be corrected, and can answer these alone. An image is checked against its frozen checksum each time
it is served. What the server says depends on no arm: images of a case have equal sizes and headers, and the
key is needed for their checksums only.
"""

from __future__ import annotations

import hashlib
import hmac
import inspect
import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp

import medrestore
from medrestore.checks import InputError
from medrestore.study.layout import Study
from medrestore.study.record.store import (
    ReadConflictError,
    ReadStore,
    StoreFailedError,
    UnknownReadError,
)
from medrestore.study.server.guard import Guard
from medrestore.study.server.requests import LONGEST_DETAIL, Submission, read_submission
from medrestore.study.server.tokens import read_tokens
from medrestore.study.server.workflow import Reading, State, feedback, make_assignments, state_of

__all__ = ["LOOPBACK", "make_app"]

LOGGER = logging.getLogger(__name__)
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
"""Names under which a machine reaches itself."""


def make_app(
    study: Study,
    store: ReadStore,
    *,
    hosts: Iterable[str] = (),
    page: Mapping[str, tuple[Path, str]] | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> ASGIApp:
    """Return the application that serves a study.

    Parameters
    ----------
    study
        The study.
    store
        Its reads, opened to write.
    hosts
        Names under which readers reach the server, beside those of this machine itself.
    page
        The page's files: address -> (file, media type); those of the package when not given.
    clock
        The time in UTC; tells whether a session is open.

    Raises
    ------
    InputError
        When the page's image viewer is not installed, a reader has no token, or the qualification cannot be
        judged.
    """
    api = _ReaderApi(study, store, clock)
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False, **_no_telemetry())
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*LOOPBACK, *hosts], www_redirect=False)
    for address, (path, media_type) in (page or _installed_page()).items():
        app.add_api_route(address, _static(path.read_bytes(), media_type), methods=["GET"])
    app.add_api_route("/api/state", api.state, methods=["GET"])
    app.add_api_route("/api/images/{read_id}", api.image, methods=["GET"])
    app.add_api_route("/api/answers", api.answer, methods=["POST"])
    return Guard(app)


class _ReaderApi:
    """What readers may ask."""

    def __init__(self, study: Study, store: ReadStore, clock: Callable[[], datetime]) -> None:
        self.study = study
        self.store = store
        self.clock = clock
        self.assignments = make_assignments(study)
        self.tokens = {
            reader: hashlib.sha256(token.encode()).digest() for reader, token in read_tokens(study).items()
        }
        self.readings = {
            reading.read_id: (reader, reading)
            for reader, assignment in self.assignments.items()
            for reading in assignment.readings
        }
        self.protocol = study.protocol.as_dict()
        self.stopped: set[str] = set()

    def state(self, request: Request) -> Response:
        """Where the reader stands."""
        return JSONResponse(self._state_entry(self._reader(request)))

    def image(self, request: Request, read_id: str) -> Response:
        """Bytes of an image that the reader may see now, checked before they leave."""
        reader = self._reader(request)
        visible = {reading.read_id: reading for reading in self._state(reader).visible}
        if read_id not in visible:
            raise HTTPException(404, "there is no such image for you now")
        reading = visible[read_id]
        try:
            content = self.study.image_path(reading.image_id).read_bytes()
        except OSError:
            content = b""
        if hashlib.sha256(content).hexdigest() != reading.sha256:
            self.stopped.add(read_id)
            LOGGER.error("image %s is not the one that was frozen; its reading is stopped", reading.image_id)
            raise HTTPException(
                409, "This image is damaged and must not be read. Please turn to the study's coordinator."
            )
        self.stopped.discard(read_id)
        return Response(content, media_type="application/octet-stream")

    async def answer(self, request: Request) -> Response:
        """Put an answer on record."""
        reader = await run_in_threadpool(self._reader, request)
        submission = await read_submission(request)
        return await run_in_threadpool(self._record, reader, submission)

    def _record(self, reader: str, submission: Submission) -> Response:
        owner, reading = self.readings.get(submission.read_id, ("", None))
        if reading is None or owner != reader:
            raise HTTPException(404, "there is no such reading for you")
        if submission.image_sha256 not in (None, reading.sha256):
            raise HTTPException(409, "the image that was shown is not the one of this reading")
        try:
            answers = self.study.protocol.check_answers(submission.answers)
            # Nothing is written between the look at the state and the row that depends on it.
            with self.store.exclusive():
                if not self.store.holds(submission.answer_id):
                    self._require_open(reader, submission, reading)
                receipt = self.store.append(
                    answer_id=submission.answer_id,
                    read_id=submission.read_id,
                    reader=reader,
                    answers=answers,
                    origin="page",
                    reason=submission.reason,
                    seconds=submission.seconds,
                    image_sha256=submission.image_sha256,
                )
        except StoreFailedError as error:
            LOGGER.error("%s", error)
            raise HTTPException(
                503, "The answer could not be saved. Keep this page open, and tell the study's coordinator."
            ) from error
        except UnknownReadError as error:
            raise HTTPException(404, "there is no such reading for you") from error
        except ReadConflictError as error:
            raise HTTPException(409, str(error)[:LONGEST_DETAIL]) from error
        except InputError as error:
            raise HTTPException(422, str(error)[:LONGEST_DETAIL]) from error
        entry = {
            "answer_id": submission.answer_id,
            "row": receipt.row,
            "hash": receipt.hash,
            "feedback": feedback(self.assignments[reader], reading, answers),
            "state": self._state_entry(reader),
        }
        return JSONResponse(entry, status_code=201 if receipt.created else 200)

    def _require_open(self, reader: str, submission: Submission, reading: Reading) -> None:
        """Refuse an answer that is not the reader's turn."""
        state = self._state(reader)
        if reading in state.earlier:
            return  # the store asks for a reason
        if reading != state.next:
            raise HTTPException(409, "this image is not the one to read now")
        if submission.image_sha256 is None and reading.read_id in self.stopped:
            raise HTTPException(409, "this image is damaged and must not be read")

    def _reader(self, request: Request) -> str:
        """Return whose token the request carries; takes as long for a wrong one as for a right one."""
        given = request.headers.getlist("authorization")
        scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        digest = hashlib.sha256(token.strip().encode("latin-1", "replace")).digest()
        found = [reader for reader, wanted in self.tokens.items() if hmac.compare_digest(digest, wanted)]
        if scheme.lower() != "bearer" or not found:
            raise HTTPException(
                401, "Please open the link that you were given.", headers={"WWW-Authenticate": "Bearer"}
            )
        return found[0]

    def _state(self, reader: str) -> State:
        return state_of(self.assignments[reader], self.store.answered(reader), now=self.clock())

    def _state_entry(self, reader: str) -> dict[str, Any]:
        state, reads = self._state(reader), self.store.answered(reader)
        return {
            "study_id": self.study.design["study_id"],
            "version": medrestore.__version__,
            "plan_sha256": self.study.plan_sha256,
            "reader": reader,
            "protocol": self.protocol,
            "phase": state.phase,
            "message": state.message,
            "opens_at": None if state.opens_at is None else state.opens_at.isoformat(timespec="seconds"),
            "session": {"number": state.session, "of": state.sessions},
            "progress": {
                "done": state.done,
                "total": state.total,
                "session_done": state.session_done,
                "session_total": state.session_total,
            },
            "next": None if state.next is None else {**_address(state.next), "phase": state.next.phase},
            "after": None if state.after is None else _address(state.after),
            "earlier": [
                {"read_id": reading.read_id, "answers": reads[reading.read_id].answers}
                for reading in state.earlier
            ],
        }


def _address(reading: Reading) -> dict[str, str]:
    return {"read_id": reading.read_id, "image": f"/api/images/{reading.read_id}"}


def _static(content: bytes, media_type: str) -> Callable[[], Response]:
    def file() -> Response:
        return Response(content, media_type=media_type)

    return file


def _no_telemetry() -> dict[str, Any]:
    """Return what keeps newer versions of FastAPI from telling others of requests, whatever is set."""
    if "telemetry" not in inspect.signature(FastAPI).parameters:
        return {}
    return {"telemetry": {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}}


def _installed_page() -> dict[str, tuple[Path, str]]:
    from medrestore.study.page import niivue_missing, static_files

    reason = niivue_missing()
    if reason:
        raise InputError(reason)
    return static_files()
