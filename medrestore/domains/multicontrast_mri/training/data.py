"""What trainings on multi-contrast MRI learn from."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from medrestore.checks import InputError
from medrestore.data.schema import Schema
from medrestore.data.slices import StackDataset
from medrestore.data.training_range import training_range
from medrestore.data.transforms import InTurn, PatchAugmentation
from medrestore.data.volumes import Volume
from medrestore.domains.multicontrast_mri.acquisition.acquisition import Acquisition, make_acquisition
from medrestore.domains.multicontrast_mri.acquisition.channel_volume import read_channels
from medrestore.domains.multicontrast_mri.schema import contrast_schema
from medrestore.domains.multicontrast_mri.training.dataset import ContrastDataset, LesionDataset
from medrestore.domains.multicontrast_mri.training.stack import ContrastStack, SyntheticStack
from medrestore.domains.multicontrast_mri.training.validation import LesionMeasures
from medrestore.engines.training_data import Measures
from medrestore.engines.volume_data import VolumeData

__all__ = ["ContrastData", "LesionData"]

MASK = "lesions"
"""Key of lesion masks in batches."""


@dataclass(kw_only=True, eq=False)
class _AcquisitionData(VolumeData, ABC):
    """Channels of one acquisition and the contrasts that go with them.

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
class ContrastData(_AcquisitionData):
    """Channels of one acquisition and the contrasts that are wanted of them, balanced over contrasts.

    Other parameters are those of all data of acquisitions.

    Parameters
    ----------
    synthetic
        Whether the network sees, as its last channel, the wanted contrast as the fit of relaxation times
        gives it, see
        :func:`~medrestore.domains.multicontrast_mri.acquisition.synthetic.scaled_synthetic_images`.
    lesion_contrast
        Contrast of whose lesions a segmenter is asked.
    lesion_weight
        mu of that segmenter; 0 where none is asked.
    lesion_share
        Of each contrast's draws, those that are of slices with lesion; all slices alike when None.
    patch_size
        In-plane size (X, Y) of the patches that training slices are cut to: around a lesion where the slice
        holds one, else anywhere. Whole slices when None.
    """

    label_column: str | None = "contrast"
    synthetic: bool = False
    lesion_contrast: str | None = None
    lesion_weight: float = 0.0
    lesion_share: float | None = None
    patch_size: Sequence[int] | None = None

    @property
    def in_channels(self) -> int:
        """Channels of the generator's input, the synthetic one among them."""
        return super().in_channels + int(self.synthetic)

    def synthetic_stack(self, split: str) -> SyntheticStack | None:
        """Open what the fit says of the volumes of a split; None where the network does not see it."""
        if not self.synthetic:
            return None
        return SyntheticStack.build(
            self.rows(split),
            self.cache_dir,
            contrasts=self.contrasts,
            acquisition=self.acquisition,
            spatial_size=self.spatial_size,
        )

    def dataset(self, split: str) -> ContrastDataset:
        """Return the slices of a split, each once for every contrast that its subject has."""
        return ContrastDataset(
            self.stack(split),
            neighbors=self.neighbors,
            synthetic=self.synthetic_stack(split),
            lesions_of=self.lesion_contrast if self.masks else None,
            slice_range=self.range_of(split),
        )

    @property
    def masks(self) -> tuple[str, ...]:
        """Lesions, where anything asks for them."""
        if self.lesion_weight > 0 and self.lesion_contrast not in self.contrasts:
            raise InputError(
                f"lesion_contrast {self.lesion_contrast!r} is none of contrasts, {', '.join(self.contrasts)}"
                ". Remedy: name one of them, or lesion_weight 0"
            )
        asked = self.lesion_weight > 0 or self.lesion_share is not None or self.patch_size is not None
        return (MASK,) if asked and self.lesion_contrast in self.contrasts else ()

    @property
    def augmentation(self) -> Callable[..., Mapping[str, Tensor]]:
        """Patches, then flips."""
        flips = super().augmentation
        if self.patch_size is None:
            return flips
        mask = next(iter(self.masks), None)
        patches = PatchAugmentation(size=self.patch_size, mask=mask, others=self.masks, seed=self.seed)
        return InTurn(patches, flips)

    @property
    def favored(self) -> tuple[NDArray[np.bool_], float] | None:
        """Slices with lesion, and their share."""
        return None if self.lesion_share is None else (self.dataset("train").holds_lesion, self.lesion_share)

    @property
    def model_information(self) -> dict[str, Any]:
        """As of all data of acquisitions, and whether the network sees a synthetic channel."""
        return {**super().model_information, **({"synthetic": True} if self.synthetic else {})}


@dataclass(kw_only=True, eq=False)
class LesionData(_AcquisitionData):
    """True images of one contrast and their lesion masks, balanced over slices with and without lesion.

    Other parameters are those of all data of acquisitions.

    Parameters
    ----------
    lesion_contrast
        The contrast.
    """

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
        """As of all data of acquisitions, of a network that sees one slice of one contrast."""
        return {**super().model_information, "contrasts": [self.lesion_contrast], "neighbors": 0}
