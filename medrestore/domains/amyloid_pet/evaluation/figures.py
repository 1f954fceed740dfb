"""The figure of an evaluation: three subjects as every method has them, and the agreement of SUVR."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medrestore.domains.amyloid_pet.domain import DOMAIN
from medrestore.domains.amyloid_pet.measures import Reference
from medrestore.domains.amyloid_pet.schema import STANDARD_DOSE
from medrestore.evaluation.drawing import BLUE, GRAY, INK, RED, Columns, Page, bare
from medrestore.evaluation.panels import Panel, draw_panels
from medrestore.metrics.quantitative import bland_altman

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["choose_scans", "draw_evaluation", "subject_panel"]

POSITIVE, NEGATIVE, UNKNOWN = RED, BLUE, GRAY


def choose_scans(per_subject: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Choose the scans that the figure shows: a typical positive, a typical negative and a border case.

    Typical is the median of its class, the border case lies nearest to the middle between the classes: in the
    SUVR of the standard dose, else in what a classifier says of it.

    Parameters
    ----------
    per_subject
        One row per scan and method.

    Returns
    -------
    dict
        Subject and session by title; fewer than three where there are not as many scans.
    """
    standard = per_subject[per_subject["method"] == STANDARD_DOSE]
    names = ("suvr", "observer_score", "observer_1_score", "task_score")
    scores = [name for name in names if name in standard]
    held = standard.dropna(subset=scores[:1])
    rows: list[dict[str, Any]] = [
        {
            "scan": (str(row["subject_id"]), str(row["session_id"])),
            "label": float(row["label"]),
            "value": float(row[scores[0]]) if scores else 0.0,
        }
        for row in (held if len(held) else standard).to_dict("records")
    ]
    chosen: dict[str, tuple[str, str]] = {}
    means = []
    for title, label in (("Positive", 1), ("Negative", 0)):
        group = sorted((row for row in rows if row["label"] == label), key=lambda row: row["value"])
        if group:
            chosen[title] = group[(len(group) - 1) // 2]["scan"]
            means.append(np.mean([row["value"] for row in group]))
    left = [row for row in rows if row["scan"] not in chosen.values()]
    if left:
        middle = float(np.mean(means)) if means else 0.0
        nearest = min(left, key=lambda row: abs(row["value"] - middle))
        chosen["Border case" if means else "Scan"] = nearest["scan"]
    return chosen


def subject_panel(
    title: str,
    images: Mapping[str, NDArray[np.float32]],
    reference: Reference,
    measured: pd.DataFrame,
) -> Panel:
    """Cut the slice that shows all of the SUVR's target regions, else the middle one, to the head.

    Parameters
    ----------
    title
        What kind of subject it is.
    images : (X, Y, Z) by method
        The standard dose last.
    reference
        Of the subject.
    measured
        Rows of the per-subject table, indexed by method.
    """
    if reference.regions is not None:
        areas = [(reference.regions == label).sum(axis=(0, 1)) for label in reference.target_labels]
        position = int(np.prod([np.cbrt(area) + 0.01 for area in areas], axis=0).argmax())
    else:
        position = (reference.judged.start + reference.judged.stop) // 2
    score = _score_column(measured)
    texts, colors = {}, {}
    for name in images:
        row = measured.loc[name]
        parts = [f"{row['psnr']:.1f} dB"] if name != STANDARD_DOSE else []
        if score:
            parts.append(f"p {row[score]:.2f}")
            colors[name] = RED if row.get(score.replace("_score", "_error"), 0) > 0 else INK
        texts[name] = "  ·  ".join(parts)
    suvr = measured["suvr"].get(STANDARD_DOSE) if "suvr" in measured else None
    note = "" if suvr is None or np.isnan(suvr) else f"\nSUVR {suvr:.2f}"
    return Panel.cut(
        images,
        position,
        reference.foreground,
        reference.voxel_size_mm,
        title=f"{title}{note}",
        texts=texts,
        colors=colors,
    )


TITLE, PLOT = 0.24, 1.8
"""Inches."""


def draw_evaluation(
    panels: Sequence[Panel], per_subject: pd.DataFrame, *, unit: str, path: str | os.PathLike[str]
) -> None:
    """Draw the figure of an evaluation into a PNG file.

    Parameters
    ----------
    panels
        Of the chosen scans.
    per_subject
        One row per scan and method, for the agreement of the SUVR.
    unit
        Of the images.
    path
        Of the file.
    """
    # Regions may be known of some scans only; one difference has no limits.
    agreement = "suvr_bias" in per_subject and bool(
        per_subject.groupby("method")["suvr_bias"].count().drop(STANDARD_DOSE, errors="ignore").min() > 1
    )
    page, columns, top = draw_panels(
        panels,
        metrics=DOMAIN.metrics,
        unit="SUV (g/mL)" if unit == "SUV" else unit,
        colors="gray_r",
        caption=_caption(per_subject, agreement=agreement),
        below=agreement * (TITLE + PLOT + 0.55),
    )
    if agreement:
        _draw_agreement(page, per_subject, columns, top=top + TITLE)
    page.save(path)


def _caption(per_subject: pd.DataFrame, *, agreement: bool) -> str:
    text, score = "", _score_column(per_subject)
    if score:
        text += " p: probability of a positive by the "
        text += "observer" if "observer" in score else "task network"
        text += ", red where it reads the volume wrong."
    if agreement:
        text += "\nBottom: SUVR of each subject, difference to standard dose against their mean; bias (line) "
        text += "and 95 % limits of agreement (dashed)."
    return text


def _score_column(measured: pd.DataFrame) -> str:
    names = ("observer_score", "observer_1_score", "task_score")
    return next((name for name in names if name in measured), "")


def _draw_agreement(page: Page, per_subject: pd.DataFrame, columns: Columns, *, top: float) -> None:
    """Draw a Bland-Altman plot below each method, all on the same axes."""
    held = per_subject.dropna(subset=["suvr_bias"])
    first: Axes | None = None
    for column, method in enumerate(columns.names[:-1]):
        group = held[held["method"] == method]
        measured, bias = group["suvr"].to_numpy(), group["suvr_bias"].to_numpy()
        place = columns.at(column) + 0.05, top, columns.width - 0.1, PLOT
        axes = page.axes(*place, sharex=first, sharey=first)
        agreement = bland_altman(measured, measured - bias)
        axes.axhline(0, color=GRAY, linewidth=0.6)
        axes.axhline(agreement.bias, color=INK, linewidth=1.2)
        for value in (agreement.lower, agreement.upper):
            axes.axhline(value, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
        for label, color in ((1, POSITIVE), (0, NEGATIVE), (-1, UNKNOWN)):
            same = (group["label"].fillna(-1) == label).to_numpy()
            x, y = (measured - bias / 2)[same], bias[same]
            axes.scatter(x, y, s=17, color=color, alpha=0.8, linewidths=0, zorder=3)
        axes.set_title(
            f"{agreement.bias:+.3f}  ({agreement.lower:+.2f}, {agreement.upper:+.2f})", fontsize=9, pad=4
        )
        axes.tick_params(labelsize=8.5, length=2.5)
        axes.set_xlabel("Mean SUVR", fontsize=9.5)
        bare(axes)
        if first is None:
            axes.set_ylabel("SUVR difference", fontsize=10)
            first = axes
        else:
            axes.tick_params(labelleft=False)
    legend = page.axes(columns.at(len(columns.names) - 1), top, columns.width, PLOT)
    legend.set_axis_off()
    kinds = [("Positive", POSITIVE), ("Negative", NEGATIVE)]
    kinds += [("Status not known", UNKNOWN)] * bool(held["label"].isna().any())
    for name, color in kinds:
        legend.scatter([], [], s=24, color=color, label=name)
    legend.legend(loc="center left", frameon=False, fontsize=10)
