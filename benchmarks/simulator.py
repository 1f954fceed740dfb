"""Speed of the simulators: subjects a minute, against the bare operations that they cannot do without.

The floor of a PET subject: for every reconstruction one projection and one back-projection for each subset of
each iteration, and the sensitivities once. The floor of an MRI subject: to turn the head for each of the six
contrasts and to compress the files. All on one core and in one run, in turns.

Run: ``python benchmarks/simulator.py``.
"""

from __future__ import annotations

import argparse
import gzip
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import ndimage
from threadpoolctl import threadpool_limits
from timing import interleaved, machine

from medrestore import rng
from medrestore.data.phantoms.anatomy import CohortGrid, load_template, vary
from medrestore.data.phantoms.folder import SubjectFolder
from medrestore.data.phantoms.head import ventricle_distance_mm
from medrestore.domains.amyloid_pet.simulate.amyloid import draw_uptake, true_activity
from medrestore.domains.amyloid_pet.simulate.design import DOSE_SERIES
from medrestore.domains.amyloid_pet.simulate.mr import MrSettings
from medrestore.domains.amyloid_pet.simulate.subject import (
    COUNTS_PER_SUV_MM,
    AmyloidPlan,
    mu_map,
    simulate_subject,
)
from medrestore.domains.multicontrast_mri.simulate.body import fine_grid
from medrestore.domains.multicontrast_mri.simulate.design import SIZES, MriSubjectPlan
from medrestore.domains.multicontrast_mri.simulate.session import MriSettings
from medrestore.domains.multicontrast_mri.simulate.subject import simulate_mdme_subject
from medrestore.operators.mr_sequences import CONTRASTS
from medrestore.operators.pet_scan import ScanSettings, simulate_scans
from medrestore.operators.projector import system_matrix

KINDS = {"train: 1 dose": (0.01,), "test: 6 doses": (0.01, *DOSE_SERIES)}


def bare_products(settings: ScanSettings, grid: CohortGrid) -> dict[str, Callable[[], object]]:
    """Return the sparse products of one reconstruction, and those of one patient's sensitivities."""
    pixels, slices = grid.shape[0], grid.shape[2]
    by_angle = np.arange(settings.angles * pixels).reshape(settings.angles, pixels)
    matrix = system_matrix(pixels, settings.angles)
    parts = [matrix[by_angle[index :: settings.subsets].ravel()] for index in range(settings.subsets)]
    image = np.random.default_rng(0).random((pixels * pixels, slices), dtype=np.float32)
    rays = [part @ image for part in parts]

    def reconstruction() -> None:
        for _ in range(settings.iterations):
            for part, ray in zip(parts, rays, strict=True):
                part @ image
                part.T @ ray

    def sensitivities() -> None:
        for part, ray in zip(parts, rays, strict=True):
            part.T @ ray

    return {"reconstruction": reconstruction, "sensitivities": sensitivities}


def subjects(settings: ScanSettings, grid: CohortGrid, folder: Path) -> dict[str, Callable[[], object]]:
    """Return the scans alone, and the whole subject with anatomy, activity and files, for each kind."""
    template, random = load_template(), rng.generator(0, "benchmark")
    ventricle_mm = ventricle_distance_mm(template)
    anatomy = vary(template, grid, random=random)
    uptake = draw_uptake(1, border=False, random=random)
    activity = true_activity(anatomy, template, grid, uptake, random=random)
    mu = mu_map(anatomy)

    def scans(fractions: tuple[float, ...]) -> object:
        return simulate_scans(
            activity,
            mu,
            voxel_size_mm=grid.voxel_size_mm,
            dose_fractions=fractions,
            settings=settings,
            seed=0,
            counts_per_line_integral=COUNTS_PER_SUV_MM,
        )

    def whole(number: int, fractions: tuple[float, ...]) -> None:
        plan = AmyloidPlan(number, "benchmark", "test", 1, False, fractions)
        place = folder / plan.subject_id
        files = SubjectFolder(place, plan.subject_id, grid)
        simulate_subject(plan, files, template, ventricle_mm, grid, settings, MrSettings(), seed=0)

    jobs: dict[str, Callable[[], object]] = {}
    for number, (kind, fractions) in enumerate(KINDS.items(), start=1):
        jobs[f"scans, {kind}"] = lambda fractions=fractions: scans(fractions)
        jobs[f"whole, {kind}"] = lambda number=number, fractions=fractions: whole(number, fractions)
    return jobs


def mri_subject(settings: MriSettings, folder: Path) -> dict[str, Callable[[], object]]:
    """Return what an MRI subject of the demo cannot do without, and the whole subject."""
    grid, template = SIZES["demo"].grid, load_template()
    fine, ventricle_mm = fine_grid(grid, settings.slice_parts), ventricle_distance_mm(template)
    random = np.random.default_rng(0)
    image = random.random(fine.shape, dtype=np.float32)
    turn = np.eye(3) + 0.01 * random.standard_normal((3, 3))
    numbers = int(np.prod(grid.shape)) * (2 * len(settings.protocol.channels) + len(CONTRASTS))
    content = random.standard_normal(numbers, dtype=np.float32).tobytes()
    plan = MriSubjectPlan(1, "patient", "test", plaques=18, oedemas=1)

    def bare() -> None:
        for _ in CONTRASTS:
            ndimage.affine_transform(image, turn, order=2, mode="nearest")
        gzip.compress(content, compresslevel=1)

    def whole() -> None:
        place = folder / "mri" / plan.subject_id
        files = SubjectFolder(place, plan.subject_id, grid)
        simulate_mdme_subject(plan, files, template, ventricle_mm, grid, settings, seed=0)

    return {"MRI, bare": bare, "MRI, whole": whole}


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=5, help="turns of every measurement")
    arguments = parser.parse_args()
    grid, settings = CohortGrid(), ScanSettings()
    with threadpool_limits(limits=1), tempfile.TemporaryDirectory() as folder:
        jobs = {
            **bare_products(settings, grid),
            **subjects(settings, grid, Path(folder)),
            **mri_subject(MriSettings(), Path(folder)),
        }
        seconds = interleaved(jobs, repetitions=arguments.repetitions)
    print(f"{machine(1)}; {grid.shape} voxels, {settings.iterations} x {settings.subsets} updates")
    print("| subject | seconds | subjects a minute | floor, s | scans / floor | whole / floor |")
    print("|---|---|---|---|---|---|")
    for kind, fractions in KINDS.items():
        floor = (1 + len(fractions)) * seconds["reconstruction"] + seconds["sensitivities"]
        scans, whole = seconds[f"scans, {kind}"], seconds[f"whole, {kind}"]
        row = (
            f"{whole:.2f}",
            f"{60 / whole:.0f}",
            f"{floor:.2f}",
            f"{scans / floor:.2f}",
            f"{whole / floor:.2f}",
        )
        print(f"| {kind} | {' | '.join(row)} |")
    whole, floor = seconds["MRI, whole"], seconds["MRI, bare"]
    print(f"| MRI, demo | {whole:.2f} | {60 / whole:.0f} | {floor:.2f} | - | {whole / floor:.2f} |")


if __name__ == "__main__":
    main()
