"""Sources of the methods that a study's report names, numbered in the order in which they are cited."""

from __future__ import annotations

from medrestore.checks import require_in_set
from medrestore.study.report.texts import held

__all__ = ["Citations"]


class Citations:
    """Numbers sources as they are cited.

    Examples
    --------
    >>> cited = Citations()
    >>> cited("wilson", "newcombe"), cited("wilson")
    ('[1, 2]', '[1]')
    >>> cited.listing[1].partition(".")[0]
    '2'
    """

    def __init__(self) -> None:
        self._order: list[str] = []

    def __call__(self, *keys: str) -> str:
        """Cite sources: return their numbers in brackets."""
        for key in keys:
            require_in_set("source", key, held("references"))
            if key not in self._order:
                self._order.append(key)
        return f"[{', '.join(str(self._order.index(key) + 1) for key in keys)}]"

    @property
    def listing(self) -> list[str]:
        """The sources that were cited, by their numbers."""
        return [f"{number}. {held('references')[key]}" for number, key in enumerate(self._order, start=1)]
