"""What every linear degradation operator offers: forward map, adjoint, and their shapes."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

__all__ = ["LinearOperator"]


@runtime_checkable
class LinearOperator(Protocol):
    """A linear map A between arrays of two fixed shapes, with its adjoint A^T: <A x, y> = <x, A^T y>."""

    @property
    def domain_shape(self) -> tuple[int, ...]:
        """Shape of the arrays that ``forward`` takes and ``adjoint`` returns."""
        ...

    @property
    def range_shape(self) -> tuple[int, ...]:
        """Shape of the arrays that ``forward`` returns and ``adjoint`` takes."""
        ...

    def forward(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return A x."""
        ...

    def adjoint(self, data: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return A^T y."""
        ...
