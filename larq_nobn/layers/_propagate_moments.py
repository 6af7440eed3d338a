from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from .._checks import check_choice
from .._errors import InvalidType, InvalidValue
from .._keras import Configured, keras, register
from .._larq import kernel_in_layer, lq, unmeasured
from .._math import at_least_float32, beside
from ._kalman import BatchKalmanNormalization
from ._kernel_layers import has_kernel
from ._proxy_moments import exact_moments
from ._rprelu import RPReLU

Moments = tuple[tf.Tensor, tf.Tensor]

ELEMENTWISE = (BatchKalmanNormalization, RPReLU, keras.layers.PReLU)


def is_sign(quantizer: Any) -> bool:
    """Tells whether a quantizer returns the sign of its input, ±1."""
    other = (lq.quantizers.SteHeaviside, lq.quantizers.NoOp)
    one_bit = getattr(quantizer, "precision", None) == 1
    return one_bit and not isinstance(quantizer, other)


def _signed(sign: Any, mean: tf.Tensor, variance: tf.Tensor) -> Moments:
    # RSign has both attributes, the sign quantizers of Larq have neither.
    scale, shift = getattr(sign, "scale", 1.0), getattr(sign, "shift", None)
    mean = scale * mean + (0.0 if shift is None else beside(mean, shift))
    return sign_moments(mean, scale * deviation_of(variance))


def sign_moments(mean: tf.Tensor, deviation: tf.Tensor) -> Moments:
    """Returns mean and variance of the sign of normal values."""
    expected = tf.math.erf(mean / deviation / math.sqrt(2))
    return expected, 1 - tf.square(expected)


def linear_moments(kernel: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor) -> Moments:
    """Returns mean and variance of a product with a kernel of shape (..., in, out)."""
    taps = tuple(range(kernel.shape.rank - 2))
    sums = tf.reduce_sum(kernel, taps), tf.reduce_sum(tf.square(kernel), taps)
    return tuple(
        tf.linalg.matvec(total, moment, transpose_a=True)
        for total, moment in zip(sums, (mean, variance), strict=True)
    )


def deviation_of(variance: tf.Tensor) -> tf.Tensor:
    """Returns the root; never 0, since moments divide by it and its gradient is 1/0."""
    return tf.sqrt(tf.maximum(variance, 1e-12))


def output_moments(
    layer: Any, activation: str | None, mean: tf.Tensor, variance: tf.Tensor
) -> Moments:
    """Returns the moments of a layer's output for `activation` of normal inputs."""
    mean, variance = at_least_float32(mean), at_least_float32(variance)

    if isinstance(layer, BatchKalmanNormalization):
        normalized = variance / (variance + layer.epsilon)
        constant = tf.zeros_like(mean) + beside(mean, layer.beta)
        return constant, tf.square(beside(mean, layer.gamma)) * normalized
    if isinstance(layer, RPReLU):
        shifted = mean + beside(mean, layer.shift_in)
        slope = beside(mean, layer.effective_slope())
        moments = exact_moments(slope, shifted, deviation_of(variance))
        return moments[0] + beside(mean, layer.shift_out), moments[1]
    if isinstance(layer, keras.layers.PReLU):
        slope = tf.reshape(beside(mean, layer.alpha), [-1])
        return exact_moments(slope, mean, deviation_of(variance))
    if is_sign(layer):
        return _signed(layer, mean, variance)

    sign = getattr(layer, "input_quantizer", None)
    if is_sign(sign):
        mean, variance = _signed(sign, mean, variance)
    elif activation == "sign":
        mean, variance = sign_moments(mean, deviation_of(variance))
    elif activation == "relu":
        mean, variance = exact_moments(0.0, mean, deviation_of(variance))
    with unmeasured(getattr(layer, "kernel_quantizer", None)):
        kernel = beside(mean, kernel_in_layer(layer, layer.kernel))
    mean, variance = linear_moments(kernel, mean, variance)
    return (mean + beside(mean, layer.bias) if layer.use_bias else mean), variance


@dataclass(frozen=True)
class _Untracked:
    """Hides a layer from Keras, which would count and save its weights twice."""

    layer: keras.layers.Layer


@register()
class MomentPropagation(Configured, keras.layers.Layer):
    """Propagates moments through another layer of the same network.

    The inputs are that layer's output, whose values are not used, and the moments. The
    output identifies the layer, also in a network that is opened from a file or copied
    with `clone_model`. Conversion removes this layer.
    """

    _in_config = "activation"

    def __init__(self, activation: str | None = None, **kwargs: Any):
        # Full precision under every policy; the first input may be half precision.
        full = keras.mixed_precision.global_policy().variable_dtype
        super().__init__(autocast=False, **{"dtype": full, **kwargs})
        self.activation = activation
        self._through: _Untracked | None = None
        self.supports_masking = False  # moments have no positions

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        # Only symbolic tensors know the layer that made them.
        if _is_symbolic(inputs[0]):
            self._through = _Untracked(inputs[0]._keras_history.layer)
        return super().__call__(inputs, *args, **kwargs)

    def call(self, inputs: Sequence[tf.Tensor]) -> Moments:
        if self._through is None:
            raise InvalidValue(
                f"Layer {self.name!r} was called on arrays, but only a symbolic call "
                "tells it which layer to propagate through. Use propagate_moments."
            )
        _, mean, variance = inputs
        return output_moments(self._through.layer, self.activation, mean, variance)


def propagate_moments(
    layer: keras.layers.Layer, state: Sequence[tf.Tensor], activation: str | None = None
) -> Moments:
    r"""Propagates a mean and a variance per channel through a layer.

    Returns the moments of the layer's output if its input is `activation` of
    independent normal values with moments \(m, v\). With Φ the standard normal
    distribution function and \(\varphi\) its density, the moments of the activation are

    \[ \text{sign:}\quad \mu = 2\Phi(m/\sqrt v) - 1, \quad \sigma^2 = 1 - \mu^2; \]

    \[ \text{relu:}\quad \mu = m\,\Phi(m/\sqrt v) + \sqrt v\,\varphi(m/\sqrt v), \quad
       \sigma^2 = (m^2 + v)\,\Phi(m/\sqrt v) + m\sqrt v\,\varphi(m/\sqrt v) - \mu^2 . \]

    The output of a layer with quantized kernel w and bias b then has the moments

    \[ m' = \textstyle\sum_k w_k \mu_k + b, \qquad v' = \sum_k w_k^2 \sigma_k^2, \]

    with sums over its taps and input channels, as at all positions except a padded
    border. The layer's `input_quantizer`, a sign, is applied first: for an `RSign` with
    scale a and shift b, \(\mu = 2\Phi((a m + b)/(a\sqrt v)) - 1\). `NoOp(precision=1)`
    declares that inputs are signs already. Layers without kernel are allowed if they
    are a sign; an `RPReLU` or a PReLU of one slope per channel, with a closed form like
    that of relu; or a `BatchKalmanNormalization`, whose returned state then becomes the
    moments of its output y, \(\beta\) and \(\gamma^2 v/(v + \epsilon)\).

    Gradients reach the state and all weights. On Keras tensors the result is part of
    the network and is saved with it, sharing the layer's weights; conversion removes
    it, since inference does not need it. For a residual sum, add the moments. For
    average pooling you may pass them unchanged, as if neighboring values were equal.

    Arguments:
        layer: Dense, Conv1D to Conv3D, Larq's versions of them, a binary quantizer,
            `BatchKalmanNormalization`, `RPReLU` or PReLU. Call it on its features
            first.
        state: Mean and variance, (C,) each, for the C channels of the layer's input.
        activation: Activation before the layer: None or `"linear"`, `"relu"`, `"sign"`.
            None for a layer with `input_quantizer`, and for layers without kernel.

    Returns:
        Mean and variance, (F,) each, for the F channels of the layer's output.

    Raises:
        TypeError, ValueError: For other layers, a layer that was not called yet, an
            activation that is unknown or not allowed for the layer, or a state of the
            wrong shape.

    Example:
        ```python
        import larq as lq
        import larq_nobn as nobn
        import tensorflow as tf

        image = tf.keras.Input((8, 8, 3))
        stem = lq.layers.QuantConv2D(16, 3, padding="same", use_bias=False)
        norm = nobn.layers.BatchKalmanNormalization()
        x, state = norm(stem(image))
        state = nobn.layers.propagate_moments(norm, state)  # after the normalization

        conv = lq.layers.QuantConv2D(
            16, 3, padding="same", pad_values=1.0, use_bias=False,
            input_quantizer=nobn.quantizers.RSign(),
            kernel_quantizer=nobn.quantizers.ScaledStdSign(),
        )
        y = conv(x)
        prior = nobn.layers.propagate_moments(conv, state)
        y, state = nobn.layers.BatchKalmanNormalization()([y, prior])
        model = tf.keras.Model(image, y)
        ```

    References:
        - G. Wang, J. Peng, P. Luo, X. Wang, L. Lin, "Batch Kalman Normalization:
          Towards Training Deep Neural Networks with Micro-Batches", 2018,
          arXiv:1802.03133.

    Differences from the paper:
        The published code passes one random example through the layer and takes its
        moments; this function returns their expectation. The code also propagates the
        moments from before each normalization, although the next layer's input comes
        after it. For that, pass the state itself.
    """
    if not isinstance(state, tuple | list) or len(state) != 2:
        raise InvalidType(
            "state is not a pair of mean and variance. Pass what a "
            "BatchKalmanNormalization returned, or two tensors of shape (C,)."
        )
    mean, variance = (x if _is_symbolic(x) else tf.convert_to_tensor(x) for x in state)
    symbolic = _is_symbolic(mean) or _is_symbolic(variance)
    _check_layer(layer, symbolic)
    _check_input(layer, activation, (mean, variance))
    if not symbolic:
        return output_moments(layer, activation, mean, variance)
    features = tf.nest.flatten(layer.inbound_nodes[-1].outputs)[0]
    before = sum(isinstance(n.layer, MomentPropagation) for n in layer.outbound_nodes)
    name = f"{layer.name}_moments" + (f"_{before}" if before else "")
    return MomentPropagation(activation, name=name)([features, mean, variance])


def _is_symbolic(tensor: Any) -> bool:
    """Tells whether a tensor belongs to a network that is being built."""
    return hasattr(tensor, "_keras_history")


def _check_layer(layer: Any, symbolic: bool) -> None:
    elementwise = isinstance(layer, ELEMENTWISE) or is_sign(layer)
    if not has_kernel(layer) and not elementwise:
        raise InvalidType(
            f"Moments cannot be propagated through {layer!r}, only through Dense, "
            "Conv1D to Conv3D, Larq's versions of them, binary quantizers, "
            "BatchKalmanNormalization, RPReLU and PReLU. Skip other layers, or start "
            "again without a state."
        )
    if not layer.built or (symbolic and not layer.inbound_nodes):
        raise InvalidValue(
            f"Layer {layer.name!r} was not called yet, or not on Keras tensors as the "
            "state is, so its weights or its place are unknown. Call it on its "
            "features before propagate_moments."
        )
    if isinstance(layer, keras.layers.PReLU) and max(layer.alpha.shape[:-1]) > 1:
        raise InvalidValue(
            f"Layer {layer.name!r} has slopes of shape {tuple(layer.alpha.shape)}, but "
            "moments have one value per channel. Share the slopes of all positions: "
            "shared_axes=[1, 2] for images."
        )
    if not has_kernel(layer):
        return
    own_activation = layer.activation is not keras.activations.linear
    if own_activation or getattr(layer, "groups", 1) != 1:
        raise InvalidValue(
            f"Layer {layer.name!r} has groups or an activation of its own, through "
            "which moments cannot be propagated. Use one group, and pass the "
            "activation with the next layer."
        )
    sign = getattr(layer, "input_quantizer", None)
    heaviside = isinstance(sign, lq.quantizers.SteHeaviside)
    if sign is not None and (heaviside or getattr(sign, "precision", None) != 1):
        raise InvalidValue(
            f"Layer {layer.name!r} has the input quantizer {sign!r}, whose moments are "
            "unknown. Use a sign, or none."
        )


def _check_input(layer: Any, activation: str | None, state: Moments) -> None:
    check_choice("activation", activation or "linear", ("linear", "relu", "sign"))
    kernel = has_kernel(layer)
    plain = kernel and getattr(layer, "input_quantizer", None) is None
    if not plain and activation not in (None, "linear"):
        raise InvalidValue(
            f"activation={activation!r} is not allowed for layer {layer.name!r}, which "
            "is an elementwise function itself or starts with one. Use None."
        )
    if not kernel and not layer.weights:
        return  # a sign with threshold 0 fits any number of channels
    owned = layer.kernel.shape[-2:-1] if kernel else layer.weights[0].shape[-1:]
    if not all(moment.shape.is_compatible_with(owned) for moment in state):
        raise InvalidValue(
            f"The state has shapes {[tuple(moment.shape) for moment in state]}, but "
            f"the input of layer {layer.name!r} has {owned[0]} channels. Pass a mean "
            "and a variance for each."
        )
