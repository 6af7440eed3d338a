from __future__ import annotations

from typing import Any

import tensorflow as tf

from .._checks import check_flag, check_number
from .._errors import InvalidValue
from .._keras import calling_layer, keras, uncast
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
    """Abstract base of kernel quantizers, whose weights belong to a single layer."""

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
    """Abstract base of quantizers with a fixed scale and a learned gain per filter."""

    by_filter = True
    _in_config = "gain=_use_gain scale"

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
        """Returns the gain, after a check that the kernel has the owner's shape."""
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
