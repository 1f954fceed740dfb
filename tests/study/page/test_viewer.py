"""The image on the screen: window, planes, places, and nothing but what the server gave."""

from __future__ import annotations

import numpy as np
import pytest

from medrestore.study.create import create_study


def test_the_image_is_shown_in_the_window_of_its_header(server, watch):
    sight = watch()
    sight.open(server.link("window"))
    sight.begin()
    # Values are 0.8 or 1.2 with noise, the window is 0 to 3: gray 68 or 102 of 255, nothing clipped. A window
    # of the viewer's own choice (2nd to 98th percentile) would spread the noise from black to white.
    pixels = sight.pixels()
    assert min(abs(np.median(pixels) - 68), abs(np.median(pixels) - 102)) < 5
    assert pixels.max() < 160
    assert pixels.std() > 0.5
    sight.press(*["Shift+ArrowUp"] * 5)
    sight.page.wait_for_timeout(200)
    brighter = np.median(sight.pixels())
    assert brighter > np.median(pixels) + 30
    assert sight.page.inner_text("#window-text") == "Window -0.75 to 2.25"
    sight.press("r")
    sight.page.wait_for_timeout(200)
    np.testing.assert_array_equal(sight.pixels(), pixels)
    # Inverted gray turns the same values around; three planes and scrolling draw something else.
    sight.press("c")
    sight.page.wait_for_timeout(200)
    assert np.median(sight.pixels()) == pytest.approx(255 - np.median(pixels), abs=5)
    sight.press("r", "v")
    assert sight.page.inner_text("#slice-text") == "Coronal 7 / 12"
    sight.press("v", "v")
    assert sight.page.locator("#overlay line").count() == 12
    sight.press("v", "PageDown")
    assert sight.page.inner_text("#slice-text") == "Axial 1 / 6"


def test_a_click_marks_the_place_that_was_clicked(server, watch):
    sight = watch()
    sight.open(server.link("mouse"))
    sight.begin()
    stage = sight.page.locator("#stage").bounding_box()
    middle = (stage["x"] + stage["width"] / 2, stage["y"] + stage["height"] / 2)
    sight.page.mouse.wheel(0, -100)
    sight.page.mouse.click(*middle)  # no place is asked for yet
    sight.type("1111n44y")
    # 12 x 12 voxels of 2 mm fill the height, the first one's center is the origin: the middle is at 11 mm,
    # and a quarter of the height to the right and up are 6 mm, to the person's left and to the front.
    sight.page.mouse.click(middle[0] + stage["height"] / 4, middle[1] - stage["height"] / 4)
    circle = sight.page.locator("#overlay circle")
    assert circle.count() == 1
    assert float(circle.get_attribute("cx")) == pytest.approx(stage["width"] / 2 + stage["height"] / 4, abs=2)
    sight.press("Enter")
    place = sight.wait_for_rows(server, "mouse", 1)["answers"][0]["artefact_location"]
    assert place == pytest.approx([5, 17, 9], abs=0.2)


def test_a_dropped_file_is_left_alone(server, watch):
    sight = watch()
    sight.open(server.link("drops"))
    sight.begin()
    before = sight.pixels()
    prevented = sight.page.evaluate(
        """() => {
          const data = new DataTransfer();
          data.items.add(new File([new Uint8Array(1000)], "other.nii"));
          return ["dragover", "drop"].map((kind) => {
            const event = new DragEvent(kind, {dataTransfer: data, bubbles: true, cancelable: true});
            document.getElementById("canvas").dispatchEvent(event);
            return event.defaultPrevented;
          });
        }"""
    )
    assert prevented == [True, True]
    sight.page.wait_for_timeout(300)
    np.testing.assert_array_equal(sight.pixels(), before)
    assert sight.page.url == f"{server.address}/"


def test_a_picture_is_shown_upright_and_in_its_colors(tmp_path, serve_folder, watch):
    from PIL import Image

    picture = np.zeros((60, 80, 3), np.uint8)
    picture[:30, :40] = (200, 40, 40)  # red top left, green top right, blue bottom left, white bottom right
    picture[:30, 40:] = (40, 200, 40)
    picture[30:, :40] = (40, 40, 200)
    picture[30:, 40:] = (230, 230, 230)
    for arm in ("qqone", "qqtwo"):
        (tmp_path / arm).mkdir()
        for case in ("a", "b"):
            picture[0, 0] += 1  # no image may stand for two
            Image.fromarray(picture).save(tmp_path / arm / f"{case}.png")
    (tmp_path / "truth.csv").write_text("case,truth\na,0\nb,1\n", encoding="utf-8")
    (tmp_path / "plan.yaml").write_text(
        "title: Sections\nseed: 1\nquestions: histology\nreaders: [reader, other]\nduplicate_fraction: 0\n"
        "arms: {qqone: qqone, qqtwo: qqtwo}\ntruth: {file: truth.csv}\n",
        encoding="utf-8",
    )
    own = serve_folder(create_study(tmp_path / "plan.yaml", output=tmp_path / "study"))
    sight = watch()
    sight.open(own.link("reader"))
    sight.begin()
    shown = sight.stage()
    rows, columns = shown.shape[0] // 2, shown.shape[1] // 2
    for down, right, color in (
        (-100, -100, (200, 40, 40)),
        (-100, 100, (40, 200, 40)),
        (100, -100, (40, 40, 200)),
        (100, 100, (230, 230, 230)),
    ):
        np.testing.assert_allclose(shown[rows + down, columns + right], color, atol=3)
    # Look up and left, larger: the middle of the stage is now in the red quarter.
    sight.press("+", "ArrowUp", "ArrowLeft")
    sight.page.wait_for_timeout(200)
    np.testing.assert_allclose(sight.stage()[rows, columns], (200, 40, 40), atol=3)
