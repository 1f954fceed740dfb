"""Blinding of the server: a search of all that it says for what it must not tell."""

from __future__ import annotations

import re
from typing import Any

import nibabel
import numpy as np
import yaml

from medrestore import rng
from medrestore.study.create import create_study
from medrestore.study.server.guard import SECURITY_HEADERS

HEADERS = {name.lower(): value for name, value in SECURITY_HEADERS.items()}


def read_through(server: Any, reader: str, **changes: Any) -> list[tuple[str, Any]]:
    """Read a whole study as the page does, with what it asks; return each request's name and response."""
    replies = [("page", server.ask("GET", path, reader=None)) for path in ("/", "/page.js")]
    while True:
        replies.append(("state", server.ask("GET", "/api/state", reader=reader)))
        state = replies[-1][1].json
        if state["phase"] == "done":
            return replies
        for item in (state["next"], state["after"], *state["earlier"]):
            if item is not None:
                path = f"/api/images/{item['read_id']}"
                replies.append(("image", server.ask("GET", path, reader=reader)))
        read_id = state["next"]["read_id"]
        replies.append(("answer", server.answer(read_id, reader=reader, **changes)))
        assert replies[-1][1].status == 201
        replies.append(("refusal", server.answer(read_id, reader=reader, **changes)))
        replies.append(("unknown", server.ask("GET", "/api/images/0000000000000000", reader=reader)))
        replies.append(("stranger", server.ask("GET", "/api/state", reader=None)))


def test_nothing_that_is_served_tells_what_is_hidden(make_study, tmp_path, serve_study):
    study = make_study(tmp_path / "study", training=1, qualification=1, pass_mark=0, duplicates=2)
    server = serve_study(study)
    replies = {reader: read_through(server, reader) for reader in study.readers}
    served = [reply for parts in replies.values() for _, reply in parts]
    assert sum(name == "image" for name, _ in replies["reader_1"]) > 30
    hidden = {
        *study.arms,
        *study.key["case"],
        *study.key["subject"],
        *study.key["image_id"],
        *study.key["source"],
        *study.key["sha256_source"],
        *study.key["sha256_scrubbed"],
        *study.key["sha256_served"],
        *("/data/zzsource", "zzsource", "_restored", "nii.gz", str(study.folder), study.folder.name + "/"),
        *(study.design["salt"], *server.tokens.values()),
    }
    wire = [
        b"\n".join([repr(reply.headers).encode(), reply.body, reply.body.lower(), reply.body[::2]])
        for reply in served
    ]
    needles = [name.encode() for name in sorted(hidden)]
    assert not [needle for needle in needles if any(needle in content for content in wire)]
    # The search finds what is there.
    assert any(study.readers and b"reader_1" in content for content in wire)
    keys = set()
    for reply in served:
        if dict(reply.headers).get("content-type") == "application/json":
            keys |= set(re.findall(r'"(\w+)":', reply.body.decode()))
    assert not keys & {"arm", "case", "subject", "repeat", "image_id", "key", "source", "attempt", "position"}


def test_nothing_is_told_of_scans_whose_headers_and_names_tell_all(tmp_path, serve_study):
    """The whole way: sources with identifiers, made into a study, served and read to the end."""
    arms, secrets = (
        ("zebrastandard", "quokkagan"),
        ("hospitalmercy", "DOE^JANE", "scanroom7", "axolotl-v3.pt"),
    )
    random = rng.generator(4, "sources")
    for arm in arms:
        for number in range(3):
            volume = random.normal(1 + (arm == arms[0]), 0.1, (12, 12, 6)).astype(np.float32)
            image = nibabel.Nifti1Image(volume, np.diag([2.0, 2.0, 3.0, 1.0]))
            image.header["descrip"], image.header["aux_file"] = b"DOE^JANE scanroom7", b"axolotl-v3.pt"
            image.header.extensions.append(
                nibabel.nifti1.Nifti1Extension("comment", b"hospitalmercy DOE^JANE")
            )
            path = tmp_path / "scanroom7" / arm / f"hospitalmercy{number}_ses-1_restored.nii"
            path.parent.mkdir(parents=True, exist_ok=True)
            nibabel.save(image, path)
    (tmp_path / "truth.csv").write_text(
        "case,truth\n" + "".join(f"hospitalmercy{number}_ses-1,{number % 2}\n" for number in range(3)),
        encoding="utf-8",
    )
    plan = {
        "title": "Brain scans",
        "seed": 5,
        "arms": {arm: f"scanroom7/{arm}" for arm in arms},
        "truth": {"file": "truth.csv"},
        "readers": ["reader_1"],
        "questions": {"questions": [{"name": "positive", "text": "Positive?", "type": "yes_no"}]},
        "washout_days": 0,
        "duplicate_fraction": 0.2,
    }
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan), encoding="utf-8")
    study = create_study(tmp_path / "plan.yaml", output=tmp_path / "study", workers=1, progress=False)
    replies = read_through(serve_study(study), "reader_1", answers={"positive": True})
    images = [reply for name, reply in replies if name == "image"]
    assert len({reply.body for reply in images}) == 6
    assert len({(len(reply.body), reply.body[:348]) for reply in images}) <= 3  # one header a case
    content = b"".join(repr(reply.headers).encode() + reply.body for _, reply in replies)
    hidden = [*arms, *secrets, "_restored", "ses-1", str(tmp_path), *study.key["image_id"]]
    assert not [name for name in hidden if name.encode() in content]


def test_sizes_and_headers_are_the_same_for_all_arms(make_study, tmp_path, serve_study):
    study = make_study(tmp_path / "study", cases=6, duplicates=2)
    server = serve_study(study)
    replies = {reader: read_through(server, reader) for reader in study.readers}
    images = [reply for parts in replies.values() for name, reply in parts if name == "image"]
    assert {len(reply.body) for reply in images} == {study.key["bytes"].iloc[0]}
    for kind in ("page", "state", "image", "answer", "refusal", "unknown", "stranger"):
        headers = [
            [(name, value) for name, value in reply.headers if name not in ("date", "content-length")]
            for parts in replies.values()
            for name_, reply in parts
            if name_ == kind
        ]
        if kind != "page":
            assert all(found == headers[0] for found in headers)
        for found in headers:
            assert HEADERS.items() <= dict(found).items()
            names = {name for name, _ in found}
            assert names <= {*HEADERS, "content-type", "www-authenticate"}
    # At the same place of the list two readers see other arms, in answers of the same length.
    arm_of = study.reading_list.merge(study.key, on="image_id")
    table = arm_of.pivot_table(index=["session", "position"], columns="reader", values="arm", aggfunc="first")
    assert (table["reader_1"] != table["reader_2"]).sum() > 3
    for kind in ("state", "answer", "refusal", "unknown", "stranger"):
        sizes = [[len(reply.body) for name, reply in parts if name == kind] for parts in replies.values()]
        # The number of a row has one digit or two.
        assert all(abs(one - two) <= (kind == "answer") for one, two in zip(*sizes, strict=True))


def test_every_response_has_the_security_headers_and_names_no_server(study, serve_study):
    server = serve_study(study)
    read_id = study.reading_list["read_id"].iloc[0]
    for method, path, headers in (
        ("GET", "/", {}),
        ("GET", "/api/state", {}),
        ("GET", f"/api/images/{read_id}", {}),
        ("GET", "/nothing", {}),
        ("DELETE", "/", {}),
        ("POST", "/api/answers", {}),
        ("GET", "/", {"Host": "evil.example"}),
        ("GET", "/", {"Origin": "http://evil.example"}),
        ("GET", "/", {"If-None-Match": "*", "If-Modified-Since": "Sat, 01 Jan 2028 00:00:00 GMT"}),
        ("GET", f"/api/images/{read_id}", {"Range": "bytes=0-10"}),
    ):
        reply = server.ask(method, path, headers=headers)
        found = dict(reply.headers)
        assert HEADERS.items() <= found.items()
        assert not {"server", "etag", "last-modified", "x-powered-by", "set-cookie", "accept-ranges"} & set(
            found
        )
        assert not any(name.startswith("access-control") for name in found)
        assert reply.status not in (206, 304)


def test_the_policy_lets_a_page_run_its_own_scripts_alone_and_reach_this_server_alone():
    policy = dict(part.strip().split(" ", 1) for part in HEADERS["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    sources = {source for part in policy.values() for source in part.split()}
    assert sources <= {"'none'", "'self'", "data:", "blob:", "'script'"}
    assert HEADERS["cache-control"] == "no-store"
    assert HEADERS["referrer-policy"] == "no-referrer"
    assert HEADERS["x-content-type-options"] == "nosniff"
