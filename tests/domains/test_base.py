"""Kinds of image are found, not listed."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pytest

from medrestore import kinds
from medrestore.checks import InputError
from medrestore.domains import base
from medrestore.evaluation.titles import FIDELITY, Metrics


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> Iterator[base.Domain]:
    """A kind of image that an installed package brings by its entry point."""
    ct = base.Domain("ct", Metrics(FIDELITY))
    point = SimpleNamespace(name="ct", load=lambda: ct)
    monkeypatch.setattr(kinds, "entry_points", lambda group: [point] if group == "medrestore.domains" else [])
    base._found.cache_clear()
    yield ct
    base._found.cache_clear()


def test_folders_and_entry_points_are_found(added):
    assert base.domain_called("ct") is added
    for name in ("amyloid_pet", "histology", "multicontrast_mri"):
        assert base.domain_called(name).name == name
    assert base.metrics_of("ct", ()).title_of("psnr").title == "PSNR (dB)"


def test_packages_that_do_not_load_are_named(monkeypatch):
    point = EntryPoint("ct", "site_ct.domain:DOMAIN", "medrestore.domains")
    monkeypatch.setattr(kinds, "entry_points", lambda group: [point] if group == "medrestore.domains" else [])
    base._found.cache_clear()
    with pytest.raises(InputError, match=r"'ct' cannot be loaded from site_ct\.domain:DOMAIN \(Mod.*Remedy"):
        base.quantities()


def test_a_kind_of_image_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(
        InputError, match=r"no kind of image is called 'us'; there are amyloid_pet, .*Remedy: install"
    ):
        base.domain_called("us")
