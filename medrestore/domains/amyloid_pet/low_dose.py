"""Low-dose pairs from a real standard-dose PET volume, by the physics that simulated cohorts are made with.

The volume is taken for the true activity. It is projected, attenuated, given scatter, randoms and Poisson
counts; the low dose is a thinning of those very counts; both are reconstructed alike. So the pair differs in
the dose only, and the target is as sharp, or as blurred, as the degraded image. What the scanner did to the
volume once is done twice.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medrestore import __version__, rng
from medrestore.checks import about, fail, require_in_range, require_in_set
from medrestore.claims import differing_settings
from medrestore.data.grid import steps_in
from medrestore.data.identity import id_problem, likeness_problems, ruined
from medrestore.data.nifti import nifti_stem, sidecar_path
from medrestore.data.tables import Problem, no_number, parse_text_table, refuse, table_problems
from medrestore.data.texts import plain_text, read_json_object
from medrestore.data.volumes import Volume, grid_difference, read_volume, write_volume
from medrestore.domains.amyloid_pet.schema import COLUMNS, pair_schema
from medrestore.domains.amyloid_pet.simulate.subject import degraded_name
from medrestore.files import (
    only_process,
    require_empty_folder,
    require_folder,
    sha256_file,
    write_json,
)
from medrestore.operators.pet_scan import STANDARD_DOSE, Scans, ScanSettings, simulate_scans

__all__ = ["COUNTS_PER_MM", "head_mask", "simulate_low_dose"]

COUNTS_PER_MM = 1.5e6
"""Events of a standard-dose scan per mm of its axial coverage, when their number is not given: as in the
simulated cohorts, about 2 10^8 for a brain."""

MU_HEAD_PER_CM = 0.096
"""Uniform attenuation of the head at 511 keV: water."""

HEAD_SMOOTHING_FWHM_MM = 8.0
HEAD_THRESHOLD = 0.10
CLOSING_MM = 12.0
"""The head is where the smoothed image exceeds this part of its 99th percentile, closed by a ball."""

MARKER_NAME = "low_dose.json"
BELONGS = "low-dose simulation"


@dataclass(frozen=True)
class _Window:
    """A square in-plane window with isotropic pixels, around what is in the image."""

    first: tuple[int, int]
    pixels: int
    stretch: tuple[float, float]

    def cut(self, data: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the window (n, n, Z) of a volume (X, Y, Z), zero where it leaves the volume."""
        data = _resampled(data, self.stretch)
        low = [max(-start, 0) for start in self.first]
        ends = [start + self.pixels for start in self.first]
        high = [max(end - size, 0) for end, size in zip(ends, data.shape[:2], strict=True)]
        padded = np.pad(data, ((low[0], high[0]), (low[1], high[1]), (0, 0)))
        x, y = (start + extra for start, extra in zip(self.first, low, strict=True))
        return np.ascontiguousarray(padded[x : x + self.pixels, y : y + self.pixels])

    def put_back(self, window: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Return the volume of a shape (X, Y, Z) that holds the window where it was cut, zero elsewhere."""
        fine = tuple(
            round(steps_in(size, 1 / factor)) for size, factor in zip(shape[:2], self.stretch, strict=True)
        )
        volume = np.zeros((*fine, shape[2]), dtype=np.float32)
        target, source = [], []
        for start, size in zip(self.first, fine, strict=True):
            begin, end = max(start, 0), min(start + self.pixels, size)
            target.append(slice(begin, end))
            source.append(slice(begin - start, end - start))
        volume[target[0], target[1]] = window[source[0], source[1]]
        back = (1 / self.stretch[0], 1 / self.stretch[1])
        return _resampled(volume, back, shape=shape)


def _resampled(
    data: NDArray[np.float32], factors: tuple[float, float], *, shape: tuple[int, ...] | None = None
) -> NDArray[np.float32]:
    """Return a volume with more voxels in-plane, by factors, about the same center; linear interpolation."""
    from scipy import ndimage

    if factors == (1.0, 1.0):
        return data
    in_plane = (
        round(steps_in(size, 1 / factor)) for size, factor in zip(data.shape[:2], factors, strict=True)
    )
    size = shape or (*in_plane, data.shape[2])
    step = np.array([1 / factors[0], 1 / factors[1], 1.0])
    offset = (np.array(data.shape) - 1) / 2 - step * (np.array(size) - 1) / 2
    out = ndimage.affine_transform(data, step, offset=offset, output_shape=size, order=1, mode="nearest")
    return np.asarray(out, dtype=np.float32)


def head_mask(data: NDArray[np.float32], *, voxel_size_mm: tuple[float, float, float]) -> NDArray[np.bool_]:
    """Segment the head in a PET volume: smoothed, thresholded, the largest part, its holes filled.

    Parameters
    ----------
    data : (X, Y, Z) float
        PET volume in any unit; slices along Z.
    voxel_size_mm : three floats, mm
        Voxel size.

    Returns
    -------
    (X, Y, Z) bool

    Raises
    ------
    InputError
        When the volume holds no positive signal.
    """
    from scipy import ndimage

    from medrestore.operators.pet import gaussian_post_filter

    smooth = gaussian_post_filter(data, fwhm_mm=HEAD_SMOOTHING_FWHM_MM, voxel_size_mm=voxel_size_mm)
    level = HEAD_THRESHOLD * float(np.percentile(smooth, 99))
    if level <= 0:
        fail("the volume holds no positive signal to find a head in")
    parts, count = ndimage.label(smooth > level)
    if count > 1:
        parts = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    # Closed by a ball, since skull and skin can be too faint in parts; then slice by slice, since the head is
    # open at the bottom of the volume. Padded, so that the ball can leave the volume.
    margin = [int(np.ceil(CLOSING_MM / size)) + 1 for size in voxel_size_mm]
    padded = np.pad(parts > 0, [(extra, extra) for extra in margin])
    grown = ndimage.distance_transform_edt(~padded, sampling=voxel_size_mm) <= CLOSING_MM
    closed = padded | (ndimage.distance_transform_edt(grown, sampling=voxel_size_mm) > CLOSING_MM)
    inner = tuple(slice(extra, extra + size) for extra, size in zip(margin, data.shape, strict=True))
    return np.stack([ndimage.binary_fill_holes(plane) for plane in np.moveaxis(closed[inner], 2, 0)], axis=2)


def _window(data: NDArray[np.float32], voxel_size_mm: tuple[float, float, float]) -> _Window:
    """Return the smallest square window whose inscribed circle holds the head and a margin of two pixels."""
    pixel_mm = min(voxel_size_mm[:2])
    x_size, y_size = (
        1.0 if abs(size - pixel_mm) <= 1e-3 * pixel_mm else size / pixel_mm for size in voxel_size_mm[:2]
    )
    stretch = (x_size, y_size)
    head = head_mask(data, voxel_size_mm=voxel_size_mm).any(axis=2)
    x, y = (indices * factor for indices, factor in zip(np.nonzero(head), stretch, strict=True))
    middle = ((x.min() + x.max()) / 2, (y.min() + y.max()) / 2)
    radius = float(np.hypot(x - middle[0], y - middle[1]).max()) + max(stretch)
    pixels = 2 * int(np.ceil(radius + 2))
    first = tuple(round(center - (pixels - 1) / 2) for center in middle)
    return _Window(first=(first[0], first[1]), pixels=pixels, stretch=stretch)


def simulate_low_dose(
    image: str | os.PathLike[str],
    *,
    output: str | os.PathLike[str],
    mu_map: str | os.PathLike[str] | None = None,
    dose_fractions: Sequence[float] = (0.01,),
    standard_counts: float | None = None,
    subject_id: str | None = None,
    session_id: str = "ses-01",
    split: str = "test",
    amyloid_status: int | None = None,
    tracer: str = "unknown",
    units: str | None = None,
    seed: int = 0,
    settings: ScanSettings | None = None,
) -> Path:
    """Make pairs of low and standard dose from a real standard-dose PET volume.

    Parameters
    ----------
    image : path
        A 3D PET volume, NIfTI; slices along the axis nearest to superior. Any in-plane size; values in any
        unit that is proportional to activity. Negative voxels, which interpolation leaves, count as zero; the
        sidecar says how many.
    output : path
        A new or empty folder, or one that holds other subjects from this function: rows are added to its
        manifest.
    mu_map : path or None
        Linear attenuation coefficients at 511 keV, 1/cm, on the image's grid; None for water in the segmented
        head.
    dose_fractions : sequence of float
        Parts of the standard-dose counts to keep, each in (0, 1).
    standard_counts : float or None
        Events recorded at the standard dose, with scatter and randoms; None for :data:`COUNTS_PER_MM`.
    subject_id : str or None
        Name of the subject in the manifest; None for the image's file name.
    session_id, split, tracer : str
        Entries of the manifest.
    amyloid_status : int or None
        Label, 0 or 1; None leaves it empty: fill it in before training.
    units : str or None
        Unit of the values; None for ``Units`` of the image's JSON sidecar, or else "unknown".
    seed : int
        Names the random streams: the same seed gives the same bytes.
    settings : ScanSettings or None
        Scanner and reconstruction.

    Returns
    -------
    Path
        ``manifest.csv``, one row per dose fraction, paths relative to it.

    Raises
    ------
    InputError
        When an input cannot be used, or the folder holds other things or this subject from other settings.

    Notes
    -----
    Both arms are reconstructed on the source's grid, in its units. Where its pixels are not
    square in-plane, the simulation runs on the finer of the two spacings. Voxels outside the smallest circle
    around the head are zero.
    """
    settings = settings or ScanSettings()
    _require_parameters(dose_fractions, standard_counts, split, amyloid_status)
    tracer = plain_text(tracer) or fail("tracer must not be empty", remedy="leave it out when it is unknown")
    image = Path(image)
    volume = read_volume(image)
    attenuation = _attenuation(volume, mu_map)
    name = plain_text(subject_id or nifti_stem(image))  # as the manifest is read
    session_id = plain_text(session_id)
    for key, value in (("subject_id", name), ("session_id", session_id)):
        problem = "it is empty" if not value else ruined(value) or id_problem(value)
        if problem:
            fail(f"{key} must be usable as a folder name: {problem}", remedy=f"give another {key}")
    description = {
        "simulated": True,
        "version": __version__,
        "seed": seed,
        "image_sha256": sha256_file(image),
        "mu_map_sha256": "" if mu_map is None else sha256_file(mu_map),
        "dose_fractions": sorted(float(fraction) for fraction in dose_fractions),
        "standard_counts": standard_counts,
        "subject_id": name,
        "session_id": session_id,
        "split": split,
        "amyloid_status": amyloid_status,
        "tracer": tracer,
        "units": plain_text(units or "") or _sidecar_units(image),
        "scan": asdict(settings),
    }
    folder = require_folder(output, belongs=BELONGS)
    _require_free(folder, description)
    _rows_before(folder, name)
    scans, window = _simulate(volume, attenuation, description, settings)
    # Several calls may add subjects at once: each looks again, and writes, while the others wait.
    with only_process(folder, work=BELONGS, wait=True):
        subjects = _require_free(folder, description)
        before = _rows_before(folder, name)
        if subjects.get(name) != description:
            shutil.rmtree(folder / name, ignore_errors=True)  # what a call that failed left
        _write_marker(folder, {**subjects, name: description})
        try:
            _write_scans(volume, scans, window, folder / name, description)
            return _add_rows(folder, description, before)
        except BaseException:
            if not _is_whole(folder, name, description):
                shutil.rmtree(folder / name, ignore_errors=True)
                _write_marker(folder, {key: held for key, held in subjects.items() if key != name})
            raise


def _require_parameters(
    dose_fractions: Sequence[float], standard_counts: float | None, split: str, amyloid_status: int | None
) -> None:
    if not dose_fractions:
        fail("dose_fractions must name at least one dose")
    if len(set(dose_fractions)) != len(dose_fractions):
        fail(f"dose_fractions must differ from each other, got {tuple(dose_fractions)}")
    for fraction in dose_fractions:
        require_in_range("dose_fraction", fraction, 0.0, 1.0, include_low=False, include_high=False)
    if standard_counts is not None:
        require_in_range("standard_counts", standard_counts, 1e3, 1e12)
    require_in_set("split", split, ("train", "validation", "test"))
    require_in_set("amyloid_status", amyloid_status, (None, 0, 1))


def _sidecar_units(image: Path) -> str:
    """Return ``Units`` of the JSON file beside an image, "unknown" where there is none or it says none."""
    sidecar = sidecar_path(image)
    if not sidecar.exists():
        return "unknown"
    units = read_json_object(sidecar).get("Units")
    if units is not None and not isinstance(units, str):
        fail(f"Units must be text like 'BQML', got {units!r}", path=sidecar)
    return plain_text(units or "") or "unknown"


def _attenuation(volume: Volume, mu_map: str | os.PathLike[str] | None) -> NDArray[np.float32]:
    """Return linear attenuation coefficients (X, Y, Z), 1/cm: the map's, or water in the head."""
    if mu_map is None:
        with about(volume.path):
            return np.float32(MU_HEAD_PER_CM) * head_mask(volume.data, voxel_size_mm=volume.voxel_size_mm)
    found = read_volume(mu_map)
    difference = grid_difference(volume, found)
    if difference:
        fail(f"is not on the image's grid: {difference}", path=mu_map, remedy="resample the map to the image")
    if found.data.min() < 0 or not 0.01 < found.data.max() < 1:
        fail(
            f"holds values from {found.data.min():g} to {found.data.max():g}, expected 1/cm at 511 keV",
            path=mu_map,
            remedy="convert the map to 1/cm",
        )
    return found.data


def _simulate(
    volume: Volume, mu_per_cm: NDArray[np.float32], description: dict[str, Any], settings: ScanSettings
) -> tuple[Scans, _Window]:
    """Simulate the scans of one volume; return them with the window that they are made in."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with about(volume.path):
        window = _window(volume.data, volume.voxel_size_mm)
    activity = window.cut(np.maximum(volume.data, 0))
    pixel_mm = min(volume.voxel_size_mm[:2])
    voxel_size_mm = (pixel_mm, pixel_mm, volume.voxel_size_mm[2])
    counts = description["standard_counts"] or COUNTS_PER_MM * voxel_size_mm[2] * activity.shape[2]
    with threadpool_limits(limits=1):
        scans = simulate_scans(
            activity,
            window.cut(mu_per_cm),
            voxel_size_mm=voxel_size_mm,
            dose_fractions=description["dose_fractions"],
            total_counts=counts,
            settings=settings,
            seed=rng.derive(description["seed"], "low dose", description["subject_id"]),
        )
    return scans, window


def _write_scans(
    volume: Volume, scans: Scans, window: _Window, folder: Path, description: dict[str, Any]
) -> None:
    """Write the images with their sidecars."""
    folder.mkdir(parents=True, exist_ok=True)
    shared = {
        **{key: value for key, value in description.items() if key not in ("dose_fractions", "scan")},
        "recorded_counts": scans.recorded_counts,
        "negative_voxels_taken_as_zero": int(np.count_nonzero(volume.data < 0)),
        "attenuation": "map" if description["mu_map_sha256"] else f"{MU_HEAD_PER_CM} 1/cm in segmented head",
        "reconstruction": {"method": "OSEM", **description["scan"]},
    }
    for fraction, data in scans.images.items():
        path = folder / _file_name(fraction)
        write_volume(window.put_back(data, volume.data.shape), volume.source, path)
        write_json(folder / (nifti_stem(path) + ".json"), {**shared, "dose_fraction": fraction})


def _file_name(dose_fraction: float) -> str:
    return "target.nii.gz" if dose_fraction == STANDARD_DOSE else degraded_name(dose_fraction)


def _require_free(folder: Path, description: dict[str, Any]) -> dict[str, Any]:
    """Return the subjects that a folder holds; refuse other things, and this subject from other settings.

    A subject none of whose images were finished claims nothing.
    """
    path, name = folder / MARKER_NAME, description["subject_id"]
    if not path.exists():
        require_empty_folder(folder, belongs=BELONGS, make=False)
        return {}
    subjects = read_json_object(path).get("subjects")
    if not isinstance(subjects, dict) or not all(isinstance(held, dict) for held in subjects.values()):
        fail("is damaged: it has no subjects", path=path, remedy="name a new folder")
    held = subjects.get(name)
    if held is None:
        require_empty_folder(folder / name, belongs=f"subject {name}", make=False)
    elif held != description and _is_whole(folder, name, held):
        fail(
            f"holds subject {name} from other settings ({differing_settings(held, description)})",
            path=folder,
            remedy="name a new folder or another subject_id",
        )
    return subjects


def _is_whole(folder: Path, name: str, description: Mapping[str, Any]) -> bool:
    """Return whether all images of a subject are there."""
    fractions = (STANDARD_DOSE, *description.get("dose_fractions", ()))
    return all((folder / name / _file_name(fraction)).is_file() for fraction in fractions)


def _write_marker(folder: Path, subjects: dict[str, Any]) -> None:
    """Write the descriptions of the subjects; without any the folder is as it was."""
    if subjects:
        write_json(folder / MARKER_NAME, {"simulated": True, "subjects": subjects})
    else:
        (folder / MARKER_NAME).unlink(missing_ok=True)


def _rows_before(folder: Path, name: str) -> pd.DataFrame | None:
    """Return the rows that a folder's manifest has, once it is known that a subject can be added to them.

    Asked before anything is simulated: people edit manifests, and spreadsheets rewrite them.
    """
    path = folder / "manifest.csv"
    if not path.exists():
        return None
    if not os.access(path, os.W_OK) or not os.access(folder, os.W_OK):
        fail("cannot be written", path=path, remedy="allow it, or name a new folder")
    table, problems = parse_text_table(path)
    required = [column for column in COLUMNS if not column.startswith("regions")]
    found = table_problems(table, required=required, optional=("regions", "regions_sha256"))
    if not found:
        doses = pd.to_numeric(table["dose_fraction"], errors="coerce")
        found = [
            Problem(row, "dose_fraction", no_number(text) if text else "is empty")
            for row, text, dose in zip(table["row"], table["dose_fraction"], doses, strict=True)
            if not np.isfinite(dose)
        ]
        added = pd.DataFrame({"row": [len(table) + 2], "subject_id": [name]})
        found += likeness_problems(pd.concat([table[["row", "subject_id"]], added]), "subject_id")
    if problems or found:
        refuse(path, problems + found)
    return table.drop(columns="row")


def _add_rows(folder: Path, description: dict[str, Any], before: pd.DataFrame | None) -> Path:
    """Write the subject's rows into the manifest, in place of those it had; return the manifest.

    What people wrote into other columns, and a label that they filled in, is kept.
    """
    path = folder / "manifest.csv"
    name = description["subject_id"]
    target = f"{name}/{_file_name(STANDARD_DOSE)}"
    rows = [
        {
            "subject_id": name,
            "session_id": description["session_id"],
            "split": description["split"],
            "degraded": f"{name}/{_file_name(fraction)}",
            "target": target,
            "regions": "",
            "amyloid_status": "" if description["amyloid_status"] is None else description["amyloid_status"],
            "dose_fraction": fraction,
            "tracer": description["tracer"],
            "units": description["units"],
            "degraded_sha256": sha256_file(folder / name / _file_name(fraction)),
            "target_sha256": sha256_file(folder / target),
            "regions_sha256": "",
        }
        for fraction in description["dose_fractions"]
    ]
    table = pd.DataFrame(rows).astype(str)
    if before is not None:
        own = before["subject_id"] == name
        edited = {row["degraded"]: row for row in before[own].to_dict("records")}
        kept = [
            {**edited.get(row["degraded"], {}), **{key: row[key] for key in row if row[key]}}
            for row in table.to_dict("records")
        ]
        table = pd.concat([before[~own], pd.DataFrame(kept)]).fillna("")
    doses = table["dose_fraction"]
    order = sorted(range(len(table)), key=lambda row: (table["subject_id"].iloc[row], float(doses.iloc[row])))
    return pair_schema().write(table.iloc[order], path)
