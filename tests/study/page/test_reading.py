"""A reader in a real browser, on the real server: what is typed is what is on record."""

from __future__ import annotations

import time

import pandas as pd
import pytest

from medrestore.study.layout import Study


def test_a_whole_read_by_keyboard_alone(server, watch):
    sight = watch()
    sight.open(server.link("keyboard"))
    sight.begin()
    assert sight.page.url == f"{server.address}/"  # the secret is not left in the address bar
    sight.type("2131")
    assert sight.active() == "Is the scan positive?"
    sight.type("2")  # yes
    sight.press("5", "3", "y")  # certain, adequate, an artefact
    assert sight.active() == "Mark the artifact"
    sight.press("ArrowUp", "w", "d", "p")
    sight.press("Shift+Tab", "Shift+Tab", "Shift+Tab", "4")  # back to the quality: good after all
    sight.press("Enter")
    row = sight.wait_for_rows(server, "keyboard", 1).iloc[0]
    # The crosshair starts at voxel (6, 6, 3) of 12 x 12 x 6; up a slice, up, and right: to the person's left.
    # Voxels are 2 x 2 x 3 mm from the origin.
    assert row["answers"] == {
        "rctu_lateral_temporal": 2,
        "rctu_frontal": 1,
        "rctu_posterior_cingulate_precuneus": 3,
        "rctu_parietal": 1,
        "bapl": 3,
        "amyloid_status": True,
        "confidence": 5,
        "score": 10,
        "image_quality": 4,
        "artefact": True,
        "artefact_location": [10, 14, 12],
    }
    assert row["origin"] == "page"
    assert 0 < row["seconds"] < 20
    first = server.study.reading_list.query("reader == 'keyboard' and session == 1 and position == 1").iloc[0]
    shown = server.study.key.set_index("image_id").loc[first["image_id"]]
    assert row["read_id"] == first["read_id"]
    assert row["image_sha256"] == shown["sha256_served"]
    sight.page.wait_for_selector("text=Session 1 of 4, image 2 of 3")


def test_other_keyboards_and_held_keys(server, watch):
    sight = watch()
    sight.open(server.link("repeats"))
    sight.begin()
    # An AZERTY keyboard types & where the key 1 is.
    sight.page.evaluate(
        "document.activeElement.dispatchEvent(new KeyboardEvent('keydown',"
        "{key: '&', code: 'Digit1', bubbles: true}))"
    )
    sight.press("2", "9", "Enter")  # no question has nine answers; the third is still open
    assert "precuneus” still needs an answer" in sight.status()
    sight.press("1", "1", "Delete", "Shift+Tab", "Delete", "Enter")
    assert "parietal cortex” still needs an answer" in sight.status()
    sight.type("1n44")
    sight.page.keyboard.down("n")
    sight.page.keyboard.down("Enter")
    for _ in range(5):  # a key that is held down saves one read, not two
        sight.page.keyboard.down("Enter")
    sight.page.keyboard.up("Enter")
    assert "Press Enter again" in sight.status()
    sight.press("Enter")
    row = sight.wait_for_rows(server, "repeats", 1).iloc[0]
    assert [row["answers"][name] for name in ("rctu_lateral_temporal", "rctu_frontal", "bapl")] == [1, 2, 2]


def test_typed_answers_conditions_and_the_guess_last(serve_study, watch):
    questions = [
        {"name": "guess", "text": "Which kind?", "type": "choice", "options": {1: "One", 2: "Another"}},
        {"name": "lesions", "text": "How many?", "type": "integer", "range": [0, 20]},
        {"name": "size", "text": "Largest?", "type": "number", "when": {"lesions": 2}},
        {"name": "remark", "text": "Remark", "type": "text", "required": False},
        {"name": "again", "text": "Repeat?", "type": "yes_no", "required": False},
    ]
    own = serve_study(cases=2, questions={"name": "own", "questions": questions})
    sight = watch()
    sight.open(own.link("reader"))
    sight.begin()
    assert sight.active() == "How many?"
    sight.type("21")  # digits of a number are typed, not chosen
    sight.press("Enter")
    assert sight.status() == "“How many?” must be from 0 to 20."
    sight.press("Backspace", "Tab")
    assert sight.active() == "Largest?"
    sight.type("1,5")
    sight.press("Tab")
    sight.page.keyboard.type("bright rim, pvc")  # no key of these does anything else
    sight.press("Tab", "y")
    assert sight.active() == "Which kind?"
    sight.press("Shift+Tab", "Delete", "Tab", "2", "Enter")
    answers = sight.wait_for_rows(own, "reader", 1)["answers"][0]
    assert answers == {"guess": 2, "lesions": 2, "size": 1.5, "remark": "bright rim, pvc"}
    sight.page.wait_for_selector("text=image 2 of 2")
    sight.wait_for_image()
    sight.type("2")
    sight.press("Tab")
    sight.type("9")
    sight.press("Shift+Tab", "Backspace", "3", "Tab")  # another number: the size is not asked, nor sent
    assert sight.active() == "Remark optional"
    sight.press("Tab", "Tab", "1", "Enter")
    answers = sight.wait_for_rows(own, "reader", 2)["answers"][1]
    assert answers == {"guess": 1, "lesions": 3}


def test_training_and_qualification_come_before_the_study(serve_study, watch):
    own = serve_study(cases=2, training=1, qualification=2, washout_days=14)
    study, sight = own.study, watch()
    sight.open(own.link("reader"))
    sight.page.wait_for_selector("text=Training: the truth is shown")
    sight.begin()
    sight.type(sight.negative)
    sight.press("Enter")
    sight.page.wait_for_selector("text=The truth is")
    truth = study.truth[_case_of(study, own.rows("reader").iloc[0])]
    assert sight.status().startswith("Not correct." if truth else "Correct.")
    sight.type("3")  # what was answered stays answered
    sight.press("Enter")

    def read(*, right: bool) -> None:
        sight.page.wait_for_selector("#screen-go:visible")
        sight.begin()
        for _ in range(2):
            sight.wait_for_image()
            positive = bool(study.truth[_next_case(study, own.rows("reader"))]) == right
            sight.type("2222y44n" if positive else sight.negative)
            sight.save()

    read(right=False)
    sight.page.wait_for_selector("text=Attempt 1: 0 of 2 agreed")
    read(right=True)
    sight.page.wait_for_selector("text=Session 1 of 3. Images to read: 2.")
    read(right=True)
    sight.page.wait_for_selector("text=The next session opens on")
    sight.press("e")
    assert sight.page.locator("#earlier-list button").count() == 2
    assert list(own.rows("reader")["phase"]) == ["training"] + ["qualification"] * 4 + ["reading"] * 2


def _case_of(study: Study, row: pd.Series) -> str:
    image = study.reading_list.set_index("read_id").loc[row["read_id"], "image_id"]
    return str(study.key.set_index("image_id").loc[image, "case"])


def _next_case(study: Study, rows: pd.DataFrame) -> str:
    order = study.reading_list.query("phase != 'training'").sort_values(
        ["phase", "attempt", "session", "position"]
    )
    left = order[~order["read_id"].isin(rows["read_id"])]
    return _case_of(study, left.iloc[0])


def test_a_correction_is_a_new_row_with_a_reason(server, watch, negative_answers):
    sight = watch()
    sight.open(server.link("corrects"))
    sight.begin()
    sight.type(sight.negative)
    sight.press("Enter")
    sight.page.wait_for_selector("text=image 2 of 3")
    sight.wait_for_image()
    sight.type("33")  # what is begun here comes back after the correction
    sight.press("e", "Enter")
    sight.page.wait_for_selector("text=Correcting image 1.")
    sight.wait_for_image()
    assert sight.page.locator("input:checked").count() == 8
    sight.type("2222y")
    sight.press("Enter")
    assert "Why is the read corrected?” still needs an answer" in sight.status()
    sight.page.keyboard.type("I looked at the other hemisphere")
    sight.press("Enter")
    rows = sight.wait_for_rows(server, "corrects", 2)
    assert rows["read_id"][0] == rows["read_id"][1]
    assert rows["answers"][0] == negative_answers
    assert rows["answers"][1] == {
        **negative_answers,
        **dict.fromkeys([name for name in negative_answers if name.startswith("rctu")], 2),
        "bapl": 2,
        "amyloid_status": True,
        "score": 9,
    }
    assert rows["reason"][1] == "I looked at the other hemisphere"
    sight.page.wait_for_selector("#correction", state="hidden")
    sight.wait_for_image()
    assert sight.page.locator("input:checked").count() == 2


def test_a_break_hides_the_image_and_stops_the_clock(server, watch):
    sight = watch()
    sight.open(server.link("pauses"))
    started = time.monotonic()
    sight.begin()
    assert sight.pixels().mean() > 30
    for key in ("b", "Escape"):
        sight.press(key)
        sight.page.wait_for_selector("#break:visible")
        hidden = sight.pixels()
        assert hidden.mean() < 60  # the card of the break on a dark page
        sight.type("1")  # nothing is answered meanwhile
        sight.page.wait_for_timeout(1_000)
        sight.press(key)
        sight.page.wait_for_selector("#break", state="hidden")
    sight.type("2")
    # Another tab in front: the image is out of sight, too.
    sight.page.evaluate(
        "Object.defineProperty(document, 'hidden', {value: true, configurable: true});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    sight.page.wait_for_timeout(1_000)
    sight.page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
    sight.type("222y44n")
    sight.press("Enter")
    row = sight.wait_for_rows(server, "pauses", 1).iloc[0]
    passed = time.monotonic() - started
    assert row["answers"]["rctu_lateral_temporal"] == 2
    assert 0 < row["seconds"] < passed - 3


def test_what_is_missing_or_contradictory_is_said(server, watch):
    sight = watch()
    sight.open(server.link("careless"))
    sight.begin()
    sight.type("22")
    sight.press("Enter")
    assert sight.status() == (
        "“Uptake of the posterior cingulate cortex and precuneus” still needs an answer."
    )
    assert sight.active() == "Uptake of the posterior cingulate cortex and precuneus"
    sight.type("22n44n")
    sight.press("Enter")
    assert "is answered no, but “Brain amyloid plaque load” is 2" in sight.status()
    assert server.rows("careless").empty
    sight.press("Enter")
    assert sight.wait_for_rows(server, "careless", 1)["answers"][0]["amyloid_status"] is False


@pytest.mark.parametrize(
    ("address", "words"),
    [("/", "Please open your own link."), ("/#not-a-token", "This link is not known here.")],
)
def test_without_a_link_nothing_opens(server, watch, address, words):
    sight = watch()
    sight.open(f"{server.address}{address}")
    sight.page.wait_for_selector(f"text={words}")
    sight.forgive("401")
