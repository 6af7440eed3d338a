"""Puts the simulation of int8 feature maps into a model."""

from __future__ import annotations

from typing import Any

import larq as lq
import numpy as np
import tensorflow as tf

from ..._batches import model_batches
from ..._keras import keras
from ...graph import (
    Call,
    ModelError,
    calls,
    check_inference,
    check_same_function,
    flat,
    flat_copy,
    replace_layers,
)
from ...layers import FakeQuantization
from .._errors import ConversionError
from ._places import Places
from ._split import split_shifts

_BATCH = 32


def fake_quantize(model: keras.Model, data: Any, verify: bool = True) -> keras.Model:
    """Returns a copy of a model that computes as its int8 file will, and still trains.

    A `FakeQuantization` stands behind the input and behind every feature map that the
    file holds as int8, with the range that the map has on the data; maps that a file
    can hold only in one range, such as those of a concatenation, share a layer. The
    shifts of `RSign` and `RPReLU` become layers of their own, since their sums need
    ranges too. Binary convolutions stay as they are. Train the copy for a few epochs at
    a small learning rate, and pass it to `convert` with `int8=True`.

    Arguments:
        model: A trained functional or Sequential model; it is not changed.
        data: Examples that show the ranges: an array, `(x, y)` or a tf.data dataset of
            batches. Some hundred are enough.
        verify: Whether to compare both models, without rounding to int8, on a few
            made-up examples, segment by segment.

    Returns:
        A functional model with the inputs and outputs of the given one.

    Raises:
        ConversionError: If the model holds a `FakeQuantization` already, a Lambda or
            another part that cannot be taken apart, or if the data does not fit. Also
            if the copy computes something else, with the layer.

    Example:
        ```python
        import numpy as np
        import larq_nobn as nobn

        model = nobn.models.ReActNet18((32, 32, 3), 10, width=16, blocks=(1, 1))
        images = np.random.default_rng(0).normal(size=(64, 32, 32, 3))
        quantized = nobn.deploy.fake_quantize(model, images)
        nobn.convert(quantized, "model.tflite", int8=True)
        ```

    References:
        - B. Jacob, S. Kligys, B. Chen, M. Zhu, M. Tang, A. Howard, H. Adam,
          D. Kalenichenko, "Quantization and Training of Neural Networks for Efficient
          Integer-Arithmetic-Only Inference", CVPR 2018, arXiv:1712.05877.
    """
    try:
        with lq.context.quantized_scope(False):
            copy = flat_copy(_with_input_ranges(model))
            check_inference(copy)
            copy = split_shifts(copy)
        _check_functions(copy)
        if len(_ranges(copy)) > len(copy.inputs):
            raise ConversionError(
                f"Model {model.name!r} holds FakeQuantization layers already. Train it "
                "on and convert it, or give the model without them."
            )
        with lq.context.quantized_scope(False):
            quantized = _with_ranges(copy)
        _calibrate(quantized, data)
        if verify:
            what = "Making ranges visible"
            skipped = (FakeQuantization,)
            check_same_function(flat(model), quantized, what, skipped=skipped)
    except ConversionError:
        raise
    except (ModelError, ValueError) as error:
        raise ConversionError(str(error)) from error
    return quantized


def _with_input_ranges(model: Any) -> keras.Model:
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        return model  # flat_copy says what is wrong with it
    starts, ranged = [], []
    for given, name in zip(model.inputs, model.input_names, strict=True):
        start = keras.Input(batch_shape=given.shape, dtype=given.dtype, name=name)
        starts.append(start)
        layer = FakeQuantization(name=f"{name}_range")
        ranged.append(layer(start) if given.dtype.is_floating else start)
    packed, outer = (
        tf.nest.pack_sequence_as(model._nested_inputs, x) for x in (ranged, starts)
    )
    return keras.Model(outer, model(packed), name=model.name)


def _check_functions(model: keras.Model) -> None:
    found = [x.name for x in model.layers if isinstance(x, keras.layers.Lambda)]
    if found:
        raise ConversionError(
            f"The Lambda {', '.join(map(repr, found))} of model {model.name!r} hides "
            "feature maps whose ranges an int8 file needs. Write it as layers."
        )


def _with_ranges(model: keras.Model) -> keras.Model:
    groups = Places(model).groups
    layers: dict[str, FakeQuantization] = {}

    def insert(call: Call) -> Any:
        layer = call.layer
        if call.name not in groups:
            return layer
        name = groups[call.name]
        if name not in layers:
            given = model.get_layer(name)
            new = FakeQuantization(name=f"{name}_range")
            layers[name] = given if isinstance(given, FakeQuantization) else new
        behind = layers[name]
        if isinstance(layer, FakeQuantization):
            return behind
        return lambda *args, **kwargs: behind(layer(*args, **kwargs))

    return replace_layers(model, insert)


def _ranges(model: keras.Model) -> list[Call]:
    return [c for c in calls(model) if isinstance(c.layer, FakeQuantization)]


def _calibrate(model: keras.Model, data: Any) -> None:
    """Sets every range to the extremes of what the model computes without rounding."""
    found = _ranges(model)
    inner = keras.Model(model.inputs, [call.first_input for call in found])
    least, most = np.zeros(len(found)), np.zeros(len(found))
    for inputs, _ in model_batches(model, data, _BATCH):
        values = tf.nest.flatten(inner(inputs, training=False))
        least = np.minimum(least, [tf.reduce_min(x).numpy() for x in values])
        most = np.maximum(most, [tf.reduce_max(x).numpy() for x in values])
    for name in dict.fromkeys(call.name for call in found):
        uses = [i for i, call in enumerate(found) if call.name == name]
        low, high = least[uses].min(), most[uses].max()
        if not np.isfinite(low + high):
            raise ConversionError(
                f"Model {model.name!r} computes values that are not finite in front of "
                f"layer {name!r}. Look for NaN in its weights, or pass other data."
            )
        # A map that is all zero on the data has some range all the same.
        found[uses[0]].layer.set_range(low, high if high > low else 1.0)
