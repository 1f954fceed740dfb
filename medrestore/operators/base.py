"""Degradations: known maps from a target to its degraded image, with the adjoint where they are linear."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Degradation", "LinearDegradation"]


class Degradation(ABC):
    """A known map from a target x to its degraded image."""

    @property
    @abstractmethod
    def key(self) -> Mapping[str, Any]:
        """What the map depends on, as plain values: names caches, and is told in records and ``model.pt``."""

    @abstractmethod
    def __call__(self, target: Tensor) -> Tensor:
        """Return the degraded image of a tensor, differentiable, on its device."""


class LinearDegradation(Degradation):
    """A linear map A with its adjoint A^T, <A x, y> = <x, A^T y>: of arrays, and of tensors by both.

    Notes
    -----
    A says what it does to arrays. To a tensor it does the same on the CPU; the gradient of <A x, y> is A^T y.
    """

    @abstractmethod
    def forward(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return A x."""

    @abstractmethod
    def adjoint(self, data: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return A^T y."""

    def __call__(self, target: Tensor) -> Tensor:
        """Return A x of a tensor, on its device and of its type."""
        import torch

        class Map(torch.autograd.Function):
            @staticmethod
            def forward(_: object, image: Tensor) -> Tensor:
                return torch.from_numpy(self.forward(image.float().numpy(force=True))).to(image)

            @staticmethod
            def backward(_: object, gradient: Tensor) -> Tensor:
                return torch.from_numpy(self.adjoint(gradient.float().numpy(force=True))).to(gradient)

        degraded: Tensor = Map.apply(target)
        return degraded
