"""The commands of multi-contrast MRI: check, co-register, evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medrestore.checks import InputError
from medrestore.cli.options import (
    Experiment,
    OutputFolder,
    Seed,
    TrackingUri,
    named_pairs,
    report_problems,
)

if TYPE_CHECKING:
    from medrestore.domains.multicontrast_mri.acquisition.acquisition import Acquisition

__all__ = ["mri_app"]

mri_app = typer.Typer(
    no_args_is_help=True,
    help="Multi-contrast MRI: check a manifest, co-register the contrasts, evaluate restorations.",
)

Contrasts = Annotated[
    list[str] | None,
    typer.Option("--contrast", help="A column of the manifest; repeat. All six of the paper when not given."),
]
Delays = Annotated[
    list[float] | None,
    typer.Option(help="Saturation delay in ms; repeat, in order. The default protocol's when not given."),
]
Echoes = Annotated[
    list[float] | None,
    typer.Option(help="Echo time in ms; repeat, in order. The default protocol's when not given."),
]
Component = Annotated[
    str,
    typer.Option(
        help="phase_corrected (complex or signed MDME images), magnitude, or any: other sequences as input."
    ),
]
Channels = Annotated[int | None, typer.Option(help="Number of input images, with --component any.")]


@mri_app.command("check")
def check(
    file: Annotated[Path, typer.Argument(help="The manifest, a CSV file.")],
    contrast: Contrasts = None,
    component: Annotated[
        str | None,
        typer.Option(
            help="Check the channels of the inputs too: phase_corrected, magnitude or any, as in coregister."
        ),
    ] = None,
    saturation_delay_ms: Delays = None,
    echo_time_ms: Echoes = None,
    channels: Channels = None,
) -> None:
    """Report all faults of a manifest at once, or count the contrasts; ends with code 1 when there is one.

    With --component, inputs that coregister would refuse, for their channels or sidecars, are found too.
    """
    from medrestore.domains.multicontrast_mri.schema import availability, contrast_schema

    contrasts = _contrasts(contrast)
    if component is None and (saturation_delay_ms or echo_time_ms or channels):
        raise InputError("delays, echoes and channels need --component, which says what the inputs are")
    acquisition = component and _acquisition(component, saturation_delay_ms, echo_time_ms, channels)
    schema = contrast_schema(contrasts, acquisition or None)
    report_problems(file, schema.check(file))
    counts = availability(schema.read(file), contrasts)
    typer.echo(f"subjects with each contrast\n{counts.to_string()}")


@mri_app.command("coregister")
def coregister(
    manifest: Annotated[Path, typer.Argument(help="Manifest (CSV) of inputs and contrasts.")],
    output: OutputFolder,
    contrast: Contrasts = None,
    component: Component = "phase_corrected",
    saturation_delay_ms: Delays = None,
    echo_time_ms: Echoes = None,
    channels: Channels = None,
    workers: Annotated[int | None, typer.Option(help="Processes; all cores when not given.")] = None,
) -> None:
    """Move each contrast rigidly onto its subject's input, resampled once; writes a manifest to train with.

    Beside it: registration.csv with the quality of each, a picture for each subject, and left_out.csv with
    the subjects whose registration failed. Files that cannot be used do not end the run: they are listed at
    its end, with code 2.
    """
    from medrestore.domains.multicontrast_mri.registration.coregister import coregister_manifest

    written = coregister_manifest(
        manifest,
        output,
        contrasts=_contrasts(contrast),
        acquisition=_acquisition(component, saturation_delay_ms, echo_time_ms, channels),
        workers=workers,
    )
    typer.echo(f"manifest: {written}")


@mri_app.command("evaluate")
def evaluate(
    manifest: Annotated[Path, typer.Option(help="The co-registered manifest whose split is evaluated.")],
    output: OutputFolder,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=FOLDER of restored volumes (SUBJECT_SESSION_CONTRAST_restored.nii.gz); repeat."
        ),
    ] = None,
    contrast: Contrasts = None,
    task: Annotated[Path | None, typer.Option(help="model.pt whose network T judges the images.")] = None,
    observer: Annotated[
        list[Path] | None, typer.Option(help="model.pt of an independent contrast observer; repeat.")
    ] = None,
    segmenter: Annotated[
        Path | None, typer.Option(help="model.pt of an independent lesion segmenter.")
    ] = None,
    classical: Annotated[
        bool, typer.Option(help="Compare with synthetic MRI from a voxel-wise fit of T1, T2 and PD.")
    ] = True,
    split: Annotated[str, typer.Option(help="Rows of this split are evaluated.")] = "test",
    tracking_uri: TrackingUri = None,
    experiment: Experiment = "evaluation",
    seed: Seed = 0,
) -> None:
    """Compare restorations, contrast by contrast: image quality, T and observers, lesions, grid artifacts."""
    from medrestore.domains.multicontrast_mri.evaluation.evaluate import evaluate_contrasts

    evaluation = evaluate_contrasts(
        manifest,
        methods={name: Path(folder) for name, folder in named_pairs("method", method or []).items()},
        output=output,
        contrasts=_contrasts(contrast),
        task=task,
        observers=observer or [],
        segmenter=segmenter,
        split=split,
        classical=classical,
        seed=seed,
    )
    typer.echo(evaluation.markdown)
    if tracking_uri:
        from medrestore.tracking.evaluations import log_evaluation

        log_evaluation(evaluation, experiment=experiment, tracking_uri=tracking_uri)


def _acquisition(
    component: str, delays: list[float] | None, echoes: list[float] | None, channels: int | None
) -> Acquisition:
    """Return what the channels of the inputs are; the default protocol's times where none are given."""
    from medrestore.domains.multicontrast_mri.acquisition.acquisition import make_acquisition
    from medrestore.operators.mdme import MdmeProtocol

    protocol = MdmeProtocol()
    is_mdme = component != "any"
    return make_acquisition(
        component=component,
        saturation_delays_ms=delays or (protocol.saturation_delays_ms if is_mdme else None),
        echo_times_ms=echoes or (protocol.echo_times_ms if is_mdme else None),
        channels=channels,
    )


def _contrasts(given: list[str] | None) -> tuple[str, ...]:
    from medrestore.operators.mr_sequences import CONTRASTS

    return tuple(given or CONTRASTS)
