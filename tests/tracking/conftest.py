"""One MLflow store for all tests of tracking: a database takes seconds to make, an experiment none."""

from __future__ import annotations

import pytest

from medrestore.tracking.store import default_tracking_uri


@pytest.fixture(scope="session")
def tracking_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return default_tracking_uri(tmp_path_factory.mktemp("store"))
