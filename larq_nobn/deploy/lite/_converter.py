"""From a function of tensors to the content of a `.tflite` file."""

from __future__ import annotations

import keyword
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from ..._keras import keras
from ..._math import unfused
from ...graph import UNWRAP
from .._errors import ConversionError
from ._engine import cause, compute_engine, quiet
from ._file import signature
from ._lce_faults import check_constants

# What LCE's interpreter takes and gives.
_TYPES = ("float32", "uint8", "int8", "int16", "int32", "int64", "bool")
# No gradient is traced for what only computes forward.
_NO_GRADIENTS = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
# What tells the converter that inputs and outputs are int8.
_INT8 = {"inference_input_type": tf.int8, "inference_output_type": tf.int8}
# Of a model that takes any number of examples, how many it is given.
_BATCH = 32

# One array or tensor per input, in the order of the Keras model; one per output.
Function = Callable[[Sequence[Any]], Sequence[Any]]


class IoSpec(NamedTuple):
    """The inputs and outputs of a file, in the order of the Keras model.

    The inputs are the shape of a batch, its type and its name; the outputs are names.
    """

    inputs: list[tf.TensorSpec]
    outputs: list[str]

    @property
    def batch_size(self) -> int:
        """How many examples the file takes at once."""
        return int(self.inputs[0].shape[0])

    def zeros(self) -> list[np.ndarray]:
        """Returns one batch that the file must be able to take."""
        return [np.zeros(i.shape, i.dtype.as_numpy_dtype) for i in self.inputs]


def io_spec(model: keras.Model, batch_size: int = 1) -> IoSpec:
    """Returns what the file of a model takes and gives.

    What there is several of has the names that Keras asks for or answers with: the keys
    of a dict, else those of the layers. What there is one of is `input` or `output`.

    Raises:
        ConversionError: If an input is of a type that LCE does not know.
    """
    for given, name in zip(model.inputs, model.input_names, strict=True):
        if given.dtype.name not in _TYPES:
            raise ConversionError(
                f"Input {name!r} of model {model.name!r} is {given.dtype.name}, but "
                f"LCE takes {', '.join(_TYPES)} only. Build the model with one of "
                "them as the dtype of keras.Input."
            )
    names = _names("input", model._nested_inputs, model.input_names)
    inputs = [
        tf.TensorSpec((batch_size, *given.shape[1:]), given.dtype, name)
        for given, name in zip(model.inputs, _identifiers(names), strict=True)
    ]
    return IoSpec(inputs, _names("output", model._nested_outputs, model.output_names))


def _names(alone: str, nested: Any, layers: Sequence[str]) -> list[str]:
    if len(layers) == 1:
        return [alone]
    keyed = isinstance(nested, dict) and len(nested) == len(layers)
    return sorted(map(str, nested)) if keyed else list(layers)


def _identifiers(names: Iterable[str]) -> list[str]:
    """Makes names what TensorFlow takes for arguments: unlike even in small letters."""
    found: list[str] = []
    for name in names:
        plain = re.sub(r"\W", "_", name, flags=re.ASCII)
        if keyword.iskeyword(plain) or not plain[:1].isalpha():
            plain = f"input_{plain}"
        taken = {other.lower() for other in found}
        tries = (f"{plain}_{count}" for count in range(1, len(found) + 2))
        found.append(next(n for n in (plain, *tries) if n.lower() not in taken))
    return found


def to_flatbuffer(
    function: Function,
    variables: Sequence[tf.Variable],
    io: IoSpec,
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
    signed = _signed(function, io)
    with tempfile.TemporaryDirectory() as folder, quiet() as chatter:
        try:
            with unfused():
                concrete = signed.get_concrete_function(*io.inputs)
            check_constants(concrete.graph)
            _save(holder, folder, concrete)
            types = _INT8 if int8 else {}
            return in_order(engine.convert_saved_model(folder, **types), io)
        except (ConversionError, OSError):
            raise
        except Exception as error:  # MLIR's complaints have no common type
            said = cause(error, chatter())
            unwrap = f", or {UNWRAP}" if "not immutable" in said else ""
            raise ConversionError(
                f"Larq Compute Engine could not convert the model: {said}. Replace the "
                f"layer it names{unwrap}."
            ) from error


def to_float_flatbuffer(model: keras.Model, io: IoSpec) -> bytes:
    """Converts a model with TensorFlow's own converter, without binary operations."""
    signed = _signed(inference(model), io)
    with quiet() as chatter:
        try:
            concrete = signed.get_concrete_function(*io.inputs)
            converter = tf.lite.TFLiteConverter.from_concrete_functions(
                [concrete], model
            )
            return in_order(converter.convert(), io)
        except Exception as error:  # MLIR's complaints have no common type
            raise ConversionError(
                "TensorFlow's converter could not convert the model: "
                f"{cause(error, chatter())}. Replace the layer it names."
            ) from error


def _signed(function: Function, io: IoSpec) -> Any:
    """Returns the function with the names of a file's outputs, yet to be traced."""
    # Reads the control flow of layers as building a model does. Autograph on its own
    # would read all that is called, each quantizer again, for a third of the time.
    building = tf.__internal__.autograph.control_status_ctx()

    def traced(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        with building:
            return dict(zip(io.outputs, function(inputs), strict=True))

    return tf.function(traced, autograph=False)


def _save(holder: tf.Module, folder: str, function: Any) -> None:
    try:
        tf.saved_model.save(holder, folder, function, _NO_GRADIENTS)
    except (tf.errors.OutOfRangeError, tf.errors.ResourceExhaustedError) as error:
        # So TensorFlow names a file that grows too large, or a full device.
        raise OSError(
            f"Converting needs room for the weights in {os.path.dirname(folder)}, "
            "and there is none. Free some, or name another folder in TMPDIR."
        ) from error


def in_order(content: bytes, io: IoSpec) -> bytes:
    """Puts inputs and outputs in the order of the model; LCE's depends on chance.

    Only the signature of a file tells which is which, and not every program that runs
    files reads that.
    """
    buffer = bytearray(content)
    graph, inputs, outputs = signature(buffer)
    # These arrays are views of the buffer: its bytes change, and nothing moves.
    graph.inputs[:] = [inputs[spec.name] for spec in io.inputs]
    graph.outputs[:] = [outputs[name] for name in io.outputs]
    return bytes(buffer)


def inference(model: keras.Model) -> Function:
    """Returns the model's inference function, from a list and to a list of tensors."""

    def function(inputs: Sequence[Any]) -> list[Any]:
        packed = tf.nest.pack_sequence_as(model._nested_inputs, list(inputs))
        return tf.nest.flatten(model(packed, training=False))

    return function


def in_batches(
    function: Function, examples: Sequence[np.ndarray], size: int
) -> list[np.ndarray]:
    """Applies a function to all examples, in batches of one size.

    The last batch is filled up with its last example, whose results are cut off again:
    there are models and files that take no other number.
    """
    found = []
    for start in range(0, len(examples[0]), size):
        parts = [array[start : start + size] for array in examples]
        missing = size - len(parts[0])
        if missing:
            parts = [np.concatenate([p, p[-1:].repeat(missing, 0)]) for p in parts]
        results = [np.atleast_1d(result) for result in function(parts)]
        found.append([r[:-missing] if missing else r for r in results])
    return [np.concatenate(results) for results in zip(*found, strict=True)]


def run(model: keras.Model, examples: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Applies a model to all examples, in batches of the size that it was built for."""
    return in_batches(inference(model), examples, batch_of(model, examples))


def batch_of(model: keras.Model, examples: Sequence[np.ndarray]) -> int:
    """Returns how many of these examples a model is given at once."""
    sizes = [given.shape[0] for given in model.inputs]
    return next(filter(None, sizes), min(_BATCH, len(examples[0])))
