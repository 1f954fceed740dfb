"""Kinds of image are found, not listed."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from medrestore import kinds
from medrestore.checks import InputError
from medrestore.data.pairs import pair_schema
from medrestore.domains import base
from medrestore.evaluation.titles import FIDELITY, Metrics


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Let installed packages offer kinds of image: what entry points lead to, None of one that is broken."""

    def offered(**found: object) -> None:
        points = []
        for number, (name, value) in enumerate(found.items()):
            module = ModuleType(f"site_{number}")
            if value is not None:
                module.__dict__["DOMAIN"] = value
                monkeypatch.setitem(sys.modules, module.__name__, module)
            points.append(EntryPoint(name, f"{module.__name__}:DOMAIN", kinds.GROUP))
        monkeypatch.setattr(kinds, "entry_points", lambda group: points if group == kinds.GROUP else [])
        base._loaded.cache_clear()

    yield offered
    base._loaded.cache_clear()


@pytest.fixture
def added(offer: Callable[..., None]) -> base.Domain:
    """A kind of image that an installed package brings by its entry point."""
    ct = base.Domain("ct", Metrics(FIDELITY))
    offer(ct=ct)
    return ct


def test_folders_and_entry_points_are_found(added):
    assert base.domain_called("ct") is added
    for name in ("amyloid_pet", "histology", "multicontrast_mri"):
        assert base.domain_called(name).name == name
    assert base.metrics_of("ct", ()).title_of("psnr").title == "PSNR (dB)"


@pytest.fixture
def pet_table(tmp_path: Path) -> Path:
    """The columns of a manifest of amyloid PET."""
    path = tmp_path / "manifest.csv"
    path.write_text(",".join(base.domain_called("amyloid_pet").schema_for(pd.DataFrame()).required) + "\n")
    return path


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, r"ModuleNotFoundError: .*site_0"),
        (3, "TypeError: is int, not Domain"),
        (base.Domain("amyloid_pet", Metrics(FIDELITY)), "ValueError: calls itself 'amyloid_pet'"),
        (base.Domain("ct", Metrics(FIDELITY), schema="columns"), "AttributeError: "),  # type: ignore[arg-type]
    ],
)
def test_package_that_is_broken_costs_its_own_kind_and_is_named(value, told, offer, pet_table, caplog):
    offer(ct=value)
    message = rf"'ct' cannot be loaded from site_0:DOMAIN \({told}.*Remedy: repair or uninstall"
    assert base.domain_of_table(pet_table) is base.domain_called("amyloid_pet")
    assert base.quantities()
    assert re.search(message, caplog.text)
    assert len(caplog.records) == 1
    with pytest.raises(InputError, match=message):
        base.domain_called("ct")


def test_schema_that_fails_at_tables_of_others_costs_its_own_kind(offer, pet_table, caplog):
    def schema(table):
        return pair_schema() if table.empty and table.columns.empty else table["modality"]

    offer(ct=base.Domain("ct", Metrics(FIDELITY), schema=schema))
    assert base.domain_of_table(pet_table).name == "amyloid_pet"
    assert base.quantity_of(pet_table).name
    assert base.schema_of_table(pd.read_csv(pet_table)) is not None
    assert "'ct' cannot tell whether a table is of it (KeyError: 'modality'). Remedy" in caplog.text


@pytest.mark.parametrize("name", ["amyloid_pet", "amyloid-pet", "site.ct"])
def test_names_that_are_taken_or_split_those_of_restorers_are_refused(name, offer):
    offer(**{name: base.Domain(name, Metrics(FIDELITY))})
    assert kinds.added_kinds() == []
    (fault,) = kinds.refused_kinds()
    assert fault.startswith(f"the kind of image {name!r} of site_0:DOMAIN has ")
    assert "Remedy: rename its entry point" in fault


def test_the_second_of_two_packages_of_one_name_is_refused(offer):
    offer(low_dose=base.Domain("low_dose", Metrics(FIDELITY)), **{"low-dose": None})
    assert [point.value for point in kinds.added_kinds()] == ["site_0:DOMAIN"]
    assert "'low-dose' of site_1:DOMAIN has the name of that of site_0:DOMAIN" in kinds.refused_kinds()[0]


def test_kind_without_manifests_names_the_table(added, pet_table):
    with pytest.raises(InputError, match=r"manifest\.csv: ct has no manifests\. Remedy"):
        added.schema_of(pet_table)


def test_a_kind_of_image_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(
        InputError, match=r"no kind of image is called 'us'; there are amyloid_pet, .*Remedy: install"
    ):
        base.domain_called("us")
