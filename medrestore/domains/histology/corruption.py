"""What a study of wrong training pairs needs before it begins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["require_vgg_weights"]


def require_vgg_weights(configuration: Mapping[str, Any], overrides: Mapping[str, Any]) -> None:
    """Require, before hours of training, the weights of VGG19 where they are a run's encoder.

    Parameters
    ----------
    configuration
        Of the run, as its overlays make it.
    overrides
        Of its keys.

    Raises
    ------
    InputError
        When they are not there; says where to fetch them.
    """
    from medrestore.networks.vgg import VGG19Features, weights_file

    own = any(key.split("::")[0] == "encoder" for key in overrides)
    if not own and configuration["encoder"]["_target_"].endswith(f".{VGG19Features.__name__}"):
        weights_file(overrides.get("vgg_weights", configuration["vgg_weights"]))
