"""What the server takes from a browser: one small JSON object, read with suspicion."""

from __future__ import annotations

import json
import math
from typing import Annotated, Any, NoReturn

import anyio
from fastapi import HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import ClientDisconnect

__all__ = ["LARGEST_BODY", "Submission", "read_submission"]

LARGEST_BODY = 64 * 1024
"""Bytes of a request."""

SLOWEST_BODY_S = 30.0
DEEPEST = 8
"""Levels of lists and objects; an answer needs two."""
LONGEST_NUMBER = 40
"""Characters of a number."""
LONGEST_DETAIL = 500
"""Characters of what is said about a wrong request, which may quote it."""

UUID4 = r"^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"


class Submission(BaseModel):
    """One answer as the page sends it; what each part means: ``ReadStore.append``."""

    model_config = ConfigDict(strict=True, extra="forbid")

    answer_id: Annotated[str, Field(pattern=UUID4)]
    read_id: Annotated[str, Field(max_length=64)]
    answers: dict[str, Any]
    seconds: Annotated[float, Field(ge=0, le=1e7, allow_inf_nan=False)]
    image_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    reason: Annotated[str, Field(max_length=500)] | None = None


async def read_submission(request: Request) -> Submission:
    """Read a request's body as an answer.

    Raises
    ------
    HTTPException
        408 too slow, 413 too large, 415 no JSON, 422 anything else that is wrong with it.
    """
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "the content type must be application/json")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise HTTPException(415, "the content must not be compressed")
    entry = _parse(await _read_body(request))
    try:
        return Submission.model_validate(entry)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc'])) or 'body'}: {fault['msg']}" for fault in error.errors()]
        _refuse("; ".join(faults))


async def _read_body(request: Request) -> bytes:
    """Read no more than the largest body, whatever the request says of its length."""
    body = bytearray()
    try:
        with anyio.fail_after(SLOWEST_BODY_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > LARGEST_BODY:
                    # Closed: the rest of the request would be taken for the next one otherwise.
                    raise HTTPException(
                        413, f"an answer has at most {LARGEST_BODY} bytes", headers={"connection": "close"}
                    )
    except TimeoutError as error:
        raise HTTPException(
            408, "the request did not arrive in time", headers={"connection": "close"}
        ) from error
    except ClientDisconnect as error:
        raise HTTPException(400, "the request did not arrive whole") from error
    return bytes(body)


def _parse(body: bytes) -> Any:
    """Parse JSON; refuse what two parsers could understand differently, or what no answer can be."""
    try:
        text = body.decode("utf-8")
        entry = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_number,
            parse_constant=lambda name: _refuse(f"{name} is no JSON number"),
        )
        # A lone surrogate is a JSON string, but no text.
        json.dumps(entry, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        _refuse("the JSON is nested too deeply")
    except UnicodeError:
        _refuse("the text is no valid UTF-8")
    except ValueError:
        _refuse("the request is no valid JSON")
    level, depth = [entry], 0
    while level:
        depth += 1
        if depth > DEEPEST:
            _refuse("the JSON is nested too deeply")
        parts = [item.values() if isinstance(item, dict) else item for item in level if _is_nested(item)]
        level = [item for part in parts for item in part if _is_nested(item)]
    return entry


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entry = dict(pairs)
    if len(entry) < len(pairs):
        _refuse("a key occurs twice in one object")
    return entry


def _integer(text: str) -> int:
    if len(text) > LONGEST_NUMBER:
        _refuse("a number has too many digits")
    return int(text)


def _number(text: str) -> float:
    value = float(text)
    if len(text) > LONGEST_NUMBER or not math.isfinite(value):
        _refuse("a number is out of range")
    return value


def _is_nested(item: Any) -> bool:
    return isinstance(item, (dict, list))


def _refuse(detail: str) -> NoReturn:
    raise HTTPException(422, detail[:LONGEST_DETAIL])
