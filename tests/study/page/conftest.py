"""A real browser on a real server, for all tests of the reading page.

Needs Chromium. Without it these tests skip, unless MEDRESTORE_REQUIRE_BROWSER is set.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from medrestore.study.layout import Study
from medrestore.study.page import niivue_missing
from medrestore.study.record.store import ReadStore

CHROMIUM_ARGUMENTS = [
    *("--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--use-gl=angle", "--use-angle=swiftshader"),
    "--enable-unsafe-swiftshader",
]
FLORBETABEN = yaml.safe_load(
    (files("medrestore.study.planning") / "presets" / "florbetaben.yaml").read_text(encoding="utf-8")
)
READERS = [
    *("keyboard", "phases", "reload", "corrects", "pauses", "careless", "drops", "window", "refused", "lost"),
    *("busy", "mouse", "repeats"),
]
NEGATIVE = "1111n44n"
"""A whole negative read in the florbetaben preset, without artefact: what a reader types."""

NEGATIVE_ANSWERS = {
    "rctu_lateral_temporal": 1,
    "rctu_frontal": 1,
    "rctu_posterior_cingulate_precuneus": 1,
    "rctu_parietal": 1,
    "bapl": 1,
    "amyloid_status": False,
    "confidence": 4,
    "score": 2,
    "image_quality": 4,
    "artefact": False,
}


class Server:
    """``medrestore study serve`` in a process of its own."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.port = 0
        self.start()

    def start(self) -> None:
        call = f"serve({str(self.study.folder)!r}, port={self.port})"
        code = f"from medrestore.study.server.serve import serve; {call}"
        self.process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            found = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
            if found:
                self.port = int(found[1])
            if line.strip() == "ready":
                return
        pytest.fail("the server did not start")

    def stop(self, how: int = signal.SIGTERM) -> None:
        self.process.send_signal(how)
        self.process.communicate(timeout=20)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def link(self, reader: str) -> str:
        tokens = pd.read_csv(self.study.private / "tokens.csv").set_index("reader")["token"]
        return f"{self.address}/#{tokens[reader]}"

    def rows(self, reader: str) -> pd.DataFrame:
        """Return all rows of a reader, as any other program would read them."""
        with ReadStore(self.study, read_only=True) as store:
            rows = store.rows()
        return rows[rows["reader"] == reader].reset_index(drop=True)


@dataclass
class Sight:
    """A page, and all that went wrong on it or left this machine."""

    page: Any
    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    negative: str = NEGATIVE

    def open(self, link: str) -> None:
        self.page.goto(link)

    def begin(self) -> None:
        """Leave the screen with the instructions."""
        self.page.wait_for_selector("#screen-go:visible")
        self.page.keyboard.press("Enter")
        self.wait_for_image()

    def wait_for_image(self) -> None:
        self.page.wait_for_selector("#curtain", state="hidden")

    def type(self, keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def wait_for_rows(self, server: Server, reader: str, count: int) -> pd.DataFrame:
        """Wait until a reader has so many rows; the browser goes on meanwhile."""
        deadline = time.monotonic() + 20
        rows = server.rows(reader)
        while len(rows) < count and time.monotonic() < deadline:
            self.page.wait_for_timeout(50)
            rows = server.rows(reader)
        assert len(rows) == count
        return rows

    def save(self) -> None:
        """Save, and wait until the page has gone on."""
        before = self.page.inner_text("header")
        self.press("Enter")
        self.page.wait_for_function(
            "before => document.querySelector('header').innerText !== before", arg=before
        )

    def forgive(self, words: str) -> None:
        """Take errors off the list that the browser writes about what a test broke on purpose."""
        self.errors = [error for error in self.errors if words not in error]

    def status(self) -> str:
        return str(self.page.inner_text("#status"))

    def active(self) -> str:
        return str(self.page.inner_text(".question.active legend"))

    def stage(self) -> np.ndarray:
        """Return the image as it is on the screen: (rows, columns, red green blue), 0 to 255."""
        from PIL import Image

        content = self.page.locator("#stage").screenshot()
        return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), dtype=float)

    def pixels(self) -> np.ndarray:
        """Return the middle half of the stage in gray, whatever covers it: (rows, columns), 0 to 255."""
        from PIL import Image

        box = self.page.locator("#stage").bounding_box()
        clip = {
            "x": box["x"] + box["width"] / 4,
            "y": box["y"] + box["height"] / 4,
            "width": box["width"] / 2,
            "height": box["height"] / 2,
        }
        return np.asarray(Image.open(io.BytesIO(self.page.screenshot(clip=clip))).convert("L"), dtype=float)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, once for all tests of this file."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    lacking = niivue_missing() or ("" if chromium else "Chromium is not installed")
    if lacking:
        if os.environ.get("MEDRESTORE_REQUIRE_BROWSER"):
            pytest.fail(f"MEDRESTORE_REQUIRE_BROWSER is set, but {lacking}")
        pytest.skip(lacking)
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        instance = driver.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGUMENTS)
        yield instance
        instance.close()


@pytest.fixture(scope="module")
def server(make_study: Callable[..., Study], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One study for all tests; each test is a reader of its own."""
    folder = tmp_path_factory.mktemp("page") / "study"
    study = make_study(
        folder, readers=READERS, cases=3, questions=FLORBETABEN, washout_days=14, plan={"arms": {}}
    )
    running = Server(study)
    yield running
    running.stop()


@pytest.fixture
def serve_folder() -> Iterator[Callable[[Study], Server]]:
    """Serve a study of a test's own."""
    running = []

    def serve(study: Study) -> Server:
        running.append(Server(study))
        return running[-1]

    yield serve
    for server in running:
        server.stop()


@pytest.fixture
def serve_study(
    make_study: Callable[..., Study], serve_folder: Callable[[Study], Server], tmp_path: Path
) -> Callable[..., Server]:
    """Write and serve a study, for the one reader ``reader``."""

    def serve(**settings: Any) -> Server:
        settings = {"questions": FLORBETABEN, "readers": ["reader"], "duplicates": 0, **settings}
        return serve_folder(make_study(tmp_path / "study", **settings))

    return serve


@pytest.fixture
def negative_answers() -> dict[str, Any]:
    """Return what is on record after a negative read."""
    return dict(NEGATIVE_ANSWERS)


@pytest.fixture
def watch(browser: Any) -> Iterator[Callable[..., Sight]]:
    """Open pages; at the end nothing may have gone wrong on them, and nothing may have left the machine."""
    contexts, sights = [], []

    def make(context: Any = None) -> Sight:
        context = context or browser.new_context(viewport={"width": 1400, "height": 900})
        contexts.append(context)
        context.set_default_timeout(60_000)  # on a machine that others use
        sight = Sight(context.new_page())
        sight.page.on("console", lambda message: _note(sight, message))
        sight.page.on("pageerror", lambda error: sight.errors.append(str(error)))
        sight.page.on("request", lambda request: _note_request(sight, request.url))
        sights.append(sight)
        return sight

    yield make
    for sight in sights:
        assert sight.errors == []
        assert sight.foreign == []
    for context in contexts:
        context.close()


def _note(sight: Sight, message: Any) -> None:
    if message.type in ("error", "warning"):
        sight.errors.append(message.text)


def _note_request(sight: Sight, url: str) -> None:
    if not url.startswith(("http://127.0.0.1:", "data:")):
        sight.foreign.append(url)
