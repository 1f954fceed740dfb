"""Weights on disk: architecture and parameters in one file that loads without running code."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch
from torch import Tensor, nn

from medrestore.checks import InputError, fail
from medrestore.files import atomic_path
from medrestore.kinds import added_kinds

__all__ = [
    "FORMAT",
    "build_network",
    "describe",
    "load_file",
    "load_model",
    "load_network",
    "load_state",
    "network_class",
    "save_file",
    "save_model",
]

FORMAT = 1
"""Version of the layout of ``model.pt`` and ``checkpoint.pt``."""


def save_file(payload: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write tensors and plain values to ``path``, whole or not at all.

    The archive is named alike whatever the path, so the same values give the same bytes.
    """
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        torch.save({"format": FORMAT, **payload}, stream)


def save_model(
    information: Mapping[str, Any],
    networks: Mapping[str, Mapping[str, Any]],
    path: str | os.PathLike[str],
) -> None:
    """Write ``model.pt``.

    Parameters
    ----------
    information
        Plain values that inference needs of the training: ``method``, ``training_range`` and so on.
    networks
        Of :func:`describe`, by name. Each state is found a second time under the network's name at the top
        level, where the export of MONAI looks for it (``ckpt_export --key_in_ckpt generator``); a file holds
        each tensor once.
    path
        Where.
    """
    states = {name: entry["state"] for name, entry in networks.items()}
    save_file({**states, **information, "networks": dict(networks)}, path)


def load_file(path: str | os.PathLike[str], *, device: str | torch.device = "cpu") -> dict[str, Any]:
    """Read a file of :func:`save_file` with ``weights_only=True``: nothing in it is executed.

    Raises
    ------
    InputError
        When the file is missing, damaged, holds more than weights, or was written by another layout.
    """
    return _ours(_load(path, device=device), path)


def _ours(payload: Any, path: str | os.PathLike[str]) -> dict[str, Any]:
    if _is_plain_state(payload):
        fail(
            "is a plain state dict, which does not say what network it is of",
            path=path,
            remedy="name the model.pt of a training; for the generator alone, let python -m monai.bundle run "
            "the inference.yaml of a bundle, which describes it",
        )
    if not isinstance(payload, dict) or payload.get("format") != FORMAT:
        raise InputError(f"{path}: was not written by medrestore (no format {FORMAT} in it)")
    return payload


def load_model(
    path: str | os.PathLike[str],
    *,
    facts: Mapping[str, Any] | None = None,
    name: str = "generator",
    mapped: bool = False,
) -> dict[str, Any]:
    """Read what restores: ``model.pt`` of a training, or the plain state dict of its generator.

    Parameters
    ----------
    path
        The file. Bundles of the model zoo hold plain state dicts.
    facts
        What a plain state dict does not say and a ``model.pt`` says itself: ``method``, ``training_range``
        and so on, and under ``name`` the ``class`` and ``architecture`` of the network. A plain state dict is
        refused without.
    name
        Of the network that a plain state dict is of.
    mapped
        Leave the tensors on disk until they are used.

    Returns
    -------
    dict
        As :func:`load_file`.

    Raises
    ------
    InputError
        As :func:`load_file`.
    """
    payload = _load(path, mapped=mapped)
    if facts is None or not _is_plain_state(payload):
        return _ours(payload, path)
    said = {"method": "unknown", "training_range": {}, **facts}
    return {**said, "networks": {name: {**said.pop(name), "state": dict(payload)}}}


def _load(path: str | os.PathLike[str], *, device: str | torch.device = "cpu", mapped: bool = False) -> Any:
    if not Path(path).is_file():
        raise InputError(
            f"{path}: there are no weights here. Remedy: train first, or name the model.pt of a finished run"
        )
    try:
        mapped = mapped and is_zipfile(path)  # torch maps no other file
        return torch.load(path, map_location=device, weights_only=True, mmap=mapped)
    except Exception as error:  # of other bytes an unpickler raises whatever it stumbles over
        raise InputError(
            f"{path}: is damaged or holds more than weights ({type(error).__name__}). "
            "Remedy: copy the file again from where it was trained"
        ) from error


def _is_plain_state(payload: object) -> bool:
    return (
        isinstance(payload, Mapping)
        and bool(payload)
        and all(isinstance(key, str) and isinstance(value, Tensor) for key, value in payload.items())
    )


def describe(network: nn.Module) -> dict[str, Any]:
    """Return what rebuilds a network: its class, the arguments it was built with and its state."""
    return {
        "class": f"{type(network).__module__.removeprefix('medrestore.networks.')}.{type(network).__name__}",
        "architecture": dict(network.architecture),  # type: ignore[arg-type]
        "state": {name: value.detach().cpu().clone() for name, value in network.state_dict().items()},
    }


def load_state(
    network: nn.Module, state: Mapping[str, Tensor], *, path: object, name: str = "network"
) -> None:
    """Load ``state`` into ``network``, whole.

    Raises
    ------
    InputError
        When the checkpoint is that of another network: names the first keys or shapes that differ.
    """
    own = network.state_dict()
    differ = [f"{key} is missing" for key in own if key not in state]
    differ += [f"{key} is not known" for key in state if key not in own]
    differ += [
        f"{key} has shape {tuple(state[key].shape)}, expected {tuple(value.shape)}"
        for key, value in own.items()
        if key in state and state[key].shape != value.shape
    ]
    if differ:
        more = f" and {len(differ) - 3} more" if len(differ) > 3 else ""
        raise InputError(
            f"{path}: is the checkpoint of another {name} ({'; '.join(differ[:3])}{more}). "
            "Remedy: use the configuration and overlays that it was trained with"
        )
    network.load_state_dict(dict(state))


def load_network(path: str | os.PathLike[str], name: str, *, device: str | torch.device = "cpu") -> nn.Module:
    """Read a ``model.pt`` and rebuild one of its networks: :func:`build_network` of :func:`load_file`."""
    return build_network(load_file(path), name, path=path, device=device)


def build_network(
    payload: Mapping[str, Any],
    name: str,
    *,
    path: object,
    device: str | torch.device = "cpu",
) -> nn.Module:
    """Rebuild one network of a ``model.pt`` in evaluation mode.

    Parameters
    ----------
    payload
        Of :func:`load_file` or :func:`load_model`, with ``networks: {name: {class, architecture, state}}``.
    name
        Which of them: ``generator``, ``task``, ``observer``.
    path
        Where it was read from, for error messages.

    Raises
    ------
    InputError
        When the file has no such network, or names a class that is neither in ``medrestore.networks`` nor in
        a package that adds a kind of image.
    """
    networks = payload.get("networks", {})
    if name not in networks:
        raise InputError(f"{path}: has no network {name!r}; it holds {', '.join(sorted(networks)) or 'none'}")
    entry = networks[name]
    kind = network_class(entry["class"])
    if kind is None:
        raise InputError(
            f"{path}: network {name!r} is of class {entry['class']!r}, which is not in medrestore.networks, "
            "nor in an installed package that adds a kind of image"
        )
    network = kind(**entry["architecture"])
    load_state(network, entry["state"], path=path, name=name)
    return network.to(device).eval()


def network_class(name: str) -> type[nn.Module] | None:
    """Return the network class of a name, of ours or of a package with an entry point; None elsewhere."""
    module, _, attribute = name.rpartition(".")
    added = {point.module.partition(".")[0] for point in added_kinds()}
    if module.partition(".")[0] not in added:
        module = f"medrestore.networks.{module.removeprefix('medrestore.networks.')}"
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError):
        return None
    return found if isinstance(found, type) and issubclass(found, nn.Module) else None
