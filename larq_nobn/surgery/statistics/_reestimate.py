from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import larq as lq
import numpy as np
import tensorflow as tf

from ..._batches import model_batches
from ..._checks import check_flag, check_integer
from ..._keras import keras
from ...graph import ModelError, rebuild, refuse_opaque
from ...layers import BatchKalmanNormalization
from ...layers._posterior import posterior
from .._batch_norm import is_batch_norm
from .._report import Change, SurgeryReport
from ._population import Moments, moments_of, pooled, settle


def reestimate_batch_norm(
    model: keras.Model, data: Any, batch_size: int = 128, return_report: bool = False
) -> Any:
    r"""Returns a copy whose batch norms hold the statistics of all of `data`.

    Training leaves moving averages, which lag behind the weights, depend on the order
    of the last batches and are noise if these were small. Here every batch norm gets

    \[ m = \frac{1}{N} \sum_b n_b m_b, \qquad
       v = \frac{1}{N} \sum_b n_b \big(v_b + (m_b - m)^2\big), \]

    the mean and the variance, divided by \(N\), of the \(N\) values per channel that it
    meets in the whole of the data, however that is cut into batches. (Keras' own moving
    average of a fused batch norm divides by \(n_b - 1\).) Sums are taken in float64 and
    merged batch by batch, so that no more than a batch is held in memory.

    The network runs as at inference, and a batch norm sees what comes through those
    before it once these have their new statistics. That takes as many passes over the
    data as batch norms stand one behind the other; those side by side share a pass.

    A batch norm that is used several times gets the statistics of all its uses taken
    together. A `BatchKalmanNormalization` gets the posterior moments that training
    would find if the data were one batch: those of the data, mixed with the prior that
    arrives. Values that a mask excludes do not count.

    Arguments:
        model: A built functional or Sequential model, which may hold others; it is not
            changed.
        data: An array, `(x, y)`, or a `tf.data.Dataset` of batches of either, without
            augmentation; x is a list or a dict for a model of several inputs. Labels
            play no part.
        batch_size: Examples per batch, if `data` is arrays.
        return_report: Whether to return what changed, too.

    Returns:
        The new model, not compiled, with the same layers and the same names; if asked
        for, with a `SurgeryReport` that says how far the moving averages were off.

    Raises:
        ModelError: For a model without batch norm, a subclassed model or part, which it
            names, a layer that cannot be made anew, or a batch norm that is used again
            on what it has normalized itself.
        TypeError, ValueError: For data that does not fit the model or holds no example,
            or values that are not finite; the message names the layer that meets them.

    Example:
        ```python
        import larq_nobn as nobn

        model = nobn.models.ReActNet18((8, 8, 1), 10, "batch_norm", width=16)
        images = nobn.data.load("digits", "test", 128)
        exact = nobn.reestimate_batch_norm(model, images)
        ```
    """
    check_integer("batch_size", batch_size, 1, "Use 128.")
    check_flag("return_report", return_report)
    refuse_opaque(model)
    new = _copy(model)
    norms = [x for x in new.submodules if is_batch_norm(x)]
    if not norms:
        raise ModelError(
            f"Model {model.name!r} has no batch norm, so that there is nothing to "
            "estimate. Pass a model with BatchNormalization layers."
        )
    changes: list[Change] = []

    def apply(norm: keras.layers.Layer, uses: list[Moments]) -> None:
        count = int(sum(use.count for use in uses))
        mean, variance = _of_all_uses(norm, uses)
        changes.append(_change(norm, mean, variance, count))
        norm.moving_mean.assign(mean)
        norm.moving_variance.assign(variance)

    def inputs() -> Iterator[list[tf.Tensor]]:
        return (x for x, _ in model_batches(new, data, batch_size))

    settle(new, {norm: partial(_moments, norm) for norm in norms}, inputs, apply)
    if not return_report:
        return new
    return new, SurgeryReport(model.name, tuple(changes))


def _copy(model: keras.Model) -> keras.Model:
    """The same model of new layers, with models inside it left inside."""
    try:
        with lq.context.quantized_scope(False):
            new = keras.models.clone_model(model, clone_function=rebuild)
            new.set_weights(model.get_weights())
    except ModelError:
        raise
    except Exception as error:  # a user's class may raise anything
        raise ModelError(
            f"Model {model.name!r} cannot be made anew from its configuration: "
            f"{error}. It must be one that Keras can save and open, with no layer "
            "shared between a model and one inside it."
        ) from error
    return new


def _moments(
    norm: keras.layers.Layer, inputs: Any, mask: Any = None, **_: Any
) -> Moments:
    """Of what a batch norm meets in one call."""
    x, *prior = tf.nest.flatten(inputs)
    if isinstance(norm, BatchKalmanNormalization):
        return moments_of(x, context=prior)
    ghost = norm.virtual_batch_size is not None  # counts an axis more
    axes = sorted(axis - ghost for axis in norm.axis)
    if mask is not None and axes[0] >= mask.shape.rank:
        x = tf.boolean_mask(x, mask)  # makes one axis of those of the mask
        axes = [axis - mask.shape.rank + 1 for axis in axes]
    others = [axis for axis in range(x.shape.rank) if axis not in axes]
    channels = norm.moving_mean.shape.num_elements()
    return moments_of(tf.reshape(tf.transpose(x, others + axes), (-1, channels)))


def _of_all_uses(
    norm: keras.layers.Layer, uses: list[Moments]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance per channel, in the shape of the moving averages."""
    if isinstance(norm, BatchKalmanNormalization):
        uses = [_posterior(norm, use) for use in uses]
    found, shape = pooled(uses), norm.moving_mean.shape
    return found.mean.reshape(shape), found.variance.reshape(shape)


def _posterior(norm: BatchKalmanNormalization, use: Moments) -> Moments:
    if not use.context:
        return use
    mean, variance = (moment.astype(float) for moment in use.context)
    *_, mean, variance = posterior(
        use.mean[0], use.variance, mean, variance, norm.prior
    )
    mean, variance = mean.numpy(), variance.numpy()
    spread = use.count * variance
    return Moments(use.count, mean[np.newaxis], spread[np.newaxis, np.newaxis])


def _change(
    norm: keras.layers.Layer, mean: np.ndarray, variance: np.ndarray, count: int
) -> Change:
    old_mean, old_variance = norm.moving_mean.numpy(), norm.moving_variance.numpy()
    ratio = np.sqrt((variance + norm.epsilon) / (old_variance + norm.epsilon))
    shift = np.abs(mean - old_mean) / np.sqrt(variance + norm.epsilon)
    return Change(
        norm.name,
        type(norm).__name__,
        f"statistics of {count:,} values per channel; means moved by up to "
        f"{shift.max():.2g} deviations, deviations to {ratio.min():.3g} to "
        f"{ratio.max():.3g} times theirs",
    )
