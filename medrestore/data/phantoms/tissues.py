"""T1, T2 and proton density of the tissues of the head at 3 T, and how they differ between people.

    T1(x) = T1 exp(s_1 n + v_1 f(x)), and so for T2 and PD

n is a normal draw per subject and tissue, f a smooth random field of SD 1 that the tissues share.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medrestore.operators.mr_sequences import CSF_T1_MS, FAT_T1_MS

__all__ = [
    "SMOOTH_LOG_SD",
    "SOURCES",
    "SUBJECT_LOG_SD",
    "TISSUES",
    "Relaxation",
    "Tissue",
    "draw_relaxation",
]


@dataclass(frozen=True)
class Relaxation:
    """What a sequence sees of a tissue.

    Attributes
    ----------
    t1_ms, t2_ms : float, ms
        Relaxation times.
    pd : float
        Proton density visible to a spin echo, relative to water.
    """

    t1_ms: float
    t2_ms: float
    pd: float


@dataclass(frozen=True)
class Tissue:
    """A tissue of the head.

    Attributes
    ----------
    code : int
        In maps of tissue; 0 is air.
    mean : Relaxation
        Of the median subject.
    published_t1_ms, published_t2_ms : (float, float), ms
        Lowest and highest mean of the sources at 3 T.
    transfer : float
        Signal lost to magnetization transfer in a multi-slice turbo spin echo.
    smooth : float
        How much of :data:`SMOOTH_LOG_SD` it varies within a subject: a fluid is the same everywhere.
    """

    code: int
    mean: Relaxation
    published_t1_ms: tuple[float, float]
    published_t2_ms: tuple[float, float]
    transfer: float = 0.0
    smooth: float = 1.0


TISSUES: dict[str, Tissue] = {
    "white_matter": Tissue(1, Relaxation(860.0, 74.0, 0.69), (728.0, 1110.0), (56.0, 80.0), 0.14),
    "cortical_gray": Tissue(2, Relaxation(1380.0, 99.0, 0.82), (1165.0, 1820.0), (71.0, 132.0), 0.09),
    "deep_gray": Tissue(3, Relaxation(1180.0, 80.0, 0.78), (900.0, 1483.0), (62.0, 101.0), 0.1),
    "csf": Tissue(4, Relaxation(CSF_T1_MS, 1800.0, 1.0), (3700.0, 6873.0), (1400.0, 2400.0), smooth=0.0),
    "fat": Tissue(5, Relaxation(FAT_T1_MS, 68.0, 0.9), (371.0, 420.0), (68.0, 133.0), smooth=0.5),
    "muscle": Tissue(6, Relaxation(1200.0, 38.0, 0.75), (898.0, 1509.0), (29.0, 50.0), 0.15),
    "bone": Tissue(7, Relaxation(300.0, 1.0, 0.15), (223.0, 500.0), (0.4, 1.5), smooth=0.0),
}
"""Tissues of every head. ``muscle`` stands for all lean soft tissue: skin, dura, muscle. The published bounds
of bone are those of its ultrashort components; no sequence here sees them."""

SUBJECT_LOG_SD = Relaxation(t1_ms=0.035, t2_ms=0.035, pd=0.012)
"""Standard deviation, over subjects, of the logarithm of each value of a tissue."""

SMOOTH_LOG_SD = Relaxation(t1_ms=0.035, t2_ms=0.03, pd=0.012)
"""The same over places in one subject."""

SOURCES: tuple[str, ...] = (
    "Wansapura JP et al. NMR relaxation times in the human brain at 3.0 tesla. J Magn Reson Imaging 9:531 "
    "(1999): white matter 832 / 80 ms, gray matter 1331 / 110 ms; gray matter by structure.",
    "Stanisz GJ et al. T1, T2 relaxation and magnetization transfer in tissue at 3T. Magn Reson Med 54:507 "
    "(2005): white matter 1084 / 69 ms, gray matter 1820 / 99 ms, muscle 1412 / 50 ms.",
    "Bojorquez JZ et al. What are normal relaxation times of tissues at 3 T? Magn Reson Imaging 35:69 "
    "(2017): ranges over the literature.",
    "Lin C et al. Measurement of T1 relaxation time of cerebrospinal fluid at 3 T. Proc ISMRM 9:1391 (2001).",
    "de Bazelaire CMJ et al. MR imaging relaxation times of abdominal and pelvic tissues measured in vivo at "
    "3.0 T. Radiology 230:652 (2004): subcutaneous fat 382 / 68 ms, muscle 898 / 29 ms.",
    "Warntjes JBM et al. Rapid magnetic resonance quantification on the brain: optimization for clinical "
    "usage. Magn Reson Med 60:320 (2008): proton density of white and gray matter.",
    "Melki PS, Mulkern RV. Magnetization transfer effects in multislice RARE sequences. Magn Reson Med "
    "24:189 (1992): turbo spin echo of many slices loses signal where there are macromolecules.",
    "Thaler C et al. T1 thresholds in black holes increase clinical-radiological correlation in multiple "
    "sclerosis patients. PLoS One 10:e0144693 (2015): T1 tells black holes from other plaques.",
)
"""Where the values come from."""


def draw_relaxation(random: np.random.Generator) -> dict[str, Relaxation]:
    """Draw one subject's values of every tissue.

    Parameters
    ----------
    random : numpy.random.Generator
        Source of the draws.

    Returns
    -------
    dict of tissue to Relaxation
        The relaxation of cerebrospinal fluid and fat, which sequences null, is left at the mean.
    """
    drawn = {}
    for name, tissue in TISSUES.items():
        t1, t2, pd = np.exp(
            np.array([SUBJECT_LOG_SD.t1_ms, SUBJECT_LOG_SD.t2_ms, SUBJECT_LOG_SD.pd])
            * np.clip(random.standard_normal(3), -2.5, 2.5)
        )
        if name in ("csf", "fat"):
            t1 = t2 = 1.0
        mean = tissue.mean
        drawn[name] = Relaxation(
            float(mean.t1_ms * t1), float(mean.t2_ms * t2), float(min(mean.pd * pd, 1.0))
        )
    return drawn


def varied(
    relaxation: Relaxation, smooth: float, fields: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return T1 (ms), T2 (ms) and PD at places of a tissue.

    Parameters
    ----------
    relaxation : Relaxation
        The tissue's values in this subject.
    smooth : float
        How much it varies, :attr:`Tissue.smooth`.
    fields : (3, N) float32
        Values of the subject's fields for T1, T2 and PD there.
    """
    means = (relaxation.t1_ms, relaxation.t2_ms, relaxation.pd)
    spread = (SMOOTH_LOG_SD.t1_ms, SMOOTH_LOG_SD.t2_ms, SMOOTH_LOG_SD.pd)
    t1, t2, pd = (
        np.float32(mean) * np.exp(np.float32(smooth * sd) * field)
        for mean, sd, field in zip(means, spread, fields, strict=True)
    )
    return t1, t2, np.minimum(pd, np.float32(1))
