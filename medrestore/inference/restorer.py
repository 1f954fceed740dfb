"""From the weights of a training to what restores: ``model.pt`` says by what, in whatever domain."""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, Unpack

import torch

from medrestore.checks import InputError, fail
from medrestore.inference.file_restorer import FileRestorer
from medrestore.inference.network import SampledSettings, Training
from medrestore.kinds import beside, kinds
from medrestore.networks.device import require_device
from medrestore.networks.weights import build_network, load_model

__all__ = ["file_restorer_of", "kind_of_weights", "load_restorer", "restore_files", "restorers_of"]

_Kind = type[FileRestorer[Any, Any]]


def load_restorer(
    weights: str | os.PathLike[str],
    *,
    facts: Mapping[str, Any] | None = None,
    **running: Unpack[SampledSettings],
) -> Any:
    """Build the restorer that a finished training describes.

    Parameters
    ----------
    weights
        ``model.pt`` of a training: names the restorer, the generator's architecture and what else there is to
        know.
    facts
        What a plain state dict of the generator does not say: see
        :func:`~medrestore.networks.weights.load_model`. Where they name a ``restorer``, weights of another
        kind are refused.
    running
        ``batch_size`` (8), ``device`` (CUDA when available), ``precision`` (auto), ``samples`` and ``seed``
        (0), as in :class:`~medrestore.inference.slices.SliceRestorer`.

    Returns
    -------
    Inferer
        Of the class that the weights are of: :class:`~medrestore.inference.slices.VolumeRestorer`, or one of
        a domain's own.

    Raises
    ------
    InputError
        When the weights are missing, damaged, or not those of the restorer that the facts name.
    """
    return _built(load_model(weights, facts=facts), weights, facts or {}, **running)


def _built(
    model: Mapping[str, Any],
    weights: str | os.PathLike[str],
    facts: Mapping[str, Any],
    *,
    batch_size: int = 8,
    device: str | torch.device | None = None,
    precision: str = "auto",
    samples: int = 0,
    seed: int = 0,
) -> Any:
    target = require_device(device)
    kind = file_restorer_of(facts if "restorer" in facts else model, weights=weights)
    kind.require(model, weights=weights)
    held, wanted = model.get("restorer"), facts.get("restorer")
    if held and wanted and held != wanted:
        fail(
            f"is for the restorer {held!r}, not for {wanted!r}",
            path=weights,
            remedy="restore without a bundle, or with the one that it was trained with",
        )
    restorer = kind.build(
        build_network(model, "generator", path=weights),
        model,
        {
            "batch_size": batch_size,
            "device": target,
            "precision": precision,
            "samples": samples,
            "seed": seed,
        },
    )
    # The second key is that of weights that were written before domains had names.
    seen = model.get("training_range") or model.get("domain", {})
    restorer.training = Training(Path(weights), model["method"], seen)
    return restorer


def restore_files(
    source: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    bundle: str = "",
    **options: Any,
) -> list[Path]:
    """Restore a file, a folder or a manifest with trained weights.

    Parameters
    ----------
    source
        What the domain that the weights are of knows to restore.
    weights
        ``model.pt`` of a training.
    output_dir
        Folder for the restorations.
    bundle
        Name of the bundle, for the provenance.
    options
        Of :func:`load_restorer`, and of what the domain finds and writes: ``split``. None is not given.

    Returns
    -------
    list of Path
        All restorations, in the order of the sources.

    Raises
    ------
    InputError
        For an option that has no meaning for these weights, or as in
        :class:`~medrestore.inference.file_restorer.FileRestorer`.
    """
    model = load_model(weights)
    kind = file_restorer_of(model, weights=weights)
    given = {key: value for key, value in options.items() if value is not None}
    finds, runs, writes = (_taken(what, given) for what in (kind.find, _built, kind.__init__))
    unknown = [key for key in given if key not in {**finds, **runs, **writes}]
    if unknown:
        fail(
            f"these are weights of {kind.training}, which knows no {', '.join(unknown)}",
            path=weights,
            remedy="leave it out",
        )
    inferer = _built(model, weights, {}, **runs)
    return kind(kind.find(source, **finds), inferer, output_dir=output_dir, bundle=bundle, **writes).run()


def kind_of_weights(weights: str | os.PathLike[str]) -> str:
    """Return the kind of image that weights restore: see :func:`file_restorer_of`."""
    return _found(load_model(weights, mapped=True), weights)[0]


def file_restorer_of(model: Mapping[str, Any], *, weights: str | os.PathLike[str]) -> _Kind:
    """Return the class that restores files with such weights.

    Parameters
    ----------
    model
        Content of a ``model.pt``. It names its ``restorer``: the domain, a dot, and a class of the domain's
        ``restoration``.
    weights
        Where it was read from, for messages.

    Raises
    ------
    InputError
        When the domain is not installed here, or nothing in the file tells what it restores.

    Notes
    -----
    A file that was written before files named it is known by what else it says: of all whose needs it
    meets, the restorer that needs most.
    """
    return _found(model, weights)[1]


def _found(model: Mapping[str, Any], weights: str | os.PathLike[str]) -> tuple[str, _Kind]:
    points = {point.name: point for point in kinds()}
    if "restorer" not in model:
        known = [(name, kind) for name, point in points.items() for kind in _any_of(point).values()]
        fitting = [pair for pair in known if set(pair[1].needs) <= model.keys()]
        if not fitting:
            fail(
                "names no restorer: these are no weights of a training of images",
                path=weights,
                remedy="name the model.pt of a finished training",
            )
        return max(fitting, key=lambda pair: len(pair[1].needs))
    domain, _, name = str(model["restorer"]).partition(".")
    kind = restorers_of(points[domain]).get(name) if domain in points else None
    if kind is None:
        fail(
            f"is for the restorer {model['restorer']!r}, which is not installed here",
            path=weights,
            remedy="install the package, and its version, that it was trained with",
        )
    return domain, kind


def _any_of(point: EntryPoint) -> dict[str, _Kind]:
    """Return the classes of a kind of image; none of a package that is broken, which is named."""
    try:
        return restorers_of(point)
    except InputError as error:
        logging.getLogger(__name__).warning("warning: %s", error)
        return {}


def _taken(what: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the values given that a callable takes by name."""
    taken = inspect.signature(what).parameters
    return {key: value for key, value in given.items() if key in taken}


def restorers_of(point: EntryPoint) -> dict[str, _Kind]:
    """Return the classes by which a kind of image restores files, by name."""
    return {
        name: kind
        for name, kind in inspect.getmembers(beside(point, "restoration"), inspect.isclass)
        if issubclass(kind, FileRestorer) and hasattr(kind, "needs")  # the bases say none
    }
