"""Bundles by name or path: overlays merged, unknown keys refused, run as ``monai.bundle run`` would."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrestore.checks import InputError, require_known_keys

if TYPE_CHECKING:
    from monai.bundle import ConfigWorkflow

__all__ = ["bundle_files", "find_bundle", "open_bundle"]


def find_bundle(name: str | os.PathLike[str]) -> Path:
    """Return the folder of a bundle: a path, or the name of one that ships with the package.

    Raises
    ------
    InputError
        When neither is there; lists the names that are.
    """
    package = Path(__file__).parents[1]
    shelves = [package / "_bundles", package.parent / "bundles"]
    for folder in [Path(name), *(shelf / name for shelf in shelves)]:
        if (folder / "configs" / "metadata.json").is_file():
            return folder
    known = sorted(
        {path.parents[1].name for shelf in shelves for path in shelf.glob("*/configs/metadata.json")}
    )
    raise InputError(
        f"{name}: is no bundle (no configs/metadata.json in it). Bundles that ship: {', '.join(known)}"
    )


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
        path = (
            Path(variant) if variant.endswith((".yaml", ".yml")) else bundle / "variants" / f"{variant}.yaml"
        )
        if not path.is_file():
            known = sorted(path.stem for path in (bundle / "variants").glob("*.yaml"))
            raise InputError(f"{path}: there is no such overlay. The bundle has: {', '.join(known)}")
        files.append(path)
    return [str(path) for path in files]


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
        ``train`` | ``evaluate`` | ``inference``.
    variants
        Overlays, merged in this order: names in the bundle's ``variants`` folder or YAML files.
    overrides
        Values by key; nested keys as ``train::trainer::max_epochs``.

    Raises
    ------
    InputError
        For a key in an overlay or override that the configuration does not have (MONAI accepts it silently).
    """
    from monai.bundle import ConfigParser, ConfigWorkflow

    folder = find_bundle(bundle)
    files = bundle_files(folder, config, variants)
    known = ConfigParser.load_config_file(files[0])
    for file in files[1:]:
        require_known_keys(f"{file}:", ConfigParser.load_config_file(file), known)
    given = dict(overrides or {})
    for key in given:
        _require_known_path(files[0], key, known)
    given.setdefault("bundle_root", str(folder))
    # MONAI warns of every overlay that lies outside configs/, where ours all do.
    logging.getLogger("monai.bundle.workflows").setLevel(logging.ERROR)
    return ConfigWorkflow(
        config_file=files,
        meta_file=str(folder / "configs" / "metadata.json"),
        logging_file=str(folder / "configs" / "logging.conf"),
        workflow_type="training" if config == "train" else "inference",
        **given,
    )


def _require_known_path(file: str, key: str, configuration: Any) -> None:
    """Require that a configuration has ``key``, level by level where it is nested."""
    above = ""
    for part in key.split("::"):
        if isinstance(configuration, list):
            configuration = {str(index): value for index, value in enumerate(configuration)}
        if not isinstance(configuration, Mapping):
            raise InputError(f"{file} has no key {key!r}: {above!r} holds no keys")
        require_known_keys(f"{file} at {above!r}" if above else file, {part: None}, configuration)
        configuration, above = configuration[part], f"{above}::{part}" if above else part
