"""What a process does in the place of a training; without TensorFlow, at once."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Unsent(Exception):
    """One that can be pickled, but not unpickled."""

    def __init__(self, name: str, other: str) -> None:
        super().__init__(f"{name}/{other} is odd.")


def run(tell: Callable[[str, Any], None], how: str, folder: Path) -> str | None:
    """Ends as it is told, leaving a file per attempt."""
    folder.mkdir(parents=True, exist_ok=True)
    attempts = len(list(folder.iterdir()))
    (folder / f"{attempts}-{os.getpid()}").touch()
    if how == "raises":
        raise ValueError(f"{folder.name} is wrong.")
    if how == "odd":
        raise Unsent("a", "x")
    if how == "stays":
        signal.pause()
    if how == "killed" or (how == "killed once" and not attempts):
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "loses its worker" and not attempts:
        (folder / "parent").write_text(str(os.getppid()))
        time.sleep(60)
    logging.getLogger("larq_nobn").warning("%d images", 7)
    tell("progress", ({"steps": 9}, "on_train_begin", ()))
    print("what libraries print")
    return "diverged" if how == "fails" else None


def where(tell: Callable[[str, Any], None]) -> str:
    return os.getcwd()


def gives_keras_nonsense(tell: Callable[[str, Any], None]) -> None:
    """Ends in an error of Keras."""
    from larq_nobn._keras import keras

    keras.optimizers.get(tell)


def trains_elsewhere(tell: Callable[[str, Any], None], *run: object) -> None:
    """Leaves nothing where it is looked for."""


class Slow:
    """What takes a minute to unpickle, as imports take seconds."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return run, (print, "stays", self._folder)
