"""The figure of an evaluation: three subjects as every method has them, and the agreement of SUVR."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medrestore.domains.amyloid_pet.domain import DOMAIN
from medrestore.domains.amyloid_pet.evaluation.arms import STANDARD_DOSE
from medrestore.domains.amyloid_pet.evaluation.measures import Reference
from medrestore.evaluation.drawing import (
    BLUE,
    GRAY,
    INK,
    RED,
    Page,
    bare,
    head_box,
    show_slice,
    wrapped,
)
from medrestore.metrics.quantitative import bland_altman

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["SubjectPanel", "choose_scans", "draw_evaluation"]

DIFFERENCE_PART = 0.3
"""Window of difference images as a part of the images' window."""

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


@dataclass(frozen=True, eq=False)
class SubjectPanel:
    """One axial slice of one scan as every method has it.

    Parameters
    ----------
    title
        What kind of subject it is.
    images : (X, Y) by method
        The standard dose last.
    voxel_size_mm
        Of X and Y.
    measured
        Rows of the per-subject table, indexed by method.
    """

    title: str
    images: dict[str, NDArray[np.float32]]
    voxel_size_mm: tuple[float, float]
    measured: pd.DataFrame

    @classmethod
    def cut(
        cls,
        *,
        title: str,
        images: Mapping[str, NDArray[np.float32]],
        reference: Reference,
        voxel_size_mm: Sequence[float],
        target_labels: Sequence[int],
        measured: pd.DataFrame,
    ) -> SubjectPanel:
        """Cut the slice that shows all of the SUVR's target regions, else the middle one, to the head."""
        if reference.regions is not None:
            areas = [(reference.regions == label).sum(axis=(0, 1)) for label in target_labels]
            position = int(np.prod([np.cbrt(area) + 0.01 for area in areas], axis=0).argmax())
        else:
            position = (reference.judged.start + reference.judged.stop) // 2
        box = head_box(reference.foreground[:, :, position], voxel_size_mm=voxel_size_mm)
        return cls(
            title=title,
            images={name: image[box[0], box[1], position].copy() for name, image in images.items()},
            voxel_size_mm=(float(voxel_size_mm[0]), float(voxel_size_mm[1])),
            measured=measured,
        )


# Inches.
COLUMN, GAP, LEFT, SIDE, HEADER, TITLE, BETWEEN, PLOT, CAPTION = (
    1.7,
    0.07,
    0.8,
    0.95,
    0.3,
    0.24,
    0.16,
    1.8,
    0.5,
)


def draw_evaluation(
    panels: Sequence[SubjectPanel], per_subject: pd.DataFrame, *, unit: str, path: str | os.PathLike[str]
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
    methods = list(panels[0].images)
    # Regions may be known of some scans only; one difference has no limits.
    agreement = "suvr_bias" in per_subject and bool(
        per_subject.groupby("method")["suvr_bias"].count().drop(STANDARD_DOSE, errors="ignore").min() > 1
    )
    heights = [COLUMN * _aspect(panel) for panel in panels]
    width = LEFT + len(methods) * (COLUMN + GAP) + SIDE
    height = HEADER + sum(TITLE + 2 * image + GAP + BETWEEN for image in heights) + CAPTION
    height += agreement * (TITLE + PLOT + 0.55)
    page = Page.blank(width, height)
    for column, method in enumerate(methods):
        middle = LEFT + column * (COLUMN + GAP) + COLUMN / 2
        page.write(middle, 0.21, DOMAIN.metrics.label_of(method), size=12, weight="bold")
    top = HEADER
    for panel, image in zip(panels, heights, strict=True):
        _draw_panel(page, panel, top=top + TITLE, height=image, methods=methods, unit=unit)
        top += TITLE + 2 * image + GAP + BETWEEN
    if agreement:
        _draw_agreement(page, per_subject, top=top + TITLE, methods=methods)
    page.write_caption(wrapped(_caption(panels, agreement=agreement), width))
    page.save(path)


def _aspect(panel: SubjectPanel) -> float:
    x, y = panel.images[STANDARD_DOSE].shape
    return float(y * panel.voxel_size_mm[1] / (x * panel.voxel_size_mm[0]))


def _caption(panels: Sequence[SubjectPanel], *, agreement: bool) -> str:
    text = "Axial slices, subject's right on the left; each subject in one window. dB: PSNR of the volume."
    if any(_score_column(panel.measured) for panel in panels):
        text += " p: probability of a positive by the "
        text += "observer" if "observer" in _score_column(panels[0].measured) else "task network"
        text += ", red where it reads the volume wrong."
    if agreement:
        text += "\nBottom: SUVR of each subject, difference to standard dose against their mean; bias (line) "
        text += "and 95 % limits of agreement (dashed)."
    return text


def _score_column(measured: pd.DataFrame) -> str:
    names = ("observer_score", "observer_1_score", "task_score")
    return next((name for name in names if name in measured), "")


def _draw_panel(
    page: Page, panel: SubjectPanel, *, top: float, height: float, methods: Sequence[str], unit: str
) -> None:
    """Draw a scan's images and, below them, their differences to standard dose."""
    standard = panel.images[STANDARD_DOSE]
    peak = float(np.quantile(standard, 0.998))
    limit = DIFFERENCE_PART * peak
    bars = []
    for column, method in enumerate(methods):
        left = LEFT + column * (COLUMN + GAP)
        axes = page.axes(left, top, COLUMN, height)
        bars.append(
            show_slice(axes, panel.images[method], panel.voxel_size_mm, cmap="gray_r", vmin=0.0, vmax=peak)
        )
        text, color = _numbers(panel, method)
        axes.set_title(text, fontsize=9.5, color=color, pad=3)
        if method == STANDARD_DOSE:
            continue
        below = page.axes(left, top + height + GAP, COLUMN, height)
        difference = panel.images[method] - standard
        bars.append(
            show_slice(below, difference, panel.voxel_size_mm, cmap="RdBu_r", vmin=-limit, vmax=limit)
        )
        if column == 0:
            suvr = panel.measured["suvr"].get(STANDARD_DOSE) if "suvr" in panel.measured else None
            note = "" if suvr is None or np.isnan(suvr) else f"\nSUVR {suvr:.2f}"
            axes.set_ylabel(f"{panel.title}{note}", fontsize=11.5, fontweight="bold", labelpad=8)
            below.set_ylabel("Difference to\nstandard dose", fontsize=10, labelpad=8)
    shown = "SUV (g/mL)" if unit == "SUV" else unit
    beside = LEFT + len(methods) * (COLUMN + GAP) + 0.04
    for offset, mappable, name in ((0.0, bars[0], shown), (height + GAP, bars[1], f"Δ {shown}".strip())):
        bar = page.figure.colorbar(mappable, cax=page.axes(beside, top + offset, 0.11, height))
        bar.set_label(name, fontsize=9.5)
        bar.ax.tick_params(labelsize=8.5)


def _numbers(panel: SubjectPanel, method: str) -> tuple[str, str]:
    """Return what stands above an image, and its color."""
    measured = panel.measured.loc[method]
    parts = [f"{measured['psnr']:.1f} dB"] if method != STANDARD_DOSE else []
    score = _score_column(panel.measured)
    color = INK
    if score:
        parts.append(f"p {measured[score]:.2f}")
        color = RED if measured.get(score.replace("_score", "_error"), 0) > 0 else INK
    return "  ·  ".join(parts), color


def _draw_agreement(page: Page, per_subject: pd.DataFrame, *, top: float, methods: Sequence[str]) -> None:
    """Draw a Bland-Altman plot below each method, all on the same axes."""
    held = per_subject.dropna(subset=["suvr_bias"])
    first: Axes | None = None
    for column, method in enumerate(name for name in methods if name != STANDARD_DOSE):
        group = held[held["method"] == method]
        measured, bias = group["suvr"].to_numpy(), group["suvr_bias"].to_numpy()
        left = LEFT + column * (COLUMN + GAP)
        axes = page.axes(left + 0.05, top, COLUMN - 0.1, PLOT, sharex=first, sharey=first)
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
    legend = page.axes(LEFT + (len(methods) - 1) * (COLUMN + GAP), top, COLUMN, PLOT)
    legend.set_axis_off()
    kinds = [("Positive", POSITIVE), ("Negative", NEGATIVE)]
    kinds += [("Status not known", UNKNOWN)] * bool(held["label"].isna().any())
    for name, color in kinds:
        legend.scatter([], [], s=24, color=color, label=name)
    legend.legend(loc="center left", frameon=False, fontsize=10)
