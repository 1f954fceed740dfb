"""How a program ends that failed: what the user can mend in one line, anything else with its traceback."""

from __future__ import annotations

import sys
from types import TracebackType

from medrestore.checks import mistake
from medrestore.interruption import exit_code, interrupt_behind

__all__ = ["end_as_our_own", "ending_of"]


def ending_of(error: BaseException) -> tuple[int, str] | None:
    """Return the code that a program ends with and its last line; None for a fault of the program.

    >>> from medrestore.checks import InputError
    >>> ending_of(InputError("seed must be in [0, 9], got 10")), ending_of(KeyboardInterrupt())
    ((2, 'error: seed must be in [0, 9], got 10'), (130, 'interrupted'))
    """
    interrupt = interrupt_behind(error)
    if interrupt is not None:
        return exit_code(interrupt), str(interrupt) or "interrupted"
    told = mistake(error)
    return None if told is None else (2, f"error: {told}")


def end_as_our_own() -> None:
    """Let a command line that is not ours end on a mistake as ours does: by its line alone, and code 2.

    MONAI's wraps each error once for every component that it lies in, and shows them all.
    """
    shown = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        ending = ending_of(error)
        if ending is None:
            shown(kind, error, trace)
            return
        code, words = ending
        print(words, file=sys.stderr, flush=True)  # noqa: T201
        sys.exit(code)  # Python takes the code of a hook that exits

    sys.excepthook = hook
