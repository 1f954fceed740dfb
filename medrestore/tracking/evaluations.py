"""An evaluation in MLflow: one run a method, so that MLflow's comparison lines their metrics up."""

from __future__ import annotations

from typing import Any

import pandas as pd

from medrestore.evaluation.changes.written import FOLDER, change_files
from medrestore.evaluation.record import Evaluation
from medrestore.evaluation.verdict import verdict_sentences
from medrestore.tracking.environment import flatten
from medrestore.tracking.recording import KIND, environment_tags, metric_points, new_run, record_once
from medrestore.tracking.store import log_file, log_values

__all__ = ["DIFFERENCE", "KIND", "VERDICT", "log_evaluation"]

EVALUATION, METHOD = "evaluation", "evaluation of a method"
DIFFERENCE = "difference"
"""Paired differences are metrics of the whole evaluation: ``difference/taskgan/gan/psnr``."""

VERDICT = "verdict"
"""So are the differences that verdicts are made of: ``verdict/taskgan/input/psnr``. Sentences are tags of
the methods' runs."""

SUBJECTS = "subjects"
"""Tag that holds numbers of subjects; those of differences are ``subjects/difference/taskgan/gan``."""

FILES = (
    *("tables.md", "summary.csv", "differences.csv", "verdicts.csv", "per_subject.csv"),
    *("figure.png", "evaluation.json"),
)


def log_evaluation(
    evaluation: Evaluation, *, experiment: str, tracking_uri: str, run_name: str = "evaluation"
) -> str:
    """Record an evaluation as a run with one nested run for each method.

    Parameters
    ----------
    evaluation
        Of :func:`~medrestore.evaluation.evaluate.run_evaluation`.
    experiment, run_name
        Names in MLflow.
    tracking_uri
        Any that MLflow knows.

    Returns
    -------
    str
        Id of the run. An evaluation that the experiment holds already is not recorded again.

    Notes
    -----
    The mean of a metric is recorded under its name, the ends of its interval as ``NAME_low`` and
    ``NAME_high``; the number of subjects is the tag ``subjects``, with the metrics behind it that have
    another one: :func:`~medrestore.tracking.compare.compare` builds the tables from these alone. Tables,
    figure, the table per subject and the pages of what restorations change are artifacts.

    Raises
    ------
    RecordingError
        When the store cannot be opened or takes no record.
    """

    def write(client: Any, experiment_key: str, parent: str) -> None:
        _record_whole(client, parent, evaluation)
        for order, method in enumerate(evaluation.summary["method"].unique()):
            label = evaluation.metrics.label_of(str(method))
            with new_run(client, experiment_key, label, parent=parent) as child:
                _record_method(client, child, evaluation, str(method), order)

    return record_once(
        tracking_uri,
        experiment,
        run_name,
        record=evaluation.record,
        kept=f"the results are in {evaluation.output}; call the same again to record them",
        write=write,
    )


def _record_whole(client: Any, run_id: str, evaluation: Evaluation) -> None:
    tags = {KIND: EVALUATION, **environment_tags()}
    values: dict[str, float] = {}
    for head, table in ((DIFFERENCE, evaluation.differences), (VERDICT, evaluation.verdicts)):
        for (first, second), rows in table.groupby(["first", "second"], sort=False):
            prefix = f"{head}/{first}/{second}/"
            values |= _numbers(rows, prefix)
            tags[f"{SUBJECTS}/{prefix[:-1]}"] = _counts(rows)
    log_values(client, run_id, parameters=_settings(evaluation), tags=tags, metrics=metric_points(values))
    for name in FILES:
        if (evaluation.output / name).is_file():
            log_file(client, run_id, evaluation.output / name)
    for path in change_files(evaluation.output, evaluation.metrics):
        log_file(client, run_id, path, FOLDER if path.parent != evaluation.output else "")


def _record_method(client: Any, run_id: str, evaluation: Evaluation, method: str, order: int) -> None:
    rows = evaluation.summary[evaluation.summary["method"] == method]
    said = verdict_sentences(evaluation.verdicts, evaluation.metrics).get(method)
    log_values(
        client,
        run_id,
        # A parameter as well as a tag: MLflow's parallel plot takes its axes from parameters.
        parameters={**_settings(evaluation), "method": method},
        tags={KIND: METHOD, "method": method, "order": str(order), SUBJECTS: _counts(rows)}
        | ({VERDICT: said} if said else {}),
        metrics=metric_points(_numbers(rows, "")),
    )


def _settings(evaluation: Evaluation) -> dict[str, str]:
    kept = {
        key: value
        for key, value in evaluation.record.items()
        if key not in ("tuned_filters", "filters", "pairs")
    }
    filters = evaluation.record.get("tuned_filters", {})
    tuned = {f"{name}_{item['parameter']}": item["value"] for name, item in filters.items()}
    return flatten({**kept, "filters": tuned})


def _numbers(rows: pd.DataFrame, prefix: str) -> dict[str, float]:
    values: dict[str, float] = {}
    for row in rows.to_dict("records"):
        ends = {"": row["mean"], "_low": row["low"], "_high": row["high"]}
        values |= {f"{prefix}{row['metric']}{end}": float(value) for end, value in ends.items()}
    return values


def _counts(rows: pd.DataFrame) -> str:
    """Return the number of subjects of most metrics, and the metrics of other numbers.

    >>> _counts(pd.DataFrame({"metric": ["psnr", "ssim", "dice"], "subjects": [20, 20, 7]}))
    '20, dice 7'
    """
    common = int(rows["subjects"].mode()[0])
    others = rows[rows["subjects"] != common]
    listed = [f"{row['metric']} {int(row['subjects'])}" for row in others.to_dict("records")]
    return ", ".join([str(common), *listed])
