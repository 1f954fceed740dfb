"""Bundles by name or path, overlays in order, unknown keys refused at every level."""

from pathlib import Path

import pytest

from medrestore.checks import InputError
from medrestore.engines.bundle import bundle_files, open_bundle
from medrestore.engines.shelf import find_bundle

BUNDLE = Path(__file__).parents[2] / "bundles" / "amyloid_pet_taskgan"


def test_bundle_is_found_by_name_and_by_path(tmp_path):
    assert find_bundle("amyloid_pet_taskgan").resolve() == BUNDLE.resolve()
    assert find_bundle(BUNDLE) == BUNDLE
    with pytest.raises(InputError, match=r"is no bundle .*Bundles that ship: amyloid_pet_taskgan"):
        find_bundle(tmp_path)


def test_files_are_the_configuration_then_the_overlays(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("seed: 3\n")
    files = bundle_files(BUNDLE, "train", ["demo", str(own), "gan"])
    assert files == [
        str(path)
        for path in (
            BUNDLE / "configs/train.yaml",
            BUNDLE / "variants/demo.yaml",
            own,
            BUNDLE / "variants/gan.yaml",
        )
    ]
    with pytest.raises(
        InputError, match=r"l2\.yaml: there is no such overlay\. The bundle has: blend, demo, gan, guided, l1"
    ):
        bundle_files(BUNDLE, "train", ["l2"])
    with pytest.raises(InputError, match=r"deploy\.yaml: is missing from the bundle"):
        bundle_files(BUNDLE, "deploy", [])


def test_later_overlay_and_override_win(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("pretrain_epochs: 5\nrun_name: mine\n")
    parser = open_bundle(
        BUNDLE,
        "train",
        variants=["demo", str(own)],
        overrides={"run_name": "given", "train::trainer::accumulation": 4},
    ).parser
    assert parser["parameters::pretrain_epochs"] == 5  # demo says 18
    assert parser["workers"] == 0  # demo
    assert parser["run_name"] == "given"
    assert parser["train"]["trainer"]["accumulation"] == 4
    assert parser["bundle_root"] == str(BUNDLE)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (
            "train::trainer::emadecay",
            r"train\.yaml at 'train::trainer' has no key 'emadecay'; did you mean 'ema_decay'",
        ),
        ("trane::trainer::seed", r"train\.yaml has no key 'trane'; did you mean 'train'"),
        ("train::handlers::9", r"at 'train::handlers' has no key '9'"),
        ("seed::more", r"no key 'seed::more': 'seed' holds no keys"),
    ],
)
def test_unknown_nested_key_is_refused(key, message):
    with pytest.raises(InputError, match=message):
        open_bundle(BUNDLE, "train", overrides={key: 1})


def test_known_key_in_a_list_is_accepted():
    parser = open_bundle(BUNDLE, "train", overrides={"train::handlers::0::interval": 9}).parser
    assert parser["train"]["handlers"][0]["interval"] == 9


@pytest.mark.parametrize(
    ("target", "remedy"),
    [
        ("medrestore.inference.restore.load_restorer", "medrestore.inference.restorer.load_restorer now"),
        ("medrestore.gone.nobody", "see the bundles that ship with it"),
    ],
)
def test_a_component_that_is_elsewhere_is_named_with_its_place(target, remedy, tmp_path):
    overlay = tmp_path / "mine.yaml"
    overlay.write_text(f"inferer: {{_target_: {target}}}\n", encoding="utf-8")
    with pytest.raises(InputError, match=f"mine.yaml: inferer names {target}.* Remedy: .*{remedy}"):
        open_bundle("amyloid_pet_taskgan", "inference", variants=[str(overlay)])


def test_overlay_whose_parameters_are_empty_changes_none(tmp_path):
    overlay = tmp_path / "mine.yaml"
    overlay.write_text("parameters:\n#  seed: 1\n", encoding="utf-8")
    found, plain = (open_bundle(BUNDLE, "train", variants=names).parser for names in ([str(overlay)], []))
    assert found["parameters"] == plain["parameters"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optimizers::generator::lr: '@learning_rate'", "@learning_rate, .*write @parameters::learning_rate"),
        ("run_name: $@run_nam + '1'", "@run_nam, .*name a key"),
        ("run_name: '@parameters::sed'", "@parameters::sed, .*name a key"),
    ],
)
def test_reference_to_what_is_not_there_is_named(text, message, tmp_path):
    overlay = tmp_path / "mine.yaml"
    overlay.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=rf"mine\.yaml: refers to {message}"):
        open_bundle(BUNDLE, "train", variants=["demo", str(overlay)])
