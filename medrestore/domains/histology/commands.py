"""The commands of histology."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medrestore import options
from medrestore.domains.histology.slides.patients import PATIENT_RULES

__all__ = ["COMMANDS", "DEMO", "EXPERIMENT", "GROUP", "RESTORE", "evaluate"]

GROUP = "histology"
DEMO = "super-resolution of tiles, about 5 minutes"
EXPERIMENT = "histology_evaluation"

Scale = Annotated[int, typer.Option(help="Pixels of the target for one of the input, along a side.")]
Sigma = Annotated[
    float, typer.Option(help="Gaussian before subsampling, pixels of the target: as in training.")
]
SlideMicrons = Annotated[
    float | None,
    typer.Option(
        "--slide-microns-per-pixel",
        "--microns-per-pixel",
        help="Of slides and pictures that do not state their resolution.",
    ),
]
OverrideMicrons = Annotated[
    bool,
    typer.Option(
        "--override-microns-per-pixel",
        help="The resolution that is given holds for slides too that state another.",
    ),
]


def _region(given: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in given.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"must be X,Y,WIDTH,HEIGHT in whole pixels, got {given!r}") from error


Degradations = Annotated[
    list[str] | None,
    typer.Option(
        "--degradation",
        help="What tiles are reduced by: gaussianSIGMA, box, bicubic or lanczos, with -noiseSD and "
        "-jpegQUALITY as wanted (gaussian2-jpeg70); blind-set for eight of them; repeat.",
    ),
]
RESTORE = {
    "degradations": Degradations,
    "microns_per_pixel": SlideMicrons,
    "override_microns_per_pixel": OverrideMicrons,
    "input_microns_per_pixel": Annotated[
        float | None,
        typer.Option(
            help="Resolution at which slides are read. Default: their own, or the training's where "
            "that is coarser."
        ),
    ],
    "region": Annotated[
        str | None,
        typer.Option(
            help="X,Y,WIDTH,HEIGHT of what of one slide is restored, pixels of its finest level.",
            parser=_region,
        ),
    ],
    "background": Annotated[
        str | None,
        typer.Option(
            help="What glass of a slide becomes: bicubic (enlarged), white, or restored as tissue is. "
            "Default: bicubic."
        ),
    ],
    "overlap": Annotated[
        int | None,
        typer.Option(
            help="Pixels of a slide by which windows reach into the next ones, where they are blended. "
            "Default: 24."
        ),
    ],
    "compression": Annotated[
        str | None,
        typer.Option(
            help="Of restored slides: jpeg, or deflate: lossless, several times as large. Default: jpeg."
        ),
    ],
    "jpeg_quality": Annotated[
        int | None, typer.Option(help="Of JPEG in restored slides, 1 to 100. Default: 90.")
    ],
}


def _fractions(given: list[str] | None) -> dict[str, float] | None:
    return options.named_numbers("fraction", given) if given else None


@options.done_by(
    "example.make_tiles_or_example",
    "manifest: {0}\ntiles drawn on the slides: {output}/overview",
    fractions=_fractions,
)
def tiles(
    output: options.OutputFolder,
    slides: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Slides or pictures, folders of them (with the folders in them), or one CSV table with the "
            "columns slide and, as far as known, subject_id, split, microns_per_pixel. An example picture "
            "when not given."
        ),
    ] = None,
    manifest: Annotated[
        Path | None, typer.Option(help="Manifest to write; OUTPUT/manifest.csv when not given.")
    ] = None,
    tile_size: Annotated[int, typer.Option(help="Pixels along a side of a tile.")] = 256,
    stride: Annotated[
        int | None, typer.Option(help="Pixels between tiles; the tile's size when not given.")
    ] = None,
    microns_per_pixel: Annotated[
        float, typer.Option(help="Resolution of the tiles: the level of a slide is chosen by it.")
    ] = 0.25,
    slide_microns_per_pixel: Annotated[
        float | None, typer.Option(help="Resolution of slides and pictures that do not state one.")
    ] = None,
    override_microns_per_pixel: Annotated[
        bool,
        typer.Option(
            "--override-microns-per-pixel",
            help="What --slide-microns-per-pixel or the table says holds for slides too that state another.",
        ),
    ] = False,
    patient_pattern: Annotated[
        str | None,
        typer.Option(
            help="Regular expression whose one group is the patient in a slide's name: '^(tumor_[0-9]+)', or "
            "'^(.+)$' where each slide is a patient of its own; with a slash, in the name with its folders. "
            f"When not given, the first that applies: {PATIENT_RULES}. Where none does, slides are refused."
        ),
    ] = None,
    cases: Annotated[
        Path | None,
        typer.Option(
            help="CSV table that tells the patients of the slides: columns slide (the file's name) and "
            "subject_id, maybe split and microns_per_pixel."
        ),
    ] = None,
    fractions: Annotated[
        list[str] | None,
        typer.Option(
            "--fraction",
            help="SPLIT=PART of the patients; repeat. Default: train=0.7 validation=0.1 test=0.2. "
            "Not with a table that gives splits.",
        ),
    ] = None,
    minimum_tissue: Annotated[float, typer.Option(help="Part of a tile that must be tissue.")] = 0.5,
    minimum_focus: Annotated[
        float,
        typer.Option(
            help="Least sharpness of a tile: variance of its Laplacian over that of its tones; 0 keeps all."
        ),
    ] = 0.005,
    check_pen: Annotated[
        bool, typer.Option("--pen-check/--no-pen-check", help="Leave out tiles with pen marks.")
    ] = True,
    workers: Annotated[int | None, typer.Option(help="Threads; as many as cores when not given.")] = None,
    seed: options.Seed = 0,
) -> None:
    """Find the tiles of slides: tissue in focus without pen marks, patients split apart; a table, no copies.

    Example: medrestore histology tiles slides/ --output data/histology --microns-per-pixel 0.25
    """


@options.done_by("evaluation.evaluate.evaluate_tiles", methods=options.folders_of)
def evaluate(
    manifest: options.Manifest,
    output: options.OutputFolder,
    methods: options.Methods = None,
    split: options.EvaluatedSplit = "test",
    scale: Scale = 4,
    sigma: Sigma = 2.0,
    degradations: Degradations = None,
    seed: options.Seed = 0,
) -> None:
    """Compare restored tiles with the true ones: RRMSE, MS-mSSIM, QILV, PSNR, nuclei, stains; by patient.

    Folders of restored tiles hold TILE_restored.png, or with --degradation TILE_DEGRADATION_restored.png.
    """


def reduce(
    slide: Annotated[Path, typer.Argument(help="A slide or picture.")],
    output: Annotated[Path, typer.Option(help="The reduced slide, a .tiff file.")],
    scale: Scale = 4,
    sigma: Sigma = 2.0,
    microns_per_pixel: SlideMicrons = None,
    override_microns_per_pixel: OverrideMicrons = False,
    compression: Annotated[
        str, typer.Option(help="jpeg, or deflate: lossless, several times as large.")
    ] = "jpeg",
    jpeg_quality: Annotated[int, typer.Option(help="Of JPEG, 1 to 100.")] = 90,
) -> None:
    """Make a slide of low resolution from one of high resolution, as training tiles are made."""
    from medrestore.domains.histology.slides.reduce import reduce_slide
    from medrestore.operators.resampling import GaussianSubsampling

    written = reduce_slide(
        slide,
        output=output,
        degradation=GaussianSubsampling(scale=scale, sigma=sigma),
        microns_per_pixel=microns_per_pixel,
        override_microns_per_pixel=override_microns_per_pixel,
        compression=compression,
        quality=jpeg_quality,
    )
    typer.echo(f"reduced slide: {written}")


COMMANDS = {"tiles": tiles, "reduce": reduce}
