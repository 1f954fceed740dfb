"""What a child process of a study does: train and restore, or evaluate.

Called as ``python -m medrestore.experiments.child TASK.json``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medrestore.checks import InputError, mistake

__all__ = ["evaluate_cell", "main", "train_and_restore"]

PATIENCE_SECONDS = 20.0


def train_and_restore(task: Mapping[str, Any]) -> None:
    """Train a run of a bundle, or continue it, and restore a split with it.

    Parameters
    ----------
    task
        ``bundle``, ``folder`` of the study, ``run``, ``overlays``, the checksum of the ``configuration`` that
        they make, ``overrides``, and ``restore``: none, or a mapping of ``manifest``,
        ``split`` and ``output``.

    Raises
    ------
    InputError
        When the configuration was changed since the study was called.
    """
    from medrestore.experiments.corruption_plan import configuration_checksum
    from medrestore.experiments.runs import train_run

    if configuration_checksum(task["bundle"], task["overlays"], {}) != task["configuration"]:
        raise InputError(
            f"the configuration of {task['bundle']} with {', '.join(task['overlays'])} was changed since the "
            "study was called: runs would not compare. Remedy: change it back, or begin a study in another "
            "folder"
        )

    weights = train_run(
        task["bundle"],
        Path(task["folder"]),
        task["run"],
        task["overlays"],
        task["overrides"],
    )
    if task["restore"] is None:
        return
    from medrestore.inference.restorer import restore_files

    place = task["restore"]
    restore_files(
        place["manifest"],
        weights=weights,
        output_dir=place["output"],
        bundle=task["bundle"],
        split=place["split"],
        device=task["overrides"].get("device"),
    )


def evaluate_cell(task: Mapping[str, Any]) -> None:
    """Evaluate all variants that were trained at one level with one seed.

    Parameters
    ----------
    task
        ``evaluate``: what is called, with which arguments; ``manifest``, ``methods`` (folders by name),
        ``weights`` of one of them, which say how images are degraded, ``output``, ``split``, ``pairs`` and
        ``workers``.
    """
    from medrestore.experiments.description import call
    from medrestore.networks.weights import load_file

    call(
        task["evaluate"],
        {"model": load_file(task["weights"])},
        manifest=task["manifest"],
        methods=task["methods"],
        output=task["output"],
        split=task["split"],
        pairs=[(first, second) for first, second in task["pairs"]],
        workers=task["workers"],
    )


TASKS = {"train": train_and_restore, "evaluate": evaluate_cell}


def end_with_parent() -> None:
    """End this process when the one that started it is gone: its end of standard input is closed then."""
    main_thread = threading.main_thread().ident or 0

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1024):
            pass
        # A signal to the main thread, unlike interrupt_main(), also ends a wait that it is in.
        signal.pthread_kill(main_thread, signal.SIGINT)
        # What cannot be interrupted must not keep a study's folder busy.
        killer = threading.Timer(PATIENCE_SECONDS, os._exit, (1,))
        killer.daemon = True
        killer.start()

    # A shell that puts a study in the background has its children ignore interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=watch, daemon=True).start()


def main(arguments: list[str]) -> int:
    """Do the task of a file; return the code to exit with: 2 for a mistake in the input."""
    end_with_parent()
    task = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    try:
        TASKS[task["do"]](task)
    except Exception as error:
        traceback.print_exc()
        told = mistake(error)
        if told is None:
            return 1
        print(f"error: {told}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
