"""Binary convolutions padded with ones in the place of zeros."""

from __future__ import annotations

import numpy as np

from .._keras import keras
from ..graph import _copies, _kinds, _models, _operation, _signs


def pad_with_ones(model: keras.Model) -> keras.Model:
    """Returns a copy whose zero-padded binary convolutions are padded with ones.

    At the border of a map a kernel then meets +1 where it met 0, which is neither of
    the values that it meets inside: the copy computes something else there, and needs
    fine-tuning. In return, TFLite models of it are right on maps smaller than a kernel
    without an operation more, and bits can pass from one binary convolution to the
    next.

    Arguments:
        model: A built functional or Sequential model, models inside it included. It is
            not changed.

    Returns:
        A functional model of the same name, inputs and outputs, not compiled.

    Raises:
        ModelError: For a subclassed model inside, or a layer that cannot be made again
            from its configuration.

    Example:
        ```python
        import larq_nobn as nobn
        import larq as lq
        import tensorflow as tf

        signs = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign"}
        conv = lq.layers.QuantConv2D(32, 3, padding="same", **signs)
        model = tf.keras.Sequential([tf.keras.Input((8, 8, 32)), conv])
        padded = nobn.pad_with_ones(model)
        padded.layers[-1].pad_values  # 1.0
        ```
    """
    graph = _models.from_keras(model)
    for call in graph.calls:
        operation = call.operation
        if _signs.is_binary_convolution(call) and _is_zero_padded(operation):
            # This class takes the same arguments and `pad_values`.
            kind = _kinds.traits(operation.kind).quantized or operation.kind
            ones = operation.replaced(arguments={"pad_values": 1.0}, kind=kind)
            graph = graph.with_operation(ones)
    copy = _copies.to_keras(graph)
    return _models.model_like(model, copy.inputs, copy.outputs)


def _is_zero_padded(operation: _operation.Operation) -> bool:
    """Tells whether a kernel meets zeros beyond the border of a map."""
    inside = operation.argument("padding") == "valid"
    if inside or np.max(operation.argument("kernel_size")) == 1:
        return False
    return keras.backend.get_value(operation.argument("pad_values", 0.0)) == 0
