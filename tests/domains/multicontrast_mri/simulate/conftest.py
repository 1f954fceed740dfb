"""One patient and one control on a coarse grid, for all tests of simulated MRI."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from medrestore import rng
from medrestore.data.phantoms.anatomy import CohortGrid, load_template, vary
from medrestore.data.phantoms.head import Head, draw_head, ventricle_distance_mm
from medrestore.data.phantoms.tissues import draw_relaxation
from medrestore.domains.multicontrast_mri.simulate.body import Body, fine_grid, make_body
from medrestore.domains.multicontrast_mri.simulate.cohort import simulate_mdme_cohort
from medrestore.domains.multicontrast_mri.simulate.design import MriCohortSize, MriSubjectGroup
from medrestore.domains.multicontrast_mri.simulate.lesions import (
    LesionMap,
    draw_lesions,
    lesion_map,
    with_lesions,
)

GRID = CohortGrid(shape=(64, 75, 12), voxel_size_mm=(3.0, 3.0, 10.0), origin_mm=(-94.5, -127.0, -43.0))
PARTS = 4
TINY = MriCohortSize(
    "tiny",
    (
        MriSubjectGroup("train", patients=1, controls=1),
        MriSubjectGroup("validation", patients=1, controls=0),
        MriSubjectGroup("test", patients=1, controls=1),
    ),
    CohortGrid(shape=(48, 56, 8), voxel_size_mm=(4.0, 4.0, 12.0), origin_mm=(-94.0, -127.0, -30.0)),
)


@dataclass(frozen=True)
class Subject:
    """A subject before it is scanned: ``whole`` is the head without its lesions."""

    grid: CohortGrid
    fine: CohortGrid
    parts: int
    whole: Head
    head: Head
    lesions: LesionMap
    body: Body


@pytest.fixture(scope="session")
def ventricle_mm() -> NDArray[np.float32]:
    return ventricle_distance_mm(load_template())


@pytest.fixture(scope="session")
def make_subject(ventricle_mm: NDArray[np.float32]) -> Callable[..., Subject]:
    def make(seed: int, *, plaques: int = 0, oedemas: int = 0) -> Subject:
        template, fine = load_template(), fine_grid(GRID, PARTS)
        anatomy = vary(template, fine, random=rng.generator(seed, "anatomy"))
        whole = draw_head(anatomy, template, fine, random=rng.generator(seed, "head"))
        drawn = draw_lesions(
            whole,
            template,
            fine,
            ventricle_mm=ventricle_mm,
            plaques=plaques,
            oedemas=oedemas,
            random=rng.generator(seed, "lesions"),
        )
        lesions = lesion_map(whole, fine, drawn)
        head = with_lesions(whole, lesions)
        random = rng.generator(seed, "tissue")
        body = make_body(head, lesions, fine, relaxation=draw_relaxation(random), random=random)
        return Subject(GRID, fine, PARTS, whole, head, lesions, body)

    return make


@pytest.fixture(scope="session")
def patient(make_subject: Callable[..., Subject]) -> Subject:
    return make_subject(0, plaques=25, oedemas=2)


@pytest.fixture(scope="session")
def control(make_subject: Callable[..., Subject]) -> Subject:
    return make_subject(1)


@pytest.fixture(scope="session")
def tiny_size() -> MriCohortSize:
    return TINY


@pytest.fixture(scope="session")
def tiny_mri_cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a cohort of five subjects; tests must not change it."""
    folder = tmp_path_factory.mktemp("mri") / "tiny"
    return simulate_mdme_cohort(folder, size=TINY, workers=1, progress=False).parent
