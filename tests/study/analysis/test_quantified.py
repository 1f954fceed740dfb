from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from manifest import cells, write_manifest

from medrestore.checks import InputError
from medrestore.data.identity import scan_name
from medrestore.data.volumes import read_volume, write_volume
from medrestore.domains.amyloid_pet.schema import pair_schema
from medrestore.domains.amyloid_pet.study import SUVR
from medrestore.metrics.quantitative import bland_altman, composite_suvr
from medrestore.study.analysis import analyze
from medrestore.study.analysis.analyze import analyze_study
from medrestore.study.analysis.quantified import quantified
from medrestore.study.create import create_study
from medrestore.study.layout import Study
from medrestore.study.report.report import PRIVATE_FILES, render_report

CORTEX, CEREBELLUM = 2, 7
QUANTITY = dataclasses.replace(
    SUVR,
    measure=lambda image, codes: composite_suvr(
        image, codes, target_labels=(CORTEX,), reference_labels=(CEREBELLUM,)
    ),
)
PLAN = """
title: Brain PET
seed: 3
arms:
  fulldosezz: {{manifest: manifest.csv, column: target, split: {split}}}
  reduceddosezz: {{manifest: manifest.csv, column: degraded, split: {split}}}
truth: {{manifest: manifest.csv, column: amyloid_status}}
readers: [anna, bert]
questions: florbetaben
washout_days: 0
duplicate_fraction: 0
"""


@pytest.fixture
def cohort(make_tiny_cohort: Callable[..., Path], tmp_path: Path) -> Path:
    """Return a manifest with region maps: a cortical block, a cerebellar one, elsewhere nothing."""
    manifest = make_tiny_cohort(tmp_path / "cohort")
    table = pd.read_csv(manifest, dtype=str)
    regions = []
    for row in table.to_dict("records"):
        target = read_volume(manifest.parent / row["target"])
        codes = np.zeros(target.data.shape, np.int16)
        codes[8:14, 10:22, 3:7], codes[18:24, 10:22, 3:7] = CORTEX, CEREBELLUM
        path = f"subjects/{row['subject_id']}/regions.nii.gz"
        write_volume(codes, target.source, manifest.parent / path, dtype="int16")
        regions.append(path)
    table = table.drop(columns=[name for name in table if name.endswith("_sha256")]).assign(regions=regions)
    table["amyloid_status"], table["dose_fraction"] = table["amyloid_status"].astype(int), 0.01
    write_manifest(pair_schema(), table, manifest.parent)
    (manifest.parent / "plan.yaml").write_text(PLAN.format(split="train"))
    return manifest


@pytest.fixture
def created(cohort: Path, tmp_path: Path) -> Study:
    return create_study(cohort.parent / "plan.yaml", output=tmp_path / "study", workers=1)


def test_suvr_of_every_image_by_a_slow_loop(created, cohort):
    found = quantified(created, cohort, quantity=QUANTITY, reference="fulldosezz", workers=1)
    rows = pair_schema().read(cohort)
    expected = {}
    for row in rows[rows["split"] == "train"].to_dict("records"):
        codes = read_volume(row["regions_path"]).data
        for arm, column in (("fulldosezz", "target_path"), ("reduceddosezz", "degraded_path")):
            image = read_volume(row[column]).data.astype(np.float64)
            ratio = image[codes == CORTEX].mean() / image[codes == CEREBELLUM].mean()
            expected[scan_name(row["subject_id"], row["session_id"]), arm] = ratio
    table = found.per_case.set_index(["case", "arm"])
    assert set(table.index) == set(expected)
    for key, value in expected.items():
        assert table.loc[key, "suvr"] == pytest.approx(value, rel=1e-6)
    cases = list(created.plan["cases"])
    low, full = ([expected[case, arm] for case in cases] for arm in ("reduceddosezz", "fulldosezz"))
    assert found.agreement["arm"].tolist() == ["reduceddosezz"]
    limits = found.agreement[["bias", "sd", "lower", "upper"]].to_numpy()[0]
    np.testing.assert_allclose(limits, bland_altman(low, full), rtol=1e-5)
    assert table.xs("fulldosezz", level="arm")["difference"].isna().all()


def test_what_is_gone_is_named(created, cohort, tmp_path):
    table = cells(cohort)
    case = created.plan["cases"][0]
    table.loc[table["subject_id"] == case.partition("_")[0], ["regions", "regions_sha256"]] = ""
    bare = cohort.with_name("bare.csv")
    table.to_csv(bare, index=False)
    with pytest.raises(
        InputError, match=rf"1 of 4 cases are not in it or have no region map, such as '{case}'"
    ):
        quantified(created, bare, quantity=QUANTITY, reference="fulldosezz")
    gone = Path(created.key["source"].iloc[-1])
    shutil.move(gone, tmp_path / "elsewhere.nii.gz")
    with pytest.raises(InputError, match=r"the image of arm '.*' is gone"):
        quantified(created, cohort, quantity=QUANTITY, reference="fulldosezz")


def test_the_report_shows_it_beside_the_reads(created, cohort, monkeypatch, fill):
    monkeypatch.setattr(analyze, "quantity_of", lambda _: QUANTITY)
    regions = ("lateral_temporal", "frontal", "posterior_cingulate_precuneus", "parietal")

    def answer(row: Any) -> Any:
        given = {f"rctu_{region}": 2 if row["truth"] else 1 for region in regions}
        given |= {
            "amyloid_status": bool(row["truth"]),
            "confidence": 3,
            "image_quality": 4,
            "artefact": False,
        }
        return given

    files = render_report(analyze_study(fill(created, answer), manifest=cohort))
    assert "figures/suvr.svg" in files
    assert b"Regional quantification" in files["report.html"]
    assert b"Bland JM, Altman DG" in files["methods.txt"]
    for name, content in files.items():
        named = any(case.encode() in content for case in created.plan["cases"])
        assert named == (name in PRIVATE_FILES), name
    assert files["suvr_per_case.csv"].count(b"\n") == 1 + 2 * 4
