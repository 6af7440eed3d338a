"""Reads the signs inside a network: of a Keras model, and of a converted file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from ..._keras import keras
from ...graph import calls
from .._binary import is_zero_one
from .._errors import VerificationError
from .._graph import Sign, as_functional, signs
from ..lite import Ports, Runner, inference, run, to_flatbuffer
from ..prepare import ShiftedSign
from ._agreement import SignPair

LOOK = (
    "Look for a layer whose output depends on more than its input, such as on a state "
    "or a random number."
)

# What a form of the network computes at its signs, by label.
Tap = Callable[[Sequence[np.ndarray]], dict[str, np.ndarray]]


def given_signs(model: keras.Model) -> Tap:
    """Reads where the signs of a model are +1."""
    found, inner = _inner_model(model)

    def read(examples: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        pairs = zip(found, run(inner, examples), strict=True)
        return {
            s.label: _as_given(s, np.asarray(s.quantizer(x))[..., s.channels] > 0)
            for s, x in pairs
        }

    return read


def sign_inputs(prepared: keras.Model) -> Tap:
    """Reads the numbers whose signs a prepared model takes."""
    found, inner = _inner_model(prepared)

    def read(examples: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        pairs = zip(found, run(inner, examples), strict=True)
        return {s.label: _distant(s, np.asarray(_before_sign(s, x))) for s, x in pairs}

    return read


def certain_zeros(distance: np.ndarray) -> np.ndarray:
    """How far what a rectifier made is from a change of its sign.

    Its 0 is no matter of rounding: a little more than 0 is +1 as well.
    """
    return np.where(distance == 0, max(float(np.max(distance)), 1.0), distance)


def _distant(sign: Sign, values: np.ndarray) -> np.ndarray:
    plain = getattr(sign.quantizer, "shift", None) is None
    # A little more than 0, which is noise as well, is no longer 0 for those of 0 and 1.
    plain = plain and not is_zero_one(sign.quantizer)
    if not plain or tf.nest.is_nested(sign.tensor):
        return values
    layer = sign.tensor._keras_history.layer
    kept = type(layer) is keras.layers.ReLU and not (
        layer.threshold or layer.negative_slope
    )
    last = getattr(layer, "last", getattr(layer, "activation", None))
    rectified = kept or last is keras.activations.relu
    return certain_zeros(np.abs(values)) if rectified else values


def converted_signs(prepared: keras.Model, shipped: Runner, ports: Ports) -> Tap:
    """Reads where the signs of a converted file are +1.

    LCE's interpreter shows outputs only. So the model is converted again with its signs
    appended to its outputs; taken behind the sign, they change nothing in how LCE
    fuses and packs, and the outputs proper must be those of the shipped file.
    """
    found, inner = _inner_model(prepared, with_outputs=True)
    count = len(prepared.outputs)
    tensors = [*prepared.outputs, *(sign.tensor for sign in found)]
    ends = np.cumsum([int(np.prod(tensor.shape[1:])) for tensor in tensors])

    def function(inputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        values = inference(inner)(inputs)
        bits = [s.quantizer(v) for s, v in zip(found, values[count:], strict=True)]
        rows = [tf.reshape(v, (ports.batch_size, -1)) for v in (*values[:count], *bits)]
        return [tf.concat([tf.cast(row, tf.float32) for row in rows], axis=1)]

    single = Ports(ports.inputs, ["output"])
    probe = Runner(to_flatbuffer(function, inner.variables, single))

    def read(examples: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        parts = np.split(probe.outputs(examples)[0], ends[:-1], axis=1)
        proper = [y.reshape(len(y), -1) for y in shipped.outputs(examples)]
        check_probe(parts[:count], proper, _suspects(prepared))
        bits = zip(found, parts[count:], strict=True)
        return {s.label: _as_given(s, values > 0) for s, values in bits}

    return read


def check_probe(
    parts: Sequence[np.ndarray], proper: Sequence[np.ndarray], suspects: str
) -> None:
    """Checks that a file with its signs made visible has the outputs of the other."""
    for part, output in zip(parts, proper, strict=True):
        if not np.allclose(part, output, rtol=1e-5, atol=1e-6, equal_nan=True):
            raise VerificationError(
                "The converted file and the same file with its signs made visible "
                "compute different outputs, so which sign made it differ from the "
                f"model cannot be told. {suspects} No file was written."
            )


def _suspects(prepared: keras.Model) -> str:
    """What may compute differently from one file, or one run, to the next."""
    kinds = (keras.layers.RNN, keras.layers.Bidirectional)
    found = [c.described for c in calls(prepared) if isinstance(c.layer, kinds)]
    if found:
        return (
            f"What stands in the way is the state of the recurrent layers: "
            f"{', '.join(found)}. Build them with unroll=True."
        )
    return LOOK


def sign_pairs(
    reference: Tap, other: Tap, inputs: Tap, examples: Sequence[np.ndarray]
) -> Iterator[SignPair]:
    """Yields the signs of two forms of one network in the order of the network."""
    first, second, values = reference(examples), other(examples), inputs(examples)
    for label, value in values.items():
        if label not in second:  # of what is ±1 already, where LCE needs to see a sign
            continue
        rows = [x.reshape(len(x), -1) for x in (first[label], second[label], value)]
        # What stands in front of sequences, for causal padding, the given model lacks.
        own, others, before = (x[:, -rows[1].shape[1] :] for x in rows)
        yield SignPair(label, own, others, np.abs(before))


def _inner_model(
    model: keras.Model, with_outputs: bool = False
) -> tuple[list[Sign], keras.Model]:
    functional = as_functional(model)
    found = signs(functional)
    outputs = functional.outputs if with_outputs else []
    ends = [*outputs, *(sign.tensor for sign in found)]
    return found, keras.Model(functional.inputs, ends, name="net")


def _before_sign(sign: Sign, x: tf.Tensor) -> tf.Tensor:
    plain = isinstance(sign.quantizer, ShiftedSign)
    return sign.quantizer.before(x) if plain else x


def _as_given(sign: Sign, positive: np.ndarray) -> np.ndarray:
    """Turns the signs that preparation turned back to those of the given model."""
    gain = getattr(sign.quantizer, "gain", None)
    if gain is None:
        return positive
    rows = positive.reshape(-1, len(gain)) == (gain > 0)
    return rows.reshape(positive.shape)
