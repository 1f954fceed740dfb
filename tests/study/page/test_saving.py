"""No read is lost: servers that die, acknowledgements that get lost, pages that are loaded again."""

from __future__ import annotations

import signal
from typing import Any

import pytest


@pytest.mark.parametrize("reload", [False, True])
def test_a_server_that_dies_loses_no_read(serve_study, watch, negative_answers, reload):
    own = serve_study(cases=2)
    sight = watch()
    sight.open(own.link("reader"))
    sight.begin()
    own.stop(signal.SIGKILL)
    sight.type(sight.negative)
    sight.press("Enter")
    sight.page.wait_for_selector("text=Not yet saved: 1 answer; keep this page open")
    assert sight.page.locator("form.locked").count() == 1
    own.start()
    if reload:
        sight.page.once("dialog", lambda dialog: dialog.accept())  # "leave this page?"
        sight.page.goto(own.link("reader"))
    else:
        # Told to the button, not clicked on it: by now the page may have tried by itself, and hidden it.
        sight.page.dispatch_event("#banner-retry", "click")
    assert sight.wait_for_rows(own, "reader", 1)["answers"][0] == negative_answers
    if reload:
        sight.begin()
    sight.page.wait_for_selector("text=image 2 of 2")
    sight.wait_for_image()
    assert sight.page.locator("#banner").is_hidden()
    sight.type(sight.negative)
    sight.press("Enter")
    assert sight.wait_for_rows(own, "reader", 2)["read_id"].is_unique
    # Chromium reports the refused connections; they are the point of this test.
    sight.forgive("ERR_CONNECTION")


def test_a_lost_acknowledgement_makes_no_second_row(server, watch):
    sight = watch()
    sight.open(server.link("lost"))
    sight.begin()
    sent = []

    def swallow(route: Any) -> None:
        sent.append(route.request.post_data_json)
        if len(sent) == 1:
            route.fetch()  # the server has it, the page never hears so
            route.abort()
        else:
            route.continue_()

    sight.page.route("**/api/answers", swallow)
    sight.type(sight.negative)
    sight.press("Enter")
    sight.page.wait_for_selector("text=image 2 of 3")
    assert len(sent) == 2
    assert sent[0] == sent[1]
    assert len(server.rows("lost")) == 1
    sight.forgive("ERR_FAILED")


def test_a_server_in_trouble_is_asked_again(server, watch):
    sight = watch()
    sight.open(server.link("busy"))
    sight.begin()
    tries = []

    def refuse_once(route: Any) -> None:
        tries.append(1)
        if len(tries) == 1:
            route.fulfill(status=503, json={"detail": "The answer could not be saved."})
        else:
            route.continue_()

    sight.page.route("**/api/answers", refuse_once)
    sight.type(sight.negative)
    sight.press("Enter")
    sight.page.wait_for_selector("text=The answer could not be saved.")
    sight.wait_for_rows(server, "busy", 1)
    sight.page.wait_for_selector("#banner", state="hidden")
    sight.forgive("503")


def test_a_reload_brings_back_image_answers_and_time(server, watch):
    sight = watch()
    sight.open(server.link("reload"))
    sight.begin()
    sight.type("213")
    sight.page.wait_for_timeout(1_000)
    sight.page.reload()
    sight.begin()
    assert sight.page.locator("input:checked").evaluate_all("all => all.map(node => node.value)") == [
        *("2", "1", "3")
    ]
    sight.press("Tab", "Tab", "Tab")
    sight.type("2y44n")
    sight.press("Enter")
    row = sight.wait_for_rows(server, "reload", 1).iloc[0]
    assert [row["answers"][name] for name in ("rctu_lateral_temporal", "rctu_parietal", "bapl")] == [2, 2, 3]
    assert row["seconds"] > 1


def test_an_answer_that_is_not_taken_is_kept_and_shown(server, watch, browser):
    one = watch(browser.new_context(viewport={"width": 1400, "height": 900}))
    two = watch(browser.new_context(viewport={"width": 1400, "height": 900}))
    for sight in (one, two):  # the same link on two machines
        sight.open(server.link("refused"))
        sight.begin()
    one.type(one.negative)
    one.press("Enter")
    one.page.wait_for_selector("text=image 2 of 3")
    two.type("2222y55n")
    two.press("Enter")
    two.page.wait_for_selector("text=One answer was not taken")
    two.page.wait_for_selector("text=image 2 of 3")  # and it goes on where the study stands
    two.page.click("summary")
    assert '"confidence": 5' in two.page.inner_text("#banner-content")
    assert len(server.rows("refused")) == 1
    two.page.reload()
    two.page.wait_for_selector("text=One answer was not taken")
    two.forgive("409")
