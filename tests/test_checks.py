"""Checks say what was expected and what came."""

import errno

import numpy as np
import pytest

from medrestore.checks import (
    InputError,
    OutputError,
    Setbacks,
    about,
    fail,
    mistake,
    require_in_range,
    require_in_set,
    require_known_keys,
    require_same_shape,
)


@pytest.mark.parametrize(
    ("value", "bounds", "include"),
    [(0.0, "(0, 2]", {"include_low": False}), (2.1, "[0, 2]", {}), (2.0, "[0, 2)", {"include_high": False})],
)
def test_range_names_value_and_bounds(value, bounds, include):
    with pytest.raises(InputError) as error:
        require_in_range("q", value, 0, 2, **include)
    assert str(error.value) == f"q must be in {bounds}, got {value}"


def test_range_lets_bounds_pass_and_refuses_nan():
    require_in_range("q", 0, 0, 2)
    require_in_range("q", 2, 0, 2)
    with pytest.raises(InputError, match="got nan"):
        require_in_range("q", float("nan"), 0, 2)


def test_range_refuses_text_that_is_no_number():
    with pytest.raises(InputError, match=r"task_weight takes a number, got '0,005'"):
        require_in_range("task_weight", "0,005", 0, 1)  # type: ignore[arg-type]
    require_in_range("task_weight", np.float32(0.5), 0, 1)


def test_set_lists_what_is_allowed():
    require_in_set("mode", "a", ("a", "b"))
    with pytest.raises(InputError, match=r"mode must be one of 'a', 'b', got 'c'"):
        require_in_set("mode", "c", ("a", "b"))


def test_unknown_key_without_a_near_one_lists_all():
    with pytest.raises(InputError, match=r"stage has no key 'zzz'; known keys: epochs, name"):
        require_known_keys("stage", {"zzz": 1}, ["name", "epochs"])


def test_shapes():
    require_same_shape(a=(1, 2), b=[1, 2])
    with pytest.raises(InputError, match=r"a \(1, 2\), b \(2, 1\)"):
        require_same_shape(a=(1, 2), b=(2, 1))


def test_fail_names_path_and_row():
    with pytest.raises(InputError, match=r"^cohort.csv, row 3: is odd$"):
        fail("is odd", path="cohort.csv", row=3)


def test_setbacks_list_every_item_with_its_reason_and_let_other_errors_pass():
    setbacks = Setbacks("read")
    for name in ("a", "b", "c"):
        with setbacks.set_aside(name):
            if name != "c":
                raise InputError("is odd")
    listed = r"^2 of 3 files could not be read, the others were:\n  a: is odd\n  b: is odd$"
    with pytest.raises(InputError, match=listed):
        setbacks.raise_any(3)
    with pytest.raises(KeyError), setbacks.set_aside("d"):
        raise KeyError("a fault of the program")


def test_the_only_item_fails_with_its_own_message():
    setbacks = Setbacks("read")
    with setbacks.set_aside("x.nii"):
        fail("is damaged", path="x.nii")
    with pytest.raises(InputError, match=r"^x\.nii: is damaged$"):
        setbacks.raise_any(1)


def test_no_setback_raises_nothing():
    Setbacks("read").raise_any(3)


def test_setbacks_take_a_line_each_and_list_shared_reasons_once():
    setbacks = Setbacks("restored", unit="tile")
    for number in range(3):
        with setbacks.set_aside(number, of="slide"):
            raise InputError("slide: is damaged")
    with setbacks.set_aside("new\nline.nii"):
        raise InputError("is no\nimage")
    with pytest.raises(InputError) as refusal:
        setbacks.raise_any(9)
    assert str(refusal.value).splitlines() == [
        "4 of 9 tiles could not be restored, the others were:",
        "  slide: is damaged (3 tiles)",
        "  new line.nii: is no image",
    ]


def test_failing_output_is_nobodys_setback():
    setbacks = Setbacks("restored")
    with pytest.raises(OutputError, match="full"), setbacks.set_aside("a"):
        raise OutputError("the disk is full")
    setbacks.raise_any(1)


def test_about_names_the_file_once():
    with pytest.raises(InputError, match=r"^a\.nii, b\.nii: is odd$"), about("a.nii", None, "b.nii"):
        raise InputError("is odd")
    with pytest.raises(InputError, match=r"^b\.nii: is odd$"), about("a.nii", "b.nii"):
        raise InputError("b.nii: is odd")


def test_what_cannot_be_written_is_named_as_it_was_asked_for():
    refused = OSError(errno.EROFS, "Read-only file system", "out/.partial-7-config.yaml")
    assert mistake(refused) == (
        "out/config.yaml: Read-only file system. Remedy: name a place that can be written"
    )
