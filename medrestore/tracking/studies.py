"""A reader study in MLflow: a run for the analysis, and one nested run for every reader and arm."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

from medrestore.data.tables import records_of
from medrestore.study.analysis.analyze import StudyAnalysis
from medrestore.study.analysis.reader_group import ReaderGroup
from medrestore.study.analysis.unblinded import MODEL
from medrestore.study.labels import ALL, arm_label, reader_label
from medrestore.study.report.report import PRIVATE_FILES, RECORD, analysis_record
from medrestore.tracking.environment import flatten
from medrestore.tracking.recording import KIND, environment_tags, metric_points, new_run, record_once
from medrestore.tracking.store import log_file, log_values

__all__ = ["READ", "STUDY", "log_study"]

STUDY, READ = "reader study", "reads of one reader and arm"
DIFFERENCE = "difference"


def log_study(analysis: StudyAnalysis, folder: str | os.PathLike[str], *, tracking_uri: str) -> str:
    """Record the analysis of a study in the experiment of that study.

    Parameters
    ----------
    analysis
        Of :func:`~medrestore.study.analysis.analyze.analyze_study`.
    folder
        Where :func:`~medrestore.study.report.report.write_report` has written its report.
    tracking_uri
        Any that MLflow knows.

    Returns
    -------
    str
        Id of the run. An analysis that the experiment ``study_STUDYID`` holds already is not recorded again.

    Notes
    -----
    The run has the plan's settings and checksums as parameters, report, tables and ``analysis.json`` files as
    artifacts, and as metrics each arm's mean over readers, ``taskgan/error_rate``, and the differences,
    ``difference/taskgan/standard/error_rate``, of human readers; those of model readers begin with
    ``model/``, and are the only ones in a rehearsal. Every nested run has the same metrics under the same
    names, so that MLflow's comparison lines readers and arms up; what was not measured of one is NaN there.
    Files that name cases are not recorded.

    Raises
    ------
    RecordingError
        When the store cannot be opened or takes no record.
    """

    def write(client: Any, experiment: str, parent: str) -> None:
        cells = _cells(analysis)
        # Every nested run has every metric, whoever read it: MLflow compares runs by the names of metrics.
        names = dict.fromkeys(metric for cell in cells for metric in cell.metrics)
        _record_whole(client, parent, analysis, Path(folder))
        for order, cell in enumerate(cells):
            labels = {"reader": cell.reader, "arm": cell.arm, "reader_kind": cell.kind}
            values = {metric: cell.metrics.get(metric, math.nan) for metric in names}
            title = f"{reader_label(cell.reader, cell.kind)}, {arm_label(cell.arm)}"
            with new_run(client, experiment, title, parent=parent) as child:
                log_values(
                    client,
                    child,
                    parameters=labels,
                    tags={KIND: READ, **labels, "order": str(order)},
                    metrics=metric_points(values, keep_nan=True),
                )

    return record_once(
        tracking_uri,
        f"study_{analysis.study.design['study_id']}",
        "rehearsal with model readers" if analysis.is_rehearsal else "reader study",
        record=analysis_record(analysis),
        kept=f"the analysis is in {Path(folder)}; call the same again to record it",
        write=write,
    )


class _Cell(NamedTuple):
    """What one reader found under one arm."""

    kind: str
    reader: str
    arm: str
    metrics: dict[str, float]


def _cells(analysis: StudyAnalysis) -> list[_Cell]:
    cells = []
    for group in analysis.groups:
        found: dict[tuple[str, str], dict[str, float]] = {}
        for name, result in group.measures.items():
            for row in result.per_reader:
                found.setdefault((row.reader, row.method), {})[name] = row.estimate
        for times in records_of(group.tables.reading_times):
            if times["reader"] != ALL:
                values = found.setdefault((times["reader"], times["arm"]), {})
                values["reading_seconds_median"] = float(times["median"])
        reads = analysis.unblinded.reads(group.kind)
        counts = reads[reads["repeat"] == 0].groupby(["reader", "arm"]).size()
        for count in records_of(counts.rename("reads").reset_index()):
            found.setdefault((count["reader"], count["arm"]), {})["reads"] = float(count["reads"])
        cells += [
            _Cell(group.kind, reader, arm, found[reader, arm])
            for reader in group.readers
            for arm in group.arms
            if (reader, arm) in found
        ]
    return cells


def _record_whole(client: Any, run_id: str, analysis: StudyAnalysis, folder: Path) -> None:
    tags = {
        KIND: STUDY,
        "reader_kind": analysis.main.kind,
        "verdict": analysis.main.verdict.text if analysis.main.verdict else "no primary endpoint",
        **environment_tags(),
    }
    values: dict[str, float] = {}
    for group in analysis.groups:
        values |= _means(group, "model/" if group.kind == MODEL else "")
    parameters = flatten({**analysis_record(analysis), "plan": _settings(analysis), **_sizes(analysis)})
    log_values(client, run_id, parameters=parameters, tags=tags, metrics=metric_points(values))
    for name in json.loads((folder / RECORD).read_text(encoding="utf-8"))["files"]:
        if name not in PRIVATE_FILES:
            inside = Path(name).parent.as_posix()
            log_file(client, run_id, folder / name, "" if inside == "." else inside)


def _means(group: ReaderGroup, prefix: str) -> dict[str, float]:
    values: dict[str, float] = {}
    for name, result in group.measures.items():
        for row in result.methods:
            values[f"{prefix}{row.method}/{name}"] = row.mean
        for pair in result.differences_from_reference or result.differences:
            values[f"{prefix}{DIFFERENCE}/{pair.first}/{pair.second}/{name}"] = pair.difference
    return values


def _sizes(analysis: StudyAnalysis) -> dict[str, int]:
    sizes = {f"{group.kind}_readers": len(group.readers) for group in analysis.groups}
    return {**sizes, "cases": analysis.main.cases, "arms": len(analysis.main.arms)}


def _settings(analysis: StudyAnalysis) -> dict[str, Any]:
    """Return the plan without what names cases, files or folders."""
    plan = analysis.study.plan
    kept = ("title", "seed", "sessions", "washout_days", "duplicate_fraction", "deface", "primary", "guess")
    settings: dict[str, Any] = {name: plan[name] for name in kept if plan.get(name) is not None}
    truth = plan.get("truth") or {}
    settings["truth"] = f"consensus of {truth['consensus_of']}" if "consensus_of" in truth else "given"
    settings["questions"] = analysis.study.protocol.name
    for name in ("training", "qualification"):
        if plan.get(name):
            settings[name] = {**plan[name], "cases": len(plan[name]["cases"])}
    return settings
