"""Aligned Markdown tables, readable on a terminal too."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["interval_text", "markdown_table"]


def interval_text(mean: float, low: float, high: float, *, digits: int, sign: str = "") -> str:
    """Return a mean and the ends of its interval, where it has one.

    >>> interval_text(1.25, -0.5, 3.0, digits=2, sign="+")
    '+1.25 (-0.50, +3.00)'
    """
    text = f"{mean:{sign}.{digits}f}"
    return text if math.isnan(low) else f"{text} ({low:{sign}.{digits}f}, {high:{sign}.{digits}f})"


def markdown_table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Return a table with columns of one width."""
    widths = [max(len(row[index]) for row in [head, *body]) for index in range(len(head))]
    lines = [[text.ljust(width) for text, width in zip(row, widths, strict=True)] for row in [head, *body]]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
