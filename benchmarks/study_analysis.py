"""Speed of the analysis of reads: 10 readers, 5 methods, 1,000 cases, against what cannot be avoided.

The floor: the table is read by pandas and each of the 50 areas is computed once by scikit-learn. The peer:
the jackknife as analyses by hand do it, scikit-learn's areas with one case left out; a sample of its cases is
timed and scaled up. All on one core and in one run, in turns. The whole command is timed besides.

Run: ``python benchmarks/study_analysis.py``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits
from timing import interleaved, machine

from medrestore import rng
from medrestore.study.measures import COVARIANCES, MEASURES
from medrestore.study.statistics.analyze import analyze_table
from medrestore.study.statistics.reads import read_table

POSITIVE_FROM = 3.0
LEFT_OUT = 10


def make_reads(methods: int, readers: int, cases: int, path: Path) -> Path:
    """Write ratings of 1 to 5 of correlated methods and readers, a third of the cases positive."""
    random = rng.generator(0, "benchmark")
    truth = np.arange(cases) % 3 == 0
    signal = random.normal(size=cases) + 1.2 * truth
    frames = []
    for method in range(methods):
        image = signal + random.normal(scale=0.6, size=cases)
        for reader in range(readers):
            seen = image + random.normal(scale=0.7, size=cases)
            frames.append(
                pd.DataFrame(
                    {
                        "reader": f"reader {reader}",
                        "method": f"method {method}",
                        "case": [f"case {number}" for number in range(cases)],
                        "truth": truth.astype(int),
                        "rating": np.digitize(seen, (-0.5, 0.3, 0.9, 1.5)) + 1,
                    }
                )
            )
    pd.concat(frames).to_csv(path, index=False)
    return path


def jobs_of(path: Path) -> dict[str, Callable[[], object]]:
    """Return floor, peer, and the analysis by every metric and covariance."""
    table = read_table(path)
    rows = table.ratings.reshape(-1, len(table.cases))
    truth = table.truth

    def floor() -> object:
        pd.read_csv(path, dtype=str)
        return [roc_auc_score(truth, row) for row in rows]

    def peer() -> object:
        kept = [np.delete(np.arange(len(table.cases)), case) for case in range(LEFT_OUT)]
        return [[roc_auc_score(truth[keep], row[keep]) for row in rows] for keep in kept]

    jobs: dict[str, Callable[[], object]] = {"floor": floor, "peer": peer}
    for metric, kind in MEASURES.items():
        for covariance in COVARIANCES if metric == "auc" else ["jackknife"]:
            cut = None if kind.threshold == "refused" else POSITIVE_FROM

            def analysis(
                metric: str = metric, covariance: str = covariance, cut: float | None = cut
            ) -> object:
                return analyze_table(
                    read_table(path), metric=metric, covariance=covariance, positive_from=cut
                ).summary

            jobs[f"{metric}, {covariance}" if metric == "auc" else metric] = analysis
    return jobs


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=3, help="turns of every measurement")
    parser.add_argument("--cases", type=int, default=1000, help="number of cases")
    arguments = parser.parse_args()
    with threadpool_limits(limits=1), tempfile.TemporaryDirectory() as folder:
        path = make_reads(5, 10, arguments.cases, Path(folder) / "reads.csv")
        seconds = interleaved(jobs_of(path), repetitions=arguments.repetitions, clock=time.process_time)
        start = time.perf_counter()
        command = ["study", "analyze", str(path), "--metric", "auc", "--output", f"{folder}/analysis"]
        subprocess.run(  # noqa: S603
            [sys.executable, "-c", "from medrestore.cli import main; main()", *command],
            check=True,
            capture_output=True,
        )
        whole = time.perf_counter() - start
    floor, peer = seconds.pop("floor"), seconds.pop("peer") * arguments.cases / LEFT_OUT
    print(f"{machine(1)}; 10 readers x 5 methods x {arguments.cases} cases, processor time")
    print(f"floor {floor:.2f} s; left out by scikit-learn {peer:.1f} s; whole command {whole:.1f} s")
    print("| analysis | seconds | / floor | peer / it |")
    print("|---|---|---|---|")
    for name, value in seconds.items():
        ratio = f"{peer / value:.0f}" if name.startswith("auc") else "-"
        print(f"| {name} | {value:.2f} | {value / floor:.1f} | {ratio} |")


if __name__ == "__main__":
    main()
