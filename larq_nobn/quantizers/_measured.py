from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from weakref import ReferenceType, WeakKeyDictionary, ref

import tensorflow as tf

from .._checks import check_choice
from .._errors import InvalidValue
from .._keras import Configured, calling_layer, keras, original
from .._larq import count_flips, lq
from .._math import at_least_float32, fused, with_gradient

# Not attributes of the quantizers, which would be copied and pickled with them.
_OWNERS: WeakKeyDictionary[keras.layers.Layer, ReferenceType] = WeakKeyDictionary()


@tf.autograph.experimental.do_not_convert
def check_owner(quantizer: keras.layers.Layer, host: keras.layers.Layer) -> None:
    """Raises if a quantizer with weights belongs to a second layer.

    Layers that only read another's kernel do not count. Nor do models, in which a
    quantizer may be a layer that is called more than once, like any other.
    """
    found = _OWNERS.get(quantizer)
    owner, host = None if found is None else found(), original(host)
    if owner is host:
        return
    places = [name for name, value in vars(host).items() if value is quantizer]
    if not places:
        return
    if len(places) > 1:
        users = f"layer {host.name!r} as {' and '.join(places)}"
    elif owner is not None:
        users = f"layers {owner.name!r} and {host.name!r}"
    else:
        _OWNERS[quantizer] = ref(host)
        return
    kind = type(quantizer).__name__
    raise InvalidValue(
        f"One {kind} object is given to {users}, but its weights and metrics belong "
        f"to one layer. Give each layer a quantizer of its own: write {kind}(...) for "
        "each, or pass its alias."
    )


@fused
def _gradient(
    upstream: tf.Tensor, x: tf.Tensor, parameter: tf.Tensor, *, slope: Callable
) -> tf.Tensor:
    d_x = at_least_float32(upstream) * slope(at_least_float32(x), parameter)
    return tf.cast(d_x, x.dtype)


@with_gradient
def sign_with_slope(
    x: tf.Tensor, *, slope: Callable, parameter: tf.Tensor
) -> tuple[tf.Tensor, Callable]:
    """Computes sign(x), with the pseudo-derivative slope(x, parameter)."""

    def grad(upstream: tf.Tensor) -> tf.Tensor:
        return _gradient(upstream, x, parameter, slope=slope)

    return lq.math.sign(x), grad


_ROUNDING = 1e-5  # of the largest value


class _Flips(lq.metrics.FlipRatio):
    """Larq's metric; a file need not contain its state."""

    def load_own_variables(self, store: Any) -> None:
        if len(store.keys()):
            super().load_own_variables(store)


class MeasuredQuantizer(Configured, lq.quantizers.Quantizer):
    """Abstract base of quantizers with `metrics`, like those of Larq.

    The metric of a scaled kernel uses its signs, since Larq's metric compares integers
    and ±0.2 would both be 0. Activations are measured only if the batch size is fixed,
    since each step is compared with the one before.
    """

    flip_ratio: lq.metrics.FlipRatio | None = None
    # Bound of latent weights in training, as Larq's `WeightClip`; None for none, if
    # gradients do not end there.
    latent_limit: float | None = 1.0
    _in_config = "metrics=given_metrics"

    def __init__(self, metrics: Sequence[str] | None = None, **kwargs: Any):
        # Inputs and outputs have the layer's compute dtype. In between everything is
        # float32, so Keras must not cast.
        super().__init__(autocast=False, **kwargs)
        for name in metrics or ():
            check_choice("a metric", name, ("flip_ratio",))
        self.given_metrics = None if metrics is None else list(metrics)
        self._in_scope = set(lq.context.get_training_metrics())

    def build(self, input_shape: tf.TensorShape) -> None:
        shape = self._first_shape = tf.TensorShape(input_shape)
        wanted = self.given_metrics
        if wanted is None:  # the metrics of the scopes of __init__ and of build
            wanted = [*self._in_scope, *lq.context.get_training_metrics()]
        if "flip_ratio" in wanted and shape.is_fully_defined():
            self.flip_ratio = _Flips(name=f"flip_ratio/{self.name}")
            self.flip_ratio.build(shape)
        super().build(input_shape)

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        host = calling_layer()
        # Outside of a layer, only `get_weights` and saving pass a variable.
        read = isinstance(inputs, tf.Variable) and host is None
        if not (read and tf.executing_eagerly() and lq.context.should_quantize()):
            value = super().__call__(inputs, *args, **kwargs)
            if host is not None and (self.weights or self.flip_ratio is not None):
                check_owner(self, host)
            return value
        # Custom gradients do not accept variables of several replicas.
        value = super().__call__(tf.convert_to_tensor(inputs), *args, **kwargs)
        self._check_repeatable(value, super().__call__(value, *args, **kwargs))
        return value

    def _check_owner(self, inputs: tf.Tensor, constant: Callable = tuple) -> None:
        """Rejects tensors of a second layer, as far as their shape shows it.

        `constant` returns the part of a shape that all tensors of a layer have.
        """
        first, here = self._first_shape, inputs.shape
        if constant(first) != constant(here):
            raise InvalidValue(
                f"One {type(self).__name__} object got tensors of shape {tuple(first)} "
                f"and {tuple(here)}, but its weights belong to one layer. Give each "
                "layer a quantizer of its own."
            )

    def _check_repeatable(self, value: tf.Tensor, again: tf.Tensor) -> None:
        """Rejects quantized values that would be quantized to other values."""
        largest = float(tf.reduce_max(tf.abs(value)))
        error = float(tf.reduce_max(tf.abs(again - value)))
        if error > _ROUNDING * largest:
            raise InvalidValue(
                f"{type(self).__name__} quantizes its own values to others, with "
                f"differences up to {error:.2g} where the largest is {largest:.2g}, so "
                "a model with these weights would compute something else. Save it, or "
                "get its weights, within larq.context.quantized_scope(False), since an "
                "error leaves the other scope open; to read the values only, use "
                "tf.convert_to_tensor(layer.kernel)."
            )

    def _measured(self, value: tf.Tensor) -> tf.Tensor:
        """Updates the metrics with a quantized value, and returns it."""
        if self.flip_ratio is not None:
            count_flips(self, lq.math.sign(value))
        return value

    @property
    def non_trainable_weights(self) -> list[Any]:
        """The weights without those of metrics, which are not state of the model."""
        found = super().non_trainable_weights
        if self.flip_ratio is None:
            return found
        own = {id(weight) for weight in self.flip_ratio.variables}
        return [weight for weight in found if id(weight) not in own]
