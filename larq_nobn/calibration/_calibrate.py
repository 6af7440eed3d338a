"""Sets thresholds, biases and gains from the inputs of each layer."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import tensorflow as tf

from .._checks import check_integer
from .._errors import InvalidValue
from .._keras import alias, keras
from .._larq import unmeasured
from .._progress import step
from ..graph import _errors, _graph, _models, _operation, _signs, _traits
from ..layers import ChannelAffine, RPReLU
from ..layers._kernel_layers import has_kernel
from ..population import moments_of, pooled
from ..population._batches import model_batches
from ..quantizers import BinaryRegularized
from ..quantizers._kernel_quantizer import ScaledKernel
from ..quantizers._rsign import ThresholdSign

_log = logging.getLogger("larq_nobn.start")
# Thresholds are looked for up to so many times a weight, by so many halvings.
_FARTHEST, _HALVINGS = 64.0, 30
# Examples that are computed at a time, to limit the temporary memory of layers.
_BATCH = 128


def calibrate(model: keras.Model, data: Any, examples: int = 512) -> None:
    r"""Initializes thresholds, biases and gains from a batch of data.

    On that batch, a new network then computes the same as its batch-norm counterpart,
    after its convolutions and before its signs, as far as it has weights for the
    statistics. Afterwards nothing depends on a batch. Layers are set in order, each
    from the outputs of those before it. With means m and population standard deviations
    s per channel,

    \[ b_{\mathrm{RSign}} = -\beta\, m(x), \qquad
       \gamma \leftarrow \gamma\, \frac{a}{s(\mathrm{conv}(x))}, \qquad
       b_{\mathrm{RPReLU}} = -\sum_i m(\mathrm{branch}_i) . \]

    - `RSign`, as a layer or an `input_quantizer`: the shift, so that the pre-activation
      (the input times the scale β, plus the shift) has mean 0.
    - `ScaledStdSign` and `ScaledStandardization` of convolutions and dense layers: the
      gain γ, so that the output has standard deviation a. If the input is signs, a is
      the quantizer's scale; for real-valued input, such as a projection's, a is 1. A
      bias becomes minus the mean. If a max pool alone reads the output of a layer with
      a bias, the statistics are those after the pool.
    - `RPReLU`: the first shift, so that the convolutions whose outputs are added to its
      input contribute mean 0. These are all convolutions since the last activation or
      normalization, also through sums, pools and concatenations. The mean of a shortcut
      from an activation is kept, as with batch norm.
    - `ChannelAffine`: β, so that the output has mean 0.
    - Signs and kernel quantizers of your own with one trainable weight, (C,), are known
      by what they compute: a sign whose threshold is proportional to it, and a kernel
      that is. Those with other weights are left as they are, and named in a warning.

    Nothing else changes; so the pre-activation of a sign without a shift has mean 0
    only if a bias provides it. A channel keeps its gain if its standard deviation is
    below 1 % of its mean or 0.1 % of a. Gains keep their sign and never become 0. A
    layer that is used several times is set at its first use. The network runs as at
    inference, in batches of 128 examples; statistics are float64. Learned thresholds,
    biases and gains are overwritten.

    Arguments:
        model: A built functional or Sequential model without batch norm, which may
            contain nested models. It is changed in place, unless an error is raised.
        data: An array, `(x, y)`, or batches of either, preprocessed as for training: a
            `tf.data.Dataset`, a `keras.utils.Sequence` or a generator. x is a list or a
            dict for a model of several inputs. Labels are not used.
        examples: Number of examples, from the first, 1 or more. A few feature maps of
            all examples are in memory at a time.

    Raises:
        ModelError: For a model with batch norm, a model without any of the weights
            above, or a subclassed model or nested model.
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
        Kernels keep their initial weights, and gains are multiplied by the factors.
        Shifts are set too, since signs depend on them most.
    """
    check_integer("examples", examples, 1, "Use 512.")
    _models.check_readable(model)
    names = [x.name for x in model.submodules if _models.has_batch_statistics(x)]
    if names:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        raise _errors.ModelError(
            f"Model {model.name!r} has the batch norm {names[0]!r}{more}, which "
            "computes statistics of every batch, so there is nothing to calibrate. "
            'Build it with normalization="nobn", or use remove_batch_norm.'
        )
    inputs = _inputs(model, data, examples)
    rules = Rules(_models.flattened(model))
    try:
        rules.run(inputs)
    except BaseException:
        rules.undo()
        raise
    if rules.left:
        _log.warning(
            "calibrate leaves weights of %s as they are: no weight is proportional to "
            "the threshold or the kernel.",
            ", ".join(rules.left),
        )
    if not rules.before:
        raise _errors.ModelError(
            f"Model {model.name!r} has no shift, gain or bias to calibrate. Pass a "
            "model with RSign, RPReLU, ScaledStdSign, ScaledStandardization or BiPer, "
            'such as a network built with normalization="nobn".'
        )


def _inputs(model: keras.Model, data: Any, examples: int) -> list[ComputedTensor]:
    """Returns the inputs of a model for the first examples of data."""
    batches: list[list[tf.Tensor]] = []
    missing = examples
    for tensors, _ in model_batches(model, data, _BATCH, examples):
        batches.append([tensor[:missing] for tensor in tensors])
        missing -= len(batches[-1][0])
    return [ComputedTensor(list(one)) for one in zip(*batches, strict=True)]


@dataclass(frozen=True, eq=False)
class ComputedTensor:
    """The values of a tensor of the graph.

    Arguments:
        batches: The values, in batches of examples.
        offset: The amount, for one example, that batch norms after the convolutions
            before this tensor would have subtracted; None for nothing.
    """

    batches: list[tf.Tensor]
    offset: tf.Tensor | None = None


def mean_and_std(batches: list[tf.Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and population standard deviation in float64, (C,) each."""
    moments = pooled(moments_of(batch) for batch in batches)
    return np.asarray(moments.mean[0]), np.sqrt(moments.variance)


def mean_of(batches: list[tf.Tensor]) -> np.ndarray:
    return mean_and_std(batches)[0]


def passed_on(call: _graph.Call, values: list[ComputedTensor]) -> tf.Tensor | None:
    """Returns the offset of the output of a call without weights, or None."""
    offsets = [value.offset for value in values]
    if all(offset is None for offset in offsets):
        return None
    if _traits.inherited(call.operation.kind).idle:
        return next(offset for offset in offsets if offset is not None)
    passes = _traits.traits(call.operation.kind).constant or _traits.passes(call)
    if not passes and _traits.symbol_of(call.layer) not in _traits.SUMS:
        return None
    zeros = [tf.zeros((1, *value.batches[0].shape[1:])) for value in values]
    inputs = [z if o is None else o for o, z in zip(offsets, zeros, strict=True)]
    return _in_float32(call, inputs) - _in_float32(call, zeros)


def _in_float32(call: _graph.Call, inputs: list[tf.Tensor]) -> tf.Tensor:
    args, kwargs = call.arguments(inputs)
    # Not `call.layer(...)`, which casts to half precision under such a policy.
    return call.layer.call(*args, **kwargs)


# A channel whose standard deviation is below this fraction of its mean, or of the
# target, varies only by rounding or by chance.
_OF_MEAN, _OF_TARGET = 1e-2, 1e-3


def outputs(
    call: _graph.Call, values: list[ComputedTensor], layer: keras.layers.Layer
) -> list[list[tf.Tensor]]:
    """Returns the batches of each output of a call of `layer` instead of its own."""
    by_batch = []
    for inputs in zip(*(value.batches for value in values), strict=True):
        output = _models.run_call(call, layer, inputs, False)
        by_batch.append(tf.nest.flatten(output))
    return [list(batches) for batches in zip(*by_batch, strict=True)]


class Rules:
    """Visits calls in order and sets the weights of their layers, each layer once."""

    def __init__(self, model: keras.Model) -> None:
        self._graph = _graph.Graph(model)  # without nested models
        self.before: dict[Any, Any] = {}  # old values, by reference to the weight
        self.left: list[str] = []  # layers with quantizers that are not known

    def undo(self) -> None:
        for reference, value in self.before.items():
            reference.deref().assign(value)

    def run(self, inputs: list[ComputedTensor]) -> None:
        """Visits the calls of the model, starting at its inputs."""
        graph, done = self._graph, count(1)

        def make(call: _graph.Call, values: list[ComputedTensor]) -> Any:
            self._set(call, values)
            returned = self._call(call, values)
            what = f"Initializing {graph.model.name} from data"
            step(what, next(done), len(graph.calls))
            return returned

        _models.rerun(graph, inputs, make)

    def _set(self, call: _graph.Call, values: list[ComputedTensor]) -> None:
        layer, first = call.layer, values[0]
        sign = _signs.sign_of_call(call)
        shape = tuple(first.batches[0].shape[1:])
        shift, factor = _shift_of(sign, shape) or (None, 0.0)
        if self._is_new(shift):
            mean = _finite(call, mean_of(first.batches))
            self._assign(shift, factor * mean)
        kernel = _kernel_of(layer)
        quantizer = getattr(layer, "kernel_quantizer", None)
        for part, known in ((sign, shift), (quantizer, kernel)):
            if known is None and _is_users_with_weights(part):
                self.left.append(layer.name)
        if isinstance(layer, RPReLU) and self._is_new(layer.shift_in):
            none = first.offset is None
            offset = tf.zeros(layer.shift_in.shape) if none else first.offset
            self._assign(layer.shift_in, -mean_of([offset]))
        if isinstance(layer, ChannelAffine) and self._is_new(layer.beta):
            mean = _finite(call, mean_of(first.batches))
            self._assign(layer.beta, -layer.gamma.numpy() * mean)
        if kernel is not None:
            self._scale(call, values)

    def _call(
        self, call: _graph.Call, values: list[ComputedTensor]
    ) -> list[ComputedTensor]:
        layer, returned = call.layer, outputs(call, values, call.node.layer)
        plain = getattr(layer, "activation", None) in (None, keras.activations.linear)
        linear = plain and _traits.traits(type(layer)).kernel
        if not linear or not _traits.is_channels_last(layer):
            offset = passed_on(call, values)
        elif _kernel_of(layer) is not None and layer.use_bias:
            offset = None
        else:
            mean = tf.constant(_finite(call, mean_of(returned[0])), tf.float32)
            offset = tf.broadcast_to(mean, (1, *returned[0][0].shape[1:]))
        return [ComputedTensor(batches, offset) for batches in returned]

    def _scale(self, call: _graph.Call, values: list[ComputedTensor]) -> None:
        layer, kernel = call.layer, _kernel_of(call.layer)
        gain = _gain_of(layer, kernel)
        bias = layer.bias if layer.use_bias else None
        if not any(self._is_new(weight) for weight in (gain, bias)):
            return
        linear = alias(layer, activation=keras.activations.linear)
        batches = outputs(call, values, linear)[0]
        if bias is not None:
            # A max pool may alone read the output; a global one leaves one value.
            tensor = call.first_output
            while reader := self._graph.sole_consumer(tensor):
                if _traits.inherited(reader.operation.kind).pool != "max":
                    break
                batches = [reader.layer(batch) for batch in batches]
                tensor = reader.first_output
        mean, std = mean_and_std(batches)
        _finite(call, mean + std)
        factor = np.ones_like(mean)
        if gain is not None:
            target = getattr(kernel, "scale", 1.0) if _reads_signs(call) else 1.0
            varies = std > np.maximum(_OF_MEAN * abs(mean), _OF_TARGET * target)
            np.divide(target, std, out=factor, where=varies)
            self._assign(gain, gain.numpy() * factor)
        if bias is not None:
            self._assign(bias, factor * (bias.numpy() - mean))

    def _is_new(self, weight: Any) -> bool:
        return weight is not None and weight.ref() not in self.before

    def _assign(self, weight: Any, value: np.ndarray) -> None:
        self.before[weight.ref()] = weight.numpy()
        weight.assign(value.astype(np.float32))


def _kernel_of(layer: keras.layers.Layer) -> Any:
    """Returns the scaled kernel quantizer of a layer with channels last, or None."""
    if not has_kernel(layer) or not _traits.is_channels_last(layer):
        return None
    quantizer = getattr(layer, "kernel_quantizer", None)
    if isinstance(quantizer, BinaryRegularized):
        quantizer = quantizer.quantizer
    if isinstance(quantizer, ScaledKernel) or _gain_of(layer, quantizer) is not None:
        return quantizer
    return None


def _gain_of(layer: keras.layers.Layer, quantizer: Any) -> Any:
    """Returns the weight, (C,), that a quantized kernel is proportional to, or None."""
    if isinstance(quantizer, ScaledKernel):
        return None if isinstance(quantizer.gain, bool) else quantizer.gain
    gain = _only_weight(quantizer)
    if gain is None or gain.shape != layer.kernel.shape[-1:]:
        return None
    latent = _operation.latent(layer.kernel)
    with _restored(gain), unmeasured(quantizer):
        gain.assign(_draw(0, gain.shape))
        once = np.asarray(quantizer(tf.convert_to_tensor(latent)))
        gain.assign(_draw(1, gain.shape))
        again = np.asarray(quantizer(tf.convert_to_tensor(latent)))
    factor = _draw(1, gain.shape) / _draw(0, gain.shape)
    return gain if np.allclose(again, once * factor, rtol=1e-5, atol=0) else None


def _shift_of(sign: Any, shape: tuple[int, ...]) -> tuple[Any, float] | None:
    """Returns the weight of a sign in proportion to its threshold, and the ratio.

    `shape` is that of one example.
    """
    if isinstance(sign, ThresholdSign):
        return None if sign.shift is None else (sign.shift, -sign.scale)
    weight = _only_weight(sign)
    if weight is None or weight.shape != shape[-1:]:
        return None
    ratios = []
    with _restored(weight), unmeasured(sign):
        for number in range(2):
            weights = _draw(number, weight.shape)
            weight.assign(weights)
            low, high = (end * np.ones(shape[-1]) for end in (-_FARTHEST, _FARTHEST))
            for _ in range(_HALVINGS):
                middle = (low + high) / 2
                x = np.broadcast_to(middle * weights, (1, *shape)).astype(np.float32)
                positive = np.asarray(sign(x)).reshape(-1, shape[-1])[0] > 0
                low, high = (
                    np.where(positive, low, middle),
                    np.where(positive, middle, high),
                )
            ratios += [*high]
    ratio = float(np.mean(ratios))
    same = np.allclose(ratios, ratio, rtol=1e-3, atol=0)
    return (weight, 1 / ratio) if same and abs(ratio) < _FARTHEST - 1 else None


def _only_weight(quantizer: Any) -> Any:
    """Returns the trainable weight of a user's quantizer with a single one, or None."""
    if not _is_users_with_weights(quantizer):
        return None
    first, *others = quantizer.trainable_weights
    return None if others or first.shape.rank != 1 else first


def _is_users_with_weights(quantizer: Any) -> bool:
    return _signs.is_users(quantizer) and bool(
        getattr(quantizer, "trainable_weights", None)
    )


def _draw(number: int, shape: Any) -> np.ndarray:
    return np.random.default_rng(number).uniform(1, 2, shape).astype(np.float32)


@contextmanager
def _restored(weight: Any) -> Iterator[None]:
    before = weight.numpy()
    try:
        yield
    finally:
        weight.assign(before)


def _reads_signs(call: _graph.Call) -> bool:
    # Larq's NoOp(precision=1) declares that inputs are signs.
    quantizer = getattr(call.layer, "input_quantizer", None)
    return getattr(quantizer, "precision", None) == 1 or _signs.has_sign_input(call)


def _finite(call: _graph.Call, statistics: np.ndarray) -> np.ndarray:
    if not np.isfinite(statistics).all():
        raise InvalidValue(
            f"Inputs or outputs of layer {call.described} are not finite, so they have "
            "no mean. Look for NaN or infinity in data and weights."
        )
    return statistics
