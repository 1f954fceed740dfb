"""Presets: they load, they can be answered, they give nothing away, they survive JSON."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from medrestore.checks import InputError
from medrestore.study.planning.protocols import find_protocol, presets, read_yaml, require_neutral, with_guess
from medrestore.study.protocol import Protocol

REGIONS = (
    "rctu_lateral_temporal",
    "rctu_frontal",
    "rctu_posterior_cingulate_precuneus",
    "rctu_parietal",
)
ARMS = (
    "standard",
    "standard_dose",
    "low_dose",
    "full_dose",
    "gan",
    "taskgan",
    "target",
    "degraded",
    "restored",
)


@pytest.fixture(params=sorted(presets()))
def protocol(request: pytest.FixtureRequest, tmp_path: Any) -> Protocol:
    return find_protocol(request.param, folder=tmp_path)[0]


def answers_of(protocol: Protocol, **given: Any) -> dict[str, Any]:
    """Answer every question that is asked, by its first possible answer unless given."""
    first = {"yes_no": False, "point": [1.0, 2.0, 3.0], "text": "a"}
    answers: dict[str, Any] = {}
    for question in protocol.questions:
        asked = all(answers.get(other) == wanted for other, wanted in question.when.items())
        if question.type != "derived" and asked:
            default = next(iter(question.options), first.get(question.type))
            answers[question.name] = given.get(question.name, default)
    return answers


def test_there_are_three_presets():
    assert list(presets()) == ["florbetaben", "histology", "mr_contrast"]


def test_a_preset_survives_json(protocol):
    assert Protocol.from_dict(json.loads(json.dumps(protocol.as_dict()))) == protocol
    guessed = with_guess(protocol, ["one kind", "another"])
    assert Protocol.from_dict(json.loads(json.dumps(guessed.as_dict()))) == guessed


def test_every_branch_of_a_preset_can_be_answered(protocol):
    yes_no = [question.name for question in protocol.questions if question.type == "yes_no"]
    for values in itertools.product((False, True), repeat=len(yes_no)):
        checked = protocol.check_answers(answers_of(protocol, **dict(zip(yes_no, values, strict=True))))
        for question in protocol.questions:
            if not question.when:
                assert question.name in checked


def test_a_preset_can_be_read_with_digits_arrows_and_the_mouse(protocol):
    for question in protocol.questions:
        if question.type == "choice":
            assert list(question.options) == list(range(1, len(question.options) + 1))
            assert len(question.options) <= 9
        assert question.text
        assert question.type in ("choice", "yes_no", "point", "derived", "text")
    assert protocol.display["planes"][0] == "axial"
    assert protocol.display["colormap"] == protocol.display["colormaps"][0] == "gray"
    assert protocol.instructions.count("\n") > 3


def test_a_preset_names_no_usual_arm(protocol):
    require_neutral(protocol, ARMS)
    served = json.dumps(protocol.as_dict()).casefold()
    for word in ("standard", "gan", "low dose", "low-dose", "restored", "degraded", "synthe", "generat"):
        assert word not in served.replace("organ", "")


def test_quality_runs_from_uninterpretable_to_excellent(protocol):
    assert protocol[protocol.quality].options == {
        1: "Uninterpretable",
        2: "Poor",
        3: "Adequate",
        4: "Good",
        5: "Excellent",
    }


def test_a_preset_says_who_must_check_it():
    for name in ("florbetaben", "mr_contrast"):
        head = presets()[name].read_text().partition("\nname:")[0].casefold()
        assert "to be checked by the physician who is responsible for the study" in " ".join(
            head.replace("#", " ").split()
        )


# Florbetaben, as the tracer's reading method asks


@pytest.fixture
def florbetaben(tmp_path: Any) -> Protocol:
    return find_protocol("florbetaben", folder=tmp_path)[0]


def test_florbetaben_asks_in_the_order_of_reading(florbetaben):
    assert [(question.name, question.type) for question in florbetaben.questions] == [
        *((region, "choice") for region in REGIONS),
        ("bapl", "derived"),
        ("amyloid_status", "yes_no"),
        ("confidence", "choice"),
        ("score", "derived"),
        ("image_quality", "choice"),
        ("artefact", "yes_no"),
        ("artefact_location", "point"),
    ]
    assert (florbetaben.decision, florbetaben.score, florbetaben.quality) == (
        "amyloid_status",
        "score",
        "image_quality",
    )
    assert all(list(florbetaben[region].options) == [1, 2, 3] for region in REGIONS)
    assert len(florbetaben["confidence"].options) == 5
    assert florbetaben.display["colormaps"][:2] == ["gray", "gray_inverted"]


@pytest.mark.parametrize(
    ("uptake", "load"),
    [((1, 1, 1, 1), 1), ((1, 2, 1, 1), 2), ((2, 2, 2, 2), 2), ((1, 1, 1, 3), 3), ((3, 2, 1, 1), 3)],
)
def test_plaque_load_is_that_of_the_region_with_most(florbetaben, uptake, load):
    answers = answers_of(florbetaben, **dict(zip(REGIONS, uptake, strict=True)))
    assert florbetaben.check_answers(answers)["bapl"] == load


@pytest.mark.parametrize(
    ("positive", "confidence", "score"), [(False, 5, 1), (False, 1, 5), (True, 1, 6), (True, 5, 10)]
)
def test_score_of_florbetaben(florbetaben, positive, confidence, score):
    answers = answers_of(florbetaben, amyloid_status=positive, confidence=confidence)
    assert florbetaben.check_answers(answers)["score"] == score


def test_a_positive_scan_is_one_with_plaque_load(florbetaben):
    assert florbetaben.consistent == {"amyloid_status": ("bapl", 2)}


def test_an_artefact_needs_its_place(florbetaben):
    answers = answers_of(florbetaben, artefact=True)
    assert florbetaben.check_answers(answers)["artefact_location"] == [1.0, 2.0, 3.0]
    del answers["artefact_location"]
    with pytest.raises(InputError, match="answer 'artefact_location' is missing"):
        florbetaben.check_answers(answers)


# The others


def test_mr_asks_for_conspicuity_of_a_lesion_only(tmp_path):
    protocol, _ = find_protocol("mr_contrast", folder=tmp_path)
    assert protocol.decision == "lesion"
    assert "conspicuity" not in protocol.check_answers(answers_of(protocol))
    assert protocol.check_answers(answers_of(protocol, lesion=True))["conspicuity"] == 1
    assert {"sharpness", "artefacts", "image_quality"} <= set(answers_of(protocol))


def test_histology_is_2d_and_needs_no_truth(tmp_path):
    protocol, _ = find_protocol("histology", folder=tmp_path)
    assert protocol.dimensions == 2
    assert protocol.decision == protocol.score == ""
    assert len(protocol["preference"].options) == 5
    assert protocol["would_report"].type == "yes_no"


# Questions of one's own


def test_a_copied_preset_is_a_protocol_of_ones_own(tmp_path):
    for name, path in presets().items():
        copy = tmp_path / f"{name}.yaml"
        copy.write_text(path.read_text())
        protocol, source = find_protocol(f"{name}.yaml", folder=tmp_path)
        assert source == str(copy)
        assert protocol == find_protocol(name, folder=tmp_path)[0]


def test_a_fault_names_the_file_and_the_line_or_question(tmp_path):
    (tmp_path / "own.yaml").write_text("questions:\n- {name: q, text: Seen, type: yesno}\n")
    with pytest.raises(InputError, match=r"own\.yaml: type of question 'q' must be one of"):
        find_protocol("own.yaml", folder=tmp_path)
    (tmp_path / "own.yaml").write_text("questions:\n- {name: q, name: p}\n")
    with pytest.raises(InputError, match=r"own\.yaml: line 2, column 13: .*the key 'name' is there twice"):
        find_protocol("own.yaml", folder=tmp_path)


def test_yaml_anchors_and_merges_are_no_double_keys(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("base: &base {a: 1, b: 2}\nother:\n  <<: *base\n  b: 3\n")
    assert read_yaml(path)["other"] == {"a": 1, "b": 3}


def test_presets_are_data_of_the_package():
    from importlib.resources import files

    found = {path.name for path in (files("medrestore.study.planning") / "presets").iterdir()}
    assert {"florbetaben.yaml", "mr_contrast.yaml", "histology.yaml"} <= found
