"""Networks of this package as PyTorch would compute them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import larq as lq
import tensorflow as tf

from .._keras import keras
from ..graph import Call, rebuild, rerun, run_call
from ._half_turn import HalfTurn, from_the_first


def _starts_elsewhere(layer: keras.layers.Layer) -> bool:
    """Whether TensorFlow, without padding, starts where PyTorch ends on turned maps."""
    return (
        isinstance(layer, lq.layers.QuantConv2D)
        and layer.kernel_size == (1, 1)
        and layer.strides == (2, 2)
    )


def _cropped(conv: keras.layers.Layer) -> Callable[[tf.Tensor], tf.Tensor]:
    """The convolution after a crop that brings its first position to where it is."""
    return lambda x: conv(from_the_first(x, f"{conv.name}_crop"))


def as_in_pytorch(model: keras.Model, image_size: tuple[int, int]) -> keras.Model:
    """Builds a network again, padded with zeros, above and left where sizes are even.

    Arguments:
        model: One that reads its input once and ends in global pooling.
        image_size: The height and width that the new one takes. The stem of our
            builders follows from the size, that of PyTorch code does not.
    """

    def make(call: Call, tensors: dict[str, Any]) -> Any:
        changes: dict[str, Any] = {}
        if isinstance(call.layer, lq.layers.QuantConv2D):
            changes["pad_values"] = 0.0
        layer = rebuild(call.layer, name=call.name, **changes)
        again = _cropped(layer) if _starts_elsewhere(layer) else layer
        return run_call(call, again, tensors)

    image = keras.Input((*image_size, model.input_shape[-1]), name="image")
    ends = rerun(model, [HalfTurn(name="turn")(image)], make)
    return keras.Model(image, ends[0], name=model.name)
