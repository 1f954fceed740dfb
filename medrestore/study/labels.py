"""How arms and readers of a study are called in tables and figures."""

from __future__ import annotations

from medrestore.domains.base import label_of

__all__ = ["ALL", "KIND_TITLES", "arm_label", "reader_label"]

ALL = "all"
"""Stands for all readers together in the column of readers."""

KIND_TITLES = {"human": "Human readers", "model": "Model readers"}
"""Title of the readers of a kind."""


def arm_label(arm: str) -> str:
    """Return an arm's name as tables and figures show it.

    >>> arm_label("taskgan"), arm_label("low_dose"), arm_label("my_arm")
    ('Task-GAN', 'Low dose', 'My arm')
    """
    known = label_of(arm)
    return f"{arm[:1].upper()}{arm[1:]}".replace("_", " ") if known == arm else known


def reader_label(reader: str, kind: str) -> str:
    """Return a reader's pseudonym as tables and figures show it; a model is marked as one.

    >>> reader_label("reader_1", "human"), reader_label("net", "model"), reader_label(ALL, "model")
    ('reader 1', 'net (model)', 'All readers')
    """
    if reader == ALL:
        return "All readers"
    name = reader.replace("_", " ")
    return f"{name} (model)" if kind == "model" and "model" not in name else name
