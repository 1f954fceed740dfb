from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from medrestore.checks import InputError
from medrestore.study.analysis.consistency import between_readers, within_readers
from medrestore.study.analysis.unblinded import unblind


def test_pairs_of_readers_have_cohens_kappa(read_example):
    held = unblind(read_example)
    table = between_readers(held, "positive", "human")
    reads = held.long("positive", "human", judged=False)
    for arm in read_example.arms:
        wide = reads[reads["method"] == arm].pivot_table(index="case", columns="reader", values="rating")
        pairs = table[(table["arm"] == arm) & (table["readers"] == "reader_1, reader_3")]
        expected = cohen_kappa_score(wide["reader_1"], wide["reader_3"])
        assert pairs["value"].item() == pytest.approx(expected, abs=1e-12)
        same = table[(table["arm"] == arm) & (table["coefficient"] == "percent agreement")]["value"].item()
        by_hand = np.mean(
            [
                (wide[a] == wide[b]).mean()
                for a, b in (("reader_1", "reader_2"), ("reader_1", "reader_3"), ("reader_2", "reader_3"))
            ]
        )
        assert same == pytest.approx(by_hand, abs=1e-12)


def test_duplicates_are_compared_with_the_first_read_of_the_same_image(
    make_study, fill, a_read, readings_of, tmp_path
):
    study = make_study(tmp_path / "study", cases=6, duplicates=5)
    cases = study.plan["cases"]

    def answer(row: Any) -> Any:
        # reader_1 changes the decision on two of five duplicates, reader_2 the quality of one by two steps.
        changed = row["repeat"] == 1 and row["reader"] == "reader_1" and row["case"] in cases[:2]
        worse = row["repeat"] == 1 and row["reader"] == "reader_2" and row["case"] == cases[4]
        quality = 1 + cases.index(row["case"]) % 5 if not worse else 3
        return a_read(bool(row["truth"]) != changed, quality=quality)

    fill(study, answer)
    held = unblind(study)
    decision = within_readers(held, "positive", "human").set_index("reader")
    assert decision["pairs"].to_dict() == {"reader_1": 5, "reader_2": 5, "all": 10}
    assert decision["same"].to_dict() == {"reader_1": 3, "reader_2": 5, "all": 8}
    # Odd cases are positive: 1 0 1 0 1, read again as 0 1 1 0 1.
    assert decision.loc["reader_1", "kappa"] == pytest.approx(
        cohen_kappa_score([1, 0, 1, 0, 1], [0, 1, 1, 0, 1])
    )
    quality = within_readers(held, "quality", "human").set_index("reader")
    assert quality["same"].to_dict() == {"reader_1": 5, "reader_2": 4, "all": 9}
    expected = cohen_kappa_score([1, 2, 3, 4, 5], [1, 2, 3, 4, 3], weights="quadratic")
    assert quality.loc["reader_2", "kappa"] == pytest.approx(expected)


def test_without_duplicates_or_a_second_reader_there_is_no_agreement(make_study, fill, a_read, tmp_path):
    study = make_study(tmp_path / "study", readers=("anna",), duplicates=0)
    held = unblind(fill(study, lambda row: a_read(True)))
    assert between_readers(held, "positive", "human").empty
    assert within_readers(held, "positive", "human").empty
    with pytest.raises(InputError, match="answers to 'remark' have no order"):
        between_readers(held, "remark", "human")
