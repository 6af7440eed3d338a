"""Puts the simulation of int8 feature maps into a model.

The model is a graph of layers, which is edited. First, rules (`_RULES`) turn the sums
inside of layers into layers, and move these to where they cost the file nothing. Then
the model is traced, and the trace says where ranges stand, as it does for every int8
file (`operations/_ranges.py`). Each range is put after the layers that make its map
(`_with_ranges`).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from ..._keras import keras, register
from ...graph import _copies, _graph, _models, _operation, _signs, _traits
from ...layers import FakeQuantization, RPReLU
from ...layers._channelwise import ChannelwiseLayer
from .._errors import ConversionError, conversion_errors
from .._opening import RANGED, in_float32, range_batches
from ..lite._converter import io_spec
from ..operations import lower
from ..operations._binary import before_reshape
from ..operations._int8 import merge_clips, spell_clip
from ..operations._kinds import Affine, Clip, Value
from ..operations._program import Program, everywhere
from ..operations._ranges import places_in, ranges_of
from ..operations._rules import identity_goes, into_maker, scale_after_relu
from ..trace._trace import Trace
from ..verify._same import check_same_function

_layers = keras.layers
_PLAIN = (None, keras.activations.linear)
_flat = tf.nest.flatten


@conversion_errors()
def fake_quantize(model: keras.Model, data: Any, verify: bool = True) -> keras.Model:
    """Returns a copy of a model, to train on, that rounds maps as its int8 file does.

    A `FakeQuantization`, which has the formula, follows the input and every feature map
    that is int8 in the file. Its range is that of the feature map in the data without
    the outermost 0.01 % on each side; inputs, outputs and vectors keep their extremes.
    Feature maps that have one range in a file, such as the parts of a concatenation,
    share a layer. The thresholds of `RSign` and the shifts of `RPReLU` become layers,
    since their sums need ranges, too. Binary convolutions stay as they are. Only the
    converter rounds real-valued kernels. That changes some signs, so the accuracies of
    copy and file differ a little. Train the copy for a few epochs at a small learning
    rate, and pass it to `convert` with `int8=True`.

    Arguments:
        model: A trained functional or Sequential model; it is not changed.
        data: Examples for range calibration: an array, `(x, y)` or a batched tf.data
            dataset. A few hundred are enough.
        verify: Whether to compare both models without their ranges, segment by segment,
            on a few generated examples.

    Returns:
        A functional model with the inputs and outputs of the given one.

    Raises:
        ConversionError: If the model contains a `FakeQuantization`, a Lambda or a layer
            that cannot be rebuilt, or if the data does not fit. Also if the copy
            computes something else; the message names the layer.
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
            f"Model {given.name!r} contains FakeQuantization layers already. Fine-tune "
            "and convert it, or pass the model without them."
        )
    for rule in _RULES:
        calls = list(graph.calls)
        while calls:  # until the rule fits no call
            edited = rule(graph, calls.pop(0))
            if edited is not None:
                graph, calls = edited, list(edited.calls)
    quantized = _copies.to_keras(_with_ranges(graph, data))
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
    gate = _traits.activation_traits(call.layer).gate or activation is tf.nn.log_softmax
    if not _traits.traits(type(call.layer)).kernel or not gate:
        return None
    linear = call.operation.replaced(arguments={"activation": "linear"})
    name, function = graph.free(f"{call.name}_activation"), {"activation": activation}
    last = _operation.Operation(name, _layers.Activation, None, function)
    return graph.with_row(call.name, [linear, last])


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
    """The shift after a PReLU goes into all readers, if these can take it.

    The shift of a sign can, and so can the other summand of a sum.
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
    """Returns a maker of a summand, for this sum alone, to which a shift can go."""
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
            and _has_bias(maker, graph)
        ):
            return maker
    return None


def _has_bias(call: _graph.Call, graph: _graph.Graph) -> bool:
    """Whether a file has a bias there: after a convolution, or a scale of a map.

    Between a convolution and this, there are at most scales and biases.
    """
    if _traits.traits(type(call.layer)).kernel:
        plain = getattr(call.layer, "activation", None) in _PLAIN
        # Larq's layers may contain the ReLU that LCE computes inside of its kernel.
        return plain or _signs.is_binary_convolution(call)
    kind, x = call.operation.kind, call.first_input
    known, before = _traits.inherited(kind), graph.producer(x)
    if kind is not ChannelShift and not known.affine:
        return False
    if known.affine and not known.constant and x.shape.rank == 4:
        return True
    if before is None or graph.sole_consumer(x) is None:
        return False
    return _has_bias(before, graph)


# --- where ranges stand

# These show which operations a file has as one.
_MERGING = (identity_goes, into_maker, before_reshape, scale_after_relu)
_CLIPS = (spell_clip, merge_clips)


def _with_ranges(graph: _graph.Graph, data: Any) -> _graph.Graph:
    """Returns the graph with a range after every map that the file has as int8.

    What a layer computes inside has no range, so the file has it in float.
    """
    model = in_float32(_copies.to_keras(graph, shared=True))
    program, values = _program_of(model, graph)
    # Every file of the copy has these ranges, also one for LCE, which merges less.
    places = places_in(program, "lce")
    owners = {
        key: value if value in places.fixed else places.owners.get(value)
        for key, value in values.items()
    }
    starts = zip(graph.model.input_names, graph.model.inputs, strict=True)
    edges: list[tuple[str, Any, Any]] = [(name, edge, ()) for name, edge in starts]
    edges += [(c.name, x, c.reads) for c in graph.calls for x in _flat(c.outputs)]
    ranged = [
        (name, edge, places.roots.get(owner, owner))
        for name, edge, reads in edges
        if (owner := owners.get(id(edge))) is not None
        and all(owners.get(id(read)) is not owner for read in reads)
    ]
    roots = {values[id(x)]: root for _, x, root in ranged if root not in places.fixed}
    program = Program(
        program.inputs, program.nodes, program.outputs[: len(model.outputs)]
    )
    ranges = ranges_of(program, roots, range_batches(model, data)) | places.fixed
    made = dict[Value, _operation.Operation]()
    for name, edge, root in ranged:
        if root not in made:
            own, still = graph.free(f"{name}_range"), {"trainable": False}
            options = still if root in places.fixed else {}
            low, high = map(np.asarray, ranges[values[id(edge)]])
            ends = {"minimum": low, "maximum": high}
            made[root] = _operation.Operation(
                own, FakeQuantization, None, options, ends
            )
        graph = _inserted(graph, edge, made[root])
    return graph


def _program_of(
    model: keras.Model, graph: _graph.Graph
) -> tuple[Program, dict[int, Value]]:
    """Returns the program of a graph's model, and the values of edges by their id."""
    traced, known = _graph.Graph(model), dict[int, Any]()
    for name in dict.fromkeys(call.name for call in graph.calls):
        for call, same in zip(graph.uses(name), traced.uses(name), strict=True):
            pairs = zip(_flat(call.outputs), _flat(same.outputs), strict=False)
            used = (
                x for x in pairs if traced.consumers(x[1]) or traced.is_output(x[1])
            )
            known |= {id(edge): tensor for edge, tensor in used}
    whole = keras.Model(model.inputs, [*model.outputs, *known.values()])
    io, count = io_spec(whole, model.inputs[0].shape[0] or RANGED), len(model.outputs)
    trace = Trace(whole, io, partial(_models.call_by_call, whole))
    # With all edges as outputs, only operations within one layer are merged.
    program = everywhere(lower(trace, int8=True).program, _MERGING)
    ends, seen = program.outputs[:count], program.outputs[count:]
    # No operation of the file is part of one layer and of what is inside of another.
    alone = everywhere(program, _CLIPS)
    apart = [
        value
        for value in seen
        for reader in alone.readers(value)
        if reader.is_a(Affine, Clip) and not alone.is_output(reader.y)
    ]
    program = Program(program.inputs, program.nodes, [*ends, *apart])
    values = dict(zip(map(id, graph.model.inputs), program.inputs, strict=True))
    values |= zip(known, seen, strict=True)
    return everywhere(everywhere(program, _MERGING), _CLIPS), values
