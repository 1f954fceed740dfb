"""The tables of evaluations from MLflow alone: nothing is read but the metrics of its runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from medrestore.checks import InputError
from medrestore.domains.base import metrics_of
from medrestore.evaluation.rendering import render as render_tables
from medrestore.tracking.environment import import_mlflow, without_credentials
from medrestore.tracking.evaluations import DIFFERENCE, EVALUATION, KIND, METHOD, SUBJECTS, VERDICT
from medrestore.tracking.store import open_existing, recording

__all__ = ["compare", "render"]

ENDS = ("_low", "_high", "_subjects")
COLUMNS = ("evaluation", "domain", "method", "second", "verdict", "metric", "mean", "low", "high", "subjects")


def compare(experiment: str, *, tracking_uri: str) -> pd.DataFrame:
    """Return all numbers of the evaluations that an experiment holds, the latest first.

    Parameters
    ----------
    experiment
        Name in MLflow.
    tracking_uri
        Of the store.

    Returns
    -------
    pandas.DataFrame
        ``evaluation`` (name, id and start of the run), ``domain``, ``method``, ``second`` (of a paired
        difference method - second, else empty), ``metric``, ``mean``, ``low``, ``high``, ``subjects``.

    Raises
    ------
    InputError
        When there is no such store or experiment (names those there are), or it holds no finished evaluation.
    """
    if not experiment:
        raise InputError("experiment has no name. Remedy: name one that holds evaluations")
    client = open_existing(tracking_uri)
    with recording(tracking_uri):
        return _read(client, experiment, tracking_uri)


def _read(client: Any, experiment: str, tracking_uri: str) -> pd.DataFrame:
    shown = without_credentials(tracking_uri)
    found = client.get_experiment_by_name(experiment)
    if found is None:
        held = ", ".join(sorted(item.name for item in client.search_experiments())) or "none"
        raise InputError(f"{shown}: has no experiment {experiment!r}; it has {held}")
    rows: list[dict[str, Any]] = []
    for parent in _runs(client, found.experiment_id, f"tags.{KIND} = '{EVALUATION}'"):
        if parent.info.status != "FINISHED":
            continue
        began = pd.Timestamp(parent.info.start_time, unit="ms").strftime("%Y-%m-%d %H:%M:%S")
        name = {
            "evaluation": f"{parent.info.run_name} {parent.info.run_id[:8]}, {began} UTC",
            "domain": parent.data.params.get("domain", ""),
        }
        inside = f"tags.{KIND} = '{METHOD}' and tags.mlflow.parentRunId = '{parent.info.run_id}'"
        children = _runs(client, found.experiment_id, inside)
        for child in sorted(children, key=lambda run: int(run.data.tags["order"])):
            said = child.data.tags.get(VERDICT, "")
            method = {"method": child.data.tags["method"], "second": "", "verdict": said}
            counts = child.data.tags.get(SUBJECTS, "")
            rows += [name | method | numbers for numbers in _numbers(child.data.metrics, counts)]
        rows += [name | numbers for numbers in _differences(parent.data)]
    if not rows:
        raise InputError(
            f"experiment {experiment!r} of {shown} holds no finished evaluation. "
            "Remedy: record one with medrestore evaluate and --experiment"
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def render(table: pd.DataFrame) -> str:
    """Return the tables of every evaluation as aligned Markdown.

    Parameters
    ----------
    table
        Of :func:`compare`.
    """
    parts = []
    for (name, domain), group in table.groupby(["evaluation", "domain"], sort=False):
        summary = group[group["second"] == ""]
        differences = group[group["second"] != ""].rename(columns={"method": "first"})
        said = summary[summary["verdict"] != ""].groupby("method", sort=False)["verdict"].first().to_dict()
        metrics = metrics_of(str(domain), group["metric"])
        text = render_tables(summary, differences, metrics, verdicts={str(key): said[key] for key in said})
        parts.append(f"## {name}\n\n{text}")
    return "\n".join(parts)


def _runs(client: Any, experiment_key: str, condition: str) -> list[Any]:
    import_mlflow()
    found: list[Any] = []
    token = None
    while True:
        page = client.search_runs([experiment_key], condition, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def _numbers(metrics: Mapping[str, float], counts: str) -> list[dict[str, Any]]:
    """Put the mean and the ends of its interval, three metrics of MLflow, and its subjects into one row."""
    nothing = float("nan")
    common, _, others = counts.partition(", ")
    subjects = dict(item.rsplit(" ", 1) for item in others.split(", ") if item)
    return [
        {
            "metric": name,
            "mean": value,
            "low": metrics.get(f"{name}_low", nothing),
            "high": metrics.get(f"{name}_high", nothing),
            # Records of before there was the tag have the number as one more metric.
            "subjects": int(metrics.get(f"{name}_subjects", subjects.get(name, common or 0))),
        }
        for name, value in metrics.items()
        if not name.endswith(ENDS)
    ]


def _differences(data: Any) -> list[dict[str, Any]]:
    pairs: dict[tuple[str, str], dict[str, float]] = {}
    for key, value in data.metrics.items():
        head, _, rest = key.partition("/")
        if head == DIFFERENCE:
            first, second, name = rest.split("/", 2)
            pairs.setdefault((first, second), {})[name] = value
    return [
        {"method": first, "second": second, "verdict": ""} | numbers
        for (first, second), held in pairs.items()
        for numbers in _numbers(held, data.tags.get(f"{SUBJECTS}/{DIFFERENCE}/{first}/{second}", ""))
    ]
