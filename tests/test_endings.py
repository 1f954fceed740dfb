"""A mistake is told last and alone, by MONAI's command line too."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from medrestore.checks import InputError
from medrestore.endings import end_as_our_own, ending_of

CONFIGS = Path(__file__).parents[1] / "bundles" / "amyloid_pet_taskgan" / "configs"


def test_a_fault_of_the_program_is_no_mistake():
    assert ending_of(RuntimeError("no")) is None
    try:
        raise RuntimeError("Failed to instantiate component") from InputError("seed must be 1")
    except RuntimeError as error:
        assert ending_of(error) == (2, "error: seed must be 1")


@pytest.mark.parametrize(
    "refusal",
    [
        ValueError("Invalid learning rate: -0.1"),
        IndexError("list index out of range"),  # betas: [0.5]
        TypeError("'<=' not supported between instances of 'float' and 'str'"),
    ],
)
def test_what_an_optimizer_refuses_is_the_users(refusal):
    try:
        raise RuntimeError(
            "Failed to instantiate component 'torch.optim.Adam' with keywords: lr"
        ) from refusal
    except RuntimeError as error:
        ending = ending_of(error)
    assert ending is not None
    assert ending[0] == 2
    assert "torch.optim.Adam" in ending[1]
    assert str(refusal) in ending[1]


@pytest.mark.parametrize("code", [errno.EACCES, errno.ENOENT, errno.EIO, errno.ESTALE, errno.EMFILE])
def test_what_the_operating_system_refuses_is_told_with_its_file(code):
    try:
        raise RuntimeError("Failed to evaluate") from OSError(code, os.strerror(code), "/proc/run")
    except RuntimeError as error:
        ending = ending_of(error)
    assert ending is not None
    assert ending[0] == 2
    assert ending[1].startswith(f"error: /proc/run: {os.strerror(code)}")


def test_hook_shows_a_fault_of_the_program_as_before(monkeypatch, capsys):
    shown: list[BaseException] = []
    monkeypatch.setattr(sys, "excepthook", lambda _, error, __: shown.append(error))
    end_as_our_own()
    fault = RuntimeError("no")
    sys.excepthook(RuntimeError, fault, None)
    assert shown == [fault]
    with pytest.raises(SystemExit, match="2"):
        sys.excepthook(InputError, InputError("seed must be 1"), None)
    assert capsys.readouterr().err == "error: seed must be 1\n"


def test_command_line_of_monai_ends_as_ours(tmp_path):
    (tmp_path / "mine.yaml").write_text("parameters::learning_rate: 1e-4\n")
    files = f"['{CONFIGS / 'train.yaml'}','mine.yaml']"
    ended = subprocess.run(
        [sys.executable, "-m", "monai.bundle", "run", "--config_file", files, "--dataset_dir", "none"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "Failed to instantiate" not in ended.stderr
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("error: learning_rate takes a number, got the text '1e-4'")
    assert "Remedy: write 0.0001" in last
