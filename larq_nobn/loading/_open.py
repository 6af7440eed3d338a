"""Opens models without running code from their files."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import tensorflow as tf

from .._checks import check_flag, check_path
from .._errors import InvalidValue
from .._keras import keras, keras_3
from .._larq import without_starvation_warning
from .._messages import first_line
from .._names import find_pretrained
from ..graph import _errors, _operation
from ..models import open_pretrained
from ._configuration import SUFFIXES, check_model_file
from ._dataset_info import describe, read_dataset
from ._keras_3 import check_keras_3, is_of_keras_3


def open_model(
    path: str | os.PathLike, compile: bool = False, trust: bool = False
) -> keras.Model:
    """Opens a model from a file or a run folder, without running code from it.

    A file that Keras 3 wrote is opened by Keras 3, for `deploy`, `evaluate` and `init`.
    A file may name layers, losses and other objects of Keras, Larq and this package,
    objects that are registered with Keras in this process, and tensor operations that
    are known to be harmless. A file with other names is rejected before any object is
    built.

    Arguments:
        path: A `.keras` file, a whole model in an `.h5` file, a run folder, a packed
            network (`.npz`), or a name of `models.pretrained()`; with `trust`, also the
            folder of a SavedModel.
        compile: Whether to restore loss, metrics and optimizer as well.
        trust: Whether to open the file as Keras does, which runs the code in it. Use it
            only for files of your own.

    Returns:
        The model.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not a Keras model, is damaged, contains code, or
            names unknown objects.

    Example:
        ```python
        model = nobn.training.open_model("runs/digits/model.keras")
        ```
    """
    file, library, check = Path(check_path("path", path)), keras, None
    check_flag("trust", trust)
    if not file.is_dir() and find_pretrained(file) is not None:
        return open_pretrained(file)[0]
    if is_saved_model(file):
        if not trust:
            raise InvalidValue(
                f"{file} is a SavedModel, which is a program and can do what any "
                "program can. Save the model as a .keras file, or pass trust=True "
                "(--trust) for a folder of your own."
            )
    else:
        file = _file_of(file)
        if is_of_keras_3(file):
            library, check = keras_3(), check_keras_3
        if not trust:
            check_model_file(file, check)
    try:
        with without_starvation_warning():
            opening: Any = library.models.load_model
            model = opening(file, compile=compile, safe_mode=not trust)
            if isinstance(model, keras.Model):
                # Keras does this only for some layers and formats.
                _operation.finalize(model)
    except (MemoryError, tf.errors.ResourceExhaustedError):
        raise
    except Exception as error:  # Keras, or a class of the user, may raise anything
        if internal := _errors.internal_error(f"Opening {file}", error):
            raise internal from error
        reason = first_line(error)
        if trust:  # otherwise unknown classes were rejected before
            reason = f"{reason.rstrip('.')}. Own classes must be registered (--import)."
        raise InvalidValue(
            f"{file} cannot be opened as a Keras model: {reason}"
        ) from error
    if not isinstance(model, library.Model):
        raise InvalidValue(
            f"{file} contains a {type(model).__name__}, which is not a Keras model. "
            "Save the model that it is part of."
        )
    with suppress(ValueError):  # others report a damaged description
        if not file.is_dir() and (info := read_dataset(file)) is not None:
            describe(model, info)
    return model


def open_path(given: Any) -> Any:
    """Opens the model file, or run, at a path; returns all else as it is."""
    is_path = isinstance(given, (str, os.PathLike))
    return open_model(given) if is_path and not is_saved_model(Path(given)) else given


def is_saved_model(path: Path) -> bool:
    """Tells whether a path is the readable folder of a SavedModel."""
    return os.path.isfile(path / "saved_model.pb")  # Path.is_file raises if unreadable


def _file_of(path: Path) -> Path:
    """Returns the model file of a run folder, or the file itself, if it can be one."""
    file = path
    if file.is_dir():
        file = file / "model.keras"
        if not file.exists():
            raise FileNotFoundError(
                f"{path} contains no model.keras, so it is not a finished run. "
                "Give the --output folder of a training run."
            )
    if not file.exists():
        raise FileNotFoundError(
            f"{file} does not exist. Give a run folder, a .keras or .h5 file, or the "
            "name of a trained network (larq-nobn models)."
        )
    if not file.is_file():
        raise InvalidValue(
            f"{file} is not a regular file. Give a run folder, or a .keras or .h5 file."
        )
    if file.suffix not in SUFFIXES:
        raise InvalidValue(
            f"{file} is not a .keras file or .h5 file. Give a run folder, or a file "
            "that Keras saved with one of these endings."
        )
    return file
