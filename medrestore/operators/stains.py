"""Stains of histology: optical density, separation of hematoxylin and eosin, and their random change.

Light that passes a stained section is absorbed in proportion to the amount of stain (Beer-Lambert): optical
density, -log10 of the transmitted part, is a sum over stains of their amount times their color. Ruifrok and
Johnston (2001) separate three stains by inverting the matrix of their colors.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medrestore.checks import InputError, require_same_shape

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["STAINS", "optical_density", "stain_colors", "stain_jitter"]

STAINS = ("hematoxylin", "eosin", "residual")
"""Order of the stains. The third is Ruifrok and Johnston's diaminobenzidine; in a section stained with
hematoxylin and eosin it takes up what the two do not explain."""

FLOOR = 1 / 255
"""Least transmitted part: one gray level. Darker pixels count as that, an optical density of 2.4."""


def stain_colors() -> NDArray[np.float64]:
    """Return the optical densities (3 stains, R G B) of one unit of each stain (Ruifrok and Johnston 2001).

    The same numbers as scikit-image's ``rgb_from_hed``.
    """
    return np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])


def optical_density(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return -log10 of the transmitted part of every value of an image, white being 255.

    Parameters
    ----------
    image : (...) uint8
        Values of 0 count as 1.

    Returns
    -------
    (...) float32

    Examples
    --------
    >>> optical_density(np.array([255, 0], np.uint8)).round(3).tolist()[0]
    0.0
    """
    if image.dtype != np.uint8:
        raise InputError(f"the image must be uint8, got {image.dtype}")
    table = -np.log10(np.maximum(np.arange(256) / 255, FLOOR))
    return np.asarray(np.abs(table).astype(np.float32)[image])  # abs: no -0


def stain_jitter(images: Tensor, *, scale: Tensor, shift: Tensor) -> Tensor:
    """Change the amounts of the stains of images: amount = scale amount + shift.

    Parameters
    ----------
    images : (B, 3, H, W) float
        R, G, B in [0, 1].
    scale : (B, 3)
        Factor of each stain, in the order of :data:`STAINS`.
    shift : (B, 3)
        What is added, in units of optical density.

    Returns
    -------
    (B, 3, H, W)
        In [0, 1].

    Raises
    ------
    InputError
        When shapes do not fit.

    Notes
    -----
    Tellez et al. (2018), "Whole-slide mitosis detection in H&E breast histology using PHH3 as a reference to
    train distilled stain-invariant convolutional networks", Section III-E. Separation, change and combination
    are one affine map of the optical densities, with a matrix per image. No gradient is meant to pass.
    """
    import torch

    if images.ndim != 4 or images.shape[1] != 3:
        raise InputError(f"images must be (B, 3, H, W), got {tuple(images.shape)}")
    require_same_shape(scale=scale.shape, shift=shift.shape, images=images.shape[:2])
    # Row vectors: density' = density (colors^-1 diag(scale) colors) + shift colors; float64, once per image.
    colors = torch.from_numpy(stain_colors()).to(scale.device)
    matrix = (torch.linalg.inv(colors) * scale.double()[:, None, :]) @ colors
    offset = -math.log(10) * shift.double() @ colors
    # Natural logarithms of the transmitted part: minus density times ln 10, and faster than log10 and 10^x.
    transmitted = images.clamp_min(FLOOR).log_().flatten(2)
    changed = torch.baddbmm(offset[:, :, None].to(images), matrix.transpose(1, 2).to(images), transmitted)
    return changed.exp_().clamp_(0, 1).view_as(images)
