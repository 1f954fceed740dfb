"""Images of low resolution as scanners record them: reduced by a kernel, with noise, compressed by JPEG."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medrestore import rng
from medrestore.checks import InputError, require_in_range, require_in_set, require_known_keys
from medrestore.operators.resampling import (
    KERNELS,
    GaussianSubsampling,
    KernelSubsampling,
    PictureDegradation,
    Subsampling,
)

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "BLIND_SET",
    "REDUCTIONS",
    "DegradationRange",
    "RecordedSubsampling",
    "degradation_called",
    "degraded_batch",
    "jpeg_picture",
]

REDUCTIONS = ("gaussian", *KERNELS)
"""Kinds of reduction that a range draws from."""

BLIND_SET = (
    "gaussian1",
    "gaussian2",
    "gaussian3",
    "box",
    "lanczos",
    "gaussian2-noise5",
    "gaussian2-jpeg70",
    "box-jpeg70",
)
"""Names of degradations that stand for what slides meet: blur from sharp to soft, levels of a pyramid as
software makes them (box, Lanczos), a weak signal, and JPEG of a usual quality."""

_MOST_NOISE = 128.0
_NAME = re.compile(
    r"(?:gaussian(?P<sigma>\d+(?:\.\d+)?)|(?P<kernel>[a-z]+))"
    r"(?:-noise(?P<noise>\d+(?:\.\d+)?))?(?:-jpeg(?P<quality>\d+))?"
)
_DRAWS = 6
"""Numbers that say one degradation of a range."""


def jpeg_picture(picture: NDArray[np.uint8], *, quality: int) -> NDArray[np.uint8]:
    """Return what is left of a picture (H, W, 3) uint8 by JPEG of a quality, 1 to 100.

    Notes
    -----
    By Pillow, in memory, as it writes JPEG: color at half the resolution (4:2:0).
    """
    from PIL import Image

    stream = BytesIO()
    Image.fromarray(picture).save(stream, format="JPEG", quality=quality)
    with Image.open(stream) as kept:
        return np.array(kept.convert("RGB"), dtype=np.uint8)


@dataclass(frozen=True)
class RecordedSubsampling(PictureDegradation):
    """y = J(S x + n): a reduction whose image is recorded with noise, in 8 bits, and by JPEG.

    Parameters
    ----------
    reduction
        S.
    noise_sd : float, gray levels of 255
        Standard deviation of n, normally distributed, independent in every value.
    jpeg_quality : int or None
        Of Pillow's JPEG, 1 to 100; None leaves it out.
    seed
        Of the noise.

    Raises
    ------
    InputError
        When a number is out of range.

    Notes
    -----
    The noise is a function of the seed and the reduced image, so one degradation gives different tiles
    different noise, and the same tile the same. Of a tensor the gradient is that of S: rounding and JPEG have
    none of use (straight-through).
    """

    reduction: Subsampling
    noise_sd: float = 0.0
    jpeg_quality: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        require_in_range("noise_sd", self.noise_sd, 0, _MOST_NOISE)
        if self.jpeg_quality is not None:
            require_in_range("jpeg_quality", self.jpeg_quality, 1, 100)

    @property
    def scale(self) -> int:
        """That of the reduction."""
        return self.reduction.scale

    @property
    def key(self) -> dict[str, Any]:
        """The reduction's, and what is recorded of it."""
        return {
            **self.reduction.key,
            "noise_sd": float(self.noise_sd),
            "jpeg_quality": None if self.jpeg_quality is None else int(self.jpeg_quality),
            "seed": int(self.seed),
        }

    @property
    def name(self) -> str:
        """The reduction's name, noise and quality, of :func:`degradation_called`.

        >>> RecordedSubsampling(GaussianSubsampling(), noise_sd=5, jpeg_quality=70).name
        'gaussian2-noise5-jpeg70'
        """
        noise = f"-noise{float(self.noise_sd):.6g}" if self.noise_sd else ""
        return self.reduction.name + noise + (f"-jpeg{self.jpeg_quality}" if self.jpeg_quality else "")

    def picture(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the low-resolution image of a high-resolution one, in 8 bits."""
        self.reduction.picture(image[: self.scale, : self.scale])  # refuses what is no picture
        return self.recorded(self.reduction.reduced(image))

    def recorded(self, reduced: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return what is recorded of a reduced image (h, w, C) float32 in gray levels of 255."""
        if self.noise_sd:
            random = rng.generator(self.seed, "recording", zlib.crc32(reduced.tobytes()))
            reduced = reduced + np.float32(self.noise_sd) * random.standard_normal(reduced.shape, np.float32)
        picture = np.ascontiguousarray(np.clip(np.rint(reduced), 0, 255).astype(np.uint8))
        return picture if self.jpeg_quality is None else jpeg_picture(picture, quality=self.jpeg_quality)

    def __call__(self, target: Tensor) -> Tensor:
        """Return the degraded image (..., 3, h, w) of a tensor (..., 3, H, W) in [0, 1]."""
        import torch

        reduced = self.reduction(target)
        with torch.no_grad():
            levels = 255 * reduced.detach().float().movedim(-3, -1).numpy(force=True)
            pictures = [self.recorded(part) for part in levels.reshape(-1, *levels.shape[-3:])]
            held = torch.from_numpy(np.stack(pictures).reshape(levels.shape)).movedim(-1, -3)
            change = held.to(reduced).div(255) - reduced
        return reduced + change


def degradation_called(name: str, *, scale: int = 4, seed: int = 0) -> Subsampling | RecordedSubsampling:
    """Return the degradation of a name: a reduction, and what is recorded of it.

    Parameters
    ----------
    name
        ``gaussian`` and its sigma in high-resolution pixels, ``box``, ``bicubic`` or ``lanczos``; then, as
        wanted, ``-noise`` and its standard deviation in gray levels, and ``-jpeg`` and its quality.
    scale
        High-resolution pixels per low-resolution pixel along each axis.
    seed
        Of the noise.

    Raises
    ------
    InputError
        When the name is none, or a number is out of range.

    Examples
    --------
    >>> degradation_called("gaussian1.5")
    GaussianSubsampling(scale=4, sigma=1.5)
    >>> degradation_called("box-jpeg70").jpeg_quality
    70
    """
    parts = _NAME.fullmatch(name)
    if parts is None or not (parts["sigma"] or parts["kernel"] in KERNELS):
        raise InputError(
            f"a degradation must be gaussianSIGMA, {', '.join(KERNELS)}, with -noiseSD and -jpegQUALITY as "
            f"wanted (gaussian2-jpeg70), got {name!r}"
        )
    reduction: Subsampling = (
        GaussianSubsampling(scale, float(parts["sigma"]))
        if parts["sigma"]
        else KernelSubsampling(parts["kernel"], scale)
    )
    if parts["noise"] is None and parts["quality"] is None:
        return reduction
    return RecordedSubsampling(
        reduction,
        noise_sd=float(parts["noise"] or 0),
        jpeg_quality=None if parts["quality"] is None else int(parts["quality"]),
        seed=seed,
    )


@dataclass(frozen=True)
class DegradationRange:
    """Degradations from which each training pair has one drawn: a network then learns to restore them all.

    Parameters
    ----------
    scale
        High-resolution pixels per low-resolution pixel along each axis.
    reductions
        Kinds of :data:`REDUCTIONS`, drawn alike.
    sigma : (low, high), high-resolution pixels
        Of the Gaussian, drawn uniformly.
    noise_fraction, jpeg_fraction
        Parts of the pairs whose low-resolution image has noise, and is recorded by JPEG; independent.
    noise_sd : (low, high), gray levels of 255
        Of the noise, drawn uniformly.
    jpeg_quality : (low, high)
        Drawn uniformly, both ends included.
    seed
        Of what is drawn by name.

    Raises
    ------
    InputError
        When a number is out of range, or a kind unknown, missing or named twice.
    """

    scale: int = 4
    reductions: Sequence[str] = REDUCTIONS
    sigma: Sequence[float] = (1.0, 3.0)
    noise_fraction: float = 0.0
    noise_sd: Sequence[float] = (1.0, 8.0)
    jpeg_fraction: float = 0.0
    jpeg_quality: Sequence[int] = (50, 95)
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("reductions", "sigma", "noise_sd", "jpeg_quality"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for kind in self.reductions:
            require_in_set("reductions", kind, REDUCTIONS)
        if not self.reductions or len(set(self.reductions)) < len(self.reductions):
            raise InputError(f"reductions must be different kinds, got {self.reductions}")
        require_in_range("noise_fraction", self.noise_fraction, 0, 1)
        require_in_range("jpeg_fraction", self.jpeg_fraction, 0, 1)
        for name in ("sigma", "noise_sd", "jpeg_quality"):
            ends = getattr(self, name)
            if len(ends) != 2 or not ends[0] <= ends[1]:
                raise InputError(f"{name} must be two numbers, the lower first, got {ends}")
        for part in (0, 1):  # what is drawn lies between
            GaussianSubsampling(self.scale, self.sigma[part])
            RecordedSubsampling(
                GaussianSubsampling(self.scale),
                noise_sd=self.noise_sd[part],
                jpeg_quality=self.jpeg_quality[part],
            )

    @property
    def key(self) -> dict[str, Any]:
        """All that draws depend on, as plain values: the arguments that make the range again."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()
        }

    @classmethod
    def from_key(cls, key: Mapping[str, Any]) -> DegradationRange:
        """Return the range of a :attr:`key`.

        Raises
        ------
        InputError
            When it is none.
        """
        require_known_keys("degradation", key, tuple(cls.__dataclass_fields__))
        return cls(**key)

    @property
    def members(self) -> tuple[Subsampling, ...]:
        """Reductions that stand for the range: of the Gaussian five, from one end to the other."""
        sigmas = dict.fromkeys(float(sigma) for sigma in np.linspace(self.sigma[0], self.sigma[1], 5))
        gaussians = [GaussianSubsampling(self.scale, sigma) for sigma in sigmas]
        kernels = [KernelSubsampling(kind, self.scale) for kind in self.reductions if kind in KERNELS]
        return (*(gaussians if "gaussian" in self.reductions else []), *kernels)

    def of(self, name: str) -> RecordedSubsampling:
        """Return the degradation of an image by its name: a function of the seed and the name."""
        random = rng.generator(self.seed, "degradation", name)
        return self._of(random.random(_DRAWS), seed=rng.derive(self.seed, "degradation", "noise", name))

    def drawn(
        self, count: int, *, epoch: int, iteration: int, share: slice = slice(None)
    ) -> list[RecordedSubsampling]:
        """Return the degradations of a batch's pairs: a function of the seed, epoch, iteration and place.

        Parameters
        ----------
        count
            Pairs of the batches of all processes together.
        epoch, iteration
            Name the draws.
        share
            Those of this process.
        """
        keys = ("degradation", epoch, iteration)
        numbers = rng.generator(self.seed, *keys).random((count, _DRAWS))
        return [
            self._of(numbers[place], seed=rng.derive(self.seed, *keys, place))
            for place in range(count)[share]
        ]

    def _of(self, numbers: NDArray[np.float64], *, seed: int) -> RecordedSubsampling:
        kind = self.reductions[int(numbers[0] * len(self.reductions))]
        low, high = self.sigma
        reduction: Subsampling = (
            GaussianSubsampling(self.scale, float(low + (high - low) * numbers[1]))
            if kind == "gaussian"
            else KernelSubsampling(kind, self.scale)
        )
        quietest, loudest = self.noise_sd
        worst, best = self.jpeg_quality
        return RecordedSubsampling(
            reduction,
            noise_sd=float(quietest + (loudest - quietest) * numbers[3])
            if numbers[2] < self.noise_fraction
            else 0.0,
            jpeg_quality=int(worst + (best - worst + 1) * numbers[5])
            if numbers[4] < self.jpeg_fraction
            else None,
            seed=seed,
        )


def degraded_batch(targets: Tensor, degradations: Sequence[RecordedSubsampling]) -> Tensor:
    """Return the low-resolution images of a batch of targets, each by its own degradation.

    Parameters
    ----------
    targets : (B, 3, H, W) in [0, 1]
        On any device: images are reduced there, all at once; only what JPEG records passes by the CPU.
    degradations
        One for each, of one scale.

    Returns
    -------
    (B, 3, h, w)
        What :meth:`RecordedSubsampling.picture` gives of each, over 255, but for gray levels on the edge of
        rounding; noise is another draw.

    Raises
    ------
    InputError
        When there is not one for each.
    """
    import torch

    if len(degradations) != len(targets):
        raise InputError(f"{len(targets)} targets need as many degradations, got {len(degradations)}")
    rows, columns = (
        torch.stack([torch.from_numpy(one.reduction.matrix(size).toarray()) for one in degradations])
        for size in targets.shape[-2:]
    )
    rows, columns = rows.to(targets.device)[:, None], columns.to(targets.device)[:, None]
    levels = 255 * (rows @ targets.float() @ columns.transpose(-2, -1))
    for place, one in enumerate(degradations):
        if one.noise_sd:
            random = rng.torch_generator(one.seed, "recording")
            noise = torch.randn(levels.shape[1:], generator=random)
            levels[place] += one.noise_sd * noise.to(levels.device)
    levels = levels.round_().clamp_(0, 255)
    for image, one in zip(levels, degradations, strict=True):
        if one.jpeg_quality is not None:
            picture = image.movedim(0, -1).to(torch.uint8).contiguous().numpy(force=True)
            kept = jpeg_picture(picture, quality=one.jpeg_quality)
            image.copy_(torch.from_numpy(kept).movedim(-1, 0))
    return levels.div_(255).to(targets.dtype)
