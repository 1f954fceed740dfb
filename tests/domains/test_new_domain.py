"""A kind of image that another package brings: CT in HU, from a phantom to tables; nothing else names it."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from site_package import install, run_python

from medrestore.checks import InputError
from medrestore.inference.restorer import load_restorer, restore_files
from medrestore.networks.weights import describe, save_model

DOMAIN = """
from medrestore.data.intensity import Intensity
from medrestore.data.pairs import pair_schema
from medrestore.domains.base import Domain
from medrestore.evaluation.titles import FIDELITY, Metrics

HOUNSFIELD = Intensity(nothing=-1000, scale=1000)
SCHEMA = pair_schema(intensity=HOUNSFIELD)
DOMAIN = Domain("ct", Metrics(FIDELITY, pairs=(("l1", "input"),)), schema=SCHEMA, intensity=HOUNSFIELD)
"""

RESTORATION = """
from medrestore.inference.volume_files import VolumeFileRestorer
from site_ct.domain import HOUNSFIELD, SCHEMA


class CTFileRestorer(VolumeFileRestorer):
    intensity = HOUNSFIELD
    schema = SCHEMA
    datatype = "ct"
"""

TRAINING = """
from medrestore.engines.volume_data import PairData
from site_ct.domain import HOUNSFIELD


class CTData(PairData):
    restorer = "ct.CTFileRestorer"
    intensity = HOUNSFIELD
    colors = "gray"
"""

COMMANDS = '''
"""The commands of CT."""

from pathlib import Path

import numpy as np
import pandas as pd

from medrestore import rng
from medrestore.data.volumes import SourceGrid, write_volume
from medrestore.options import OutputFolder, Seed
from site_ct.domain import SCHEMA

GRID = SourceGrid.from_affine((24, 28, 8), np.diag([8.0, 8.0, 12.0, 1.0]))
SPLITS = ("train", "train", "validation", "test", "test")


def head(number: int) -> np.ndarray:
    """Return a skull with brain and ventricles, in HU."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, size) for size in GRID.shape), indexing="ij")
    radius = np.sqrt(x**2 + y**2 + 0.5 * z**2) + 0.02 * number
    return np.select([radius < 0.2, radius < 0.7, radius < 0.85], [5.0, 35.0, 900.0], -1000.0)


def simulate(output: OutputFolder, seed: Seed = 0) -> Path:
    """Simulate heads at a low dose."""
    output.mkdir(parents=True)
    rows = []
    for number, split in enumerate(SPLITS):
        target = head(number)
        noise = 40 * rng.generator(seed, "ct", number).standard_normal(target.shape)
        row = {"subject_id": f"sub-{number}", "session_id": "1", "split": split}
        for name, image in (("degraded", target + noise), ("target", target)):
            row[name] = write_volume(image, GRID, output / f"{name}{number}.nii.gz").name
        rows.append(row)
    return SCHEMA.write(SCHEMA.with_checksums(pd.DataFrame(rows), output), output / "manifest.csv")
'''

NETWORK = """
import torch
from torch import nn


class Gain(nn.Module):
    def __init__(self, factor, channels=1):
        super().__init__()
        self.architecture = {"factor": factor, "channels": channels}
        self.factor = nn.Parameter(torch.tensor(float(factor)))
        self.middle = channels // 2

    def forward(self, image):
        return image[:, self.middle : self.middle + 1] * self.factor
"""

TRAIN = """
bundle_root: .
manifest: manifest.csv
output_dir: run
parameters: {seed: 0, neighbors: 1, spatial_size: [32, 32], batch_size: 2, batches_per_epoch: 2}
generator: {_target_: site_ct.net.Gain, factor: 0.5, channels: 3}
step:
  _target_: medrestore.methods.supervised.Supervised
  networks: {generator: "@generator"}
  optimizers: {generator: {_target_: torch.optim.Adam, params: "$@generator.parameters()", lr: 0.01}}
  loss: {_target_: torch.nn.L1Loss}
data:
  _target_: site_ct.training.CTData.of
  parameters: "@parameters"
  manifest: "@manifest"
  cache_dir: "$@output_dir + '.cache'"
train:
  trainer:
    _target_: medrestore.engines.trainer.RestorationTrainer
    device: cpu
    step: "@step"
    data: "@data"
    stages: [{name: l1, epochs: 1, train: [generator]}]
    output_dir: "@output_dir"
    seed: "@parameters::seed"
    parameters: "@parameters"
    handlers: [{_target_: medrestore.engines.validation.Validation, data: "@data"}]
run: ["$@train::trainer.run()"]
"""

PACKAGE = {
    "site_ct/__init__.py": "",
    "site_ct/domain.py": DOMAIN,
    "site_ct/restoration.py": RESTORATION,
    "site_ct/training.py": TRAINING,
    "site_ct/commands.py": COMMANDS,
    "site_ct/net.py": NETWORK,
    "bundle/configs/train.yaml": TRAIN,
    "bundle/configs/metadata.json": "{}",
}

CALLS = """
import json, sys

from medrestore.cli import main
from medrestore.testing import check_domain

for words in json.loads(sys.argv[1]):
    sys.argv = ["medrestore", *words]
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
check_domain("ct", manifest="heads/manifest.csv", weights="run/model.pt", evaluation="evaluation")
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """What an installer leaves of the package of a site."""
    return install(tmp_path / "packages", PACKAGE)


def test_new_domain_takes_few_lines():
    assert sum(len(text.strip().splitlines()) for text in PACKAGE.values()) <= 150


def test_ct_from_phantom_to_tables(site, tmp_path):
    """By the command line alone: simulated, checked, trained two iterations, restored, evaluated."""
    calls = [
        ["simulate", "ct", "--output", "heads"],
        ["check", "heads/manifest.csv"],
        ["train", site / "bundle", "--manifest", "heads/manifest.csv"],
        ["restore", "heads/manifest.csv", "--weights", "run/model.pt", "--split", "test", "--output", "l1"],
        ["evaluate", "heads/manifest.csv", "--method", "l1=l1", "--output", "evaluation"],
    ]
    ended = run_python(site, CALLS, json.dumps(calls, default=str), folder=tmp_path)
    assert ended.returncode == 0, ended.stderr
    degraded, restored = (
        nibabel.load(tmp_path / name) for name in ("heads/degraded3.nii.gz", "l1/sub-3_1_restored.nii.gz")
    )
    np.testing.assert_array_equal(restored.affine, degraded.affine)
    table = pd.read_csv(tmp_path / "evaluation" / "per_subject.csv")
    assert list(table["method"]) == ["input", "l1", "true"] * 2
    target = nibabel.load(tmp_path / "heads" / "target3.nii.gz").get_fdata()
    error = np.sqrt(np.mean((restored.get_fdata() - target) ** 2))
    (row,) = table[(table["subject_id"] == "sub-3") & (table["method"] == "l1")].to_dict("records")
    # From air at -1000 HU to the skull; float32 volumes.
    assert row["psnr"] == pytest.approx(20 * np.log10(1900 / error), abs=1e-3)
    assert "**L1**: " in ended.stdout
    page = (tmp_path / "evaluation" / "changes" / "l1.html").read_text(encoding="utf-8")
    assert "What L1 changes" in page and '<section id="verdict">' in page
    assert "| L1 " in ended.stdout and "L1 - Input" in ended.stdout


def write_weights(path: Path) -> Path:
    network = import_module("site_ct.net").Gain(0.5)
    said = {"method": "supervised", "restorer": "ct.CTFileRestorer", "neighbors": 0, "training_range": {}}
    save_model(said, {"generator": describe(network)}, path)
    return path


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package, in this process."""
    monkeypatch.syspath_prepend(str(site))
    for name in ("site_ct", *(f"site_ct.{path.stem}" for path in (site / "site_ct").glob("[a-z]*.py"))):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return site / "site_ct"


@pytest.mark.usefixtures("installed")
def test_ct_is_restored_in_hounsfield_units(tmp_path):
    voxels = np.full((16, 12, 6), -1000, np.float32)
    voxels[4:12, 3:9, 1:5] = 40
    image = nibabel.Nifti1Image(voxels, np.diag([2.0, 2.0, 3.0, 1.0]))
    image.set_sform(image.affine, code=1)
    nibabel.save(image, tmp_path / "head.nii.gz")
    weights = write_weights(tmp_path / "model.pt")
    (path,) = restore_files(
        tmp_path / "head.nii.gz", weights=weights, output_dir=tmp_path / "out", precision="fp32"
    )
    restored = nibabel.load(path)
    np.testing.assert_array_equal(restored.affine, image.affine)
    # Half of what lies above air; float32 of numbers of a thousand: 1e-4.
    np.testing.assert_allclose(restored.get_fdata(), (voxels + 1000) / 2 - 1000, atol=1e-3)


def test_package_that_is_broken_is_named_in_one_line(installed, tmp_path):
    weights = write_weights(tmp_path / "model.pt")
    (installed / "restoration.py").write_text("import no_such_module\n")
    with pytest.raises(InputError, match=r"^site_ct\.restoration cannot be loaded \(ModuleN.*Remedy: repair"):
        load_restorer(weights)
