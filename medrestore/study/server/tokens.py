"""The secret in each reader's link."""

from __future__ import annotations

from medrestore.checks import fail
from medrestore.data.tables import read_text_table, require_column
from medrestore.study.layout import Study

__all__ = ["read_tokens"]

SHORTEST = 20
"""Characters of a token: what is shorter might be guessed."""


def read_tokens(study: Study) -> dict[str, str]:
    """Return the token of each human reader.

    Raises
    ------
    InputError
        When a reader has none, two have the same, or one is too short.
    """
    path = study.private / "tokens.csv"
    remedy = "restore the file from a backup"
    if not path.is_file():
        fail("is missing", path=path, remedy=remedy)
    table = read_text_table(path, what="the tokens of the readers (CSV)")
    columns = (table[require_column(table, name, path)] for name in ("reader", "token"))
    given = dict(zip(*columns, strict=True))
    tokens = {reader: given.get(reader, "") for reader, kind in study.readers.items() if kind == "human"}
    for reader, token in tokens.items():
        if len(token) < SHORTEST or not token.isascii():
            fail(
                f"has no token of {SHORTEST} characters or more for reader {reader!r}",
                path=path,
                remedy=remedy,
            )
    if len(set(tokens.values())) < len(tokens):
        fail("two readers have the same token", path=path, remedy=remedy)
    return tokens
