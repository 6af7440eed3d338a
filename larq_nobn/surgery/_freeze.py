from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from .._checks import check_flag, check_integer
from .._keras import alias, keras
from .._math import at_least_float32, beside
from ..deploy.verify._same import check_same_function
from ..graph import _copies, _errors, _graph, _models, _operation, _traits
from ..layers import ChannelAffine, EvoNormS0, ProxyNormalization
from ..layers._group_statistics import group_moments
from ..layers._proxy import FLOOR
from ..population import PooledMoments, Population, moments_of, pooled
from ..population._batches import model_batches
from ._batch_norm import channel_affine
from ._report import FrozenLayer, SurgeryReport

_layers = keras.layers
_Function = Callable[[tf.Tensor], tf.Tensor]
DYNAMIC = tuple(
    kind for kind, known in _traits.KINDS.items() if known.norm == "example"
)


def freeze_statistics(
    model: keras.Model,
    data: Any,
    batch_size: int = 128,
    return_report: bool = False,
    verify: bool = True,
) -> Any:
    r"""Replaces the statistics that a network takes of each example by constants.

    `FilterResponseNormalization`, `ProxyNormalization`, `EvoNormS0` and Keras'
    GroupNormalization and LayerNormalization multiply and shift every channel by
    statistics of the example itself. A device has to compute these reductions, and no
    converter can fold them. Here a gain and a bias per channel, the same for all
    examples, replace them, and after a binary convolution these cost nothing. If a
    channel x becomes y under the examples' own statistics,

    \[ \hat y = k_c x + b_c, \qquad
       k_c = \operatorname{sign}(\operatorname{cov}(x, y))\,
       \sqrt{\frac{\operatorname{var} y}{\operatorname{var} x}}, \qquad
       b_c = \operatorname{mean} y - k_c \operatorname{mean} x , \]

    over all positions of all data: the channel keeps its mean and its standard
    deviation. If all examples have the same statistics, nothing changes. For a filter
    response normalization of values around zero this is \(\gamma /
    \sqrt{\operatorname{mean} \nu^2}\).

    All else in such a layer stays: the activation and the proxy step of proxy
    normalization, which is constant already, and the gate of EvoNorm. As in
    `reestimate_batch_norm`, a layer is calibrated after those before it are frozen,
    from their new outputs, which takes a pass over the data for every layer in a row.
    A network whose examples differ much in contrast loses accuracy; fine-tune it, since
    gains and biases are trainable.

    Arguments:
        model: A built functional or Sequential model, which may contain nested models.
            It is not changed.
        data: An array, `(x, y)`, or a `tf.data.Dataset` of batches of either, like the
            data in use; x is a list or a dict for a model of several inputs. Labels are
            not used.
        batch_size: Examples per batch, if `data` is arrays.
        return_report: Whether to return a `SurgeryReport` as well.
        verify: Whether to compare everything except the frozen layers, which must stay
            the same, on a few generated examples, segment by segment.

    Returns:
        A functional model of the same name, not compiled; with `return_report` the pair
        of it and the report. The report has a `FrozenLayer` for each layer, which tells
        how far constants are from the examples' own statistics.

    Raises:
        ModelError: For a model without such layers; for layers that normalize another
            axis than the last or are in a wrapper, all of which it names; for a
            subclassed part; or for a layer whose input depends on its own output. Also
            if anything around the frozen layers computes something else.
        TypeError, ValueError: For data that does not fit the model or contains no
            example, or for values that are not finite; the message names the layer that
            receives them.

    Example:
        ```python
        import larq_nobn as nobn

        model = nobn.models.ReActNet18((8, 8, 1), 10, "filter_response", width=16)
        images = nobn.data.load("digits", "test", 128)
        frozen, report = nobn.freeze_statistics(model, images, return_report=True)
        print(report)
        ```
    """
    check_integer("batch_size", batch_size, 1, "Use 128.")
    check_flag("return_report", return_report)
    check_flag("verify", verify)
    given = _models.flat(model)
    _models.check_inference(given)
    rows = _rows(given)
    graph = _graph.Graph(given)
    for name, row in rows.items():
        graph = graph.with_row(name, row.row)
    frozen = _copies.to_keras(graph)
    names = {frozen.get_layer(row.row[0].name): name for name, row in rows.items()}
    changes: dict[str, FrozenLayer] = {}

    def apply(first: keras.layers.Layer, uses: list[PooledMoments]) -> None:
        name = names[first]
        affine = frozen.get_layer(rows[name].affine)
        distance = _calibrate(affine, pooled(uses))
        off = f"{distance:.1%} of a standard deviation off"
        action = f"gain and bias per channel, {off}"
        if len(rows[name].row) > 1:
            parts = ", ".join(repr(part.name) for part in rows[name].row)
            action = f"{parts}, with {action}"
        kind = type(given.get_layer(name)).__name__
        changes[name] = FrozenLayer(name, kind, action, distance=distance)

    probes = {first: partial(_moments, rows[name]) for first, name in names.items()}
    Population(frozen, probes).settle(
        lambda: (x for x, _ in model_batches(frozen, data, batch_size)), apply
    )
    if verify:
        reference = _models.replace_layers(given, partial(_replaced, frozen, rows))
        check_same_function(reference, frozen, "Freezing statistics")
    if not return_report:
        return frozen
    return frozen, SurgeryReport(model.name, [changes[name] for name in rows])


def _replaced(
    frozen: keras.Model, rows: dict[str, Constant], call: _graph.Call
) -> Callable[..., Any]:
    """Returns the given layer of a call, or the frozen layers that replace it."""
    if call.name not in rows:
        return alias(call.layer)
    layers = [alias(frozen.get_layer(part.name)) for part in rows[call.name].row]
    return lambda x: reduce(lambda y, layer: layer(y), layers, x)


def _rows(model: keras.Model) -> dict[str, Constant]:
    """Returns the row that replaces each dynamic layer of a model, by name."""
    rows: dict[str, Constant] = {}
    failed: list[str] = []
    graph = _graph.Graph(model)
    for call in graph.calls:
        layer, label = call.layer, call.described
        if not isinstance(layer, DYNAMIC):
            inside = [part for part in layer.submodules if isinstance(part, DYNAMIC)]
            failed += [label] if inside else []
        elif call.name not in rows:
            row = constant_of(call, graph)
            if row is None:
                failed.append(label)
            else:
                rows[call.name] = row
    if failed:
        raise _errors.ModelError(
            f"The statistics of layer {', '.join(dict.fromkeys(failed))} cannot "
            "become a gain and a bias per channel. Normalize the last axis alone (with "
            "groups, positions too), by a layer of its own instead of inside another."
        )
    if not rows:
        kinds = ", ".join(kind.__name__ for kind in DYNAMIC)
        raise _errors.ModelError(
            f"Model {model.name!r} has no layer that takes statistics of its examples, "
            f"so there is nothing to freeze. Such layers are {kinds}."
        )
    return rows


# --- replacements of layers whose statistics become constants


class Constant(NamedTuple):
    """Operations in a row, one of them a gain and a bias per channel to be calibrated.

    Attributes:
        affine: The name of the operation with this gain and bias.
        row: All operations.
        target: The function of the row's input that this operation should return.
        source: The function of the row's input that this operation reads.
    """

    affine: str
    row: tuple[_operation.Operation, ...]
    target: _Function
    source: _Function = tf.identity


def _moments(row: Constant, inputs: tf.Tensor, **_: Any) -> PooledMoments:
    return moments_of(row.source(inputs), row.target(inputs))


def _calibrate(layer: ChannelAffine, moments: PooledMoments) -> float:
    """Sets the gain and the bias of a layer from the moments of all data.

    Returns:
        The root mean square of the remaining error, in standard deviations of the
    """
    spread, both, power = moments.comoment[[0, 0, 1], [0, 1, 1]]
    # Rounding makes even a constant channel vary a little.
    varies = spread > 1e-10 * moments.count * np.square(moments.mean[0])
    ratio = np.divide(power, spread, out=np.zeros_like(power), where=varies)
    gain = np.copysign(np.sqrt(ratio), both)
    layer.gamma.assign(gain)
    layer.beta.assign(moments.mean[1] - gain * moments.mean[0])
    left = power - 2 * gain * both + np.square(gain) * spread
    return float(np.sqrt(max(left.sum(), 0) / power.sum())) if power.any() else 0.0


def constant_of(call: _graph.Call, graph: _graph.Graph) -> Constant | None:
    """Returns the row that replaces a layer; None if there is no such row."""
    layer, rank = call.layer, call.first_input.shape.rank
    if isinstance(layer, ProxyNormalization):
        return _proxy(layer, graph)
    if isinstance(layer, EvoNormS0):
        return _evonorm(layer, graph)
    kinds = (_layers.LayerNormalization, _layers.GroupNormalization)
    if isinstance(layer, kinds) and list(np.ravel(layer.axis) % rank) != [rank - 1]:
        return None
    return Constant(layer.name, (channel_affine(layer, layer.name),), layer)


def _activation(
    layer: keras.layers.Layer, name: str, activation: Any
) -> _operation.Operation:
    arguments = {"activation": activation, "dtype": layer.dtype_policy.name}
    return _operation.Operation(name, _layers.Activation, None, arguments)


def _proxy(layer: ProxyNormalization, graph: _graph.Graph) -> Constant:
    """Calibrates the group norm alone; the proxy step is constant already."""
    name = layer.name
    if layer.activation is keras.activations.linear:
        return Constant(name, (channel_affine(layer, name),), layer)

    def normalized(x: tf.Tensor) -> tf.Tensor:
        mean, variance = group_moments(x, layer.groups)
        rate = tf.math.rsqrt(variance + FLOOR)
        gamma, beta = beside(x, layer.gamma), beside(x, layer.beta)
        return (tf.cast(x, mean.dtype) - mean) * rate * gamma + beta

    weights = map(tf.convert_to_tensor, (layer.gamma, layer.beta))
    center, variance = layer._proxy_moments(*map(at_least_float32, weights))
    rate = tf.math.rsqrt(variance + layer.epsilon).numpy()
    affine = channel_affine(layer, graph.free(f"{name}_affine"))
    row = (
        affine,
        _activation(layer, graph.free(f"{name}_activation"), layer.activation),
        channel_affine(layer, name, rate, -rate * center.numpy()),
    )
    return Constant(affine.name, row, normalized)


def _evonorm(layer: EvoNormS0, graph: _graph.Graph) -> Constant:
    """Writes x·sigmoid(v·x) as swish(v·x), whose factor v becomes part of the gain."""
    v, name = layer.v.numpy(), layer.name
    v = np.where(np.abs(v) < 1e-6, 1e-6, v)  # swish(0) would lose x

    def swish(x: tf.Tensor) -> tf.Tensor:
        return tf.nn.silu(v * tf.cast(x, v.dtype))

    row = (
        channel_affine(layer, graph.free(f"{name}_slope"), v, np.zeros_like(v)),
        _activation(layer, graph.free(f"{name}_swish"), "swish"),
        channel_affine(layer, name),
    )
    return Constant(name, row, layer, swish)
