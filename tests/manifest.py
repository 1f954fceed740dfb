"""Manifests as tests write them and change them; rows are counted as a spreadsheet does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from medrestore.data.schema import Schema
from medrestore.files import sha256_file


def write_manifest(schema: Schema, rows: pd.DataFrame | Sequence[Mapping[str, Any]], folder: Path) -> Path:
    """Write a manifest, with the checksums of its files as they are."""
    return schema.write(schema.with_checksums(pd.DataFrame(rows), folder), folder / "manifest.csv")


def cells(path: Path) -> pd.DataFrame:
    """Read a manifest as it is written."""
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def edit(path: Path, row: int, **values: object) -> None:
    """Change cells of a row."""
    table = cells(path)
    for column, value in values.items():
        table.loc[row - 2, column] = str(value)
    table.to_csv(path, index=False)


def append(path: Path, row: int, **values: object) -> None:
    """Repeat a row below the table, with other cells."""
    table = cells(path)
    pd.concat([table, table.iloc[[row - 2]].assign(**values)]).to_csv(path, index=False)


def sum_again(path: Path, row: int, *columns: str) -> None:
    """Put the checksums of files, as they are now, into the manifest."""
    files = {column: path.parent / cells(path).loc[row - 2, column] for column in columns}
    edit(path, row, **{f"{column}_sha256": sha256_file(file) for column, file in files.items()})


def tile_row(
    patient: str, slide: str, split: str, *, x: int, y: int, size: int, microns: float
) -> dict[str, object]:
    """Return the row of a tile, at its slide's own resolution and named after it."""
    row = {"subject_id": patient, "slide": slide, "split": split, "tile": f"{Path(slide).stem}_x{x}_y{y}"}
    row |= {"x": x, "y": y, "tile_size": size, "microns_per_pixel": microns}
    return {**row, "slide_microns_per_pixel": microns, "tissue_fraction": 1.0, "focus": 1.0}
