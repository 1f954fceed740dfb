"""The device that networks run on."""

from __future__ import annotations

import torch

from medrestore.checks import InputError, one_line

__all__ = ["require_device"]


def require_device(device: str | torch.device | None) -> torch.device:
    """Return a device that is there.

    Parameters
    ----------
    device
        ``cpu`` | ``cuda`` | ``cuda:1`` | ...; CUDA where there is one, else the CPU, when not given.

    Raises
    ------
    InputError
        For a device that this machine, or this PyTorch, does not have.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        if found.type != "cuda":
            torch.empty(0, device=found).cpu()  # of one that holds no values, `meta`, nothing comes back
            return found
    except (RuntimeError, TypeError, NotImplementedError, AssertionError) as error:
        raise InputError(
            f"device {str(device)!r} cannot be used ({one_line(error)[:120]}). "
            "Remedy: use cpu, cuda or cuda:NUMBER"
        ) from error
    if not torch.cuda.is_available():
        why = "PyTorch finds no CUDA device" if torch.version.cuda else "this PyTorch was built without CUDA"
        raise InputError(
            f"device {str(device)!r} cannot be used: {why}. "
            "Remedy: use cpu, or see what nvidia-smi and torch.cuda.is_available() say"
        )
    count = torch.cuda.device_count()
    if found.index is not None and found.index >= count:
        raise InputError(f"device {str(device)!r} is not there: the last one is cuda:{count - 1}")
    return found
