"""The page of a study's report: sections of readers of another kind stand apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from medrestore.evaluation.pages.page import Block, HtmlPage
from medrestore.study.labels import KIND_TITLES
from medrestore.study.report.texts import held

__all__ = ["ReportPage"]


@dataclass
class ReportPage(HtmlPage):
    """A page whose texts are those of ``texts.yaml``."""

    texts: Mapping[str, Any] = field(default_factory=lambda: held("texts"))

    def section(self, name: str, *parts: Block | None, anchor: str = "", kind: str = "") -> None:
        """Add a section; ``kind`` is that of readers whose section is not listed in the contents."""
        before = len(self.sections)
        super().section(name, *parts, anchor=f"{kind}-{anchor or name}" if kind else anchor)
        if kind:
            self.sections[before:] = [
                replace(one, title=f"{one.title} ({KIND_TITLES[kind].lower()})", listed=False)
                for one in self.sections[before:]
            ]
