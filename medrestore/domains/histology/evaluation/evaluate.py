"""Compare super-resolved tiles with the true ones: patient by patient, beside plain interpolation."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medrestore.checks import fail, require_in_range, require_in_set
from medrestore.data.schema import split_rows
from medrestore.data.tables import records_of
from medrestore.domains.histology.degradation import degraded_name, named_degradations
from medrestore.domains.histology.domain import DOMAIN
from medrestore.domains.histology.evaluation.figures import (
    INPUT,
    TRUE,
    ZOOM,
    Place,
    TilePanel,
    choose_tiles,
    draw_tiles,
    window_of,
)
from medrestore.domains.histology.evaluation.measures import LEAST_NUCLEI, TrueTile, measure_tile
from medrestore.domains.histology.evaluation.notes import notes_of
from medrestore.domains.histology.evaluation.pictures import picture_problem, read_picture
from medrestore.domains.histology.schema import TILES, TileReader
from medrestore.evaluation.arms import find_files, raise_all
from medrestore.evaluation.drawing import at_quartiles
from medrestore.evaluation.evaluate import Case, Comparison, Running, run_evaluation
from medrestore.evaluation.record import Evaluation
from medrestore.evaluation.titles import MEAN, MetricKey
from medrestore.metrics.fidelity import rrmse
from medrestore.operators.recording import BLIND_SET, degradation_called
from medrestore.operators.resampling import (
    ENLARGEMENTS,
    GaussianSubsampling,
    PictureDegradation,
    enlarge,
)

__all__ = ["evaluate_tiles"]

PathLike: TypeAlias = str | os.PathLike[str]


def evaluate_tiles(
    manifest: PathLike,
    *,
    methods: Mapping[str, PathLike],
    output: PathLike,
    split: str = "test",
    scale: int = 4,
    sigma: float = 2.0,
    degradations: Sequence[str] = (),
    baselines: Sequence[str] = ENLARGEMENTS,
    **running: Unpack[Running],
) -> Evaluation:
    """Evaluate methods on the tiles of a split, each against the true tile; intervals are over patients.

    Parameters
    ----------
    manifest
        Of the tiles.
    methods
        Folder of restored tiles by the method's name: ``TILE_restored.png``, RGB with 8 bits a channel, of
        the true tile's size. Any software may have made them; none at all leaves the baselines.
    scale
        High-resolution pixels per low-resolution pixel along each axis.
    sigma : float, high-resolution pixels
        Of the Gaussian with which the low-resolution tiles are made.
    degradations
        Names of other ways in which the low-resolution tiles are made, each measured apart, of
        :func:`~medrestore.operators.recording.degradation_called`; ``blind-set`` for those of
        :data:`~medrestore.operators.recording.BLIND_SET`. Restored tiles are then called
        ``TILE_DEGRADATION_restored.png``, and sigma says nothing.
    baselines
        Interpolations that are rows too: ``bicubic``, ``lanczos``.
    output, split, running
        As in :func:`~medrestore.evaluation.evaluate.run_evaluation`.

    Returns
    -------
    Evaluation
        ``session_id`` of a row is the tile.

    Raises
    ------
    InputError
        For restored tiles that are missing or wrong (all named), a tile size that is no multiple of the
        scale, or an output folder that holds other results.
    """
    require_in_range("scale", scale, 2, 64)
    made: dict[str, PictureDegradation] = {
        name: degradation_called(name, scale=scale) for name in named_degradations(degradations)
    }
    gaussian = GaussianSubsampling(scale=scale, sigma=sigma)
    for name in baselines:
        require_in_set("baselines", name, ENLARGEMENTS)
    rows = split_rows(table := TILES.read(manifest), split)
    size = int(rows["tile_size"].iloc[0])
    if size % scale:
        fail(f"tiles of {size} pixels are no multiple of the scale {scale}", path=manifest)
    arms = _find(table, rows, methods, degradations=list(made), size=size)
    running["workers"] = workers = running.get("workers") or os.cpu_count() or 1
    comparison = TileComparison(
        rows, TileReader(workers), arms, made or {"": gaussian}, baselines=tuple(baselines)
    )
    return run_evaluation(
        rows,
        arms,
        output=output,
        domain=DOMAIN.name,
        metrics=DOMAIN.metrics,
        manifest=manifest,
        split=split,
        methods=methods,
        settings={
            "baselines": list(baselines),
            **({"scale": scale, "degradations": list(made)} if made else gaussian.key),
            "data_range": "255, 8 bits",
        },
        prepare=lambda: comparison,
        notes=notes_of,
        unit="tile",
        **running,
    )


def _find(
    table: pd.DataFrame,
    rows: pd.DataFrame,
    methods: Mapping[str, PathLike],
    *,
    degradations: Sequence[str],
    size: int,
) -> dict[str, dict[str, Path]]:
    """Find the restored file of every tile, degradation and method; all are pictures of the right size."""
    tiles = [str(tile) for tile in rows["tile"]]
    every = [str(tile) for tile in table["tile"]]
    arms, problems = find_files(
        [degraded_name(tile, name) for name in degradations or [""] for tile in tiles],
        methods,
        # A folder may hold restorations of more degradations than are asked for.
        known=[degraded_name(tile, name) for name in ("", *BLIND_SET, *degradations) for tile in every],
        reserved=(INPUT, *ENLARGEMENTS, TRUE),
        suffix=".png",
        unit="tile",
    )
    twice = sorted({tile for tile in tiles if tiles.count(tile) > 1}) if len(set(tiles)) < len(tiles) else []
    problems += [f"{tile}: is in the manifest's split more than once" for tile in twice]
    found = (picture_problem(path, size=size) for paths in arms.values() for path in paths.values())
    raise_all([*problems, *(problem for problem in found if problem)])
    return arms


@dataclass(frozen=True, eq=False)
class TileComparison(Comparison[TrueTile, NDArray[np.uint8]]):
    """All that is needed to measure the tiles of a split and to draw some.

    Parameters
    ----------
    rows
        Of the manifest, those that are evaluated.
    trues
        Reads the true tiles.
    arms
        Path of the restored tile by method, and by tile and degradation.
    degradations
        Make the low-resolution tiles, by name; the one that all tiles have where none is named is "".
    baselines
        Of :func:`evaluate_tiles`.
    """

    rows: pd.DataFrame
    trues: TileReader
    arms: Mapping[str, Mapping[str, Path]]
    degradations: Mapping[str, PictureDegradation]
    baselines: tuple[str, ...]

    def cases(self, row: Mapping[str, Any]) -> Iterator[Case[TrueTile, NDArray[np.uint8]]]:
        """Yield the tile of a row, once for each degradation."""
        true = self._true(row)
        columns = {"subject_id": str(row["subject_id"]), "session_id": str(row["tile"])}
        for name, degradation in self.degradations.items():
            stratum = {DOMAIN.metrics.strata.column: name} if name else {}
            images = self._images(row, name, degradation.picture(true.image), true.image.shape[0])
            yield Case(f"tile {degraded_name(row['tile'], name)}", columns | stratum, true, images)

    def measured(self, image: NDArray[np.uint8] | None, true: TrueTile) -> dict[str, float]:
        """Measure an image: :func:`measure_tile`."""
        return measure_tile(image, true)

    def facts(self, per_subject: pd.DataFrame) -> dict[str, Any]:
        """Return what is recorded when all is measured."""
        true = per_subject[per_subject["method"] == TRUE].drop_duplicates("session_id")
        return {
            "tiles": len(self.rows),
            "tiles_with_nuclei": int((true["nuclei"] >= LEAST_NUCLEI).sum()) if "nuclei" in true else 0,
            "tile_size": int(self.rows["tile_size"].iloc[0]),
            "microns_per_pixel": [float(end(self.rows["microns_per_pixel"])) for end in (min, max)],
        }

    def draw(self, per_subject: pd.DataFrame, summary: pd.DataFrame, *, path: Path) -> None:
        """Draw chosen tiles, and the means of every method."""
        shown = {str(row["tile"]): row for row in records_of(self.rows)}
        first = next(iter(self.degradations))
        strata = DOMAIN.metrics.strata
        held = per_subject if first == "" else per_subject[per_subject[strata.column] == first]
        chosen = choose_tiles(held, place=lambda tile: self._place(shown[tile]))
        if first == "":
            panels = [self.panel(shown[tile], title) for tile, title in chosen.items()]
        else:  # one tile, as degradations from one end to the other leave it
            tile = list(chosen)[len(chosen) // 2]
            names = dict.fromkeys(at_quartiles(list(self.degradations)))
            panels = [self.panel(shown[tile], strata.title_of(name), degradation=name) for name in names]
            keys = summary["metric"].map(MetricKey.parse)
            joint = MEAN if len(self.degradations) > 1 else first
            summary = summary[[key.stratum == joint for key in keys]]
            summary = summary.assign(metric=[MetricKey.parse(key).name for key in summary["metric"]])
        draw_tiles(panels, summary, path=path)

    def panel(self, row: Mapping[str, Any], title: str, *, degradation: str = "") -> TilePanel:
        """Return what the figure shows of a tile."""
        true = self._true(row)
        low = self.degradations[degradation].picture(true.image)
        # One interpolation is enough for the eye.
        images = {
            name: image
            for name, image, _ in self._images(row, degradation, low, true.image.shape[0])
            if name not in self.baselines[1:]
        }
        outlined = np.zeros(true.image.shape[:2], int) if true.nuclei is None else true.nuclei.labels
        return TilePanel(
            title=title,
            images={INPUT: low, **images, TRUE: true.image},
            corner=window_of(outlined, size=len(outlined) // ZOOM),
            microns_per_pixel=true.microns_per_pixel,
            rrmse={name: rrmse(image, true.image) for name, image in images.items()},
        )

    def _place(self, row: Mapping[str, Any]) -> Place:
        side = int(row["tile_size"]) * self.trues.slide(row).step(float(row["microns_per_pixel"]))
        return Place(str(row["slide_path"]), int(row["x"]), int(row["y"]), side)

    def _true(self, row: Mapping[str, Any]) -> TrueTile:
        return TrueTile(self.trues.read(row), microns_per_pixel=float(row["microns_per_pixel"]))

    def _images(
        self, row: Mapping[str, Any], degradation: str, low: NDArray[np.uint8], size: int
    ) -> Iterator[tuple[str, NDArray[np.uint8], tuple[Path, ...]]]:
        """Yield every method's image of a low-resolution tile."""
        for name in self.baselines:
            yield name, enlarge(low, scale=self.degradations[degradation].scale, method=name), ()
        for method, path in self.arms[degraded_name(str(row["tile"]), degradation)].items():
            yield method, read_picture(path, size=size), (path,)
