"""Faces: what the template calls one, found in a head that was moved by a known affine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from medrestore import rng
from medrestore.checks import InputError
from medrestore.data.phantoms.template import load_template
from medrestore.data.volumes import read_volume
from medrestore.study.images.deface import LEAST_FIT, LEAST_MARGIN, Face, face_mask, is_face

SHAPE = (72, 88, 84)
VOXEL_MM = np.array([3.0, 3.0, 3.0])
ORIGIN_MM = np.array([-108.0, -140.0, -130.0])
NOSE, EYES, CHIN = (0.0, 100.0, -45.0), ((-32.0, 62.0, -40.0), (32.0, 62.0, -40.0)), (0.0, 75.0, -110.0)


def moved(
    angles_degrees: tuple[float, ...], scale: tuple[float, ...], shift_mm: tuple[float, ...]
) -> np.ndarray:
    """Return (4, 4), template mm to scanner mm."""
    rotation = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(angles_degrees)):
        a, b = [other for other in range(3) if other != axis]
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        rotation = rotation @ turn
    matrix = np.eye(4)
    matrix[:3, :3] = rotation @ np.diag(scale)
    matrix[:3, 3] = shift_mm
    return matrix


def places_mm(affine: np.ndarray) -> np.ndarray:
    """Return (3, X, Y, Z): where the voxels are."""
    index = np.indices(SHAPE).reshape(3, -1)
    return (affine[:3, :3] @ index + affine[:3, 3:4]).reshape(3, *SHAPE)


def simulated_head(to_scanner: np.ndarray) -> dict[str, Any]:
    """Draw a head with a face and a neck, T1-like, in its own scanner coordinates.

    The grid moves with the head, so that all of it stays inside; the registration knows nothing of that.
    """
    from nilearn import datasets

    template, nifti = load_template(), datasets.load_mni152_template(resolution=2)
    affine = to_scanner @ np.block(
        [[np.diag(VOXEL_MM), ORIGIN_MM[:, None]], [np.zeros((1, 3)), np.ones((1, 1))]]
    )
    places = places_mm(np.linalg.inv(to_scanner) @ affine)
    index = (places - template.affine[:3, 3][:, None, None, None]) / 2

    def sample(values: np.ndarray, outside: float) -> np.ndarray:
        return ndimage.map_coordinates(np.asarray(values, np.float32), index, order=1, cval=outside)

    distance, outline = sample(template.distance_mm, 999.0), sample(template.outline_mm, 999.0)
    image = sample(np.asarray(nifti.dataobj) / np.asarray(nifti.dataobj).max(), 0.0)
    brain = distance < 0.5
    image[~brain & (outline <= 0)] = 0.1  # skull
    image[~brain & (outline <= 0) & (outline > -6)] = 0.9  # scalp
    neck = (np.hypot(places[0], places[1] + 30) < 55) & (places[2] < -75)
    image[neck] = 0.5
    features = np.zeros(SHAPE, dtype=bool)
    for place, radius in ((NOSE, 15), (CHIN, 25), *((eye, 12) for eye in EYES)):
        features |= np.linalg.norm(places - np.reshape(place, (3, 1, 1, 1)), axis=0) < radius
    image[features] = 0.8
    image += rng.generator(0, "head").normal(0, 0.03, SHAPE)
    return {
        "image": image.astype(np.float32),
        "affine": affine,
        "brain": brain,
        "features": features,
        "truth": is_face(places),
    }


@pytest.fixture(scope="module")
def head() -> dict[str, Any]:
    return simulated_head(moved((8.0, -5.0, 7.0), (0.93, 0.97, 1.02), (12.0, -25.0, 40.0)))


@pytest.fixture(scope="module")
def found(head: dict[str, Any]) -> Face:
    return face_mask(head["image"], head["affine"])


class TestIsFace:
    def test_no_brain_and_6_mm_around_it(self):
        template = load_template()
        near = np.argwhere(template.distance_mm <= 6.0)
        places = template.affine[:3, :3] @ near.T + template.affine[:3, 3:4]
        assert not is_face(places).any()

    def test_features(self):
        assert is_face(np.array([NOSE, *EYES, CHIN, (0, 90, -75)]).T).all()

    def test_the_rest_of_the_head(self):
        vertex, ear, nape, forehead = (0, -20, 90), (80, -20, -40), (0, -110, -60), (0, 85, 40)
        assert not is_face(np.array([vertex, ear, nape, forehead], dtype=float).T).any()


class TestFaceMask:
    def test_quality_is_told(self, found):
        assert LEAST_FIT < found.fit <= 1
        assert found.margin > LEAST_MARGIN

    def test_is_where_the_face_is(self, found, head):
        both = (found.mask & head["truth"]).sum()
        # 0.95: a shift by half a voxel, 1.5 mm, of a region some 60 mm thick.
        assert 2 * both / (found.mask.sum() + head["truth"].sum()) > 0.95

    def test_brain_is_untouched_and_the_face_is_gone(self, found, head):
        assert not (found.mask & head["brain"]).any()
        # The rest lies within a voxel of the eyes' back, where brain is protected.
        assert (found.mask & head["features"]).sum() > 0.97 * head["features"].sum()

    @pytest.mark.slow
    def test_same_mask_every_time(self, found, head):
        again = face_mask(np.asfortranarray(head["image"]), head["affine"])
        assert np.array_equal(again.mask, found.mask)

    @pytest.mark.parametrize("axis", [1, pytest.param(2, marks=pytest.mark.slow)])
    def test_refuses_a_wrong_orientation(self, head, axis):
        # By the fit itself, or since it fits as well upside down.
        with pytest.raises(InputError, match=r"no face could be found"):
            face_mask(np.flip(head["image"], axis), head["affine"])

    def test_refuses_noise(self):
        noise = rng.generator(0, "noise").normal(size=(40, 40, 40)).astype(np.float32)
        with pytest.raises(InputError, match="no face could be found: the head template, scaled by"):
            face_mask(noise, np.diag([5.0, 5.0, 5.0, 1.0]))

    @pytest.mark.slow
    def test_refuses_a_ball(self):
        ball = np.linalg.norm(np.indices((40, 40, 40)) - 20, axis=0) < 15
        image = ball + 0.01 * rng.generator(0, "noise").normal(size=ball.shape)
        with pytest.raises(InputError, match="times as well as upside down"):
            face_mask(image.astype(np.float32), np.diag([5.0, 5.0, 5.0, 1.0]))

    def test_refuses_half_a_brain(self, head):
        with pytest.raises(InputError, match=r"no face could be found.*the whole brain in it"):
            face_mask(head["image"][:, :, 42:], head["affine"])

    def test_refuses_an_empty_image(self):
        with pytest.raises(InputError, match="the image is empty"):
            face_mask(np.zeros((20, 20, 20), np.float32), np.eye(4))


@pytest.mark.slow
class TestRealHeads:
    @pytest.mark.parametrize("contrast", ["T1", "T2", "PD"])
    def test_mni_average(self, shared_data, contrast):
        """The averages are in MNI space: the mask must be close to the template's own."""
        volume = read_volume(shared_data(f"mri/avg152_{contrast}.nii"))
        found = face_mask(volume.data, volume.affine)
        index = np.indices(volume.data.shape).reshape(3, -1)
        truth = is_face(volume.affine[:3, :3] @ index + volume.affine[:3, 3:4]).reshape(volume.data.shape)
        # SPM's space is up to 5 mm off ICBM 2009a's, and affine.
        assert 2 * (found.mask & truth).sum() / (found.mask.sum() + truth.sum()) > 0.85

    def test_amyloid_pet(self, shared_data):
        volume = read_volume(shared_data("pet/florbetapir_a.nii.gz"))
        found = face_mask(volume.data, volume.affine)
        assert found.mask[64, 115, 15]  # the nose
        brain = volume.data[30:100, 20:105, 35:80] > 8000
        assert not (found.mask[30:100, 20:105, 35:80] & brain).any()
