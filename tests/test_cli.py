"""The command line: help that teaches, and mistakes in the input that end with one line and code 2."""

from __future__ import annotations

import errno
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
from manifest import cells, write_manifest
from typer.testing import CliRunner

import medrestore
from medrestore.cli import app
from medrestore.domains.amyloid_pet.schema import pair_schema
from medrestore.networks.tasks.amyloid import AmyloidClassifier
from medrestore.networks.unet import UNetGenerator
from medrestore.networks.weights import describe, load_file, save_file

COMMANDS: list[tuple[list[str], list[str]]] = [
    (["demo"], ["--output", "--seed", "11 minutes", "multicontrast-mri", "histology"]),
    (["simulate"], ["amyloid-pet", "multicontrast-mri"]),
    (
        ["simulate", "amyloid-pet"],
        ["--output", "--size", "reference", "--dose-fraction", "--mr", "--workers"],
    ),
    (["simulate", "multicontrast-mri"], ["--output", "--size", "reference", "--workers", "mri coregister"]),
    (["pet"], ["coregister", "low-dose", "regions"]),
    (["pet", "coregister"], ["MANIFEST", "--output", "resampled once", "left_out.csv"]),
    (["pet", "low-dose"], ["--image", "--mu-map", "1/cm", "repeat for several"]),
    (["pet", "regions"], ["ICBM152", "--image", "--replace", "left_out.csv"]),
    (["mri"], ["coregister"]),
    (["mri", "coregister"], ["MANIFEST", "--output", "--component", "resampled once", "left_out.csv"]),
    (["histology"], ["tiles", "reduce", "corruption-study"]),
    (["histology", "reduce"], ["SLIDE", "--output", "--scale", "--microns-per-pixel"]),
    (
        ["histology", "tiles"],
        ["SLIDES", "--microns-per-pixel", "--patient-pattern", "TCGA", "split apart", "Example"],
    ),
    (
        ["histology", "corruption-study"],
        ["MANIFEST", "--level", "--variant", "VGG19", "--seeds", "--jobs", "Example"],
    ),
    (["check"], ["MANIFEST", "--domain", "Options of amyloid-pet", "--label-column", "all faults"]),
    (["bundles"], ["NAME", "--path", "overlays", "monai.bundle run", "--key value"]),
    (["train"], ["BUNDLE", "--variant", "--args_file", "--key value", "1e-4", "evaluated", "Example"]),
    (
        ["restore"],
        ["INPUT", "--weights", "--samples", "standard deviation", "--split", "Options of histology"],
    ),
    (["evaluate"], ["NAME=FOLDER", "--output", "MANIFEST --help", "--domain", "--tracking-uri"]),
    (["pool"], ["EVALUATIONS", "one for each seed", "--seed"]),
    (["compare"], ["EXPERIMENT", "--tracking-uri", "MLFLOW_TRACKING_URI"]),
    (["study"], ["create", "serve", "analyze", "Start with"]),
    (["study", "create"], ["PLAN", "--output", "--workers", "checksums"]),
    (["study", "serve"], ["STUDY", "--host", "--port", "own link"]),
    (["study", "handout"], ["--reader", "desktop viewer"]),
    (["study", "import"], ["READS", "all rows are checked"]),
    (["study", "export"], ["--output", "--unblind"]),
    (["study", "verify"], ["--head", "chain"]),
    (["study", "analyze"], ["--metric", "--positive-from", "--margin", "drop_cases", "--mlflow"]),
    (["study", "power"], ["--difference", "--readers", "--cases", "pilot"]),
    (["study", "simulate-readers"], ["--weights", "--manifest", "--noise", "rehearsal"]),
    (["track"], ["sync"]),
    (
        ["track", "sync"],
        ["OUTPUT_DIR", "--tracking-uri", "mlflow_unsent", "Nothing is sent twice", "Example"],
    ),
]
TINY = {
    "device": "cpu",
    "precision": "fp32",
    "spatial_size": [32, 32],
    "generator_channels": [4, 8, 8],
    "discriminator_channels": [4, 8],
    "task_widen_factor": 0.125,
    "batch_size": 4,
    "batches_per_epoch": 1,
    "joint_epochs": 1,
}


def training(cohort: Path, output: Path, *words: object, **overrides: Any) -> list[object]:
    """Return the words that train L1 for one iteration."""
    values = {**TINY, "dataset_dir": cohort, "output_dir": output, **overrides}
    options = [word for key, value in values.items() for word in (f"--{key}", value)]
    return ["train", "amyloid_pet_taskgan", "--variant", "demo", "--variant", "l1", *options, *words]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a model.pt with random weights."""
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    networks = {
        "generator": describe(UNetGenerator(5, channels=(4, 8, 8), dropout_levels=1)),
        "task": describe(AmyloidClassifier(widen_factor=0.125)),
    }
    features = {f"voxel_size_{axis}_mm": [1.0, 9.0] for axis in "xyz"} | {"relative_noise": [0.0, 9.0]}
    save_file(
        {"method": "taskgan", "neighbors": 2, "domain": {"features": features}, "networks": networks}, path
    )
    return path


# ---------------------------------------------------------------------------- help
@pytest.mark.parametrize(("command", "parts"), COMMANDS, ids="-".join)
def test_help_teaches(command, parts):
    shown = " ".join(re.sub("[│╭╰─╮╯]", " ", _help(command)).split())
    for part in parts:
        assert part.lower() in shown.lower()  # Typer has changed the case of arguments


KINDS = {
    "amyloid-pet": ["subject_id", "degraded", "target", "amyloid_status", "dose_fraction", "tracer", "units"],
    "multicontrast-mri": ["subject_id", "session_id", "input", "input_sha256", "t1w", "t1w_sha256"],
    "histology": ["subject_id", "slide", "tile", "x", "y", "tile_size", "microns_per_pixel", "focus"],
}


def _help(words: Sequence[object]) -> str:
    given = {"COLUMNS": "200", "TERMINAL_WIDTH": "200"}
    result = CliRunner().invoke(app, [*map(str, words), "--help"], env=given)
    assert result.exit_code == 0, result.output
    return re.sub(r"\x1b\[[0-9;]*m", "", result.output)


def _options(text: str) -> set[str]:
    """Return the options that the help of a command names."""
    return set(re.findall(r"^│[ *]+--([a-z][a-z-]*)", text, re.MULTILINE))


@pytest.mark.parametrize("named", [False, True], ids=["told by the table", "named"])
@pytest.mark.parametrize(
    ("kind", "command", "options"),
    [
        ("amyloid-pet", "check", "label-column label-values"),
        ("multicontrast-mri", "check", "contrast component saturation-delay-ms echo-time-ms channels"),
        ("histology", "check", ""),
        ("amyloid-pet", "evaluate", "task observer dose-series filter anchor dose-fraction"),
        ("multicontrast-mri", "evaluate", "task observer contrast segmenter classical"),
        ("histology", "evaluate", "scale sigma degradation"),
    ],
)
def test_help_of_a_table_names_the_options_of_its_kind(kind, command, options, named, tmp_path):
    """Beside those that all kinds of image have in common."""
    table = tmp_path / "manifest.csv"
    if not named:
        table.write_text(",".join(KINDS[kind]) + "\n")
    common = ["output", "method", "split", "seed", "tracking-uri", "experiment"]
    words = [command, str(table), *(["--domain", kind] if named else [])]
    shown = _help(words)
    assert _options(shown) == {*options.split(), *(common if command == "evaluate" else []), "domain", "help"}
    assert ("histology_evaluation" in shown) == (command == "evaluate" and kind == "histology")


def test_table_that_tells_no_kind_of_image_is_refused_until_one_is_named(call, tmp_path):
    table = tmp_path / "manifest.csv"
    table.write_text("subject_id,split,image\na,train,a.png\n")
    names = "amyloid-pet, histology, multicontrast-mri"
    call("check", table).refused(str(table), names, "Remedy: name it, --domain NAME")
    checked = call("check", table, "--domain", "histology")
    assert (checked.code, "slide" in checked.out) == (1, True)
    call("check", table, "--domain", "photographs").refused("--domain", "'photographs'", "histology")


def test_option_of_another_kind_of_image_is_refused(call, tmp_path):
    words = ["evaluate", tmp_path / "m.csv", "--output", tmp_path, "--domain"]
    other = call(*words, "histology", "--dose-fraction", 0.1)
    assert (other.code, "No such option: --dose-fraction" in other.err) == (2, True)
    nearest = call(*words, "amyloid-pet", "--dose-fractio", 0.1)
    assert nearest.code == 2
    assert "--dose-fraction" in nearest.err


def test_every_command_and_option_says_what_it_is():
    import typer.main

    def commands(group: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
        below = getattr(group, "commands", {})
        found = [((*path, name), command) for name, command in below.items()]
        return found + [item for where, command in found for item in commands(command, where)]

    found = commands(typer.main.get_command(app))
    assert {" ".join(path) for path, _ in found} == {" ".join(command) for command, _ in COMMANDS}
    for path, command in found:
        assert command.help, path
        silent = [p.name for p in command.params if p.name != "help" and not getattr(p, "help", None)]
        assert silent == [], path


def test_no_argument_shows_the_help_and_where_to_start(call):
    ended = call()
    assert "Start with: medrestore demo" in " ".join((ended.out + ended.err).split())


def test_version(call):
    ended = call("--version")
    assert (ended.code, ended.out) == (0, f"{medrestore.__version__}\n")


def test_bundles_are_listed_with_their_places_overlays_and_keys(call):
    listed = call("bundles")
    assert listed.code == 0, listed.err
    assert "histology_srgan 0.1.0: Histopathology super-resolution with SRGAN_SQE\n  /" in listed.out
    assert "User guides: " in listed.out
    folder = Path(call("bundles", "multicontrast_mri_taskgan", "--path").out.removesuffix("\n"))
    assert (folder / "configs" / "train.yaml").is_file()
    one = call("bundles", folder).out
    assert re.search(r"^  segmenter +The independent lesion segmenter", one, re.MULTILINE)
    assert "\n  learning_rate: 0.002  # Adam, paper\n" in one
    assert "\n  contrasts: null  # those to restore" in one
    call("bundles", "pet").refused("pet: is no bundle", "amyloid_pet_taskgan")
    call("bundles", "--path").refused("Remedy: name it")


def test_importing_the_command_line_imports_nothing_heavy():
    heavy = ("torch", "monai", "mlflow", "numpy", "pandas", "nibabel", "scipy", "matplotlib")
    program = f"import sys, medrestore.cli; print([name for name in {heavy} if name in sys.modules])"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout == "[]\n"


# ---------------------------------------------------------------------------- volumes that are none
def _truncated(source: Path, path: Path) -> None:
    path.write_bytes(source.read_bytes()[:3000])


def _text(_: Path, path: Path) -> None:
    path.write_text("this is no image\n" * 100)


def _four_dimensions(source: Path, path: Path) -> None:
    image = nibabel.load(source)
    nibabel.save(
        nibabel.Nifti1Image(np.stack([image.get_fdata(dtype=np.float32)] * 2, -1), image.affine), path
    )


def _not_a_number(source: Path, path: Path) -> None:
    image = nibabel.load(source)
    data = image.get_fdata(dtype=np.float32).copy()
    data[3, 4, 5] = np.nan
    nibabel.save(nibabel.Nifti1Image(data, image.affine), path)


def _empty(source: Path, path: Path) -> None:
    image = nibabel.load(source)
    nibabel.save(nibabel.Nifti1Image(np.zeros(image.shape, np.float32), image.affine), path)


BAD_VOLUMES = [
    (_truncated, "truncated"),
    (_text, "NIfTI"),
    (_four_dimensions, "has 4 dimensions"),
    (_not_a_number, "1 of 10240 voxels are not finite"),
    (_empty, "foreground"),
]


@pytest.mark.parametrize(("spoil", "message"), BAD_VOLUMES)
def test_bad_volume_is_refused_by_restore(spoil, message, call, tiny_cohort, weights, tmp_path):
    bad = tmp_path / "bad.nii.gz"
    spoil(tiny_cohort / "subjects" / "sub-0000" / "degraded.nii.gz", bad)
    ended = call(
        *["restore", bad],
        *["--output", tmp_path / "out", "--weights", weights],
    )
    ended.refused(str(bad), message)
    assert list((tmp_path / "out").glob("*.nii.gz")) == []


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("amyloid_pet.VolumeFileRestorer", "samples dose-fraction anchor"),
        ("multicontrast_mri.ContrastFileRestorer", "samples contrast"),
        (
            "histology.ImageFileRestorer",
            "slide-microns-per-pixel override-microns-per-pixel input-microns-per-pixel region degradation "
            "background overlap compression jpeg-quality",
        ),
    ],
)
def test_restore_has_the_options_that_mean_something_to_the_weights(kind, options, call, tmp_path):
    save_file({"restorer": kind}, tmp_path / "model.pt")
    words = ["restore", tmp_path / "in", "--weights", tmp_path / "model.pt"]
    common = "weights output split device precision seed help"
    assert _options(_help(words)) == {*options.split(), *common.split()}
    refused = {"dose-fraction", "contrast", "background"} - {*options.split()}
    for option in [*refused, "bundle", "input"]:
        ended = call(*words, "--output", tmp_path / "out", f"--{option}", 1)
        assert (ended.code, f"No such option: --{option}" in ended.err) == (2, True)


@pytest.mark.parametrize(("spoil", "message"), BAD_VOLUMES[:4])
def test_bad_volume_is_refused_by_low_dose_simulation(spoil, message, call, tiny_cohort, tmp_path):
    bad = tmp_path / "bad.nii.gz"
    spoil(tiny_cohort / "subjects" / "sub-0000" / "target.nii.gz", bad)
    call("pet", "low-dose", "--image", bad, "--output", tmp_path / "out").refused(str(bad), message)


def spoiled_cohort(cohort: Path, folder: Path, spoil: Callable[[Path, Path], None]) -> Path:
    """Copy the cohort and spoil the target of row 2; checksums are those of the spoiled files."""
    shutil.copytree(cohort, folder, ignore=shutil.ignore_patterns(".cache"))
    target = folder / "subjects" / "sub-0000" / "target.nii.gz"
    spoil(cohort / "subjects" / "sub-0000" / "target.nii.gz", target)
    write_manifest(pair_schema(), cells(folder / "manifest.csv"), folder)
    return target


def _other_shape(source: Path, path: Path) -> None:
    image = nibabel.load(source)
    nibabel.save(nibabel.Nifti1Image(image.get_fdata(dtype=np.float32)[:, :, :8], image.affine), path)


def _other_affine(source: Path, path: Path) -> None:
    image = nibabel.load(source)
    affine = image.affine.copy()
    affine[:3, 3] += 3.0
    nibabel.save(nibabel.Nifti1Image(image.get_fdata(dtype=np.float32), affine), path)


@pytest.mark.parametrize(
    ("spoil", "message"), [*BAD_VOLUMES[:4], (_other_shape, "shape"), (_other_affine, "affine")]
)
def test_bad_pair_is_refused_by_training_and_reported_by_the_check(
    spoil, message, call, tiny_cohort, tmp_path
):
    target = spoiled_cohort(tiny_cohort, tmp_path / "cohort", spoil)
    call(*training(tmp_path / "cohort", tmp_path / "run")).refused(str(target), message)
    assert not (tmp_path / "run" / "model.pt").exists()
    checked = call("check", tmp_path / "cohort" / "manifest.csv")
    assert checked.code == 1
    assert re.search(rf"row 2 .*{message}", checked.out), checked.out
    assert "1 problem\n" in checked.out


# ---------------------------------------------------------------------------- manifests and splits
def edited(cohort: Path, folder: Path, edit: Callable[[pd.DataFrame], pd.DataFrame]) -> Path:
    """Copy the cohort with an edited manifest."""
    shutil.copytree(cohort, folder, ignore=shutil.ignore_patterns(".cache"))
    table = cells(folder / "manifest.csv")
    edit(table).to_csv(folder / "manifest.csv", index=False)
    return folder


@pytest.mark.parametrize("split", ["train", "validation"])
def test_empty_split_is_refused(split, call, tiny_cohort, tmp_path):
    cohort = edited(tiny_cohort, tmp_path / "cohort", lambda table: table[table["split"] != split])
    call(*training(cohort, tmp_path / "run")).refused(f"no row of split '{split}'", "it holds test, ")


def test_empty_split_is_refused_by_restore(call, tiny_cohort, weights, tmp_path):
    cohort = edited(tiny_cohort, tmp_path / "cohort", lambda table: table[table["split"] != "test"])
    words = ["restore", cohort / "manifest.csv", "--weights", weights, "--split", "test"]
    ended = call(*words, "--output", tmp_path / "out")
    ended.refused("no row of split 'test'", "it holds train, validation")


def test_all_of_twelve_broken_rows_are_told_by_the_check_and_whoever_reads_the_table(
    call, tiny_cohort, tmp_path
):
    broken = {
        3: ("split", "Train"),
        6: ("amyloid_status", "positive"),
        9: ("dose_fraction", "0,01"),
        12: ("session_id", "05/03/2021"),
        15: ("subject_id", "SUB-5"),
        18: ("subject_id", "1.2E+10"),
        21: ("degraded", "/data/degraded.nii.gz"),
        24: ("target", "../target.nii.gz"),
        27: ("tracer", "\u200b"),
        30: ("target_sha256", ""),
        33: ("session_id", "#REF!"),
        36: ("dose_fraction", "0"),
    }

    def twelve(table: pd.DataFrame) -> pd.DataFrame:
        table = pd.concat([table.assign(session_id=f"ses-{number:02}") for number in range(1, 6)])
        table = table.reset_index(drop=True)
        for row, (column, value) in broken.items():
            table.loc[row - 2, column] = value
        return table

    manifest = edited(tiny_cohort, tmp_path / "cohort", twelve) / "manifest.csv"
    rows = [f"row {row} {column}: " for row, (column, _) in broken.items()]
    checked = call("check", manifest)
    assert checked.code == 1
    assert [row for row in rows if row not in checked.out] == []
    for words in (
        ["evaluate", manifest, "--output", tmp_path / "out"],
        training(manifest.parent, tmp_path / "run"),
    ):
        ended = call(*words)
        assert ended.code == 2
        assert "Traceback" not in ended.err
        assert [row for row in rows if row not in ended.err] == []
        assert not (tmp_path / "out").exists()


def test_training_set_of_one_class_is_refused(call, tiny_cohort, tmp_path):
    def one_class(table: pd.DataFrame) -> pd.DataFrame:
        return table[(table["split"] != "train") | (table["amyloid_status"] == "1")]

    cohort = edited(tiny_cohort, tmp_path / "cohort", one_class)
    call(*training(cohort, tmp_path / "run")).refused("holds only class 1", "add subjects of the other class")
    checked = call("check", cohort / "manifest.csv")
    assert checked.code == 1
    assert "class" in checked.out


def test_manifest_that_is_missing_or_sound(call, tiny_cohort, tmp_path):
    call("check", tmp_path / "none.csv").refused(str(tmp_path / "none.csv"), "no such file")
    sound = call("check", tiny_cohort / "manifest.csv")
    assert (sound.code, sound.out) == (0, f"{tiny_cohort / 'manifest.csv'}: 0 problems\n")


# ---------------------------------------------------------------------------- configuration
def test_key_that_is_not_known_is_refused(call, tiny_cohort, tmp_path):
    words = training(tiny_cohort, tmp_path / "run")
    call(*words, "--learning_rat", 0.1).refused(
        "train.yaml", "no key 'learning_rat'", "did you mean 'learning_rate'?"
    )
    call(*words, "--train::trainer::sed=1").refused(
        "train.yaml", "at 'train::trainer' has no key 'sed'", "did you mean 'seed'?"
    )
    call(*words, "--seed::a=1").refused("train.yaml has no key 'seed::a': 'seed' holds no keys")
    overlay = tmp_path / "mine.yaml"
    overlay.write_text("learning_rat: 0.1\n")
    ended = call(*words, "--variant", overlay)
    ended.refused(str(overlay), "no key 'learning_rat'", "did you mean 'learning_rate'?")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--seed"], ["--seed has no value"]),
        (["seed", "1"], ["expected --key value, got 'seed'"]),
        (["--variant", "l2"], ["no such overlay", "l1_task"]),
        (["--precision", "fp8"], ["precision must be one of", "'fp8'"]),
        (["--stages", "[{name: a, epoch: 1, train: [task]}]"], ["no key 'epoch'", "did you mean 'epochs'?"]),
        (["--task_update", "never"], ["task_update must be one of"]),
        (["--spatial_size", "[36, 36]"], ["multiples of 8", "36"]),
        (["--learning_rate", "{a: "], ["learning_rate takes a number", "'{a: '"]),
    ],
)
def test_value_that_is_wrong_is_refused(words, parts, call, tiny_cohort, tmp_path):
    call(*training(tiny_cohort, tmp_path / "run"), *words).refused(*parts)


NAMES = ("PET #3", "@seed", "%x", "50 % [1]*", "$open('PWNED','w').close() or 's'")


@pytest.mark.parametrize("output", ["o#1", "@seed", "$open('PWNED','w')"])
def test_name_of_a_file_is_no_code(output, call, tiny_cohort, weights, tmp_path, monkeypatch):
    folder = Path("in #1 %x @seed $y")
    table = cells(tiny_cohort / "manifest.csv")
    table["split"] = "test"
    monkeypatch.chdir(tmp_path)
    folder.mkdir()
    for name, row in zip(NAMES, table.itertuples(), strict=False):
        shutil.copy(tiny_cohort / row.degraded, folder / f"{name}.nii.gz")
    model = Path("$model #1.pt")
    shutil.copy(weights, model)
    words = ["--weights", model, "--precision", "fp32", "--output"]
    ended = call("restore", folder, *words, output)
    assert ended.code == 0, ended.err
    assert f"restored to {output}" in ended.out
    assert {path.name for path in Path(output).glob("*.nii.gz")} == {
        f"{name}_restored.nii.gz" for name in NAMES
    }
    one = folder / f"{NAMES[-1]}.nii.gz"
    assert call("restore", one, *words, f"{output}2").code == 0
    # The same as cells of a table.
    table = table[: len(NAMES)].copy()
    table["degraded"] = [f"{name}.nii.gz" for name in NAMES]
    for path in table["target"]:
        (folder / path).parent.mkdir(parents=True)
        shutil.copy(tiny_cohort / path, folder / path)
    pair_schema().with_checksums(table, folder).to_csv(folder / "$table #1.csv", index=False)
    ended = call("restore", folder / "$table #1.csv", "--split", "test", *words, f"{output}3")
    assert ended.code == 0, ended.err
    assert {path.name for path in tmp_path.iterdir()} == {
        *(folder.name, model.name),
        *(output, f"{output}2", f"{output}3"),
    }


def test_training_takes_names_as_they_stand(call, tiny_cohort, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "$open('PWNED','w') or '@seed %x #3'"
    folder = Path(name)
    shutil.copytree(tiny_cohort, folder / "cohort", ignore=shutil.ignore_patterns(".cache"))
    (folder / "cohort" / "manifest.csv").rename(folder / "cohort" / "%table #1.csv")
    (folder / "overlay #1.json").write_text('{"task_weights": null, "learning_rate": 1e-4}')
    ended = call(
        *training(folder / "cohort", folder / "run"),
        *("--manifest", folder / "cohort" / "%table #1.csv"),
        *("--run_name", name, "--experiment", "42", "--observer", "none", "--task_learning_rate=1e-4"),
        *("--variant", folder / "overlay #1.json"),
    )
    assert ended.code == 0, ended.err
    assert (folder / "run" / "model.pt").is_file()
    assert "learning_rate: 0.0001" in (folder / "run" / "config.yaml").read_text()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    from medrestore.tracking.store import default_tracking_uri, open_client

    client = open_client(default_tracking_uri(folder / "run"))
    (run,) = client.search_runs([client.get_experiment_by_name("42").experiment_id])
    assert run.info.run_name == name


def test_arguments_may_come_from_a_file(call, tiny_cohort, tmp_path):
    arguments = tmp_path / "arguments.json"
    arguments.write_text('{"seed": 3, "learning_rate": 1e-4, "run_name": 7, "joint_epochs": 9}')
    run = tmp_path / "run"
    ended = call(*training(tiny_cohort, run, "--args_file", arguments))
    assert ended.code == 0, ended.err
    written = (run / "config.yaml").read_text()
    assert "learning_rate: 0.0001" in written
    assert "seed: 3" in written
    assert "epochs: 1" in written  # the command line wins
    call(*training(tiny_cohort, run, "--args_file", tmp_path / "none.json")).refused(
        "none.json: no such file"
    )
    arguments.write_text('{"config_file": "train.yaml"}')
    ended = call(*training(tiny_cohort, run, "--args_file", arguments))
    ended.refused(str(arguments), "config_file is for python -m monai.bundle run", "--variant")


@pytest.mark.parametrize("value", ["wide", "nan", ""])
def test_number_of_a_name_is_one(value, call, tmp_path):
    words = ["evaluate", tmp_path / "manifest.csv", "--domain", "amyloid-pet", "--output", tmp_path / "e"]
    call(*words, "--filter", f"gaussian={value}").refused(
        f"--filter expects NAME=NUMBER, got 'gaussian={value}'"
    )
    words = ["histology", "tiles", tmp_path, "--output", tmp_path / "t", "--fraction", f"train={value}"]
    call(*words).refused(f"--fraction expects NAME=NUMBER, got 'train={value}'")


def test_home_folder_is_written_out(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    missing = str(tmp_path / "home" / "manifest.csv")
    call("check", "~/manifest.csv").refused(missing)
    call("check", "~manifest.csv").refused("~manifest.csv: ")
    words = ["evaluate", missing, "--output=~/out", "--method", "gan=~/gan"]
    call(*words).refused(missing)
    call("train", "amyloid_pet_taskgan", "--dataset_dir=~/pet", "--output_dir=~/run").refused(
        str(tmp_path / "home" / "pet" / "manifest.csv")
    )
    assert not (tmp_path / "~").exists()


def test_device_that_is_not_there_is_refused_before_the_data_are_decoded(
    call, tiny_cohort, tmp_path, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    words = training(tiny_cohort, tmp_path / "run", device="cuda", cache_dir=tmp_path / "cache")
    call(*words).refused("device 'cuda' cannot be used", "Remedy: use cpu")
    assert list(tmp_path.iterdir()) == []


def test_bundle_that_is_not_there_is_refused(call):
    call("train", "amyloid").refused("amyloid: is no bundle", "Bundles that ship: amyloid_pet_taskgan")


def test_method_without_folder_is_refused(call, tiny_cohort, tmp_path):
    words = [
        "evaluate",
        tiny_cohort / "manifest.csv",
        "--output",
        tmp_path / "e",
        "--method",
        "gan",
    ]
    call(*words).refused("--method expects NAME=VALUE, got 'gan'")


# ---------------------------------------------------------------------------- weights and checkpoints
def test_checkpoint_of_another_network_is_refused(call, tiny_cohort, tmp_path):
    run = tmp_path / "run"
    first = call(*training(tiny_cohort, run, joint_epochs=2))
    assert first.code == 0, first.err
    before = files(run)
    # Another network of the same training plan.
    words = training(tiny_cohort, run, joint_epochs=2, generator_channels=[4, 8, 16])
    call(*words).refused(str(run / "checkpoint.pt"), "checkpoint of another generator", "Remedy")
    # The same network in another plan.
    words = training(tiny_cohort, run, joint_epochs=2, seed=5)
    call(*words).refused(str(run / "checkpoint.pt"), "written with seed 0, this run has 5", "Remedy")
    again = call(*training(tiny_cohort, run, joint_epochs=2))
    assert again.code == 0
    assert {name: before[name] for name in ("checkpoint.pt", "model.pt")}.items() <= files(run).items()


def _without_generator(path: Path) -> None:
    networks = {"task": describe(AmyloidClassifier(widen_factor=0.125))}
    save_file({"method": "taskgan", "neighbors": 2, "domain": {"features": {}}, "networks": networks}, path)


def _pickle(path: Path) -> None:
    torch.save({"format": 1, "networks": Path("code")}, path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (None, "there are no weights here"),
        (lambda path: path.write_bytes(b"PK no weights"), "is damaged"),
        (_pickle, "holds more than weights"),
        (_without_generator, "has no network 'generator'"),
    ],
    ids=["missing", "damaged", "code", "other"],
)
def test_weights_that_are_none_are_refused(make, message, call, tiny_cohort, tmp_path):
    path = tmp_path / "model.pt"
    if make is not None:
        make(path)
    words = ["restore", tiny_cohort / "manifest.csv", "--output", tmp_path / "out"]
    call(*words, "--weights", path).refused(str(path), message)


# ---------------------------------------------------------------------------- full disk
def test_full_disk_ends_the_training_and_the_last_checkpoint_loads(call, tiny_cohort, tmp_path, monkeypatch):
    """The third checkpoint goes to /dev/full, where the kernel itself says that no space is left."""
    import os

    from medrestore.engines import trainer

    run = tmp_path / "run"
    save, saved = trainer.save_file, []

    def save_to_full_disk(payload: Any, path: Path) -> None:
        if len(saved) == 2:
            path.with_name(f".partial-{os.getpid()}-{path.name}").symlink_to("/dev/full")
        save(payload, path)
        saved.append(payload["epoch"])

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "save_file", save_to_full_disk)
        ended = call(*training(tiny_cohort, run, joint_epochs=4))
    ended.refused(
        str(run / "checkpoint.pt"), "the disk is full; the file from before is kept", "free some space"
    )
    assert saved == [1, 2]
    assert load_file(run / "checkpoint.pt")["epoch"] == 2
    assert not list(run.glob(".partial*"))
    resumed = call(*training(tiny_cohort, run, joint_epochs=4))
    assert resumed.code == 0, resumed.err
    assert load_file(run / "checkpoint.pt")["epoch"] == 4


def test_folder_that_cannot_be_written_is_an_error_of_one_line(call, tiny_cohort, weights, tmp_path):
    (tmp_path / "file").write_text("in the way")
    source, output = tiny_cohort / "subjects" / "sub-0000" / "degraded.nii.gz", tmp_path / "file" / "out"
    call("restore", source, "--weights", weights, "--output", output).refused(str(tmp_path / "file"))


# ---------------------------------------------------------------------------- output of others
@pytest.fixture
def occupied(tmp_path: Path) -> Path:
    """Return a folder with somebody else's results."""
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "thesis.docx").write_text("years of work")
    return folder


@pytest.mark.parametrize("command", ["demo", "amyloid-pet", "low-dose", "train", "evaluate"])
def test_folder_with_other_results_is_refused_and_left_alone(command, call, occupied, tiny_cohort, tmp_path):
    image = tiny_cohort / "subjects" / "sub-0000" / "target.nii.gz"
    manifest = tiny_cohort / "manifest.csv"
    words: dict[str, list[object]] = {
        "demo": ["demo", "--output", occupied],
        "amyloid-pet": ["simulate", "amyloid-pet", "--output", occupied],
        "low-dose": ["pet", "low-dose", "--image", image, "--output", occupied],
        "train": training(tiny_cohort, occupied),
        "evaluate": ["evaluate", manifest, "--output", occupied],
    }
    call(*words[command]).refused(str(occupied), "nothing is overwritten", "Remedy")
    assert files(occupied) == {"thesis.docx": b"years of work"}


def test_trained_model_of_others_is_not_overwritten(call, tiny_cohort, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("{}\n")
    (run / "model.pt").write_bytes(b"weights")
    call(*training(tiny_cohort, run)).refused(str(run), "nothing is overwritten", "Remedy")
    assert files(run) == {"config.yaml": b"{}\n", "model.pt": b"weights"}


def test_restoration_by_other_weights_is_refused_and_left_alone(call, tiny_cohort, weights, tmp_path):
    source, output = tiny_cohort / "subjects" / "sub-0000" / "degraded.nii.gz", tmp_path / "out"
    words = ["restore", source, "--output", output]
    done = call(*words, "--weights", weights)
    assert done.code == 0, done.err
    assert done.out.endswith(f"1 file restored to {output}\n")
    before = files(output)
    again = call(*words, "--weights", weights)
    assert again.code == 0
    assert files(output) == before
    model = load_file(weights)
    model.pop("format")
    other = tmp_path / "model.pt"
    save_file({**model, "neighbors": 2, "label_column": "amyloid_status"}, other)
    ended = call(*words, "--weights", other)
    ended.refused(
        str(output / "degraded_restored.nii.gz"), "nothing is overwritten", "name another output folder"
    )
    (output / "degraded_restored.json").unlink()
    call(*words, "--weights", weights).refused(str(output / "degraded_restored.nii.gz"), "move it away")
    assert files(output)["degraded_restored.nii.gz"] == before["degraded_restored.nii.gz"]


def test_full_disk_ends_without_traceback_though_a_write_names_no_file(call, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("medrestore.evaluation.pool.pool_evaluations", full)
    call("pool", "evaluation").refused("the disk is full", "Remedy: free some space")


def test_results_are_printed_before_they_are_recorded(call, tmp_path, monkeypatch):
    """A store that is out of reach costs the record, not the table."""
    import pandas as pd

    from medrestore.domains.base import metrics_of
    from medrestore.evaluation.record import Evaluation

    class Done(Evaluation):
        markdown = "the table"  # type: ignore[assignment]

    done = Done(
        output=tmp_path,
        per_subject=pd.DataFrame(),
        summary=pd.DataFrame(),
        differences=pd.DataFrame(),
        record={},
        metrics=metrics_of("amyloid_pet", ()),
    )
    for name in (
        "amyloid_pet.evaluation.evaluate.evaluate",
        "multicontrast_mri.evaluation.evaluate.evaluate_contrasts",
        "histology.evaluation.evaluate.evaluate_tiles",
    ):
        monkeypatch.setattr(f"medrestore.domains.{name}", lambda *_, **__: done)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:1")
    for kind in ("amyloid-pet", "multicontrast-mri", "histology"):
        ended = call("evaluate", tmp_path / "m.csv", "--domain", kind, "--output", tmp_path)
        assert ended.out == "the table\n"
        ended.refused(
            "tracking_uri 'http://127.0.0.1:1'", "connection refused", f"the results are in {tmp_path}"
        )
        assert "secret" not in ended.err


def test_a_record_is_completed_from_the_command_line(call, tmp_path):
    from medrestore.tracking.runs import MLflowRun

    run = MLflowRun("synced", "run", output_dir=tmp_path / "run")
    run.start()
    run.finish()
    ended = call("track", "sync", tmp_path / "run")
    assert (ended.code, ended.out) == (0, f"{tmp_path / 'run'}: nothing was left to send\n")
    call("track", "sync", tmp_path / "nothing").refused(f"{tmp_path / 'nothing'}: there is no such folder")
    call("track", "sync", tmp_path).refused("no run of MLflow was recorded here", "Remedy")


@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1", "utf-8"])
def test_characters_that_a_terminal_lacks_do_not_end_a_command(encoding, monkeypatch):
    from medrestore.cli import main

    screen = TextIOWrapper(BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("COLUMNS", "40")  # narrow ones shorten words by an ellipsis
    monkeypatch.setattr(sys, "argv", ["medrestore", "train", "--help"])
    with pytest.raises(SystemExit, match="0"):
        main()
    print("scan \u00b5 \udcff")  # a name whose bytes are no text
    screen.flush()
    assert b"Example: medrestore train" in screen.buffer.getvalue()
