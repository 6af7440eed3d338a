"""Runs LCE: a function in, a flatbuffer out."""

from __future__ import annotations

import logging
import os
import reprlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from ..._math import unfused
from .._errors import ConversionError
from ._ports import Function, Ports
from ._signature import in_order
from ._wide_constants import check_constants

_NO_LCE = (
    "Larq Compute Engine is not installed, and binary .tflite files need it. "
    "Install it with: pip install 'larq-nobn[lce]'"
)
# No gradient is traced for what only computes forward.
_NO_GRADIENTS = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
# What tells the converter that inputs and outputs are int8.
_INT8 = {"inference_input_type": tf.int8, "inference_output_type": tf.int8}


def read_file(
    path: str | os.PathLike, sniff: Callable[[bytes], bool] | None = None
) -> bytes:
    """Returns the content of a file.

    Arguments:
        path: Whatever was given for a path.
        sniff: Tells from the first 8 bytes whether more are wanted.

    Raises:
        ConversionError: If it is no path, or cannot be read.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise ConversionError(
            f"{reprlib.repr(path)} is not the path of a file. Pass that of a .tflite "
            "file, which larq_nobn.convert writes."
        )
    try:
        with open(path, "rb") as file:
            content = file.read(8)
            return content + file.read() if sniff is None or sniff(content) else content
    except OSError as error:
        raise ConversionError(
            f"{os.fspath(path)!r} cannot be read: {error.strerror}. Pass the path of a "
            ".tflite file."
        ) from error


def compute_engine() -> Any:
    """Imports Larq Compute Engine, which is an optional dependency."""
    try:
        with quiet():
            import larq_compute_engine
    except ImportError as error:
        raise ConversionError(_NO_LCE) from error
    return larq_compute_engine


def to_flatbuffer(
    function: Function,
    variables: Sequence[tf.Variable],
    ports: Ports,
    int8: bool = False,
) -> bytes:
    """Converts a function of tensors, and returns the content of a `.tflite` file.

    It goes through a SavedModel of this function alone: traced once, not once per
    layer, and with nothing to fall back to where LCE's own path from Keras would
    silently take another one.
    """
    engine = compute_engine()
    holder = tf.Module()
    holder.variables_ = list(variables)
    # Reads the control flow of layers as building a model does. Autograph on its own
    # would read all that is called, each quantizer again, for a third of the time.
    building = tf.__internal__.autograph.control_status_ctx()

    def traced(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        with building:
            return dict(zip(ports.outputs, function(inputs), strict=True))

    signature = tf.function(traced, autograph=False)
    with tempfile.TemporaryDirectory() as folder, quiet() as chatter:
        try:
            with unfused():
                concrete = signature.get_concrete_function(*ports.inputs)
            check_constants(concrete.graph)
            _save(holder, folder, concrete)
            types = _INT8 if int8 else {}
            return in_order(engine.convert_saved_model(folder, **types), ports)
        except (ConversionError, OSError):
            raise
        except Exception as error:  # MLIR's complaints have no common type
            raise ConversionError(
                "Larq Compute Engine could not convert the model: "
                f"{cause(error, chatter())}. Replace the layer it names."
            ) from error


def _save(holder: tf.Module, folder: str, function: Any) -> None:
    try:
        tf.saved_model.save(holder, folder, function, _NO_GRADIENTS)
    except (tf.errors.OutOfRangeError, tf.errors.ResourceExhaustedError) as error:
        # So TensorFlow names a file that grows too large, or a full device.
        raise OSError(
            f"Converting needs room for the weights in {os.path.dirname(folder)}, "
            "and there is none. Free some, or name another folder in TMPDIR."
        ) from error


def cause(error: Exception, chatter: str) -> str:
    """Returns the line that says why a native program failed."""
    lines = [*chatter.splitlines(), *str(error).splitlines(), repr(error)]
    lines = [line for line in lines if not line.lstrip().startswith("File ")]
    said = next((line for line in lines if "error" in line.lower()), repr(error))
    return said.strip().removeprefix("ERROR: ").rstrip(".")[:300]


@contextmanager
def quiet() -> Iterator[Callable[[], str]]:
    """Keeps what TensorFlow and MLIR print; yields a function that returns it."""
    logger = logging.getLogger("tensorflow")
    level = logger.level
    sys.stderr.flush()
    with tempfile.TemporaryFile() as kept:
        # MLIR writes to the process's stderr, past sys.stderr.
        stderr = os.dup(2)
        os.dup2(kept.fileno(), 2)
        logger.setLevel(logging.ERROR)

        def chatter() -> str:
            sys.stderr.flush()
            os.fsync(kept.fileno())
            kept.seek(0)
            return kept.read().decode(errors="replace")

        try:
            yield chatter
        finally:
            logger.setLevel(level)
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
