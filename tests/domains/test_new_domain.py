"""A kind of image that another package brings: CT in HU, with a network of its own; nothing else names it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import nibabel
import numpy as np
import pytest
from command_line import Ended

from medrestore import kinds
from medrestore.checks import InputError
from medrestore.inference.restorer import load_restorer
from medrestore.networks.weights import describe, save_model

DOMAIN = """
from medrestore.domains.base import Domain
from medrestore.evaluation.titles import FIDELITY, Metrics

DOMAIN = Domain("ct", Metrics(FIDELITY))
"""

RESTORATION = """
from medrestore.data.intensity import Intensity
from medrestore.data.pairs import pair_schema
from medrestore.inference import volume_files

HOUNSFIELD = Intensity(nothing=-1000, scale=1000)


class CTFileRestorer(volume_files.VolumeFileRestorer):
    intensity = HOUNSFIELD
    schema = pair_schema(intensity=HOUNSFIELD)
    datatype = "ct"
"""

NETWORK = """
import torch
from torch import nn


class Gain(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.architecture = {"factor": factor}
        self.factor = nn.Parameter(torch.tensor(float(factor)))

    def forward(self, image):
        return image * self.factor
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package of a site, with its entry point."""
    folder = tmp_path / "packages" / "site_ct"
    folder.mkdir(parents=True)
    for name, text in (("__init__", ""), ("domain", DOMAIN), ("restoration", RESTORATION), ("net", NETWORK)):
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(folder.parent))
    for name in ("", ".domain", ".restoration", ".net"):
        monkeypatch.delitem(sys.modules, f"site_ct{name}", raising=False)
    points = [EntryPoint("ct", "site_ct.domain:DOMAIN", kinds.GROUP)]
    monkeypatch.setattr(kinds, "entry_points", lambda group: points if group == kinds.GROUP else [])
    return folder


def write_weights(path: Path) -> Path:
    from importlib import import_module

    network = import_module("site_ct.net").Gain(0.5)
    said = {"method": "supervised", "restorer": "ct.CTFileRestorer", "neighbors": 0, "training_range": {}}
    save_model(said, {"generator": describe(network)}, path)
    return path


@pytest.mark.usefixtures("site")
def test_ct_is_restored_in_hounsfield_units(call: Callable[..., Ended], tmp_path: Path) -> None:
    voxels = np.full((16, 12, 6), -1000, np.float32)
    voxels[4:12, 3:9, 1:5] = 40
    image = nibabel.Nifti1Image(voxels, np.diag([2.0, 2.0, 3.0, 1.0]))
    image.set_sform(image.affine, code=1)
    nibabel.save(image, tmp_path / "head.nii.gz")
    weights = write_weights(tmp_path / "model.pt")
    words = ["--weights", weights, "--precision", "fp32", "--output", tmp_path / "out"]
    done = call("restore", tmp_path / "head.nii.gz", *words)
    assert done.code == 0, done.err
    restored = nibabel.load(tmp_path / "out" / "head_restored.nii.gz")
    np.testing.assert_array_equal(restored.affine, image.affine)
    # Half of what lies above air; float32 of numbers of a thousand: 1e-4.
    np.testing.assert_allclose(restored.get_fdata(), (voxels + 1000) / 2 - 1000, atol=1e-3)


def test_package_that_is_broken_is_named_in_one_line(site: Path, tmp_path: Path) -> None:
    weights = write_weights(tmp_path / "model.pt")
    (site / "restoration.py").write_text("import no_such_module\n")
    with pytest.raises(InputError, match=r"^site_ct\.restoration cannot be loaded \(ModuleN.*Remedy: repair"):
        load_restorer(weights)
