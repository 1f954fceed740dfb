"""Demonstrations are data: found by kind of image, each run after those that it needs."""

from __future__ import annotations

from collections.abc import Iterator
from pkgutil import resolve_name
from typing import Any

import pytest

from medrestore.checks import InputError
from medrestore.engines.shelf import find_bundle
from medrestore.experiments.corruption_plan import find_study
from medrestore.experiments.demo import find_demo, run_demo
from medrestore.kinds import files_beside

DEMOS = files_beside("demo.yaml")


def test_each_kind_of_image_here_has_one():
    assert DEMOS.keys() == {"amyloid-pet", "histology", "multicontrast-mri"}


@pytest.mark.parametrize("subject", DEMOS)
def test_runs_follow_those_they_need_and_calls_exist(subject):
    demo = find_demo(subject)
    before: list[str] = []
    for name, run in demo.runs.items():
        assert set(run.needs.values()) <= set(before)
        before.append(name)
    overlays = {path.stem for path in (find_bundle(demo.bundle) / "variants").glob("*.yaml")}
    assert overlays >= {*demo.runs, "demo"}
    assert all(callable(resolve_name(name)) for name in _calls([*demo.prepare, demo.evaluate]))


@pytest.mark.parametrize("subject", DEMOS)
def test_a_folder_of_others_is_refused_before_anything_is_prepared(subject, tmp_path):
    (tmp_path / "notes.txt").write_text("years of work")
    with pytest.raises(InputError, match="holds other files and no demo; nothing is overwritten"):
        run_demo(subject, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def _calls(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for part in value:
            yield from _calls(part)
    elif isinstance(value, dict):
        if "call" in value:
            yield value["call"]
        yield from _calls(list(value.values()))


def test_unknown_subject_is_told_those_there_are(tmp_path):
    with pytest.raises(InputError, match=r"SUBJECT must be one of 'amyloid-pet', 'histology', .*got 'cat'"):
        run_demo("cat", tmp_path)


def test_a_wrong_key_of_a_description_is_named(monkeypatch, tmp_path):
    from medrestore.experiments import description

    (tmp_path / "corruption.yaml").write_text("bundle: a\nunit: b\nruns: {e: {compare: true}}\n")
    monkeypatch.setattr(description, "files_beside", lambda file: {"ct": tmp_path / file})
    with pytest.raises(InputError, match=r"corruption\.yaml: runs\.e\.compare: .*; ready: Field required"):
        find_study("ct")
