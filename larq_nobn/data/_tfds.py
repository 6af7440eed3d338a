"""What this package asks of TensorFlow Datasets (TFDS)."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf

from .._errors import InvalidValue, needing
from .._files import check_folder, files_below
from .._names import TFDS_PREFIX

DataDir = str | os.PathLike[str] | None


def open_builder(name: str, data_dir: DataDir) -> Any:
    """Returns the TFDS builder of a data set, prepared or not.

    Raises:
        ImportError: If TFDS is not installed.
        ValueError: If it has no such data set, or would run code from elsewhere.
    """
    name = {"imagenet": "imagenet2012"}.get(name, name.removeprefix(TFDS_PREFIX))
    _check_code(name, data_dir)
    with needing(f"{name} needs TensorFlow Datasets", "data"):
        import tensorflow_datasets as tfds
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()  # a log would hold every step of it
    try:
        with quiet():
            return tfds.builder(name, data_dir=data_dir)
    except (tfds.core.DatasetNotFoundError, ValueError) as problem:
        raise InvalidValue(
            f"TensorFlow Datasets has no set {name!r} "
            f"({str(problem).strip().partition(chr(10))[0]}). Choose one that "
            "tfds.list_builders() names."
        ) from problem


def _check_code(name: str, data_dir: DataDir) -> None:
    """The name and the folder may be those of a stranger's run.

    For names with a colon, TFDS downloads Python code and runs it; of the features of
    a prepared set, it imports whatever module their classes are said to be in.
    """
    if ":" in name:
        raise InvalidValue(
            f"{TFDS_PREFIX}{name} is a set of a community, whose code TensorFlow "
            "Datasets downloads and runs, or of a version. Leave the version out, or "
            "open the set in Python, and give train its images as data."
        )
    set_name = name.partition("/")[0]
    # Another case is looked for under another name, and a path outside the folder.
    if not re.fullmatch("[a-z0-9_]*", set_name):
        raise InvalidValue(
            f"{TFDS_PREFIX}{name} is not a name of TensorFlow Datasets, which are in "
            "lower case. Choose one that tfds.list_builders() names."
        )
    if data_dir is None:  # that of the user
        return
    place = Path(os.path.expanduser(data_dir), set_name)
    for file in files_below(place) if place.is_dir() else ():
        if file.name == "features.json":
            check = functools.partial(_check_feature, file)
            json.loads(file.read_bytes(), object_hook=check)


def _check_feature(file: Path, part: dict[str, Any]) -> None:
    """Raises ValueError for a feature of a class that TFDS would have to import."""
    for key in ("pythonClassName", "python_class_name"):
        name = str(part.get(key, "tensorflow_datasets."))
        if not name.startswith("tensorflow_datasets."):
            raise InvalidValue(
                f"{file} wants {name!r}, which is not a class of TensorFlow Datasets "
                "and is not imported for it. Prepare the set again."
            )


def is_prepared(builder: Any) -> bool:
    """Whether the data set of this builder is on disk, complete."""
    with quiet():
        return builder.is_prepared()


def check_prepared(name: str, builder: Any, data_dir: DataDir) -> None:
    """Raises FileNotFoundError for what is not, and says which command prepares it."""
    if not is_prepared(builder):
        check_folder(builder.data_dir_root, "a data set")
        source = " --from FOLDER" if name == "imagenet" else ""
        place = "" if data_dir is None else f" --data-dir {os.fspath(data_dir)}"
        raise FileNotFoundError(
            f"{name} is not prepared in {builder.data_dir_root}. Run: "
            f"larq-nobn data {name}{source}{place}"
        )


def prepared_builder(name: str, data_dir: DataDir) -> Any:
    """Returns the builder of a data set on disk; else says how to prepare it."""
    builder = open_builder(name, data_dir)
    check_prepared(name, builder, data_dir)
    return builder


@contextlib.contextmanager
def reading_records(name: str, folder: str | os.PathLike[str]) -> Iterator[None]:
    """Says in a sentence that records are not what their description says."""
    from google.protobuf.message import DecodeError

    try:
        yield
    except (tf.errors.OpError, DecodeError, OSError, ValueError) as problem:
        raise InvalidValue(
            f"{name} in {os.fspath(folder)} is damaged: its records are not what "
            f"dataset_info.json and features.json say ({type(problem).__name__}). "
            "Delete the folder of the set and prepare it again."
        ) from problem


def check_labels(labels: Any, classes: int) -> None:
    """Raises what `reading_records` says in words for labels of no class."""
    if len(labels) and not 0 <= min(labels) <= max(labels) < classes:
        raise InvalidValue(f"labels go from {min(labels)} to {max(labels)}")


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
