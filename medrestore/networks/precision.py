"""Numeric precision of training and restoration, chosen once for a device."""

from __future__ import annotations

import logging
import os
import time

import torch
from torch import nn

from medrestore.checks import InputError, require_in_set

__all__ = [
    "NARROWEST_STRIDED_CONVOLUTION",
    "PRECISIONS",
    "autocast_dtype",
    "bf16_is_native",
    "bf16_slowdown",
    "require_sound_gradients",
]

PRECISIONS = ("auto", "fp32", "bf16", "fp16")

NARROWEST_STRIDED_CONVOLUTION = 8
"""Input channels from which on the gradient of a strided 1 x 1 convolution is right on every processor."""

_ISA_VARIABLES = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
_ISA_WITH_BF16 = ("BF16", "FP16", "AMX", "AVX10", "ALL", "DEFAULT")


def bf16_is_native(device: torch.device) -> bool:
    """Say whether the device multiplies bfloat16 in hardware (else it is emulated, and slower than fp32)."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        if not _isa_allows_bf16():
            return False
        supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
        amx = getattr(torch.cpu, "_is_amx_tile_supported", None)
        return bool((supported and supported()) or (amx and amx()))
    return False


def _isa_allows_bf16() -> bool:
    """Say whether oneDNN, which convolves on a CPU, is left the instructions that multiply bfloat16."""
    limits = [os.environ[name].upper() for name in _ISA_VARIABLES if os.environ.get(name)]
    return all(any(part in limit for part in _ISA_WITH_BF16) for limit in limits)


def bf16_slowdown(device: torch.device) -> float:
    """Measure how many times longer a convolution takes in bfloat16 than in float32: some 0.1 s."""
    image = torch.zeros(4, 32, 64, 64, device=device)
    weight = torch.zeros(32, 32, 3, 3, device=device)
    seconds = []
    for dtype in (torch.float32, torch.bfloat16):
        values = image.to(dtype), weight.to(dtype)
        nn.functional.conv2d(*values)  # the first call prepares
        started = time.perf_counter()
        for _ in range(3):
            nn.functional.conv2d(*values)
        seconds.append(time.perf_counter() - started)
    return seconds[1] / seconds[0]


def require_sound_gradients(name: str, network: nn.Module) -> None:
    """Require that a network can learn on a CPU with its images in the order ``channels_last``.

    oneDNN's gradient of a 1 x 1 convolution with a stride writes past its workspace in this order where the
    convolution has fewer than 8 input channels and the processor has no AVX-512: the process crashes, or
    the gradient is wrong without a word.

    Parameters
    ----------
    name
        Of the network, for the message.
    network
        Any network.

    Raises
    ------
    InputError
        When a layer is of this kind, whatever this processor has: what is trained here is trained elsewhere.
    """
    for place, layer in network.named_modules():
        if (
            isinstance(layer, nn.Conv2d)
            and set(layer.kernel_size) == {1}
            and max(layer.stride) > 1
            and layer.in_channels < NARROWEST_STRIDED_CONVOLUTION
        ):
            raise InputError(
                f"network {name!r}: {place or 'it'} is a 1 x 1 convolution of stride {max(layer.stride)} "
                f"with {layer.in_channels} input channels; fewer than {NARROWEST_STRIDED_CONVOLUTION} crash "
                "or learn wrongly on processors without AVX-512. Remedy: make the network wider, or set "
                "channels_last to false"
            )


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """Return the type that autocast uses, or None for plain fp32.

    ``auto``: bf16 where the device has it in hardware, else fp32. Asked for where it is emulated, bf16 is
    warned of, with how much slower it is.

    Raises
    ------
    InputError
        For an unknown precision, or fp16 without a CUDA device (its gradient scaling needs one).
    """
    require_in_set("precision", precision, PRECISIONS)
    if precision == "fp16" and device.type != "cuda":
        raise InputError(
            f"precision fp16 needs a CUDA device, got {device}. Remedy: use 'auto', 'bf16' or 'fp32'"
        )
    native = precision in ("auto", "bf16") and bf16_is_native(device)
    if precision == "bf16" and not native:
        logging.getLogger("medrestore.networks").warning(
            f"precision bf16: this processor emulates it, a convolution takes {bf16_slowdown(device):.1f} "
            "times as long as in fp32. Use --precision auto"
        )
    if precision == "bf16" or native:
        return torch.bfloat16
    return torch.float16 if precision == "fp16" else None
