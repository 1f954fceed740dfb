"""The commands of amyloid PET."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medrestore import options

__all__ = ["COMMANDS", "DEMO", "GROUP", "RESTORE", "check", "evaluate", "simulate"]

DEMO = "about 11 minutes on two cores, ends with the rehearsal of a reader study"
GROUP = "pet"

DoseFraction = Annotated[
    float | None, typer.Option(help="Of a manifest, the rows at this dose fraction only.")
]
RestoredAnchor = Annotated[
    str | None,
    typer.Option(
        "--anchor",
        help="regions (of the manifest) or atlas (registered to the scan): write restorations that have the "
        "regional means of the unrestored scan too, in OUTPUT/anchored. none when not given.",
    ),
]
RESTORE = {"samples": options.Samples, "dose_fraction": DoseFraction, "anchor": RestoredAnchor}


def _scans(given: list[str] | None) -> list[str] | None:
    return [name for name in given if name != "none"] if given else None


@options.done_by("simulate.cohort.simulate_cohort", "manifest: {0}", mr=_scans)
def simulate(
    output: options.OutputFolder,
    size: Annotated[
        str,
        typer.Option(
            help="demo (84 subjects), large (184), or reference: the paper's 40 and 60 more for test."
        ),
    ] = "demo",
    dose_fraction: Annotated[
        float, typer.Option(help="Part of the standard-dose counts that the low dose keeps.")
    ] = 0.01,
    training_doses: Annotated[
        list[float] | None,
        typer.Option(
            "--training-dose",
            help="Further dose fraction of training subjects; repeat. Validation and test subjects then have "
            "the dose series too, and the manifest a row for each dose.",
        ),
    ] = None,
    mr: Annotated[
        list[str] | None,
        typer.Option(help="MR of each subject: t1, flair; repeat; 'none' for none. Default: t1."),
    ] = None,
    seed: options.Seed = 0,
    workers: options.Workers = None,
) -> None:
    """Simulate a cohort of amyloid PET pairs: low and standard dose of the very same counts, truth beside.

    A subject's MR is on a grid of its own, and the head has moved since the PET.
    """


def check(
    manifest: options.Manifest,
    label_column: Annotated[str, typer.Option(help="Column of the label y.")] = "amyloid_status",
    label_values: Annotated[
        list[int] | None, typer.Option(help="Allowed labels; repeat. Default: 0 and 1.")
    ] = None,
) -> None:
    """Report all faulty rows of a manifest at once; ends with code 1 when there is one.

    Files are read too: what train, restore or evaluate would refuse of them, such as a region map without the
    regions of the SUVR, is found here. Tables are CSV, separated by commas, UTF-8.
    """
    from medrestore.domains.amyloid_pet.schema import COMPOSITE_REGIONS, REFERENCE_REGION, pair_schema

    schema = pair_schema(
        label_column=label_column,
        label_values=tuple(label_values or (0, 1)),
        regions=(REFERENCE_REGION, *COMPOSITE_REGIONS),  # those that evaluate asks for
    )
    options.report_problems(manifest, schema.check(manifest))


def _filters(given: list[str] | None) -> dict[str, float | None] | None:
    if not given:
        return None
    tuned: dict[str, float | None] = {item: None for item in given if "=" not in item and item != "none"}
    return tuned | options.named_numbers("filter", [item for item in given if "=" in item])


@options.done_by("evaluation.evaluate.evaluate", methods=options.folders_of, filters=_filters)
def evaluate(
    manifest: options.Manifest,
    output: options.OutputFolder,
    methods: options.Methods = None,
    task: options.Task = None,
    observers: options.Observers = None,
    dose_series: Annotated[
        Path | None,
        typer.Option(help="Manifest of plain reconstructions at other doses, for the dose equivalent."),
    ] = None,
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            help="Classical filter and its parameter, gaussian=FWHM_MM or nlm=STRENGTH; repeat; "
            "'none' for neither. Both when not given; tuned on the validation split where no parameter is.",
        ),
    ] = None,
    anchor: Annotated[
        str | None,
        typer.Option(
            help="regions (of the manifest) or atlas (registered to each scan): every method has a row "
            "'+ anchor' too, with the regional means of the unrestored scans. none when not given."
        ),
    ] = None,
    split: options.EvaluatedSplit = "test",
    dose_fraction: DoseFraction = None,
    seed: options.Seed = 0,
) -> None:
    """Compare restorations: image quality, T and observers, SUVR, dose equivalent; table, CSV, figure.

    Folders of restored volumes hold SUBJECT_SESSION_restored.nii.gz.
    """


@options.done_by("low_dose.simulate_low_dose", "manifest: {0}")
def low_dose(
    image: Annotated[Path, typer.Option(help="A standard-dose PET volume (NIfTI, 3D).")],
    output: options.OutputFolder,
    dose_fractions: Annotated[
        list[float] | None,
        typer.Option("--dose-fraction", help="Part of the counts that is kept; repeat for several."),
    ] = None,
    mu_map: Annotated[
        Path | None,
        typer.Option(help="Attenuation map in 1/cm on the image's grid; else uniform in the segmented head."),
    ] = None,
    subject_id: Annotated[
        str, typer.Option(help="Name of the subject in the manifest: a pseudonym.")
    ] = "sub-0001",
    split: Annotated[str, typer.Option(help="Split of the rows: train, validation or test.")] = "test",
    amyloid_status: Annotated[
        int | None, typer.Option(help="0 or 1; training and validation need it, a test scan does not.")
    ] = None,
    tracer: Annotated[str, typer.Option(help="Tracer, for the manifest.")] = "unknown",
    units: Annotated[
        str | None, typer.Option(help="Units; those of the image's sidecar when not given.")
    ] = None,
    standard_counts: Annotated[
        float | None, typer.Option(help="Counts of the standard-dose scan; a typical number when not given.")
    ] = None,
    seed: options.Seed = 0,
) -> None:
    """Make low-dose pairs from a real standard-dose volume: both arms re-projected, only the dose differs."""


@options.done_by("coregistration.coregister_guides", "manifest: {0}")
def coregister(
    manifest: options.Manifest,
    output: options.OutputFolder,
    workers: options.Workers = None,
) -> None:
    """Move each MR rigidly onto its PET, resampled once; writes a manifest to train and restore with.

    Beside it: registration.csv with the quality of each, a picture for each scan, and left_out.csv with the
    MR whose registration failed: its cell is empty.
    """


@options.done_by("regions.map_regions.map_regions", "written: {0}")
def regions(
    source: Annotated[
        Path,
        typer.Argument(help="A manifest of amyloid PET, a NIfTI volume (PET or T1), or a folder of them."),
    ],
    output: options.OutputFolder,
    image: Annotated[
        str,
        typer.Option(help="Of a manifest, the column of the images that are registered: target or degraded."),
    ] = "target",
    split: Annotated[str | None, typer.Option(help="Of a manifest, the rows of this split only.")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Map the scans that have regions too, and use the new ones.")
    ] = False,
    workers: options.Workers = None,
) -> None:
    """Map the brain regions of scans that have no map, by registering the average head (ICBM152) to each.

    Maps, a picture of each, regions.csv with their quality and, of a manifest, a new one with the maps. Scans
    whose registration fails are listed in left_out.csv and have no map. Files that cannot be used do not end
    the run: they are listed at its end, with code 2.
    """


COMMANDS = {"coregister": coregister, "low-dose": low_dose, "regions": regions}
