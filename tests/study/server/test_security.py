"""What must not get out of the server, and what must not get in; over real connections, raw where needed."""

from __future__ import annotations

import http.client
import json
import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from medrestore import rng
from medrestore.study.layout import Study
from medrestore.study.server.requests import LARGEST_BODY

UUID4 = "00000000-0000-4000-8000-00000000000a"


class Attacked:
    """A server, and a way to tell that nothing of its study has changed."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.readings = {
            reader: list(rows["read_id"]) for reader, rows in server.study.reading_list.groupby("reader")
        }
        assert server.answer_next("reader_1").status == 201
        assert server.answer_next("reader_2").status == 201
        self.before = self.content()

    @property
    def next(self) -> str:
        """The reading whose turn it is."""
        return str(self.readings["reader_1"][1])

    def content(self) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
        """Return the rows on record and all bytes of the study but the lock and SQLite's shared memory."""
        files = {
            str(path.relative_to(self.server.study.folder)): path.read_bytes()
            for path in sorted(self.server.study.folder.rglob("*"))
            if path.is_file() and path.suffix not in (".lock", ".sqlite-shm")
        }
        return self.server.store.stored_rows(), files

    def require_unchanged(self) -> None:
        """Require that rows and files are those from before, and that it is the same reading's turn."""
        assert self.content() == self.before
        assert self.server.state()["next"]["read_id"] == self.next


@pytest.fixture(scope="module")
def attacked(
    make_study: Callable[..., Study], run_server: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Attacked]:
    """Return a server with one read of each reader on record; after all attacks it takes an honest answer."""
    with run_server(make_study(tmp_path_factory.mktemp("attacked") / "study")) as server:
        attacked = Attacked(server)
        yield attacked
        attacked.require_unchanged()
        assert server.answer(attacked.next).status == 201


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Bearer {token}x",
        "Bearer {token} {token}",
        "Basic {token}",
        "{token}",
        "Bearer reader_1",
        "Bearer \xe9\xff",
        "Bearer " + "x" * 10_000,
    ],
)
def test_nobody_gets_in_without_the_link(attacked, authorization):
    server = attacked.server
    headers = {}
    if authorization is not None:
        headers = {"Authorization": authorization.format(token=server.tokens["reader_1"])}
    body = json.dumps({"answer_id": str(uuid.uuid4()), "read_id": attacked.next}).encode()
    for method, path, content in (
        ("GET", "/api/state", None),
        ("GET", f"/api/images/{attacked.next}", None),
        ("GET", "/api/images/0000000000000000", None),
        ("POST", "/api/answers", body),
    ):
        reply = server.ask(method, path, reader=None, body=content, headers=headers)
        assert reply.status == 401
        assert reply.json == {"detail": "Please open the link that you were given."}
    token = server.tokens["reader_1"]
    assert server.ask("GET", f"/api/state?token={token}", reader=None).status == 401
    assert server.ask("GET", "/api/state", reader=None, headers={"Cookie": f"token={token}"}).status == 401
    attacked.require_unchanged()


def test_two_tokens_are_none(attacked):
    one, two = (token.encode() for token in attacked.server.tokens.values())
    request = b"GET /api/state HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
    for first, second in ((one, two), (one, one)):
        lines = b"Authorization: Bearer %s\r\nAuthorization: Bearer %s\r\n\r\n" % (first, second)
        assert attacked.server.raw(request + lines).startswith(b"HTTP/1.1 401 ")
    attacked.require_unchanged()


def test_a_reader_cannot_reach_what_is_anothers(attacked, make_submission):
    server = attacked.server
    for read_id in attacked.readings["reader_2"]:
        assert server.ask("GET", f"/api/images/{read_id}").status == 404
        assert server.answer(read_id).status == 404
        assert server.answer(read_id, reason="mine").status == 404
    # An answer of the other one, sent again under the own name: it is neither repeated nor told about.
    (other,) = (row for row in attacked.before[0] if row["reader"] == "reader_2")
    assert server.answer(other["read_id"], answer_id=other["answer_id"]).status == 404
    stolen = server.answer(attacked.next, answer_id=other["answer_id"])
    assert stolen.status == 409
    assert other["read_id"] not in stolen.body.decode()
    # Images have ids of their own, which are no way to them.
    for image_id in server.study.key["image_id"]:
        assert server.ask("GET", f"/api/images/{image_id}").status == 404
        assert server.answer(image_id).status == 404
    for read_id in attacked.readings["reader_1"][3:]:
        assert server.ask("GET", f"/api/images/{read_id}").status == 404
        assert server.answer(read_id).status == 409
    attacked.require_unchanged()


TARGETS = (
    *("/../private/key.csv", "/../../private/key.csv", "/./../private/tokens.csv", "//private/key.csv"),
    *("/..%2fprivate%2fkey.csv", "/%2e%2e/private/key.csv", "/%2e%2e%2fprivate%2fkey.csv"),
    *("/..%5cprivate%5ckey.csv", "/..\\private\\key.csv", "/%252e%252e%252fprivate%252fkey.csv"),
    *("/..%c0%afprivate%c0%afkey.csv", "/%c0%ae%c0%ae/private/key.csv", "/..%00/private/key.csv"),
    *("/private/key.csv", "/public/protocol.json", "/public/images/", "/images/{image_id}.nii"),
    *("/api/images/../../private/key.csv", "/api/images/..%2f..%2fprivate%2fkey.csv"),
    *("/api/images/%2e%2e%2f%2e%2e%2fprivate%2fkey.csv", "/api/images/{image_id}", "/api/images/"),
    *("/api/images/{image_id}.nii", "/api/images/{next}/", "/api/images/{next}/../../private/key.csv"),
    *("/api/images/{next}%00.nii", "/api/images/{next}%2f..%2f..", "/api/images/{next}.nii"),
    *("/page.js/../../private/key.csv", "/index.html", "/favicon.ico", "/docs", "/redoc", "/openapi.json"),
    *("/api", "/api/", "/api/key", "/api/readers", "/api/state/", "/reads.sqlite", "/.env"),
    *("{folder}/private/key.csv", "/{folder}/private/key.csv", "file://{folder}/private/key.csv"),
    *("http://127.0.0.1/private/key.csv", "*", "/?file=../private/key.csv#"),
)


@pytest.mark.parametrize("target", TARGETS)
def test_no_path_leads_to_another_file(attacked, target):
    server = attacked.server
    target = target.format(
        image_id=server.study.key["image_id"].iloc[0], next=attacked.next, folder=server.study.folder
    )
    for method in ("GET", "POST", "HEAD"):
        request = (
            f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nConnection: close\r\n"
            f"Authorization: Bearer {server.tokens['reader_1']}\r\nContent-Length: 0\r\n\r\n"
        )
        reply = server.raw(request.encode("latin-1"))
        status = int(reply.split(b" ", 2)[1])
        if target.startswith("/?"):
            # A query is not looked at: this is the page.
            assert (status, method == "GET") in ((200, True), (405, False))
        else:
            assert status in (400, 404, 405)
        for secret in (b"armstandardzz", b"sub-zz", b"token-", b"SQLite", b"sha256"):
            assert secret not in reply
    attacked.require_unchanged()


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "HEAD", "PROPFIND"])
def test_only_get_and_post_are_known(attacked, method):
    for path in ("/", "/api/state", "/api/answers", f"/api/images/{attacked.next}"):
        reply = attacked.server.ask(method, path, body=b"{}")
        assert reply.status == 405
    assert attacked.server.ask("GET", "/api/answers").status == 405
    assert attacked.server.ask("POST", "/api/state", body=b"{}").status == 405
    attacked.require_unchanged()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 400),
        ({"Host": "evil.example:8080"}, 400),
        ({"Host": "127.0.0.1.evil.example"}, 400),
        ({"Host": "localhost@evil.example"}, 400),
        ({"Host": ""}, 400),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "https://127.0.0.1:{port}"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "http://127.0.0.1:{port}.evil.example"}, 403),
        ({"Host": "evil.example", "Origin": "http://evil.example"}, 400),
        ({"Host": "evil.example", "X-Forwarded-Host": "127.0.0.1"}, 400),
    ],
)
def test_other_hosts_and_origins_are_refused(attacked, make_submission, headers, status):
    server = attacked.server
    headers = {name: value.format(port=server.port) for name, value in headers.items()}
    body = make_submission(attacked.next)
    assert server.ask("POST", "/api/answers", body=body, headers=headers).status == status
    assert server.ask("GET", "/api/state", headers=headers).status == status
    assert server.ask("GET", "/", reader=None, headers=headers).status == status
    attacked.require_unchanged()


def test_the_own_host_and_origin_are_taken(attacked, make_submission):
    server = attacked.server
    for host in (f"127.0.0.1:{server.port}", f"localhost:{server.port}", "localhost", "[::1]:8080"):
        headers = {"Host": host, "Origin": f"http://{host}"}
        assert server.ask("GET", "/api/state", headers=headers).status == 200


def test_an_answer_may_not_be_large(attacked, make_submission):
    server = attacked.server
    entry = make_submission(attacked.next)
    entry["answers"] = {**entry["answers"], "remark": "x" * LARGEST_BODY}
    head = (
        f"POST /api/answers HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {server.tokens['reader_1']}\r\n"
    ).encode()
    body = json.dumps(entry).encode()
    assert server.ask("POST", "/api/answers", body=body).status == 413
    chunks = b"".join(b"1000\r\n" + b" " * 4096 + b"\r\n" for _ in range(17)) + b"0\r\n\r\n"
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n"
    for request in (
        head + b"Content-Length: %d\r\n\r\n" % len(body) + body,
        chunked + b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n",
        chunked + chunks,
        # What comes behind a request that was refused is not taken for the next one.
        chunked + chunks + b"GET /api/state HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    ):
        reply = server.raw(request)
        assert reply.startswith(b"HTTP/1.1 413 ")
        assert b"connection: close" in reply
        assert reply.count(b"HTTP/1.1") == 1
    # Announced, but never sent: others are answered meanwhile.
    assert server.raw(head + b"Content-Length: 99999999999\r\n\r\n{}", patience_s=0.3) == b""
    endless = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 1_000_000
    assert server.raw(endless).startswith((b"HTTP/1.1 400", b"HTTP/1.1 431"))
    attacked.require_unchanged()


def test_a_chunked_answer_of_allowed_size_is_taken(study, serve_study, make_submission):
    server = serve_study(study)
    body = json.dumps(make_submission(server.state()["next"]["read_id"])).encode()
    parts = [body[start : start + 10] for start in range(0, len(body), 10)]
    request = (
        f"POST /api/answers HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json; charset=utf-8\r\n"
        f"Authorization: Bearer {server.tokens['reader_1']}\r\nConnection: close\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    ).encode() + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in [*parts, b""])
    assert server.raw(request).startswith(b"HTTP/1.1 201 ")


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": "application/jsonp"},
        {"Content-Type": ""},
        {"Content-Encoding": "gzip"},
    ],
)
def test_only_plain_json_is_taken(attacked, make_submission, headers):
    body = make_submission(attacked.next)
    assert attacked.server.ask("POST", "/api/answers", body=body, headers=headers).status == 415
    attacked.require_unchanged()


BODIES = {
    "nothing": b"",
    "no JSON": b"answers",
    "cut": b'{"answer_id": "',
    "two values": b"{} {}",
    "a list": b"[]",
    "a text": b'"x"',
    "null": b"null",
    "an empty object": b"{}",
    "no UTF-8": b'{"read_id": "\xff\xfe"}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"read_id": "x"}'.encode("utf-16"),
    "deep lists": b"[" * 20_000,
    "deep lists, closed": b"[" * 20_000 + b"]" * 20_000,
    "deep objects": b'{"a":' * 10_000,
    "a huge integer": b'{"seconds": ' + b"9" * 60_000 + b"}",
}
CHANGES: dict[str, str] = {
    "a key twice": '"seconds": 1, "seconds": 1',
    "an answer twice": '"answers": {"quality": 1, "quality": 4}',
    "NaN": '"seconds": NaN',
    "infinity": '"seconds": Infinity',
    "minus infinity": '"seconds": -Infinity',
    "an infinite number": '"seconds": 1e400',
    "an infinite answer": '"answers": {"quality": 1e999}',
    "a negative time": '"seconds": -0.001',
    "a long time": '"seconds": 1e8',
    "a time as text": '"seconds": "3"',
    "a time that is true": '"seconds": true',
    "no time": '"seconds": null',
    "a huge integer as answer": f'"answers": {{"quality": 1{"0" * 400}}}',
    "a long integer as answer": f'"answers": {{"quality": 1{"0" * 30}}}',
    "a nested answer": '"answers": {"quality": [[[[[[[[[[4]]]]]]]]]]}',
    "a deep answer": f'"answers": {{"quality": {"[" * 900}4{"]" * 900}}}',
    "an object as answer": '"answers": {"quality": {"$gt": 0}}',
    "a list of answers": '"answers": []',
    "no answers": '"answers": {}',
    "an unknown answer": '"answers": {"arm": "armstandardzz"}',
    "a lone surrogate": '"reason": "\\ud800"',
    "a lone surrogate as key": '"answers": {"\\udfff": 1}',
    "a lone surrogate as answer": '"answers": {"remark": "\\ud800"}',
    "no uuid": '"answer_id": "1"',
    "another uuid": '"answer_id": "6ba7b810-9dad-11d1-80b4-00c04fd430c8"',
    "a uuid in capitals": f'"answer_id": "{UUID4.upper()}"',
    "a uuid and a line": f'"answer_id": "{UUID4}\\n"',
    "a number as id": '"answer_id": 1',
    "a list as reading": '"read_id": ["x"]',
    "a long reading": f'"read_id": "{"0" * 100}"',
    "no checksum": '"image_sha256": "abc"',
    "a number as checksum": '"image_sha256": 0',
    "a long reason": f'"reason": "{"x" * 501}"',
    "a number as reason": '"reason": 1',
    "an unknown key": '"origin": "import"',
    "a prototype": '"__proto__": {"reader": "reader_2"}',
    "another reader": '"reader": "reader_2"',
    "another time": '"time": "2020-01-01T00:00:00+00:00"',
    "another hash": f'"previous": "{"0" * 64}"',
}


DETAILS = {
    "no UTF-8": "no valid UTF-8",
    "deep lists, closed": "nested too deeply",
    "a huge integer": "too many digits",
    "a key twice": "a key occurs twice",
    "an answer twice": "a key occurs twice",
    "NaN": "NaN is no JSON number",
    "an infinite number": "out of range",
    "a huge integer as answer": "too many digits",
    "a nested answer": "nested too deeply",
    "a deep answer": "nested too deeply",
    "an unknown answer": "no key 'arm'",
    "no answers": "'frontal' is missing",
    "a lone surrogate": "no valid UTF-8",
    "no time": "seconds:",
    "a uuid in capitals": "answer_id:",
    "a long reason": "reason:",
    "an unknown key": "origin: Extra inputs are not permitted",
}
"""What the sender is told, where several checks could have refused."""


@pytest.mark.parametrize("what", [*BODIES, *CHANGES])
def test_what_is_no_answer_is_refused(attacked, make_submission, what):
    if what in BODIES:
        body = BODIES[what]
    else:
        entry = make_submission(attacked.next)
        keys = set(re.findall(r'^"(\w+)"', CHANGES[what]))
        kept = json.dumps({key: value for key, value in entry.items() if key not in keys})
        body = f"{kept[:-1]}, {CHANGES[what]}}}".encode()
    reply = attacked.server.ask("POST", "/api/answers", body=body)
    assert reply.status == 422, reply
    assert len(reply.json["detail"]) <= 500
    assert DETAILS.get(what, "") in reply.json["detail"]
    assert "Traceback" not in reply.body.decode()
    attacked.require_unchanged()


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n",
        b"GET /\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(100)),
        b"POST /api/answers HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/answers HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"POST /api/answers HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nBad Header\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    ],
)
def test_what_is_no_request_is_refused(attacked, request_):
    reply = attacked.server.raw(request_, patience_s=2)
    assert re.match(rb"HTTP/1\.1 4\d\d ", reply)
    attacked.require_unchanged()


def test_replayed_and_forged_answers_change_nothing(attacked, make_submission, good_answers):
    server = attacked.server
    (row,) = (row for row in attacked.before[0] if row["reader"] == "reader_1")
    sent = {"answer_id": row["answer_id"], "seconds": 3.25}
    replayed = server.answer(row["read_id"], **sent)
    assert (replayed.status, replayed.json["row"], replayed.json["hash"]) == (200, row["row"], row["hash"])
    for change in (
        {"seconds": 3.5},
        {"answers": {**good_answers, "quality": 1}},
        {"reason": "forged"},
        {"image_sha256": server.study.key["sha256_served"].iloc[0]},
    ):
        assert server.answer(row["read_id"], **{**sent, **change}).status == 409
    assert server.answer(attacked.next, **sent).status == 409
    for forged in ("0" * 64, *server.study.key["sha256_served"]):
        image = server.study.reading_list.set_index("read_id").loc[attacked.next, "image_id"]
        if forged != server.study.key.set_index("image_id").loc[image, "sha256_served"]:
            assert server.answer(attacked.next, image_sha256=forged).status == 409
    attacked.require_unchanged()


def test_random_mutations_of_an_answer_never_break_the_server(study, serve_study, make_submission):
    attacked = Attacked(serve_study(study))
    server, chance = attacked.server, rng.generator(20260101, "mutations")
    values: list[Any] = [
        *(None, True, False, 0, -1, 1, 2.5, 1e308, -1e308, 5e-324, 2**63, -(2**63), 10**30, "", "x", "\x00"),
        *("é" * 50, "\u202e", "1", "true", "None", "' OR 1=1 --", "%s%n", "../", [], {}, [1, 2, 3], [[]]),
        *({"a": 1}, [None], ["1", "2", "3"], [1e308, 0, 0], {"frontal": {}}, [1] * 100, "𝕏" * 300),
    ]

    def one_of(items: Any) -> Any:
        return items[chance.integers(len(items))]

    def mutate(entry: Any, depth: int = 0) -> Any:
        if not (isinstance(entry, dict) and entry and (depth == 0 or chance.random() < 0.6)):
            return one_of(values)
        changed = dict(entry)
        key = one_of(list(changed))
        action = chance.random()
        if action < 0.2:
            del changed[key]
        elif action < 0.3:
            changed[one_of(["", "x", "arm", "__class__", "é", key.upper()])] = changed.pop(key)
        else:
            changed[key] = mutate(changed[key], depth + 1)
        return changed

    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    headers = {"Authorization": f"Bearer {server.tokens['reader_1']}", "Content-Type": "application/json"}
    seen: dict[int, int] = {}
    for _ in range(1500):
        entry = make_submission(one_of([attacked.next, *attacked.readings["reader_1"]]))
        for _ in range(one_of([1, 1, 1, 2, 3])):
            entry = mutate(entry) if isinstance(entry, dict) else entry
        body = json.dumps(entry, ensure_ascii=bool(chance.random() < 0.5)).encode()
        if chance.random() < 0.3:
            place = int(chance.integers(len(body)))
            body = body[:place] + chance.bytes(int(chance.integers(1, 4))) + body[place + 1 :]
        before = len(server.store.answered("reader_1")), server.store.head
        connection.request("POST", "/api/answers", body=body, headers=headers)
        response = connection.getresponse()
        response.read()
        seen[response.status] = seen.get(response.status, 0) + 1
        assert response.status in (201, 404, 409, 422), body
        changed = (len(server.store.answered("reader_1")), server.store.head) != before
        assert changed == (response.status == 201)
    connection.close()
    assert min(seen.get(status, 0) for status in (404, 409, 422)) > 10  # the mutations reach all checks
    server.store.rows()  # the chain holds


def test_requests_are_not_logged(study, serve_study, capfd):
    server = serve_study(study)
    server.answer_next()
    server.ask("GET", "/../private/key.csv")
    server.raw(b"no request\r\n\r\n")
    printed = capfd.readouterr()
    for secret in (server.tokens["reader_1"], "reader_1", "127.0.0.1", "private"):
        assert secret not in printed.out + printed.err
