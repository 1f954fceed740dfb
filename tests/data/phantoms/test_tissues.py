"""Tissue values: within what is published, and spread as stated."""

from __future__ import annotations

import numpy as np
import pytest

from medrestore import rng
from medrestore.data.phantoms.tissues import (
    SMOOTH_LOG_SD,
    SUBJECT_LOG_SD,
    TISSUES,
    Relaxation,
    draw_relaxation,
    varied,
)
from medrestore.operators.mr_sequences import CSF_T1_MS, FAT_T1_MS


@pytest.mark.parametrize("name", TISSUES)
def test_means_lie_within_what_is_published(name):
    tissue = TISSUES[name]
    assert tissue.published_t1_ms[0] <= tissue.mean.t1_ms <= tissue.published_t1_ms[1]
    assert tissue.published_t2_ms[0] <= tissue.mean.t2_ms <= tissue.published_t2_ms[1]
    assert 0 < tissue.mean.pd <= 1


def test_subjects_differ_as_stated():
    drawn = [draw_relaxation(rng.generator(seed, "tissue")) for seed in range(400)]
    t1 = np.log([subject["white_matter"].t1_ms for subject in drawn])
    # 400 draws: the mean's standard error is a twentieth of the SD, the SD's 3.5 %; clipping takes 4 % of it.
    sd = SUBJECT_LOG_SD.t1_ms
    assert t1.mean() == pytest.approx(np.log(TISSUES["white_matter"].mean.t1_ms), abs=sd / 5)
    assert t1.std() == pytest.approx(sd, rel=0.16)
    gray = np.log([subject["cortical_gray"].t1_ms for subject in drawn])
    assert abs(np.corrcoef(t1, gray)[0, 1]) < 0.2  # four standard errors
    for subject in drawn:
        # What sequences null, they null in everyone.
        assert subject["csf"].t1_ms == CSF_T1_MS
        assert subject["fat"].t1_ms == FAT_T1_MS
        assert all(value.pd <= 1 for value in subject.values())
        # Means of a subject stay within what is published, give or take 5 %.
        for name, tissue in TISSUES.items():
            low, high = tissue.published_t1_ms
            assert 0.95 * low < subject[name].t1_ms < 1.05 * high


def test_variation_within_a_tissue():
    mean = Relaxation(1000.0, 100.0, 0.7)
    fields = np.array([[0.0, 2.0], [1.0, 0.0], [0.0, -1.0]], dtype=np.float32)
    t1, t2, pd = varied(mean, 1.0, fields)
    # Values of the exponential in float32.
    np.testing.assert_allclose(t1, [1000, 1000 * np.exp(2 * SMOOTH_LOG_SD.t1_ms)], rtol=1e-6)
    np.testing.assert_allclose(t2, [100 * np.exp(SMOOTH_LOG_SD.t2_ms), 100], rtol=1e-6)
    np.testing.assert_allclose(pd, [0.7, 0.7 * np.exp(-SMOOTH_LOG_SD.pd)], rtol=1e-6)
    constant = varied(mean, 0.0, fields)
    assert [float(np.ptp(values)) for values in constant] == [0.0, 0.0, 0.0]
