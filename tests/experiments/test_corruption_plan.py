from __future__ import annotations

import re
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest

from medrestore.checks import InputError
from medrestore.domains.histology.schema import TILES
from medrestore.engines.shelf import find_bundle
from medrestore.engines.values import by_short_names
from medrestore.experiments.corruption_plan import (
    OURS,
    StudyPlan,
    evaluation_folder,
    find_study,
    make_jobs,
    make_plan,
    require_ready,
)
from medrestore.experiments.jobs import Job

STUDY = find_study("histology")


def plan_of(manifest: Path, **changed: Any) -> StudyPlan:
    settings: dict[str, Any] = {"overlays": (), "overrides": None, "jobs": 1, **changed}
    levels = settings.pop("levels", (0.5, 0.0))
    variants = settings.pop("variants", ("srgan", "e", "sqe"))
    seeds = settings.pop("seeds", (0, 1))
    return make_plan("histology", manifest, levels, variants, seeds, **settings)


def jobs_of(plan: StudyPlan, folder: Path) -> dict[str, Job]:
    found = make_jobs(plan, folder, experiment="study", parent_run="parent")
    assert len({job.name for job in found}) == len(found)
    return {job.name: job for job in found}


def test_the_bundle_has_the_overlays_and_keys_that_the_study_needs():
    from monai.bundle import ConfigParser

    folder = find_bundle(STUDY.bundle)
    overlays = {path.stem for path in (folder / "variants").glob("*.yaml")}
    assert overlays >= {*STUDY.runs, "demo"}
    needed = {key for run in STUDY.runs.values() for key in run.needs}
    train = ConfigParser.load_config_file(folder / "configs" / "train.yaml")
    assert set(by_short_names(train)) >= {*OURS, *needed}
    assert all(callable(resolve_name(name)) for name in (STUDY.ready, STUDY.evaluate["call"]))


def test_every_run_is_the_bundle_with_its_overlays_and_keys(tiles, tmp_path):
    plan = plan_of(tiles, overlays=("demo",), overrides={"batch_size": 2})
    jobs = jobs_of(plan, tmp_path)
    # Two levels, two seeds: autoencoder, three variants and an evaluation each.
    assert len(jobs) == 2 * 2 * 5

    job = jobs["sqe_level-50_seed-1"]
    encoder = "autoencoder_level-50_seed-1"
    assert job.needs == (encoder,)
    assert job.task["overlays"] == ["demo", "sqe"]
    assert job.task["overrides"] == {
        "batch_size": 2,
        "dataset_dir": str(tiles.parent),
        "manifest": str(tiles),
        "seed": 1,
        "corruption_fraction": 0.5,
        "experiment": "study",
        "run_name": "sqe_level-50_seed-1",
        "parent_run": "parent",
        "encoder_weights": str(tmp_path / "runs" / encoder / "model.pt"),
    }
    assert job.task["restore"]["output"] == str(tmp_path / "restored" / "sqe_level-50_seed-1")
    assert job.products == (
        tmp_path / "runs" / "sqe_level-50_seed-1" / "model.pt",
        tmp_path / "restored" / "sqe_level-50_seed-1",
    )
    assert jobs[encoder].task["overlays"] == ["demo", "autoencoder"]
    assert jobs[encoder].task["restore"] is None
    assert jobs[encoder].needs == ()

    vgg = jobs["srgan_level-0_seed-0"]
    assert vgg.needs == ()
    assert vgg.task["overlays"] == ["demo", "srgan"]
    assert "encoder_weights" not in vgg.task["overrides"]

    evaluation = jobs["evaluation_level-0_seed-1"]
    assert evaluation.needs == tuple(f"{name}_level-0_seed-1" for name in ("srgan", "e", "sqe"))
    assert set(evaluation.task["methods"]) == {"srgan", "e", "sqe"}
    assert evaluation.task["output"] == str(evaluation_folder(tmp_path, 0.0, 1))
    assert evaluation.task["evaluate"]["arguments"]["baselines"] == ["bicubic"]


def test_work_is_done_seed_by_seed_and_level_by_level(tiles, tmp_path):
    names = list(jobs_of(plan_of(tiles), tmp_path))
    cells = list(dict.fromkeys(name.partition("_")[2] for name in names))
    assert cells == ["level-0_seed-0", "level-50_seed-0", "level-0_seed-1", "level-50_seed-1"]
    needed = jobs_of(plan_of(tiles), tmp_path)
    for job in needed.values():
        assert all(names.index(name) < names.index(job.name) for name in job.needs)


def test_srgan_alone_needs_no_autoencoder(tiles, tmp_path):
    jobs = jobs_of(plan_of(tiles, variants=("srgan",)), tmp_path)
    assert not [name for name in jobs if name.startswith("autoencoder")]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"levels": ()}, "levels must be one value or more, none of them twice"),
        ({"levels": (0.0, 0.0)}, "levels must be one value or more, none of them twice"),
        ({"levels": (1.5,)}, r"levels must be in \[0, 1\], got 1.5"),
        ({"levels": (0.05,)}, "a level of 0.05 corrupts none of 4 training tiles"),
        ({"seeds": (1, 1)}, "seeds must be one value or more"),
        ({"variants": ()}, "variants must be one value or more"),
        ({"variants": ("autoencoder", "e")}, "variants must be methods"),
        ({"variants": ("squ",)}, "there is no such overlay"),
        ({"overlays": ("dem",)}, "there is no such overlay"),
        ({"overrides": {"seed": 3}}, "overrides must not hold 'seed': the study sets it"),
        ({"overrides": {"encoder_weights": "model.pt"}}, "overrides must not hold 'encoder_weights'"),
        ({"overrides": {"batchsize": 3}}, "has no key 'batchsize'; did you mean 'batch_size'"),
        ({"overrides": {"betas": object()}}, "overrides must be plain values"),
        ({"jobs": 0}, r"jobs must be in \[1, 1024\], got 0"),
    ],
)
def test_settings_that_make_no_study_are_refused(tiles, changed, message):
    with pytest.raises(InputError, match=message):
        plan_of(tiles, **changed)


def test_an_overlay_of_unknown_keys_is_refused(tiles, tmp_path):
    overlay = tmp_path / "mine.yaml"
    overlay.write_text("batch_sise: 3\n")
    with pytest.raises(InputError, match=re.escape(f"{overlay}: has no key 'batch_sise'")):
        plan_of(tiles, overlays=(str(overlay),))


def test_a_split_that_is_missing_is_named(tiles, tmp_path):
    import pandas as pd

    table: pd.DataFrame = TILES.read(tiles)
    path = TILES.write(table[table["split"] != "validation"], tmp_path / "manifest.csv")
    with pytest.raises(InputError, match="has no row of split 'validation'"):
        plan_of(path)


def test_configurations_are_known_by_their_values(tiles, tmp_path):
    overlay = tmp_path / "mine.yaml"
    overlay.write_text("batch_size: 3\n")
    first = plan_of(tiles, overlays=(str(overlay),)).record()
    overlay.write_text("# three\nbatch_size:   3\n")
    assert plan_of(tiles, overlays=(str(overlay),)).record() == first
    overlay.write_text("batch_size: 4\n")
    changed = plan_of(tiles, overlays=(str(overlay),)).record()
    assert [key for key in first if changed[key] != first[key]] == ["configurations"]
    # What a later overlay replaces does not matter.
    last = tmp_path / "last.yaml"
    last.write_text("batch_size: 9\n")
    overlays = (str(overlay), str(last))
    before = plan_of(tiles, overlays=overlays).record()
    overlay.write_text("batch_size: 5\n")
    assert plan_of(tiles, overlays=overlays).record() == before
    overlay.write_text("batch_size: 4\n")
    # Levels and seeds are no settings: a later call may name others.
    assert plan_of(tiles, levels=(0.25,), seeds=(7,), overlays=(str(overlay),)).record() == changed


def test_weights_of_vgg_are_asked_for_before_anything_is_trained(tiles, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"srgan: .*vgg19-dcbb9e9d\.pth.* or study the variants e, qe, sqe$"):
        require_ready(plan_of(tiles))
    require_ready(plan_of(tiles, variants=("e", "sqe")))
    file = tmp_path / "mine.pth"
    file.touch()
    require_ready(plan_of(tiles, overrides={"vgg_weights": str(file)}))
    overlay = tmp_path / "mine.yaml"
    overlay.write_text(f"vgg_weights: {file}\n")
    require_ready(plan_of(tiles, overlays=(str(overlay),)))
