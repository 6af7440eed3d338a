"""Sets the statistics of batch norms to those of all given data, in place."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from .._keras import check_model, keras
from ..graph import _errors, _models
from ..layers import BatchKalmanNormalization
from ..layers._kalman import posterior
from ._population import PooledMoments, Population, moments_of, pooled

# Enough for statistics of every channel.
EXAMPLES = 512


def has_batch_norm(model: keras.Model) -> bool:
    """Tells whether any layer of a model computes statistics of batches."""
    check_model(model)
    return bool(_norms_of(model))


def averages_of(model: keras.Model) -> list[Any]:
    """Returns the variables with the statistics of all batch norms of a model."""
    norms = _norms_of(model)
    return [x for norm in norms for x in (norm.moving_mean, norm.moving_variance)]


class BatchNormStatistics:
    """Sets the statistics of a model's batch norms from data, any number of times.

    Each batch norm is set after those before it, from inputs that use their new
    statistics; the formula is in `larq_nobn.reestimate_batch_norm`. The model is traced
    once.

    Attributes:
        norms: The batch norms, wherever they are in the model.

    Raises:
        ModelError: For a model without batch norm, a subclassed model or nested model,
            or a batch norm whose input depends on its own output.
    """

    def __init__(self, model: keras.Model) -> None:
        _models.check_readable(model)
        self.norms = _norms_of(model)
        if not self.norms:
            raise _errors.ModelError(
                f"Model {model.name!r} has no batch norm, so there is nothing to "
                "estimate. Pass a model with BatchNormalization layers."
            )
        probes = {norm: partial(_moments, norm) for norm in self.norms}
        self._population = Population(model, probes)

    def take(self, batches: Callable[[], Iterable[list[tf.Tensor]]]) -> dict[Any, int]:
        """Sets the statistics of the batch norms to those of all batches.

        `batches` starts a pass over the data; each batch is a list of the model's
        inputs. Returns the number of values per channel, by batch norm.

        Raises:
            ValueError: If the input of a layer is not finite.
        """
        counts: dict[Any, int] = {}

        def apply(norm: keras.layers.Layer, uses: list[PooledMoments]) -> None:
            counts[norm] = int(sum(use.count for use in uses))
            if isinstance(norm, BatchKalmanNormalization):
                uses = [_posterior(norm, use) for use in uses]
            moments, shape = pooled(uses), norm.moving_mean.shape
            norm.moving_mean.assign(moments.mean.reshape(shape))
            norm.moving_variance.assign(moments.variance.reshape(shape))

        self._population.settle(batches, apply)
        return counts


def _norms_of(model: keras.Model) -> list[keras.layers.Layer]:
    return [
        module for module in model.submodules if _models.has_batch_statistics(module)
    ]


def _moments(
    norm: keras.layers.Layer, inputs: Any, mask: Any = None, **_: Any
) -> PooledMoments:
    x, *prior = tf.nest.flatten(inputs)
    if isinstance(norm, BatchKalmanNormalization):
        return moments_of(x, context=prior)
    ghost = norm.virtual_batch_size is not None  # its axes count one axis more
    axes = sorted(axis - ghost for axis in norm.axis)
    if mask is not None and axes[0] >= mask.shape.rank:
        x = tf.boolean_mask(x, mask)  # merges the axes of the mask into one
        axes = [axis - mask.shape.rank + 1 for axis in axes]
    others = [axis for axis in range(x.shape.rank) if axis not in axes]
    channels = norm.moving_mean.shape.num_elements()
    return moments_of(tf.reshape(tf.transpose(x, others + axes), (-1, channels)))


def _posterior(norm: BatchKalmanNormalization, use: PooledMoments) -> PooledMoments:
    if not use.context:
        return use
    mean, variance = (moment.astype(float) for moment in use.context)
    *_, mean, variance = posterior(
        use.mean[0], use.variance, mean, variance, norm.prior
    )
    mean, variance = mean.numpy(), variance.numpy()
    spread = use.count * variance
    return PooledMoments(use.count, mean[np.newaxis], spread[np.newaxis, np.newaxis])
