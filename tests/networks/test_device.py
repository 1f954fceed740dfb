"""A device that is not there is refused in one line."""

from __future__ import annotations

import pytest
import torch

from medrestore.checks import InputError
from medrestore.networks.device import require_device


def test_device_that_is_there_is_kept(monkeypatch):
    assert require_device("cpu") == torch.device("cpu") == require_device(torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert require_device(None) == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert require_device(None) == torch.device("cuda")
    assert require_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(InputError, match=r"device 'cuda:2' is not there: the last one is cuda:1"):
        require_device("cuda:2")


@pytest.mark.parametrize("device", ["cuda", "cuda:0", torch.device("cuda")])
def test_cuda_without_a_device_is_refused(device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"device 'cuda(:0)?' cannot be used: .*CUDA.* Remedy: use cpu"):
        require_device(device)


@pytest.mark.parametrize("device", ["gpu", "", "cuda:x", "0 1", "mtia", "cpu:x"])
def test_device_of_no_name_is_refused(device):
    with pytest.raises(InputError, match=r"device '.*' cannot be used .* Remedy: use cpu, cuda"):
        require_device(device)
