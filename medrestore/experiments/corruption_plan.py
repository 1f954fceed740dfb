"""What a corruption study trains: its settings, checked, and the jobs that they make."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from medrestore.checks import InputError, fail, require_in_range, require_known_keys
from medrestore.engines.values import PARAMETERS, SEPARATOR, by_short_names
from medrestore.experiments.description import Run, methods_of, read_description
from medrestore.experiments.jobs import Job, cores_per_job
from medrestore.files import sha256_file

if TYPE_CHECKING:
    from medrestore.evaluation.titles import Metrics

__all__ = [
    "FILE",
    "LEVELS",
    "Corruption",
    "StudyPlan",
    "configuration_checksum",
    "evaluation_folder",
    "find_study",
    "make_jobs",
    "make_plan",
    "require_ready",
]

FILE = "corruption.yaml"
"""Beside a kind of image, of which there is such a study."""

LEVELS = tuple(step / 20 for step in range(11))
"""Parts of the training pairs that are corrupted: 0, 5, ..., 50 %."""

OURS = (
    *("seed", "dataset_dir", "manifest", "output_dir", "tracking_uri", "experiment", "run_name"),
    *("corruption_fraction", "parent_run"),
)
"""Keys of the bundle that the study sets itself, beside those that runs need."""

SPLIT = "test"


@dataclass(frozen=True)
class Corruption:
    """What a kind of image says of the study.

    Parameters
    ----------
    bundle
        What is trained; it has a key ``corruption_fraction``.
    unit
        What one image is called.
    runs
        By name, in their order. An overlay that is not among them is a method that needs what the last one
        does.
    ready
        Function of a run's configuration and of its overrides; refuses, before all, what cannot be trained.
    evaluate
        ``call`` and ``arguments``, beside manifest, methods, output, split, pairs and workers; what their
        values may be: :func:`~medrestore.experiments.description.value_of`. ``model`` is that of the first
        method.
    reference
        A method that needs no training, so that no corruption reaches it.
    panels
        Metrics of the figure, and what is better.
    """

    bundle: str
    unit: str
    runs: Mapping[str, Run]
    ready: str
    evaluate: Mapping[str, Any]
    reference: str
    panels: Mapping[str, str]

    def run(self, name: str) -> Run:
        """Return a run."""
        return self.runs.get(name, list(self.runs.values())[-1])


@dataclass(frozen=True)
class StudyPlan:
    """What a study trains, checked.

    Parameters
    ----------
    study, metrics
        What the kind of image says.
    manifest
        Of the images.
    levels
        Of corruption, rising.
    variants, seeds, overlays, overrides, jobs
        As in :func:`~medrestore.experiments.corruption_study.run_corruption_study`.
    configurations
        Checksum of the configuration of every kind of run, by its overlay; in the order of training.
    """

    study: Corruption
    metrics: Metrics
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
            "bundle": self.study.bundle,
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


def find_study(subject: str) -> Corruption:
    """Return the study of a kind of image; refuse another one, naming those that have one."""
    return read_description(Corruption, subject, FILE)


def make_plan(
    subject: str,
    manifest: Path,
    levels: Sequence[float],
    variants: Sequence[str] | None,
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
    from medrestore.domains.base import domain_called

    study, domain = find_study(subject), domain_called(subject.replace("-", "_"))
    variants = methods_of(study.runs) if variants is None else variants
    for name, values in (("levels", levels), ("variants", variants), ("seeds", seeds)):
        if not values or len(set(values)) != len(values):
            raise InputError(f"{name} must be one value or more, none of them twice, got {tuple(values)}")
    for level in levels:
        require_in_range("levels", level, 0, 1)
    require_in_range("jobs", jobs, 1, 1024)
    for name in variants:
        if not study.run(name).compared:
            raise InputError(f"variants must be methods, got {tuple(variants)}: {name} is trained anyway")
    given = dict(overrides or {})
    for key in given:
        number = key.removeprefix(f"{PARAMETERS}{SEPARATOR}")
        if number in OURS or any(key in run.needs for run in study.runs.values()):
            raise InputError(f"overrides must not hold {key!r}: the study sets it")
    try:
        json.dumps(given)
    except TypeError as error:
        raise InputError(f"overrides must be plain values: {error}") from error
    table = domain.schema_of(manifest).read(manifest)
    for split in ("train", "validation", SPLIT):
        split_rows(table, split)
    count = len(split_rows(table, "train"))
    for level in levels:
        if level > 0 and round(level * count) == 0:
            fail(f"a level of {level:g} corrupts none of {count} training {study.unit}s", path=manifest)
    # Files are named from anywhere by children.
    named = tuple(
        str(Path(name).resolve()) if name.endswith((".yaml", ".yml")) else name for name in overlays
    )
    plan = StudyPlan(
        study,
        domain.metrics,
        manifest.resolve(),
        tuple(sorted(float(level) for level in levels)),
        tuple(variants),
        tuple(int(seed) for seed in seeds),
        named,
        given,
        jobs,
        {},
    )
    needed = {need for name in variants for need in study.run(name).needs.values()}
    for run in [name for name in study.runs if name in needed] + list(variants):
        plan.configurations[run] = configuration_checksum(study.bundle, plan.overlays_of(run), given)
    return plan


def configuration_checksum(bundle: str, overlays: Sequence[str], overrides: Mapping[str, Any]) -> str:
    """Return the checksum of a run's merged configuration: of its values, not of how they are written.

    Raises
    ------
    InputError
        For an overlay that is not there, or a key that the configuration does not have.
    """
    merged = _merged_configuration(bundle, overlays, overrides)
    return hashlib.sha256(json.dumps(merged, sort_keys=True, default=str).encode()).hexdigest()


def require_ready(plan: StudyPlan) -> None:
    """Refuse, before hours of training, a variant that cannot be trained; say which of the study can.

    Raises
    ------
    InputError
        When one cannot.
    """

    def problem(variant: str) -> InputError | None:
        merged = _merged_configuration(plan.study.bundle, plan.overlays_of(variant), plan.overrides)
        try:
            resolve_name(plan.study.ready)(merged, plan.overrides)
        except InputError as error:
            return error
        return None

    for variant in plan.variants:
        if error := problem(variant):
            others = ", ".join(name for name in methods_of(plan.study.runs) if problem(name) is None)
            raise InputError(f"variant {variant}: {error}; or study the variants {others}") from error


def _merged_configuration(
    bundle: str, overlays: Sequence[str], overrides: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the configuration of a run without its overrides, whose keys it must know."""
    from medrestore.engines.bundle import bundle_configuration

    merged = bundle_configuration(bundle, "train", overlays)
    known = {key.split("::")[0]: None for key in overrides}
    require_known_keys(f"{bundle}, train.yaml", known, by_short_names(merged))
    return merged


def make_jobs(plan: StudyPlan, folder: Path, *, experiment: str, parent_run: str) -> list[Job]:
    """Return all trainings and evaluations; an evaluation follows the trainings that it needs."""
    work = []
    for level, seed in plan.cells():
        cell = _cell_name(level, seed)
        for run in plan.configurations:
            name, told = f"{run}_{cell}", plan.study.run(run)
            trained, restored = folder / "runs" / name / "model.pt", folder / "restored" / name
            needs = {key: f"{need}_{cell}" for key, need in told.needs.items()}
            overrides = {
                **plan.overrides,
                "dataset_dir": str(plan.manifest.parent),
                "manifest": str(plan.manifest),
                "seed": seed,
                "corruption_fraction": level,
                "experiment": experiment,
                "run_name": name,
                "parent_run": parent_run,
                **{key: str(folder / "runs" / need / "model.pt") for key, need in needs.items()},
            }
            target = {"manifest": str(plan.manifest), "split": SPLIT, "output": str(restored)}
            task = {
                "do": "train",
                "bundle": plan.study.bundle,
                "folder": str(folder),
                "run": name,
                "overlays": plan.overlays_of(run),
                "configuration": plan.configurations[run],
                "overrides": overrides,
                "restore": target if told.compared else None,
            }
            products = (trained, restored) if told.compared else (trained,)
            work.append(Job(name, run, task, products, tuple(needs.values())))
        work.append(_evaluation_job(plan, folder, cell))
    return work


def _evaluation_job(plan: StudyPlan, folder: Path, cell: str) -> Job:
    place = folder / "evaluations" / cell
    needed = tuple(f"{variant}_{cell}" for variant in plan.variants)
    methods = {
        variant: str(folder / "restored" / name) for variant, name in zip(plan.variants, needed, strict=True)
    }
    task = {
        "do": "evaluate",
        "evaluate": plan.study.evaluate,
        "manifest": str(plan.manifest),
        "methods": methods,
        "weights": str(folder / "runs" / needed[0] / "model.pt"),
        "output": str(place),
        "split": SPLIT,
        "pairs": list(zip(plan.variants[1:], plan.variants[:-1], strict=True)),
        "workers": cores_per_job(plan.jobs),
    }
    return Job(f"evaluation_{cell}", "evaluation", task, (place / "evaluation.json",), needed)


def _cell_name(level: float, seed: int) -> str:
    return f"level-{100 * level:g}_seed-{seed}"


def evaluation_folder(folder: Path, level: float, seed: int) -> Path:
    """Return the folder of the evaluation of one level and seed."""
    return folder / "evaluations" / _cell_name(level, seed)
