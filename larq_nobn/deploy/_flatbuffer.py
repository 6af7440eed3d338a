"""Runs LCE: a function in, a flatbuffer out, and its interpreter."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf

from .._math import unfused
from ._card import TensorInfo
from ._errors import ConversionError
from ._ports import Function, Ports, in_batches
from ._signature import in_order, port_names
from ._wide_constants import check_constants

_NO_LCE = (
    "Larq Compute Engine is not installed, and converting needs it. "
    "Run: pip install larq-nobn[lce]"
)
# What tells the converter that inputs and outputs are int8.
_INT8 = {"inference_input_type": tf.int8, "inference_output_type": tf.int8}


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
    signature = tf.function(
        lambda *inputs: dict(zip(ports.outputs, function(inputs), strict=True))
    )
    with tempfile.TemporaryDirectory() as folder, quiet() as chatter:
        try:
            with unfused():
                concrete = signature.get_concrete_function(*ports.inputs)
            check_constants(concrete.graph)
            tf.saved_model.save(holder, folder, signatures=concrete)
            types = _INT8 if int8 else {}
            return in_order(engine.convert_saved_model(folder, **types), ports)
        except ConversionError:
            raise
        except Exception as error:  # MLIR's complaints have no common type
            raise ConversionError(
                "Larq Compute Engine could not convert the model: "
                f"{_cause(error, chatter())}. Replace the layer it names."
            ) from error


class Runner:
    """Runs the content of a `.tflite` file in LCE's interpreter.

    A file of this package takes inputs and gives outputs in the order of the Keras
    model that it was made from; of other files, the order is that in the file.

    Arguments:
        flatbuffer: The content of the file.

    Attributes:
        input_names: What the file calls its inputs, in their order.
        output_names: The same for its outputs.
        input_tensors: Shape, type and, where they are int8, scale of the inputs.
        output_tensors: The same for its outputs.

    Raises:
        ConversionError: If the interpreter cannot run it, or LCE is not installed.

    Example:
        ```python
        import numpy as np
        import larq_nobn as nobn

        model = nobn.models.ReActNet18((32, 32, 3), 10, width=16)
        nobn.convert(model, "model.tflite")
        with open("model.tflite", "rb") as file:
            run = nobn.deploy.Runner(file.read())
        logits = run(np.zeros((5, 32, 32, 3), np.float32))  # (5, 10)
        ```
    """

    def __init__(self, flatbuffer: bytes):
        engine = compute_engine()
        with quiet() as chatter:
            try:
                self._interpreter = engine.testing.Interpreter(
                    flatbuffer, num_threads=os.cpu_count() or 1
                )
            except Exception as error:  # the wrapper raises RuntimeError and others
                raise ConversionError(
                    "Larq Compute Engine's interpreter cannot run the file: "
                    f"{_cause(error, chatter())}. Replace what it names; behind a "
                    "binary convolution, constants must have rank 0 or 1."
                ) from error
        self.input_names, self.output_names = port_names(flatbuffer)
        inner = self._interpreter
        self.input_tensors = _tensors(
            self.input_names,
            inner.input_shapes,
            inner.input_types,
            inner.input_scales,
            inner.input_zero_points,
        )
        self.output_tensors = _tensors(
            self.output_names,
            inner.output_shapes,
            inner.output_types,
            inner.output_scales,
            inner.output_zero_points,
        )

    @property
    def batch_size(self) -> int:
        """How many examples the file takes at once; others it gets in batches."""
        sizes = {shape[0] if shape else 0 for shape in self._interpreter.input_shapes}
        if len(sizes) != 1 or 0 in sizes:
            raise ConversionError(
                f"The file takes inputs of shapes {self._interpreter.input_shapes}, "
                "which have no batch axis in common. Convert a model whose inputs "
                "hold examples along the first axis."
            )
        return int(sizes.pop())

    def __call__(
        self, examples: np.ndarray | Sequence[np.ndarray]
    ) -> np.ndarray | list[np.ndarray]:
        """Returns the outputs for any number of examples.

        Arguments:
            examples: (examples, ...), or a list of such arrays, one for each input.
                An int8 file gets them rounded.

        Returns:
            An array, or a list of arrays if the file has several outputs. What is int8
            in the file comes as the float32 numbers that it stands for.
        """
        if isinstance(examples, np.ndarray):
            examples = [examples]
        found = self.outputs(examples)
        return found[0] if len(found) == 1 else found

    def outputs(self, examples: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Returns the same, as lists even where there is only one array."""
        predict = self._interpreter.interpreter.predict
        taken = [
            array if tensor.scale is None else tensor.encode(array)
            for tensor, array in zip(self.input_tensors, examples, strict=True)
        ]
        size = self.batch_size
        try:
            found = in_batches(predict, taken, size)
        except (RuntimeError, ValueError, MemoryError) as error:
            raise ConversionError(
                f"The file cannot be run on these inputs: {_cause(error, '')}. Pass "
                "arrays of the shapes and types that it takes."
            ) from error
        return [
            array if tensor.scale is None else tensor.decode(array)
            for tensor, array in zip(self.output_tensors, found, strict=True)
        ]


def _tensors(*columns: Sequence[Any]) -> list[TensorInfo]:
    rows = zip(*columns, strict=True)
    return [
        TensorInfo(name, tuple(shape), np.dtype(kind).name, scale, zero_point)
        for name, shape, kind, scale, zero_point in rows
    ]


def _cause(error: Exception, chatter: str) -> str:
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
