"""What a user gives is taken as it stands, and is what its key takes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from medrestore.checks import InputError
from medrestore.engines.bundle import bundle_configuration, open_bundle
from medrestore.engines.values import (
    as_literal,
    by_short_names,
    fit_value,
    plain_values,
    read_configuration,
    require_numbers,
)

BUNDLES = Path(__file__).parents[2] / "bundles"
BUNDLE = BUNDLES / "amyloid_pet_taskgan"
OURS = sorted(BUNDLES.glob("*/*/*.yaml"))
HOSTILE = (
    "$open('PWNED', 'w').close() or 's.nii.gz'",
    "$import os",
    "o#1",
    "PET #3/a::b",
    "@seed",
    "@seed::0",
    "a@::b",
    "@##seed",
    "%seed",
    "%train.yaml::seed",
    "50 %",
    "[red]x",
    "[1]*?.nii",
    'it\'s "both" \\ and\nmore #',
    "é#\udcff",  # a name of bytes that are no UTF-8
)


@pytest.mark.parametrize("text", HOSTILE)
def test_text_is_taken_as_it_stands(text, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    overrides = {
        **dict.fromkeys(("dataset_dir", "manifest", "output_dir", "run_name", "experiment"), text),
        **dict.fromkeys(("tracking_uri", "observer", "task_weights"), text),
        "train::handlers::1::description": text,
        "+notes": {"note": text, "more": [text, {"deep": text}]},
    }
    workflow = open_bundle(BUNDLE, "train", overrides=overrides)
    for _ in range(2):  # parsed again, nothing is evaluated a second time
        workflow.initialize()
        for key in ("dataset_dir", "manifest", "output_dir", "run_name", "tracking_uri", "observer"):
            assert workflow.parser.get_parsed_content(key) == text
        assert workflow.parser.get_parsed_content("cache_dir") == f"{text}/.cache"
        assert workflow.parser.get_parsed_content("train::handlers::1").description == text
        recorded = workflow.parser.get_parsed_content("parameters")["notes"]
        assert recorded["note"] == text
        assert recorded["more"] == [text, {"deep": text}]
    assert list(tmp_path.iterdir()) == []


def test_keys_of_a_value_are_taken_as_they_stand():
    value = {"a#b": "$1", "$x": {"@seed": "%"}, "a::b": [1, None, True]}
    parser = ConfigParser({"value": as_literal(value), "user": "@value"})
    assert parser.get_parsed_content("user") == value


@pytest.mark.parametrize("folder", ["PET #3", "$open('PWNED','w')", "@seed", "%x", "a,b"])
def test_bundle_lies_in_a_folder_of_any_name(folder, monkeypatch, tmp_path):
    place = tmp_path / folder / BUNDLE.name
    place.parent.mkdir()
    place.symlink_to(BUNDLE)
    overlay = place.parent / "overlay #1.yaml"
    overlay.write_text("seed: 3\n")
    monkeypatch.chdir(tmp_path)
    workflow = open_bundle(place.relative_to(tmp_path), "inference", variants=[str(overlay)])
    workflow.initialize()
    assert workflow.parser.get_parsed_content("weights") == f"{folder}/{BUNDLE.name}/models/model.pt"
    assert workflow.parser.get_parsed_content("seed") == 3
    assert [path.name for path in tmp_path.iterdir()] == [folder]


def test_file_that_the_user_chose_is_evaluated(tmp_path):
    overlay = tmp_path / "mine.yaml"
    overlay.write_text("seed: $1 + 2\nrun_name: '@parameters::label_column'\n")
    parser = open_bundle(BUNDLE, "train", variants=[str(overlay)]).parser
    assert parser.get_parsed_content("parameters::seed") == 3
    assert parser.get_parsed_content("run_name") == "amyloid_status"


@pytest.mark.parametrize("file", OURS, ids=lambda path: f"{path.parents[1].name}/{path.stem}")
def test_our_files_say_what_they_say_to_monai(file):
    assert repr(plain_values(read_configuration(file))) == repr(ConfigParser.load_config_file(file))


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("learning_rate", "1e-4", 1e-4),
        ("learning_rate", "1E-4", 1e-4),
        ("learning_rate", ".5", 0.5),
        ("learning_rate", "+2.", 2.0),
        ("batch_size", "1e1", 10),
        ("batch_size", "1_000", 1000),
        ("seed", "010", 10),  # YAML 1.1 reads 8
        ("seed", "-1", -1),
        ("run_name", "007", "007"),
        ("run_name", "2026-11-28", "2026-11-28"),
        ("run_name", "no", "no"),
        ("run_name", "1e-4", "1e-4"),
        ("run_name", "null", "null"),
        ("run_name", "12:30", "12:30"),
        ("run_name", "[a]", "[a]"),
        ("run_name", "a: b", "a: b"),
        ("run_name", "'quoted'", "'quoted'"),
        ("experiment", "42", "42"),
        ("generator_norm", "none", "none"),
        ("manifest", "007", "007"),  # an expression in the file, a path to read_manifest
        ("observer", "42", "42"),
        ("observer", "None", None),
        ("observer", "null", None),
        ("tracking_uri", "none", None),
        ("task_weights", "{a: b}", "{a: b}"),
        ("device", "cpu", "cpu"),
        ("channels_last", "No", False),
        ("channels_last", "true", True),
        ("betas", "[.5, 9e-1]", [0.5, 0.9]),
        ("spatial_size", "[64, 96]", [64, 96]),
        ("generator_channels", "[1e1, 8.0]", [10, 8]),
        (
            "stages",
            "[{name: no, epochs: 1e1, train: [task]}]",
            [{"name": "no", "epochs": 10, "train": ["task"]}],
        ),
        ("optimizers::generator::lr", "1e-4", 1e-4),
        ("optimizers#task#weight_decay", "0", 0),
        ("train::handlers::1::description", "7", "7"),
    ],
)
def test_text_becomes_what_its_key_takes(key, text, value):
    parser = open_bundle(BUNDLE, "train", overrides={key: text}).parser
    name = key.replace("#", "::")
    found = by_short_names(parser.get())[key] if name == key.partition("::")[0] else parser[name]
    assert (found, type(found)) == (value, type(value))


def test_null_is_a_number_to_the_component_that_takes_one():
    parser = open_bundle(BUNDLES / "histology_srgan", "train", overrides={"crop_size": "64"}).parser
    assert parser["parameters::crop_size"] == 64
    overrides = {"saturation_delays_ms": "[150.5, 2e3]", "contrasts": "[no, 007]", "input_channels": "none"}
    parser = open_bundle(BUNDLES / "multicontrast_mri_taskgan", "train", overrides=overrides).parser
    assert parser["parameters::saturation_delays_ms"] == [150.5, 2000.0]
    assert parser["parameters::contrasts"] == ["no", "007"]
    assert parser["parameters::input_channels"] is None


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("learning_rate", "fast", r"learning_rate takes a number, got 'fast'"),
        ("learning_rate", "0,001", r"learning_rate takes a number"),
        ("learning_rate", "nan", r"learning_rate takes a number"),
        ("learning_rate", "1e999", r"learning_rate takes a finite number"),
        ("learning_rate", True, r"learning_rate takes a number, got True"),
        ("batch_size", "8.5", r"batch_size takes a whole number, got '8\.5'"),
        ("seed", "null", r"seed takes a whole number, got 'null'"),
        ("channels_last", "maybe", r"channels_last takes true or false, got 'maybe'"),
        ("betas", "0.5", r"betas takes a list such as \[0\.5, 0\.999\], got '0\.5'"),
        ("spatial_size", "[64, wide]", r"spatial_size::1 takes a whole number, got 'wide'"),
        ("spatial_size", "[64.5, 64]", r"spatial_size::0 takes a whole number, got '64\.5'"),
        ("generator_channels", "[8, 8.5]", r"generator_channels::1 takes a whole number, got '8\.5'"),
        ("device", "meta", r"device 'meta' cannot be used"),
        ("run_name", 7, r"run_name takes text, got 7"),
        ("generator", "unet", r"generator takes a component"),
        ("network_def", "@task", r"network_def takes a component"),
        ("parameters", "{a: {_target_: os.system, command: x}}", r"got a component"),
        ("generator", "{_target_: os.system, command: x}", r"generator got a component"),
        ("stages", "[{_target_: os.system}]", r"stages got a component"),
        ("generator::_target_", "os.system", r"got a component, 'os.system': those run code"),
        ("+seed", "1", r"\+seed adds to a list, or to keys with values"),
    ],
)
def test_value_of_another_kind_is_refused(key, value, message):
    with pytest.raises(InputError, match=message):
        open_bundle(BUNDLE, "train", overrides={key: value})


def test_overlay_says_what_people_mean(tmp_path):
    overlay = tmp_path / "mine.YAML"
    overlay.write_text(
        "learning_rate: 1e-4\nrun_name: 007\nexperiment: 2026-11-28\nchannels_last: no\nobserver: null\n"
        "train#trainer#accumulation: 1e0\n+notes: {note: no, rate: 2e-3}\ngenerator_norm: none\n"
        "+parameters: {batch_size: 1e1}\n"
        "stages: [&first {name: pretrain, epochs: 1e0}, {<<: *first, name: no, train: [task]}]\n",
        encoding="utf-8-sig",
    )
    found = bundle_configuration(BUNDLE, "train", [str(overlay)])
    numbers = found["parameters"]
    assert (numbers["learning_rate"], numbers["batch_size"]) == (1e-4, 10)
    assert (found["run_name"], found["experiment"]) == ("007", "2026-11-28")
    assert found["channels_last"] is False
    assert found["observer"] is None
    assert numbers["generator_norm"] == "none"
    assert found["train"]["trainer"]["accumulation"] == 1
    assert numbers["seed"] == 0
    assert numbers["notes"] == {"note": False, "rate": 2e-3}
    assert numbers["stages"][1] == {"name": "no", "epochs": 1, "train": ["task"]}


def test_overlay_may_be_json(tmp_path):
    overlay = tmp_path / "mine.json"
    overlay.write_text(
        '{"learning_rate": 1e-4, "run_name": 7, "+betas": [0.1], "seed": "3", "workers": null}'
    )
    found = bundle_configuration(BUNDLE, "train", ["demo", str(overlay)])
    numbers = found["parameters"]
    assert (numbers["learning_rate"], found["run_name"], numbers["seed"]) == (1e-4, "7", 3)
    assert numbers["betas"] == [0.5, 0.999, 0.1]
    assert found["workers"] is None


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.yaml", "learning_rate: fast\n", r"a\.yaml: learning_rate takes a number, got 'fast'"),
        ("a.yaml", "seed: 1\nseed: 2\n", r"a\.yaml: is no YAML file .*key seed stands there twice"),
        ("a.json", '{"seed": 1, "seed": 2}', r"a\.json: is no JSON file .*key seed stands there twice"),
        ("a.json", "{", r"a\.json: is no JSON file"),
        ("a.yaml", "a: [", r"a\.yaml: is no YAML file"),
        ("a.yaml", "- seed\n", r"a\.yaml: holds a list, expected keys with values"),
        ("a.yaml", "seed\n", r"a\.yaml: holds the text 'seed', expected keys"),
        (
            "a.yaml",
            "train::trainer::sed: 1\n",
            r"a\.yaml: at 'train::trainer' has no key 'sed'; did you mean",
        ),
        ("a.yaml", "+sed: 1\n", r"a\.yaml: has no key 'sed'"),
        ("a.yaml", "parameters::sed: 1\n", r"at 'parameters' has no key 'sed'; did you mean 'seed'"),
        ("a.yaml", "+parameters: {sed: 1}\n", r"at 'parameters' has no key 'sed'; did you mean 'seed'"),
        ("a.yaml", "parameters: {seed: fast}\n", r"a\.yaml: parameters::seed takes a whole number"),
        ("a.yaml", "+seed: 1\n", r"a\.yaml: \+seed adds to a list"),
        ("a.yaml", "config_file: train.yaml\n", r"config_file is for python -m monai\.bundle run"),
    ],
)
def test_overlay_that_is_wrong_is_refused(name, text, message, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message) as error:
        bundle_configuration(BUNDLE, "train", [str(tmp_path / name)])
    assert "\n" not in str(error.value)


def test_empty_overlay_changes_nothing(tmp_path):
    (tmp_path / "a.yaml").write_text("# nothing yet\n")
    assert bundle_configuration(BUNDLE, "train", [str(tmp_path / "a.yaml")]) == bundle_configuration(
        BUNDLE, "train"
    )


def test_home_folder_is_written_out(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    configuration = {"output_dir": "runs", "observer": None}
    assert fit_value("~/run", configuration, "output_dir") == f"{tmp_path}/run"
    assert fit_value("~", configuration, "output_dir") == str(tmp_path)
    for name in ("~scan.nii.gz", "a~/b", "./~/run", "~~/run"):
        assert fit_value(name, configuration, "output_dir") == name
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # no HOME, no entry of this user
    with pytest.raises(
        InputError, match=r"~/run: the home folder is not known .* Remedy: write the path out"
    ):
        fit_value("~/run", configuration, "output_dir")


def test_numbers_that_yaml_takes_for_text_are_refused_by_their_key():
    require_numbers({"a": 1, "b": ["batch", None, 2.5], "c": {"d": "e3"}, "run": "007"})
    for text, remedy in (("1e-4", "0.0001"), ("1.0e5", "100000.0"), ("1E-12", "1.0e-12")):
        with pytest.raises(InputError, match=rf"c::d::0 takes .* text '{text}'.* write {remedy},"):
            require_numbers({"a": 1, "c": {"d": [text]}})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("overlay.yaml", "[" * 5000),
        ("overlay.json", '{"a":' * 100_000),
        ("overlay.yaml", "a: &x [*x]"),
        ("overlay.yaml", 'seed: "\\ud800"'),
        ("overlay.json", '{"seed": "\\ud800"}'),
    ],
)
def test_an_overlay_that_has_no_end_or_is_no_text_is_refused(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=r"overlay\.(yaml: is no YAML|json: is no JSON) file"):
        read_configuration(tmp_path / name)
