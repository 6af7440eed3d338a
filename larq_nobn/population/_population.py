"""Measures statistics of the inputs of some layers of a model, over all data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial, reduce
from graphlib import CycleError, TopologicalSorter
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from .._errors import InvalidValue
from .._keras import check_model, keras
from ..graph import _errors, _models
from ..layers import BatchKalmanNormalization
from ..layers._kalman import posterior


class PooledMoments(NamedTuple):
    """Mean and covariance of k quantities per channel, in float64.

    Arguments:
        count: Number of values of each quantity.
        mean: (k, C).
        comoment: (k, k, C), sums of products of deviations from the mean.
        context: Other data, equal for all batches.
    """

    count: Any
    mean: Any
    comoment: Any
    context: tuple = ()

    @property
    def variance(self) -> Any:
        """Returns the population variance of the first quantity, (C,)."""
        return self.comoment[0, 0] / self.count

    def merged(self, other: PooledMoments) -> PooledMoments:
        """Returns the moments of both, without differences of squares."""
        if not self.count or not other.count:
            return self if self.count else other
        count = self.count + other.count
        distance = other.mean - self.mean
        weight = self.count * other.count / count
        between = distance[:, None] * distance[None] * weight
        return PooledMoments(
            count,
            self.mean + distance * (other.count / count),
            self.comoment + other.comoment + between,
            other.context,
        )


def moments_of(*quantities: tf.Tensor, context: Iterable[Any] = ()) -> PooledMoments:
    """Returns the moments of tensors of one shape (..., C), as tensors."""
    channels = quantities[0].shape[-1]
    rows = [tf.reshape(tf.cast(q, tf.float64), (-1, channels)) for q in quantities]
    values = tf.stack(rows)
    mean = tf.reduce_mean(values, axis=1)
    offset = values - mean[:, tf.newaxis]
    comoment = tf.einsum("inc,jnc->ijc", offset, offset)
    count = tf.cast(tf.shape(values)[1], tf.float64)
    return PooledMoments(count, mean, comoment, tuple(context))


def pooled(uses: Iterable[PooledMoments]) -> PooledMoments:
    """Returns the moments of all values together."""
    return reduce(PooledMoments.merged, uses)


class _Use(NamedTuple):
    """One call of a layer in the traced model."""

    layer: keras.layers.Layer
    inputs: list[tf.Tensor]
    outputs: list[tf.Tensor]
    moments: PooledMoments


class Population:
    """Measures the inputs of some layers of a model, any number of times.

    Arguments:
        model: A functional model, which runs as at inference.
        probes: The layers, each with a function that returns the moments of the
            arguments of a call.

    Raises:
        ModelError: If the input of a layer depends on its own output.
    """

    def __init__(
        self,
        model: keras.Model,
        probes: Mapping[keras.layers.Layer, Callable[..., PooledMoments]],
    ) -> None:
        uses, graph = _traced(model, probes)
        inputs = graph.inputs[: len(model.inputs)]
        self._levels: list[tuple[list[_Use], Any]] = []
        for layers in _levels(uses):
            chosen = [use for use in uses if use.layer in layers]
            measure = graph.prune(inputs, [use.moments for use in chosen])
            self._levels.append((chosen, measure))

    def settle(
        self,
        batches: Callable[[], Iterable[list[tf.Tensor]]],
        apply: Callable[[keras.layers.Layer, list[PooledMoments]], None],
    ) -> None:
        """Measures the layers and calls `apply`, each after the layers before it.

        Arguments:
            batches: Function that starts a pass over the data. There is one pass for
                all layers that do not depend on each other.
            apply: Function of a layer and the moments of each of its uses; it may
                change weights.

        Raises:
            ValueError: If the input of a layer is not finite.
        """
        for uses, measure in self._levels:
            measured = (measure(*inputs) for inputs in batches())
            by_batch = (tf.nest.map_structure(np.asarray, x) for x in measured)
            totals = reduce(lambda x, y: [*map(PooledMoments.merged, x, y)], by_batch)
            for layer in dict.fromkeys(use.layer for use in uses):  # in their order
                pairs = zip(uses, totals, strict=True)
                own = [total for use, total in pairs if use.layer is layer]
                moments = [x for use in own for x in (use.mean, use.comoment)]
                if not all(np.isfinite(x).all() for x in moments):
                    raise InvalidValue(
                        f"The input of layer {layer.name!r} is not finite, so it has "
                        "no statistics. Look for NaN or infinity in data and weights."
                    )
                apply(layer, own)


def _levels(uses: list[_Use]) -> Iterator[tuple[keras.layers.Layer, ...]]:
    """Yields the layers in groups, each after those that it depends on."""
    order = TopologicalSorter(_dependencies(uses))
    try:
        order.prepare()
    except CycleError as error:
        names = ", ".join(sorted({repr(layer.name) for layer in error.args[1]}))
        raise _errors.ModelError(
            f"The input of layer {names} depends on its own output, so its statistics "
            "would depend on themselves. Give every use a layer of its own."
        ) from error
    while order.is_active():
        level = order.get_ready()
        yield level
        order.done(*level)


def _traced(
    model: keras.Model,
    probes: Mapping[keras.layers.Layer, Callable[..., PooledMoments]],
) -> tuple[list[_Use], Any]:
    """Returns all uses of the layers in one graph of the model, and that graph."""
    uses: list[_Use] = []

    def listen(layer: keras.layers.Layer, probe: Callable[..., PooledMoments]) -> None:
        original_call = layer.call
        probe = tf.autograph.experimental.do_not_convert(probe)  # plain operations

        def call(inputs: Any, *args: Any, **kwargs: Any) -> Any:
            # A call in the model may be fixed to training=True, its second argument.
            args = (False, *args[1:]) if args else ()
            if "training" in kwargs:
                kwargs["training"] = False
            outputs = original_call(inputs, *args, **kwargs)
            moments = probe(inputs, **kwargs)
            flat = tf.nest.flatten(inputs), tf.nest.flatten(outputs)
            uses.append(_Use(layer, *flat, moments))
            return outputs

        layer.call = call

    def forward(*inputs: tf.Tensor) -> None:
        model(tf.nest.pack_sequence_as(model._nested_inputs, inputs), training=False)

    signature = [tf.TensorSpec((None, *x.shape[1:]), x.dtype) for x in model.inputs]
    try:
        for layer, probe in probes.items():
            listen(layer, probe)
        return uses, tf.compat.v1.wrap_function(forward, signature)
    finally:
        for layer in probes:
            del layer.call


def _dependencies(uses: list[_Use]) -> dict[Any, set[Any]]:
    """Returns, for every layer, the other layers that its inputs depend on directly."""
    makers = {tensor.ref(): use.layer for use in uses for tensor in use.outputs}
    sources: dict[Any, set[Any]] = {use.layer: set() for use in uses}
    for use in uses:
        to_visit, visited = list(use.inputs), set()
        while to_visit:
            tensor = to_visit.pop()
            if tensor.ref() in makers:
                sources[use.layer].add(makers[tensor.ref()])
            elif tensor.op not in visited:
                visited.add(tensor.op)
                to_visit += tensor.op.inputs
    return sources


# --- batch norms: their statistics become those of all given data, in place

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
