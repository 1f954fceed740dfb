"""Numbers as the cells of a report's tables show them."""

from __future__ import annotations

import math

from medrestore.study.analysis.verdict import p_text

__all__ = ["NONE", "absent", "interval_cell", "number_cell", "p_cell", "share_cell"]

NONE = "–"
"""Where there is no number."""


def share_cell(count: int, whole: int) -> str:
    """Return a share with its counts, rounded half up: 0.125 is 0.13 whatever a float makes of it."""
    hundredths = (200 * count + whole) // (2 * whole)
    return f"{hundredths // 100}.{hundredths % 100:02d} ({count}/{whole})"


def absent(value: object) -> bool:
    """Say whether there is no number: None or NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def number_cell(value: float | None, digits: int, sign: str = "") -> str:
    """Return a rounded number with a true minus sign, never minus zero.

    >>> number_cell(-0.0004, 3), number_cell(-1.25, 1, "+"), number_cell(None, 2)
    ('0.000', '−1.2', '–')
    """
    if value is None or absent(value):
        return NONE
    text = f"{round(value, digits) + 0.0:{sign}.{digits}f}"  # + 0.0: no minus before zero
    return text.replace("-", "−")


def interval_cell(low: float | None, high: float | None, digits: int, sign: str = "") -> str:
    """Return both ends of an interval in parentheses; empty where there is none."""
    return "" if absent(low) else f"({number_cell(low, digits, sign)}, {number_cell(high, digits, sign)})"


def p_cell(p: float | None) -> str:
    """Return a p value as a table shows it."""
    return NONE if absent(p) else p_text(float(p)).removeprefix("= ")  # type: ignore[arg-type]
