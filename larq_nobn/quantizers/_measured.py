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

# Kept outside of the quantizers, in which it would be copied and pickled with them.
_OWNERS: WeakKeyDictionary[keras.layers.Layer, ReferenceType] = WeakKeyDictionary()


@tf.autograph.experimental.do_not_convert
def check_owner(quantizer: keras.layers.Layer, host: keras.layers.Layer) -> None:
    """Raises if a quantizer with weights is called by a second layer.

    A layer that only reads the kernel of another is none, and neither is a model, in
    which a quantizer may stand as a layer that is called more than once, as any other.
    """
    found = _OWNERS.get(quantizer)
    owner, host = None if found is None else found(), original(host)
    if owner is host:
        return
    places = [name for name, value in vars(host).items() if value is quantizer]
    if not places:
        return
    if len(places) > 1:
        given_to = f"layer {host.name!r} as {' and '.join(places)}"
    elif owner is not None:
        given_to = f"layers {owner.name!r} and {host.name!r}"
    else:
        _OWNERS[quantizer] = ref(host)
        return
    kind = type(quantizer).__name__
    raise InvalidValue(
        f"One {kind} object is given to {given_to}, but its weights and metrics belong "
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
    """sign(x), with the pseudo-derivative slope(x, parameter)."""

    def grad(upstream: tf.Tensor) -> tf.Tensor:
        return _gradient(upstream, x, parameter, slope=slope)

    return lq.math.sign(x), grad


_ROUNDING = 1e-5  # of the largest value


class _Flips(lq.metrics.FlipRatio):
    """Larq's metric, which is not part of a model: a file may lack it."""

    def load_own_variables(self, store: Any) -> None:
        if len(store.keys()):
            super().load_own_variables(store)


class MeasuredQuantizer(Configured, lq.quantizers.Quantizer):
    """Abstract base: a quantizer that takes the `metrics` of Larq's own.

    A scaled kernel is measured by its signs: Larq's metric compares integers, as which
    all of ±0.2 would be 0. Activations are measured only where their batch size is
    fixed, since those of one step are compared with those of the step before.
    """

    flip_ratio: lq.metrics.FlipRatio | None = None
    _in_config = "metrics=given_metrics"

    def __init__(self, metrics: Sequence[str] | None = None, **kwargs: Any):
        # What is quantized arrives in the layer's compute dtype and leaves in it; in
        # between everything is float32, so Keras must not cast.
        super().__init__(autocast=False, **kwargs)
        for name in metrics or ():
            check_choice("a metric", name, ("flip_ratio",))
        self.given_metrics = None if metrics is None else list(metrics)
        self._in_scope = set(lq.context.get_training_metrics())

    def build(self, input_shape: tf.TensorShape) -> None:
        shape = self._first_shape = tf.TensorShape(input_shape)
        wanted = self.given_metrics
        if wanted is None:  # a layer takes its quantizers in the scope it is made in
            wanted = [*self._in_scope, *lq.context.get_training_metrics()]
        if "flip_ratio" in wanted and shape.is_fully_defined():
            self.flip_ratio = _Flips(name=f"flip_ratio/{self.name}")
            self.flip_ratio.build(shape)
        super().build(input_shape)

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        host = calling_layer()
        # Outside of a layer, only `get_weights` and what saves hand over a variable.
        read = isinstance(inputs, tf.Variable) and host is None
        if not (read and tf.executing_eagerly() and lq.context.should_quantize()):
            value = super().__call__(inputs, *args, **kwargs)
            if host is not None and (self.weights or self.flip_ratio is not None):
                check_owner(self, host)
            return value
        # A variable of several replicas is none to custom gradients.
        value = super().__call__(tf.convert_to_tensor(inputs), *args, **kwargs)
        self._check_kept(value, super().__call__(value, *args, **kwargs))
        return value

    def _check_owner(self, inputs: tf.Tensor, kept: Callable = tuple) -> None:
        """Rejects what is another layer's, as far as its shape gives that away.

        What is `kept` of a shape stays the same of all tensors of one layer.
        """
        first, here = self._first_shape, inputs.shape
        if kept(first) != kept(here):
            raise InvalidValue(
                f"One {type(self).__name__} object got tensors of shape {tuple(first)} "
                f"and {tuple(here)}, but its weights belong to one layer. Give each "
                "layer a quantizer of its own."
            )

    def _check_kept(self, value: tf.Tensor, again: tf.Tensor) -> None:
        """Rejects values for the weights that stand for others."""
        largest = float(tf.reduce_max(tf.abs(value)))
        apart = float(tf.reduce_max(tf.abs(again - value)))
        if apart > _ROUNDING * largest:
            raise InvalidValue(
                f"{type(self).__name__} quantizes its own values to others, up to "
                f"{apart:.2g} apart where the largest is {largest:.2g}, so a model "
                "that is saved or set with them computes something else. Save it, or "
                "get its weights, within larq.context.quantized_scope(False), since an "
                "error leaves the other scope open; to look at the values alone, use "
                "tf.convert_to_tensor(layer.kernel)."
            )

    def _measured(self, value: tf.Tensor) -> tf.Tensor:
        """Shows a quantized value to the metrics, and returns it."""
        if self.flip_ratio is not None:
            count_flips(self, lq.math.sign(value))
        return value

    @property
    def non_trainable_weights(self) -> list[Any]:
        """Those of the quantizer itself: a metric is not part of a model's state."""
        found = super().non_trainable_weights
        if self.flip_ratio is None:
            return found
        own = {id(weight) for weight in self.flip_ratio.variables}
        return [weight for weight in found if id(weight) not in own]
