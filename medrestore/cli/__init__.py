"""The command line: thin sub-commands over the package."""

import os

# Before torch is imported: two OpenMP teams that spin while they wait halve each other's speed.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Large pages: a tenth of a restoration on a CPU is page faults.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

from medrestore.cli.commands import app, main

__all__ = ["app", "main"]
