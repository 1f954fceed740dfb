"""Slides of several files: what is one slide, and by what it is known."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medrestore.checks import InputError
from medrestore.domains.histology.slides.parts import (
    require_slide,
    slide_checksum,
    slide_identity,
    slide_parts,
)
from medrestore.domains.histology.slides.reader import open_slide
from medrestore.domains.histology.slides.slide_list import find_slides
from medrestore.domains.histology.slides.slide_search import slides_in
from medrestore.files import sha256_file


@pytest.fixture
def series(tmp_path: Path, write_dicom: Callable[..., Path]) -> Path:
    """Write a DICOM slide of two levels with label and overview, all of one series."""
    folder = tmp_path / "P1"
    pixels = np.random.default_rng(0).integers(0, 255, (128, 128, 3), dtype=np.uint8)
    write_dicom(folder / "c.dcm", pixels, series="1.2.5", patient="MRN 1234")
    write_dicom(folder / "a.dcm", pixels[::2, ::2], series="1.2.5", downsample=2, patient="MRN 1234")
    for name, flavor in (("label", "LABEL"), ("b", "OVERVIEW"), ("d", "THUMBNAIL")):
        write_dicom(
            folder / f"{name}.dcm", pixels[:64, :64], series="1.2.5", flavor=flavor, patient="MRN 1234"
        )
    return folder


def test_a_dicom_series_is_one_slide_opened_by_its_finest_level(series):
    assert slides_in(series) == [series / "c.dcm"]
    assert slide_parts(series / "a.dcm") == (series / "a.dcm", series / "c.dcm")
    with open_slide(series / "c.dcm") as slide:
        assert (slide.width, slide.height, len(slide.levels)) == (128, 128, 2)
        assert slide.microns_per_pixel == pytest.approx(0.5)
    assert len({slide_identity(file) for file in series.iterdir()}) == 1


def test_patients_of_dicom_are_pseudonyms_and_barcodes_come_first(series, write_dicom):
    pixels = np.zeros((64, 64, 3), np.uint8)
    write_dicom(series / "other" / "x.dcm", pixels, series="1.2.6", patient="MRN 1234")
    write_dicom(series / "other" / "S19-1000 A.dcm", pixels, series="1.2.7", patient="MRN 1234")
    write_dicom(series / "other" / "S19-1001 A.dcm", pixels, series="1.2.8", patient="ANONYMOUS")
    write_dicom(series / "other" / "C3L-00001-21.dcm", pixels, series="1.2.9", patient="MRN 1234")
    found = find_slides(series)
    expected = "patient-" + hashlib.sha256(b"MRN 1234").hexdigest()[:12]
    assert {entry.path.name: entry.subject_id for entry in found} == {
        "c.dcm": expected,
        "x.dcm": expected,
        "S19-1000 A.dcm": expected,
        "S19-1001 A.dcm": "S19-1001",
        "C3L-00001-21.dcm": "C3L-00001",
    }


def test_labels_alone_are_no_slides(tmp_path, series, write_dicom):
    label = write_dicom(
        tmp_path / "labels" / "l.dcm", np.zeros((64, 64, 3), np.uint8), series="1.2.9", flavor="LABEL"
    )
    assert slides_in(tmp_path / "labels") == []
    assert [entry.path.name for entry in find_slides(tmp_path)] == ["c.dcm"]
    for path, flavor in ((label, "label"), (series / "b.dcm", "overview")):
        with pytest.raises(InputError, match=rf"\.dcm: is the {flavor} of a slide, and no slide"):
            open_slide(path)


def test_checksums_cover_all_levels_and_no_label(series):
    before = slide_checksum(series / "c.dcm")
    assert slide_checksum(series / "a.dcm") == before
    (series / "label.dcm").unlink()
    (series / "a.dcm").rename(series / "z.dcm")
    assert slide_checksum(series / "c.dcm") == before
    with (series / "z.dcm").open("ab") as stream:
        stream.write(b"\0")
    assert slide_checksum(series / "c.dcm") != before


def test_mirax_and_hamamatsu_are_one_slide_each(tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m.mrxs").write_bytes(b"jpeg")
    for name in ("Slidedat.ini", "Data0000.dat", "thumb.jpg"):
        (tmp_path / "m" / name).write_text(name)
    (tmp_path / "h.vms").write_text(
        "[Virtual Microscope Specimen]\nImageFile=h.jpg\nImageFile(1,0)=h_(1,0).jpg\nMapFile=h_map2.jpg\n"
        "OptimisationFile=h.opt\nMacroImage=h_macro.jpg\nNoLayers=1\n"
    )
    for name in ("h.jpg", "h_(1,0).jpg", "h_map2.jpg", "h.opt", "h_macro.jpg", "other.jpg"):
        (tmp_path / name).write_text(name)
    assert [entry.path.name for entry in find_slides(tmp_path)] == ["h.vms", "m.mrxs", "other.jpg"]
    for slide in ("h.vms", "m.mrxs"):
        require_slide(tmp_path / slide)
    for slide, part in (("m.mrxs", "m/Data0000.dat"), ("h.vms", "h_(1,0).jpg")):
        before = slide_checksum(tmp_path / slide)
        assert before != sha256_file(tmp_path / slide)
        (tmp_path / part).write_text("changed")
        assert slide_checksum(tmp_path / slide) != before


def test_missing_parts_are_named(tmp_path):
    (tmp_path / "m.mrxs").write_bytes(b"jpeg")
    (tmp_path / "h.vms").write_text(
        "[Virtual Microscope Specimen]\r\nImageFile=h.jpg\r\nPatchMacroROI=0,0\r\n"
    )
    (tmp_path / "l.svs").symlink_to("gone.svs")
    for name, words in (
        ("m.mrxs", "lacks its folder m, which holds its pixels"),
        ("h.vms", "lacks h.jpg, a picture that it names"),
        ("l.svs", "is a link that leads nowhere"),
    ):
        with pytest.raises(InputError, match=rf"{name}: {words}.*Remedy"):
            open_slide(tmp_path / name)


def test_one_file_has_the_checksum_that_it_always_had(tmp_path):
    (tmp_path / "a.svs").write_bytes(b"slide")
    assert slide_checksum(tmp_path / "a.svs") == hashlib.sha256(b"slide").hexdigest()


def test_copies_have_one_identity_whatever_they_are_called(tmp_path, write_pyramid, draw_slide):
    random = np.random.default_rng(0)
    levels = [random.integers(0, 255, (side, side, 3), dtype=np.uint8) for side in (128, 64)]
    slide = write_pyramid(tmp_path / "a.tiff", levels)
    copy = shutil.copy(slide, tmp_path / "b.tif")
    with Path(copy).open("ab") as stream:
        stream.write(b"trailing")  # other bytes, the same pixels
    other = write_pyramid(tmp_path / "c.tiff", [255 - level for level in levels])
    picture = draw_slide(tmp_path / "p.png")
    assert slide_identity(slide) == slide_identity(copy) != slide_identity(other)
    assert slide_identity(picture) == slide_identity(shutil.copy(picture, tmp_path / "q.png"))


def test_what_is_no_dicom_slide_stays_an_entry(tmp_path, shared_data):
    (tmp_path / "text.dcm").write_text("no dicom")
    (tmp_path / "empty.dcm").touch()
    scan = next(file for file in shared_data("dicom/mr").rglob("*.dcm"))
    shutil.copy(scan, tmp_path / "mr.dcm")
    assert [path.name for path in slides_in(tmp_path)] == ["empty.dcm", "mr.dcm", "text.dcm"]
