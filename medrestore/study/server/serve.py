"""The server: opens a study to its readers, and gives each a link of their own."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path

import typer
import uvicorn
from starlette.types import ASGIApp

from medrestore.checks import InputError, fail, require_in_range
from medrestore.interruption import terminated_as_interrupted
from medrestore.study.layout import Study, open_study
from medrestore.study.record.store import ReadStore
from medrestore.study.server.application import LOOPBACK, make_app
from medrestore.study.server.tokens import read_tokens

__all__ = ["listen", "make_app", "make_server", "serve"]

WILDCARDS = ("0.0.0.0", "::")  # noqa: S104
BACKLOG = 128
GRACE_S = 5
"""How long requests may take to end when the server is stopped."""


def serve(
    folder: str | os.PathLike[str],
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    page: Mapping[str, tuple[Path, str]] | None = None,
) -> None:
    """Serve a study until it is interrupted; print the link of each reader, then ``ready``.

    Parameters
    ----------
    folder
        The study.
    host, port
        Address to listen on; port 0 takes a free one.
    page
        The page's files: address -> (file, media type); those of the package when not given.

    Raises
    ------
    InputError
        When the study is not whole, another server serves it, the page cannot show images, or the address
        cannot be listened on.
    """
    require_in_range("port", port, 0, 65535)
    if not host.strip():  # to a socket: every address of the machine
        fail(
            "host must not be empty", remedy="name the address to listen on, 127.0.0.1 for this machine alone"
        )
    study = open_study(folder)
    _require_images(study)
    with ReadStore(study) as store:
        hosts = [socket.gethostname()] if host in WILDCARDS else [f"[{host}]" if ":" in host else host]
        app = make_app(study, store, hosts=hosts, page=page)
        with listen(host, port) as listener:
            name = hosts[0] if host in WILDCARDS or host not in LOOPBACK else host
            _announce(study, store, f"http://{name}:{listener.getsockname()[1]}")
            if host not in (*LOOPBACK, "::1"):
                _warn(host)
            try:
                with terminated_as_interrupted():
                    typer.echo("ready")
                    make_server(app).run(sockets=[listener])
            except KeyboardInterrupt:
                pass
        typer.echo(f"stopped; the last row of the reads has the hash {store.head}")


def make_server(app: ASGIApp) -> uvicorn.Server:
    """Return the server of an application: no access log, no name of itself, no trust in proxies' headers."""
    # h11 is strict: what it does not understand it refuses.
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE_S,
    )
    return uvicorn.Server(config)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises
    ------
    InputError
        When the address is not there, or taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named TCP: otherwise asyncio does not switch off the delay of small packets, 40 ms a response.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise InputError(
            f"cannot listen on {host}, port {port}: {error.strerror or error}. "
            "Remedy: choose another one with --port (0 takes a free one) or --host"
        ) from error
    return listener


def _require_images(study: Study) -> None:
    missing = [image for image in study.key["image_id"] if not study.image_path(str(image)).is_file()]
    if missing:
        fail(
            f"{len(missing)} of {len(study.key)} images are missing, the first is {missing[0]}.nii",
            path=study.public / "images",
            remedy="restore them from a backup",
        )


def _announce(study: Study, store: ReadStore, address: str) -> None:
    """Print what a coordinator needs: the links, how far each reader is, where the reads are kept."""
    tokens = read_tokens(study)
    total = study.reading_list["reader"].value_counts()
    width = max(map(len, tokens), default=0)
    typer.echo(f"study {study.design['study_id']}; reads are kept in {study.reads_path}")
    typer.echo(f"last row of the reads: {store.head}")
    if not tokens:
        typer.echo("this study has no human readers")
    for reader, token in tokens.items():
        done = len(store.answered(reader))
        typer.echo(f"  {reader:{width}}  {done} of {total[reader]} answered  {address}/#{token}")


def _warn(host: str) -> None:
    typer.echo(
        f"warning: on {host} links and answers travel unencrypted, and whoever sees a link can read in that "
        "reader's name. Remedy: serve on 127.0.0.1, and let readers in by an ssh tunnel "
        "(ssh -L 8080:127.0.0.1:8080 THIS_MACHINE) or by a reverse proxy with TLS that passes the Host "
        "header 127.0.0.1 and no Origin header",
        err=True,
    )
