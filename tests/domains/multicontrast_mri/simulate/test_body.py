"""Bodies and truth: thin slices fill the thick ones, and maps hold the means of what is in a voxel."""

from __future__ import annotations

import numpy as np
import pytest

from medrestore.data.phantoms.anatomy import CohortGrid
from medrestore.data.phantoms.head import Head
from medrestore.data.phantoms.tissues import TISSUES
from medrestore.domains.multicontrast_mri.simulate.body import Body, Compartment, fine_grid, thick, truth_maps
from medrestore.domains.multicontrast_mri.simulate.lesions import LESION_KINDS, LesionMap


def test_thin_slices_fill_the_thick_ones():
    grid = CohortGrid(shape=(4, 5, 6), voxel_size_mm=(2.0, 2.0, 5.0), origin_mm=(0.0, 0.0, 10.0))
    fine = fine_grid(grid, 4)
    assert fine.shape == (4, 5, 24)
    assert fine.voxel_size_mm == (2.0, 2.0, 1.25)
    x, _, z = fine.axes_mm()
    np.testing.assert_allclose(x, grid.axes_mm()[0])
    np.testing.assert_allclose(z.reshape(6, 4).mean(axis=1), grid.axes_mm()[2])
    # The lower face of the lowest slice.
    assert z[0] - 1.25 / 2 == pytest.approx(10 - 2.5)


def test_thick_is_the_mean_over_a_slice():
    values = np.arange(24, dtype=np.float32).reshape(2, 2, 6)
    expected = np.array([[[1, 4], [7, 10]], [[13, 16], [19, 22]]])
    np.testing.assert_array_equal(thick(values, 3), expected)


def test_truth_of_two_voxels_by_hand():
    # One thick slice of two thin: a column of white matter under a lesion, and one of fat under air.
    grid = CohortGrid(shape=(2, 1, 2), voxel_size_mm=(1.0, 1.0, 1.0), origin_mm=(0.0, 0.0, 0.0))
    fractions = np.zeros((len(TISSUES), 2, 1, 2), dtype=np.float32)
    white, fat = list(TISSUES).index("white_matter"), list(TISSUES).index("fat")
    fractions[white, 0, 0, :] = (1.0, 0.2)
    fractions[fat, 1, 0, 0] = 0.6
    lesion = np.zeros((2, 1, 2), dtype=np.float32)
    lesion[0, 0, 1] = 0.8
    code = np.where(lesion > 0, LESION_KINDS["plaque"].code, 0).astype(np.uint8)

    def compartment(name: str, part: np.ndarray, t1: float, t2: float, pd: float) -> Compartment:
        cells = np.flatnonzero(part)
        filled = [np.full(cells.size, value, dtype=np.float32) for value in (t1, t2, pd)]
        return Compartment(name, cells, 0.0, part.ravel()[cells], *filled)

    parts = (
        compartment("white_matter", fractions[white], 900.0, 70.0, 0.7),
        compartment("fat", fractions[fat], 400.0, 60.0, 0.9),
        compartment("lesion", lesion, 1500.0, 140.0, 0.8),
    )
    body = Body(grid, parts, fractions[white] + lesion, np.zeros(0, dtype=np.float32))
    head = Head(fractions, np.zeros((3, 2, 1, 2), dtype=np.float32))
    zeros = np.zeros_like(lesion)
    truth = truth_maps(body, head, LesionMap(lesion, code, zeros, zeros, zeros, ()), parts=2)
    # Column one: 0.6 of white matter, 0.4 of lesion; column two: 0.3 of fat, the rest air.
    np.testing.assert_allclose(truth.t1_ms[:, 0, 0], [0.6 * 900 + 0.4 * 1500, 400], rtol=1e-6)
    np.testing.assert_allclose(truth.t2_ms[:, 0, 0], [0.6 * 70 + 0.4 * 140, 60], rtol=1e-6)
    np.testing.assert_allclose(truth.pd[:, 0, 0], [0.6 * 0.7 + 0.4 * 0.8, 0.3 * 0.9], rtol=1e-6)
    np.testing.assert_allclose(truth.lesions[:, 0, 0], [0.4, 0], rtol=1e-6)
    assert truth.tissue[:, 0, 0].tolist() == [TISSUES["white_matter"].code, 0]


def test_every_tissue_is_in_the_body(patient):
    names = [part.name for part in patient.body.compartments]
    assert names == [*TISSUES, "lesion"]
    assert patient.body.fluid.name == "csf"
    assert patient.body.pulsation.shape == patient.body.fluid.cells.shape
    assert patient.body.pulsation.min() >= 0
    assert patient.body.pulsation.max() <= 1
    lesion = patient.body.compartments[-1]
    lost = {kind.transfer for kind in LESION_KINDS.values()}
    assert {round(float(value), 6) for value in np.unique(lesion.transfer)} == lost
    truth = truth_maps(patient.body, patient.head, patient.lesions, parts=patient.parts)
    assert set(np.unique(truth.tissue)) <= set(range(11))
    assert (truth.tissue >= 8).sum() > 0
    assert truth.lesions[truth.tissue >= 8].min() > 0
    pure = truth.tissue == TISSUES["white_matter"].code
    assert 700 < np.median(truth.t1_ms[pure]) < 1200
