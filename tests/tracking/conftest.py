"""One MLflow store for all tests of tracking: a database takes seconds to make, an experiment none."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from medrestore.tracking.store import default_tracking_uri


@pytest.fixture(scope="session")
def tracking_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return default_tracking_uri(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="session")
def study_tools() -> SimpleNamespace:
    """Return what the tests of studies make studies with: ``write_study``, ``read_study``, ``noisy``, ..."""
    folder = Path(__file__).parents[1] / "study"
    found: dict[str, Any] = {}
    for path in (folder / "conftest.py", folder / "analysis" / "conftest.py"):
        spec = importlib.util.spec_from_file_location(f"tools_of_{path.parent.name}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
        found |= vars(module)
    return SimpleNamespace(**found)
