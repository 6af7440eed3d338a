"""The arithmetic of adaptive gradient clipping, as functions of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from .._errors import InvalidType, InvalidValue
from .._math import unit_sum

Axes = tuple[int, ...]

# Lower bound of the norm by which a clipped gradient is divided.
_SMALLEST_DIVISOR = 1e-6


def adaptive_gradient_clip(
    gradient: tf.Tensor,
    weight: tf.Tensor,
    axes: Sequence[int],
    clip_factor: float = 0.01,
    epsilon: float = 1e-3,
    lower_factor: float = 0.0,
) -> tf.Tensor:
    """Limits each unit's gradient norm to `clip_factor` times its weight norm.

    For each unit `i`, the elements that a reduction over `axes` combines:

        limit_i = clip_factor * max(||W_i||, epsilon)
        least_i = lower_factor * max(||W_i||, epsilon)
        G_i <- G_i * limit_i / max(||G_i||, 1e-6)     if ||G_i|| > limit_i
        G_i <- G_i * least_i / max(||G_i||, 1e-6)     if ||G_i|| < least_i
        G_i <- G_i                                    otherwise

    Norms are float32. A gradient within its limit is returned bitwise identical. This
    function does not check that gradients are finite; `AdaptiveGradientClipping` does.

    Arguments:
        gradient: The gradient, of any floating-point type.
        weight: The weight, of the same shape.
        axes: Axes over which a unit extends: `(0, 1, 2)` for a `Conv2D` kernel, `(0,)`
            for a `Dense` kernel, all axes for a whole-tensor norm, `()` to take each
            element as its own unit.
        clip_factor: Largest ratio of the norms, in (0, inf]; default 0.01.
        epsilon: Lower bound of the norm of the weights, so that units that start at
            zero can change; default 0.001.
        lower_factor: Smallest ratio of the norms, at most `clip_factor`; default 0.

    Returns:
        The clipped gradient, of the gradient's shape and type.

    Raises:
        TypeError, ValueError: If gradient and weight are not two tensors of one shape,
            or if `axes` are not axes of them.

    Example:
        ```python
        clipped = nobn.optimizers.adaptive_gradient_clip(
            tf.constant([[6.0], [8.0]]), tf.constant([[3.0], [4.0]]), axes=(0,)
        )  # [[0.03], [0.04]]: one percent of the norm 5
        ```

    References:
        Brock, De, Smith, Simonyan, "High-Performance Large-Scale Image Recognition
        Without Normalization", 2021, arXiv:2102.06171.
        Xiang, Chen, Mao, Wang, Liu, "OvSW: Overcoming Silent Weights for Accurate
        Binary Neural Networks", ECCV 2024, arXiv:2407.05257 (`lower_factor`).

    Differences from the paper: none known.
    """
    gradient, weight = _tensor("gradient", gradient), _tensor("weight", weight)
    if gradient.shape != weight.shape:
        raise InvalidValue(
            f"gradient has the shape {tuple(gradient.shape)} and weight the shape "
            f"{tuple(weight.shape)}. Pass a weight and the gradient of that weight."
        )
    known = range(-weight.shape.rank, weight.shape.rank)
    if not isinstance(axes, tuple | list | range) or not all(
        axis in known for axis in axes
    ):
        raise InvalidValue(
            f"axes={axes!r} is not a tuple of axes of a weight of shape "
            f"{tuple(weight.shape)}. Write (0, 1, 2) for a Conv2D kernel, (0,) for a "
            "vector, () for single elements."
        )
    base = tf.maximum(_norm(tf.cast(weight, tf.float32), axes), epsilon)
    norm = _norm(tf.cast(gradient, tf.float32), axes)
    factor = _factor(norm, clip_factor * base, lower_factor * base)
    return _scale(gradient, factor)


def _tensor(name: str, value: Any) -> tf.Tensor:
    try:
        tensor = tf.convert_to_tensor(value)
    except (ValueError, TypeError, tf.errors.InvalidArgumentError):
        tensor = None
    if tensor is None or not (tensor.dtype.is_floating or tensor.dtype.is_integer):
        raise InvalidType(
            f"{name} is not one tensor of numbers. Call "
            "adaptive_gradient_clip once for each variable, or wrap the optimizer in "
            "AdaptiveGradientClipping."
        )
    return tensor


class Clipped(NamedTuple):
    """Clipped gradients, and what happened to each of their units."""

    gradients: list[tf.Tensor]
    factors: tf.Tensor  # by which the gradient of each unit was multiplied
    owners: np.ndarray  # index of the variable of each unit; -1 if it is not clipped


def clip_gradients(
    gradients: Sequence[tf.Tensor],
    weights: Sequence[tf.Tensor],
    axes: Sequence[Axes | None],
    clip_factor: float,
    epsilon: float,
    names: Sequence[str],
    lower_factors: Sequence[float] = (),
) -> Clipped:
    """Applies `adaptive_gradient_clip` to all variables in one batched expression.

    A step has hundreds of small vectors and a few large kernels. Each kernel costs two
    reductions and one multiplication. The norms of all vectors are two segment sums
    over their concatenation. Everything else uses one vector of the norms of all units.

    Each variable has its own lower factor; without any, none is scaled up.

    Gradients are dense. A gradient whose axes are None is checked but not clipped. If a
    gradient is not finite, the graph raises `InvalidArgumentError` before it is used;
    where XLA drops the assertion, the gradient of the affected unit is zero.
    """
    ranks = [len(gradient.shape) for gradient in gradients]
    # Vectors (and scalars) are one unit each; all others count as kernels. A variable
    # that is not clipped is a kernel of one unit, whose limit is not used.
    vectors = [i for i, rank in enumerate(ranks) if rank < 2 and axes[i] == (0,) * rank]
    kernels = [i for i in range(len(ranks)) if i not in vectors]
    order = vectors + kernels
    reduced = [range(n) if a is None else a for n, a in zip(ranks, axes, strict=True)]
    sizes = [int(np.prod(gradients[i].shape)) for i in vectors]
    segments = np.repeat(np.arange(len(vectors)), sizes)
    flat_gradients = _concatenate([gradients[i] for i in vectors])
    flat_weights = _concatenate([weights[i] for i in vectors])

    def gradient_norms(dtype: tf.DType) -> list[tf.Tensor]:
        flat = tf.cast(flat_gradients, dtype)
        norms = [_norm(tf.cast(gradients[i], dtype), reduced[i]) for i in kernels]
        return [_segment_norms(flat, segments, len(vectors)), *norms]

    vector_norms, *kernel_norms = gradient_norms(tf.float32)
    norms = _concatenate([vector_norms, *kernel_norms])
    weight_norms = [_segment_norms(flat_weights, segments, len(vectors))]
    for i, norm in zip(kernels, kernel_norms, strict=True):
        if axes[i] is None:
            weight_norms.append(tf.zeros(norm.shape))
        else:
            weight_norms.append(_norm(tf.cast(weights[i], tf.float32), reduced[i]))
    base = tf.maximum(_concatenate(weight_norms), epsilon)
    limits = clip_factor * base
    units = [1] * len(vectors) + [int(np.prod(norm.shape)) for norm in kernel_norms]
    owners = np.repeat([-1 if axes[i] is None else i for i in order], units)

    least = (
        np.array([*lower_factors, 0.0], np.float32)[owners]
        if any(lower_factors)
        else None
    )

    def factors_of(norms: tf.Tensor, limits: tf.Tensor) -> tf.Tensor:
        lower = None if least is None else tf.cast(least * base, norms.dtype)
        factors = _factor(norms, limits, lower)
        return tf.where(owners >= 0, factors, tf.ones_like(norms))

    def in_float64() -> tf.Tensor:
        # A float32 norm overflows beyond 1.8e19; in float64 it is infinite only if a
        # gradient is. This branch runs only if it is needed.
        exact = _concatenate(gradient_norms(tf.float64), tf.float64)
        finite = tf.math.is_finite(exact)
        for i, part in zip(order, tf.split(finite, units), strict=True):
            message = (
                f"The gradient of {names[i]} contains NaN or infinite values, so the "
                "step was not applied. Lower the learning rate, or look for a division "
                "by zero or the logarithm of zero in the loss."
            )
            tf.debugging.Assert(tf.reduce_all(part), [message])
        factor = factors_of(exact, tf.cast(limits, tf.float64))
        return tf.cast(tf.where(finite, factor, tf.zeros_like(factor)), tf.float32)

    factors = tf.cond(
        tf.reduce_all(tf.math.is_finite(norms)),
        lambda: factors_of(norms, limits),
        in_float64,
    )
    clipped: dict[int, tf.Tensor] = {}
    count = len(vectors)
    if vectors:
        by_element = tf.gather(factors[:count], segments)
        scaled = tf.math.multiply_no_nan(flat_gradients, by_element)
        for i, flat in zip(vectors, tf.split(scaled, sizes), strict=True):
            dense = tf.reshape(flat, gradients[i].shape)
            clipped[i] = tf.cast(dense, gradients[i].dtype)
    if kernels:
        by_kernel = tf.split(factors[count:], units[count:])
        for i, factor, norm in zip(kernels, by_kernel, kernel_norms, strict=True):
            clipped[i] = _scale(gradients[i], tf.reshape(factor, norm.shape))
    return Clipped([clipped[i] for i in range(len(gradients))], factors, owners)


def _concatenate(parts: Sequence[tf.Tensor], dtype: tf.DType = tf.float32) -> tf.Tensor:
    flat = [tf.cast(tf.reshape(part, [-1]), dtype) for part in parts]
    return tf.concat([tf.zeros([0], dtype), *flat], axis=0)


def _norm(x: tf.Tensor, axes: Sequence[int]) -> tf.Tensor:
    """Returns norms over `axes`, which remain as axes of length one."""
    rank = len(x.shape)
    if tuple(axes) == tuple(range(rank - 1)) and rank > 1:
        sums = unit_sum(tf.reshape(tf.square(x), (-1, x.shape[-1])))
        return tf.reshape(tf.sqrt(sums), (1,) * (rank - 1) + (-1,))
    return tf.sqrt(tf.reduce_sum(tf.square(x), tuple(axes), keepdims=True))


def _segment_norms(x: tf.Tensor, segments: np.ndarray, count: int) -> tf.Tensor:
    return tf.sqrt(tf.math.unsorted_segment_sum(tf.square(x), segments, count))


def _factor(norm: tf.Tensor, limit: tf.Tensor, least: tf.Tensor | None) -> tf.Tensor:
    divisor = tf.maximum(norm, tf.constant(_SMALLEST_DIVISOR, norm.dtype))
    factor = tf.where(norm > limit, limit / divisor, tf.ones_like(norm))
    return factor if least is None else tf.where(norm < least, least / divisor, factor)


def _scale(gradient: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    # Not `*`: here zero times infinity or NaN is zero.
    scaled = tf.math.multiply_no_nan(tf.cast(gradient, tf.float32), factor)
    return tf.cast(scaled, gradient.dtype)
