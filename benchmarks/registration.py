"""Speed of co-registration: one registration, and a whole subject, against what it cannot do without.

The floor of a registration is one evaluation of mutual information with its gradient at the finest resolution
(a search of one step), that of a subject its files: read, resample, write, per contrast. All on one core and
in one run, in turns.

Run: ``python benchmarks/registration.py``.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK
from threadpoolctl import threadpool_limits
from timing import interleaved, machine

from medrestore.data.registration import register_rigid, resample
from medrestore.data.registration_images import BINS, LEVELS, FixedHead, Lattice, image_levels
from medrestore.data.volumes import Volume, read_volume, write_volume
from medrestore.domains.multicontrast_mri.acquisition.acquisition import make_acquisition
from medrestore.domains.multicontrast_mri.acquisition.channel_volume import read_channels
from medrestore.domains.multicontrast_mri.registration.subject_registration import (
    RegistrationRun,
    SubjectFiles,
    coregister_subject,
)
from medrestore.domains.multicontrast_mri.simulate.cohort import simulate_mdme_cohort
from medrestore.domains.multicontrast_mri.simulate.design import MriCohortSize, MriSubjectGroup
from medrestore.operators.mr_sequences import CONTRASTS


def one_step(head: FixedHead, moving: Volume) -> Callable[[], object]:
    """Return a search that ends after its first step."""
    image, level = image_levels(moving)[-1], LEVELS[-1]
    lattice = Lattice.around(head.points_mm, step_mm=level.lattice_mm)

    def search() -> object:
        method = SimpleITK.ImageRegistrationMethod()
        method.SetMetricAsMattesMutualInformation(numberOfHistogramBins=BINS)
        method.SetMetricFixedMask(head.mask)
        method.SetVirtualDomain(
            lattice.counts, lattice.first_mm.tolist(), [lattice.step_mm] * 3, lattice.axes.ravel().tolist()
        )
        method.SetOptimizerAsRegularStepGradientDescent(0.1, 0.01, 1)
        method.SetInitialTransform(SimpleITK.Euler3DTransform(head.center_mm.tolist(), 0.0, 0.0, 0.0))
        return method.Execute(head.levels[-1], image)

    return search


def jobs(place: Path, output: Path) -> dict[str, Callable[[], object]]:
    """Return what is measured, for one simulated subject."""
    acquisition = make_acquisition()
    files = {name: (str(place / f"{name}.nii.gz"),) for name in CONTRASTS}
    reference = read_channels([place / "mdme.nii.gz"], acquisition).reference(acquisition)
    head = FixedHead.of(reference)
    moving = read_volume(files["t2w"][0])
    matrix = register_rigid(moving, head).matrix
    subject = SubjectFiles("sub-0001", "ses-01", {"input": (str(place / "mdme.nii.gz"),), **files}, {})
    run = RegistrationRun(output, place, acquisition, 20.0, "")

    def bare() -> None:
        volume = read_channels([place / "mdme.nii.gz"], acquisition).reference(acquisition)
        for name, (path,) in files.items():
            data = resample(read_volume(path), volume, matrix=matrix).data
            write_volume(data, volume.source, output / f"{name}.nii.gz")

    return {
        "one step": one_step(head, moving),
        "registration": lambda: register_rigid(moving, head),
        "resampling": lambda: resample(moving, reference, matrix=matrix),
        "files of a subject": bare,
        "whole subject": lambda: coregister_subject(run, subject),
    }


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=5, help="turns of every measurement")
    arguments = parser.parse_args()
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    size = MriCohortSize("one", (MriSubjectGroup("train", patients=1, controls=0),))
    with threadpool_limits(limits=1), tempfile.TemporaryDirectory() as folder:
        manifest = simulate_mdme_cohort(Path(folder) / "raw", size=size, workers=1, progress=False)
        place = manifest.parent / "subjects" / "sub-0001"
        seconds = interleaved(jobs(place, Path(folder) / "out"), repetitions=arguments.repetitions)
    print(f"{machine(1)}; {size.grid.shape} voxels, {len(CONTRASTS)} contrasts")
    print("| job | seconds | over its floor |")
    print("|---|---|---|")
    floors = {"registration": "one step", "whole subject": "files of a subject"}
    for name, value in seconds.items():
        ratio = f"{value / seconds[floors[name]]:.1f} x {floors[name]}" if name in floors else ""
        print(f"| {name} | {np.round(value, 3)} | {ratio} |")


if __name__ == "__main__":
    main()
