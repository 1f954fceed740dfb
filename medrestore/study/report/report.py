"""Writes the report of a study: a page that stands alone, CSV tables, analysis.json, methods paragraph."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

import medrestore
from medrestore.checks import InputError, counted, fail
from medrestore.data.tables import records_of
from medrestore.domains.base import quantities
from medrestore.evaluation.pages.page import Block, Box, Facts, Methods, Notes, Paragraphs
from medrestore.files import atomic_path, require_empty_folder
from medrestore.progress import progress_bar
from medrestore.study.analysis.analyze import StudyAnalysis
from medrestore.study.analysis.quantified import Quantified
from medrestore.study.analysis.roc import mean_roc
from medrestore.study.analysis.verdict import listed
from medrestore.study.labels import KIND_TITLES, arm_label, reader_label
from medrestore.study.layout import canonical_json
from medrestore.study.report import figures
from medrestore.study.report.page import ReportPage
from medrestore.study.report.sections import add_group, error_section
from medrestore.study.report.texts import held
from medrestore.study.report.wording import methods_text

__all__ = ["PRIVATE_FILES", "RECORD", "analysis_record", "render_report", "write_report"]

RECORD = "study_analysis.json"
"""What was analyzed and how, and which files came of it: a folder that holds it belongs to a study."""

PRIVATE_FILES = ("reads.csv", *(f"{one.name}_per_case.csv" for one in quantities()), "left_out_cases.csv")
"""Files that name cases: they stay in the folder and are recorded nowhere else."""


def write_report(analysis: StudyAnalysis, folder: str | os.PathLike[str]) -> Path:
    """Write the report into a folder.

    Parameters
    ----------
    analysis
        Of :func:`~medrestore.study.analysis.analyze.analyze_study`.
    folder
        A new folder, or that of an earlier analysis of the same study, whose files are brought up to date.

    Returns
    -------
    pathlib.Path
        The folder: ``report.html``, ``methods.txt``, ``analysis.json`` (primary endpoint), a folder of
        tables and analyses for each kind of readers, ``figures/*.svg``, ``reads.csv`` (unblinded).

    Raises
    ------
    InputError
        When the folder holds other things, or the analysis of another study; nothing is overwritten.

    Notes
    -----
    The same reads give the same bytes. All is computed before the first file is written; each file is whole
    or not there, and the page comes last.
    """
    files = render_report(analysis)
    output = require_empty_folder(folder, belongs="analysis of a study", marker=RECORD)
    record = analysis_record(analysis)
    before = _own_files(output, record)
    for name in files:
        if (output / name).exists() and name not in before:
            fail(
                "is there already and is no file of this analysis",
                path=output / name,
                remedy="name a new folder",
            )
    # From here on a killed process leaves a folder that knows its files.
    _write(output / RECORD, _json({**record, "files": sorted({*files, *before})}))
    for name in progress_bar(
        sorted(files, key=lambda name: name == "report.html"), desc="report", unit="file", leave=False
    ):
        _write(output / name, files[name])
    for name in set(before) - set(files):
        (output / name).unlink(missing_ok=True)
    _write(output / RECORD, _json({**record, "files": sorted(files)}))
    return output


def analysis_record(analysis: StudyAnalysis) -> dict[str, Any]:
    """Return what tells one analysis from another: study, reads and settings."""
    study, settings = analysis.study, analysis.settings
    return {
        "study_id": study.design["study_id"],
        "plan_sha256": study.plan_sha256,
        "reading_list_sha256": study.design["reading_list_sha256"],
        "rows": len(analysis.unblinded.rows),
        "chain_head": analysis.chain_head,
        "settings": dict(vars(settings)),
        **{one.name: analysis.quantified is not None for one in quantities()},
        "software": f"medrestore {medrestore.__version__}",
    }


def render_report(analysis: StudyAnalysis) -> dict[str, bytes]:
    """Return all files of the report by their names."""
    page = _page(analysis)
    paragraphs, references = methods_text(analysis)
    methods = "\n\n".join([*paragraphs, "References", "\n".join(references)]) + "\n"
    files = {"report.html": page.html().encode(), "methods.txt": methods.encode()}
    files |= {f"figures/{name}.svg": svg for name, svg in page.figures.items()}
    if analysis.main.primary is not None:
        files["analysis.json"] = _json(analysis.main.primary.as_dict())
    tables = {"completeness": analysis.completeness, "qualification": analysis.qualification}
    if analysis.quantified is not None:
        name = analysis.quantified.quantity.name
        tables[f"{name}_agreement"] = analysis.quantified.agreement
        tables[f"{name}_per_case"] = analysis.quantified.per_case
    for group in analysis.groups:
        for name, table in vars(group.tables).items():
            tables[f"{group.kind}/{name}"] = table
        for name, found in group.measures.items():
            files[f"{group.kind}/analysis_{name}.json"] = _json(found.as_dict())
        if group.primary is not None and group is not analysis.main:
            files[f"{group.kind}/analysis_primary.json"] = _json(group.primary.as_dict())
        if group.curves:
            tables[f"{group.kind}/roc"] = _roc_table(group.curves)
    tables["reads"] = _reads(analysis)
    tables["left_out_cases"] = _left_out(analysis)
    files |= {f"{name}.csv": _csv(table) for name, table in tables.items() if len(table)}
    return files


def _page(analysis: StudyAnalysis) -> ReportPage:
    study, main = analysis.study, analysis.main
    title = str(study.plan["title"]) or "Reader study"
    kind = "Rehearsal with model readers" if analysis.is_rehearsal else "Reader study"
    dates = analysis.completeness[analysis.completeness["read"] > 0]
    first, last = dates["first"].min(), dates["last"].max()
    when = f"on {first}" if first == last else f"from {first} to {last}"
    page = ReportPage(
        title=f"{kind}: {title}",
        subtitle=f"{counted(len(main.readers), KIND_TITLES[main.kind].lower()[:-1])}, "
        f"{counted(main.cases, 'case')}, {counted(len(main.arms), 'condition')} "
        f"({listed([arm_label(arm) for arm in main.arms])}); read "
        f"{when}; study {study.design['study_id']}",
    )
    if analysis.is_rehearsal:
        page.lead.append(Box(**held("texts")["boxes"]["rehearsal"]))
    if main.verdict is not None:
        estimates, conclusion = main.verdict.sentences
        page.lead.append(Box("key", estimates, bold=conclusion))
    notes = [*analysis.notes, *main.notes]
    if notes:
        page.lead.append(Notes(notes))
    page.section("errors", error_section(page, analysis))
    add_group(page, main, analysis)
    if analysis.quantified is not None:
        parts = _quantified(page, analysis.quantified)
        page.section("quantified", *parts, anchor=analysis.quantified.quantity.name)
    for group in analysis.groups[1:]:
        page.section(
            "models",
            Box(**held("texts")["boxes"]["models"]),
            Paragraphs(group.notes) if group.notes else None,
        )
        add_group(page, group, analysis)
    page.section("record", *_record(page, analysis))
    page.section("methods", Methods(*methods_text(analysis)))
    return page


def _quantified(page: ReportPage, found: Quantified) -> list[Block | None]:
    rows = [
        (
            arm_label(row["arm"]),
            f"{row['cases']}",
            f"{row['bias']:+.3f}",
            f"{row['sd']:.3f}",
            f"{row['lower']:+.3f} to {row['upper']:+.3f}",
        )
        for row in records_of(found.agreement)
    ]
    words = {"phrase": found.quantity.phrase, "reference": arm_label(found.reference)}
    return [
        page.figure("quantified", figures.draw_quantified(found), file=found.quantity.name, **words),
        page.table("quantified", rows, **words),
    ]


def _record(page: ReportPage, analysis: StudyAnalysis) -> list[Block | None]:
    study, rows = analysis.study, analysis.unblinded.rows
    kinds = study.readers
    washout = float(study.plan["washout_days"] or 0)
    reads = []
    for row in records_of(analysis.completeness):
        gap = row["least_days_between_sessions"]
        dates = row["first"] if row["first"] == row["last"] else f"{row['first']} to {row['last']}"
        reads.append(
            (
                reader_label(row["reader"], row["kind"]),
                *(
                    f"{row[name]}"
                    for name in ("planned", "read", "missing", "duplicates", "corrected", "without_time")
                ),
                "–" if pd.isna(gap) else f"{gap:.1f}" + (" *" if gap < washout - 1e-6 else ""),
                dates,
            )
        )
    attempts = [
        (
            reader_label(row["reader"], kinds[row["reader"]]),
            f"{row['attempt']}",
            f"{row['right']}/{row['read']}",
            "yes" if row["passed"] else "no",
        )
        for row in records_of(analysis.qualification)
    ]
    reasons = []
    for group in analysis.groups:
        table = group.tables.corrections
        if len(table):
            totals = table.groupby(["reader", "reason"])["corrections"].sum().reset_index()
            reasons += [
                (reader_label(row["reader"], group.kind), row["reason"] or "–", f"{row['corrections']}")
                for row in records_of(totals)
            ]
    planned = analysis.unblinded.planned
    told = planned[planned["image_sha256"].notna()]
    served = told["image_id"].map(study.key.set_index("image_id")["sha256_served"])
    same = int((told["image_sha256"] == served).sum())
    software = study.design["software"]
    facts = {
        "Study": study.design["study_id"],
        "Frozen": study.design["created"],
        "Plan SHA-256": study.plan_sha256,
        "Reading list SHA-256": study.design["reading_list_sha256"],
        "Rows of reads": f"{len(rows)}, chain intact",
        "Hash of the last row": analysis.chain_head,
        "Origin of reads": listed(
            [f"{count} {name}" for name, count in rows["origin"].value_counts(sort=False).items()]
        ),
        "Images": f"{same} of {len(told)} reads that told what was shown have the frozen image's checksum",
        "Made with": ", ".join(f"{name} {version}" for name, version in software.items()),
        "Read with": ", ".join(f"medrestore {version}" for version in sorted(rows["version"].unique())),
        "Analyzed with": f"medrestore {medrestore.__version__}",
        "Random order": f"{study.design['generator']['name']} {study.design['generator']['version']}",
    }
    return [
        page.table("completeness", reads, short=any(row[-2].endswith("*") for row in reads)),
        page.table("qualification", attempts),
        page.table("corrections", reasons),
        Facts(facts),
    ]


def _reads(analysis: StudyAnalysis) -> pd.DataFrame:
    """Return every read with the blinding lifted, one column a question."""
    held = analysis.unblinded
    table = held.planned[held.planned["answered"]]
    columns = ["reader", "kind", "arm", "case", "subject", "session", "position", "repeat", "seconds", "time"]
    columns += ["corrections", "read_id"]
    answers = pd.DataFrame(list(table["answers"]), index=table.index)
    order = [question.name for question in held.study.protocol.questions if question.name in answers]
    plain = answers[order].map(lambda value: canonical_json(value) if isinstance(value, list) else value)
    joined = table[columns].assign(truth=table["case"].map(dict(held.truth)))
    joined = joined.merge(plain, how="left", left_index=True, right_index=True, suffixes=("", "_answer"))
    return joined.sort_values(["kind", "reader", "session", "position"], kind="stable")


def _left_out(analysis: StudyAnalysis) -> pd.DataFrame:
    held = analysis.unblinded
    rows = [
        {"case": case, "readers": kind, "why": "not read by all"}
        for kind in held.kinds
        for case in held.dropped[kind]
    ]
    rows += [{"case": case, "readers": "all", "why": "no consensus"} for case in held.tied]
    return pd.DataFrame(rows)


def _roc_table(curves: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    parts = []
    for arm, readers in curves.items():
        for reader, curve in {**readers, "all": mean_roc(list(readers.values()))}.items():
            false_positive, true_positive = curve
            points = {"false_positive_rate": false_positive, "true_positive_rate": true_positive}
            parts.append(pd.DataFrame({"arm": arm, "reader": reader, **points}))
    return pd.concat(parts)


def _own_files(output: Path, record: Mapping[str, Any]) -> list[str]:
    """Return the files of the analysis that the folder holds; refuse another study's."""
    path = output / RECORD
    if not path.exists():
        return []
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        files, study = [str(name) for name in held["files"]], held["study_id"]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: is damaged ({error}). Remedy: name a new folder") from error
    if study != record["study_id"]:
        if not any((output / name).exists() for name in files):
            return []  # killed before it wrote anything
        fail(
            f"holds the analysis of study {study}, not of {record['study_id']}",
            path=output,
            remedy="name a new folder; nothing is overwritten",
        )
    return files


def _csv(table: pd.DataFrame) -> bytes:
    return table.to_csv(index=False, lineterminator="\n").encode()


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _write(path: Path, content: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
