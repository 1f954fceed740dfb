"""The command that says where bundles lie and what they offer."""

from __future__ import annotations

import textwrap
from typing import Annotated

import typer

__all__ = ["bundles_app"]

bundles_app = typer.Typer()


@bundles_app.command()
def bundles(
    name: Annotated[
        str | None, typer.Argument(help="Name or folder of a bundle; all that ship are listed without.")
    ] = None,
    path: Annotated[
        bool, typer.Option("--path", help="Print the bundle's folder alone, for scripts.")
    ] = False,
) -> None:
    """List the bundles that ship, or one bundle's folder, overlays, and keys with their defaults.

    Keys of train.yaml follow medrestore train as [bold]--key value[/bold]. MONAI's own commands take the
    configuration by its path, e.g. python -m monai.bundle run
    --config_file "$(medrestore bundles amyloid_pet_taskgan --path)/configs/train.yaml"
    """
    from medrestore.checks import InputError
    from medrestore.engines.shelf import bundle_contents, bundles_on_shelf, find_bundle, guides

    if name is None:
        if path:
            raise InputError("--path is that of one bundle. Remedy: name it, e.g. amyloid_pet_taskgan --path")
        for folder in bundles_on_shelf():
            contents = bundle_contents(folder)
            typer.echo(f"{folder.name} {contents.version}: {contents.title}\n  {contents.path}")
        typer.echo("\nOne bundle's overlays and keys: medrestore bundles NAME")
        if guides() is not None:
            typer.echo(f"User guides: {guides()}")
        return
    if path:
        typer.echo(find_bundle(name).absolute())
        return
    contents = bundle_contents(name)
    typer.echo(f"{contents.path.name} {contents.version}: {contents.title}\n  {contents.path}")
    typer.echo("\nOverlays, for medrestore train --variant:")
    width = max(map(len, contents.overlays), default=0)
    for overlay, text in contents.overlays.items():
        typer.echo(textwrap.fill(f"  {overlay:{width}}  {text}", 110, subsequent_indent=" " * (width + 4)))
    for config, lines in contents.settings.items():
        typer.echo(f"\nKeys of {contents.path / 'configs' / config}.yaml:")
        for line in lines:
            typer.echo(f"  {line}")
