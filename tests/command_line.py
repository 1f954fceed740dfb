"""How a call of the command line ended, for the tests of commands."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Ended:
    """How a call of the command line ended."""

    code: int
    out: str
    err: str

    def refused(self, *parts: str) -> None:
        """Require one line of error with all parts in it, code 2 and no traceback."""
        assert self.code == 2, self.err
        assert "Traceback" not in self.err
        lines = self.err.splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        assert len(errors) == 1, self.err
        assert lines[-1] == errors[0]
        for part in parts:
            assert part in errors[0]
