"""Reads the signs inside a network: of a Keras model, and of a converted file."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from .._keras import keras
from ._agreement import SignPair
from ._errors import VerificationError
from ._flatbuffer import Runner, input_spec, to_flatbuffer
from ._graph import Sign, as_functional, signs
from ._inference import ShiftedSign

# What a form of the network computes at its signs, by label.
Tap = Callable[[np.ndarray], dict[str, np.ndarray]]


def given_signs(model: keras.Model) -> Tap:
    """Reads where the signs of a model are +1."""
    found, inner = _inner_model(model)

    def read(examples: np.ndarray) -> dict[str, np.ndarray]:
        values = tf.nest.flatten(inner(examples, training=False))
        pairs = zip(found, values, strict=True)
        return {s.label: np.asarray(s.quantizer(x)) > 0 for s, x in pairs}

    return read


def sign_inputs(prepared: keras.Model) -> Tap:
    """Reads the numbers whose signs a prepared model takes."""
    found, inner = _inner_model(prepared)

    def read(examples: np.ndarray) -> dict[str, np.ndarray]:
        values = tf.nest.flatten(inner(examples, training=False))
        pairs = zip(found, values, strict=True)
        return {s.label: np.asarray(_before_sign(s, x)) for s, x in pairs}

    return read


def converted_signs(prepared: keras.Model, shipped: Runner) -> Tap:
    """Reads where the signs of a converted file are +1.

    LCE's interpreter shows outputs only. So the model is converted again with its signs
    appended to its output; taken behind the sign, they change nothing in how LCE
    fuses and packs, and the outputs proper must be those of the shipped file.
    """
    found, inner = _inner_model(prepared, with_output=True)
    sizes = [int(np.prod(prepared.output.shape[1:]))]
    sizes += [int(np.prod(sign.tensor.shape[1:])) for sign in found]

    def function(x: tf.Tensor) -> tf.Tensor:
        output, *values = tf.nest.flatten(inner(x, training=False))
        bits = [s.quantizer(v) for s, v in zip(found, values, strict=True)]
        return tf.concat([tf.reshape(t, (1, -1)) for t in (output, *bits)], axis=1)

    probe = Runner(to_flatbuffer(function, inner.variables, input_spec(prepared)))

    def read(examples: np.ndarray) -> dict[str, np.ndarray]:
        parts = np.split(probe(examples), np.cumsum(sizes)[:-1], axis=1)
        outputs = shipped(examples).reshape(len(examples), -1)
        if not np.allclose(parts[0], outputs, rtol=1e-5, atol=1e-6, equal_nan=True):
            raise VerificationError(
                "The converted file and the same file with its signs made visible "
                "compute different outputs, so its differences cannot be explained. "
                "No file was written."
            )
        labels = (sign.label for sign in found)
        return {s: bits > 0 for s, bits in zip(labels, parts[1:], strict=True)}

    return read


def sign_pairs(
    reference: Tap, other: Tap, inputs: Tap, examples: np.ndarray
) -> Iterator[SignPair]:
    """Yields the signs of two forms of one network in the order of the network."""
    first, second, values = reference(examples), other(examples), inputs(examples)
    for label, value in values.items():
        shape = (len(examples), -1)
        yield SignPair(
            label,
            first[label].reshape(shape),
            second[label].reshape(shape),
            np.abs(value).reshape(shape),
        )


def _inner_model(
    model: keras.Model, with_output: bool = False
) -> tuple[list[Sign], keras.Model]:
    functional = as_functional(model)
    found = signs(functional)
    outputs = [sign.tensor for sign in found]
    if with_output:
        outputs = [functional.output, *outputs]
    return found, keras.Model(functional.input, outputs, name="net")


def _before_sign(sign: Sign, x: tf.Tensor) -> tf.Tensor:
    plain = isinstance(sign.quantizer, ShiftedSign)
    return sign.quantizer.shifted(x) if plain else x
