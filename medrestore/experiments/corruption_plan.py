"""What a corruption study trains: its settings, checked, and the jobs that they make."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medrestore.checks import InputError, fail, require_in_range, require_known_keys
from medrestore.experiments.corruption_results import REFERENCE
from medrestore.experiments.jobs import Job, cores_per_job
from medrestore.files import sha256_file

__all__ = [
    "BUNDLE",
    "LEVELS",
    "VARIANTS",
    "StudyPlan",
    "configuration_checksum",
    "evaluation_folder",
    "make_jobs",
    "make_plan",
    "require_encoder_weights",
]

BUNDLE = "histology_srgan"
LEVELS = tuple(step / 20 for step in range(11))
"""Parts of the training pairs that the paper corrupts: 0, 5, ..., 50 %."""

VARIANTS = ("srgan", "e", "qe", "sqe")
"""The paper's methods, each improving on the one before by its claim."""

AUTOENCODER = "autoencoder"
OWN_ENCODER = ("srgan",)
"""Variants that need no autoencoder: their encoding is VGG19's."""

OURS = (
    *("seed", "dataset_dir", "manifest", "output_dir", "tracking_uri", "experiment", "run_name"),
    *("corruption_fraction", "encoder_weights", "parent_run"),
)
"""Keys of the bundle that the study sets itself."""

SPLIT = "test"


@dataclass(frozen=True)
class StudyPlan:
    """What a study trains, checked.

    Parameters
    ----------
    manifest
        Of the tiles.
    levels
        Of corruption, rising.
    variants, seeds, overlays, overrides, jobs
        As in :func:`~medrestore.experiments.corruption_study.run_corruption_study`.
    configurations
        Checksum of the configuration of every kind of run, by its overlay; in the order of training.
    """

    manifest: Path
    levels: tuple[float, ...]
    variants: tuple[str, ...]
    seeds: tuple[int, ...]
    overlays: tuple[str, ...]
    overrides: dict[str, Any]
    jobs: int
    configurations: dict[str, str] = field(repr=False)

    def record(self) -> dict[str, Any]:
        """Return what calls that share a folder must share, as JSON gives it back."""
        settings = {
            "manifest_sha256": sha256_file(self.manifest),
            "bundle": BUNDLE,
            "variants": self.variants,
            "overrides": self.overrides,
            "split": SPLIT,
            "configurations": self.configurations,
        }
        found: dict[str, Any] = json.loads(json.dumps(settings))
        return found

    def cells(self) -> list[tuple[float, int]]:
        """Return level and seed of all evaluations, in the order of the work."""
        return [(level, seed) for seed in self.seeds for level in self.levels]

    def overlays_of(self, run: str) -> list[str]:
        """Return the overlays of a run, in their order."""
        return [*self.overlays, run]


def make_plan(
    manifest: Path,
    levels: Sequence[float],
    variants: Sequence[str],
    seeds: Sequence[int],
    *,
    overlays: Sequence[str],
    overrides: Mapping[str, Any] | None,
    jobs: int,
) -> StudyPlan:
    """Check the settings of a study.

    Raises
    ------
    InputError
        For those that make none; see :func:`~medrestore.experiments.corruption_study.run_corruption_study`.
    """
    from medrestore.data.schema import split_rows
    from medrestore.domains.histology.schema import TILES

    for name, values in (("levels", levels), ("variants", variants), ("seeds", seeds)):
        if not values or len(set(values)) != len(values):
            raise InputError(f"{name} must be one value or more, none of them twice, got {tuple(values)}")
    for level in levels:
        require_in_range("levels", level, 0, 1)
    require_in_range("jobs", jobs, 1, 1024)
    if AUTOENCODER in variants:
        raise InputError(f"variants must be methods, got {tuple(variants)}: {AUTOENCODER} is trained anyway")
    given = dict(overrides or {})
    for key in given:
        if key in OURS:
            raise InputError(f"overrides must not hold {key!r}: the study sets it")
    try:
        json.dumps(given)
    except TypeError as error:
        raise InputError(f"overrides must be plain values: {error}") from error
    table = TILES.read(manifest)
    for split in ("train", "validation", SPLIT):
        split_rows(table, split)
    count = len(split_rows(table, "train"))
    for level in levels:
        if level > 0 and round(level * count) == 0:
            fail(f"a level of {level:g} corrupts none of {count} training tiles", path=manifest)
    # Files are named from anywhere by children.
    named = tuple(
        str(Path(name).resolve()) if name.endswith((".yaml", ".yml")) else name for name in overlays
    )
    plan = StudyPlan(
        manifest.resolve(),
        tuple(sorted(float(level) for level in levels)),
        tuple(variants),
        tuple(int(seed) for seed in seeds),
        named,
        given,
        jobs,
        {},
    )
    runs = ([AUTOENCODER] if set(variants) - set(OWN_ENCODER) else []) + list(variants)
    for run in runs:
        plan.configurations[run] = configuration_checksum(plan.overlays_of(run), given)
    return plan


def configuration_checksum(overlays: Sequence[str], overrides: Mapping[str, Any]) -> str:
    """Return the checksum of a run's merged configuration: of its values, not of how they are written.

    Raises
    ------
    InputError
        For an overlay that is not there, or a key that the configuration does not have.
    """
    merged = _merged_configuration(overlays, overrides)
    return hashlib.sha256(json.dumps(merged, sort_keys=True, default=str).encode()).hexdigest()


def require_encoder_weights(plan: StudyPlan) -> None:
    """Require, before hours of training, the weights of VGG19 where a variant of a study needs them.

    Raises
    ------
    InputError
        When they are not there; says where to fetch them, or how to do without.
    """
    from medrestore.networks.vgg import weights_file

    for variant in set(plan.variants) & set(OWN_ENCODER):
        if not any(key.split("::")[0] == "encoder" for key in plan.overrides):
            merged = _merged_configuration(plan.overlays_of(variant), plan.overrides)
            try:
                weights_file(plan.overrides.get("vgg_weights", merged["vgg_weights"]))
            except InputError as error:
                others = ", ".join(name for name in VARIANTS if name not in OWN_ENCODER)
                raise InputError(f"variant {variant}: {error}; or study the variants {others}") from error


def _merged_configuration(overlays: Sequence[str], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of a run without its overrides, whose keys it must know."""
    from medrestore.engines.bundle import bundle_configuration

    merged = bundle_configuration(BUNDLE, "train", overlays)
    known = {key.split("::")[0]: None for key in overrides}
    require_known_keys(f"{BUNDLE}, train.yaml", known, merged)
    return merged


def make_jobs(plan: StudyPlan, folder: Path, *, experiment: str, parent_run: str) -> list[Job]:
    """Return all trainings and evaluations; an evaluation follows the trainings that it needs."""
    work = []
    encoder_kept = AUTOENCODER in plan.configurations
    for level, seed in plan.cells():
        cell = _cell_name(level, seed)
        encoder = f"{AUTOENCODER}_{cell}"
        needed = []
        for run in plan.configurations:
            name = f"{run}_{cell}"
            trained = folder / "runs" / name / "model.pt"
            restored = folder / "restored" / name
            overrides = {
                **plan.overrides,
                "dataset_dir": str(plan.manifest.parent),
                "manifest": str(plan.manifest),
                "seed": seed,
                "corruption_fraction": level,
                "experiment": experiment,
                "run_name": name,
                "parent_run": parent_run,
            }
            shares = run != AUTOENCODER and run not in OWN_ENCODER
            if shares:
                overrides["encoder_weights"] = str(folder / "runs" / encoder / "model.pt")
            target = {"manifest": str(plan.manifest), "split": SPLIT, "output": str(restored)}
            task = {
                "do": "train",
                "bundle": BUNDLE,
                "folder": str(folder),
                "run": name,
                "overlays": plan.overlays_of(run),
                "configuration": plan.configurations[run],
                "overrides": overrides,
                "restore": None if run == AUTOENCODER else target,
            }
            products = (trained,) if run == AUTOENCODER else (trained, restored)
            work.append(Job(name, run, task, products, (encoder,) if shares and encoder_kept else ()))
            if run != AUTOENCODER:
                needed.append(name)
        work.append(_evaluation_job(plan, folder, cell, tuple(needed)))
    return work


def _evaluation_job(plan: StudyPlan, folder: Path, cell: str, needed: tuple[str, ...]) -> Job:
    place = folder / "evaluations" / cell
    methods = {
        variant: str(folder / "restored" / name) for variant, name in zip(plan.variants, needed, strict=True)
    }
    task = {
        "do": "evaluate",
        "manifest": str(plan.manifest),
        "methods": methods,
        "weights": str(folder / "runs" / needed[0] / "model.pt"),
        "output": str(place),
        "split": SPLIT,
        "baselines": [REFERENCE],
        "pairs": list(zip(plan.variants[1:], plan.variants[:-1], strict=True)),
        "workers": cores_per_job(plan.jobs),
    }
    return Job(f"evaluation_{cell}", "evaluation", task, (place / "evaluation.json",), needed)


def _cell_name(level: float, seed: int) -> str:
    return f"level-{100 * level:g}_seed-{seed}"


def evaluation_folder(folder: Path, level: float, seed: int) -> Path:
    """Return the folder of the evaluation of one level and seed."""
    return folder / "evaluations" / _cell_name(level, seed)
