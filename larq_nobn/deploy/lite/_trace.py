"""A model as one graph of operations."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from ..._keras import keras
from ..._larq import lq
from ..._math import unfused
from ...graph import _errors, _models, _operation
from .._errors import ConversionError
from ._converter import Function, IoSpec, quiet
from ._lce_faults import at_inference, softplus_bounded

# Where an operation with a kernel has its input; its kernel is the other one.
_INPUTS = {
    "Conv2D": 0,
    "DepthwiseConv2dNative": 0,
    "Conv3D": 0,
    "MatMul": 0,
    "BatchMatMulV2": 0,
    "Conv2DBackpropInput": 2,
    "Conv3DBackpropInputV2": 2,
}
# A sign passes through them on its way into a convolution.
NOTHING = ("Identity", "IdentityN", "StopGradient")
_PADS = ("Pad", "PadV2", "SpaceToBatchND")
_RESHAPES = ("Reshape", "ExpandDims", "Squeeze", "Transpose")
_POOLS = ("MaxPool", "AvgPool", "Mean")
_NEVER_BELOW_0 = ("Relu", "Relu6", "Abs", "Square", "Sigmoid", "Softmax", "Exp")
_ADDS = ("AddV2", "Add")
_RANDOM = re.compile("Random|Rng|Multinomial|TruncatedNormal|StatefulUniform")
_ASSIGNS = re.compile("Assign.*VariableOp|Resource(Scatter|Apply).*")
# Constants of so many numbers are shared by functions, each of which would hold them.
LARGE = 2**12
# Lists of tensors, as loops have, and tables.
_NO_NUMBERS = (tf.variant, tf.resource)
_COMPARES = {
    "GreaterEqual": np.greater_equal,
    "Greater": np.greater,
    "Less": np.less,
    "LessEqual": np.less_equal,
}


class TracedSign(NamedTuple):
    """A sign of a trace: its values, and the one or two numbers that it is of.

    It is of their difference: `first` where `compare(difference, 0)`, else `second`.
    Without a `compare` it is TensorFlow's own, which is 0 at 0, so it has two
    thresholds there. Without any numbers, nothing is known of how close to 0 it was.
    """

    value: Any
    of: tuple[Any, ...]
    compare: Any = None
    first: Any = 1
    second: Any = -1

    @property
    def is_rectified(self) -> bool:
        """Whether it is of what is never below 0, perhaps reshaped or pooled."""
        op = self.of[0].op
        while op.type in (*NOTHING, *_RESHAPES, *_POOLS):
            op = op.inputs[0].op
        least = [x for x in op.inputs if x.op.type == "Const"]
        clips = op.type == "Maximum" and any(np.all(_value(x) >= 0) for x in least)
        return len(self.of) == 1 and (clips or op.type in _NEVER_BELOW_0)

    def thresholds(self) -> list[tuple[Callable[[Any], Any], Callable[[Any], Any]]]:
        """Lists what must agree: a function of the difference, one of the values."""

        def is_positive(difference: Any) -> np.ndarray:
            chosen = self.compare(difference, 0)
            return np.where(chosen, self.first, self.second) > 0

        if self.compare is not None:
            return [(is_positive, lambda x: x > 0)]
        both: Any = ((lambda x: x > 0), (lambda x: x >= 0))
        return [(side, side) for side in both]

    def rounded(self, values: np.ndarray) -> np.ndarray:
        """Returns the values that it can have in the place of those of a file."""
        if self.compare is None:
            return np.sign(values)
        ends = np.append(self.first, self.second)
        return np.where(values > 0, ends.max(), ends.min())


class TracedKernel(NamedTuple):
    """An operation that multiplies by a constant kernel.

    `source` makes what it reads, before pads and reshapes.
    """

    op: Any
    layer: str
    kernel: np.ndarray
    source: Any

    @property
    def signs(self) -> bool:
        """Whether a sign makes what it reads."""
        taken = _sign_taken_by(self.source)
        return taken is not None and not is_zero_at_zero(self.source)

    @property
    def read(self) -> Any:
        """The tensor that the kernel is multiplied with."""
        return next(x for x in self.op.inputs[::-1] if x.op.type != "Const")


class Trace:
    """The operations of a model's inference function, each after those that it reads.

    What does not depend on an input is computed here, once: kernels from what they are
    quantized of, whatever LCE itself would compute again in every run.
    A given `function` is traced in the place of the model's, and may have a state.
    """

    def __init__(
        self, model: keras.Model, io: IoSpec, function: Function | None = None
    ):
        self.model, self.io = model, io
        traced = as_built(function or partial(_models.inference, model))
        tracing = partial(
            _errors.raised_by, model, "cannot be traced", kind=ConversionError
        )
        with quiet():
            with unfused(), softplus_bounded(), at_inference(), tracing():
                concrete = traced.get_concrete_function(*io.inputs)
            if function is None:
                _check_inference(concrete.graph.as_graph_def(), model)
            with tracing():  # of states that are no variables
                frozen, known = _frozen(concrete)
            ends = [tensor.name for tensor in concrete.outputs]
            folded = fold_constants(frozen, known, ends, model)
        self._graph_def, names, self.output_names = folded
        count = len(io.inputs)
        self.input_names = names[:count]
        captures = concrete.graph.captures  # tables, which stay states
        states = [state for state, inner in captures if inner.op.name in known]
        self._states = dict(zip(names[count:], states, strict=True))
        with tf.Graph().as_default() as graph:
            self._starts = [
                tf.compat.v1.placeholder(
                    spec.dtype, spec.shape, name.removesuffix(":0")
                )
                for spec, name in zip(io.inputs, self.input_names, strict=True)
            ]
            self._imported(self._starts, self.output_names, self.input_names)
        self.operations = graph.get_operations()
        # Functions share the large constants, instead of containing each.
        constants = self._constants()
        self._states |= {n: tf.constant(x) for n, x in constants if x.size >= LARGE}

    def function(
        self,
        more: Sequence[Any] = (),
        given: Sequence[Any] = (),
        noise: Noise | None = None,
    ) -> Function:
        """Returns what computes the outputs and `more` from inputs and `given`."""
        ends = [*self.output_names, *_names(more)]
        starts = [*self.input_names, *_names(given)]
        noisy = {} if noise is None else self._noisy(noise)
        return lambda inputs: self._imported(
            [*inputs, *map(tf.convert_to_tensor, noisy.values())],
            ends,
            [*starts, *noisy],
        )

    def _noisy(self, noise: Noise) -> dict[str, tf.Variable]:
        """The real constants as variables that are off, by the names of tensors."""
        return {
            name: noise.variable(value, value.dtype)
            for name, value in self._constants()
            if tf.as_dtype(value.dtype).is_floating
        }

    def _constants(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yields the constants, by the names of their tensors."""
        for node in self._graph_def.node:
            if node.op == "Const":
                yield f"{node.name}:0", tf.make_ndarray(node.attr["value"].tensor)

    def values(self, tensors: Sequence[Any]) -> list[np.ndarray]:
        """Computes tensors of the trace, for inputs of noise, or of zeros if whole."""
        random = np.random.default_rng(0)
        whole = self.function(tensors)
        inputs = []
        for start in self._starts:
            numbers = random.normal(size=start.shape) * start.dtype.is_floating
            inputs.append(tf.constant(numbers.astype(start.dtype.as_numpy_dtype)))
        function = tf.function(lambda *inputs: whole(inputs), autograph=False)
        return [x.numpy() for x in function(*inputs)[-len(tensors) :]]

    def _imported(
        self, inputs: Sequence[Any], ends: Sequence[str], names: Sequence[str]
    ) -> list[Any]:
        starts = dict(zip(names, inputs, strict=True))
        graph = tf.compat.v1.get_default_graph()
        for name, state in self._states.items():
            if name in starts:
                continue
            if hasattr(graph, "capture"):  # of a function
                starts[name] = graph.capture(state)
            else:
                starts[name] = tf.compat.v1.placeholder(state.dtype, state.shape)
        # A tensor that is wanted twice comes once; an input is there already.
        once = [end for end in dict.fromkeys(ends) if end not in starts]
        given, graph_def = self._graph_def, tf.compat.v1.GraphDef()
        graph_def.versions.CopyFrom(given.versions)
        graph_def.library.CopyFrom(given.library)
        graph_def.node.extend(x for x in given.node if f"{x.name}:0" not in starts)
        read = {name.split(":")[0] for node in graph_def.node for name in node.input}
        known = {name: x for name, x in starts.items() if name.split(":")[0] in read}
        tensors = tf.graph_util.import_graph_def(
            graph_def, input_map=known, return_elements=once, name=""
        )
        by_name = {**starts, **dict(zip(once, tensors, strict=True))}
        return [by_name[end] for end in ends]

    def signs(self) -> list[TracedSign]:
        """Lists the signs that have examples in front, and show what they are of.

        Each comes after those that it depends on.
        """
        signs = []
        for sign in filter(None, map(_sign_taken_by, self.operations)):
            shape = sign.value.shape
            known = shape.rank and shape.is_fully_defined()
            if sign.of and known and shape[0] == self.io.batch_size:
                signs.append(sign)
        return signs

    @cached_property
    def kernels(self) -> list[TracedKernel]:
        """The operations that have a constant kernel, in their order."""
        kernels = []
        for op in self.operations:
            place = _INPUTS.get(op.type)
            if place is None or len(op.inputs) < 2:
                continue
            if place == 0 and op.inputs[0].op.type == "Const":  # of a matrix product
                place = 1
            kernel = op.inputs[1 if place != 1 else 0]
            if kernel.op.type != "Const":
                continue
            source = op.inputs[place].op
            while source.type in NOTHING + _PADS + _RESHAPES:
                source = source.inputs[0].op
            kernels.append(TracedKernel(op, layer_of(op), _value(kernel), source))
        return kernels


def as_built(function: Function) -> Any:
    """Returns a function of TensorFlow that reads control flow as building does."""
    building = tf.__internal__.autograph.control_status_ctx()

    def called(*inputs: tf.Tensor) -> Sequence[Any]:
        with building:
            return function(inputs)

    return tf.function(called, autograph=False)


def _check_inference(graph: Any, model: keras.Model) -> None:
    """Rejects what a layer does in training only, unless it is called for that."""
    names = {layer.name for layer in model._flatten_layers(include_self=False)}
    functions = (node for f in graph.library.function for node in f.node_def)
    for node in (*graph.node, *functions):
        random, assigns = _RANDOM.search(node.op), _ASSIGNS.fullmatch(node.op)
        if random or assigns:
            parts = node.name.split("/")
            layer = next((part for part in parts[::-1] if part in names), parts[0])
            effect = "draws random numbers" if random else "changes its variables"
            more = ", or leave it out" if random else f", and {_operation.UNWRAP}"
            raise ConversionError(
                f"Model {model.name!r} {effect} at inference, which a file cannot "
                f"(operation {node.op!r} of layer {layer!r}). Call that layer "
                f"without training=True{more}."
            )


def _sign_taken_by(op: Any) -> TracedSign | None:
    """Returns the sign that an operation takes; None for none."""
    made = op.outputs[0] if op.outputs else None
    if op.type == "Sign":
        inner = op.inputs[0].op
        if is_larqs_sign(op):
            return TracedSign(made, (inner.inputs[0].op.inputs[0],), np.greater_equal)
        after = [r for tensor in op.outputs for r in tensor.consumers()]
        ends = [x for r in after for y in r.outputs for x in y.consumers()]
        if any(map(is_larqs_sign, ends)):
            return None  # the inner one
        if inner.type in _ADDS and all(x.op.type == "Sign" for x in inner.inputs):
            return None  # of a ternary quantizer, whose zeros these two decide
        # It is 1 where what is rectified is more than 0.
        if inner.type in ("Relu", "Relu6"):
            return TracedSign(made, (inner.inputs[0],), np.greater, 1, 0)
        return TracedSign(made, (op.inputs[0],))
    if op.type in ("Select", "SelectV2") and all(
        x.op.type == "Const" and np.all(np.abs(_value(x)) == 1) for x in op.inputs[1:]
    ):
        compared = op.inputs[0].op
        compare = _COMPARES.get(compared.type)
        of = tuple(compared.inputs) if compare else ()
        # Of one example, if a constant has as many as the trace takes at once.
        rank, chosen = op.outputs[0].shape.rank, map(_value, op.inputs[1:])
        return TracedSign(
            made, of, compare, *(x[:1] if x.ndim == rank else x for x in chosen)
        )
    if op.type in _COMPARES and op.inputs[0].dtype.is_floating:
        readers = op.outputs[0].consumers()
        if not all(map(_sign_taken_by, readers)):
            return TracedSign(made, tuple(op.inputs), _COMPARES[op.type], True, False)
    return None


def always_selected(op: Any) -> int | None:
    """Which input a selection always gives, if its condition is a constant."""
    if op.type not in ("Select", "SelectV2") or op.inputs[0].op.type != "Const":
        return None
    condition = _value(op.inputs[0])
    place = 1 if condition.all() else 2
    fits = condition.all() or not condition.any()
    alike = op.inputs[place].shape.as_list() == op.outputs[0].shape.as_list()
    return place if fits and alike else None


def is_zero_at_zero(op: Any) -> bool:
    """Whether an operation is TensorFlow's sign, which is 0 at 0, and no more."""
    return op.type == "Sign" and not is_larqs_sign(op)


def is_larqs_sign(op: Any) -> bool:
    """Whether it is Larq's, sign(sign(x) + 0.1), and no sum of two signs."""
    if op.type != "Sign" or op.inputs[0].op.type not in _ADDS:
        return False
    first, second = op.inputs[0].op.inputs
    if first.op.type != "Sign" or second.op.type != "Const":
        return False
    added = _value(second)  # less than 1, or signs are lost
    return bool(np.all((added > 0) & (added < 1)))


class Noise:
    """Numbers of a network as variables, which are off by parts of themselves.

    What its tensors then are off by, at random, tells how far their sums round.
    """

    def __init__(self) -> None:
        self._known: list[tuple[tf.Variable, np.ndarray, np.ndarray]] = []

    def variable(
        self, value: np.ndarray, dtype: Any = np.float32, reach: Any = None
    ) -> tf.Variable:
        """Returns a variable of numbers that are off by parts of others, if given."""
        made = tf.Variable(value, trainable=False, dtype=dtype)
        self._known.append((made, value, value if reach is None else reach))
        return made

    def set(self, size: float) -> None:
        """Draws how far all are off: by 0.5 to 1.5 times a size.

        No part is next to 0, and not all are alike, or equal terms of a sum would
        cancel. Draws are the same for a size, its opposite, and both times a power of
        two.
        """
        random = np.random.default_rng(int(np.frexp(abs(size))[0] * 2**30))
        for variable, value, reach in self._known:
            parts = 2 * random.random(value.shape, np.float32) - 1
            parts = np.float32(size) * (parts + np.copysign(np.float32(0.5), parts))
            variable.assign(
                (value + reach * parts).astype(variable.dtype.as_numpy_dtype)
            )


def _names(tensors: Sequence[Any]) -> list[str]:
    return [tensor.name for tensor in tensors]


def _value(tensor: Any) -> np.ndarray:
    return tf.make_ndarray(tensor.op.get_attr("value"))


def layer_of(op: Any) -> str:
    """The name of the layer that an operation of a trace is of."""
    return layer_name(op.name)


def layer_name(name: str) -> str:
    """The name of the layer in that of an operation, 'net/layer/operation'."""
    return name.partition("/")[2].rpartition("/")[0]


def _frozen(concrete: Any) -> tuple[Any, list[str]]:
    """The graph of a function, with variables as constants, and the inputs it has then.

    The public form of this makes a function of it, too, operation by operation.
    """
    from tensorflow.python.framework import convert_to_constants

    data = convert_to_constants._FunctionConverterDataInEager(
        func=concrete, lower_control_flow=False, aggressive_inlining=False
    )
    graph_def, indices = convert_to_constants._replace_variables_by_constants(data)
    gone = {id(concrete.graph.internal_captures[index]) for index in indices}
    return graph_def, [x.op.name for x in concrete.inputs if id(x) not in gone]


def fold_constants(
    whole: Any, inputs: Sequence[str], outputs: Sequence[str], model: keras.Model
) -> tuple[Any, list[str], list[str]]:
    """Puts constants in place of what makes them, as of quantized kernels.

    Returns a graph, and the names of its inputs and outputs. Operations are called
    'net/layer/...', after the innermost layer that they are of.

    Arguments:
        whole: The graph.
        inputs, outputs: The names of operations and of tensors.
        model: Of whose layers the graph is.
    """
    for node in whole.node:  # what a function waits for is no part of its numbers
        node.input[:] = [name for name in node.input if not name.startswith("^")]
    wanted = [*inputs, *(name.partition(":")[0] for name in outputs)]
    old = tf.compat.v1.graph_util.extract_sub_graph(whole, wanted)
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(old, name="")
    results = [graph.get_tensor_by_name(name) for name in outputs]
    moving: set[str] = set()
    for op in graph.get_operations():  # each after those that it depends on
        starts = op.type == "Placeholder" or op.op_def.is_stateful
        starts = starts or any(x.dtype in _NO_NUMBERS for x in op.outputs)
        if starts or any(tensor.op.name in moving for tensor in op.inputs):
            moving.add(op.name)
    read = [x for o in graph.get_operations() if o.name in moving for x in o.inputs]
    fixed = {x.name: x for x in (*read, *results) if x.op.name not in moving}
    ends = [tensor.name for tensor in fixed.values()]
    computed = tf.compat.v1.wrap_function(
        lambda: tf.graph_util.import_graph_def(old, return_elements=ends, name=""), []
    )
    constants = computed() if ends else []
    inner = (lq.quantizers.Quantizer, keras.Model)  # of a layer, or of layers
    layers = {
        layer.name
        for layer in model._flatten_layers(include_self=False)
        if not isinstance(layer, inner) or layer in model.layers
    }
    names: dict[str, str] = {}

    def named(op: Any) -> str:
        if op.name not in names:
            parts = op.name.split("/")
            # Names may have slashes; a convolution is the last part of its own scope.
            ends = range(len(parts) - 1, 0, -1)
            scopes = ["/".join(parts[i:j]) for j in ends for i in range(j)]
            scopes.append(parts[-1])
            tries = (t for s in scopes for t in (s, re.sub(r"_\d+$", "", s)))
            layer = next((name for name in tries if name in layers), model.name)
            # The short name in front leaves room in LCE.
            names[op.name] = f"net/{layer}/{parts[-1]}_{len(names)}"
        return names[op.name]

    def tensor_name(tensor: Any) -> str:
        if tensor.op.name in inputs:
            return f"{tensor.op.name}:0"
        if tensor.op.name in moving:
            return f"{named(tensor.op)}:{tensor.value_index}"
        return f"{named(tensor.op)}/constant_{tensor.value_index}:0"

    new = type(old)()
    new.CopyFrom(old)  # its functions and versions are kept
    del new.node[:]
    for tensor, value in zip(fixed.values(), constants, strict=True):
        node = new.node.add(name=tensor_name(tensor)[:-2], op="Const")
        node.attr["dtype"].type = tensor.dtype.as_datatype_enum
        content = tf.make_tensor_proto(value.numpy(), tensor.dtype)
        node.attr["value"].tensor.CopyFrom(content)
    for op in graph.get_operations():
        if op.name not in moving or op.name in inputs:
            continue
        written = new.node.add()
        written.CopyFrom(op.node_def)
        written.name = named(op)
        # A custom gradient, or a place beside another, would want what is not there.
        for attribute in ("_gradient_op_type", "_class"):
            written.attr.pop(attribute, None)
        del written.input[:]
        written.input.extend(map(tensor_name, op.inputs))
    ends = [tensor_name(x) for x in results]
    return new, [f"{name}:0" for name in inputs], ends
