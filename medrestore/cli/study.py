"""Reader studies on the command line: ``medrestore study``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medrestore.checks import InputError, counted, fail, require_in_set
from medrestore.cli.record import TrackingUri
from medrestore.study.measures import COVARIANCES, MEASURES

if TYPE_CHECKING:
    from medrestore.study.statistics.reads import ReadTable

__all__ = ["study_app"]

study_app = typer.Typer(
    no_args_is_help=True,
    help="Blinded reader studies: design, reading page, record of reads, multi-reader multi-case analysis.",
    epilog="Start with: medrestore study create plan.yaml --output study",
)


def _one_of(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}"


StudyFolder = Annotated[Path, typer.Argument(help="Folder of a study that was made with 'study create'.")]
Metric = Annotated[str, typer.Option(help=f"{_one_of(MEASURES)}.")]
PositiveFrom = Annotated[
    float | None, typer.Option(help="A rating of this or more is positive (or counts as the share).")
]
Covariance = Annotated[str, typer.Option(help=f"Of the figures of merit: {_one_of(COVARIANCES)}.")]


@study_app.command()
def create(
    plan: Annotated[Path, typer.Argument(help="The plan, a YAML file; docs/reader_studies.md explains it.")],
    output: Annotated[Path, typer.Option(help="A new folder, or that of an interrupted call.")],
    workers: Annotated[int | None, typer.Option(help="Processes; all cores when not given.")] = None,
) -> None:
    """Freeze a plan: blind the images, draw every reader's order, seal it with checksums."""
    from medrestore.experiments.runs import command
    from medrestore.study.create import create_study

    study = create_study(plan, output=output, workers=workers)
    typer.echo(
        f"study {study.design['study_id']}: {counted(len(study.key), 'image')}, "
        f"{counted(len(study.reading_list), 'reading')}\n"
        f"  plan SHA-256:         {study.plan_sha256}\n"
        f"  reading list SHA-256: {study.design['reading_list_sha256']}\n"
        f"  served to readers:    {study.public}\n"
        f"  never served:         {study.private}\n"
        f"Read with: {command('medrestore', 'study', 'serve', output)}"
    )


@study_app.command()
def serve(
    study: StudyFolder,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 127.0.0.1 is this machine alone.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8080,
) -> None:
    """Serve the reading page; prints each reader's own link. Ctrl-C ends it, and no read is lost."""
    from medrestore.study.server.serve import serve as run

    run(study, host=host, port=port)


@study_app.command()
def handout(
    study: StudyFolder,
    reader: Annotated[str, typer.Option(help="Whose reading list.")],
    output: Annotated[Path, typer.Option(help="A new folder.")],
) -> None:
    """Write a reader's images in reading order for a desktop viewer, with a CSV file to fill in."""
    from medrestore.study.handout import write_handout

    readings = write_handout(study, reader=reader, output=output)
    typer.echo(f"{counted(readings, 'reading')} written to {output}")


@study_app.command("import")
def import_(
    study: StudyFolder,
    reads: Annotated[
        Path, typer.Argument(help="CSV with read_id and one column a question, as 'handout' made it.")
    ],
) -> None:
    """Take reads made in another viewer; all rows are checked before the first is written."""
    from medrestore.study.record.exchange import import_reads

    typer.echo(f"{reads}: {import_reads(study, reads)}")


@study_app.command()
def export(
    study: StudyFolder,
    output: Annotated[Path, typer.Option(help="A new CSV file.")],
    unblind: Annotated[
        bool,
        typer.Option("--unblind", help="Add arm, case and truth: breaks the blinding of whoever reads it."),
    ] = False,
    question: Annotated[
        str, typer.Option(help="With --unblind: this question alone, as a table that 'analyze' takes.")
    ] = "",
) -> None:
    """Write all reads as a long CSV table, one row an answer; blinded unless told otherwise."""
    from medrestore.study.record.exchange import export_reads

    rows = export_reads(study, output, unblind=unblind, question=question)
    typer.echo(f"{counted(rows, 'row')} written to {output}")


@study_app.command()
def verify(
    study: StudyFolder,
    head: Annotated[
        str, typer.Option(help="Hash of a row that was noted earlier: it must still be in the chain.")
    ] = "",
) -> None:
    """Check the chain of reads, the frozen files and every image; ends with code 1 when one is wrong."""
    from medrestore.study.record.verification import verify_study

    result = verify_study(study, head=head)
    typer.echo(str(result))
    if result.problems:
        raise typer.Exit(1)


@study_app.command()
def analyze(
    reads: Annotated[
        Path, typer.Argument(help="A study, or a CSV file with columns reader, method, case, truth, rating.")
    ],
    output: Annotated[
        Path | None, typer.Option(help="Folder for the results; STUDY/analysis by default.")
    ] = None,
    metric: Annotated[str | None, typer.Option(help=f"Of a CSV file: {_one_of(MEASURES)}.")] = None,
    positive_from: PositiveFrom = None,
    covariance: Covariance = "jackknife",
    reference: Annotated[str | None, typer.Option(help="Method that others are compared with.")] = None,
    margin: Annotated[float | None, typer.Option(help="Non-inferiority margin to the reference.")] = None,
    alpha: Annotated[float, typer.Option(help="Level of tests and intervals.")] = 0.05,
    correction: Annotated[
        str, typer.Option(help="Of pairwise p values: holm, bonferroni, sidak, fdr_bh or none.")
    ] = "holm",
    readers: Annotated[
        str,
        typer.Option(
            help="random: conclusions hold for other readers; fixed: for these alone (one will do)."
        ),
    ] = "random",
    missing: Annotated[
        str,
        typer.Option(
            help="When reads are missing: refuse, or declare drop_cases (leave out cases not read by all), "
            "or, of a CSV file, available (each estimate from the reads that are there)."
        ),
    ] = "refuse",
    volumes: Annotated[
        Path | None,
        typer.Option(help="Of a study: manifest with regions, for SUVR agreement beside the reads."),
    ] = None,
    mlflow: Annotated[
        bool,
        typer.Option(
            "--mlflow", help="Record the analysis in MLflow: in --tracking-uri, else beside the results."
        ),
    ] = False,
    tracking_uri: TrackingUri = None,
) -> None:
    """Analyze reads as a multi-reader multi-case study (Obuchowski-Rockette, degrees of freedom by Hillis).

    A study gives the report of all pre-registered measures; a CSV file gives analysis.json of one metric.
    """
    settings: dict[str, Any] = {
        "readers": readers,
        "covariance": covariance,
        "alpha": alpha,
        "correction": correction,
        "missing": missing,
    }
    if reads.is_dir():
        if metric is not None or positive_from is not None or reference is not None or margin is not None:
            raise InputError(
                "a study is analyzed as its plan says: --metric, --positive-from, --reference and --margin "
                "are for CSV files. Remedy: export with --unblind and --question NAME, and analyze that"
            )
        from medrestore.study.analysis.analyze import analyze_study
        from medrestore.study.analysis.reader_group import Settings
        from medrestore.study.report.report import write_report

        analysis = analyze_study(reads, Settings(**settings), manifest=volumes)
        folder = write_report(analysis, output or reads / "analysis")
        typer.echo(f"{analysis.summary}\n\nreport: {folder / 'report.html'}")
        if mlflow or tracking_uri:
            from medrestore.tracking.store import tracking_uri_of
            from medrestore.tracking.studies import log_study

            log_study(analysis, folder, tracking_uri=tracking_uri_of(tracking_uri, folder.parent))
        return
    from medrestore.study.statistics.analyze import analyze_table

    if not reads.exists():
        fail("no such study or file", path=reads, remedy="name the folder of a study, or a CSV file of reads")
    if volumes is not None or mlflow:
        fail(
            "is a CSV file, and --volumes and --mlflow are for studies",
            path=reads,
            remedy="leave them out, or analyze the study itself",
        )
    if metric is None or output is None:
        raise InputError("analyzing a CSV file needs --metric and --output")
    result = analyze_table(
        _reads_of(reads, metric),
        metric=metric,
        positive_from=positive_from,
        reference=reference,
        margin=margin,
        **settings,
    )
    result.write(output)
    typer.echo(result.summary)


@study_app.command()
def power(
    pilot: Annotated[
        Path, typer.Argument(help="A study, or a CSV file with columns reader, method, case, truth, rating.")
    ],
    difference: Annotated[float, typer.Option(help="Difference between two methods that is to be found.")],
    metric: Metric = "auc",
    positive_from: PositiveFrom = None,
    covariance: Covariance = "jackknife",
    reader: Annotated[list[int] | None, typer.Option("--readers", help="Numbers of readers; repeat.")] = None,
    case: Annotated[list[int] | None, typer.Option("--cases", help="Numbers of cases; repeat.")] = None,
    target: Annotated[float, typer.Option(help="Power that the sample size is to reach.")] = 0.8,
    alpha: Annotated[float, typer.Option(help="Level of the two-sided test.")] = 0.05,
    output: Annotated[Path | None, typer.Option(help="Folder for power.json and power.csv.")] = None,
) -> None:
    """Compute power and sample size from the variance components of a pilot (Hillis 2011)."""
    from medrestore.study.statistics.power import power_of_table

    result = power_of_table(
        _reads_of(pilot, metric),
        difference=difference,
        metric=metric,
        positive_from=positive_from,
        covariance=covariance,
        readers=reader or (),
        cases=case or (),
        target=target,
        alpha=alpha,
    )
    if output is not None:
        result.write(output)
    typer.echo(result.summary)


def _reads_of(place: Path, metric: str) -> ReadTable:
    """Return the reads of a study, or of a CSV file, that a metric is computed from."""
    from medrestore.study.analysis.analyze import study_reads
    from medrestore.study.layout import open_study
    from medrestore.study.statistics.reads import read_table

    require_in_set("metric", metric, tuple(MEASURES))
    source = study_reads(open_study(place), metric=metric) if place.is_dir() else place
    return read_table(source, needs_truth=MEASURES[metric].judged)


@study_app.command("simulate-readers")
def simulate_readers(
    study: StudyFolder,
    weights: Annotated[
        list[Path] | None, typer.Option(help="model.pt of a task network that reads; repeat for several.")
    ] = None,
    manifest: Annotated[
        Path | None, typer.Option(help="Manifest with regions, for readers by SUVR threshold.")
    ] = None,
    noise: Annotated[
        float,
        typer.Option(help="Internal noise of a reader, in standard deviations of its score over cases."),
    ] = 0.3,
    seed: Annotated[
        int, typer.Option(help="Names every random stream: the same seed gives the same reads.")
    ] = 0,
) -> None:
    """Let model readers read the study: a rehearsal, marked 'model' in every row, table and plot."""
    from medrestore.study.models.readers import simulate

    reads = simulate(study, weights=weights or [], manifest=manifest, noise=noise, seed=seed)
    typer.echo(counted(reads, "model read"))
