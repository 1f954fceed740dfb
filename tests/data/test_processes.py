"""Shares of processes; two that train together are in tests/bundles and tests/engines."""

import pytest
import torch

from medrestore.checks import InputError
from medrestore.data.processes import join_processes, leave_processes, own_share


def test_one_process_has_all_and_joins_nobody():
    join_processes("cpu")
    assert list(range(6))[own_share(None, None)] == [0, 1, 2, 3, 4, 5]
    assert not torch.distributed.is_initialized()
    leave_processes()


def test_shares_hold_everything_once():
    parts = [list(range(6))[own_share(rank, 2)] for rank in range(2)]
    assert parts == [[0, 2, 4], [1, 3, 5]]


def test_rank_beyond_the_processes_is_refused():
    with pytest.raises(InputError, match=r"rank must be in \[0, 0\], got 1"):
        own_share(1, None)


def test_one_gpu_for_all_processes_is_refused(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_torchelastic_launched", lambda: True)
    with pytest.raises(InputError, match="device is cuda:1 in every process"):
        join_processes("cuda:1")
