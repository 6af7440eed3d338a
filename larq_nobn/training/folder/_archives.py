"""The files of checkpoints: their names, and their content, atomically."""

from __future__ import annotations

import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..._errors import InvalidValue
from ..._files import read_arrays, replacing

_NAME = re.compile(r"epoch-\d+(-step-\d+)?\.npz")
_DIGEST_SIZE = hashlib.sha256().digest_size


class Position(NamedTuple):
    """How far a training is: so many epochs, and so many steps of the next one."""

    epochs: int
    steps: int

    def __str__(self) -> str:
        """Names what came last: `"epoch 3"`, or `"step 20 of epoch 4"`."""
        if not self.steps:
            return f"epoch {self.epochs}"
        return f"step {self.steps} of epoch {self.epochs + 1}"


START = Position(0, 0)


def checkpoints_in(folder: Path) -> list[Path]:
    """The checkpoint files of a folder, whole or not; the newest first."""
    files = filter(is_checkpoint, folder.iterdir() if folder.is_dir() else ())
    return sorted(files, key=position_of, reverse=True)


def is_checkpoint(file: Path) -> bool:
    """Whether a file is called as a checkpoint is."""
    return _NAME.fullmatch(file.name) is not None


def position_of(checkpoint: Path) -> Position:
    """Where a checkpoint was written, by the name of the file."""
    epochs, *steps = map(int, checkpoint.stem.split("-")[1::2])
    return Position(epochs, *steps or [0])


def name_of(position: Position) -> str:
    """The name of the checkpoint that is written there."""
    steps = f"-step-{position.steps:07}" if position.steps else ""
    return f"epoch-{position.epochs:04}{steps}.npz"


def write(target: Path, header: dict[str, Any], values: list[np.ndarray]) -> None:
    """A NumPy archive with a digest after it, which NumPy passes over."""
    buffer = io.BytesIO()
    text = np.frombuffer(json.dumps(header).encode(), np.uint8)
    np.savez(buffer, header=text, **{str(i): value for i, value in enumerate(values)})
    content = buffer.getbuffer()
    with replacing(target) as temporary, temporary.open("wb") as stream:
        stream.write(content)
        stream.write(hashlib.sha256(content).digest())


def read(file: Path) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Reads what `write` wrote.

    Raises:
        ValueError: If a single bit is not as it was written.
    """
    whole = memoryview(file.read_bytes())
    content, digest = whole[:-_DIGEST_SIZE], whole[-_DIGEST_SIZE:]
    if hashlib.sha256(content).digest() != digest:
        raise InvalidValue("it is torn or damaged")
    try:
        arrays = read_arrays(content)
        header = json.loads(arrays.pop("header", np.zeros(0, np.uint8)).tobytes())
    except ValueError as error:
        raise InvalidValue(f"it is not a checkpoint: {error}") from error
    return header, [arrays[str(number)] for number in range(len(arrays))]
