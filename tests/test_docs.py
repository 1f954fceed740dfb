"""The documentation is true: its code runs, its commands parse, its links lead somewhere, doctests hold."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pydoc
import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
import typer
import yaml
from monai.bundle import scripts as monai_scripts

from medrestore.checks import require_known_keys
from medrestore.kinds import kinds

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [
        ROOT / "README.md",
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "bundles").glob("*/docs/*.md"),
        *(ROOT / "data_manifests").glob("*.md"),
    ]
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHELL = ("bash", "console", "sh")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(*languages: str) -> Iterator[tuple[Path, int, str]]:
    """Give page, line and text of every fenced block in one of the languages."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for found in FENCE.finditer(text):
            if found[1] in languages:
                yield page, text.count("\n", 0, found.start()) + 1, found[2]


def commands() -> Iterator[tuple[str, list[str]]]:
    """Give place and words of every command in a shell block; lines that end in a backslash are joined."""
    for page, line, text in blocks(*SHELL):
        for command in text.replace("\\\n", " ").splitlines():
            words = shlex.split(command.removeprefix("$ "), comments=True)
            while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):  # variables of the environment
                words = words[1:]
            if words:
                yield f"{name_of(page)}:{line}", words


COMMANDS = list(commands())
OURS = [item for item in COMMANDS if item[1][0] == "medrestore"]
MONAI = [item for item in COMMANDS if "monai.bundle" in item[1]]
PYTHON = list(blocks("python"))
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "medrestore").rglob("*.py")
    if ">>>" in path.read_text(encoding="utf-8")
)


def parse_command(words: list[str]) -> typer.Context:
    """Parse a medrestore command as the command line would, without running it."""
    from medrestore.cli import app

    command = typer.main.get_command(app)
    path, rest = words[:1], words[1:]
    while hasattr(command, "commands"):
        assert rest, f"{' '.join(path)} needs a sub-command"
        assert rest[0] in command.commands, f"there is no command {' '.join([*path, rest[0]])}"
        command = command.commands[rest[0]]
        path, rest = [*path, rest[0]], rest[1:]
    # Tables and weights that are not here would tell of what kind of image they are.
    names = [point.name.replace("_", "-") for point in kinds()] if hasattr(command, "for_kind") else []
    several = [command.for_kind(name) for name in names] or [command]
    for one in several[:-1]:
        with suppress(Exception):
            return one.make_context(" ".join(path), list(rest))
    return several[-1].make_context(" ".join(path), rest)


def require_known_training(context: typer.Context) -> None:
    """Require that overlays and keys of a training exist in the bundle."""
    from medrestore.cli.commands import _overrides
    from medrestore.engines.bundle import bundle_files
    from medrestore.engines.shelf import find_bundle
    from medrestore.engines.values import by_short_names

    files = bundle_files(find_bundle(context.params["bundle"]), "train", context.params["variant"] or ())
    known = yaml.safe_load(Path(files[0]).read_text(encoding="utf-8"))
    require_known_keys(files[0], _overrides(context.args), by_short_names(known))


def anchors_of(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_pages_have_what_the_tests_below_look_for():
    assert len(PAGES) >= 7
    assert len(OURS) >= 20
    assert len(MONAI) >= 2
    assert len(PYTHON) >= 3
    assert len(MODULES) >= 20


@pytest.mark.parametrize(("place", "words"), OURS, ids=[place for place, _ in OURS])
def test_command_parses(place, words):
    context = parse_command(words)
    if context.info_name == "medrestore train":
        require_known_training(context)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("medrestore restores --input a.nii", "no command medrestore restores"),
        ("medrestore compare pet --uri a", "(?i)no such option.*--uri"),
        ("medrestore restore a.nii --weights b", "(?i)missing.*output"),
        ("medrestore train amyloid_pet_taskgan --learning_rat 1", "did you mean 'learning_rate'"),
        ("medrestore train amyloid_pet_taskgan --variant unet", "no such overlay"),
    ],
)
def test_command_that_is_wrong_does_not_parse(words, message):
    with pytest.raises(Exception, match=message):
        require_known_training(parse_command(shlex.split(words)))


@pytest.mark.parametrize(("place", "words"), MONAI, ids=[place for place, _ in MONAI])
def test_monai_command_names_files_and_keys_that_exist(place, words):
    """Files lie in the bundle that the page asks medrestore for; nothing of a checkout is named."""
    page, _, line = place.rpartition(":")
    block = (ROOT / page).read_text(encoding="utf-8").splitlines()[int(line) - 1 : int(line) + 3]
    (name,) = re.findall(r"\$\(medrestore bundles (\w+) --path\)", "\n".join(block))
    call = words[words.index("monai.bundle") + 1 :]
    given = {word[2:]: value for word, value in pairwise(call) if word.startswith("--")}
    files = re.findall(r"(?:configs|variants)/\w+\.yaml", given["config_file"])
    assert re.sub(r"[\[\]', ]|\$BUNDLE/|(?:configs|variants)/\w+\.yaml", "", given["config_file"]) == ""
    known = {"config_file"}.union(
        *(yaml.safe_load((ROOT / "bundles" / name / file).read_text()) for file in files)
    )
    if call[0] != "run":
        known |= set(inspect.signature(getattr(monai_scripts, call[0])).parameters)
    assert set(given) <= known


def test_make_commands_name_targets_that_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    asked = [word for _, words in COMMANDS if words[0] == "make" for word in words[1:] if "=" not in word]
    assert {"demo", "test"} <= set(asked) <= targets


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_lead_somewhere(page):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.is_relative_to(ROOT), f"{target} leaves the repository"
        assert place.exists(), f"{target}: there is no such file"
        assert not anchor or anchor in anchors_of(place), f"{target}: there is no such heading"


def rows_of(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading, without the table's own header."""
    section = (ROOT / page).read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in lines[2:]]


METHODS = rows_of("README.md", "Methods")


@pytest.mark.parametrize("cells", METHODS, ids=[cells[0].split(",")[0] for cells in METHODS])
def test_method_has_its_code_its_keys_and_its_result(cells):
    """That files and headings exist, the test of links says."""
    _, equation, code, keys, result = cells
    named = re.findall(r"`(medrestore[\w.]+)`", code)
    assert named
    for name in named:
        assert pydoc.locate(name) is not None, f"there is no {name}"
    assert result
    if keys:
        assert equation
        bundle, *settings = re.findall(r"`(\w+)`", keys)
        known = yaml.safe_load((ROOT / "bundles" / bundle / "configs" / "train.yaml").read_text())
        assert set(settings) <= {*known, *known["parameters"]}


def test_what_holds_a_claim_is_there():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    holding = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", page)
    assert len(holding) > 5
    for path, name in holding:
        assert f"\ndef {name}(" in (ROOT / path).read_text(encoding="utf-8"), f"{path}::{name}"


@pytest.mark.parametrize("room", ["losses", "metrics"])
def test_loss_and_metric_have_tests_of_their_own(room):
    names = {path.stem for path in (ROOT / "medrestore" / room).glob("[!_]*.py")}
    assert len(names) > 3
    assert {path.stem.removeprefix("test_") for path in (ROOT / "tests" / room).glob("test_*.py")} == names


def test_floor_plan_names_all_rooms_and_no_other():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    plan = page.split("```")[1].partition("\nmedrestore/\n")[2].partition("\nbundles/")[0]
    rooms = set(re.findall(r"^  (\w+)(?:/|\.py) ", plan, re.MULTILINE))
    hidden = {"__init__", "__main__"}
    there = {path.stem for path in (ROOT / "medrestore").iterdir() if path.suffix in ("", ".py")} - hidden
    assert rooms == {name for name in there if not name.startswith(("_", "."))}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_page_speaks_of_no_machine_and_no_ticket(page):
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"/(?:work|tmp|root|home/\w+|Users/\w+)/\S*|\bissue \d+|(?<![\w&])#\d+", text) == []


@pytest.fixture
def place_to_run(tiny_cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the pages speak of: ``data/pet``, ``scan.nii.gz``, weights in ``runs/taskgan``."""
    from medrestore.networks.unet import UNetGenerator
    from medrestore.networks.weights import describe, save_model

    shutil.copytree(tiny_cohort / "subjects", tmp_path / "data" / "pet" / "subjects")
    shutil.copy(tiny_cohort / "subjects" / "sub-0000" / "degraded.nii.gz", tmp_path / "scan.nii.gz")
    generator = UNetGenerator(5, channels=(4, 8, 8), dropout_levels=1)
    for run in ("taskgan", "sqe"):
        save_model(
            {"method": "taskgan", "neighbors": 2, "domain": {}},
            {"generator": describe(generator)},
            tmp_path / "runs" / run / "model.pt",
        )
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("page", "line", "code"), PYTHON, ids=[f"{name_of(page)}:{line}" for page, line, _ in PYTHON]
)
def test_python_block_runs(page, line, code, place_to_run):
    # Blank lines in front: a traceback then names the page's own line.
    exec(compile("\n" * line + code, name_of(page), "exec"), {"__name__": "__main__"})  # noqa: S102


@pytest.mark.parametrize("name", MODULES)
def test_doctests(name):
    results = doctest.testmod(importlib.import_module(name))
    assert results.attempted > 0
    assert results.failed == 0
