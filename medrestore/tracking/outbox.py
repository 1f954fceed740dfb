"""What a run has to tell MLflow, kept in its folder until the store has taken it."""

from __future__ import annotations

import json
import logging
import os
import shlex
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from medrestore.checks import counted, fail, one_line
from medrestore.files import atomic_path
from medrestore.tracking.environment import import_mlflow, without_credentials
from medrestore.tracking.store import failures, log_file, log_values

__all__ = ["REFUSED", "UNSENT", "Outbox", "how_to_complete"]

UNSENT = "mlflow_unsent"
"""Folder in an output folder; it is there as long as the store has not taken everything."""

ENTRIES, SENT, REFUSED, FILES = "entries.jsonl", "sent", "refused.jsonl", "files"

Point = tuple[str, float, int, int]
"""Name, value, milliseconds since 1970, step."""

POINTS_AT_ONCE = 800

DAMAGED = "damaged"
"""Key of what stands for a line that is no record: a failing disk left it, or somebody's editor."""


class Outbox:
    """Records in the order in which they were made, each sent once.

    A record is a line of a file that only grows; what was sent is a number of bytes beside it. So a process
    that is killed loses nothing that was written, and the next one goes on where it ended. A point carries
    its time: a store that took it although its answer was lost knows it again.

    Parameters
    ----------
    folder
        Of the run; records lie in ``mlflow_unsent`` below it.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.place = self.folder / UNSENT
        self.logger = logging.getLogger("medrestore.tracking")
        self._lock = threading.Lock()
        self._unwritten: list[str] = []
        self._why_unwritten = ""
        self._repaired = False
        self._closed = False

    # ------------------------------------------------------------------ what comes in
    def add_points(self, points: Sequence[Point]) -> None:
        """Keep points of curves."""
        self._add({"points": [list(point) for point in points]})

    def add_tags(self, tags: Mapping[str, str]) -> None:
        """Keep tags."""
        self._add({"tags": dict(tags)})

    def add_file(self, path: str | os.PathLike[str], inside: str = "") -> None:
        """Keep that a file is an artifact; it must stay where it is until it was sent."""
        whole = Path(path).absolute()
        own = whole.is_relative_to(self.folder.absolute())
        # Relative to the run's folder, which may be moved before the file is sent.
        name = whole.relative_to(self.folder.absolute()) if own else whole
        self._add({"file": name.as_posix(), "inside": inside})

    def spool(self, name: str) -> Path:
        """Return where a file that is kept only for being sent is written; :meth:`add_file` comes next."""
        return self.place / FILES / name

    def add_end(self, status: str, time_ms: int) -> None:
        """Keep how the run ended."""
        self._add({"end": status, "time": time_ms})

    def _add(self, entry: Mapping[str, Any]) -> None:
        with self._lock:
            self._unwritten.append(json.dumps(entry) + "\n")
            try:
                self._write()
            except OSError as error:
                # A full disk, maybe for a while: the next record tries again, and the end tells.
                self._why_unwritten = one_line(error)

    def _write(self) -> None:
        self.place.mkdir(parents=True, exist_ok=True)
        self._repair()
        # One write of whole lines; a part of it that a full disk took is cut off again.
        path = self.place / ENTRIES
        size = path.stat().st_size if path.exists() else 0
        try:
            with path.open("ab", buffering=0) as stream:
                stream.write("".join(self._unwritten).encode())
        except OSError:
            if path.exists():
                os.truncate(path, size)
            raise
        self._unwritten.clear()

    def _repair(self) -> None:
        """Cut off half a line that a killed process left, once."""
        if self._repaired:
            return
        path = self.place / ENTRIES
        if path.exists():
            whole = path.read_bytes()
            end = whole.rfind(b"\n") + 1
            if end < len(whole):
                os.truncate(path, end)
        self._repaired = True

    # ------------------------------------------------------------------ what is there
    def __len__(self) -> int:
        """Return the number of records that are kept and were not sent."""
        with self._lock:
            return sum(1 for _ in self._entries(self._position()))

    def lost(self) -> str:
        """Say how many records could be kept nowhere, and why; nothing when all were."""
        with self._lock:
            count = len(self._unwritten)
            return f"{counted(count, 'record')} could not be kept ({self._why_unwritten})" if count else ""

    def _position(self) -> int:
        """Return how many bytes were sent: none where it cannot be told; stores know points again."""
        try:
            position = int((self.place / SENT).read_text())
            with (self.place / ENTRIES).open("rb") as stream:
                stream.seek(max(position - 1, 0))
                return position if stream.read(1) == b"\n" else 0  # no line begins there
        except (OSError, ValueError):
            return 0

    def _entries(self, position: int) -> Iterator[tuple[dict[str, Any], int]]:
        """Yield records from a position on, each with the position of the next one; half a line is none."""
        path = self.place / ENTRIES
        if not path.exists():
            return
        with path.open("rb") as stream:
            stream.seek(position)
            for line in stream:
                if not line.endswith(b"\n"):
                    return
                position += len(line)
                yield _read(line), position

    # ------------------------------------------------------------------ what goes out
    def send(self, client: Any, run_id: str) -> int:
        """Send what was not sent, in order; return the number of records.

        Points in a row are sent together. What the store refuses for what it is, and would refuse always, is
        put into ``refused.jsonl`` with a warning and the next one follows; so is what cannot be read.

        Raises
        ------
        MlflowException, SQLAlchemyError, OSError
            When the store is out of reach, or the run deleted; what was sent until then is not sent again.
        InputError
            When it cannot be noted what was sent.
        """
        sent = 0
        for entries, position in self._batches():
            taken = self._deliver(client, run_id, entries)
            with self._lock:
                if self._closed:  # somebody else may have gone on from here
                    return sent
                self._mark(position)
            if taken and _is_spooled(entries[0]):
                (self.folder / entries[0]["file"]).unlink(missing_ok=True)
            sent += taken
        return sent

    def _mark(self, position: int) -> None:
        path = self.place / SENT
        try:
            with atomic_path(path) as temporary:
                temporary.write_text(str(position))
        except OSError as error:  # the folder's fault, not the store's
            fail(
                f"cannot be written ({error.strerror})",
                path=path,
                remedy="give yourself the rights to this folder, or copy it to where you have them",
            )

    def take_back(self) -> None:
        """Let what was refused be sent once more: a limit of the server may have been raised."""
        path = self.place / REFUSED
        if path.is_file():
            with self._lock:
                # In this order: what is killed in between is sent twice, and the store knows it again.
                self._unwritten.append(path.read_bytes().decode(errors="replace"))
                self._write()
                path.unlink()

    def _batches(self) -> Iterator[tuple[list[dict[str, Any]], int]]:
        with self._lock:
            if self._unwritten:
                self._write()
            waiting = list(self._entries(self._position()))
        batch: list[dict[str, Any]] = []
        end = count = 0
        for entry, position in waiting:
            size = len(entry.get("points", ()))
            if batch and (not size or count + size > POINTS_AT_ONCE):
                yield batch, end
                batch, count = [], 0
            batch.append(entry)
            count, end = count + size, position
            if not size:
                yield batch, end
                batch, count = [], 0
        if batch:
            yield batch, end

    def _deliver(self, client: Any, run_id: str, entries: Sequence[Mapping[str, Any]]) -> int:
        """Send records that go together; return how many of them the store has taken."""
        first = entries[0]
        if DAMAGED in first:
            self._put_aside(first[DAMAGED], "it is damaged")
            return 0
        try:
            if "points" in first:
                self._deliver_points(client, run_id, entries)
            elif "tags" in first:
                log_values(client, run_id, tags=first["tags"])
            elif "file" in first:
                path = self.folder / first["file"]
                if path.is_file():
                    log_file(client, run_id, path, first["inside"])
                elif not _is_spooled(first):  # else a training that repeats an epoch has sent its panel twice
                    self.logger.warning(f"{path} is not there any more and was not recorded")
                    return 0
            else:
                client.set_terminated(run_id, status=first["end"], end_time=first["time"])
        except failures() as error:
            # A run that was deleted takes nothing either, and may be restored.
            if not _is_refused(error) or client.get_run(run_id).info.lifecycle_stage != "active":
                raise
            if len(entries) > 1:  # one of them: the others are sent
                return sum(self._deliver(client, run_id, [entry]) for entry in entries)
            self._put_aside(json.dumps(first), without_credentials(one_line(error)))
            return 0
        return len(entries)

    def _deliver_points(self, client: Any, run_id: str, entries: Sequence[Mapping[str, Any]]) -> None:
        import_mlflow()
        from mlflow.entities import Metric

        metrics = [Metric(*point) for entry in entries for point in entry["points"]]
        log_values(client, run_id, metrics=metrics)

    def _put_aside(self, record: str, reason: str) -> None:
        path = self.place / REFUSED
        self.logger.warning(f"MLflow refused a record, which is kept in {path}: {reason}")
        with path.open("a", encoding="utf-8") as stream:
            stream.write(record + "\n")

    def close(self) -> bool:
        """Mark nothing as sent any more; remove the folder when all was, and return whether it was."""
        with self._lock:
            self._closed = True
            if self._unwritten or not self.place.is_dir():
                return not self._unwritten
            if next(self._entries(self._position()), None) is not None:
                return False
            with suppress(OSError):  # nothing is lost where nothing can be removed
                # In this order: what is killed in between is sent again, never passed over.
                (self.place / SENT).unlink(missing_ok=True)
                (self.place / ENTRIES).unlink(missing_ok=True)
                if not (self.place / REFUSED).exists():  # refused records stay, with their files
                    shutil.rmtree(self.place / FILES, ignore_errors=True)
                    self.place.rmdir()
            return True


def how_to_complete(folder: str | os.PathLike[str]) -> str:
    """Say how the record of a run in a folder is completed.

    >>> how_to_complete("runs/my run")
    "call the same again, or: medrestore track sync 'runs/my run'"
    """
    return f"call the same again, or: medrestore track sync {shlex.quote(str(folder))}"


def _read(line: bytes) -> dict[str, Any]:
    """Return the record of a line; of one that is none, what is put aside."""
    try:
        entry = json.loads(line.decode())
    except ValueError:
        entry = None
    return entry if _is_record(entry) else {DAMAGED: line.decode(errors="replace").rstrip("\n")}


def _is_record(entry: object) -> bool:
    match entry:
        case {"points": [*points]}:
            return all(_is_point(point) for point in points)
        case {"tags": {**tags}}:
            return all(isinstance(text, str) for text in tags.values())
        case {"file": str(), "inside": str()} | {"end": "FINISHED" | "FAILED" | "KILLED", "time": int()}:
            return True
    return False


def _is_point(point: object) -> bool:
    match point:
        case [str(), int() | float(), int(), int()]:
            return True
    return False


def _is_spooled(entry: Mapping[str, Any]) -> bool:
    """Say whether a record is a file that is kept only for being sent."""
    return str(entry.get("file", "")).startswith(f"{UNSENT}/")


def _is_refused(error: Exception) -> bool:
    """Say whether a store will never take a record, as against one that is out of reach or shuts us out."""
    from mlflow.exceptions import MlflowException, RestException

    if isinstance(error, RestException):
        code = error.get_http_status_code()
    elif isinstance(error, MlflowException):  # of a database, or no answer of MLflow's
        return error.error_code in ("INVALID_PARAMETER_VALUE", "RESOURCE_ALREADY_EXISTS")
    else:  # an upload that a server or a proxy before it answers, as with a limit of size
        code = getattr(getattr(error, "response", None), "status_code", 0)
    return 400 <= code < 500 and code not in (401, 403, 404, 408, 429)
