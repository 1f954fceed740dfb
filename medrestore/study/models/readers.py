"""Model readers: task networks and thresholds that read a study, to rehearse it before people do.

A model reader sees what a person would: the blinded image of ``public/images``, alone. Its latent score is
the log odds of a task network over the middle slices, or what its regions measure; each presentation adds
internal noise to it, so hidden duplicates differ. The side of the reader's criterion is the decision, the
distance from it the confidence. What a model cannot judge (image quality, artifacts, regional ratings) is
left out.
"""

from __future__ import annotations

import math
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from medrestore.checks import InputError, counted, fail, require_in_range
from medrestore.domains.base import quantity_of
from medrestore.files import require_file, sha256_file
from medrestore.rng import generator
from medrestore.study.layout import READING, Study, canonical_json, open_study, sha256_text
from medrestore.study.models.scores import image_scores, quantified_cohort
from medrestore.study.protocol import Protocol
from medrestore.study.record.store import ReadStore

__all__ = ["answers_of", "simulate"]

CRITERION_SPREAD = 0.5
"""Standard deviation over readers of where each puts its threshold, in units of the internal noise: readers
of one kind differ less from each other than from themselves."""

CERTAIN = 1.25
"""Distance from the criterion, in standard deviations of the score over cases, from which on a reader is
certain; the levels of confidence below share it evenly. The means of two classes that are well apart lie
about 1 from it."""


@dataclass(frozen=True)
class _Scored:
    """What a reader makes of every image: score by image_id, its spread over cases, and the criterion."""

    score: Mapping[str, float]
    spread: float
    criterion: float


def simulate(
    folder: str | os.PathLike[str],
    *,
    weights: Sequence[str | os.PathLike[str]] = (),
    manifest: str | os.PathLike[str] | None = None,
    noise: float = 0.3,
    seed: int = 0,
) -> int:
    """Let the plan's readers of kind ``model`` read the study; people's readings are never touched.

    Parameters
    ----------
    folder
        The study.
    weights
        ``model.pt`` of task networks, one a reader: they go to the first model readers by name. None of them
        may have taken part in training what is compared.
    manifest
        With region maps, for the remaining model readers: they read by a threshold on what regions measure,
        fitted to the targets of its training and validation splits that are not in the study.
    noise
        Standard deviation of the internal noise of each presentation, in standard deviations of the reader's
        score over cases.
    seed
        Of the noise: a stream for each reader and reading.

    Returns
    -------
    int
        Number of reads put on record; reads that are there already are kept.

    Raises
    ------
    InputError
        When the study has no model readers, no decision or no volumes, weights or manifest do not fit them,
        an image is not the one that was frozen, or model reads of other settings are on record.

    Notes
    -----
    The path from volume to score is that of evaluations of the kind of image, except that foreground and
    scale are the image's own: a blinded reader has no other image of the case. Only readings of the study
    itself are answered, no training or qualification.
    """
    study = open_study(folder)
    require_in_range("noise", noise, 0, math.inf, include_high=False)
    readers = sorted(name for name, kind in study.readers.items() if kind == "model")
    _require_fitting(study, readers, weights, manifest)
    identities = dict(zip(readers, map(sha256_file, map(Path, weights)), strict=False))
    if manifest is not None:
        by_threshold = f"{quantity_of(manifest).name} {sha256_file(Path(manifest))}"
        identities |= {reader: by_threshold for reader in readers if reader not in identities}
    settings = {reader: (seed, float(noise), identity) for reader, identity in identities.items()}
    with ReadStore(study) as store:
        todo = _unread(study, settings, store.rows())
        if todo.empty:
            return 0
        scored = _scored(study, readers, weights, manifest, noise=noise, seed=seed)
        for reader, readings in todo.groupby("reader", sort=True):
            store.append_many(
                {
                    "answer_id": row.answer_id,
                    "read_id": row.read_id,
                    "reader": str(reader),
                    "answers": _presented(
                        study.protocol, scored[str(reader)], row, reader=str(reader), noise=noise, seed=seed
                    ),
                    "origin": "model",
                    "image_sha256": row.sha256_served,
                }
                for row in readings.itertuples()
            )
    return len(todo)


def _require_fitting(
    study: Study,
    readers: Sequence[str],
    weights: Sequence[str | os.PathLike[str]],
    manifest: str | os.PathLike[str] | None,
) -> None:
    if not readers:
        fail(
            "the study has no model readers",
            path=study.folder,
            remedy="name some in a plan, e.g. readers: {model_1: {kind: model}}, and create a study from it",
        )
    if not study.protocol.decision:
        fail("its questions ask for no decision, and model readers make nothing else", path=study.folder)
    if study.protocol.dimensions != 3:
        fail("holds single images; model readers read volumes", path=study.folder)
    if len(weights) > len(readers):
        fail(
            f"has {counted(len(readers), 'model reader')} ({', '.join(readers)}), got {len(weights)} weights",
            path=study.folder,
            remedy="give one model.pt a reader at most",
        )
    if len(weights) < len(readers) and manifest is None:
        fail(
            f"no weights are left for {', '.join(readers[len(weights) :])}",
            path=study.folder,
            remedy="give one model.pt a reader, or a manifest with regions, by which the others read",
        )
    # Files that are missing are told before anything is computed.
    for path in (*weights, *([] if manifest is None else [manifest])):
        require_file(path)


def _unread(study: Study, settings: Mapping[str, tuple[Any, ...]], rows: pd.DataFrame) -> pd.DataFrame:
    """Return the readings of model readers that are not on record, in order, each with its answer_id."""
    table = study.reading_list
    table = table[table["reader"].isin(settings) & (table["phase"] == READING)].merge(
        study.key[["image_id", "case", "arm", "sha256_served"]], on="image_id", how="left", validate="m:1"
    )
    # The id tells the settings: a repeated call finds its reads, one of other settings is told apart.
    table["answer_id"] = [
        str(uuid.UUID(sha256_text(canonical_json([*settings[reader], read_id]))[:32]))
        for reader, read_id in zip(table["reader"].astype(str), table["read_id"], strict=True)
    ]
    read = rows[rows["read_id"].isin(table["read_id"])]
    others = read[(read["origin"] == "model") & ~read["answer_id"].isin(table["answer_id"])]
    if len(others):
        fail(
            f"{len(others)} reads of {', '.join(sorted(set(others['reader'])))} are on record that were made "
            "with another seed, noise, weights or manifest; a read is never replaced",
            path=study.reads_path,
            remedy="repeat the earlier settings, or create another study from the plan",
        )
    todo = table[~table["read_id"].isin(read["read_id"])]
    return todo.sort_values(["reader", "session", "position"], kind="stable")


def _presented(
    protocol: Protocol, scored: _Scored, row: Any, *, reader: str, noise: float, seed: int
) -> dict[str, Any]:
    """Return the answers to one presentation of an image."""
    internal = noise * generator(seed, "model reader", reader, str(row.read_id)).standard_normal()
    return answers_of(protocol, (scored.score[row.image_id] - scored.criterion) / scored.spread + internal)


def answers_of(protocol: Protocol, distance: float) -> dict[str, Any]:
    """Return what a model answers: the decision, and the confidence or score where the protocol asks for one.

    Parameters
    ----------
    protocol
        With a decision.
    distance
        Of the image from the reader's criterion, in standard deviations of its score over cases; positive
        when the image reads positive.
    """
    answers: dict[str, Any] = {protocol.decision: distance > 0}
    if not protocol.score:
        return answers
    question = protocol[protocol.score]
    if question.type == "derived":
        names = question.rule.get("signed_confidence")
        if names is None or names[0] != protocol.decision:
            return answers
        question = protocol[names[1]]
        levels = sorted(question.options)
        value: float = levels[min(int(abs(distance) / CERTAIN * len(levels)), len(levels) - 1)]
    else:
        share = 0.5 * (1 + math.erf(distance / math.sqrt(2)))
        if question.type == "choice":
            levels = sorted(question.options)
            value = levels[min(int(share * len(levels)), len(levels) - 1)]
        elif question.range is not None:
            low, high = question.range
            value = low + (high - low) * share
            value = round(value) if question.type == "integer" else value
        else:
            return answers
    if all(answers.get(other) == wanted for other, wanted in question.when.items()):
        answers[question.name] = value
    return answers


def _scored(
    study: Study,
    readers: Sequence[str],
    weights: Sequence[str | os.PathLike[str]],
    manifest: str | os.PathLike[str] | None,
    *,
    noise: float,
    seed: int,
) -> dict[str, _Scored]:
    """Compute what each reader makes of each image; every image is read once for all."""
    from medrestore.evaluation.observers import load_observer

    observers = [load_observer(path, name=name) for name, path in zip(readers, weights, strict=False)]
    by_threshold, quantity = readers[len(observers) :], quantity_of(manifest)
    regions: dict[str, Path] = {}
    threshold = math.nan
    if manifest is not None and by_threshold:
        regions, threshold = quantified_cohort(study, manifest, quantity)
    scores = image_scores(study, observers, regions, quantity)
    criteria = {observer.name: (f"{observer.name}_score", 0.0, 0.0) for observer in observers}
    for reader in by_threshold:
        shift = CRITERION_SPREAD * noise * generator(seed, "model reader criterion", reader).standard_normal()
        criteria[reader] = (quantity.name, threshold, shift)
    found = {}
    for reader, (column, criterion, shift) in criteria.items():
        spread = math.sqrt(scores.groupby("arm")[column].var(ddof=0).mean())
        if not spread > 0:
            raise InputError(
                f"model reader {reader} gives all images of an arm the same score. Remedy: check its weights"
            )
        score = dict(zip(scores["image_id"], scores[column], strict=True))
        found[reader] = _Scored(score, spread, criterion + shift * spread)
    return found
