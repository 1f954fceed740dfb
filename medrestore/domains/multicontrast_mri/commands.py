"""The commands of multi-contrast MRI."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medrestore import options
from medrestore.checks import InputError

if TYPE_CHECKING:
    from medrestore.domains.multicontrast_mri.acquisition.acquisition import Acquisition

__all__ = ["COMMANDS", "DEMO", "GROUP", "RESTORE", "check", "evaluate", "simulate"]

DEMO = "six contrasts from one acquisition, about 12 minutes"
GROUP = "mri"

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
RESTORE = {
    "samples": options.Samples,
    "contrasts": Annotated[
        list[str] | None,
        typer.Option(
            "--contrast", help="A contrast to restore; repeat. All that were trained when not given."
        ),
    ],
}


@options.done_by("simulate.cohort.simulate_mdme_cohort", "manifest: {0}")
def simulate(
    output: options.OutputFolder,
    size: Annotated[
        str,
        typer.Option(help="demo (34 subjects), large (110), or reference: the paper's 67, full resolution."),
    ] = "demo",
    seed: options.Seed = 0,
    workers: options.Workers = None,
) -> None:
    """Simulate a cohort of multi-contrast MRI: an MDME acquisition, six conventional contrasts, lesions.

    As in real life, subjects move between the scans: [bold]medrestore mri coregister[/bold] comes next.
    """


def check(
    manifest: options.Manifest,
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
    options.report_problems(manifest, schema.check(manifest))
    counts = availability(schema.read(manifest), contrasts)
    typer.echo(f"subjects with each contrast\n{counts.to_string()}")


def coregister(
    manifest: options.Manifest,
    output: options.OutputFolder,
    contrast: Contrasts = None,
    component: Component = "phase_corrected",
    saturation_delay_ms: Delays = None,
    echo_time_ms: Echoes = None,
    channels: Channels = None,
    workers: options.Workers = None,
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


def _contrasts(given: list[str] | None) -> tuple[str, ...]:
    from medrestore.operators.mr_sequences import CONTRASTS

    return tuple(given or CONTRASTS)


@options.done_by("evaluation.evaluate.evaluate_contrasts", methods=options.folders_of, contrasts=_contrasts)
def evaluate(
    manifest: options.Manifest,
    output: options.OutputFolder,
    methods: options.Methods = None,
    contrasts: Contrasts = None,
    task: options.Task = None,
    observers: options.Observers = None,
    segmenter: Annotated[
        Path | None, typer.Option(help="model.pt of an independent lesion segmenter.")
    ] = None,
    classical: Annotated[
        bool, typer.Option(help="Compare with synthetic MRI from a voxel-wise fit of T1, T2 and PD.")
    ] = True,
    split: options.EvaluatedSplit = "test",
    seed: options.Seed = 0,
) -> None:
    """Compare restorations, contrast by contrast: image quality, T and observers, lesions, grid artifacts.

    Folders of restored volumes hold SUBJECT_SESSION_CONTRAST_restored.nii.gz.
    """


COMMANDS = {"coregister": coregister}


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
