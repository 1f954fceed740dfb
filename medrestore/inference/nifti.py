"""NIfTI files of restored volumes on the source's exact grid.

The writer lives beside the reader, in :mod:`medrestore.data.volumes`, since simulated cohorts are written by
it too.
"""

from medrestore.data.volumes import SourceGrid, write_volume

__all__ = ["SourceGrid", "write_volume"]
