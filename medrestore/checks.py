"""Checks on user input: each raises :class:`InputError`, naming the parameter, what was expected and got."""

from __future__ import annotations

import errno
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

__all__ = [
    "InputError",
    "OutputError",
    "Setbacks",
    "about",
    "causes",
    "counted",
    "fail",
    "listed_lines",
    "mistake",
    "no_room",
    "one_line",
    "require_in_range",
    "require_in_set",
    "require_known_keys",
    "require_same_shape",
    "without_place",
]


class InputError(ValueError):
    """A mistake in what the user gave: a value, a file, a configuration.

    Its message names what is wrong and the remedy; the command line prints it without a traceback.
    """


class OutputError(InputError):
    """The place of the results fails: full, or held by other results. Work over several items ends by it."""


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what lies behind it, the latest first: MONAI wraps what its components raise."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


_NO_ROOM = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would be larger than the file system or this process may write",
}

_FOREIGN = re.compile(r"Failed to instantiate component '(torch\.optim\.[\w.]+)'")
"""What MONAI says of optimizers, whose settings are the user's numbers and are checked by PyTorch alone."""

USERS_TO_MEND = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOENT, errno.EINVAL),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.EMFILE, errno.ENFILE),
    *(errno.EIO, errno.ESTALE, errno.ENXIO, errno.ENODEV, errno.EBUSY, errno.ETIMEDOUT),
)
"""What the operating system refuses for reasons that lie outside of the program."""

_REMEDIES = {
    errno.EROFS: ". Remedy: name a place that can be written",
    **dict.fromkeys((errno.EACCES, errno.EPERM), ". Remedy: give yourself the rights, or name another place"),
}


def mistake(error: BaseException | None) -> str | None:
    """Return what the user can mend behind an error, in words; None for a fault of the program.

    >>> try:
    ...     raise RuntimeError("component failed") from InputError("seed must be in [0, 9], got 10")
    ... except RuntimeError as error:
    ...     mistake(error)
    'seed must be in [0, 9], got 10'
    """
    place: str | None = None
    for cause in causes(error):
        if isinstance(cause, InputError):
            return str(cause)
        if (
            place is None
            and (found := _FOREIGN.match(str(cause)))
            and isinstance(cause.__cause__, (ValueError, TypeError, IndexError))
        ):
            place = (
                f"{found[1]} does not take what the configuration gives it: {one_line(cause.__cause__)}. "
                "Remedy: mend that value"
            )
        if isinstance(cause, OSError) and cause.errno in USERS_TO_MEND and cause.filename is not None:
            # The file that was wanted, not the temporary one that becomes it.
            name = re.sub(r"\.partial-\d+-", "", str(cause.filename))
            place = f"{name}: {cause.strerror}{_REMEDIES.get(cause.errno, '')}"
        elif isinstance(cause, OSError) and no_room(cause):  # a write to an open file does not name it
            place = f"{no_room(cause)}. Remedy: free some space and run again"
    return place


def fail(message: str, *, path: object = None, row: int | None = None, remedy: str = "") -> NoReturn:
    """Raise :class:`InputError` with the file and row it is about in front and the remedy behind.

    >>> fail("is not a NIfTI file", path="scan.txt", remedy="convert it to NIfTI first")
    Traceback (most recent call last):
    medrestore.checks.InputError: scan.txt: is not a NIfTI file. Remedy: convert it to NIfTI first
    """
    where = "" if path is None else f"{path}" + ("" if row is None else f", row {row}") + ": "
    raise InputError(f"{where}{message}" + (f". Remedy: {remedy}" if remedy else ""))


def no_room(error: OSError) -> str:
    """Return in words that there was no room for what was to be written; empty for any other error.

    >>> no_room(OSError(errno.ENOSPC, "No space left on device")), no_room(OSError(errno.EIO, "broken"))
    ('the disk is full', '')
    """
    return _NO_ROOM.get(error.errno or 0, "")


@contextmanager
def about(*paths: object) -> Iterator[None]:
    """Put the files in front of a mistake that is found in what was read from them, unless it names one.

    >>> with about("scan.nii"):
    ...     fail("the image has no positive foreground")
    Traceback (most recent call last):
    medrestore.checks.InputError: scan.nii: the image has no positive foreground
    """
    try:
        yield
    except OutputError:
        raise
    except InputError as error:
        names = [str(path) for path in paths if path is not None]
        if any(name in str(error) for name in names):
            raise
        raise InputError(f"{', '.join(names)}: {error}") from error


def one_line(error: BaseException) -> str:
    r"""Return what an error says in one line; its kind where it says nothing.

    >>> one_line(ValueError("bad\n  header")), one_line(EOFError())
    ('bad header', 'EOFError')
    """
    return " ".join(str(error).split()) or type(error).__name__


def without_place(error: BaseException, *places: object) -> str:
    """Return what an error says of a file, without the path that it begins with.

    Tables and sidecars are handed on.

    >>> without_place(ValueError("doe/t1.nii: is 4D"), "doe/pet.nii", "doe/t1.nii")
    'is 4D'
    """
    said = str(error)
    for place in places:
        said = said.removeprefix(f"{place}: ")
    return said


def counted(number: float, singular: str, plural: str = "") -> str:
    """Return a number with its noun.

    >>> counted(1, "subject"), counted(1.5, "pixel"), counted(0, "study", "studies")
    ('1 subject', '1.5 pixels', '0 studies')
    """
    return f"{number:.10g} {singular if number == 1 else plural or singular + 's'}"


def listed_lines(items: Sequence[object], *, most: int = 50) -> str:
    """Return items as indented lines below a message: the first ones, then how many others there are.

    >>> print(listed_lines(["row 2: is empty", "row 3: is empty", "row 4: is empty"], most=2))
      row 2: is empty
      row 3: is empty
      and 1 more
    """
    more = [f"and {len(items) - most} more"] if len(items) > most else []
    return "\n".join(f"  {item}" for item in [*items[:most], *more])


class Setbacks:
    """What failed in work over several items that goes on without them; told at its end.

    Parameters
    ----------
    work
        What was not done to an item, as a participle: ``restored``.
    unit, units
        What an item is called, one and several.

    Examples
    --------
    >>> setbacks = Setbacks("restored")
    >>> for name in ("a.nii", "b.nii"):
    ...     with setbacks.set_aside(name):
    ...         if name == "b.nii":
    ...             fail("is damaged", path=name)
    >>> setbacks.raise_any(2)
    Traceback (most recent call last):
    medrestore.checks.InputError: 1 of 2 files could not be restored, the others were:
      b.nii: is damaged
    """

    def __init__(self, work: str, *, unit: str = "file", units: str = "") -> None:
        self.work = work
        self.unit, self.units = unit, units
        self.reasons: dict[str, str] = {}

    @contextmanager
    def set_aside(self, item: object, *, of: object = None) -> Iterator[None]:
        """Keep the reason when the block fails by a mistake in what the user gave; other errors pass.

        So does :class:`OutputError`: whatever came next would end alike, after as much work.

        Parameters
        ----------
        item
            What the block works on.
        of
            What it is a part of, where that is to be named.
        """
        try:
            yield
        except OutputError:
            raise
        except InputError as error:
            self.note(item, str(error), of=of)

    def note(self, item: object, reason: str, *, of: object = None) -> None:
        """Keep why an item failed, as :meth:`set_aside` does: of work that another process has tried."""
        name = str(item if of is None else of)
        self.reasons[str(item)] = reason if name in reason else f"{name}: {reason}"

    def raise_any(self, total: int) -> None:
        """Raise what was set aside, all items at once; an only item's error as it was.

        Parameters
        ----------
        total
            Items that there were.

        Raises
        ------
        InputError
            When an item was set aside. Reasons that items share are listed once; beyond fifty, the number of
            the others.
        """
        if not self.reasons:
            return
        if total == 1:
            raise InputError(*self.reasons.values())
        others = ", the others were" if len(self.reasons) < total else ""
        lines = [
            " ".join(reason.split())  # one line, also where a file's name has several
            + (f" ({number} {self.units or self.unit + 's'})" if number > 1 else "")
            for reason, number in Counter(self.reasons.values()).items()
        ]
        failed = f"{len(self.reasons)} of {counted(total, self.unit, self.units)}"
        raise InputError(f"{failed} could not be {self.work}{others}:\n{listed_lines(lines)}")


def require_in_range(
    name: str, value: float, low: float, high: float, *, include_low: bool = True, include_high: bool = True
) -> None:
    """Require ``low <= value <= high``; a bound that is not included makes its side strict.

    >>> require_in_range("q", 3.0, 0, 2, include_low=False)
    Traceback (most recent call last):
    medrestore.checks.InputError: q must be in (0, 2], got 3.0
    """
    try:
        above = value >= low if include_low else value > low
        below = value <= high if include_high else value < high
    except TypeError as error:  # text, in a configuration that MONAI has read
        raise InputError(f"{name} takes a number, got {value!r}") from error
    if not (above and below):
        raise InputError(
            f"{name} must be in {'[' if include_low else '('}{low}, {high}{']' if include_high else ')'}, "
            f"got {value}"
        )


def require_in_set(name: str, value: object, allowed: Collection[Any]) -> None:
    """Require that ``value`` is one of ``allowed``.

    >>> require_in_set("precision", "fp8", ("fp32", "bf16"))
    Traceback (most recent call last):
    medrestore.checks.InputError: precision must be one of 'fp32', 'bf16', got 'fp8'
    """
    if value not in allowed:
        raise InputError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")


def require_known_keys(what: str, given: Mapping[str, Any], known: Collection[str]) -> None:
    """Require that every key of ``given`` is known; suggest the nearest known key for one that is not.

    >>> require_known_keys("config", {"epoch": 3}, ["epochs", "seed"])
    Traceback (most recent call last):
    medrestore.checks.InputError: config has no key 'epoch'; did you mean 'epochs'?
    """
    from difflib import get_close_matches

    for key in given:
        if key not in known:
            near = get_close_matches(str(key), list(known), n=1)  # a key of YAML may be a number
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(sorted(known))}"
            raise InputError(f"{what} has no key {key!r}; {hint}")


def require_same_shape(**shapes: Sequence[int]) -> None:
    """Require that all named shapes are equal.

    >>> require_same_shape(image=(2, 3), label=(2, 4))
    Traceback (most recent call last):
    medrestore.checks.InputError: shapes must be equal, got image (2, 3), label (2, 4)
    """
    if len({tuple(shape) for shape in shapes.values()}) > 1:
        listed = ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes.items())
        raise InputError(f"shapes must be equal, got {listed}")
