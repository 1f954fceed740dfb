"""What trainings on amyloid PET learn from."""

from __future__ import annotations

from medrestore.data.schema import Schema
from medrestore.domains.amyloid_pet.schema import pair_schema
from medrestore.engines.volume_data import PairData

__all__ = ["AmyloidPETData"]


class AmyloidPETData(PairData):
    """Pairs of low and standard dose, balanced over the amyloid status."""

    restorer = "amyloid_pet.VolumeFileRestorer"
    words = ("tracer", "units", "dose_fraction")

    @property
    def schema(self) -> Schema:
        """Of a manifest of amyloid PET."""
        return pair_schema(label_column=self.label_column, label_values=self.label_values)
