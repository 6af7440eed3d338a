"""Lists the binary layers of a model, and rejects layers that cannot be converted."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from .._keras import keras
from ..graph import _models
from ._binary_layers import FEW_BITS, bits_of_layer
from ._errors import ConversionError
from ._opening import in_float32, opened, with_known_sizes
from .lite._converter import io_spec
from .operations import stages_of
from .trace._operation_names import layer_name, layers_by_name
from .trace._trace import Trace


def binary_layers(model: keras.Model) -> list[str]:
    """Lists the binary convolutions that a converted model should contain.

    Arguments:
        model: A built Larq model.

    Returns:
        The names of convolutions and dense layers whose input and kernel both have two
        values (up to a scale per output channel), in the order of the network. A name
        appears once for every use, and for every group of a convolution in groups.

    Raises:
        ConversionError: If `model` is not a built model, or cannot be traced.

    Example:
        ```python
        import larq_nobn as nobn

        model = nobn.models.ReActNet18((32, 32, 3), 10, width=16)
        len(nobn.deploy.binary_layers(model))  # 16
        ```
    """
    given, _ = opened(with_known_sizes(model, None, None))
    io = io_spec(given)
    stages = stages_of(Trace(in_float32(given), io), "lce")
    return [*map(layer_name, stages.binary)]


def check_model(model: keras.Model) -> None:
    """Rejects layers that would be converted wrongly or not at all, naming them."""
    if getattr(model, "_is_graph_network", False):
        _models.check_inference(model)
    for layer in layers_by_name(model).values():
        label, kind = repr(layer.name), type(layer).__name__
        if isinstance(layer, keras.Model):
            continue
        for weight in layer.weights:
            floats = tf.as_dtype(weight.dtype).is_floating
            if floats and np.isnan(tf.cast(weight, tf.float32)).any():
                raise ConversionError(
                    f"Weight {weight.name!r} of layer {label} contains NaN: training "
                    "diverged. Convert an earlier state of the model."
                )
        if getattr(layer, "stateful", False) and isinstance(layer, keras.layers.RNN):
            raise ConversionError(
                f"The recurrent layer {label} ({kind}) has stateful=True: it resumes "
                "where the previous call ended, while a file starts over in every run. "
                "Build it with stateful=False, and pass it whole sequences."
            )
        first = getattr(layer, "data_format", None) == "channels_first"
        if first and bits_of_layer(layer) < FEW_BITS:
            raise ConversionError(
                f"Layer {label} has data_format='channels_first', but LCE knows only "
                "'channels_last'. Build the model with that."
            )
