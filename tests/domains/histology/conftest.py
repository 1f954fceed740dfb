"""Slides made for tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def write_pyramid() -> Callable[..., Path]:
    """Write levels as a tiled pyramidal TIFF, which OpenSlide opens as generic-tiff."""
    import tifffile

    def write(
        path: Path,
        levels: Sequence[np.ndarray],
        *,
        microns_per_pixel: float | tuple[float, float] | None = 0.25,
        **options: Any,
    ) -> Path:
        settings: dict[str, Any] = {"photometric": "rgb", "compression": "zlib", "tile": (64, 64), **options}
        with tifffile.TiffWriter(path) as writer:
            for index, level in enumerate(levels):
                if microns_per_pixel is not None:
                    x, y = np.broadcast_to(np.asarray(microns_per_pixel) * 2**index, 2)
                    settings |= {"resolution": (1e4 / x, 1e4 / y), "resolutionunit": "CENTIMETER"}
                writer.write(level, subfiletype=int(index > 0), metadata=None, **settings)
        return path

    return write


@pytest.fixture
def write_dicom() -> Callable[..., Path]:
    """Write one file of a DICOM slide: a level, or a label or overview."""
    import io

    from PIL import Image
    from pydicom import dcmwrite
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit, generate_uid

    def write(
        path: Path,
        pixels: np.ndarray,
        *,
        series: str,
        flavor: str = "VOLUME",
        downsample: int = 1,
        patient: str = "",
    ) -> Path:
        height, width = pixels.shape[:2]
        file, spacing, measures, optical = (Dataset() for _ in range(4))
        file.file_meta = FileMetaDataset()
        file.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        file.file_meta.MediaStorageSOPClassUID = file.SOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.6"
        file.file_meta.MediaStorageSOPInstanceUID = file.SOPInstanceUID = generate_uid(
            entropy_srcs=[series, flavor, str(downsample)]
        )
        file.StudyInstanceUID, file.SeriesInstanceUID, file.FrameOfReferenceUID = (
            "1.2.3",
            series,
            f"{series}.1",
        )
        file.Modality, file.PatientID = "SM", patient
        file.ImageType = ["DERIVED", "PRIMARY", flavor, "NONE" if downsample == 1 else "RESAMPLED"]
        file.SamplesPerPixel, file.PhotometricInterpretation, file.PlanarConfiguration = 3, "YBR_FULL_422", 0
        file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 8, 8, 7, 0
        file.Rows = file.Columns = 64
        file.TotalPixelMatrixColumns, file.TotalPixelMatrixRows = width, height
        file.TotalPixelMatrixFocalPlanes = file.NumberOfOpticalPaths = 1
        file.DimensionOrganizationType = "TILED_FULL"
        spacing.PixelSpacing = [0.0005 * downsample] * 2  # mm
        measures.PixelMeasuresSequence = [spacing]
        file.SharedFunctionalGroupsSequence = [measures]
        optical.OpticalPathIdentifier = "1"
        file.OpticalPathSequence = [optical]
        frames = []
        for y in range(0, height, 64):
            for x in range(0, width, 64):
                stream = io.BytesIO()
                Image.fromarray(pixels[y : y + 64, x : x + 64]).save(stream, format="JPEG", quality=95)
                frames.append(stream.getvalue())
        file.NumberOfFrames = len(frames)
        file.PixelData = encapsulate(frames)
        path.parent.mkdir(parents=True, exist_ok=True)
        dcmwrite(path, file, enforce_file_format=True)
        return path

    return write


@pytest.fixture
def draw_slide() -> Callable[..., Path]:
    """Write a picture of glass with a square of stained, textured tissue."""
    from PIL import Image

    def draw(
        path: Path,
        *,
        side: int = 256,
        tissue: tuple[int, int, int, int] | None = (0, 0, 256, 256),
        seed: int = 0,
    ) -> Path:
        random = np.random.default_rng(seed)
        pixels = np.full((side, side, 3), (243, 242, 244), dtype=np.uint8)
        if tissue is not None:
            left, top, right, bottom = tissue
            shape = (bottom - top, right - left, 1)
            stained = np.array([190, 110, 160]) + random.normal(0, 25, shape)
            pixels[top:bottom, left:right] = np.clip(stained, 0, 255).astype(np.uint8)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        return path

    return draw
