"""Stacks of slices: what they hold, when they are built anew, and what a kill leaves."""

from __future__ import annotations

import errno
import json
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medrestore.checks import InputError
from medrestore.data import intensity, slice_stack
from medrestore.data.intensity import foreground_scale
from medrestore.data.slice_stack import SliceStack, center_window
from medrestore.data.volumes import read_volume
from medrestore.domains.amyloid_pet.schema import pair_schema


def rows_of(path: Path, split: str) -> pd.DataFrame:
    table = pair_schema().read(path)
    return table[table["split"] == split]


@pytest.mark.parametrize(
    ("length", "room", "inside", "place"),
    [
        (4, 4, slice(0, 4), slice(0, 4)),
        (4, 8, slice(0, 4), slice(2, 6)),
        (8, 4, slice(2, 6), slice(0, 4)),
        (4, 7, slice(0, 4), slice(1, 5)),  # three to pad: one in front, two behind
        (7, 4, slice(1, 5), slice(0, 4)),
        (5, 8, slice(0, 5), slice(1, 6)),
    ],
)
def test_centers_are_aligned(length, room, inside, place):
    assert center_window((length,), (room,)) == ((inside,), (place,))


@pytest.mark.parametrize("size", [(16, 16), (12, 10), (8, 6), (16, 7)])
def test_stack_holds_the_scaled_centered_slices_of_every_volume(make_cohort, tmp_path, size):
    rows = rows_of(make_cohort(), "train")
    stack = SliceStack.build(rows, tmp_path / "cache", spatial_size=size)
    assert stack.spatial_size == size
    assert len(stack) == 5 + 6 + 7 + 8
    position = 0
    for index, row in enumerate(rows.to_dict("records")):
        pair = {arm: read_volume(row[f"{arm}_path"]) for arm in ("degraded", "target")}
        scale = foreground_scale(pair["degraded"].data, voxel_size_mm=(4, 4, 5))
        assert stack.scale[index] == scale
        for z in range(5 + index):
            for arm, volume in pair.items():
                expected = np.zeros(size, np.float32)
                for x in range(size[0]):
                    for y in range(size[1]):
                        # The voxel whose distance to the middle is the same; of odd differences half a voxel
                        # less.
                        i = x + (12 - size[0]) // 2 if size[0] <= 12 else x - (size[0] - 12) // 2
                        j = y + (10 - size[1]) // 2 if size[1] <= 10 else y - (size[1] - 10) // 2
                        if 0 <= i < 12 and 0 <= j < 10:
                            expected[x, y] = volume.data[i, j, z] / np.float32(scale)
                np.testing.assert_array_equal(getattr(stack, arm)[position], expected)
            assert (stack.volume_index[position], stack.slice_index[position]) == (index, z)
            position += 1
    assert stack.shapes == ((12, 10),) * 4
    assert stack.volumes["subject_id"].tolist() == rows["subject_id"].tolist()


def test_maps_are_read_only(make_cohort, tmp_path):
    stack = SliceStack.build(rows_of(make_cohort(), "test"), tmp_path, spatial_size=(16, 16))
    with pytest.raises(ValueError, match="read-only"):
        stack.target[0, 0, 0] = 1


def test_stack_is_built_once_even_when_the_files_are_gone(make_cohort, tmp_path):
    path = make_cohort()
    rows = rows_of(path, "train")
    first = SliceStack.build(rows, tmp_path / "cache", spatial_size=(16, 16))
    shutil.rmtree(path.parent)
    again = SliceStack.build(rows, tmp_path / "cache", spatial_size=(16, 16))
    assert again.folder == first.folder
    np.testing.assert_array_equal(again.degraded, first.degraded)
    np.testing.assert_array_equal(again.scale, first.scale)


def test_labels_come_from_the_table_not_from_the_cache(make_cohort, tmp_path):
    rows = rows_of(make_cohort(), "train")
    SliceStack.build(rows, tmp_path, spatial_size=(16, 16))
    changed = SliceStack.build(
        rows.assign(amyloid_status=1 - rows["amyloid_status"]), tmp_path, spatial_size=(16, 16)
    )
    assert changed.volumes["amyloid_status"].tolist() == [1, 0, 1, 0]


def test_other_files_order_size_or_parameters_are_other_stacks(make_cohort, tmp_path, monkeypatch):
    rows = rows_of(make_cohort(), "train")
    folders = [
        SliceStack.build(rows, tmp_path, spatial_size=(16, 16)).folder,
        SliceStack.build(rows, tmp_path, spatial_size=(16, 12)).folder,
        SliceStack.build(rows[::-1], tmp_path, spatial_size=(16, 16)).folder,
        SliceStack.build(rows[:3], tmp_path, spatial_size=(16, 16)).folder,
        SliceStack.build(
            rows.assign(target_path=rows["degraded_path"], target_sha256=rows["degraded_sha256"]),
            tmp_path,
            spatial_size=(16, 16),
        ).folder,
    ]
    monkeypatch.setattr(intensity, "THRESHOLD", 0.4)
    folders.append(SliceStack.build(rows, tmp_path, spatial_size=(16, 16)).folder)
    assert len(set(folders)) == 6


def test_checksums_are_computed_where_the_manifest_has_none(make_cohort, tmp_path):
    rows = rows_of(make_cohort(), "test")
    expected = SliceStack.build(rows, tmp_path, spatial_size=(16, 16)).folder
    bare = rows.drop(columns=["degraded_sha256", "target_sha256"])
    assert SliceStack.build(bare, tmp_path, spatial_size=(16, 16)).folder == expected
    with pytest.raises(InputError, match=r"none.nii.gz: no such file"):
        SliceStack.build(bare.assign(target_path="none.nii.gz"), tmp_path, spatial_size=(16, 16))


def test_pickled_stack_opens_its_maps_again(make_cohort, tmp_path):
    stack = SliceStack.build(rows_of(make_cohort(), "train"), tmp_path, spatial_size=(64, 64))
    content = pickle.dumps(stack)
    assert len(content) < 20_000 < stack.degraded.nbytes
    again = pickle.loads(content)  # noqa: S301
    assert isinstance(again.degraded, np.memmap)
    np.testing.assert_array_equal(again.degraded, stack.degraded)


def test_progress_says_where_the_stack_lies(make_cohort, tmp_path, capsys):
    rows = rows_of(make_cohort(), "test")
    stack = SliceStack.build(rows, tmp_path, spatial_size=(16, 16), progress=True)
    assert f"decoding slices to {stack.folder}: 100%" in capsys.readouterr().err
    SliceStack.build(rows, tmp_path, spatial_size=(16, 16), progress=True)
    assert capsys.readouterr().err == ""  # nothing to decode


# ---------------------------------------------------------------- bad input
def test_empty_split_is_refused(make_cohort, tmp_path):
    with pytest.raises(InputError, match="the split is empty"):
        SliceStack.build(rows_of(make_cohort(), "none"), tmp_path, spatial_size=(16, 16))


@pytest.mark.parametrize(
    ("size", "message"),
    [((16,), "two numbers"), ((16, 0), r"spatial_size\[1\] must be in \[1, 65535\], got 0")],
)
def test_impossible_size_is_refused(make_cohort, tmp_path, size, message):
    with pytest.raises(InputError, match=message):
        SliceStack.build(rows_of(make_cohort(), "test"), tmp_path, spatial_size=size)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("missing", r"sub-0007/target.nii.gz: no such file"),
        (
            "changed",
            r"sub-0007/target.nii.gz: has checksum \w+, the manifest says \w+. Remedy: check the manifest",
        ),
        ("other grid", r"sub-0007/degraded.nii.gz: is on another grid than .*sub-0006/target.nii.gz: shape"),
    ],
)
def test_bad_file_is_named_and_nothing_is_left(make_cohort, tmp_path, fault, message):
    path = make_cohort()
    rows = rows_of(path, "test").reset_index(drop=True)
    files = [path.parent / f"subjects/sub-000{index}/target.nii.gz" for index in (6, 7)]
    if fault == "missing":
        files[1].unlink()
    elif fault == "changed":
        shutil.copy(files[0], files[1])
    else:
        rows.loc[1, ["target_path", "target_sha256"]] = rows.loc[0, ["target_path", "target_sha256"]]
    with pytest.raises(InputError, match=message):
        SliceStack.build(rows, tmp_path / "cache", spatial_size=(16, 16))
    assert [file.name for file in (tmp_path / "cache").iterdir() if file.suffix != ".lock"] == []


def test_image_without_foreground_is_named(make_cohort, tmp_path, monkeypatch):
    def empty(*_: object, **__: object) -> float:
        raise InputError("the image has no positive foreground")

    monkeypatch.setattr(intensity, "foreground_scale", empty)
    with pytest.raises(InputError, match=r"degraded.nii.gz: the image has no positive foreground"):
        SliceStack.build(rows_of(make_cohort(), "test"), tmp_path / "cache", spatial_size=(16, 16))


# ---------------------------------------------------------------- full disk, kill, two at once
def test_full_disk_is_named_before_anything_is_decoded(make_cohort, tmp_path, monkeypatch):
    rows = rows_of(make_cohort(), "test")
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(
        InputError,
        match=r"cache: the disk is full: the slices take 0.09 GiB, 0.00 GiB are free. Remedy: free",
    ):
        # 23 slices of 720 x 720, 4 bytes, two arms: 0.0955e9 bytes = .0889 GiB
        SliceStack.build(rows, tmp_path / "cache", spatial_size=(720, 720))


def test_disk_that_fills_up_meanwhile_is_named(make_cohort, tmp_path, monkeypatch):
    def full(*_: object) -> tuple[float, tuple[int, int]]:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(slice_stack, "_decode_pair", full)
    with pytest.raises(
        InputError, match=r"cache: the disk is full: the slices take .* name a cache_dir on another disk"
    ):
        SliceStack.build(rows_of(make_cohort(), "test"), tmp_path / "cache", spatial_size=(16, 16))
    assert [file.name for file in (tmp_path / "cache").iterdir() if file.suffix != ".lock"] == []


def test_other_errors_of_the_disk_are_passed_on(make_cohort, tmp_path, monkeypatch):
    def broken(*_: object) -> tuple[float, tuple[int, int]]:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(slice_stack, "_decode_pair", broken)
    with pytest.raises(OSError, match="Input/output error"):
        SliceStack.build(rows_of(make_cohort(), "test"), tmp_path / "cache", spatial_size=(16, 16))


BUILD = """
import os, signal, sys
from medrestore.data import intensity, slice_stack
from medrestore.domains.amyloid_pet.schema import pair_schema

if sys.argv[3] == "kill":
    true_scale, calls = intensity.foreground_scale, []
    def killing(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return true_scale(*args, **kwargs)
    intensity.foreground_scale = killing
table = pair_schema().read(sys.argv[1])
stack = slice_stack.SliceStack.build(table, sys.argv[2], spatial_size=(16, 16), workers=1)
print(stack.folder, float(stack.degraded.sum()))
"""


def build_in_a_process(path: Path, cache: Path, how: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", BUILD, str(path), str(cache), how], stdout=subprocess.PIPE, text=True
    )


def test_killed_build_leaves_nothing_that_passes_for_a_stack(make_cohort, tmp_path):
    path, cache = make_cohort(), tmp_path / "cache"
    killed = build_in_a_process(path, cache, "kill")
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    left = [file.name for file in cache.iterdir() if file.is_dir()]
    assert len(left) == 1
    assert left[0].startswith(".partial-slices-")
    stack = SliceStack.build(pair_schema().read(path), cache, spatial_size=(16, 16))
    assert [file.name for file in cache.iterdir() if file.is_dir()] == [stack.folder.name]
    fresh = SliceStack.build(pair_schema().read(path), tmp_path / "other", spatial_size=(16, 16))
    np.testing.assert_array_equal(stack.degraded, fresh.degraded)
    np.testing.assert_array_equal(stack.target, fresh.target)


def test_two_processes_build_one_stack(make_cohort, tmp_path):
    path, cache = make_cohort(), tmp_path / "cache"
    processes = [build_in_a_process(path, cache, "build") for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert outputs[0] == outputs[1] != ""
    assert len([file for file in cache.iterdir() if file.is_dir()]) == 1


def test_folder_without_an_index_is_no_stack(make_cohort, tmp_path):
    rows = rows_of(make_cohort(), "test")
    stack = SliceStack.build(rows, tmp_path, spatial_size=(16, 16))
    expected = np.array(stack.target)
    (stack.folder / "index.json").unlink()
    (stack.folder / "target.npy").write_bytes(b"")
    np.testing.assert_array_equal(SliceStack.build(rows, tmp_path, spatial_size=(16, 16)).target, expected)


def test_index_is_plain_json(make_cohort, tmp_path):
    stack = SliceStack.build(rows_of(make_cohort(), "test"), tmp_path, spatial_size=(16, 16))
    index = json.loads((stack.folder / "index.json").read_text())
    assert index["first_slice"] == [0, 11, 23]
    assert index["shapes"] == [[12, 10], [12, 10]]
