"""Clipping of gradients that come in pairs with their variables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import tensorflow as tf

from ._clipping import Units, clip_gradients
from ._counts import ClipCounts
from ._wrapper import Pairs


def clip_pairs(
    pairs: Pairs,
    axes_of: Callable[[Sequence[tf.Variable]], Sequence[Units | None]],
    clip_factor: float,
    epsilon: float,
    counts: ClipCounts | None,
) -> Pairs:
    """Clips aggregated gradients; a pair without a gradient stays as it is.

    Arguments:
        pairs: Gradients, of which some may be None or sparse, and their variables.
        axes_of: Gives the axes of a unit of each variable; None for no clipping.
        clip_factor: See `adaptive_gradient_clip`.
        epsilon: See there.
        counts: Where to count the clipped units, if anywhere.
    """
    present = [i for i, (gradient, _) in enumerate(pairs) if gradient is not None]
    if not present:
        return pairs
    variables = [pairs[i][1] for i in present]
    axes = axes_of(variables)
    with tf.name_scope("adaptive_gradient_clipping"):
        clipped = clip_gradients(
            [_to_clip(*pairs[i], of) for i, of in zip(present, axes, strict=True)],
            # A quantized variable would read as ±1 inside a quantized scope.
            [getattr(v, "latent_variable", v) for v in variables],
            axes,
            clip_factor,
            epsilon,
            [variable.name for variable in variables],
        )
        if counts is not None:
            counts.add(clipped.factors, clipped.owners, variables)
    result = list(pairs)
    for i, gradient in zip(present, clipped.gradients, strict=True):
        result[i] = (_clipped_like(gradient, *pairs[i]), pairs[i][1])
    return result


def after(pairs: Pairs) -> AbstractContextManager[Any]:
    """Holds back the step counter and weight decay until the gradients are checked."""
    # Each clipped gradient depends on the check of all, so one of them is enough.
    return tf.control_dependencies([g for g, _ in pairs if g is not None][:1])


def _to_clip(gradient: Any, variable: tf.Variable, axes: Units | None) -> tf.Tensor:
    """Returns a gradient as a tensor; dense, unless it is only to be checked."""
    if isinstance(gradient, tf.IndexedSlices) and axes is None:
        return gradient.values
    return tf.ensure_shape(tf.convert_to_tensor(gradient), variable.shape)


def _clipped_like(clipped: tf.Tensor, gradient: Any, variable: tf.Variable) -> Any:
    """Puts the values of a sparse gradient back into place."""
    if isinstance(gradient, tf.IndexedSlices) and clipped.shape != variable.shape:
        return tf.IndexedSlices(clipped, gradient.indices, gradient.dense_shape)
    return clipped
