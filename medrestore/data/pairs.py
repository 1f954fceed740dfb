"""The manifest of pairs: a CSV row for each degraded volume and the target on its grid, of whatever kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from medrestore.data.columns import Column, FileColumn
from medrestore.data.file_checks import require_foreground
from medrestore.data.intensity import RELATIVE, Intensity
from medrestore.data.row_checks import class_problems, label_problem, row_problems, scan_problems
from medrestore.data.schema import Schema

__all__ = ["pair_schema"]


def pair_schema(
    *,
    label_column: str | None = None,
    label_values: Sequence[float] = (0, 1),
    intensity: Intensity = RELATIVE,
    columns: Sequence[Column] = (),
    order: Sequence[str] = (),
    key: Mapping[str, str] | None = None,
    same: Sequence[str] = (),
    contents: Sequence[str] = (),
) -> Schema:
    """Return the schema of a manifest of pairs.

    A row is found faulty for a duplicate of subject and session, a label other than that of the same scan, an
    image whose intensity scale cannot be found; a table also for a training split of one class.

    Parameters
    ----------
    label_column
        Column of the class label y; None where no label is needed, whatever the table has. A scan that is
        restored only needs no label: what cannot be judged without one is left out of its evaluation.
    label_values
        Labels that may occur.
    intensity
        How networks see such images.
    columns
        Further ones of a kind of image.
    order
        Columns in the order in which they are written; others follow.
    key
        Further columns that tell rows of a scan apart, and their names in words.
    same
        Further columns that are the same in all rows of a scan.
    contents
        Further columns of images that only one subject can have.
    """
    examine = partial(require_foreground, intensity=intensity)
    held: list[Column] = [
        *map(Column, ("subject_id", "session_id", "split")),
        FileColumn("degraded", examine=examine),
        FileColumn("target", examine=examine),
        *columns,
        *map(Column, ("degraded_sha256", "target_sha256")),
    ]
    labels: list[str] = []
    if label_column is not None:
        labels.append(label_column)
        label = partial(label_problem, values=label_values)
        held = [column for column in held if column.name != label_column]
        held.append(Column(label_column, empty_in=("test",), number=label))
    return Schema(
        tuple(held),
        order=tuple(order) or tuple(column.name for column in held),
        checks=(
            partial(
                row_problems,
                key={"subject_id": "subject", "session_id": "session", **(key or {})},
                contents=("degraded", "target", *contents),
            ),
            partial(scan_problems, columns=[*labels, *same]),
        ),
        whole_checks=tuple(partial(class_problems, column=name, values=label_values) for name in labels),
        grid="target",
        contents=("degraded", "target", *contents),
    )
