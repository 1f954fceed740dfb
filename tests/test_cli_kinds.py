"""Commands that another package brings: found when it is installed, and of no harm when it is broken."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from site_package import install, run_python

COMMANDS = '''
"""The commands of CT."""

from medrestore.options import OutputFolder, Seed, Workers, done_by

GROUP = "ct"


@done_by("heads.draw", "{0} in {output}", seed=str)
def simulate(output: OutputFolder, seed: Seed = 0, workers: Workers = None) -> None:
    """Simulate heads."""


def phantom(output: OutputFolder) -> None:
    """Draw a phantom."""
    print(f"drawn in {output}")


COMMANDS = {"phantom": phantom}
'''


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A package as an installer leaves it; its commands."""
    return install(tmp_path, {"site_ct/__init__.py": ""}) / "site_ct" / "commands.py"


def run(site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run_python(site.parents[1], "from medrestore.cli import main; main()", *words)


def test_commands_of_a_package_stand_beside_ours(site):
    site.write_text(COMMANDS)
    site.with_name("heads.py").write_text("def draw(**options): return sorted(options.items())[1:]")
    for words, told in (
        (["simulate", "ct", "--output", "heads"], "[('seed', '0')] in heads\n"),
        (["ct", "phantom", "--output", "heads"], "drawn in heads\n"),
    ):
        ended = run(site, *words)
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, told, "")


def test_package_whose_commands_are_broken_costs_them_alone(site):
    site.write_text("import no_such_module\n")
    ended = run(site, "simulate", "--help")
    assert ended.returncode == 0
    assert "multicontrast-mri" in ended.stdout
    (line,) = ended.stderr.splitlines()
    assert line.startswith("warning: site_ct.commands cannot be loaded (ModuleNotFoundError: ")
    assert "Remedy: repair or uninstall that package" in line
    lacking = run(site, "ct", "phantom", "--output", "heads")
    assert (lacking.returncode, "No such command 'ct'" in lacking.stderr) == (2, True)
