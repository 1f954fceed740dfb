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


@pytest.mark.parametrize(
    ("commands", "told"),
    [
        ("COMMANDS = 3", "TypeError: "),
        ("RESTORE = []", "TypeError: "),
        ("def check(manifest: Nowhere): ...", "NameError: "),
        ("def simulate(output: int | str): ...", "AssertionError: "),
        ("raise SystemExit", "SystemExit: "),
    ],
)
def test_package_that_makes_no_commands_costs_its_own_alone(site, commands, told):
    site.write_text(commands)
    ended = run(site, "simulate", "--help")
    assert (ended.returncode, "amyloid-pet" in ended.stdout) == (0, True)
    (line,) = ended.stderr.splitlines()
    assert line.startswith("warning: site_ct.commands ")
    assert told in line
    assert "Remedy: repair or uninstall that package" in line


@pytest.mark.parametrize("group", ["pet", "study", "pool", "check"])
def test_group_of_a_package_takes_the_name_of_no_command(site, group):
    site.write_text(COMMANDS.replace('GROUP = "ct"', f'GROUP = "{group}"'))
    ended = run(site, group, "--help")
    assert ended.returncode == 0
    assert "phantom" not in ended.stdout
    told = f"site_ct.commands: the command {group} is there already. Remedy: another GROUP"
    assert ended.stderr == f"warning: {told}\n"


def test_options_of_a_package_are_shown_however_they_are_declared(site):
    site.write_text(
        "import typer\nfrom pathlib import Path\n"
        "def evaluate(manifest: Path, output: Path, kvp: int = 120, kernel: str = typer.Option('soft')):\n"
        "    pass\n"
    )
    ended = run(site, "evaluate", "--help")
    assert (ended.returncode, ended.stderr) == (0, "")
    _, _, own = ended.stdout.partition("Options of ct")
    assert "--kvp" in own
    assert "--kernel" in own
    assert "by the kind of image" in ended.stdout  # the experiment


def test_description_of_a_demonstration_that_is_no_yaml_is_named(site: Path) -> None:
    site.with_name("demo.yaml").write_text("runs: [1\n")
    ended = run(site, "demo", "ct", "--output", str(site.parent / "demo_output"))
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"error: {site.with_name('demo.yaml')}: is no YAML file (")
    assert line.endswith("Remedy: mend it")
