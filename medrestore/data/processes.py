"""Several processes that train together, one for each GPU: they join, share batches and leave together."""

from __future__ import annotations

import ignite.distributed as idist
import torch

from medrestore.checks import InputError, require_in_range

__all__ = ["join_processes", "leave_processes", "own_share"]


def join_processes(device: torch.device | str) -> None:
    """Join the processes that ``torchrun`` started, where it did; ``cuda`` is then this process's own GPU.

    Parameters
    ----------
    device
        Where the networks learn: says how processes speak (NCCL on GPUs, Gloo on CPUs).

    Raises
    ------
    InputError
        For one GPU by its number, which would be that of every process.
    """
    if torch.distributed.is_torchelastic_launched() and not torch.distributed.is_initialized():
        on_gpu = torch.device(device).type == "cuda"
        if on_gpu and torch.device(device).index is not None:
            raise InputError(
                f"device is {device} in every process. Remedy: give cuda; each takes a GPU of its own"
            )
        idist.initialize("nccl" if on_gpu else "gloo")
        if on_gpu:
            torch.cuda.set_device(idist.get_local_rank())


def leave_processes() -> None:
    """Leave the processes that were joined, all at once.

    Threads of the process group outlive it; one that lets go of a tensor while its interpreter ends aborts
    the process, and the first to end would end while the others still validate and write.
    """
    if torch.distributed.is_torchelastic_launched() and torch.distributed.is_initialized():
        idist.barrier()
        idist.finalize()


def own_share(rank: int | None, world_size: int | None) -> slice:
    """Return which of the images that all processes draw together are this one's: every ``world_size``-th.

    Parameters
    ----------
    rank, world_size
        Of this process; those that it runs in when not given.

    >>> own_share(1, 4)
    slice(1, None, 4)

    Raises
    ------
    InputError
        When a number is out of range.
    """
    size = idist.get_world_size() if world_size is None else world_size
    require_in_range("world_size", size, 1, 10**6)
    own = idist.get_rank() if rank is None else rank
    require_in_range("rank", own, 0, size - 1)
    return slice(own, None, size)
