"""The commands of experiments that train many runs: demonstrations, studies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from medrestore.checks import require_in_range
from medrestore.cli.of_kinds import command_modules
from medrestore.cli.record import Experiment, TrackingUri
from medrestore.experiments.corruption_plan import FILE, LEVELS
from medrestore.kinds import files_beside
from medrestore.options import OutputFolder, Seed

__all__ = ["ABOUT_DEMOS", "commands_of_studies", "demo"]


def _demos() -> dict[str, str]:
    """Return what is said of the demonstrations, by kind of image."""
    own = command_modules()
    return {name: str(getattr(own.get(name), "DEMO", "")) for name in files_beside("demo.yaml")}


_DEMOS = _demos()
ABOUT_DEMOS = f"""Run the main job from nothing to a table: simulate or cut images, train, restore, evaluate.

{"; ".join(": ".join(filter(None, demo)) for demo in _DEMOS.items())}.
A call on the same folder continues where the last one ended."""


def demo(
    subject: Annotated[str, typer.Argument(help=", ".join(_DEMOS))] = next(iter(_DEMOS)),
    output: OutputFolder = Path("demo_output"),
    seed: Seed = 0,
) -> None:
    """Run the demonstration of a kind of image, as :data:`ABOUT_DEMOS` says."""
    from medrestore.experiments.demo import run_demo

    run_demo(subject, output, seed=seed)


def commands_of_studies() -> dict[str, dict[str, Callable[..., None]]]:
    """Return the commands of studies by kind of image and name: of those kinds that describe one."""
    return {subject: {"corruption-study": _corruption_study_of(subject)} for subject in files_beside(FILE)}


def _corruption_study_of(subject: str) -> Callable[..., None]:
    def corruption_study(
        manifest: Annotated[Path, typer.Argument(help="Manifest with all three splits.")],
        output: OutputFolder,
        level: Annotated[
            list[float] | None,
            typer.Option(
                help="Part of the training pairs that is corrupted; repeat. Default: 0 to .5 by .05."
            ),
        ] = None,
        variant: Annotated[
            list[str] | None,
            typer.Option(help="A method, by its overlay; repeat. Default: all; srgan needs VGG19's weights."),
        ] = None,
        seeds: Annotated[int, typer.Option(help="Trainings of each variant and level, seeds 0, 1, ...")] = 3,
        overlay: Annotated[
            list[str] | None,
            typer.Option(help="Overlay that every training gets first, e.g. demo, or a YAML file; repeat."),
        ] = None,
        jobs: Annotated[int, typer.Option(help="Trainings at a time; they share the cores.")] = 1,
        tracking_uri: TrackingUri = None,
        experiment: Experiment = "corruption_study",
    ) -> None:
        """Corrupt more and more of the training pairs and see which method stands it: table, figure, MLflow.

        Example: medrestore histology corruption-study data/histology/manifest.csv --output study
        --level 0 --level 0.3 --variant e --variant sqe --seeds 3 --overlay demo --jobs 2
        """
        from medrestore.experiments.corruption_study import run_corruption_study

        require_in_range("seeds", seeds, 1, 1000)  # before a number is given to each

        def show(folder: Path) -> None:
            typer.echo((folder / "tables.md").read_text(encoding="utf-8"))
            typer.echo(f"figure: {folder / 'figure.png'}")

        run_corruption_study(
            subject,
            manifest,
            output=output,
            levels=tuple(level or LEVELS),
            variants=variant or None,
            seeds=tuple(range(seeds)),
            overlays=tuple(overlay or ()),
            jobs=jobs,
            experiment=experiment,
            tracking_uri=tracking_uri,
            show=show,
        )

    return corruption_study
