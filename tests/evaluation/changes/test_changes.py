"""What a restoration changes: tables worked out by hand, and a page that holds them and loads nothing."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medrestore.evaluation.changes import written
from medrestore.evaluation.changes.pictures import SIDE, cut_picture, telling_slice
from medrestore.evaluation.changes.tables import decision_table, find_table, part_table, strata_of
from medrestore.evaluation.changes.written import MOST_PICTURES, Taken, kept, write_changes, write_pages
from medrestore.evaluation.declared import Changes, Decisions, Finds, Parts, Stratum
from medrestore.evaluation.pages.texts import texts_of
from medrestore.evaluation.record import Evaluation
from medrestore.evaluation.tables import difference_table, summary_table
from medrestore.evaluation.titles import FIDELITY, Metrics

EVIL = "<script>alert(1)</script>"
"""As a subject's name: a page shows it, and no browser runs it."""

CHANGES = Changes(
    decisions=Decisions({0: "negative", 1: "positive"}),
    parts=Parts("parts", "Uptake", 0.05, "A limit from somewhere."),
    finds=Finds("finds", "spot", "spots", (1.0,), "Marked by a reader."),
    strata=(Stratum("Truth", lambda rows, _: rows["true_label"].map({0.0: "no", 1.0: "yes"})),),
)
METRICS = Metrics(FIDELITY, diagnosis=("observer_mae",), baselines={"blur": "Blur"}, changes=CHANGES)

# Probability of a positive: true image, input, restoration; label. Wrong where it is on the other side of .5.
SCORES = {
    "a": (0.9, 0.8, 0.3, 1),  # lost, by .6
    "b": (0.2, 0.7, 0.4, 0),  # repaired, by .3
    "c": (0.6, 0.9, 0.8, 0),  # wrong in all
    "d": (0.1, 0.2, 0.9, 0),  # lost, by .8
    EVIL: (0.9, 0.4, 0.7, 1),  # repaired, by .3
}


def per_subject(names: tuple[str, ...] = ("true", "input", "ours")) -> pd.DataFrame:
    rows = []
    for subject, (*scores, label) in SCORES.items():
        for method, score in zip(("true", "input", "ours"), scores, strict=True):
            rows.append(
                {
                    **{"subject_id": subject, "session_id": "1", "method": method, "label": float(label)},
                    **{"psnr": {"input": 20.0, "ours": 22.0}.get(method, np.nan), "observer_score": score},
                    "observer_mae": abs(label - score),
                    "observer_error": float((score > 0.5) != bool(label)),
                    "task_score": 0.5,
                    "task_error": 1.0,
                }
            )
    return pd.DataFrame([row for row in rows if row["method"] in names])


def decisions(table: pd.DataFrame) -> pd.DataFrame:
    return decision_table(table, ["ours"], true_name="true", metrics=METRICS)


def test_flipped_decisions_by_hand():
    found = decisions(per_subject())
    assert list(found[["subject_id", "change"]].itertuples(index=False, name=None)) == [
        ("d", "lost"),
        ("a", "lost"),
        (EVIL, "repaired"),
        ("b", "repaired"),
    ]
    np.testing.assert_allclose(found["distance"], [0.8, 0.6, 0.3, 0.3], atol=1e-12)
    assert set(found["judge"]) == {"observer"}  # T took part in training
    (row,) = found[found["subject_id"] == "a"].to_dict("records")
    assert (row["true_score"], row["input_score"], row["score"], row["label"]) == (0.9, 0.8, 0.3, 1)


def test_t_decides_where_no_observer_does():
    table = per_subject().drop(columns=["observer_score", "observer_error"])
    table.loc[table["method"] == "true", "task_error"] = 0.0
    assert set(decisions(table)["judge"]) == {"task"}


def test_without_an_input_nothing_is_repaired():
    found = decisions(per_subject(("true", "ours")))
    assert list(found["subject_id"]) == ["d", "a"]
    assert found["input_score"].isna().all()


def test_parts_beyond_the_limit_by_hand():
    values = {"true": 2.0, "input": 2.08, "ours": 1.88}
    rows = [
        {"subject_id": "a", "session_id": "1", "method": method, "part": "left", "value": value}
        for method, value in values.items()
    ]
    found = part_table(pd.DataFrame(rows), true_name="true", metrics=METRICS).set_index("method")
    assert found.loc["input", "relative_change"] == pytest.approx(0.04)
    assert found.loc["ours", "relative_change"] == pytest.approx(-0.06)
    assert found["beyond"].to_dict() == pytest.approx({"true": np.nan, "input": 0, "ours": 1}, nan_ok=True)
    assert np.isnan(found.loc["true", "relative_change"])


def finds() -> list[dict[str, object]]:
    """One spot lost, one kept, one regained, an invented mark, and one that the reader makes anyway."""
    table = [
        # real, found in the true image, found, ml
        (1, 1, 0, 3.0),
        (1, 1, 1, 2.0),
        (1, 0, 1, 0.5),
        (0, 0, 1, 0.25),
        (0, 1, 1, 0.75),
    ]
    return [
        {
            **{"subject_id": EVIL, "session_id": "1", "method": "ours", "real": real, "found": found},
            **{"found_in_true": before, "volume_ml": volume, "x_mm": -12.0, "y_mm": 30.0, "z_mm": 7.0},
            "slice": 41,
        }
        for real, before, found, volume in table
    ]


def test_lost_and_invented_finds_by_hand():
    assert list(find_table(pd.DataFrame(finds()))["change"]) == ["lost", "", "regained", "invented", ""]


def test_strata_are_of_the_images_of_both():
    images = per_subject().query("method == 'ours'").assign(true_label=lambda table: table["label"])
    found = [(title, name, len(held)) for title, name, held in strata_of(images, {}, METRICS)]
    assert found == [("Truth", "no", 3), ("Truth", "yes", 2)]
    alone = images[images["label"] == 1]
    assert list(strata_of(alone, {}, METRICS)) == []  # a single one is none


def test_the_slice_is_where_the_image_departs_not_where_it_is_noisy():
    true = np.zeros((16, 16, 8), np.float32)
    image = true.copy()
    image[4:12, 4:12, 5] = 1.0
    image[::2, ::2, 2] = 3.0
    image[1::2, ::2, 2] = -3.0  # more of it, but it cancels within millimeters
    everywhere = np.ones(true.shape, bool)
    assert telling_slice(image, true, everywhere, (2.0, 2.0, 20.0)) == 5


def picture(value: float = 0.5) -> Taken:
    true = np.linspace(0, 1, 8 * 8 * 2, dtype=np.float32).reshape(8, 8, 2)
    cut = cut_picture(
        {"True image": true, "ours": true * np.float32(value)}, 1, (slice(0, 8), slice(2, 6)), (1.0, 2.0, 3.0)
    )
    return Taken("ours", "decisions", "lost", value, f"{EVIL}: lost", cut)


def test_a_picture_is_true_restored_and_difference():
    taken = picture()
    assert taken.picture.heads == ["True image", "ours", "Difference"]
    image = Image.open(io.BytesIO(taken.picture.png("gray")))
    # 8 x 4 voxels of 1 x 2 mm: square; three slices, two gaps of 4 pixels.
    assert image.size == (3 * SIDE + 8, SIDE)
    pixels = np.asarray(image).astype(int)
    # Subject's right, x = 0, is on the left in canonical axes seen from below: there x is largest.
    assert pixels[0, 0].sum() > pixels[0, SIDE - 1].sum()
    assert (pixels[:, SIDE] == 255).all()
    # Restored is below true: blue of red and blue.
    assert pixels[0, 2 * (SIDE + 4), 2] > pixels[0, 2 * (SIDE + 4), 0]


def test_the_most_telling_pictures_are_kept():
    taken = [picture(value) for value in (0.1, 0.9, 0.5, 0.7, 0.3, 0.8)]
    assert [one.weight for one in kept(taken)] == [0.9, 0.8, 0.7, 0.5]
    assert len(kept(taken)) == MOST_PICTURES


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    table = per_subject()
    record = {
        **{"medrestore_version": "1", "split": "test", "manifest_sha256": "0" * 64, "subjects": len(SCORES)},
        **{"seed": 0, "true": "true"},
    }
    summary = summary_table(table, metrics=METRICS, seed=0)
    differences = difference_table(table, metrics=METRICS, seed=0)
    folder = tmp_path_factory.mktemp("changes")
    found = Evaluation(folder, table, summary, differences, record, METRICS)
    parts = [
        {"subject_id": subject, "session_id": "1", "method": method, "part": "left", "value": value}
        for subject in SCORES
        for method, value in (("true", 2.0), ("input", 2.0), ("ours", 1.8))
    ]
    write_changes(found, found={"parts": parts, "finds": finds()}, taken=[picture()])
    write_pages(found)
    return found


def page_of(result: Evaluation) -> str:
    return (result.output / "changes" / "ours.html").read_text(encoding="utf-8")


def cells_of(html: str) -> list[list[str]]:
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", html, re.DOTALL)
    return [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in rows]


def test_the_page_holds_what_the_tables_hold(result):
    html = page_of(result)
    rows = cells_of(html)
    escaped = "&lt;script&gt;alert(1)&lt;/script&gt;"
    assert ["Observer", "5", "1", "3", "3", "2", "2"] in rows
    assert ["lost", "d", "Observer", "negative", "0.10", "0.20", "0.90", "0.80"] in rows
    assert ["repaired", escaped, "Observer", "positive", "0.90", "0.40", "0.70", "0.30"] in rows
    assert ["left", "5", "0", "5", "−10.0\xa0%", "−10.0 to −10.0\xa0%", "−10.0\xa0% (a)"] in rows
    assert ["lost", escaped, "3.00", "−12, 30, 7", "41"] in rows
    assert ["invented", escaped, "0.25", "−12, 30, 7", "41"] in rows
    assert ["from 0 to 1 ml", "1", "0", "1", "0", "1"] in rows
    assert ["1 ml or more", "2", "2", "1", "1", "0"] in rows
    assert "1 marks that are no spot" in html
    assert "2 of the 4 decisions that hold in the true image are lost" in html
    # 'a' falls from .2 to .7, 'd' from .2 to .9.
    worse = [row for row in rows if row[0] in ("a", "d") and row[-1] == "+2.00"]
    assert worse == [["d", "0.900", "+0.700", "22.00", "+2.00"], ["a", "0.700", "+0.500", "22.00", "+2.00"]]


def test_the_page_loads_nothing_and_runs_nothing(result):
    html = page_of(result)
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in html
    assert "<script" not in html and "url(" not in html and "@import" not in html
    addresses = re.findall(r'(?:src|href|srcset|action)="([^"]*)"', html)
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in addresses)
    (code,) = re.findall(r"data:image/png;base64,([^\"]+)", html)
    assert base64.b64decode(code) == (result.output / "changes" / "ours_001.png").read_bytes()


def test_pages_are_made_again_from_the_files(result):
    before = page_of(result)
    (page,) = write_pages(result)
    assert page == result.output / "changes" / "ours.html"
    assert page_of(result) == before


def test_a_kind_of_image_that_declares_nothing_has_a_page(tmp_path: Path):
    metrics = Metrics(FIDELITY)
    table = per_subject()[["subject_id", "session_id", "method", "psnr"]]
    record = {
        **{"medrestore_version": "1", "split": "test", "manifest_sha256": "0" * 64, "subjects": len(SCORES)},
        **{"seed": 0, "true": "true"},
    }
    found = Evaluation(tmp_path, table, table, table, record, metrics)
    write_changes(found, found={}, taken=[])
    (page,) = write_pages(found)
    html = page.read_text(encoding="utf-8")
    assert "better than the input (PSNR (dB) +2.00 (+2.00, +2.00), better)" in html.replace("\xa0", " ")
    assert re.findall(r'<section id="([^"]+)">', html) == ["verdict", "about"]
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["ours.html", "pictures.csv"]


def test_every_text_is_used():
    folder = Path(written.__file__).parent
    texts = texts_of(folder / "texts.yaml")
    names = {name for part in ("sections", "tables", "boxes") for name in texts[part]}
    code = (folder / "page.py").read_text(encoding="utf-8")
    assert {name for name in names if f'"{name}"' not in code} == set()
