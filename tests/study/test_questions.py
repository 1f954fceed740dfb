"""Questions: what a protocol may say, which answers it takes, and what follows from them."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import pytest

from medrestore.checks import InputError
from medrestore.study.layout import canonical_json
from medrestore.study.protocol import Protocol
from medrestore.study.questions import Question, answer_key

LEVELS = {1: "none", 2: "some", 3: "much"}
PROTOCOL: dict[str, Any] = {
    "name": "own",
    "title": "A study",
    "modality": "PET",
    "instructions": "Read.",
    "display": {"colormap": "gray", "colormaps": ["gray", "hot"], "planes": ["axial", "coronal"]},
    "questions": [
        {"name": "left", "text": "Left?", "type": "choice", "options": LEVELS},
        {"name": "right", "text": "Right?", "type": "choice", "options": LEVELS},
        {"name": "load", "text": "Load", "type": "derived", "rule": {"maximum_of": ["left", "right"]}},
        {"name": "positive", "text": "Positive?", "type": "yes_no"},
        {"name": "confidence", "text": "Sure?", "type": "choice", "options": LEVELS},
        {
            "name": "score",
            "text": "Score",
            "type": "derived",
            "rule": {"signed_confidence": ["positive", "confidence"]},
        },
        {"name": "quality", "text": "Quality?", "type": "choice", "options": {1: "bad", 2: "good"}},
        {"name": "count", "text": "How many?", "type": "integer", "range": [0, 10], "required": False},
        {"name": "size", "text": "How large?", "type": "number", "range": [0.5, 90], "required": False},
        {"name": "artefact", "text": "Artefact?", "type": "yes_no"},
        {"name": "place", "text": "Where?", "type": "point", "when": {"artefact": True}},
        {"name": "remark", "text": "Remark", "type": "text", "required": False},
    ],
    "decision": "positive",
    "score": "score",
    "quality": "quality",
    "consistent": {"positive": ["load", 2]},
}
ANSWERS = {"left": 1, "right": 3, "positive": True, "confidence": 2, "quality": 2, "artefact": False}


def changed(**changes: Any) -> dict[str, Any]:
    """Return the protocol with keys changed; ``QUESTION__KEY`` changes a question, None leaves a key out."""
    entry = copy.deepcopy(PROTOCOL)
    for name, value in changes.items():
        question, _, key = name.rpartition("__")
        place = next(q for q in entry["questions"] if q["name"] == question) if question else entry
        if value is None:
            place.pop(key, None)
        else:
            place[key] = value
    return entry


@pytest.fixture
def protocol() -> Protocol:
    return Protocol.load(copy.deepcopy(PROTOCOL), where="own.yaml")


def one(**entry: Any) -> Question:
    """Return a question of a type."""
    return Question.load({"name": "q", "text": "Q?", **entry}, where="own.yaml")


# What a protocol may say


def test_a_protocol_survives_json(protocol):
    served = json.loads(json.dumps(protocol.as_dict()))
    assert Protocol.from_dict(served) == protocol
    assert Protocol.from_dict(served).as_dict() == protocol.as_dict()
    assert served["questions"][0]["options"] == [[1, "none"], [2, "some"], [3, "much"]]


def test_the_least_protocol_has_defaults():
    protocol = Protocol.load({"questions": [{"name": "q", "text": "Q?", "type": "yes_no"}]}, where="own.yaml")
    assert (protocol.title, protocol.dimensions, protocol.decision) == ("Reader study", 3, "")
    assert protocol["q"].required
    assert protocol.consistent == {}
    with pytest.raises(InputError, match="no question is called 'p'; there are q"):
        protocol["p"]


def test_options_keep_their_order():
    question = one(type="choice", options={3: "much", 1: "none", 2: 7})
    assert list(question.options.items()) == [(3, "much"), (1, "none"), (2, "7")]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("text", "a question must be a mapping, got 'text'"),
        ({"name": "q", "typ": "yes_no"}, "question has no key 'typ'; did you mean 'type'?"),
        ({"name": "q", "type": "yes_no"}, "question 'q' needs a text 'text'"),
        ({"text": "Q?", "type": "yes_no"}, "question '' needs a text 'name'"),
        ({"name": "q", "text": "Q?", "type": True}, "question 'q' needs a text 'type'"),
        (
            {"name": "Q 1", "text": "Q?", "type": "yes_no"},
            "must be lower-case letters, digits and _, got 'Q 1'",
        ),
        (
            {"name": "q\n", "text": "Q?", "type": "yes_no"},
            "must be lower-case letters, digits and _, got 'q\\n'",
        ),
        (
            {"name": "q", "text": "Q?", "type": "yesno"},
            "type of question 'q' must be one of 'choice', 'yes_no'",
        ),
        ({"name": "q", "text": "Q?", "type": "choice"}, "a choice, and only a choice, has options"),
        ({"name": "q", "text": "Q?", "type": "yes_no", "options": {1: "a"}}, "a choice, and only a choice"),
        ({"name": "q", "text": "Q?", "type": "choice", "options": ["a"]}, "options must be a mapping"),
        ({"name": "q", "text": "Q?", "type": "choice", "options": {"a": "b"}}, "options must be numbered"),
        ({"name": "q", "text": "Q?", "type": "choice", "options": {True: "b"}}, "options must be numbered"),
        (
            {"name": "q", "text": "Q?", "type": "choice", "options": {1: True}},
            "option 1 needs a text, got True",
        ),
        (
            {"name": "q", "text": "Q?", "type": "choice", "options": {1: None}},
            "option 1 needs a text, got None",
        ),
        ({"name": "q", "text": "Q?", "type": "integer", "range": [5, 5]}, "range must be [least, greatest]"),
        ({"name": "q", "text": "Q?", "type": "integer", "range": "12"}, "range must be [least, greatest]"),
        ({"name": "q", "text": "Q?", "type": "integer", "range": [1]}, "range must be [least, greatest]"),
        ({"name": "q", "text": "Q?", "type": "integer", "range": [0, math.inf]}, "range must be [least, gr"),
        ({"name": "q", "text": "Q?", "type": "yes_no", "range": [0, 1]}, "range must be [least, greatest]"),
        ({"name": "q", "text": "Q?", "type": "derived"}, "a derived value, and only that, has one rule"),
        (
            {"name": "q", "text": "Q?", "type": "yes_no", "rule": {"maximum_of": ["a"]}},
            "and only that, has one",
        ),
        ({"name": "q", "text": "Q?", "type": "derived", "rule": ["maximum_of"]}, "rule must be a mapping"),
        ({"name": "q", "text": "Q?", "type": "derived", "rule": {"maximum": ["a"]}}, "rule must be one of"),
        (
            {"name": "q", "text": "Q?", "type": "derived", "rule": {"maximum_of": "abc"}},
            "a list of questions",
        ),
        ({"name": "q", "text": "Q?", "type": "derived", "rule": {"maximum_of": []}}, "a list of questions"),
        (
            {"name": "q", "text": "Q?", "type": "derived", "rule": {"signed_confidence": ["a"]}},
            "of two questions",
        ),
        ({"name": "q", "text": "Q?", "type": "yes_no", "required": "no"}, "required must be true or false"),
        ({"name": "q", "text": "Q?", "type": "yes_no", "help": 7}, "help must be a text, got 7"),
        ({"name": "q", "text": "Q?", "type": "yes_no", "when": "artefact"}, "when must be a mapping"),
    ],
)
def test_wrong_questions_are_refused(entry, message):
    with pytest.raises(InputError) as caught:
        Question.load(entry, where="own.yaml")
    assert str(caught.value).startswith("own.yaml: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"question": []}, "own.yaml has no key 'question'; did you mean 'questions'?"),
        ({"questions": None}, "questions must be a list of at least one question"),
        ({"questions": "all"}, "questions must be a list of at least one question"),
        ({"right__name": "left"}, "two questions are called 'left'"),
        ({"remark__name": "read_id"}, "no question may be called 'read_id'"),
        ({"remark__name": "reason"}, "no question may be called 'reason'"),
        (
            {"left__when": {"positive": True}},
            "question 'left' refers to 'positive', which does not come before",
        ),
        ({"left__when": {"left": 1}}, "question 'left' refers to 'left', which does not come before"),
        (
            {"load__rule": {"maximum_of": ["left", "up"]}},
            "question 'load' refers to 'up', which does not come",
        ),
        ({"place__when": {"artefact": 1}}, "'place' is asked when 'artefact' is 1, which is no answer to it"),
        ({"place__when": {"left": 4}}, "'place' is asked when 'left' is 4, which is no answer to it"),
        ({"place__when": {"left": True}}, "'place' is asked when 'left' is True, which is no answer to it"),
        (
            {"place__when": {"load": "high"}},
            "'place' is asked when 'load' is 'high', which is no answer to it",
        ),
        (
            {"score__rule": {"maximum_of": ["left", "positive"]}},
            "maximum_of of question 'score' needs questions wi",
        ),
        (
            {"score__rule": {"signed_confidence": ["left", "right"]}},
            "signed_confidence of question 'score' needs",
        ),
        (
            {"score__rule": {"signed_confidence": ["positive", "load"]}},
            "signed_confidence of question 'score' n",
        ),
        ({"confidence__options": {0: "a", 1: "b"}}, "a choice whose options are numbered from 1"),
        ({"confidence__options": {1: "a", 3: "b"}}, "a choice whose options are numbered from 1"),
        ({"decision": "positiv"}, "decision names no question: 'positiv'"),
        ({"decision": "left"}, "decision 'left' must be a yes_no question"),
        ({"decision": ["left"]}, "decision must be a text, got ['left']"),
        ({"score": "positive"}, "score 'positive' must be a choice or integer or number or derived question"),
        ({"quality": "load"}, "quality 'load' must be a choice question"),
        ({"positive__required": False}, "decision 'positive' needs an answer to 'positive' in every read"),
        ({"positive__when": {"left": 1}}, "decision 'positive' needs an answer to 'positive' in every read"),
        ({"confidence__required": False}, "score 'score' needs an answer to 'confidence' in every read"),
        ({"quality__when": {"left": 1}}, "quality 'quality' needs an answer to 'quality' in every read"),
        ({"consistent": ["positive"]}, "consistent must be a mapping"),
        ({"consistent": {"positive": "load"}}, "consistent: positive must be a list, got 'load'"),
        ({"consistent": {"positive": ["load"]}}, "consistent must map a yes_no question to"),
        ({"consistent": {"positive": ["load", "2"]}}, "consistent must map a yes_no question to"),
        ({"consistent": {"positive": ["artefact", 1]}}, "consistent must map a yes_no question to"),
        ({"consistent": {"left": ["load", 2]}}, "consistent must map a yes_no question to"),
        ({"consistent": {"up": ["load", 2]}}, "consistent must map a yes_no question to"),
        ({"dimensions": 4}, "dimensions must be one of 2, 3, got 4"),
        ({"title": 7}, "title must be a text, got 7"),
        ({"instructions": ["a"]}, "instructions must be a text, got ['a']"),
        ({"display": "gray"}, "display must be a mapping"),
        ({"display": {"color": "gray"}}, "display has no key 'color'; did you mean 'colormap'?"),
        ({"display": {"colormaps": "gray"}}, "display.colormaps must be a list of names, got 'gray'"),
        (
            {"display": {"colormap": "hot", "colormaps": ["gray"]}},
            "display.colormap must be one of display.color",
        ),
        (
            {"display": {"planes": ["axial", "transversal"]}},
            "display.planes must be of axial, coronal, sagittal",
        ),
        ({"display": {"convention": "surgical"}}, "display.convention must be radiological or neurological"),
    ],
)
def test_wrong_protocols_are_refused(changes, message):
    with pytest.raises(InputError) as caught:
        Protocol.load(changed(**changes), where="own.yaml")
    assert message in str(caught.value)


def test_a_condition_may_ask_for_a_derived_value():
    entry = changed(place__when={"load": 3})
    protocol = Protocol.load(entry, where="own.yaml")
    with pytest.raises(InputError, match="answer 'place' is missing"):
        protocol.check_answers(ANSWERS)
    assert "place" not in protocol.check_answers({**ANSWERS, "right": 2})


# Answers


@pytest.mark.parametrize(
    ("entry", "good"),
    [
        ({"type": "choice", "options": LEVELS}, [1, 2, 3]),
        ({"type": "yes_no"}, [True, False]),
        ({"type": "integer", "range": [0, 10]}, [0, 10, -0]),
        ({"type": "integer"}, [-7, 10**15]),
        ({"type": "number", "range": [0.5, 90]}, [0.5, 90, 1e-0]),
        ({"type": "number"}, [-1e300]),
        ({"type": "text"}, ["a", "ä 漢 😀", "x" * 2000]),
        ({"type": "point"}, [[0, 0, 0], [-1.5, 2.25, 1e3]]),
    ],
)
def test_good_answers_are_taken_as_they_are(entry, good):
    question = one(**entry)
    for value in good:
        assert question.check(value) == value
        assert type(question.check(value)) is type(value)


@pytest.mark.parametrize(
    ("entry", "wanted", "bad"),
    [
        ({"type": "choice", "options": LEVELS}, "one of 1, 2, 3", [0, 4, "1", True, 1.0, None, [1], {}]),
        ({"type": "yes_no"}, "true or false", [0, 1, "yes", None, [True]]),
        ({"type": "integer", "range": [0, 10]}, r"integer in \[0.0, 10.0\]", [-1, 11, 0.5, True, "1", None]),
        ({"type": "integer"}, "integer", [math.inf, math.nan, 10**400, 1.5]),
        (
            {"type": "number", "range": [0.5, 90]},
            r"number in \[0.5, 90.0\]",
            [0.4, 91, math.nan, False, "1", 10**400],
        ),
        ({"type": "text"}, "text of up to 2000 characters", ["x" * 2001, 7, None, ["a"], "\ud800"]),
        (
            {"type": "point"},
            r"\[x, y, z\] in mm",
            [[1, 2], [1, 2, 3, 4], "1 2 3", [1, 2, "3"], [1, 2, math.nan], [1, 2, True], [1, 2, 10**400]],
        ),
    ],
)
def test_other_answers_are_refused(entry, wanted, bad):
    question = one(**entry)
    for value in bad:
        with pytest.raises(InputError, match=f"answer 'q' must be {wanted}, got ") as caught:
            question.check(value)
        assert len(str(caught.value)) < 150
        str(caught.value).encode()  # what a reader sent must not break the response


def test_a_whole_number_has_one_form():
    # 3 and 3.0 are the same answer: the record must not hold two texts of it.
    value = one(type="integer").check(3.0)
    assert (value, type(value)) == (3, int)


def test_answers_come_back_in_order_with_what_follows_from_them(protocol):
    checked = protocol.check_answers(dict(reversed(ANSWERS.items())))
    assert list(checked.items()) == [
        ("left", 1),
        ("right", 3),
        ("load", 3),
        ("positive", True),
        ("confidence", 2),
        ("score", 5),
        ("quality", 2),
        ("artefact", False),
    ]
    assert canonical_json(checked) == canonical_json(protocol.check_answers(ANSWERS))
    assert protocol.check_answers(checked) == checked


@pytest.mark.parametrize(
    ("positive", "confidence", "score"),
    [(False, 3, 1), (False, 2, 2), (False, 1, 3), (True, 1, 4), (True, 2, 5), (True, 3, 6)],
)
def test_the_score_runs_from_surely_negative_to_surely_positive(protocol, positive, confidence, score):
    answers = {**ANSWERS, "positive": positive, "confidence": confidence}
    assert protocol.check_answers(answers)["score"] == score


def test_derived_values_must_be_the_derived_ones(protocol):
    assert protocol.check_answers({**ANSWERS, "load": 3, "score": 5})["load"] == 3
    with pytest.raises(InputError, match="answer 'load' follows from others as 3, got 2"):
        protocol.check_answers({**ANSWERS, "load": 2})
    with pytest.raises(InputError, match="answer 'load' follows from others as 1, got True"):
        protocol.check_answers({**ANSWERS, "right": 1, "load": True})


def test_required_answers_must_be_there(protocol):
    for name in ANSWERS:
        with pytest.raises(InputError, match=f"answer '{name}' is missing"):
            protocol.check_answers({key: value for key, value in ANSWERS.items() if key != name})
    with pytest.raises(InputError, match="answer 'left' is missing"):
        protocol.check_answers({**ANSWERS, "left": None})


def test_conditional_questions_are_asked_on_their_condition_alone(protocol):
    with pytest.raises(InputError, match="answer 'place' is missing"):
        protocol.check_answers({**ANSWERS, "artefact": True})
    assert protocol.check_answers({**ANSWERS, "artefact": True, "place": [1, 2, 3]})["place"] == [1, 2, 3]
    with pytest.raises(InputError, match=r"answer 'place' is asked only when \{'artefact': True}"):
        protocol.check_answers({**ANSWERS, "place": [1, 2, 3]})


def test_a_condition_on_a_question_that_is_not_asked_does_not_hold():
    entry = changed()
    entry["questions"].append(
        {"name": "kind", "text": "Kind?", "type": "text", "when": {"remark": "yes"}, "required": True}
    )
    protocol = Protocol.load(entry, where="own.yaml")
    assert "kind" not in protocol.check_answers(ANSWERS)


def test_unknown_answers_are_refused(protocol):
    with pytest.raises(InputError, match="answers has no key 'confidance'; did you mean 'confidence'"):
        protocol.check_answers({**ANSWERS, "confidance": 3})


def test_a_model_may_leave_out_what_it_cannot_tell(protocol):
    checked = protocol.check_answers({"positive": True, "confidence": 3}, complete=False)
    assert checked == {"positive": True, "confidence": 3, "score": 6}
    assert protocol.check_answers({"left": 2}, complete=False) == {"left": 2}
    with pytest.raises(InputError, match="answer 'load' follows from others as None, got 2"):
        protocol.check_answers({"left": 2, "load": 2}, complete=False)
    with pytest.raises(InputError, match="answer 'left' must be one of"):
        protocol.check_answers({"left": 9}, complete=False)
    with pytest.raises(InputError, match="a read needs at least one answer"):
        protocol.check_answers({}, complete=False)


def test_blanks_answer_nothing(protocol):
    assert "remark" not in protocol.check_answers({**ANSWERS, "remark": " \n"})
    required = Protocol.load(changed(remark__required=True), where="own.yaml")
    with pytest.raises(InputError, match="answer 'remark' is missing"):
        required.check_answers({**ANSWERS, "remark": "  "})
    assert required.check_answers({**ANSWERS, "remark": " a "})["remark"] == " a "


def test_answers_as_numbers():
    assert [answer_key(value) for value in (False, True, 2, 2.5)] == [0, 1, 2, 2.5]
    assert all(math.isnan(answer_key(value)) for value in (None, "3", [1, 2, 3]))
