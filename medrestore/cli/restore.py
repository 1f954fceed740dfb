"""The command that restores, but for the options of a kind of image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from medrestore.checks import counted
from medrestore.options import Seed

__all__ = ["restore"]


def restore(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT",
            help="A NIfTI volume (3D; of several channels 4D), or a slide or picture; a folder of them, or a "
            "manifest (CSV). Bad files do not end the run: they are listed at its end, with code 2.",
        ),
    ],
    weights: Annotated[
        Path, typer.Option(help="model.pt of a finished training, which says what it restores.")
    ],
    output: Annotated[Path, typer.Option(help="Folder for the restorations.")],
    split: Annotated[str | None, typer.Option(help="Of a manifest, restore this split only.")] = None,
    device: Annotated[
        str | None,
        typer.Option(help="cpu, cuda, cuda:1, ...; the first CUDA device if there is one when not given."),
    ] = None,
    precision: Annotated[str, typer.Option(help="auto, fp32 or bf16.")] = "auto",
    seed: Seed = 0,
    **own: Any,
) -> None:
    """Restore volumes to NIfTI on the source's exact grid, slides to pyramidal TIFF; with JSON provenance."""
    from medrestore.inference.restorer import restore_files

    settings = {"split": split, "device": device, "precision": precision, "seed": seed, **own}
    written = restore_files(source, weights=weights, output_dir=output, **settings)
    typer.echo(f"{counted(len(written), 'file')} restored to {output}")
