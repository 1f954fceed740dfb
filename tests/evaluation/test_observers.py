from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medrestore.checks import InputError
from medrestore.evaluation.observers import Observer, load_observer
from medrestore.files import sha256_file
from medrestore.networks.tasks.amyloid import AmyloidClassifier
from medrestore.networks.weights import describe, save_file


class MeanLogit(nn.Module):
    """The mean over the whole image is the logit: shows in which size slices arrive."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(1, 2, 3))

    def probability(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self(x))


def test_probabilities_are_those_of_each_slice_by_itself():
    network = AmyloidClassifier(widen_factor=1 / 8, seed=3).eval()
    slices = np.random.default_rng(0).random((5, 24, 20)).astype(np.float32)
    with torch.no_grad():
        one_by_one = [torch.sigmoid(network(torch.from_numpy(image)[None, None])).item() for image in slices]
    found = Observer("task", network, batch_size=2).probabilities(slices)
    # Convolutions of another batch size add up in another order: float32 rounding, 1e-7 a term.
    np.testing.assert_allclose(found, one_by_one, atol=1e-6)


@pytest.mark.parametrize(
    ("size", "mean"),
    [(None, 2.0), ((8, 8), 2.0 * 16 / 64), ((2, 4), 2.0)],
)
def test_slices_are_centered_in_the_size_of_training(size, mean):
    # Four by four pixels of 2: padded with zeros to 8 x 8 they have a quarter of the mean, cropped the same.
    found = Observer("observer", MeanLogit(), spatial_size=size).probabilities(np.full((1, 4, 4), 2.0))
    assert found.tolist() == pytest.approx([1 / (1 + np.exp(-mean))], abs=1e-7)  # float32


def test_centering_is_that_of_the_slice_stack():
    seen: list[Tensor] = []

    class Record(MeanLogit):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return super().forward(x)

    Observer("observer", Record(), spatial_size=(4, 3)).probabilities(np.arange(6.0).reshape(1, 2, 3) + 1)
    assert seen[0][0, 0].tolist() == [[0, 0, 0], [1, 2, 3], [4, 5, 6], [0, 0, 0]]


@pytest.mark.parametrize("shape", [(4, 4), (0, 4, 4)])
def test_what_is_no_stack_is_refused(shape):
    with pytest.raises(InputError, match="slices must be of shape"):
        Observer("task", MeanLogit()).probabilities(np.zeros(shape))


def test_probabilities_that_are_not_finite_are_refused():
    with pytest.raises(InputError, match="observer gave an output that is not finite"):
        Observer("observer", MeanLogit()).probabilities(np.full((1, 2, 2), np.nan))


@pytest.mark.parametrize("logit", [np.inf, -np.inf])
def test_infinite_logits_are_refused_though_their_probability_is_finite(logit):
    with pytest.raises(InputError, match="observer gave an output that is not finite"):
        Observer("observer", MeanLogit()).probabilities(np.full((1, 2, 2), logit))


@pytest.mark.parametrize("names", [("task",), ("task", "observer")])
def test_load_observer_rebuilds_the_classifier(tmp_path, names):
    networks: dict[str, Any] = {
        name: describe(AmyloidClassifier(widen_factor=1 / 8, seed=seed)) for seed, name in enumerate(names)
    }
    path = tmp_path / "model.pt"
    save_file({"networks": networks, "spatial_size": [24, 32]}, path)
    found = load_observer(path, name="observer")
    assert found.name == "observer"
    assert found.spatial_size == (24, 32)
    assert found.weights_sha256 == sha256_file(path)
    assert not found.network.training
    expected = networks[names[-1]]["state"]
    state = found.network.state_dict()
    assert all(torch.equal(state[key], expected[key]) for key in expected)


def test_a_file_without_a_classifier_is_refused(tmp_path):
    path = tmp_path / "model.pt"
    save_file({"networks": {"generator": {}}}, path)
    with pytest.raises(InputError, match=r"model\.pt: holds no classifier \(observer or task\)"):
        load_observer(path, name="task")
    with pytest.raises(InputError, match="there are no weights here"):
        load_observer(tmp_path / "nothing.pt", name="task")
