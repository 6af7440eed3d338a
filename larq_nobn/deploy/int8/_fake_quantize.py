"""Puts the simulation of int8 feature maps into a model.

Three steps: the inner sums of layers become layers of their own (`_split_biases`) and
go where they cost nothing (`_merge_biases`); a range stands after every map
that the file has as int8 (`_Places`); the data sets the ranges (`_calibrate`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import larq as lq
import numpy as np
import tensorflow as tf

from ..._batches import model_batches
from ..._keras import keras, register
from ..._progress import step
from ...graph import (
    TRAINING_ONLY,
    Call,
    Graph,
    ModelError,
    calls,
    check_inference,
    check_same_function,
    flat,
    flat_copy,
    is_binary_convolution,
    replace_layers,
    sign_of,
)
from ...layers import (
    ChannelAffine,
    FakeQuantization,
    RPReLU,
    SkipInit,
    ThresholdedLinearUnit,
)
from ...layers._channelwise import ChannelwiseLayer
from ...quantizers import RSign
from .._errors import ConversionError

_layers = keras.layers
_BATCH = 32
_KERNELS = (
    *(_layers.Conv1D, _layers.Conv2D, _layers.Conv3D, _layers.Dense),
    *(_layers.DepthwiseConv1D, _layers.DepthwiseConv2D),
    *(_layers.SeparableConv1D, _layers.SeparableConv2D),
)
# They join the multiplier and the bias of a convolution before them.
_AFFINE = (_layers.BatchNormalization, ChannelAffine, SkipInit)
_PLAIN = (None, keras.activations.linear)
# What they return lies among the 256 values of what they are given.
KEEPS = (
    _layers.MaxPooling2D,
    _layers.GlobalMaxPooling2D,
    _layers.ZeroPadding2D,
    _layers.Cropping2D,
    _layers.Flatten,
    _layers.Reshape,
    _layers.Permute,
    _layers.Concatenate,
    _layers.Maximum,
    _layers.Minimum,
    *TRAINING_ONLY,
)
# TensorFlow Lite wants the range of their input for their output, too.
_SHARES = (_layers.AveragePooling2D, _layers.UpSampling2D, ThresholdedLinearUnit)
_POOLS = (_layers.MaxPooling2D, _layers.AveragePooling2D)
# TensorFlow Lite fixes the range of these: [0, 1] or [-1, 1].
_FIXED = (
    keras.activations.softmax,
    keras.activations.sigmoid,
    keras.activations.tanh,
)
# TensorFlow Lite computes these with the convolution, sum or pool in front.
_RECTIFIERS = (keras.activations.relu, lq.activations.hard_tanh)


def fake_quantize(model: keras.Model, data: Any, verify: bool = True) -> keras.Model:
    """Returns a copy of a model that computes as its int8 file will, and still trains.

    A `FakeQuantization` stands after the input and after every feature map that the
    file has as int8, with the range that the map has on the data; maps that a file
    can keep only in one range, such as those of a concatenation, share a layer. The
    thresholds of `RSign` and the shifts of `RPReLU` become layers of their own, since
    their sums need ranges too. Binary convolutions stay as they are. Train the copy for
    a few epochs at a small learning rate, and pass it to `convert` with `int8=True`.

    Arguments:
        model: A trained functional or Sequential model; it is not changed.
        data: Examples that show the ranges: an array, `(x, y)` or a tf.data dataset of
            batches. Some hundred are enough.
        verify: Whether to compare both models, without rounding to int8, on a few
            made-up examples, segment by segment.

    Returns:
        A functional model with the inputs and outputs of the given one.

    Raises:
        ConversionError: If the model contains a `FakeQuantization` already, a Lambda or
            another part that cannot be taken apart, or if the data does not fit. Also
            if the copy computes something else, with the layer.

    Example:
        ```python
        import numpy as np
        import larq_nobn as nobn

        model = nobn.models.ReActNet18((32, 32, 3), 10, width=16, blocks=(1, 1))
        images = np.random.default_rng(0).normal(size=(64, 32, 32, 3))
        quantized = nobn.deploy.fake_quantize(model, images)
        nobn.convert(quantized, "model.tflite", int8=True)
        ```

    References:
        - B. Jacob, S. Kligys, B. Chen, M. Zhu, M. Tang, A. Howard, H. Adam,
          D. Kalenichenko, "Quantization and Training of Neural Networks for Efficient
          Integer-Arithmetic-Only Inference", CVPR 2018, arXiv:1712.05877.
    """
    try:
        with lq.context.quantized_scope(False):
            copy = flat_copy(_with_input_ranges(model))
            check_inference(copy)
            copy = _split_biases(copy)
        _check_functions(copy)
        if len(_ranges(copy)) > len(copy.inputs):
            raise ConversionError(
                f"Model {model.name!r} contains FakeQuantization layers already. Train "
                "it on and convert it, or give the model without them."
            )
        with lq.context.quantized_scope(False):
            quantized = _with_ranges(copy)
        _calibrate(quantized, data)
        if verify:
            what = "Making ranges visible"
            skipped = (FakeQuantization,)
            check_same_function(flat(model), quantized, what, skipped=skipped)
    except ConversionError:
        raise
    except (ModelError, ValueError) as error:
        raise ConversionError(str(error)) from error
    return quantized


def _with_input_ranges(model: Any) -> keras.Model:
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        return model  # flat_copy says what is wrong with it
    starts, ranged = [], []
    for given, name in zip(model.inputs, model.input_names, strict=True):
        start = keras.Input(batch_shape=given.shape, dtype=given.dtype, name=name)
        starts.append(start)
        layer = FakeQuantization(name=f"{name}_range")
        ranged.append(layer(start) if given.dtype.is_floating else start)
    packed, outer = (
        tf.nest.pack_sequence_as(model._nested_inputs, x) for x in (ranged, starts)
    )
    return keras.Model(outer, model(packed), name=model.name)


def _check_functions(model: keras.Model) -> None:
    found = [x.name for x in model.layers if isinstance(x, keras.layers.Lambda)]
    if found:
        raise ConversionError(
            f"The Lambda {', '.join(map(repr, found))} of model {model.name!r} hides "
            "feature maps whose ranges an int8 file needs. Write it as layers."
        )


def _with_ranges(model: keras.Model) -> keras.Model:
    groups = _Places(model).groups
    layers: dict[str, FakeQuantization] = {}

    def insert(call: Call) -> Any:
        layer = call.layer
        if call.name not in groups:
            return layer
        name = groups[call.name]
        if name not in layers:
            given = model.get_layer(name)
            new = FakeQuantization(name=f"{name}_range")
            layers[name] = given if isinstance(given, FakeQuantization) else new
        after = layers[name]
        if isinstance(layer, FakeQuantization):
            return after
        return lambda *args, **kwargs: after(layer(*args, **kwargs))

    return replace_layers(model, insert)


def _ranges(model: keras.Model) -> list[Call]:
    return [c for c in calls(model) if isinstance(c.layer, FakeQuantization)]


def _calibrate(model: keras.Model, data: Any) -> None:
    """Sets every range to the extremes of what the model computes without rounding."""
    found = _ranges(model)
    inner = keras.Model(model.inputs, [call.first_input for call in found])
    least, most = np.zeros(len(found)), np.zeros(len(found))
    done = 0
    for inputs, _ in model_batches(model, data, _BATCH):
        step("Calibrating ranges", done)
        done += len(inputs[0])
        values = tf.nest.flatten(inner(inputs, training=False))
        least = np.minimum(least, [tf.reduce_min(x).numpy() for x in values])
        most = np.maximum(most, [tf.reduce_max(x).numpy() for x in values])
    for name in dict.fromkeys(call.name for call in found):
        uses = [i for i, call in enumerate(found) if call.name == name]
        low, high = least[uses].min(), most[uses].max()
        if not np.isfinite(low + high):
            raise ConversionError(
                f"Model {model.name!r} computes values that are not finite before "
                f"layer {name!r}. Look for NaN in its weights, or pass other data."
            )
        # A map that is all zero on the data has some range all the same.
        found[uses[0]].layer.set_range(low, high if high > low else 1.0)


# --- the biases of RSign and RPReLU as layers


@register()
class ChannelShift(ChannelwiseLayer):
    """x + shift, one learned shift per channel.

    Arguments:
        **kwargs: Keras layer arguments.

    Weights:
        shift: Shape (C,), starts at 0.
    """

    def build(self, input_shape: tf.TensorShape) -> None:
        self.shift = self._channel_weight("shift", "zeros", input_shape)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs + tf.cast(self.shift, inputs.dtype)


def _split_biases(model: keras.Model) -> keras.Model:
    """Makes layers of the thresholds of RSign and the shifts of RPReLU.

    Scales that no convolution can take become convolutions of single channels, which
    are one operation in int8, where a product and a sum would stay float.

    Arguments:
        model: A flat functional model; its layers move into the new one.
    """
    graph = Graph(model)
    fills: list[Callable[[], None]] = []

    def shift(name: str, values: tf.Tensor) -> ChannelShift:
        layer = ChannelShift(name=name)
        fills.append(lambda: layer.shift.assign(values))
        return layer

    def split(call: Call) -> Any:
        layer = call.layer
        if isinstance(layer, RPReLU):
            return _split_rprelu(call, shift, fills)
        if isinstance(layer, ChannelAffine) and _stands_alone(call, graph):
            return _depthwise(layer, fills)
        quantizer = layer if isinstance(layer, RSign) else _inner_rsign(layer)
        if quantizer is None or (whole := quantizer.whole_shift()) is None:
            return layer
        # sign(a x + b) = sign(x + b / a) for positive a.
        before = shift(f"{call.name}_shift", whole / quantizer.scale)
        plain = _without_shift(quantizer)
        if quantizer is layer:
            plain._name = call.name
            return lambda x: plain(before(x))
        layer.input_quantizer = plain
        return lambda x: layer(before(x))

    new = replace_layers(model, split)
    for fill in fills:
        fill()
    return _merge_biases(new)


def _without_shift(quantizer: RSign) -> RSign:
    power = 1.0 if quantizer.power is None else float(quantizer.power)
    return RSign(quantizer.scale, quantizer.estimator, shift=False, power=power)


def _stands_alone(call: Call, graph: Graph) -> bool:
    if call.first_input.shape.rank != 4:
        return False
    before = graph.producer(call.first_input)
    alone = graph.sole_consumer(call.first_input) is not None
    return before is None or not alone or not _is_linear(before, graph)


def _depthwise(
    layer: ChannelAffine, fills: list[Callable[[], None]]
) -> keras.layers.Layer:
    new = _layers.DepthwiseConv2D(1, name=layer.name)

    def fill() -> None:
        kernel = tf.reshape(layer.gamma, new.depthwise_kernel.shape)
        new.set_weights([kernel.numpy(), layer.beta.numpy()])

    fills.append(fill)
    return new


def _inner_rsign(layer: keras.layers.Layer) -> RSign | None:
    quantizer = getattr(layer, "input_quantizer", None)
    return quantizer if isinstance(quantizer, RSign) else None


def _split_rprelu(
    call: Call, shift: Callable[..., ChannelShift], fills: list[Callable[[], None]]
) -> Callable[[Any], Any]:
    layer = call.layer
    first = shift(f"{call.name}_shift_in", layer.shift_in)
    last = shift(f"{call.name}_shift_out", layer.shift_out)
    positions = list(range(1, call.first_input.shape.rank - 1))
    inner = _layers.PReLU(shared_axes=positions or None, name=call.name)

    def fill() -> None:
        inner.alpha.assign(tf.reshape(layer.effective_slope(), inner.alpha.shape))

    fills.append(fill)
    return lambda x: last(inner(first(x)))


def _merge_biases(model: keras.Model) -> keras.Model:
    """Returns the same function with as few shifts as can be that cost an operation.

    The shift of a sum goes to a summand that a convolution makes, which takes it. The
    shift after a PReLU goes into whatever reads it, where all readers can: into the
    shift of a sign, and into the other summand of a sum.

    Arguments:
        model: A functional model; its layers move into the new one.
    """
    return _after_prelu(_of_sums(model))


def _of_sums(model: keras.Model) -> keras.Model:
    graph = Graph(model)
    moved: dict[str, keras.layers.Layer] = {}  # by the layer that they go after
    for call in graph.calls:
        total = graph.producer(call.first_input)
        if (
            _is_shift(call, graph)
            and total is not None
            and graph.sole_consumer(call.first_input) is call
            and (maker := _maker_of_summand(total, graph)) is not None
        ):
            moved[maker.name] = call.layer
    return _rebuilt(model, moved, {layer.name for layer in moved.values()})


def _after_prelu(model: keras.Model) -> keras.Model:
    graph = Graph(model)
    new: dict[str, keras.layers.Layer] = {}
    values: list[tuple[ChannelShift, tf.Tensor]] = []
    gone = set()
    for call in graph.calls:
        before = graph.producer(call.first_input)
        if before is None or type(before.layer) is not _layers.PReLU:
            continue
        readers = graph.consumers(call.first_output)
        homes = [_home(reader, call, graph) for reader in readers]
        if (
            not _is_shift(call, graph)
            or graph.is_output(call.first_output)
            or None in homes
        ):
            continue
        gone.add(call.name)
        for home in filter(None, homes):
            layer = home.layer
            if not isinstance(layer, ChannelShift):
                layer = new.setdefault(
                    home.name, ChannelShift(name=f"{home.name}_bias")
                )
            values.append((layer, call.layer.shift))
    merged = _rebuilt(model, new, gone)
    for layer, value in values:
        layer.shift.assign_add(value)
    return merged


def _home(reader: Call, shift: Call, graph: Graph) -> Call | None:
    """What takes a shift instead of one of its readers, if anything does."""
    if _is_shift(reader, graph):
        return reader
    maker = _maker_of_summand(reader, graph)
    return None if maker is None or maker is shift else maker


def _is_shift(call: Call, graph: Graph) -> bool:
    return type(call.layer) is ChannelShift and len(graph.uses(call.name)) == 1


def _maker_of_summand(total: Call, graph: Graph) -> Call | None:
    """The convolution, or what follows it, that makes a summand and nothing else."""
    if type(total.layer) is not _layers.Add:
        return None
    for summand in total.inputs:
        maker = graph.producer(summand)
        if (
            maker is not None
            and graph.sole_consumer(summand) is total
            and len(graph.uses(maker.name)) == 1
            and _is_linear(maker, graph)
        ):
            return maker
    return None


def _rebuilt(
    model: keras.Model, after: dict[str, keras.layers.Layer], gone: set[str]
) -> keras.Model:
    if not gone:
        return model

    def place(call: Call) -> Any:
        if call.name in gone:
            return None
        if call.name not in after:
            return call.layer
        return lambda *args, **kwargs: after[call.name](call.layer(*args, **kwargs))

    return replace_layers(model, place)


def _is_linear(call: Call, graph: Graph) -> bool:
    """Whether a convolution makes this, with at most scales and biases after it."""
    layer = call.layer
    if isinstance(layer, _KERNELS):
        plain = getattr(layer, "activation", None) in _PLAIN
        # Larq's layers may contain the ReLU that LCE computes inside of its kernel.
        return plain or is_binary_convolution(call)
    if isinstance(layer, (*_AFFINE, ChannelShift)):
        before = graph.producer(call.first_input)
        alone = graph.sole_consumer(call.first_input) is not None
        return before is not None and alone and _is_linear(before, graph)
    return False


# --- where ranges are needed


class _Places:
    """The layers after which a range is needed, and which of them share one.

    Arguments:
        model: A functional model, with a `FakeQuantization` after each float input.

    Attributes:
        groups: For the name of each such layer, that of the first with the same range.
    """

    def __init__(self, model: keras.Model) -> None:
        self._graph = Graph(model)
        self._parents: dict[str, str] = {}
        self._ranges: dict[int, str] = {}  # whose range a tensor has, by id
        for call in self._graph.calls:
            self._visit(call)
        self.groups = {name: self._root(name) for name in self._parents}

    def _visit(self, call: Call) -> None:
        taken = [
            self._ranges[id(x)] for x in call.node.keras_inputs if id(x) in self._ranges
        ]
        keeps = isinstance(call.layer, KEEPS)
        shares = isinstance(call.layer, _SHARES) or self._clips_pool(call)
        if keeps or shares:
            for other in taken[1:]:
                self._join(taken[0], other)
        if keeps and taken:
            self._ranges[id(call.first_output)] = taken[0]
        elif not keeps and self._needs_range(call):
            self._parents.setdefault(call.name, call.name)
            self._ranges[id(call.first_output)] = call.name
            if shares and taken:
                self._join(taken[0], call.name)

    def _needs_range(self, call: Call) -> bool:
        layer = call.layer
        if isinstance(layer, FakeQuantization):
            return True
        if sign_of(layer) is not None or _activation(layer) in _FIXED:
            return False
        reader = self._graph.sole_consumer(call.first_output)
        return reader is None or not self._fuses(call, reader)

    def _fuses(self, call: Call, reader: Call) -> bool:
        """Whether one operation computes both, so that nobody sees what is between."""
        if isinstance(reader.layer, (*_AFFINE, ChannelShift)):
            return _is_linear(call, self._graph)
        if not _rectifies(reader.layer):
            return False
        if type(call.layer) is _layers.Add:
            return True
        return _is_linear(call, self._graph) and not self._is_binary(call)

    def _clips_pool(self, call: Call) -> bool:
        """Whether a pool clips its output, and so to numbers of its own range."""
        before = self._graph.producer(call.first_input)
        pools = before is not None and isinstance(before.layer, _POOLS)
        return pools and _rectifies(call.layer)

    def _is_binary(self, call: Call) -> bool:
        while isinstance(call.layer, (*_AFFINE, ChannelShift)):
            before = self._graph.producer(call.first_input)
            assert before is not None  # is_linear has followed the same path
            call = before
        return is_binary_convolution(call)

    def _root(self, name: str) -> str:
        while self._parents[name] != name:
            name = self._parents[name]
        return name

    def _join(self, first: str, second: str) -> None:
        self._parents[self._root(second)] = self._root(first)


def _activation(layer: keras.layers.Layer) -> Any:
    if isinstance(layer, _layers.Softmax):
        return keras.activations.softmax
    return getattr(layer, "activation", None)


def _rectifies(layer: keras.layers.Layer) -> bool:
    if type(layer) is _layers.Activation:
        return layer.activation in _RECTIFIERS
    if type(layer) is _layers.ReLU:
        plain = not layer.threshold and not layer.negative_slope
        return plain and layer.max_value in (None, 6)
    return False
