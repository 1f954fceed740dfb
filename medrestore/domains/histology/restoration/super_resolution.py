"""Histology restored: tiles of a manifest to pictures, slides and pictures of low resolution to slides."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import nn

from medrestore.checks import InputError, fail
from medrestore.data.restorations import refuse_restoration, restored_name
from medrestore.data.schema import split_rows
from medrestore.data.training_range import TOLERATED_SIZE_FACTOR
from medrestore.domains.histology.consistency import MEASURED, consistency_warnings, measured_of
from medrestore.domains.histology.degradation import (
    degradation_of,
    degraded_name,
    named_degradations,
    reduction_for_tiles,
    reductions_of,
)
from medrestore.domains.histology.restoration.slide_files import (
    SlideSettings,
    occupied_windows,
    restore_slide,
    window_measures,
)
from medrestore.domains.histology.restoration.super_resolver import SuperResolver
from medrestore.domains.histology.schema import TILES, TileReader
from medrestore.domains.histology.slides.parts import slide_checksum
from medrestore.domains.histology.slides.reader import Slide, open_slide
from medrestore.domains.histology.slides.resolution import require_given, require_microns
from medrestore.domains.histology.slides.slide_search import SLIDE_SUFFIXES, slides_in
from medrestore.domains.histology.slides.view import SlideView
from medrestore.domains.histology.training.training_range import resolution_warnings
from medrestore.files import atomic_path
from medrestore.inference.file_restorer import FileRestorer, Output, RunSettings
from medrestore.inference.network import SampledSettings
from medrestore.operators.recording import degradation_called
from medrestore.operators.resampling import GaussianSubsampling, PictureDegradation

__all__ = [
    "ImageFile",
    "ImageFileRestorer",
    "TileBatch",
    "TileImage",
    "find_images",
]

OPEN_SLIDES = 8
"""Slides that are held open while their tiles are restored."""

TOLERATED_WINDOWS = 0.1
"""Part of a slide's windows that may lie beyond the ends of a training's range: a fiftieth of its own do."""

_ONLY = "restored"
"""Key of a slide's one restoration."""


@dataclass(frozen=True)
class ImageFile:
    """A slide or picture of low resolution on disk.

    Parameters
    ----------
    path
        The file.
    name
        Stem of the files that are written for it.
    microns_per_pixel : float, um
        As given by the user, for a file that states none.
    override
        What is given holds, whatever the file states.
    input_microns_per_pixel : float, um
        Resolution at which it is read; by its own or the training's when None.
    region : (x, y, width, height), pixels of its finest level
        What of it is restored; all when None.
    """

    path: Path
    name: str
    microns_per_pixel: float | None = None
    override: bool = False
    input_microns_per_pixel: float | None = None
    region: tuple[int, int, int, int] | None = None

    def open(self, seen: Mapping[str, Any]) -> Slide | SlideView:
        """Open it at the resolution that holds.

        A slide that is finer than what a network has ``seen`` is read at the resolution of the training,
        unless another is asked for.
        """
        slide = open_slide(self.path, microns_per_pixel=self.microns_per_pixel, override=self.override)
        wanted = self.input_microns_per_pixel
        if wanted is None and slide.microns_per_pixel is not None and "microns_per_pixel" in seen:
            low, high = seen["microns_per_pixel"]
            if slide.microns_per_pixel * TOLERATED_SIZE_FACTOR < low:
                wanted = math.sqrt(low * high)
        if wanted is None and self.region is None:
            return slide
        try:
            return SlideView(slide, microns_per_pixel=wanted, region=self.region)
        except BaseException:
            slide.close()
            raise

    @property
    def chosen(self) -> dict[str, Any]:
        """What of it was chosen, for the provenance: nothing where nothing was."""
        found = {"input_microns_per_pixel": self.input_microns_per_pixel, "region": self.region}
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True)
class TileImage:
    """A tile of high resolution on a slide: it is reduced, and restored from that.

    Parameters
    ----------
    name
        Stem of the files that are written for it.
    row
        Of :data:`~medrestore.domains.histology.schema.TILES`.
    degradation
        Name of what it is reduced by, of :func:`~medrestore.operators.recording.degradation_called`; when
        empty, what the network was trained to undo, or the paper's Gaussian where that is a range.
    """

    name: str
    row: Mapping[Any, Any]
    degradation: str = ""


@dataclass(frozen=True)
class TileBatch:
    """Tiles of one size that are restored together.

    Parameters
    ----------
    tiles
        In the order of the manifest.
    """

    tiles: tuple[TileImage, ...]

    @property
    def name(self) -> str:
        """For messages: the first tile's."""
        return self.tiles[0].name


def find_images(
    source: str | os.PathLike[str],
    *,
    split: str | None = None,
    degradations: Sequence[str] = (),
    microns_per_pixel: float | None = None,
    override_microns_per_pixel: bool = False,
    input_microns_per_pixel: float | None = None,
    region: Sequence[int] | None = None,
) -> list[ImageFile] | list[TileImage]:
    """List the images of a file, a folder or a manifest of tiles.

    Parameters
    ----------
    source
        A slide or picture of low resolution, a folder of them, or a manifest of tiles (CSV), which are of
        high resolution: they are reduced as in training before they are restored.
    split
        Of a manifest, the rows of this split only.
    degradations
        Of a manifest, names of what each tile is reduced by, one after another: a restoration each, called
        ``TILE_DEGRADATION``. See :class:`TileImage` for none.
    microns_per_pixel : float, um
        Of slides and pictures that do not state it.
    override_microns_per_pixel
        What is given holds for slides and pictures too that state another resolution.
    input_microns_per_pixel : float, um
        Resolution at which slides are read; that of the training when it is coarser than theirs, and not
        given.
    region : (x, y, width, height), pixels of the finest level
        What of one slide is restored.

    Raises
    ------
    InputError
        When there is nothing to restore, or a split or a resolution is given for something that it does not
        belong to.
    """
    source = Path(source)
    require_given(microns_per_pixel, override=override_microns_per_pixel)
    if input_microns_per_pixel is not None:
        require_microns("input_microns_per_pixel", input_microns_per_pixel)
    part = None if region is None else _region(region)
    if source.suffix.lower() == ".csv":
        if part is not None or input_microns_per_pixel is not None:
            raise InputError(f"{source}: a region and a resolution are of slides. Remedy: leave them out")
        if microns_per_pixel is not None or override_microns_per_pixel:
            raise InputError(f"{source}: a manifest states the resolution of its tiles. Remedy: leave it out")
        rows = split_rows(TILES.read(source), split)
        records = rows.to_dict("records")
        return [
            TileImage(degraded_name(row["tile"], name), row, name)
            for name in named_degradations(degradations) or [""]
            for row in records
        ]
    if degradations:
        raise InputError(f"tiles of a manifest are degraded, but {source} is none. Remedy: leave it out")
    if split is not None:
        raise InputError(f"a split is that of a manifest, but {source} is none. Remedy: leave it out")
    if not source.exists():
        raise InputError(f"{source}: does not exist. Remedy: name a slide, a folder of slides or a manifest")
    refuse_restoration(source)
    paths = slides_in(source) if source.is_dir() else [source]
    if not paths:
        raise InputError(
            f"{source}: holds no slide or picture; known are {', '.join(SLIDE_SUFFIXES)}. Remedy: name the "
            "folder that holds them; folders in it are not looked into"
        )
    if part is not None and len(paths) > 1:
        raise InputError(f"{source}: a region is of one slide. Remedy: name the slide")
    return [
        ImageFile(
            path,
            path.stem,
            microns_per_pixel,
            override_microns_per_pixel,
            input_microns_per_pixel,
            part,
        )
        for path in paths
    ]


def _region(given: Sequence[int]) -> tuple[int, int, int, int]:
    if len(given) != 4:
        raise InputError(f"a region is X,Y,WIDTH,HEIGHT, got {list(given)}")
    x, y, width, height = given
    return x, y, width, height


class ImageFileRestorer(FileRestorer[ImageFile | TileBatch, SuperResolver]):
    """Restore slides or tiles and write them: one iteration is one slide or batch.

    Parameters
    ----------
    dataset, inferer, output_dir, bundle, progress
        As in :class:`~medrestore.inference.file_restorer.FileRestorer`. Files are called
        ``TILE_restored.png`` of tiles, or ``NAME_restored.tiff`` of slides and pictures: a tiled pyramid at
        the restored resolution; with a ``.json`` file of that name each.
    tile, overlap, background, compression, jpeg_quality
        Of slides: see :class:`~medrestore.domains.histology.restoration.slide_files.SlideSettings`.

    Raises
    ------
    InputError
        For unreadable input or weights, a setting out of range, or an output of other provenance.

    Notes
    -----
    A slide that was interrupted is continued at the row of tiles where it stopped:
    see :func:`~medrestore.domains.histology.restoration.slide_files.restore_slide`.
    """

    unit = "tile"
    needs = ("scale",)
    training = "a super-resolution"
    find = staticmethod(find_images)

    def __init__(
        self,
        dataset: Sequence[ImageFile] | Sequence[TileImage],
        inferer: SuperResolver,
        *,
        tile: int = 512,
        overlap: int = 24,
        background: str = "bicubic",
        compression: str = "jpeg",
        jpeg_quality: int = 90,
        **run: Unpack[RunSettings],
    ) -> None:
        self.settings = SlideSettings(
            tile=tile,
            overlap=overlap,
            background=background,
            compression=compression,
            jpeg_quality=jpeg_quality,
        )
        self.settings.stride(inferer.scale)
        tiles = [item for item in dataset if isinstance(item, TileImage)]
        if 0 < len(tiles) < len(dataset):
            raise InputError("tiles and slides cannot be restored together. Remedy: one after the other")
        if tiles and self.settings != SlideSettings():
            raise InputError(
                "tile, overlap, background, compression and jpeg_quality are of slides, and these are "
                "tiles of a manifest. Remedy: leave them out"
            )
        self.suffix, self.source = (".png", "tile") if tiles else (".tiff", "slide")
        self._checksums: dict[str, str] = {}
        self._warned: set[str] = set()
        self._reader = TileReader(OPEN_SLIDES)
        self._pool = ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1))
        size = inferer.batch_size
        super().__init__(
            [TileBatch(tuple(tiles[first : first + size])) for first in range(0, len(tiles), size)]
            if tiles
            else cast("Sequence[ImageFile | TileBatch]", dataset),
            inferer,
            **run,
        )

    @classmethod
    def build(
        cls, generator: nn.Module, model: Mapping[str, Any], settings: SampledSettings
    ) -> SuperResolver:
        """Make what restores from what ``model.pt`` says."""
        if settings["samples"]:
            raise InputError(
                "no samples are drawn of images: the generator has no dropout. Remedy: use samples 0"
            )
        return SuperResolver(
            generator,
            degradation=degradation_of(model),
            batch_size=settings["batch_size"],
            device=settings["device"],
            precision=settings["precision"],
        )

    def outputs(self, item: ImageFile | TileBatch) -> dict[str, Output]:
        """Name the restoration of a slide, or those of the tiles of a batch."""
        if isinstance(item, ImageFile):
            provenance = {
                "source_sha256": slide_checksum(item.path),
                "stated_microns_per_pixel": item.microns_per_pixel,
                **({"override_microns_per_pixel": True} if item.override else {}),
                **item.chosen,
                **self.settings.as_plain(),
            }
            return {_ONLY: Output(item.name, provenance)}
        outputs = {}
        for tile in item.tiles:
            with self.setbacks.set_aside(tile.name, of=tile.row["slide_path"]):
                outputs[tile.name] = Output(tile.name, self._tile_provenance(tile))
        return outputs

    def count(self, dataset: Sequence[ImageFile | TileBatch]) -> int:
        """Return the number of slides, or of tiles."""
        return sum(len(item.tiles) if isinstance(item, TileBatch) else 1 for item in dataset)

    def files(self, name: str) -> list[Path]:
        """Name the one file of a restoration."""
        return [self.output_dir / restored_name(name, self.suffix)]

    def sidecar(self, name: str) -> Path:
        """Name the JSON file of a restoration."""
        return self.output_dir / restored_name(name, ".json")

    def amount(self, item: ImageFile | TileBatch, missing: Mapping[str, Output]) -> int:
        """Return the number of tiles: of the manifest, or of the restored slide."""
        if isinstance(item, TileBatch):
            return len(missing)
        with item.open(self.training_range) as slide:
            stride = self.settings.stride(self.inferer.scale)
            _, _, width, height = slide.bounds
            return -(-width // stride) * -(-height // stride)

    def run(self) -> list[Path]:
        """Restore what is not there yet and return all restorations, in the order of the dataset."""
        try:
            return super().run()
        finally:
            self._pool.shutdown()

    def make(self, item: ImageFile | TileBatch, missing: Mapping[str, Output]) -> None:
        """Restore a slide, or the tiles of a batch that are not there yet, and write them."""
        if isinstance(item, ImageFile):
            self._make_slide(item, missing[_ONLY])
        else:
            self._make_tiles(item, missing)

    def _is_there(self, output: Output, provenance: Mapping[str, Any]) -> bool:
        """Want of a slide what its windows say, too: they are measured in the finished file."""
        if not super()._is_there(output, provenance):
            return False
        held = json.loads(self.sidecar(output.stem).read_text(encoding="utf-8-sig"))
        return self.source == "tile" or "measured" in held

    def _make_slide(self, item: ImageFile, output: Output) -> None:
        scale = self.inferer.scale
        with item.open(self.training_range) as slide:
            for note in slide.notes:
                self.logger.warning(f"{item.path}: {note}")
            notes = resolution_warnings(slide.microns_per_pixel, self.training_range)
            self.warn_outside(item.name, notes)
            stride = self.settings.stride(scale)
            windows = occupied_windows(slide, stride=stride, overlap=self.settings.overlap)
            if self.settings.background == "restored":
                windows = np.ones_like(windows)
            record = {
                **output.provenance,
                "microns_per_pixel": None
                if slide.microns_per_pixel is None
                else slide.microns_per_pixel / scale,
                "source_bounds": list(slide.source_bounds if isinstance(slide, SlideView) else slide.bounds),
                "size": [length * scale for length in slide.bounds[2:]],
                "windows": windows.size,
                "restored_windows": int(windows.sum()),
                "source_notes": list(slide.notes),
                **_profile_record(slide.icc_profile),
                "outside_training_domain": notes,
            }
            self.write_sidecar(output.name, record)
            path = self.files(output.name)[0]
            if not path.exists():  # else a run was killed between the slide and what its windows say
                restore_slide(
                    slide,
                    self.inferer,
                    output=path,
                    settings=self.settings,
                    windows=windows,
                    identity=output.provenance,
                    advance=self.bar.update,
                )
            measured = window_measures(
                slide,
                path,
                self.inferer,
                settings=self.settings,
                windows=windows,
            )
            self._tell(output.name, record, measured)

    def _tell(self, name: str, record: Mapping[str, Any], measured: Sequence[Mapping[str, float]]) -> None:
        """Write what windows of a slide say of their input, and warn of what many of them say."""
        with atomic_path(self.output_dir / restored_name(name, "_windows.csv")) as temporary:
            # A slide of glass alone has no window: a table without rows, not without a head.
            columns = None if measured else ["row", "column", "x", "y", *MEASURED]
            pd.DataFrame(measured, columns=columns).to_csv(temporary, index=False, lineterminator="\n")
        medians = {
            number: float(np.median(values))
            for number in MEASURED
            if (values := [window[number] for window in measured if number in window])
        }
        beyond: Counter[str] = Counter(
            note.split(":")[0]
            for window in measured
            for note in consistency_warnings(
                {key: value for key, value in window.items() if key in MEASURED}, self.training_range
            )
        )
        notes = [
            f"{kind}: {count} of {len(measured)} windows are beyond what the training had"
            for kind, count in beyond.items()
            if count > TOLERATED_WINDOWS * len(measured)
        ]
        self.warn_outside(name, notes)
        told = [*record["outside_training_domain"], *notes]
        self.write_sidecar(name, {**record, "measured": medians, "outside_training_domain": told})

    def _make_tiles(self, batch: TileBatch, missing: Mapping[str, Output]) -> None:
        targets = [self._target(tile) for tile in batch.tiles]
        reductions = [self._reduction(tile) for tile in batch.tiles]
        reduced = self._pool.map(lambda pair: pair[0].picture(pair[1]), zip(reductions, targets, strict=True))
        low = np.stack(list(reduced))
        # All of the batch, also where some are there: the same batch gives the same bits.
        restored = self.inferer.restore(low)

        wanted = [
            pair
            for pair in zip(batch.tiles, restored, strict=True)
            if pair[0].name in missing and pair[0].name not in self.setbacks.reasons
        ]
        given = {tile.name: image for tile, image in zip(batch.tiles, low, strict=True)}
        assumed = reductions_of(self.inferer.degradation)
        measured = list(
            self._pool.map(lambda pair: measured_of(pair[1], given[pair[0].name], assumed), wanted)
        )
        notes = [
            resolution_warnings(tile.row["microns_per_pixel"] * self.inferer.scale, self.training_range)
            + consistency_warnings(numbers, self.training_range)
            for (tile, _), numbers in zip(wanted, measured, strict=True)
        ]
        for (tile, _), found in zip(wanted, notes, strict=True):
            kinds = {note.split(":")[0] for note in found}
            if not self._warned.issuperset(kinds):  # once, not for each of thousands of tiles
                self._warned.update(kinds)
                self.warn_outside(tile.name, found)

        def write(
            pair: tuple[TileImage, NDArray[np.uint8]], numbers: Mapping[str, float], found: list[str]
        ) -> None:
            tile, picture = pair
            profile = self._reader.slide(tile.row).icc_profile
            record = {
                **missing[tile.name].provenance,
                **_profile_record(profile),
                "measured": numbers,
                "outside_training_domain": found,
            }
            self.write_sidecar(tile.name, record)
            _write_picture(picture, self.files(tile.name)[0], icc_profile=profile)

        list(self._pool.map(write, wanted, measured, notes))

    def _target(self, tile: TileImage) -> NDArray[np.uint8]:
        """Read a tile; one that was set aside is black, since a smaller batch gives its others other bits."""
        if tile.name not in self.setbacks.reasons:
            with self.setbacks.set_aside(tile.name, of=tile.row["slide_path"]):
                return self._reader.read(tile.row)
        return np.zeros((tile.row["tile_size"], tile.row["tile_size"], 3), np.uint8)

    def _reduction(self, tile: TileImage) -> PictureDegradation:
        if tile.degradation:
            return degradation_called(tile.degradation, scale=self.inferer.scale)
        return reduction_for_tiles(self.inferer.degradation)

    def _tile_provenance(self, tile: TileImage) -> dict[str, Any]:
        row, reduction = tile.row, self._reduction(tile)
        path = row["slide_path"]
        if path not in self._checksums:
            self._checksums[path] = slide_checksum(path)
        if self._checksums[path] != row["slide_sha256"].lower():
            fail(
                "is not the slide that the manifest's checksum names", path=path, remedy="make the tiles anew"
            )
        return {
            "source_sha256": self._checksums[path],
            "source_position": [row["x"], row["y"]],
            "source_size": row["tile_size"],
            "source_microns_per_pixel": row["microns_per_pixel"],
            **(
                {"smoothing_sigma": reduction.sigma}
                if isinstance(reduction, GaussianSubsampling)
                else {"degradation": reduction.name}
            ),
        }


def _profile_record(profile: bytes | None) -> dict[str, str]:
    """Return what the sidecar says of a color profile that the restoration carries, where it does."""
    return {} if profile is None else {"icc_profile_sha256": hashlib.sha256(profile).hexdigest()}


def _write_picture(picture: NDArray[np.uint8], path: Path, *, icc_profile: bytes | None) -> None:
    from PIL import Image

    with atomic_path(path) as temporary:
        # Level 1: a tenth more bytes than 6, a quarter of the time.
        Image.fromarray(picture).save(temporary, format="PNG", compress_level=1, icc_profile=icc_profile)
