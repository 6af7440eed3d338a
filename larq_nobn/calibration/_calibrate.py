"""Sets thresholds, biases and gains from the values that reach each layer."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import tensorflow as tf

from .._checks import check_integer
from .._errors import InvalidValue
from .._keras import alias, keras
from .._progress import step
from ..graph import _errors, _graph, _kinds, _models, _signs
from ..layers import ChannelAffine, RPReLU
from ..layers._kernel_layers import has_kernel
from ..population import moments_of, pooled
from ..population._batches import model_batches
from ..quantizers import BinaryRegularized
from ..quantizers._kernel_quantizer import ScaledKernel
from ..quantizers._rsign import ThresholdSign

# Examples that are computed at a time: what a layer needs besides its output is small.
_PART = 128


def calibrate(model: keras.Model, data: Any, examples: int = 512) -> None:
    r"""Initializes thresholds, biases and gains from a batch of data.

    A new network then computes on that batch what its batch-norm counterpart would,
    after its convolutions and before its signs, as far as there are weights to hold
    the statistics. Afterwards nothing depends on a batch. Layer by layer, each after
    those that are set already, with means m and population standard deviations s per
    channel,

    \[ b_{\mathrm{RSign}} = -\beta\, m(x), \qquad
       \gamma \leftarrow \gamma\, \frac{a}{s(\mathrm{conv}(x))}, \qquad
       b_{\mathrm{RPReLU}} = -\sum_i m(\mathrm{branch}_i) . \]

    - `RSign`, as a layer or an `input_quantizer`: its shift, so that what it takes the
      sign of, the input times its scale β, has mean 0.
    - `ScaledStdSign` and `ScaledStandardization` of convolutions and dense layers: the
      gain γ, so that the output has standard deviation a. That is the quantizer's scale
      where the input is signs, and 1 for real-valued input, such as a projection's,
      whose scale only makes up for the standard deviation that its input should have. A
      bias becomes minus the mean. A layer with a bias directly before a max pool gets
      both from what the pool makes of its output, if nothing else reads that.
    - `RPReLU`: the shift in front, so that the convolutions whose outputs are added to
      its input contribute mean 0. Those since the last activation or normalization
      count, through sums, pools and concatenations, the stem and projections included.
      The mean that a shortcut brings from after an activation stays, as it does
      after batch norm.
    - `ChannelAffine`: β, so that the output has mean 0.

    All else stays as it is; so a sign without a shift sees mean 0 only where a bias
    provides for it. A channel keeps its gain if it hardly varies: by less than 1 % of
    its mean or 0.1 % of what it should. Gains keep their sign and never become 0.
    A layer that is used several times is set at its first use. The network runs as at
    inference, in parts of 128 examples; statistics are taken in float64 also of half
    precision. Thresholds, biases and gains that a model has learned are overwritten.

    Arguments:
        model: A built functional or Sequential model without batch norm, which may
            contain others; changed in place, or left as it was if anything fails.
        data: An array, `(x, y)`, or batches of either, prepared as for training: a
            `tf.data.Dataset`, a `keras.utils.Sequence` or a generator. x is a list or a
            dict for a model of several inputs. Labels play no part.
        examples: How many of the first examples to take, 1 or more. The maps of all of
            them are held in memory, a few at a time.

    Raises:
        ModelError: For a model with batch norm, one without any of the weights above, a
            subclassed model or part.
        TypeError, ValueError: For data that does not fit the model or contains no
            example, values that are not finite, or a number of examples out of range.

    Example:
        ```python
        import larq_nobn as nobn

        model = nobn.models.ReActNet18((8, 8, 1), classes=10, width=16)
        nobn.calibrate(model, nobn.data.load("digits", "train", 128))
        ```

    References:
        - P. Krähenbühl, C. Doersch, J. Donahue, T. Darrell, "Data-dependent
          Initializations of Convolutional Neural Networks", ICLR 2016,
          arXiv:1511.06856.
        - D. Mishkin, J. Matas, "All you need is a good init", ICLR 2016,
          arXiv:1511.06422.

    Differences from the paper:
        Kernels keep their initial weights, and gains take the factors instead. Shifts
        are set too, for signs depend on little else.
    """
    check_integer("examples", examples, 1, "Use 512.")
    _models.check_readable(model)
    _check_batch_norm(model)
    rules = Rules()
    try:
        inputs = _inputs(model, data, examples)
        rules.run(_models.flattened(model), inputs)
    except BaseException:
        rules.undo()
        raise
    if not rules.before:
        raise _errors.ModelError(
            f"Model {model.name!r} has no shift, gain or bias to calibrate. Pass one "
            "with RSign, RPReLU, ScaledStdSign, ScaledStandardization or BiPer, such "
            'as a network built with normalization="nobn".'
        )


def _check_batch_norm(model: keras.Model) -> None:
    names = [x.name for x in model.submodules if _models.has_batch_statistics(x)]
    if names:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        raise _errors.ModelError(
            f"Model {model.name!r} has the batch norm {names[0]!r}{more}, which takes "
            "its statistics from every batch, so that there is nothing to calibrate. "
            'Build it with normalization="nobn", or use remove_batch_norm.'
        )


def _inputs(model: keras.Model, data: Any, examples: int) -> list[ComputedTensor]:
    """Returns the first examples, in parts."""
    parts: list[list[tf.Tensor]] = []
    left = examples
    for tensors, _ in model_batches(model, data, _PART, examples):
        parts.append([tensor[:left] for tensor in tensors])
        left -= len(parts[-1][0])
    return [ComputedTensor(list(one)) for one in zip(*parts, strict=True)]


Parts = list[tf.Tensor]


@dataclass(frozen=True, eq=False)
class ComputedTensor:
    """A tensor of the graph, computed.

    Arguments:
        parts: It, cut along the examples.
        offset: What a batch norm after each of the convolutions it comes from would
            have taken away, for one example; None for nothing.
    """

    parts: list[tf.Tensor]
    offset: tf.Tensor | None = None


ComputedTensors = list[ComputedTensor]


def mean_and_deviation(parts: Parts) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and population standard deviation in float64, (C,) each."""
    moments = pooled(moments_of(part) for part in parts)
    return np.asarray(moments.mean[0]), np.sqrt(moments.variance)


def mean_of(parts: Parts) -> np.ndarray:
    return mean_and_deviation(parts)[0]


def is_linear(layer: keras.layers.Layer) -> bool:
    """Returns whether batch norm could follow a layer with weights."""
    plain = getattr(layer, "activation", None) in (None, keras.activations.linear)
    linear = plain and bool(_kinds.traits(type(layer)).kernel)
    return linear and _kinds.is_channels_last(layer)


def passed_on(call: _graph.Call, values: ComputedTensors) -> tf.Tensor | None:
    """Returns the offset after a call without weights; None for none."""
    offsets = [value.offset for value in values]
    known_offsets = [offset for offset in offsets if offset is not None]
    if not known_offsets:
        return None
    if _kinds.inherited(call.operation.kind).idle:
        return known_offsets[0]
    passes = _kinds.traits(call.operation.kind).constant or _kinds.passes(call)
    if not passes and _kinds.symbol_of(call.layer) not in _kinds.SUMS:
        return None
    zeros = [tf.zeros((1, *value.parts[0].shape[1:])) for value in values]
    given = [z if o is None else o for o, z in zip(offsets, zeros, strict=True)]
    return _at(call, given) - _at(call, zeros)


def _at(call: _graph.Call, given: list[tf.Tensor]) -> tf.Tensor:
    args, kwargs = call.arguments(given)
    # Not the layer itself, which would cast to half precision under such a policy.
    return call.layer.call(*args, **kwargs)


# Below this fraction of its mean, or of the standard deviation it should get, what
# varies in a channel is rounding, or an accident of few examples.
_OF_MEAN, _OF_TARGET = 1e-2, 1e-3


def outputs(
    call: _graph.Call, values: ComputedTensors, layer: keras.layers.Layer | None = None
) -> list[list[tf.Tensor]]:
    """Makes a call, of another layer if one is given, at inference, part by part.

    Returned are the parts of each output.
    """
    layer = call.node.layer if layer is None else layer
    by_part = []
    for given in zip(*(value.parts for value in values), strict=True):
        made = _models.run_call(call, layer, given, False)
        by_part.append(tf.nest.flatten(made))
    return [list(parts) for parts in zip(*by_part, strict=True)]


class Rules:
    """Visits calls in order and sets the weights of their layers, each layer once."""

    def __init__(self) -> None:
        self.before: dict[Any, Any] = {}  # by reference to the weights that were set

    def undo(self) -> None:
        """Gives all weights their old values."""
        for reference, value in self.before.items():
            reference.deref().assign(value)

    def run(self, model: keras.Model, inputs: list[ComputedTensor]) -> None:
        """Visits the calls of a flat model, from the values of its inputs."""
        graph, done = _graph.Graph(model), count(1)

        def make(call: _graph.Call, read: ComputedTensors) -> list[ComputedTensor]:
            made = self.visit(graph, call, read)
            step(f"Initializing {model.name} from data", next(done), len(graph.calls))
            return made

        _models.rerun(graph, inputs, make)

    def visit(
        self, graph: _graph.Graph, call: _graph.Call, values: ComputedTensors
    ) -> list[ComputedTensor]:
        """Sets the weights of a call's layer, then makes the call."""
        layer, first = call.layer, values[0]
        sign = _signs.sign_of_call(call)
        if isinstance(sign, ThresholdSign) and self._is_new(sign.shift):
            mean = _finite(call, mean_of(first.parts))
            self._assign(sign.shift, -sign.scale * mean)
        if isinstance(layer, RPReLU) and self._is_new(layer.shift_in):
            offset = tf.zeros(layer.shift_in.shape)
            if first.offset is not None:
                offset = first.offset
            self._assign(layer.shift_in, -mean_of([offset]))
        if isinstance(layer, ChannelAffine) and self._is_new(layer.beta):
            mean = _finite(call, mean_of(first.parts))
            self._assign(layer.beta, -layer.gamma.numpy() * mean)
        if _kernel_of(layer) is not None:
            self._scale(graph, call, values)
        return self._made(call, values)

    def _made(self, call: _graph.Call, values: ComputedTensors) -> list[ComputedTensor]:
        returned = outputs(call, values)
        if not is_linear(call.layer):
            offset = passed_on(call, values)
        elif _kernel_of(call.layer) is not None and call.layer.use_bias:
            offset = None
        else:
            mean = tf.constant(_finite(call, mean_of(returned[0])), tf.float32)
            offset = tf.broadcast_to(mean, (1, *returned[0][0].shape[1:]))
        return [ComputedTensor(parts, offset) for parts in returned]

    def _scale(
        self, graph: _graph.Graph, call: _graph.Call, values: ComputedTensors
    ) -> None:
        """Sets gain and bias of a layer with one of the scaled kernels."""
        layer, kernel = call.layer, _kernel_of(call.layer)
        gain = None if isinstance(kernel.gain, bool) else kernel.gain
        bias = layer.bias if layer.use_bias else None
        if not any(self._is_new(weight) for weight in (gain, bias)):
            return
        linear = alias(layer, activation=keras.activations.linear)
        parts = outputs(call, values, linear)[0]
        if bias is not None:
            parts = _after_pools(graph, call, parts)
        mean, deviation = mean_and_deviation(parts)
        _finite(call, mean + deviation)
        factor = np.ones_like(mean)
        if gain is not None:
            target = kernel.scale if _reads_signs(call) else 1.0
            varies = deviation > np.maximum(_OF_MEAN * abs(mean), _OF_TARGET * target)
            np.divide(target, deviation, out=factor, where=varies)
            self._assign(gain, gain.numpy() * factor)
        if bias is not None:
            self._assign(bias, factor * (bias.numpy() - mean))

    def _is_new(self, weight: Any) -> bool:
        return weight is not None and weight.ref() not in self.before

    def _assign(self, weight: Any, value: np.ndarray) -> None:
        self.before[weight.ref()] = weight.numpy()
        weight.assign(value.astype(np.float32))


def _kernel_of(layer: keras.layers.Layer) -> Any:
    """The scaled kernel quantizer of a layer whose units are the kernel's last axis."""
    if not has_kernel(layer) or not _kinds.is_channels_last(layer):
        return None
    quantizer = getattr(layer, "kernel_quantizer", None)
    if isinstance(quantizer, BinaryRegularized):
        quantizer = quantizer.quantizer
    return quantizer if isinstance(quantizer, ScaledKernel) else None


def _reads_signs(call: _graph.Call) -> bool:
    # Larq's NoOp says by its precision that bits arrive.
    quantizer = getattr(call.layer, "input_quantizer", None)
    return getattr(quantizer, "precision", None) == 1 or _signs.has_sign_input(call)


def _after_pools(graph: _graph.Graph, call: _graph.Call, parts: Parts) -> Parts:
    """Applies the max pools that alone read an output."""
    tensor = call.first_output
    while reader := graph.sole_consumer(tensor):
        # Not the pools of whole maps, which leave one value of each example.
        if _kinds.inherited(reader.operation.kind).pool != "max":
            break
        parts = [reader.layer(part) for part in parts]
        tensor = reader.first_output
    return parts


def _finite(call: _graph.Call, statistics: np.ndarray) -> np.ndarray:
    if not np.isfinite(statistics).all():
        raise InvalidValue(
            f"Layer {call.described} meets or makes values that are not finite, so "
            "that they have no mean. Look for NaN or infinity in data and weights."
        )
    return statistics
