"""One HTML page that stands alone: text, tables and figures with their numbers."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

__all__ = ["ReportPage", "Row", "paragraph", "typeset"]

CSS = """
:root { color-scheme: light; --ink: #1c1c1c; --soft: #5c5c5c; --rule: #d9d9d9; --accent: #1f5f99; }
* { box-sizing: border-box; }
html { font-size: 16px; }
body { margin: 0 auto; max-width: 62rem; padding: 2.5rem 2rem 4rem; color: var(--ink); background: #fff;
  font-family: "Helvetica Neue", Helvetica, Arial, "Liberation Sans", "Noto Sans", sans-serif;
  line-height: 1.5; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .3rem; letter-spacing: -.01em; }
h2 { font-size: 1.3rem; margin: 2.8rem 0 .7rem; padding-top: .6rem; border-top: 1px solid var(--rule); }
h3 { font-size: 1.02rem; margin: 1.6rem 0 .5rem; }
p { margin: .5rem 0 .8rem; max-width: 46rem; }
.subtitle { color: var(--soft); margin: 0 0 1.2rem; }
.key { border-left: 4px solid var(--accent); background: #f3f7fb; padding: .8rem 1.1rem; margin: 1.2rem 0;
  max-width: none; font-size: 1.05rem; }
.key b { display: block; margin-bottom: .2rem; }
.model { border-left: 4px solid #b3541e; background: #fdf5ef; padding: .7rem 1.1rem; margin: 1.2rem 0;
  max-width: none; }
.notes { border-left: 4px solid #b8a036; background: #fcfaf0; padding: .5rem 1.1rem; margin: 1rem 0; }
.notes ul { margin: .2rem 0; padding-left: 1.1rem; }
nav { columns: 2; column-gap: 2.5rem; font-size: .93rem; margin: 1.4rem 0; padding: .9rem 0; max-width: 46rem;
  border-top: 1px solid var(--rule); border-bottom: 1px solid var(--rule); }
nav a { display: block; color: var(--ink); text-decoration: none; padding: .1rem 0; break-inside: avoid; }
nav a:hover { text-decoration: underline; }
.scroll { overflow-x: auto; margin: 1.1rem 0 1.5rem; }
table { border-collapse: collapse; font-size: .86rem; line-height: 1.35; font-variant-numeric: tabular-nums;
  border-top: 1.6px solid var(--ink); border-bottom: 1.6px solid var(--ink); }
.caption { max-width: 46rem; font-size: .9rem; margin: 0 0 .45rem; }
.caption b, figcaption b { font-weight: 700; }
th, td { padding: .26rem 1.25rem .26rem 0; text-align: right; vertical-align: top; white-space: nowrap; }
th:first-child, td:first-child, .left { text-align: left; }
th:last-child, td:last-child { padding-right: .1rem; }
td.left:not(:first-child) { white-space: normal; max-width: 34rem; overflow-wrap: anywhere; }
thead th { border-bottom: 1px solid var(--ink); vertical-align: bottom; font-weight: 600; }
tr.strong td { font-weight: 600; }
tr.sub td:first-child { padding-left: 1.1rem; }
tr.group td { font-weight: 600; padding-top: .6rem; border-top: 1px solid var(--rule); }
tbody tr.group:first-child td { border-top: 0; padding-top: .26rem; }
.foot { font-size: .82rem; color: var(--soft); margin: .4rem 0 0; }
figure { margin: 1.4rem 0 1.8rem; }
figure img { display: block; width: 100%; height: auto; max-width: 52rem; }
figcaption { font-size: .9rem; margin-top: .5rem; max-width: 46rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.2rem; font-size: .9rem;
  margin: .8rem 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
code { font-family: "DejaVu Sans Mono", Menlo, Consolas, monospace; font-size: .86em; }
.methods p { max-width: 46rem; } .references { font-size: .88rem; padding-left: 0; list-style: none; }
.references li { margin: .25rem 0; max-width: 46rem; }
@page { size: A4; margin: 17mm 16mm; }
@media print {
  html { font-size: 10.5pt; } body { max-width: none; padding: 0; } nav a { color: var(--ink); }
  h2, h3 { break-after: avoid; } figure, .scroll, tr, .key, .notes { break-inside: avoid; }
  .scroll { overflow: visible; }
  .key, .notes, .model { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
}
@media (max-width: 40rem) { body { padding: 1.2rem; } nav { columns: 1; } }
"""


@dataclass(frozen=True)
class Row:
    """A row of a table by its kind: ``strong``, ``sub`` (set in), or ``group`` for a heading over rows."""

    texts: tuple[str, ...]
    kind: str = ""


def paragraph(text: str, kind: str = "") -> str:
    """Return a paragraph of plain text."""
    return f'<p class="{kind}">{typeset(text)}</p>' if kind else f"<p>{typeset(text)}</p>"


def typeset(text: str) -> str:
    r"""Return plain text as HTML: minus signs before numbers, no break within ``p = 0.1`` or ``95 %``.

    >>> typeset("p = 0.1 & -2").replace("\xa0", "~")
    'p~=~0.1 &amp; −2'
    """
    text = re.sub(r"(?<![\w-])-(?=\d)", "−", escape(text))
    text = re.sub(r"\bp (=|&lt;) ", "p\u00a0\\1\u00a0", text)
    return re.sub(r"(\d) %", "\\1\u00a0%", text).replace("\n", "<br>")


@dataclass
class ReportPage:
    """A page that is put together section by section; tables and figures are numbered as they come.

    Parameters
    ----------
    title, subtitle
        At its head.
    figures
        SVG of every figure by its name.
    """

    title: str
    subtitle: str
    figures: dict[str, bytes] = field(default_factory=dict)
    _head: list[str] = field(default_factory=list)
    _sections: list[tuple[str, str, str, bool]] = field(default_factory=list)
    _tables: int = 0

    def lead(self, html: str) -> None:
        """Add to what stands before the contents."""
        self._head.append(html)

    def section(self, anchor: str, title: str, *parts: str, listed: bool = True) -> None:
        """Add a section, ``listed`` in the contents or not; one without content is left out."""
        body = "\n".join(part for part in parts if part)
        if body:
            self._sections.append((anchor, title, body, listed))

    def table(
        self,
        header: Sequence[str],
        rows: Sequence[Sequence[str] | Row],
        caption: str,
        *,
        foot: str = "",
        left: int = 1,
    ) -> str:
        """Return a numbered table of plain texts; empty without rows.

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
            return ""
        self._tables += 1
        align = [' class="left"' if place < left else "" for place in range(len(header))]
        head = "".join(f"<th{kind}>{typeset(text)}</th>" for text, kind in zip(header, align, strict=True))
        body = []
        for row in rows:
            texts, kind = (row.texts, row.kind) if isinstance(row, Row) else (tuple(row), "")
            if kind == "group":
                cells = f'<td colspan="{len(header)}">{typeset(texts[0])}</td>'
            else:
                cells = "".join(
                    f"<td{side}>{typeset(text)}</td>" for text, side in zip(texts, align, strict=True)
                )
            body.append(f'<tr class="{kind}">{cells}</tr>' if kind else f"<tr>{cells}</tr>")
        note = f'<p class="foot">{typeset(foot)}</p>' if foot else ""
        return (
            f'<div class="scroll"><p class="caption"><b>Table {self._tables}.</b> '
            f"{typeset(caption)}</p><table>"
            f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>{note}</div>"
        )

    def figure(self, name: str, svg: bytes | None, caption: str) -> str:
        """Return a numbered figure, and keep its SVG under this name; empty where there is none."""
        if svg is None:
            return ""
        self.figures[name] = svg
        code = base64.b64encode(svg).decode()
        # As an image of its own: identifiers within two drawings cannot meet.
        return (
            f'<figure><img alt="{escape(caption)}" src="data:image/svg+xml;base64,{code}">'
            f"<figcaption><b>Figure {len(self.figures)}.</b> {typeset(caption)}</figcaption></figure>"
        )

    def html(self) -> str:
        """Return the page."""
        contents = "".join(
            f'<a href="#{anchor}">{escape(title)}</a>'
            for anchor, title, _, listed in self._sections
            if listed
        )
        body = "\n".join(
            f'<section id="{anchor}">\n<h2>{escape(title)}</h2>\n{html}\n</section>'
            for anchor, title, html, _ in self._sections
        )
        head = "\n".join(self._head)
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            '<meta http-equiv="Content-Security-Policy" '
            "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
            f"<title>{escape(self.title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n"
            f'<h1>{escape(self.title)}</h1>\n<p class="subtitle">{typeset(self.subtitle)}</p>\n{head}\n'
            f"<nav>{contents}</nav>\n{body}\n</body>\n</html>\n"
        )
