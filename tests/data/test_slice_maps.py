"""Maps of any shape and type: what is written lies at its place, what is not is zero."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medrestore.checks import InputError
from medrestore.data.slice_maps import (
    MapWriter,
    build_maps,
    centered_slices,
    known_checksum,
    require_checksum,
    stack_size,
)
from medrestore.files import sha256_file

DEPTHS = {"a": 2, "b": 3, "c": 1}


def decode(item: str, writer: MapWriter) -> dict[str, object]:
    """Write letters as numbers: all maps of a and c, one of b."""
    assert writer.depth == DEPTHS[item]
    value = ord(item)
    writer.write("image", np.full((writer.depth, 2, 3, 4), value, dtype="<f4"))
    if item != "b":
        writer.write("mask", np.full((writer.depth, 3, 4), value, dtype="|u1"))
    return {"name": item}


def test_slices_lie_volume_after_volume_in_maps_of_their_own_type(tmp_path):
    folder, index = build_maps(
        tmp_path / "cache",
        list(DEPTHS),
        key={"format": 1},
        prefix="letters",
        depth=DEPTHS.__getitem__,
        decode=decode,
        shapes={"image": ((2, 3, 4), "<f4"), "mask": ((3, 4), "|u1")},
        unit="letter",
        workers=2,
        progress=False,
    )
    assert index == {"name": ["a", "b", "c"], "first_slice": [0, 2, 5, 6]}
    image, mask = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("image", "mask"))
    assert (image.shape, image.dtype, mask.shape, mask.dtype) == ((6, 2, 3, 4), "<f4", (6, 3, 4), "|u1")
    letters = [ord(letter) for letter in "aabbbc"]
    assert (image == np.array(letters)[:, None, None, None]).all()
    assert (mask == np.array([97, 97, 0, 0, 0, 99])[:, None, None]).all()
    assert folder.name.startswith("letters-")


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_cohort_that_cannot_be_written_to_names_the_remedy(number, tmp_path, monkeypatch):
    def refuse(path: Path, **_: object) -> None:
        raise OSError(number, "not here", str(path))

    def build(decode: Callable[..., dict[str, object]]) -> None:
        build_maps(
            tmp_path / "cohort" / ".cache",
            ["a"],
            key={"format": 1},
            prefix="letters",
            depth=DEPTHS.__getitem__,
            decode=decode,
            shapes={"image": ((2, 3, 4), "<f4"), "mask": ((3, 4), "|u1")},
            unit="letter",
            workers=1,
            progress=False,
        )

    def unreadable(*_: object) -> dict[str, object]:
        raise PermissionError(errno.EACCES, "not for you", "scan.nii.gz")

    with pytest.raises(PermissionError, match="scan"):  # another matter
        build(unreadable)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "mkdir", refuse)
        with pytest.raises(
            InputError,
            match=r"cohort/\.cache: no slices can be kept here \(not here\)\. Remedy: .*--cache_dir",
        ):
            build(decode)
    (tmp_path / "cohort" / ".cache").rename(tmp_path / "cohort" / "moved")
    (tmp_path / "cohort" / ".cache").touch()
    with pytest.raises(InputError, match=r"--cache_dir FOLDER"):
        build(decode)


def test_slices_are_centered_and_divided():
    volume = np.arange(24, dtype=np.float32).reshape(2, 4, 3)  # X, Y, Z
    out = np.zeros((3, 4, 2), dtype=np.float32)
    centered_slices(volume, (4, 2), scale=2.0, out=out)
    for z in range(3):
        for x in range(4):
            for y in range(2):  # one more on each side of X, one less of Y
                expected = volume[x - 1, y + 1, z] / 2 if 1 <= x <= 2 else 0
                assert out[z, x, y] == expected


def test_checksum_of_the_manifest_is_believed_until_the_file_is_read(tmp_path):
    file = tmp_path / "scan.nii"
    file.write_bytes(b"scan")
    digest = sha256_file(file)
    assert known_checksum(str(file), digest.upper()) == known_checksum(str(file), None) == digest
    assert known_checksum("gone.nii", "00") == "00"
    require_checksum(str(file), digest)
    with pytest.raises(InputError, match=r"scan.nii: has checksum \w+, the manifest says 00"):
        require_checksum(str(file), "00")
    with pytest.raises(InputError, match=r"gone.nii: no such file"):
        known_checksum("gone.nii", "")
    with pytest.raises(InputError, match=r"gone.nii: no such file"):
        require_checksum("gone.nii", "00")


def test_size_is_two_numbers_of_a_table_with_rows():
    assert stack_size(pd.DataFrame({"row": [2]}), [16, 12]) == (16, 12)
    with pytest.raises(InputError, match="the split is empty"):
        stack_size(pd.DataFrame(), [16, 12])
