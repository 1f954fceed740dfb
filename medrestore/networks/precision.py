"""Numeric precision of training and restoration, chosen once for a device."""

from __future__ import annotations

import torch

from medrestore.checks import InputError, require_in_set

__all__ = ["PRECISIONS", "autocast_dtype", "bf16_is_native"]

PRECISIONS = ("auto", "fp32", "bf16", "fp16")


def bf16_is_native(device: torch.device) -> bool:
    """Say whether the device multiplies bfloat16 in hardware (else it is emulated, and slower than fp32)."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
        amx = getattr(torch.cpu, "_is_amx_tile_supported", None)
        return bool((supported and supported()) or (amx and amx()))
    return False


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """Return the type that autocast uses, or None for plain fp32.

    ``auto``: bf16 where the device has it in hardware, else fp32.

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
    if precision == "bf16" or (precision == "auto" and bf16_is_native(device)):
        return torch.bfloat16
    return torch.float16 if precision == "fp16" else None
