"""What trainings on amyloid PET learn from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from medrestore.checks import require_in_range, require_in_set
from medrestore.data.channels import Channel, PresenceChannel, VolumeChannel
from medrestore.data.schema import Schema
from medrestore.data.transforms import ChannelDropout, InTurn
from medrestore.domains.amyloid_pet.schema import GUIDES, pair_schema
from medrestore.engines.training_data import Measures
from medrestore.engines.volume_data import PairData
from medrestore.engines.volume_measures import VolumeMeasures

__all__ = ["AmyloidPETData"]


@dataclass(kw_only=True, eq=False)
class AmyloidPETData(PairData):
    """Pairs of low and standard dose, balanced over the amyloid status.

    Further parameters are those of :class:`~medrestore.engines.volume_data.PairData`.

    Parameters
    ----------
    lowest_dose_share
        Of each batch, where the training subjects are there at several doses: the lowest dose has most to
        learn. 0 draws all rows alike.
    guides
        MR that the network is shown too, columns of the manifest: each as three slices over its own
        foreground scale, and a plane that says whether it is there.
    guide_dropout
        Probability with which each is taken away from a training pair, so that one network restores with and
        without.
    """

    lowest_dose_share: float = 0.0
    guides: Sequence[str] = ()
    guide_dropout: float = 0.0

    restorer = "amyloid_pet.VolumeFileRestorer"
    words = ("tracer", "units", "dose_fraction")

    @property
    def favored(self) -> tuple[NDArray[np.bool_], float] | None:
        """Slices at the lowest dose, and their share of a batch."""
        require_in_range("lowest_dose_share", self.lowest_dose_share, 0, 1, include_high=False)
        if not self.lowest_dose_share:
            return None
        doses = self.rows("train")["dose_fraction"].to_numpy(dtype=np.float64)
        lowest = np.isclose(doses, doses.min())
        return lowest[self.training.volume], self.lowest_dose_share

    @property
    def measures(self) -> Measures:
        """PSNR of volumes, at each dose too where there are several, and the mean absolute error."""
        doses = self.rows("validation")["dose_fraction"]
        return VolumeMeasures(colors=self.colors, groups=[f"dose_{dose:g}" for dose in doses])

    @property
    def channels(self) -> tuple[Channel, ...]:
        """Gaussians, then the MR."""
        for name in self.guides:
            require_in_set("guides", name, GUIDES)
        of_guides = [
            (VolumeChannel(name=name, neighbors=1), PresenceChannel(name=name)) for name in self.guides
        ]
        return (*super().channels, *chain.from_iterable(of_guides))

    @property
    def augmentation(self) -> Callable[..., Mapping[str, Tensor]]:
        """Flips and factors of intensity; MR that comes and goes."""
        changed = super().augmentation
        if not self.guides:
            return changed
        groups = [
            [
                place
                for channel, held in zip(self.channels, self.places, strict=True)
                if channel.column == name
                for place in held
            ]
            for name in self.guides
        ]
        return InTurn(changed, ChannelDropout(groups, probability=self.guide_dropout, seed=self.seed))

    @property
    def schema(self) -> Schema:
        """Of a manifest of amyloid PET."""
        return pair_schema(label_column=self.label_column, label_values=self.label_values)
