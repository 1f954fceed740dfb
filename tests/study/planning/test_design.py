"""Reading lists: who reads what, when, and what a reader cannot know."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chisquare

from medrestore.checks import InputError
from medrestore.study.layout import READING_COLUMNS
from medrestore.study.planning.design import duplicate_count, least_sessions, make_reading_list
from medrestore.study.planning.ids import random_ids

READERS = ["reader_1", "reader_2"]


def images_of(
    arms: int, scans: Sequence[int], *, training: int = 0, qualification: int = 0, shuffle: int | None = None
) -> pd.DataFrame:
    """Return the images of a study: ``scans[s]`` cases of subject s, each in every arm."""
    rows = [
        (f"{phase}-{number}", phase, f"{phase}-case{number}", f"{phase}-subject{number}", "arm0")
        for phase, count in (("training", training), ("qualification", qualification))
        for number in range(count)
    ]
    rows += [
        (
            f"image-{subject}-{scan}-{arm}",
            "reading",
            f"case{subject}-{scan}",
            f"subject{subject}",
            f"arm{arm}",
        )
        for subject, count in enumerate(scans)
        for scan in range(count)
        for arm in range(arms)
    ]
    table = pd.DataFrame(rows, columns=["image_id", "phase", "case", "subject", "arm"])
    return table if shuffle is None else table.sample(frac=1, random_state=shuffle)


def drawn(
    images: pd.DataFrame,
    *,
    sessions: int,
    duplicate_fraction: float = 0.0,
    seed: int = 1,
    salt: str = "salt",
    readers: Sequence[str] = READERS,
    attempts: int = 0,
) -> pd.DataFrame:
    """Return the reading list with case, subject and arm of each reading."""
    table = make_reading_list(
        images,
        readers=readers,
        sessions=sessions,
        duplicate_fraction=duplicate_fraction,
        seed=seed,
        salt=salt,
        attempts=attempts,
    )
    assert tuple(table.columns) == READING_COLUMNS
    return table.merge(images.drop(columns="phase"), on="image_id", how="left", validate="many_to_one")


DESIGNS = [
    (arms, subjects, extra, fraction, kind)
    for arms, subjects, extra, fraction, kind in itertools.product(
        (1, 2, 5), (1, 2, 7, 23), (0, 2), (0, 0.1, 0.3), ("plain", "several scans")
    )
]


def test_every_design_holds_what_it_promises():
    for arms, subjects, extra, fraction, kind in DESIGNS:
        design = f"{arms} arms, {subjects} subjects, {extra} sessions more, fraction {fraction}, {kind}"
        scans = [1] * subjects if kind == "plain" else [1 + number % 3 for number in range(subjects)]
        images = images_of(arms, scans, shuffle=subjects)
        sessions = least_sessions(arms, scans=max(scans), duplicate_fraction=fraction) + extra
        table = drawn(images, sessions=sessions, duplicate_fraction=fraction)
        assert not table.duplicated(["reader", "session", "subject"]).any(), design
        assert table["session"].between(1, sessions).all(), design
        wanted = sorted(images["image_id"])
        for reader, rows in table.groupby("reader"):
            first, repeats = rows[rows["repeat"] == 0], rows[rows["repeat"] == 1]
            assert sorted(first["image_id"]) == wanted, (design, reader)
            assert len(repeats) == duplicate_count(len(images), fraction), (design, reader)
            assert repeats["image_id"].is_unique, (design, reader)
            # Shares of a whole number: no more than the next one for any subject.
            most = np.ceil(fraction * arms * np.array(scans) - 1e-9)
            given = repeats["subject"].value_counts()
            assert all(given.get(f"subject{s}", 0) <= most[s] for s in range(subjects)), (design, reader)
            # Arms within one: among the repeats, and in every session.
            every_arm = sorted(set(images["arm"]))
            of_repeats = repeats["arm"].value_counts().reindex(every_arm, fill_value=0)
            assert np.ptp(of_repeats.to_numpy()) <= 1, (design, reader)
            frequency = np.zeros((sessions + 1, arms), dtype=int)
            np.add.at(frequency, (rows["session"], rows["arm"].str[3:].astype(int)), 1)
            assert np.ptp(frequency, axis=1).max() <= 1, (design, reader)
            # Positions count from 1 without a gap, and a repeat comes after its original.
            for _, session in rows.groupby("session"):
                assert session["position"].tolist() == list(range(1, len(session) + 1)), design
            pairs = first.merge(repeats, on="image_id", suffixes=("", "_again"))
            assert (pairs["session"] < pairs["session_again"]).all(), (design, reader)


def test_sessions_are_equally_long_where_they_can_be():
    # 50 subjects x 4 arms in 5 sessions: 40 reads in each; of 20 repeats, 4.
    table = drawn(images_of(4, [1] * 50), sessions=5, duplicate_fraction=0.1)
    assert (table.groupby(["reader", "session"]).size() == 44).all()
    assert (table.groupby(["reader", "session", "arm"]).size() == 11).all()


def test_the_list_is_sorted_by_reader_as_given_phase_and_order():
    images = images_of(2, [1] * 6, training=3, qualification=4)
    table = drawn(images, sessions=3, readers=["zoe", "adam"], attempts=2, duplicate_fraction=0.1)
    assert list(dict.fromkeys(table["reader"])) == ["zoe", "adam"]
    for _, rows in table.groupby("reader"):
        order = list(dict.fromkeys(zip(rows["phase"], rows["attempt"], rows["session"], strict=True)))
        assert order == [
            ("training", 0, 0),
            ("qualification", 1, 0),
            ("qualification", 2, 0),
            ("reading", 0, 1),
            ("reading", 0, 2),
            ("reading", 0, 3),
        ]


def test_training_keeps_its_order_and_each_attempt_has_another():
    images = images_of(2, [1] * 4, training=5, qualification=3)
    table = drawn(images, sessions=2, attempts=6)  # 3 images have 6 orders
    for _, rows in table.groupby("reader"):
        training = rows[rows["phase"] == "training"]
        assert training["image_id"].tolist() == [f"training-{number}" for number in range(5)]
        assert training["position"].tolist() == [1, 2, 3, 4, 5]
        orders = [
            tuple(part["image_id"]) for _, part in rows[rows["phase"] == "qualification"].groupby("attempt")
        ]
        assert len(orders) == len(set(orders)) == 6
    assert (table.loc[table["phase"] != "reading", "repeat"] == 0).all()


def test_more_attempts_than_orders_differ_from_the_one_before():
    table = drawn(images_of(1, [1], qualification=2), sessions=1, attempts=5)
    for _, rows in table[table["phase"] == "qualification"].groupby("reader"):
        orders = [tuple(part["image_id"]) for _, part in rows.groupby("attempt")]
        assert len(orders) == 5
        assert all(before != after for before, after in itertools.pairwise(orders))


def test_a_qualification_of_one_image_can_be_tried_again():
    table = drawn(images_of(1, [1], qualification=1), sessions=1, attempts=3, readers=["one"])
    assert table["attempt"].tolist() == [1, 2, 3, 0]


def test_readers_have_different_orders_and_different_repeats():
    table = drawn(images_of(4, [1] * 40), sessions=5, duplicate_fraction=0.1, readers=["a", "b", "c"])
    orders = {tuple(rows["image_id"]) for _, rows in table.groupby("reader")}
    repeats = {frozenset(rows.loc[rows["repeat"] == 1, "image_id"]) for _, rows in table.groupby("reader")}
    assert len(orders) == len(repeats) == 3
    assert table["read_id"].is_unique


def test_a_reader_is_independent_of_who_else_reads():
    images = images_of(3, [1] * 10)
    both = drawn(images, sessions=4, duplicate_fraction=0.1, readers=["a", "b"])
    alone = drawn(images, sessions=4, duplicate_fraction=0.1, readers=["b"])
    assert both.loc[both["reader"] == "b", "image_id"].tolist() == alone["image_id"].tolist()


def test_the_same_seed_and_salt_give_the_same_list():
    images = images_of(3, [1, 2, 1, 2], training=1, qualification=2)
    first, second = (drawn(images, sessions=7, duplicate_fraction=0.1, attempts=2) for _ in range(2))
    pd.testing.assert_frame_equal(first, second)


@pytest.mark.parametrize("change", [{"salt": "pepper"}, {"seed": 2}])
def test_another_salt_or_seed_gives_other_ids_and_another_order(change):
    images = images_of(3, [1] * 12)
    first, second = drawn(images, sessions=3), drawn(images, sessions=3, **change)
    assert not set(first["read_id"]) & set(second["read_id"])
    # Without the salt in the order, whoever has the plan could compute which position is which arm.
    assert first["image_id"].tolist() != second["image_id"].tolist()


def test_read_ids_are_16_hexadecimal_digits_that_tell_no_order():
    table = drawn(images_of(4, [1] * 60), sessions=4, readers=["one"])
    assert table["read_id"].str.fullmatch("[0-9a-f]{16}").all()
    place = np.arange(len(table))
    rank = table["read_id"].rank().to_numpy()
    # Rank correlation of independent orders: standard deviation 1 / sqrt(n - 1); 4 of them.
    assert abs(np.corrcoef(place, rank)[0, 1]) < 4 / np.sqrt(len(table) - 1)


def test_ids_of_one_stream_tell_nothing_of_another():
    assert not set(random_ids(50, seed=1, salt="s", stream="a")) & set(
        random_ids(50, seed=1, salt="s", stream="b")
    )


def test_positions_and_sessions_are_uniform():
    # 3 arms, 4 subjects, 4 sessions: where does one image fall? 600 readers, each an independent draw.
    images = images_of(3, [1] * 4)
    table = drawn(images, sessions=4, readers=[f"r{number}" for number in range(600)])
    one = table[table["image_id"] == "image-2-0-1"]
    sessions = one["session"].value_counts().reindex(range(1, 5), fill_value=0)
    positions = one["position"].value_counts().reindex(range(1, 4), fill_value=0)
    assert chisquare(sessions).pvalue > 1e-3
    assert chisquare(positions).pvalue > 1e-3
    # The arm that opens a study, and whose scan it is.
    opening = table[(table["session"] == 1) & (table["position"] == 1)]
    assert chisquare(opening["arm"].value_counts()).pvalue > 1e-3
    assert chisquare(opening["subject"].value_counts()).pvalue > 1e-3


def test_every_order_of_the_arms_of_a_subject_occurs_equally_often():
    images = images_of(3, [1] * 6)
    table = drawn(images, sessions=3, readers=[f"r{number}" for number in range(600)])
    rows = table[table["subject"] == "subject4"].sort_values(["reader", "session"])
    orders = rows.groupby("reader")["arm"].agg("".join).value_counts()
    assert len(orders) == 6
    assert chisquare(orders).pvalue > 1e-3


def test_every_read_is_repeated_equally_often():
    images = images_of(2, [1] * 5)
    table = drawn(images, sessions=3, duplicate_fraction=0.2, readers=[f"r{number}" for number in range(500)])
    repeats = table.loc[table["repeat"] == 1, "image_id"].value_counts()
    assert repeats.sum() == 2 * 500
    assert len(repeats) == 10
    assert chisquare(repeats).pvalue > 1e-3


@pytest.mark.parametrize(
    ("arms", "scans", "fraction", "expected"),
    [
        (4, 1, 0, 4),
        (4, 1, 0.1, 5),  # 0.4 repeats a subject: one place
        (5, 1, 0.2, 6),  # one repeat of every subject: one place
        (5, 1, 0.3, 7),  # 1.5: two places
        (4, 2, 0.1, 9),
        (10, 3, 0.1, 33),  # 0.1 * 30 is 3.0000000000000004 in binary
    ],
)
def test_least_sessions(arms, scans, fraction, expected):
    assert least_sessions(arms, scans=scans, duplicate_fraction=fraction) == expected


def test_too_few_sessions_are_refused_with_the_reason():
    with pytest.raises(InputError, match="sessions must be 5 or more, got 4: 4 arms and repeats"):
        drawn(images_of(4, [1] * 5), sessions=4, duplicate_fraction=0.1)
    with pytest.raises(
        InputError, match="sessions must be 6 or more, got 5: 2 arms, and a subject has up to 3"
    ):
        drawn(images_of(2, [1, 3]), sessions=5)


def test_images_that_are_not_crossed_are_refused():
    images = images_of(2, [1] * 3)
    with pytest.raises(InputError, match="one image in each arm; got 5 images of 3 cases in 2 arms"):
        drawn(images.iloc[1:], sessions=2)
    with pytest.raises(InputError, match="one image in each arm"):
        drawn(pd.concat([images.iloc[1:], images.iloc[-1:].assign(image_id="other")]), sessions=2)
    with pytest.raises(InputError, match="case case1-0 belongs to more than one subject"):
        drawn(images.assign(subject=["a", "a", "b", "c", "d", "d"]), sessions=2)


def test_what_is_missing_is_refused():
    images = images_of(2, [1] * 3)
    with pytest.raises(InputError, match="images lack the column arm"):
        make_reading_list(
            images.drop(columns="arm"), readers=READERS, sessions=2, duplicate_fraction=0, seed=0, salt=""
        )
    with pytest.raises(InputError, match="needs a reader"):
        drawn(images, sessions=2, readers=[])
    with pytest.raises(InputError, match="an image of the phase reading"):
        drawn(images.assign(phase="training"), sessions=2)
    with pytest.raises(InputError, match=r"duplicate_fraction must be in \[0, 1\)"):
        drawn(images, sessions=9, duplicate_fraction=1)


def test_a_large_study_is_drawn_in_seconds():
    images = images_of(5, [1] * 1000)
    start = time.perf_counter()
    table = drawn(
        images, sessions=6, duplicate_fraction=0.1, readers=[f"reader_{number}" for number in range(10)]
    )
    assert len(table) == 10 * 5500
    assert time.perf_counter() - start < 10  # 0.7 s on an idle core
