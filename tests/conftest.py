"""Fixtures that every test may use."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("MPLBACKEND", "Agg")


def pytest_runtest_setup() -> None:
    """Block every network connection but those inside this machine (MLflow's sqlite needs none)."""
    from pytest_socket import socket_allow_hosts

    socket_allow_hosts(["127.0.0.1", "localhost", "::1"], allow_unix_socket=True)


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Find a real scan in the folder of test data beside the checkout; skip, naming the file, when it is not there."""
    root = Path(os.environ.get("MEDRESTORE_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))

    def find(name: str) -> Path:
        path = root / name
        if not path.exists():
            pytest.skip(f"test data {name} is not in {root}")
        return path

    return find
