"""What this package asks of TensorFlow Datasets (TFDS)."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from typing import Any

from ._registry import NAMES

DataDir = str | os.PathLike[str] | None

TFDS_NAMES = {
    **{name: name for name in NAMES if name != "digits"},
    "imagenet": "imagenet2012",
}


def open_builder(name: str, data_dir: DataDir) -> Any:
    """Returns the TFDS builder of a data set, prepared or not.

    Raises:
        ImportError: If TFDS is not installed.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as problem:
        raise ImportError(
            f"{name} needs TensorFlow Datasets ({problem}). Install it with: "
            "pip install 'larq-nobn[data]'"
        ) from problem
    with quiet():
        return tfds.builder(TFDS_NAMES[name], data_dir=data_dir)


def prepared_builder(name: str, data_dir: DataDir) -> Any:
    """Returns the TFDS builder of a data set that is on disk.

    Raises:
        FileNotFoundError: If it is not; says which command prepares it.
    """
    builder = open_builder(name, data_dir)
    if not builder.is_prepared():
        command = f"larq-nobn data {name}"
        if name == "imagenet":
            command += " --from FOLDER"
        if data_dir is not None:
            command += f" --data-dir {os.fspath(data_dir)}"
        raise FileNotFoundError(
            f"{name} is not prepared in {builder.data_dir_root}. Run: {command}"
        )
    return builder


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Mutes TFDS' remarks; errors and progress bars stay."""
    from absl import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)
