"""Scans of a head that is the average one under a known affine and a smooth bend."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from medrestore.data.atlas import AtlasSettings
from medrestore.data.phantoms.template import REGIONS, load_template
from medrestore.data.registration_images import moved
from medrestore.data.volumes import SourceGrid, Volume

T1 = {"gray": 0.6, "white": 0.9, "fluid": 0.2, "outside": 0.5}
NEGATIVE = {"gray": 1.15, "white": 1.75, "fluid": 0.25, "outside": 0.3}
POSITIVE = {"gray": 1.75, "white": 1.75, "fluid": 0.25, "outside": 0.3}

TRUTH = np.eye(4)
"""Places in the scan (mm) to the template: a smaller head, turned and shifted."""
TRUTH[:3, :3] = Rotation.from_euler("xyz", (6, -3, 4), degrees=True).as_matrix() / 0.93
TRUTH[:3, 3] = (3.0, -8.0, 12.0)

GRID = np.diag([4.0, 4.0, 4.0, 1.0])
GRID[:3, 3] = (-98, -120, -94)
SHAPE = (50, 56, 46)

COARSE = AtlasSettings(step_mm=8.0, spacings_mm=(40.0,), iterations=8)
"""A search that takes a second."""


def true_places(places_mm):
    """Where places (N, 3) of the scan lie in the template: affine, and a smooth bend of up to 6 mm."""
    bend = 6.0 * np.sin(places_mm[:, [1, 2, 0]] / 30.0)
    return moved(places_mm, TRUTH) + bend


def scan(values, *, affine=GRID, shape=SHAPE, noise=0.05):
    """A head of the template's tissues, a function of place, blurred as its voxels are; the true codes."""
    template = load_template()
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1).reshape(-1, 3)
    places = true_places(moved(index, affine))
    at = moved(places, np.linalg.inv(template.affine)).T
    # Half a voxel of the template's own blur: what a coarse voxel averages over.
    gray, white, fluid, outline = (
        ndimage.map_coordinates(ndimage.gaussian_filter(image, 1.0), at, order=1, mode=mode)
        for image, mode in (
            (template.gray, "constant"),
            (template.white, "constant"),
            (template.fluid, "constant"),
            (template.outline_mm, "nearest"),
        )
    )
    outside = np.where(outline <= 0, 1 - gray - white - fluid, 0)
    areas = template.region_of_gray(places.T.astype(np.float32))
    # The reference region carries no load.
    uptake = np.where(areas == REGIONS["cerebellum"], 1.0, values["gray"])
    image = gray * uptake + white * values["white"]
    image += fluid * values["fluid"] + outside * values["outside"]
    image += noise * np.random.default_rng(0).standard_normal(image.shape)
    tissue = np.argmax([gray, white, fluid], axis=0)
    codes = np.where(tissue == 0, areas, np.where(tissue == 1, REGIONS["white_matter"], REGIONS["csf"]))
    codes = np.where(gray + white + fluid > 0.5, codes, 0).reshape(shape)
    grid = SourceGrid.from_affine(shape, affine)
    return Volume(image.reshape(shape).astype(np.float32), np.array(affine), grid), codes
