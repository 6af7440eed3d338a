from __future__ import annotations

from typing import Any

import tensorflow as tf

from .._checks import check_channels
from .._errors import InvalidValue
from .._keras import Configured, keras
from .._math import at_least_float32, fused


@fused
def affine(x: tf.Tensor, factor: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
    """Computes factor·x + offset, in float32 or better."""
    return tf.cast(at_least_float32(x) * factor + offset, x.dtype)


class SameShape(Configured, keras.layers.Layer):
    """Abstract base of layers whose output has the shape of the input."""

    def compute_output_shape(self, input_shape: Any) -> tf.TensorShape:
        return tf.TensorShape(input_shape)


class ChannelwiseLayer(SameShape):
    r"""Abstract base of layers with weights per channel that keep the input's shape.

    \[ y_{n,\dots,c} = f_{w_c}(x)_{n,\dots,c} , \]

    with weights \(w\) that stay float32 in mixed precision. A class of your own adds
    them in `build` by `add_channel_weight`, computes f in `call`, and names its further
    arguments, which are attributes too, in `_in_config`, such as `"epsilon"`; they are
    then part of the configuration. Weights that it names in `_tunable`, such as
    `"gamma"`, have the arguments `gamma_initializer`, `gamma_regularizer` and
    `gamma_constraint`. Keras masks are passed on. At inference: **kept**,
    unless a subclass computes something that folds.

    Arguments:
        **kwargs: Keras layer arguments, such as `name`.

    Input shape:
        (batch, ..., C), of known rank from 2.

    Output shape:
        The input shape.

    Raises:
        ValueError: For an input of unknown rank or an unknown number of channels.

    Example:
        ```python
        import larq_nobn as nobn
        import tensorflow as tf

        @tf.keras.utils.register_keras_serializable("my_parts")
        class Softsign(nobn.layers.ChannelwiseLayer):
            def build(self, input_shape):
                self.slope = self.add_channel_weight("slope", 1.0, input_shape)
                super().build(input_shape)

            def call(self, inputs):
                return tf.nn.softsign(self.slope * inputs)

        model = nobn.models.ResNet20((8, 8, 1), 10, activation=Softsign())
        ```
    """

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        # Keras does not check a shape of unknown rank.
        for x in tf.nest.flatten(inputs):
            if tf.is_tensor(x) and x.shape.rank is None:
                raise InvalidValue(
                    f"{type(self).__name__} got an input of unknown rank. Give it one "
                    "with x.set_shape or tf.ensure_shape."
                )
        return super().__call__(inputs, *args, **kwargs)

    def add_channel_weight(
        self, name: str, initializer: Any, shape: tf.TensorShape, **how: Any
    ) -> Any:
        """Adds and returns a weight with one number per channel of an input `shape`.

        Arguments:
            name: Its name in files.
            initializer: A Keras initializer, or a number.
            shape: That of the input, as `build` gets it.
            **how: Arguments of Keras' `add_weight`, such as `regularizer`.
        """
        channels = check_channels(type(self).__name__, tuple(shape))
        return self.add_weight(name, (channels,), initializer, **how)


def average_weight(layer: Configured, name: str, shape: Any, initializer: str) -> Any:
    """Adds a moving average, like those of Keras' batch norm.

    Each replica updates its own copy; reading the weight returns their mean.
    """
    return layer.add_weight(
        name,
        shape,
        initializer,
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.MEAN,
    )
