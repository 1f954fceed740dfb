"""What trainings on multi-contrast MRI learn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medrestore.data.schema import Schema
from medrestore.data.slices import StackDataset
from medrestore.data.training_range import training_range
from medrestore.data.volumes import Volume
from medrestore.domains.multicontrast_mri.acquisition.acquisition import Acquisition, make_acquisition
from medrestore.domains.multicontrast_mri.acquisition.channel_volume import read_channels
from medrestore.domains.multicontrast_mri.schema import contrast_schema
from medrestore.domains.multicontrast_mri.training.dataset import ContrastDataset, LesionDataset
from medrestore.domains.multicontrast_mri.training.stack import ContrastStack
from medrestore.domains.multicontrast_mri.training.validation import LesionMeasures
from medrestore.engines.training_data import Measures
from medrestore.engines.volume_data import VolumeData

__all__ = ["ContrastData", "LesionData"]


@dataclass(kw_only=True, eq=False)
class ContrastData(VolumeData):
    """Channels of one acquisition and the contrasts that are wanted of them, balanced over contrasts.

    Input and target have scales of their own, and planes of contrasts are no intensities: there is no
    ``intensity_jitter``.

    Parameters
    ----------
    contrasts
        In the order of the network's planes.
    component, saturation_delays_ms, echo_times_ms, input_channels
        Of :func:`~medrestore.domains.multicontrast_mri.acquisition.acquisition.make_acquisition`; delays and
        echoes are not looked at where the component is ``any``.
    """

    label_column: str | None = "contrast"
    contrasts: Sequence[str]
    component: str
    saturation_delays_ms: Sequence[float] | None = None
    echo_times_ms: Sequence[float] | None = None
    input_channels: int | None = None

    colors = "gray"

    @property
    def acquisition(self) -> Acquisition:
        """What the channels of the inputs are."""
        known = self.component != "any"
        return make_acquisition(
            component=self.component,
            saturation_delays_ms=self.saturation_delays_ms if known else None,
            echo_times_ms=self.echo_times_ms if known else None,
            channels=self.input_channels,
        )

    @property
    def in_channels(self) -> int:
        """Channels of the generator's input: all slices of all channels, and a plane for each contrast."""
        return (2 * self.neighbors + 1) * self.acquisition.channels + len(self.contrasts)

    @property
    def schema(self) -> Schema:
        """Of a manifest of these contrasts."""
        return contrast_schema(self.contrasts)

    def stack(self, split: str) -> ContrastStack:
        """Open the volumes of a split."""
        return ContrastStack.build(
            self.rows(split),
            self.cache_dir,
            contrasts=self.contrasts,
            acquisition=self.acquisition,
            spatial_size=self.spatial_size,
        )

    def dataset(self, split: str) -> StackDataset:
        """Return the slices of a split, each once for every contrast that its subject has."""
        return ContrastDataset(self.stack(split), neighbors=self.neighbors, slice_range=self.range_of(split))

    @property
    def model_information(self) -> dict[str, Any]:
        """The channels, the contrasts, and the range of the reference channel's magnitude in training."""
        acquisition = self.acquisition

        def reference(row: Mapping[Any, Any]) -> Volume:
            return read_channels(row["input_paths"], acquisition).reference(acquisition)

        return {
            "restorer": "multicontrast_mri.ContrastFileRestorer",
            "neighbors": self.neighbors,
            "label_column": "contrast",
            "spatial_size": list(self.spatial_size),
            "contrasts": list(self.contrasts),
            "acquisition": acquisition.as_plain(),
            "training_range": training_range(self.rows("train"), read=reference),
        }


@dataclass(kw_only=True, eq=False)
class LesionData(ContrastData):
    """True images of one contrast and their lesion masks, balanced over slices with and without lesion.

    Parameters
    ----------
    lesion_contrast
        The contrast.
    """

    label_column: str | None = None
    lesion_contrast: str

    full_precision = True

    def dataset(self, split: str) -> StackDataset:
        """Return the slices of a split that have both."""
        return LesionDataset(
            self.stack(split), contrast=self.lesion_contrast, slice_range=self.range_of(split)
        )

    @property
    def measures(self) -> Measures:
        """Dice of volumes."""
        return LesionMeasures()

    @property
    def model_information(self) -> dict[str, Any]:
        """As of :class:`ContrastData`, of a network that sees one slice of one contrast."""
        return {**super().model_information, "contrasts": [self.lesion_contrast], "neighbors": 0}
