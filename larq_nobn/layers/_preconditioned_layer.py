"""A wrapper that trains a layer as if it stood after a batch norm."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from .._checks import check_number
from .._errors import InvalidType, InvalidValue
from .._keras import Configured, keras, register
from .._larq import kernel_in_layer
from .._math import at_least_float32, beside
from ._channelwise import average_weight
from ._kernel_layers import has_kernel

# The smallest variance of an input, as a fraction of the largest (ε₁ of the paper).
_SMALLEST_FRACTION = 1e-2


def limited(variance: tf.Tensor, epsilon: float) -> tf.Tensor:
    """Keeps variances, one column per group of inputs, away from zero."""
    largest = tf.reduce_max(variance, axis=0, keepdims=True)
    return tf.maximum(variance, _SMALLEST_FRACTION * largest) + epsilon


def preconditioned(
    d_kernel: tf.Tensor, d_bias: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Computes P Pᵀ g, where P is the map (ŵ, b̂) -> (w = ŵ/σ, b = b̂ - Σ ŵ μ/σ).

    Arguments:
        d_kernel: (..., inputs, units); the axes in front are the taps.
        d_bias: (units,).
        mean: μ, (inputs, 1), or (inputs, units) where units see different inputs.
        variance: σ², shaped like the mean.
    """
    along = (d_kernel - mean * d_bias) / variance
    return along, d_bias - tf.reduce_sum(mean * along, range(along.shape.rank - 1))


@tf.custom_gradient
def preconditioning(
    kernel: tf.Tensor, bias: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor
) -> tuple[tuple[tf.Tensor, tf.Tensor], Callable]:
    """Returns kernel and bias unchanged, but preconditions their gradients."""

    def grad(
        d_kernel: tf.Tensor, d_bias: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, None, None]:
        wide = at_least_float32(d_kernel), at_least_float32(d_bias)
        d_kernel, d_bias = preconditioned(*wide, mean, variance)
        return tf.cast(d_kernel, kernel.dtype), tf.cast(d_bias, bias.dtype), None, None

    return (tf.identity(kernel), tf.identity(bias)), grad


@contextmanager
def _reading(layer: keras.layers.Layer, **values: Any) -> Iterator[None]:
    """Replaces attributes of a layer by `values` within the block."""
    # Not by setattr, because Keras would track the values as parts of the layer.
    attributes = vars(layer)
    before = {name: attributes[name] for name in values}
    attributes.update(values)
    try:
        yield
    finally:
        attributes.update(before)


@register()
class BatchNormalizationPreconditioning(Configured, keras.layers.Wrapper):
    r"""Gives a layer the gradient that it would have with batch norm after it.

    The forward pass is the wrapped layer's, bitwise. For an output unit with kernel
    \(w\), bias \(b\) and their gradients \(g_w, g_b\), over inputs of mean \(\mu_j\)
    and variance \(\sigma_j^2\),

    \[ u_j = \frac{g_{w,j} - \mu_j g_b}{\sigma_j^2}, \qquad
       \tilde g_w = u, \qquad \tilde g_b = g_b - \sum_j \mu_j u_j , \]

    which is gradient descent on \(\hat w, \hat b\) with \(w_j = \hat w_j/\sigma_j\)
    and \(b = \hat b - \sum_j \hat w_j \mu_j/\sigma_j\), the same layer after a batch
    norm. In a convolution, all taps use the statistics of their input channel, and j
    runs over taps and channels. The gradient of the input does not change.

    The statistics are those of the kernel's input, after an input quantizer: for signs
    \(\sigma^2 = 1 - \mu^2\). They are moving averages, which are updated with a batch
    before its gradient uses them; \(\sigma_j^2\) is replaced by
    \(\max(\sigma_j^2,\, 0.01 \max_i \sigma_i^2) + \epsilon\). Gradients pass the
    preconditioning first and a kernel quantizer after it. Only steps in training mode
    are preconditioned. At inference: **removed**; the wrapped layer remains.

    Use SGD, with or without momentum, at a learning rate that may have to be several
    times smaller than without; an optimizer that divides by the size of each gradient,
    such as Adam, undoes much of the effect. Gradients of weight penalties are not
    preconditioned. `models.summary` counts the multiplications of a wrapped layer;
    Larq's summary counts only its weights.

    Arguments:
        layer: A Dense or Conv1D to Conv3D layer, or its Quant version of Larq, with a
            bias. The wrapper gets its dtype, and its name unless `name` is given.
        momentum: Of the moving averages, in [0, 1). The first 1/(1 - momentum) batches
            are averaged evenly.
        epsilon: Added to the variances; in units of the squared inputs, positive.
        **kwargs: Keras layer arguments, such as `name`.

    Weights:
        kernel, bias: Those of the wrapped layer.
        moving_mean, moving_variance: Shape (C,), C the input channels; not trained.
        batches: Number of batches in the averages, shape (); not trained.

    Input shape:
        The wrapped layer's.

    Output shape:
        The wrapped layer's.

    Raises:
        TypeError, ValueError: For another layer, one without a bias, a number outside
            the ranges above, or a `dtype`.

    Example:
        ```python
        import larq as lq
        import larq_nobn as nobn

        conv = nobn.layers.BatchNormalizationPreconditioning(
            lq.layers.QuantConv2D(
                64, 3, padding="same", pad_values=1.0,
                input_quantizer="ste_sign", kernel_quantizer="ste_sign",
                kernel_constraint="weight_clip",
            )
        )
        ```

    References:
        - S. Lange, K. Helfrich, Q. Ye, "Batch Normalization Preconditioning for Neural
          Network Training", Journal of Machine Learning Research 23(72), 2022,
          arXiv:2108.01110.

    Differences from the paper:
        The paper also divides the kernel's gradient by max(fan-in / batch size, 1);
        choose the learning rate instead. Averages that start at μ = 0 and σ² = 1, as in
        batch norm, would delay preconditioning by about a hundred steps; here the first
        batch sets them. Quantizers, groups and distribution strategies, in which every
        replica has its own averages, are additions.
    """

    _in_config = "momentum epsilon"

    def __init__(
        self,
        layer: keras.layers.Layer,
        momentum: float = 0.99,
        epsilon: float = 1e-4,
        **kwargs: Any,
    ):
        if not has_kernel(layer):
            raise InvalidType(
                f"{layer!r} cannot be preconditioned. Wrap a Dense or Conv1D to Conv3D "
                "layer, or Larq's Quant version of one."
            )
        if not layer.use_bias:
            raise InvalidValue(
                f"Layer {layer.name!r} has use_bias=False, but preconditioning moves "
                "the kernel and the bias together. Give it use_bias=True."
            )
        if "dtype" in kwargs:
            raise InvalidValue(
                f"The wrapper of {layer.name!r} got dtype={kwargs['dtype']!r}, but it "
                "uses the dtype of that layer. Give the dtype to the layer inside."
            )
        # With one policy, both cast inputs and weights in the same way.
        kwargs = {"name": layer.name, **kwargs, "dtype": layer.dtype_policy}
        super().__init__(layer=layer, **kwargs)
        self.momentum = check_number("momentum", momentum, "[0, 1)", "Use 0.99.")
        self.epsilon = check_number("epsilon", epsilon, "(0, inf)", "Use 1e-4.")
        self.supports_masking = layer.supports_masking
        self._groups = getattr(layer, "groups", 1)

    def build(self, input_shape: tf.TensorShape) -> None:
        super().build(input_shape)
        channels = (self.layer.kernel.shape[-2] * self._groups,)
        self.moving_mean = average_weight(self, "moving_mean", channels, "zeros")
        self.moving_variance = average_weight(self, "moving_variance", channels, "ones")
        self.batches = average_weight(self, "batches", (), "zeros")

    def call(self, inputs: tf.Tensor, training: Any = None) -> tf.Tensor:
        # A frozen wrapper does not update its averages, like a frozen batch norm.
        if training and self.trainable:
            return self._preconditioned(inputs)
        return self.layer(inputs)

    def _preconditioned(self, inputs: tf.Tensor) -> tf.Tensor:
        layer, replaced = self.layer, {}
        quantizer = getattr(layer, "input_quantizer", None)
        features = inputs if quantizer is None else quantizer(inputs)
        if quantizer is not None:  # do not quantize twice
            replaced["input_quantizer"] = lambda _: features
        mean, variance = map(self._by_group, self._updated_averages(features))
        kernel, bias = preconditioning(
            kernel_in_layer(layer, layer.kernel),
            tf.convert_to_tensor(layer.bias),
            self._by_unit(mean),
            self._by_unit(limited(variance, self.epsilon)),
        )
        with _reading(layer, kernel=kernel, bias=bias, **replaced):
            return layer(inputs)

    def _updated_averages(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Updates the moving averages with a batch, and returns them."""
        layer, axes = self.layer, list(range(x.shape.rank))
        first = getattr(layer, "data_format", "channels_last") == "channels_first"
        del axes[-1 - len(layer.kernel_size) if first else -1]
        batch = tf.nn.moments(tf.stop_gradient(at_least_float32(x)), axes)
        batches = self.batches + 1.0
        self.batches.assign(batches)
        momentum = tf.minimum(1 - 1 / beside(x, batches), self.momentum)
        averages = (self.moving_mean, self.moving_variance)
        updated = [
            momentum * beside(x, average) + (1 - momentum) * new
            for average, new in zip(averages, batch, strict=True)
        ]
        for average, new in zip(averages, updated, strict=True):
            average.assign(tf.cast(new, average.dtype))
        return updated[0], updated[1]

    def _by_group(self, statistic: tf.Tensor) -> tf.Tensor:
        return tf.transpose(tf.reshape(statistic, (self._groups, -1)))

    def _by_unit(self, columns: tf.Tensor) -> tf.Tensor:
        return tf.repeat(columns, self.layer.kernel.shape[-1] // self._groups, axis=1)

    def compute_output_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        return self.layer.compute_output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["dtype"]  # that of the layer
        # The newer format would add the shape of a built layer.
        inside = keras.layers.serialize(self.layer, use_legacy_format=True)
        return {**config, "layer": inside}
