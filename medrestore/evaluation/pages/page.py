"""One HTML page that stands alone: text, tables, figures and pictures with their numbers.

What a page says is blocks; ``page.html.jinja`` draws each by the macro of its ``block``.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

from medrestore.evaluation.pages.texts import environment, filled

__all__ = [
    "Block",
    "Box",
    "Facts",
    "HtmlPage",
    "Methods",
    "Notes",
    "Paragraphs",
    "Pictures",
    "Row",
    "Section",
    "Table",
    "typeset",
]


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
class Pictures:
    """Pictures side by side in one PNG, in base64: what each of them is, and what they show together."""

    heads: Sequence[str]
    caption: str
    code: str
    block: ClassVar[str] = "pictures"


@dataclass(frozen=True)
class Section:
    """A section, ``listed`` in the contents or not."""

    anchor: str
    title: str
    parts: Sequence[Block]
    listed: bool


Block: TypeAlias = Paragraphs | Methods | Box | Notes | Facts | Table | Figure | Pictures
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
class HtmlPage:
    """A page that is put together section by section; tables and figures are numbered as they come.

    Parameters
    ----------
    title, subtitle
        At its head.
    texts
        What is said around its numbers, by name: ``sections`` (titles), ``tables`` (header, caption, foot,
        and how many columns are words) and ``figures`` (captions), the last two in Jinja's words.
    figures
        SVG of every figure by its name.
    lead
        What stands before the contents.
    sections
        In their order.
    """

    title: str
    subtitle: str
    texts: Mapping[str, Any]
    figures: dict[str, bytes] = field(default_factory=dict)
    lead: list[Block] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    _tables: int = 0

    def section(self, name: str, *parts: Block | None, anchor: str = "") -> None:
        """Add a section of the texts; one without content is left out."""
        there = [part for part in parts if part is not None]
        if there:
            self.sections.append(Section(anchor or name, self.texts["sections"][name], there, listed=True))

    def table(
        self, name: str, rows: Sequence[Sequence[str] | Row], *columns: str, **values: object
    ) -> Table | None:
        """Return a numbered table of plain texts; None without rows.

        Parameters
        ----------
        name
            Of its header, caption and foot in the texts.
        rows
            Texts of each row; a :class:`Row` for a row that stands out.
        columns
            Titles of columns that stand behind those of the header.
        values
            That header, caption and foot name.
        """
        if not rows:
            return None
        self._tables += 1
        own = [row if isinstance(row, Row) else Row(row) for row in rows]
        texts = self.texts["tables"][name]
        return Table(
            self._tables,
            [*(filled(text, values) for text in texts["header"]), *columns],
            own,
            caption=filled(texts["caption"], values),
            foot=filled(texts.get("foot", ""), values),
            left=texts.get("left", 1),
        )

    def figure(self, name: str, svg: bytes | None, *, file: str = "", **values: object) -> Figure | None:
        """Return a numbered figure with its caption of the texts; None where there is none.

        ``file`` is the name that its SVG is kept under, where it is another one.
        """
        if svg is None:
            return None
        self.figures[file or name] = svg
        caption = filled(self.texts["figures"][name], values)
        return Figure(len(self.figures), caption, base64.b64encode(svg).decode())

    def html(self) -> str:
        """Return the page."""
        page = environment(Path(__file__).parent, autoescape=True)
        page.filters["typeset"] = typeset
        return page.get_template("page.html.jinja").render(page=self)
