"""Puts the simulation of int8 feature maps into a model.

All of it is edits of one graph, which is built once. Rules in order make the inner sums
of layers layers of their own, which go where they cost nothing (`_RULES`); then a range
stands after every map that the file has as int8 (`_with_ranges`). The data sets the
ranges (`_calibrate`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from ..._keras import keras, register
from ...graph import (
    _copies,
    _graph,
    _kinds,
    _models,
    _operation,
    _probe,
    _signs,
)
from ...layers import FakeQuantization, RPReLU
from ...layers._channelwise import ChannelwiseLayer
from .._errors import ConversionError, conversion_errors
from .._opening import range_batches
from ..operations._ranges import CLIPPED, ends_of
from ..verify._same import check_same_function

_layers = keras.layers
_PLAIN = (None, keras.activations.linear)


@conversion_errors()
def fake_quantize(model: keras.Model, data: Any, verify: bool = True) -> keras.Model:
    """Returns a copy of a model that rounds maps as its int8 file will, and trains on.

    A `FakeQuantization` follows the input and every feature map that is int8 in the
    file. Its range is that of the feature map in the data without the outermost 0.01 %
    on each side; inputs, outputs and vectors keep their extremes.
    `FakeQuantization` has the formula. Feature maps that a file can keep in one range
    only, such as those of a concatenation, share a layer. The thresholds of `RSign` and
    the shifts of `RPReLU` become layers of their own, since their sums need ranges too.
    Binary convolutions stay as they are. Real-valued kernels are rounded by the
    converter alone, which turns signs, so accuracy of copy and file differ a little.
    Train the copy for a few epochs at a small
    learning rate, and pass it to `convert` with `int8=True`.

    Arguments:
        model: A trained functional or Sequential model; it is not changed.
        data: Examples for range calibration: an array, `(x, y)` or a batched tf.data
            dataset. A few hundred are enough.
        verify: Whether to compare both models, without rounding to int8, on a few
            generated examples, segment by segment.

    Returns:
        A functional model with the inputs and outputs of the given one.

    Raises:
        ConversionError: If the model contains a `FakeQuantization` already, a Lambda or
            another part that cannot be taken apart, or if the data does not fit. Also
            if the copy computes something else, with the layer.
        TypeError: If an argument has the wrong type.

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

    Differences from the paper:
        Ranges are averaged over batches of 32 examples, as those of the paper over
        training steps, but leave out the outermost 0.01 %. Kernels are not
        rounded in the copy: the converter does that, per output channel.
    """
    given = _models.flat(model)
    _models.check_inference(given)
    graph = _graph.Graph(given)
    kinds = {call.name: type(call.layer) for call in graph.calls}
    lambdas = [repr(name) for name, kind in kinds.items() if kind is _layers.Lambda]
    if lambdas:
        raise ConversionError(
            f"The Lambda {', '.join(lambdas)} of model {given.name!r} hides feature "
            "maps whose ranges an int8 file needs. Write it as layers."
        )
    if FakeQuantization in kinds.values():
        raise ConversionError(
            f"Model {given.name!r} contains FakeQuantization layers already. Train it "
            "on and convert it, or give the model without them."
        )
    for rule in _RULES:
        calls = list(graph.calls)
        while calls:  # until the rule fits no call
            edited = rule(graph, calls.pop(0))
            if edited is not None:
                graph, calls = edited, list(edited.calls)
    quantized = _copies.to_keras(_with_ranges(graph))
    _calibrate(quantized, data)
    if verify:
        check_same_function(given, without_ranges(quantized), "Making ranges visible")
    return quantized


def without_ranges(model: keras.Model) -> keras.Model:
    """Returns the model of the same layers without their ranges."""
    graph = _graph.Graph(model)
    for call in graph.calls:
        if call.operation.kind is FakeQuantization:
            graph = graph.with_row(call.name, [])
    return _copies.to_keras(graph, shared=True)


def _calibrate(model: keras.Model, data: Any) -> None:
    """Sets every range by what the model computes without rounding.

    Those that stay as they are, which are not trainable, have theirs already.
    """
    calls = _graph.calls_of(model)
    ranges = [call for call in calls if isinstance(call.layer, FakeQuantization)]
    trained = [call for call in ranges if call.layer.trainable]
    if not trained:
        raise ConversionError(
            f"Model {model.name!r} computes no real numbers from its inputs, so there "
            "is nothing that int8 would round. Convert it without int8."
        )
    inner = keras.Model(model.inputs, [call.first_input for call in trained])
    whole = {id(edge) for edge in [*model.inputs, *model.outputs]}
    fractions = [
        0.0
        if call.first_input.shape.rank < 3
        or whole & {id(call.first_input), id(call.first_output)}
        else CLIPPED
        for call in trained
    ]
    ends: list[list[np.ndarray]] = []
    for inputs in range_batches(model, data):
        values = tf.nest.flatten(inner(inputs, training=False))
        pairs = zip(values, fractions, strict=True)
        ends.append([ends_of(x.numpy(), fraction) for x, fraction in pairs])
    lows, highs = np.mean(ends, axis=0).T
    for name in dict.fromkeys(call.name for call in trained):
        uses = [i for i, call in enumerate(trained) if call.name == name]
        low, high = lows[uses].min(), highs[uses].max()
        if not np.isfinite(low + high):
            raise ConversionError(
                f"Model {model.name!r} computes values that are not finite before "
                f"layer {name!r}. Look for NaN in its weights, or pass other data."
            )
        # A map that is all zero on the data has some range all the same.
        trained[uses[0]].layer.set_range(low, high if high > low else 1.0)


# --- the sums inside of layers


@register()
class ChannelShift(ChannelwiseLayer):
    """x + shift, one learned shift per channel.

    Arguments:
        **kwargs: Keras layer arguments.

    Weights:
        shift: Shape (C,), starts at 0.
    """

    def build(self, input_shape: tf.TensorShape) -> None:
        self.shift = self.add_channel_weight("shift", "zeros", input_shape)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs + tf.cast(self.shift, inputs.dtype)


def _shift(name: str, values: Any) -> _operation.Operation:
    return _operation.Operation(
        name, ChannelShift, values={"shift": np.asarray(values)}
    )


def _inserted(
    graph: _graph.Graph, edge: Any, operation: _operation.Operation
) -> _graph.Graph:
    """Puts a layer after an edge: whatever read the edge reads what the layer makes."""
    maker, after = graph.producer(edge), _graph.NewEdge(edge)
    label = f"{operation.name} of {edge.name if maker is None else maker.label}"
    new = _graph.Call(label, operation.name, after, None, (edge,), operation)
    graph = graph.with_edge(edge, after)
    if maker is None:
        return _graph.Graph(graph.model, [new, *graph.calls], graph.outputs)
    return graph.with_calls({maker.label: [maker, new]})


def split_rprelu(graph: _graph.Graph, call: _graph.Call) -> _graph.Graph | None:
    """The shifts of an RPReLU become layers before and after a PReLU."""
    layer, name = call.layer, call.name
    if not isinstance(layer, RPReLU):
        return None
    positions = [*range(1, call.first_input.shape.rank - 1)]
    slope = np.reshape(layer.effective_slope(), [1] * len(positions) + [-1])
    shared = {"shared_axes": positions or None}
    inner = _operation.Operation(name, _layers.PReLU, None, shared, {"alpha": slope})
    first = _shift(graph.free(f"{name}_shift_in"), layer.shift_in)
    last = _shift(graph.free(f"{name}_shift_out"), layer.shift_out)
    return graph.with_row(call.name, [first, inner, last])


def split_activation(graph: _graph.Graph, call: _graph.Call) -> _graph.Graph | None:
    """A softmax, sigmoid or tanh of a layer with a kernel becomes a layer of its own.

    The sums before it need a range, as the converter does not make it part of them.
    """
    activation = call.operation.argument("activation")
    fixed = _kinds.activation_traits(call.layer).int8_range
    if not _kinds.traits(type(call.layer)).kernel or fixed is None:
        return None
    linear = call.operation.replaced(arguments={"activation": "linear"})
    name, function = graph.free(f"{call.name}_activation"), {"activation": activation}
    last = _operation.Operation(name, _layers.Activation, None, function)
    graph = graph.with_operation(linear)
    for use in graph.uses(call.name):
        graph = _inserted(graph, use.first_output, last)
    return graph


def split_rsign(graph: _graph.Graph, call: _graph.Call) -> _graph.Graph | None:
    """The shift of an RSign becomes a layer: sign(a x + b) = sign(x + b / a), a > 0."""
    inside = call.operation.argument("input_quantizer")
    quantizer = inside or call.layer
    sign = _signs.as_rsign(quantizer)
    if sign is None or sign.shift is None:
        return None
    own = sign._replace(shift=None).operation(quantizer.name)
    if inside is not None:
        own = call.operation.replaced(arguments={"input_quantizer": own})
    shift = _shift(graph.free(f"{call.name}_shift"), sign.shift / sign.scale)
    return graph.with_row(call.name, [shift, own])


def shift_of_sum(graph: _graph.Graph, call: _graph.Call) -> _graph.Graph | None:
    """The shift of a sum goes to a summand that a convolution makes, which takes it."""
    total = graph.producer(call.first_input)
    if (
        total is None
        or not _is_shift(call, graph)
        or graph.sole_consumer(call.first_input) is not call
        or (maker := _maker_of_summand(total, graph)) is None
    ):
        return None
    whole = [total._replace(outputs=call.outputs)]
    graph = graph.with_calls({call.label: [], total.label: whole})
    return _inserted(graph, maker.first_output, call.operation)


def shift_after_prelu(graph: _graph.Graph, call: _graph.Call) -> _graph.Graph | None:
    """The shift after a PReLU goes into whatever reads it, where all readers can.

    That is into the shift of a sign, and into the other summand of a sum.
    """
    before = graph.producer(call.first_input)
    if before is None or before.operation.kind is not _layers.PReLU:
        return None
    if not _is_shift(call, graph) or graph.is_output(call.first_output):
        return None
    readers = graph.consumers(call.first_output)
    homes = [r if _is_shift(r, graph) else _maker_of_summand(r, graph) for r in readers]
    if None in homes:
        return None
    graph = graph.with_row(call.name, [])
    values = call.operation.arrays["shift"]
    for home in filter(None, homes):
        own = home.operation
        if own.kind is ChannelShift:
            total = {"shift": own.arrays["shift"] + values}
            graph = graph.with_operation(own.replaced(total))
        else:
            bias = _shift(graph.free(f"{home.name}_bias"), values)
            graph = _inserted(graph, home.first_output, bias)
    return graph


_RULES = (split_rprelu, split_activation, split_rsign, shift_of_sum, shift_after_prelu)


def _is_shift(call: _graph.Call, graph: _graph.Graph) -> bool:
    return call.operation.kind is ChannelShift and len(graph.uses(call.name)) == 1


def _maker_of_summand(total: _graph.Call, graph: _graph.Graph) -> _graph.Call | None:
    """The convolution, or what follows it, that makes a summand and nothing else."""
    if total.operation.kind is not _layers.Add:
        return None
    for summand in total.reads:
        if sum(x is summand for x in total.reads) > 1:
            continue  # in x + x, what is added to x counts twice
        maker = graph.producer(summand)
        if (
            maker is not None
            and graph.sole_consumer(summand) is total
            and len(graph.uses(maker.name)) == 1
            and _start(maker, graph) is not None
        ):
            return maker
    return None


def _joins(call: _graph.Call) -> bool:
    """Whether it joins the multiplier and the bias of a convolution before it."""
    kind = call.operation.kind
    return kind is ChannelShift or _kinds.inherited(kind).affine


def _start(call: _graph.Call, graph: _graph.Graph) -> _graph.Call | None:
    """Returns the convolution that makes this, with at most scales and biases after it.

    A batch norm or a `ChannelAffine` of a feature map is one where it follows none.
    """
    if _kinds.traits(type(call.layer)).kernel:
        plain = getattr(call.layer, "activation", None) in _PLAIN
        # Larq's layers may contain the ReLU that LCE computes inside of its kernel.
        return call if plain or _signs.is_binary_convolution(call) else None
    if not _joins(call):
        return None
    before = graph.producer(call.first_input)
    alone = graph.sole_consumer(call.first_input) is not None
    start = _start(before, graph) if before is not None and alone else None
    known = _kinds.inherited(call.operation.kind)
    own = known.affine and not known.constant and call.first_input.shape.rank == 4
    return call if start is None and own else start


# --- where ranges are needed


def _with_ranges(graph: _graph.Graph) -> _graph.Graph:
    """Returns the graph with a range after every map that the file has as int8."""
    model = graph.model
    inputs = {
        name: edge
        for edge, name in zip(model.inputs, model.input_names, strict=True)
        if edge.dtype.is_floating and graph.consumers(edge)
    }
    roots = _groups(graph, {id(edge): name for name, edge in inputs.items()})
    # What an input shares has its name.
    names = {root: root for root in roots.values()} | {roots[x]: x for x in inputs}
    made = {
        root: _operation.Operation(graph.free(f"{name}_range"), FakeQuantization)
        for root, name in names.items()
    }
    for name, edge in inputs.items():
        graph = _inserted(graph, edge, made[roots[name]])
    for call in graph.calls:
        fixed, edge = _kinds.activation_traits(call.layer).int8_range, call.first_output
        if call.name in roots:
            graph = _inserted(graph, edge, made[roots[call.name]])
        # The ranges that TensorFlow Lite fixes, of maps that are read again: without, a
        # sign would be of numbers that only the file has rounded.
        elif fixed is not None and graph.consumers(edge):
            low, high = (np.array(end, np.float32) for end in fixed)
            named, still = graph.free(f"{call.name}_range"), {"trainable": False}
            ends = {"minimum": low, "maximum": high}
            new = _operation.Operation(named, FakeQuantization, None, still, ends)
            graph = _inserted(graph, edge, new)
    return graph


def _groups(graph: _graph.Graph, ranges: dict[int, str]) -> dict[str, str]:
    """Returns the inputs and the layers after which a range is needed.

    With each, the first of those that share a range with it.

    Arguments:
        graph: Without ranges.
        ranges: Whose range a tensor has, by its id; so far those of inputs.
    """
    roots = {name: name for name in ranges.values()}
    for call in graph.calls:
        taken = [ranges[id(edge)] for edge in call.reads if id(edge) in ranges]
        before, known = graph.producer(call.first_input), _kinds.int8_of(call)
        source = _kinds.inherited(before and before.operation.kind)
        # What has no range, such as a tanh or a sign, may be beyond that of another.
        floats = sum(edge.dtype.is_floating for edge in call.reads)
        if known == "kept" and taken and len(taken) < floats:
            known = "shared"
        # A pool that clips its output does so to numbers of its own range.
        if source.pool in ("max", "mean") and source.int8:
            known = "shared" if _probe.bounds_of(call) in _kinds.FUSED else known
        together = taken if known else []
        if known == "kept" and taken:
            ranges[id(call.first_output)] = taken[0]
        elif known != "kept" and _needs_range(graph, call):
            roots.setdefault(call.name, call.name)
            ranges[id(call.first_output)] = call.name
            together = [*together, call.name]
        for name in together[1:]:
            first, other = roots[together[0]], roots[name]
            roots = {x: first if root == other else root for x, root in roots.items()}
    return roots


def _needs_range(graph: _graph.Graph, call: _graph.Call) -> bool:
    """Whether somebody sees what a call makes, and nothing else fixes its range."""
    if (
        not call.first_output.dtype.is_floating
        or _signs.sign_of_layer(call.layer) is not None
        or _kinds.activation_traits(call.layer).int8_range is not None
    ):
        return False
    reader = graph.sole_consumer(call.first_output)
    if reader is None:
        return True
    # One operation may compute both, so that nobody sees what is between.
    start = _start(call, graph)
    if _joins(reader):
        return start is None
    sums = call.operation.kind is _layers.Add
    takes = sums or (start is not None and not _signs.is_binary_convolution(start))
    return not (_probe.bounds_of(reader) in _kinds.FUSED and takes)
