"""One HTML page that stands alone: text, tables and figures with their numbers.

What a page says is blocks; ``report.html.jinja`` draws each by the macro of its ``block``.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, TypeAlias

__all__ = ["Block", "Box", "Facts", "Methods", "Notes", "Paragraphs", "ReportPage", "Row", "typeset"]


@dataclass(frozen=True)
class Paragraphs:
    """Plain texts, each a paragraph."""

    texts: Sequence[str]
    block: ClassVar[str] = "paragraphs"


@dataclass(frozen=True)
class Methods:
    """Paragraphs of methods, and the references that they cite."""

    texts: Sequence[str]
    references: Sequence[str]
    block: ClassVar[str] = "methods"


@dataclass(frozen=True)
class Box:
    """A text that stands out, ``bold`` its beginning; ``kind`` is ``key`` or ``model``."""

    kind: str
    text: str
    bold: str = ""
    block: ClassVar[str] = "box"


@dataclass(frozen=True)
class Notes:
    """What a reader must know, in a list."""

    texts: Sequence[str]
    block: ClassVar[str] = "notes"


@dataclass(frozen=True)
class Facts:
    """Names and their values."""

    values: Mapping[str, str]
    block: ClassVar[str] = "facts"


@dataclass(frozen=True)
class Row:
    """A row of a table by its kind: ``strong``, ``sub`` (set in), or ``group`` for a heading over rows."""

    texts: Sequence[str]
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """A table with its number; the first columns, ``left`` of them, are words."""

    number: int
    header: Sequence[str]
    rows: Sequence[Row]
    caption: str
    foot: str
    left: int
    block: ClassVar[str] = "table"


@dataclass(frozen=True)
class Figure:
    """A figure with its number: an SVG, in base64."""

    number: int
    caption: str
    code: str
    block: ClassVar[str] = "figure"


@dataclass(frozen=True)
class Section:
    """A section, ``listed`` in the contents or not."""

    anchor: str
    title: str
    parts: Sequence[Block]
    listed: bool


Block: TypeAlias = Paragraphs | Methods | Box | Notes | Facts | Table | Figure
"""What a page is made of."""


def typeset(text: str) -> str:
    r"""Return plain text as HTML: minus signs before numbers, no break within ``p = 0.1`` or ``95 %``.

    >>> str(typeset("p = 0.1 & -2")).replace("\xa0", "~")
    'p~=~0.1 &amp; −2'
    """
    from markupsafe import Markup, escape

    text = re.sub(r"(?<![\w-])-(?=\d)", "−", str(escape(text)))
    text = re.sub(r"\bp (=|&lt;) ", "p\u00a0\\1\u00a0", text)
    return Markup(re.sub(r"(\d) %", "\\1\u00a0%", text).replace("\n", "<br>"))  # noqa: S704 - escaped above


@dataclass
class ReportPage:
    """A page that is put together section by section; tables and figures are numbered as they come.

    Parameters
    ----------
    title, subtitle
        At its head.
    figures
        SVG of every figure by its name.
    lead
        What stands before the contents.
    sections
        In their order.
    """

    title: str
    subtitle: str
    figures: dict[str, bytes] = field(default_factory=dict)
    lead: list[Block] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    _tables: int = 0

    def section(self, anchor: str, title: str, *parts: Block | None, listed: bool = True) -> None:
        """Add a section, ``listed`` in the contents or not; one without content is left out."""
        there = [part for part in parts if part is not None]
        if there:
            self.sections.append(Section(anchor, title, there, listed))

    def table(
        self,
        header: Sequence[str],
        rows: Sequence[Sequence[str] | Row],
        caption: str,
        *,
        foot: str = "",
        left: int = 1,
    ) -> Table | None:
        """Return a numbered table of plain texts; None without rows.

        Parameters
        ----------
        header
            Title of each column.
        rows
            Texts of each row; a :class:`Row` for a row that stands out.
        caption
            What the table shows.
        foot
            A note beneath it.
        left
            Number of columns that are words, and begin at the left.
        """
        if not rows:
            return None
        self._tables += 1
        own = [row if isinstance(row, Row) else Row(row) for row in rows]
        return Table(self._tables, header, own, caption, foot, left)

    def figure(self, name: str, svg: bytes | None, caption: str) -> Figure | None:
        """Return a numbered figure, and keep its SVG under this name; None where there is none."""
        if svg is None:
            return None
        self.figures[name] = svg
        return Figure(len(self.figures), caption, base64.b64encode(svg).decode())

    def html(self) -> str:
        """Return the page."""
        from jinja2 import Environment, FileSystemLoader, StrictUndefined

        environment = Environment(
            loader=FileSystemLoader(Path(__file__).parent),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        environment.filters["typeset"] = typeset
        return environment.get_template("report.html.jinja").render(page=self)
