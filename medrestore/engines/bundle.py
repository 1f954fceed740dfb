"""Bundles by name or path: overlays merged, unknown keys refused, run as ``monai.bundle run`` would."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from pydoc import locate
from typing import TYPE_CHECKING, Any

from medrestore.checks import InputError, fail, require_known_keys
from medrestore.data.texts import read_text
from medrestore.engines.shelf import bundles_on_shelf, find_bundle
from medrestore.engines.values import (
    PARAMETERS,
    SEPARATOR,
    SUFFIXES,
    as_literal,
    by_short_names,
    fit_value,
    normalized_key,
    plain_values,
    read_configuration,
    says_kind,
)

if TYPE_CHECKING:
    from monai.bundle import ConfigWorkflow

__all__ = ["bundle_configuration", "bundle_files", "open_bundle"]

MONAI_ARGUMENTS = (
    *("run_id", "init_id", "final_id", "meta_file", "config_file", "logging_file", "tracking", "args_file"),
    *("workflow_name", "workflow_type", "properties_path"),
)
"""What files of arguments for ``python -m monai.bundle run`` hold beside keys of the configuration."""


def bundle_files(bundle: Path, config: str, variants: Sequence[str]) -> list[str]:
    """Return the configuration file and its overlays, in the order in which they are merged.

    Raises
    ------
    InputError
        For an overlay that is neither a file nor in the bundle's ``variants``.
    """
    files = [bundle / "configs" / f"{config}.yaml"]
    if not files[0].is_file():
        raise InputError(f"{files[0]}: is missing from the bundle")
    for variant in variants:
        named = variant.lower().endswith(SUFFIXES)
        path = Path(variant) if named else bundle / "variants" / f"{variant}.yaml"
        if not path.is_file():
            known = sorted(path.stem for path in (bundle / "variants").glob("*.yaml"))
            raise InputError(f"{path}: there is no such overlay. The bundle has: {', '.join(known)}")
        files.append(path)
    return [str(path) for path in files]


def bundle_configuration(
    bundle: str | os.PathLike[str], config: str, variants: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the configuration of a bundle with its overlays merged; nothing is evaluated.

    Parameters
    ----------
    bundle
        Folder, or name of a bundle that ships with the package.
    config
        ``train`` | ``inference``.
    variants
        Overlays, merged in this order: names in the bundle's ``variants`` folder, YAML or JSON files.

    Raises
    ------
    InputError
        For an overlay that cannot be read, a key that the configuration does not have (MONAI accepts it
        silently), or a value that is not of the kind that its key takes.

    Notes
    -----
    Merges as MONAI does: a key may name a nested one (``train::trainer::seed``, ``train#trainer#seed``), and
    ``+key`` adds to the list or mapping that is there. A number of ``parameters`` is named by itself, too
    (``seed``), and those that an overlay's ``parameters`` leave out stay.
    """
    first, *overlays = bundle_files(find_bundle(bundle), config, variants)
    return _overlaid(plain_values(read_configuration(first)), overlays, config)


def _overlaid(base: Mapping[str, Any], overlays: Sequence[str], config: str) -> dict[str, Any]:
    merged = deepcopy(dict(base))
    for file in overlays:
        content = read_configuration(file)
        for key in content:
            if key.removeprefix("+") in MONAI_ARGUMENTS and key not in base:
                fail(
                    f"{key} is for python -m monai.bundle run",
                    path=file,
                    remedy="name the bundle and --variant on the command line, and keep keys of its "
                    f"{config}.yaml alone in the file",
                )
        _merge(merged, base, content, where=f"{file}:", code=True)
    return merged


def open_bundle(
    bundle: str | os.PathLike[str],
    config: str,
    *,
    variants: Sequence[str] = (),
    overrides: Mapping[str, Any] | None = None,
) -> ConfigWorkflow:
    """Open a bundle's configuration with its overlays and overrides, ready to ``initialize()`` and ``run()``.

    Parameters
    ----------
    bundle
        Folder, or name of a bundle that ships with the package.
    config
        ``train`` | ``inference``.
    variants
        Overlays, merged in this order: names in the bundle's ``variants`` folder, YAML or JSON files.
    overrides
        Values by key; nested keys as ``train::trainer::max_epochs``, those of ``parameters`` by their names
        alone. Text is read as its key takes it, and is never code: what a file says is evaluated, what is
        given here is taken as it stands.

    Raises
    ------
    InputError
        For a key in an overlay or override that the configuration does not have (MONAI accepts it silently),
        a value that is not of the kind that its key takes, or a device that is not there.
    """
    from monai.bundle import ConfigWorkflow

    from medrestore.networks.device import require_device

    folder = find_bundle(bundle)
    file, *overlays = bundle_files(folder, config, variants)
    base = plain_values(read_configuration(file))
    merged = _overlaid(base, overlays, config)
    merged["bundle_root"] = as_literal(str(folder))
    _merge(merged, base, overrides or {}, where=file, code=False)
    _require_places(merged, files=[file, *overlays])
    _require_references(merged, files=[file, *overlays])
    if "device" in (overrides or {}):
        require_device(merged["device"])  # before the data are decoded
    logging.getLogger("monai.bundle.workflows").setLevel(logging.WARNING)  # which logging.conf it has found
    workflow = ConfigWorkflow(
        config_file=file,
        meta_file=str(folder / "configs" / "metadata.json"),
        logging_file=str(folder / "configs" / "logging.conf"),
        workflow_type="training" if config == "train" else "inference",
    )
    # Merged here, not by MONAI: it takes 1e-4 for text, and a path for code.
    workflow.parser.read_config(merged)
    return workflow


def _merge(
    merged: dict[str, Any], base: Mapping[str, Any], given: Mapping[str, Any], *, where: str, code: bool
) -> None:
    """Merge values by key into a configuration whose keys and kinds of value they must share.

    Parameters
    ----------
    merged
        Is changed.
    base
        The bundle's own file: its plain values say what a key takes, whatever overlays made of them.
    given
        Values by key.
    where
        What has no such key, in messages.
    code
        Whether expressions are evaluated: a file's are.
    """
    from monai.bundle import ConfigParser
    from monai.bundle.utils import merge_kv

    parser = ConfigParser(merged)
    for written, value in given.items():
        key, adds = normalized_key(written)
        known = by_short_names(merged)
        _require_known_path(where, key, known)
        key = key.removeprefix(PARAMETERS + SEPARATOR)
        kinds = known | {name: own for name, own in by_short_names(base).items() if says_kind(own)}
        try:
            fitted = fit_value(value, kinds, key, code=code)
            if key.split(SEPARATOR)[0] not in merged:
                key = PARAMETERS + SEPARATOR + key
            if adds and not (isinstance(fitted, (list, dict)) and type(fitted) is type(parser[key])):
                raise InputError(
                    f"{written} adds to a list, or to keys with values, more of the same; got {fitted!r} for "
                    f"{parser[key]!r}"
                )
        except InputError as error:
            raise InputError(f"{where} {error}" if code else str(error)) from error
        if key == PARAMETERS:
            numbers = {f"{PARAMETERS}{SEPARATOR}{name}": number for name, number in (fitted or {}).items()}
            _merge(merged, base, numbers, where=where, code=code)
        else:
            merge_kv(parser, f"+{key}" if adds else key, fitted if code else as_literal(fitted))


def _require_places(configuration: Any, *, files: Sequence[str], key: str = "") -> None:
    """Require that what ``_target_`` names of this package is there: a bundle may be of another version."""
    if isinstance(configuration, list):
        configuration = dict(enumerate(configuration))
    if not isinstance(configuration, Mapping):
        return
    target = configuration.get("_target_", "")
    if isinstance(target, str) and target.startswith("medrestore.") and locate(target) is None:
        name = ".".join(
            part for part in target.split(".")[-2:] if part[:1].isupper() or target.endswith(f".{part}")
        )
        written = [path.read_text(encoding="utf-8") for path in _shipped_files()]
        place = re.compile(rf"\bmedrestore\.[\w.]+\.{re.escape(name)}(?![\w.])")
        places = sorted({found for text in written for found in place.findall(text)})
        fail(
            f"{key} names {target}, which this version of medrestore does not have",
            path=next((file for file in files if target in Path(file).read_text(encoding="utf-8")), files[0]),
            remedy=f"it is {' or '.join(places)} now" if places else "see the bundles that ship with it",
        )
    for part, value in configuration.items():
        _require_places(value, files=files, key=f"{key}::{part}" if key else str(part))


def _require_references(configuration: dict[str, Any], *, files: Sequence[str]) -> None:
    """Require that what expressions refer to is there, and name a number that lacks its ``parameters::``."""
    from monai.bundle import ConfigParser
    from monai.bundle.reference_resolver import ReferenceResolver

    parser = ConfigParser(configuration)
    for name in ReferenceResolver.find_refs_in_config(configuration, id=""):
        if not name or name.startswith(SEPARATOR) or name in parser:  # an operator, or relative
            continue
        number = f"{PARAMETERS}{SEPARATOR}{name}"
        written = re.compile(rf"@{name}(?!\w|::)")
        fail(
            f"refers to @{name}, which is not there",
            path=next((file for file in files if written.search(read_text(Path(file)))), files[0]),
            remedy=f"write @{number}" if number in parser else "name a key of the configuration",
        )


def _shipped_files() -> list[Path]:
    return [path for bundle in bundles_on_shelf() for path in sorted(bundle.rglob("*.yaml"))]


def _require_known_path(where: str, key: str, configuration: Any) -> None:
    """Require that a configuration has ``key``, level by level where it is nested."""
    above = ""
    for part in key.split("::"):
        if isinstance(configuration, list):
            configuration = {str(index): value for index, value in enumerate(configuration)}
        if not isinstance(configuration, Mapping):
            raise InputError(f"{where} has no key {key!r}: {above!r} holds no keys")
        require_known_keys(f"{where} at {above!r}" if above else where, {part: None}, configuration)
        configuration, above = configuration[part], f"{above}::{part}" if above else part
