"""Files restored one by one, whatever they hold and however they are written; provenance beside each."""

from __future__ import annotations

import json
import logging
import os
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, NotRequired, Protocol, TypedDict, TypeVar

import torch
from monai.engines.evaluator import Evaluator
from torch import nn

from medrestore import __version__
from medrestore.checks import InputError, OutputError, Setbacks, fail
from medrestore.data.restorations import is_our_record
from medrestore.files import atomic_path, require_folder, require_short_name, sha256_file
from medrestore.inference.network import SampledSettings, Training
from medrestore.progress import leave_mistakes_to_caller, progress_bar

__all__ = ["FileRestorer", "Inferer", "InfererType", "Output", "RunSettings", "Source", "SourceType"]


class Source(Protocol):
    """What is restored: whatever it holds, it has a name for messages."""

    @property
    def name(self) -> str:
        """Stem of the files that are written for it, or of the first one's."""
        ...


SourceType = TypeVar("SourceType", bound=Source)


class Inferer(Protocol):
    """What restores: by a network or without; its device and what belongs to the provenance are known."""

    device: torch.device
    training: Training

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Plain values that a restoration depends on beside the weights and the source."""
        ...


InfererType = TypeVar("InfererType", bound=Inferer)


class RunSettings(TypedDict):
    """What every restoration of files is told; see :class:`FileRestorer`."""

    output_dir: str | os.PathLike[str]
    bundle: NotRequired[str]
    progress: NotRequired[bool]


@dataclass(frozen=True)
class Output:
    """One restoration that a source is to have.

    Parameters
    ----------
    name
        Stem of its files.
    provenance
        Plain values beside those that all restorations of a run share. Keys that begin with ``source_``
        belong to the source, all others to the run.
    folder
        Of its files, within that of all.
    """

    name: str
    provenance: Mapping[str, Any]
    folder: str = ""

    @property
    def stem(self) -> str:
        """Where its files lie in the output folder, and how their names begin."""
        return f"{self.folder}/{self.name}" if self.folder else self.name


class FileRestorer(Evaluator, Generic[SourceType, InfererType]):
    """Restore sources one by one and write them, as a MONAI engine: one iteration is one source.

    A subclass says what it restores (:attr:`find`), of which weights (:attr:`needs`, :meth:`build`), which
    outputs a source has (:meth:`outputs`), which files an output consists of (:meth:`files`), and makes those
    that are not there yet (:meth:`make`).

    Parameters
    ----------
    dataset
        The sources, of :attr:`find`.
    inferer
        Of :func:`~medrestore.inference.restorer.load_restorer`.
    output_dir
        Folder of the files of each output. A restoration that is there with the same provenance is kept; any
        other file of that name is refused.
    bundle
        Name of the bundle, for the provenance.
    progress
        Show a progress bar.

    Raises
    ------
    InputError
        For an output of other weights or settings, or when no source can be restored.

    Notes
    -----
    A source that cannot be restored (unreadable, without foreground, of the name of another one) is set
    aside: all others are restored, then :meth:`run` names those that were not, with the reasons. What
    fails for all alike, a full disk, ends the run.

    Neither the restoration nor its sidecar holds a source's name or path: the sidecar names it by SHA-256.
    """

    unit: str
    """What the bar counts."""

    source: str
    """What a source is called in the list of those that failed."""

    needs: ClassVar[tuple[str, ...]]
    """What ``model.pt`` must say."""

    training: ClassVar[str]
    """What its weights are of, in words: ``a training on volumes``."""

    find: ClassVar[Callable[..., Sequence[Any]]]
    """List the sources of a file, a folder or a manifest."""

    def __init__(
        self,
        dataset: Sequence[SourceType],
        inferer: InfererType,
        *,
        output_dir: str | os.PathLike[str],
        bundle: str = "",
        progress: bool = True,
    ) -> None:
        self.inferer = inferer
        weights, self.training_range = inferer.training.weights, inferer.training.seen
        self.output_dir = require_folder(output_dir, belongs="restorations")
        common: dict[str, Any] = {
            "medrestore_version": __version__,
            "bundle": Path(bundle).name if bundle else "",
            "method": inferer.training.method,
            "weights_sha256": sha256_file(weights),
            **inferer.provenance,
        }
        self.setbacks = Setbacks("restored", unit=self.source)
        self.sources = self.count(dataset)
        self.written: list[Path] = []
        planned: list[tuple[int, SourceType, dict[str, Output]]] = []
        for number, item in enumerate(dataset):
            with self._set_aside(number, item):
                planned.append((number, item, self.outputs(item)))
        held = Counter(output.stem for _, _, outputs in planned for output in outputs.values())
        todo: list[tuple[int, SourceType, dict[str, Output], int]] = []
        for number, item, outputs in planned:
            with self._set_aside(number, item):
                missing: dict[str, Output] = {}
                for key, output in outputs.items():
                    if held[output.stem] > 1:
                        fail(
                            f"two inputs would be restored to one file: {self.files(output.stem)[0].name}",
                            remedy="rename one of them or move it away",
                        )
                    # As JSON gives it back, to compare with what a finished restoration's sidecar says.
                    provenance = json.loads(json.dumps({**common, **output.provenance}))
                    if not self._is_there(output, provenance):
                        missing[key] = replace(output, provenance=provenance)
                # Nothing of a source is listed before all of it is known to be usable.
                if missing:
                    todo.append((number, item, missing, self.amount(item, missing)))
                self.written += [self.files(output.stem)[0] for output in outputs.values()]
        if len(self.setbacks.reasons) == self.sources:
            self.setbacks.raise_any(self.sources)
        super().__init__(
            device=inferer.device, val_data_loader=todo, iteration_update=self._iterate, decollate=False
        )
        self.logger.setLevel(logging.WARNING)
        leave_mistakes_to_caller(self.logger)
        if todo and not self.training_range:
            self.logger.warning(
                f"{weights}: nothing is known of the images that it was trained on, so none is found to lie "
                "outside of them"
            )
        total = sum(amount for *_, amount in todo)
        self.bar = progress_bar(
            total=total, desc="restoring", unit=self.unit, disable=not progress or not todo
        )

    @classmethod
    @abstractmethod
    def build(cls, generator: nn.Module, model: Mapping[str, Any], settings: SampledSettings) -> InfererType:
        """Make what restores from what ``model.pt`` says, see :attr:`needs`."""

    @classmethod
    def require(cls, model: Mapping[str, Any], *, weights: str | os.PathLike[str]) -> None:
        """Refuse a ``model.pt`` of another training."""
        missing = [key for key in cls.needs if key not in model]
        if missing:
            fail(
                f"names no {', '.join(missing)}: these are no weights of {cls.training}",
                path=weights,
                remedy="restore with the bundle that they were trained with",
            )

    @abstractmethod
    def outputs(self, item: SourceType) -> dict[str, Output]:
        """Name the restorations of a source, by keys that :meth:`make` knows."""

    @abstractmethod
    def files(self, name: str) -> list[Path]:
        """Name the files of the output of this stem: the restoration, then what else belongs to it."""

    @abstractmethod
    def sidecar(self, name: str) -> Path:
        """Name the JSON file of the output of this stem."""

    @abstractmethod
    def make(self, item: SourceType, missing: Mapping[str, Output]) -> None:
        """Read a source, restore these outputs and write them: the sidecar first, the restoration last."""

    def count(self, dataset: Sequence[SourceType]) -> int:
        """Return the number of sources."""
        return len(dataset)

    def amount(self, item: SourceType, missing: Mapping[str, Output]) -> int:  # noqa: ARG002
        """Return by how much a source advances the bar: :meth:`make` may advance it by a part of that."""
        return 1

    def run(self) -> list[Path]:
        """Restore what is not there yet and return all restorations, in the order of the dataset.

        Raises
        ------
        InputError
            When sources could not be restored: at the end, with all of them; or when the disk is full.
        """
        try:
            self.output_dir.mkdir(parents=True, exist_ok=True)
            if len(self.data_loader) > 0:
                super().run()
        finally:
            self.bar.close()
        self.setbacks.raise_any(self.sources)
        return self.written

    def warn_outside(self, name: str, notes: Sequence[str]) -> None:
        """Log where a source lies outside the range of the training, when it does."""
        if notes:
            self.logger.warning(
                f"{name}: outside the training domain: {'; '.join(notes)}. Do not rely on this restoration"
            )

    def write_sidecar(self, name: str, record: Mapping[str, Any]) -> None:
        """Write the JSON file of an output.

        It comes first: what lies beside it is known to be ours when a killed run is continued.
        """
        with atomic_path(self.sidecar(name)) as temporary:
            temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

    def _iterate(self, _: Any, entry: tuple[int, SourceType, dict[str, Output], int]) -> dict[str, float]:
        number, item, missing, amount = entry
        end = self.bar.n + amount
        with self._set_aside(number, item):
            self.make(item, missing)
        self.bar.update(end - self.bar.n)
        return {"restored": float(len(missing))}

    def _set_aside(self, number: int, item: SourceType) -> AbstractContextManager[None]:
        """Set a source aside by its number: two may have one name, which is then their fault."""
        return self.setbacks.set_aside(f"source {number}", of=item.name)

    def _is_there(self, output: Output, provenance: Mapping[str, Any]) -> bool:
        """Say whether a restoration is there; refuse what is and is not this one, whole or half made."""
        if Path(output.name).name != output.name:
            raise InputError(f"{output.name!r}: no file can have this name. Remedy: use other ids")
        files, sidecar = self.files(output.stem), self.sidecar(output.stem)
        for path in (*files, sidecar):
            require_short_name(path)
        there = [path for path in (*files, sidecar) if path.exists()]
        if not there:
            return False
        try:
            record = json.loads(sidecar.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError):
            record = None
        if not isinstance(record, dict):
            fail(
                f"is there without a readable {sidecar.name}; nothing is overwritten",
                path=there[0],
                remedy="move it away",
            )
        # Weights and settings tell the image: a call that names no bundle takes up what one that did began.
        compared = {key: value for key, value in provenance.items() if value or key != "bundle"}
        others = [key for key, value in compared.items() if record.get(key) != value]
        if not others:
            return files[0].exists()
        ours = is_our_record(record)
        if ours and there == [sidecar]:
            return False  # left by a source that failed on its way: without an image it says nothing
        message = (
            f"{there[0]}: was restored by other weights, settings or source; nothing is overwritten "
            f"(of other {', '.join(others)}). Remedy: name another output folder"
        )
        settings = any(not key.startswith("source_") for key in others)
        # Results of two settings are never mixed in one folder; another source is that source's matter.
        raise OutputError(message) if ours and settings else InputError(message)
