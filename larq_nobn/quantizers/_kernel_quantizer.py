from __future__ import annotations

from typing import Any

import tensorflow as tf

from .._checks import check_flag, check_number
from .._errors import InvalidValue
from .._keras import calling_layer, keras, uncast, weight_of
from .._math import beside
from ._measured import MeasuredQuantizer

# Layers whose kernel does not end with output channels, or has a filter per position.
_OTHER_KERNELS = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
    keras.layers.LocallyConnected1D,
    keras.layers.LocallyConnected2D,
)


class KernelQuantizer(MeasuredQuantizer):
    r"""Abstract base of kernel quantizers that read float32 latent weights.

    \[ q = f(W) . \]

    A layer of mixed precision rounds its kernel to 16 bits before other quantizers, in
    which weights on both sides of a threshold can become equal; subclasses get the
    stored kernel. Their weights belong to a single layer: a second one raises an error.
    A class of your own computes f in `call`, ends it by `return self._measured(value)`
    for Larq's metrics, and has `precision = 1` if the values are ±c with one c per
    filter. `_in_config` names its further arguments, which are attributes too.
    `latent_limit` is the bound of latent weights in the networks of this package, 1 as
    in Larq's `weight_clip`; None for none. At inference: **removed**; the file contains
    the quantized kernel.

    Arguments:
        metrics: `["flip_ratio"]` or `[]`; None takes those of Larq's `metrics_scope`.
        **kwargs: Keras layer arguments, such as `name`.

    Input shape:
        A kernel.

    Output shape:
        The input shape.

    Raises:
        ValueError: For one object with weights that is given to two layers.

    Example:
        ```python
        import larq as lq
        import larq_nobn as nobn
        import tensorflow as tf

        @tf.keras.utils.register_keras_serializable("my_parts")
        class Ternary(nobn.quantizers.KernelQuantizer):
            precision = 2
            _in_config = "width"

            def __init__(self, width=0.05, **kwargs):
                super().__init__(**kwargs)
                self.width = width

            def call(self, inputs):
                large = tf.cast(tf.abs(inputs) > self.width, inputs.dtype)
                value = large * lq.math.sign(inputs)
                return self._measured(inputs + tf.stop_gradient(value - inputs))

        conv = lq.layers.QuantConv2D(8, 3, kernel_quantizer=Ternary())
        ```
    """

    # Layers of mixed precision pass other quantizers their kernel in 16 bits.
    reads_stored_kernel = True
    by_filter = False  # whether it treats the last axis of a kernel as output channels

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        host = calling_layer()
        if self.by_filter and not self.built and host is not None:
            self._check_host(host)
        latent = self._latent(host)
        if latent is None:
            return super().__call__(inputs, *args, **kwargs)
        # In 16 bits, weights on both sides of a threshold can become equal.
        value = super().__call__(uncast(latent), *args, **kwargs)
        return tf.cast(value, inputs.dtype)

    def _latent(self, host: keras.layers.Layer | None) -> tf.Variable | None:
        """Returns the stored kernel of a layer of mixed precision; None otherwise."""
        if host is None or host.compute_dtype == host.variable_dtype:
            return None
        own = [w for w in host.weights if getattr(w, "quantizer", None) is self]
        return own[0].latent_variable if len(own) == 1 else None

    def _check_host(self, host: keras.layers.Layer) -> None:
        """Rejects use on activations, and kernels with another layout of filters."""
        for place in ("activation", "input_quantizer"):
            if getattr(host, place, None) is self:
                raise InvalidValue(
                    f"{type(self).__name__} quantizes kernels, but layer {host.name!r} "
                    f"has it as {place}. Pass it as kernel_quantizer, and a quantizer "
                    f"of activations, such as lq.quantizers.SteSign(), as {place}."
                )
        depthwise = self is getattr(host, "depthwise_quantizer", None)
        if depthwise or isinstance(host, _OTHER_KERNELS):
            raise InvalidValue(
                f"{type(self).__name__} needs one filter per output channel, along the "
                f"last axis of the kernel, which the {'depthwise ' * depthwise}kernel "
                f"of layer {host.name!r} ({type(host).__name__}) does not have. Give "
                'it a quantizer of single weights, such as "ste_sign" or "reste".'
            )

    def _check_filters(self, shape: tf.TensorShape) -> None:
        """Rejects kernels whose filters have no variance."""
        if shape.rank < 2 or shape[:-1].num_elements() < 2:
            raise InvalidValue(
                f"{type(self).__name__} got a kernel of shape {tuple(shape)}, whose "
                "filters have a single weight; standardization needs at least two. "
                "Give such a layer no kernel_quantizer."
            )


class ScaledKernel(KernelQuantizer):
    r"""Abstract base of kernel quantizers with a fixed scale and a gain per filter.

    \[ q_o = a\, \gamma_o\, f(W)_o , \]

    with fixed scale \(a\) and learned gain \(\gamma_o\). Networks of `"nobn"` put the
    factors of their blocks into the scale, and `calibrate` sets the gain, so quantizers
    of your own for them are subclasses: `call` multiplies f by `self.scale` and
    `self._gain_for(inputs)`. The rest is as in `KernelQuantizer`. At inference:
    **removed**; the factors become the multiplier of the binary convolution.

    Arguments:
        gain: Whether to learn one factor per output channel, starting at 1.
        scale: Fixed positive factor a.
        metrics: `["flip_ratio"]` or `[]`; None takes those of Larq's `metrics_scope`.
        **kwargs: Initializer, regularizer and constraint of each weight, as in Keras,
            such as `gain_regularizer`, and Keras layer arguments, such as `name`.

    Weights:
        gain: Shape (C,), C the output channels; only with `gain=True`.

    Input shape:
        A kernel whose last axis contains the output channels: Conv1D to Conv3D, Dense.

    Output shape:
        The input shape.

    Raises:
        TypeError, ValueError: For a gain that is not a flag, a scale that is not a
            positive number, another kernel, or one object given to two layers.

    Example:
        ```python
        import larq as lq
        import larq_nobn as nobn
        import tensorflow as tf

        @tf.keras.utils.register_keras_serializable("my_parts")
        class CubeRootSign(nobn.quantizers.ScaledKernel):
            precision = 1

            def call(self, inputs):
                smooth = tf.sign(inputs) * tf.pow(tf.abs(inputs) + 1e-3, 1 / 3)
                value = smooth + tf.stop_gradient(lq.math.sign(inputs) - smooth)
                return self._measured(self.scale * self._gain_for(inputs) * value)

        model = nobn.models.ResNet20((8, 8, 1), 10, kernel_quantizer=CubeRootSign())
        ```
    """

    by_filter = True
    latent_limit = None
    gain_weight = weight_of("gain")
    _in_config = "gain=_use_gain scale"
    _tunable = "gain"

    def __init__(self, gain: bool = True, scale: float = 1.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.gain = self._use_gain = check_flag("gain", gain)
        self.scale = check_number(
            "scale", scale, "(0, inf)", "It multiplies the kernel; 1 leaves it alone."
        )

    def build(self, input_shape: tf.TensorShape) -> None:
        if self._use_gain:
            channels = tf.TensorShape(input_shape)[-1:]
            self.gain = self.add_weight("gain", channels, "ones")
        super().build(input_shape)

    def _gain_for(self, kernel: tf.Tensor) -> tf.Tensor:
        """Returns the gain of the quantizer; raises for a kernel of another shape."""
        if not self._use_gain:
            return beside(kernel, tf.ones(kernel.shape[-1:]))
        self._check_owner(kernel)
        return beside(kernel, self.gain)


class StandardizedKernel(ScaledKernel):
    """Abstract base of quantizers that standardize filters."""

    _in_config = "epsilon"

    def __init__(
        self,
        gain: bool = True,
        scale: float = 1.0,
        epsilon: float = 1e-5,
        **kwargs: Any,
    ):
        super().__init__(gain=gain, scale=scale, **kwargs)
        self.epsilon = check_number("epsilon", epsilon, "(0, inf)", "Use 1e-5.")

    def build(self, input_shape: tf.TensorShape) -> None:
        self._check_filters(tf.TensorShape(input_shape))
        super().build(input_shape)
