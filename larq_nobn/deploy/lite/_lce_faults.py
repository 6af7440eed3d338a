"""What LCE 0.16 and TensorFlow Lite get wrong without a word, and how it is found.

Each fault bears the measurement that found it. What rules leave of them is
looked for here:

| fault | looked for by |
|---|---|
| constants are fused whatever their shape | `check_constants`, in a traced graph |
| a sign is lost around a sum of another | `check_signs`, in a traced graph |
| zero-padded maps smaller than the kernel | `missed_reach`, of sizes |
| binary convolutions in groups | `in_groups`, of an operation of a file |
| a number is the bias of a transposed convolution | `has_lost_bias`, of an operation |
| one operation overwrites what another reads | `overwritten`, in a file |
| inputs and outputs move in memory | `with_room` prevents it, before a file runs |

And these are kept from LCE by how models are written for it:

| fault | measured |
|---|---|
| zeros before a strided "valid" convolution are taken for "same" | off by 3.3 |
| PRELU has one spelling, relu(z) + (-a) relu(-z), a of (1, 1, C) | else 2 to 5 others |
| a ReLU is fused before a scale, never after it | one operation more |
| the input of an int8 sign is lost if it is an output, too | the interpreter breaks |
| several inputs and outputs come in an order of chance | `in_order` undoes it |
| names of tensors are cut at 50 characters | layers are not found again |
| scales become part of sums, and of what a border of zeros takes back | 0 is 1e-8 |
| softplus is log(1 + exp(x)) | 88.7 of 100; off by 6e-8, all of it below -16 |

Scales become part of sums all the same in a float kernel after `DoReFa`: there the
comparison of signs finds it, and says what to do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from math import prod
from typing import Any

import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema

from ..._keras import keras
from ...layers._groups import group_moments
from .._errors import ConversionError
from ._file import FileOperation, Subgraph, Tensor, edited

# Two spellings of a norm agree up to this, as a fraction of their largest number.
_ROUNDS = 1e-5
_NEXT = 1 + 2.0**-23  # the number next to 1


def bounded_softplus(x: tf.Tensor) -> tf.Tensor:
    """max(x, 0) + log(1 + exp(-|x|)), exact where that exp is next to 0.

    In a file it is log(1 + exp(x)): exp(89) is more than float32 can represent, and of
    1 + exp(-12) a hundredth of exp(-12) is lost. What 1 + y has lost of a small y,
    log(1 + y) times y / ((1 + y) - 1) has again.

    The sum is last: in int8, the converter would round what a maximum is taken of to
    the range that is noted for that.
    """
    y = tf.exp(-tf.abs(x))
    more = tf.maximum(1 + y, _NEXT)
    return tf.nn.relu(x) + tf.math.log(more) * (y / (more - 1))


@contextmanager
def softplus_bounded() -> Iterator[None]:
    """Writes each softplus that is traced inside as files compute it of any number.

    Whoever calls it: an activation, a Lambda, a layer of the user's, and log_sigmoid.
    """
    from tensorflow.python.ops import gen_nn_ops

    given = gen_nn_ops.softplus

    def softplus(features: Any, name: str | None = None) -> Any:
        x = tf.convert_to_tensor(features)
        return bounded_softplus(x) if x.dtype == tf.float32 else given(x, name)

    gen_nn_ops.softplus = softplus
    try:
        yield
    finally:
        gen_nn_ops.softplus = given


def _group_norm(layer: Any, inputs: tf.Tensor) -> tf.Tensor:
    """Group normalization that reshapes statistics only, never the map.

    TensorFlow Lite runs a RESHAPE in place and the next ADD in place after it, which
    destroys a map that a shortcut still needs.
    """
    mean, variance = group_moments(inputs, layer.groups)
    rate = tf.math.rsqrt(variance + layer.epsilon)
    outputs = (inputs - mean) * (rate if layer.gamma is None else rate * layer.gamma)
    return outputs if layer.beta is None else outputs + layer.beta


def _resized(layer: Any, inputs: tf.Tensor) -> tf.Tensor:
    """A random crop at inference, without the numbers that it draws for training."""
    size = layer.height, layer.width
    return keras.layers.Resizing(*size, crop_to_aspect_ratio=True)(inputs)


_FORMS: dict[Any, Callable] = {
    keras.layers.GroupNormalization: _group_norm,
    keras.layers.RandomCrop: _resized,
}


_COMPILED = "_jit_compiled_convolution_op"
_CONVOLUTION: Any = next(
    kind for kind in keras.layers.Conv2D.__mro__ if _COMPILED in vars(kind)
)


@contextmanager
def at_inference() -> Iterator[None]:
    """Has some layers of Keras compute in another form, which files can have.

    Run eagerly, a layer returns the numbers of that form, if they are its own but for
    rounding: then a model rounds as its trace does. So do convolutions in groups, which
    Keras compiles.
    """

    def formed(kind: type, own: Callable, form: Callable) -> Callable:
        @wraps(own)
        def call(self: Any, inputs: Any, *rest: Any, **more: Any) -> Any:
            plain = type(self) is kind and more.get("mask") is None
            last = getattr(self, "axis", -1) in (-1, inputs.shape.rank - 1)
            if not plain or not last or inputs.dtype != tf.float32:
                return own(self, inputs, *rest, **more)
            outputs = form(self, inputs)
            if not tf.executing_eagerly():
                return outputs
            wanted = own(self, inputs, *rest, **more)
            size = tf.reduce_max(tf.abs(wanted))
            near = tf.reduce_max(tf.abs(wanted - outputs)) <= _ROUNDS * size
            return outputs if near else wanted

        return call

    def convolved(layer: Any, inputs: Any, kernel: Any) -> Any:
        return layer.convolution_op(inputs, kernel)

    given: dict[Any, Callable] = {kind: kind.call for kind in _FORMS}
    compiled = vars(_CONVOLUTION)[_COMPILED]
    for kind, form in _FORMS.items():
        kind.call = formed(kind, kind.call, form)
    setattr(_CONVOLUTION, _COMPILED, convolved)
    try:
        yield
    finally:
        setattr(_CONVOLUTION, _COMPILED, compiled)
        for kind, own in given.items():
            kind.call = own


def missed_reach(
    size: Sequence[int], kernel: Sequence[int], dilation: Sequence[int]
) -> tuple[int, int] | None:
    """The reach of a kernel, if it is larger than the map; then zero padding is wrong.

    Measured: LCE's default and indirect kernels are off for a 3x3 kernel on 1x1 and 2x2
    maps, and 5x5 on maps up to 4x4. The reference kernel is right, and so are all of
    them where ones pad.
    """
    height, width = ((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
    reach = height, width
    fits = all(s >= r for s, r in zip(size, reach, strict=True))
    return None if fits else reach


def in_groups(op: FileOperation) -> bool:
    """Whether an operation is a binary convolution in groups.

    Measured: the kernel of LCE's builds for phones fails to allocate its tensors; only
    the indirect and the reference kernel run it.
    """
    if op.op != "LceBconv2d":
        return False
    return bool(op.options["channels_in"] > 32 * op.input(1).shape[3])


def has_lost_bias(op: FileOperation) -> bool:
    """Whether an operation is a transposed convolution with a bias of another size.

    Measured: the converter takes a number that is added to all channels, as a hard
    sigmoid does, for the bias where there is none but 0, and the interpreter rejects
    the file. It loses the sign of x - c, one per channel, in the same place. Preparing
    writes operators of constants otherwise.
    """
    bias = op.inputs[3] if op.op == "TRANSPOSE_CONV" and len(op.inputs) > 3 else None
    return bias is not None and prod(bias.shape) != op.input(1).shape[0]


# --- constants after a binary convolution

# Fused if the constant is the second, or the first where order does not matter.
_COMMUTE = ("Mul", "AddV2", "Add")
_FUSED = (*_COMMUTE, "Sub", "RealDiv")
# These are fused too, with constants of one per channel.
_NARROW = ("BiasAdd", "FusedBatchNormV3")
# Fused only with the convolution itself, padded with 1 or not at all; the last two if
# they amount to a ReLU.
_RECTIFIERS = ("Relu", "Relu6", "Maximum", "Minimum")
# They vanish.
_NOTHING = ("Identity", "StopGradient", "CheckNumerics", "BatchToSpaceND")
# Layers that are functions of TensorFlow's become calls, which LCE opens.
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_STORED = (*_CALLS, "ReadVariableOp")
_BEFORE = ("Identity", "IdentityN", "StopGradient", "PadV2", "Pad", "SpaceToBatchND")


def check_constants(graph: Any) -> None:
    """Rejects constants that LCE would fuse into a binary convolution without looking.

    LCE multiplies and adds what stands after a binary convolution into its per-channel
    multiplier and bias, whatever shape it has; (C,) and scalars are right. Measured:
    constants of shape (1, C), (H, 1, 1) and (H, W, C) give files that cannot allocate
    their tensors, (1, 1, C) of mixed signs before a sign one that is off by 17,
    and some crash the converter.
    """
    moving = _moving(graph)
    for op in graph.get_operations():
        if op.type != "Conv2D":
            continue
        source = op.inputs[0].op
        while source.type in _BEFORE:
            source = source.inputs[0].op
        if source.type not in ("Sign", "SelectV2", "Select"):
            continue
        for after, constant in _constants_after(op, graph, moving):
            if (constant.shape.rank or 0) < 2:
                continue
            scopes = after.name.split("/")
            raise ConversionError(
                f"Layer {scopes[min(1, len(scopes) - 1)]!r} computes with a constant "
                f"of shape {tuple(constant.shape)} after a binary convolution, into "
                "which LCE fuses it wrongly. Give the constant the shape "
                f"({after.outputs[0].shape[-1]},), or put a layer that is not fused "
                "between, such as PReLU."
            )


def dependent(graph: Any, starts: Callable[[Any], bool]) -> set[str]:
    """Returns the operations that start something, and all that depend on them."""
    names: set[str] = set()
    for op in graph.get_operations():  # each after those that it depends on
        if starts(op) or any(tensor.op.name in names for tensor in op.inputs):
            names.add(op.name)
    return names


def _moving(graph: Any) -> set[str]:
    """Returns the operations whose outputs depend on the inputs of the function."""
    captured = {id(tensor) for tensor in graph.internal_captures}

    def starts(op: Any) -> bool:
        if op.type == "Placeholder":
            return id(op.outputs[0]) not in captured
        return op.op_def.is_stateful and op.type not in _STORED  # as random numbers

    return dependent(graph, starts)


def _constants_after(
    op: Any, graph: Any, moving: set[str]
) -> Iterator[tuple[Any, tf.Tensor]]:
    """Yields the operations that are fused into a convolution, and their constants."""
    ends = {id(tensor) for tensor in graph.outputs}
    bare = op.get_attr("padding") == b"VALID"
    while id(op.outputs[0]) not in ends:
        readers = [r for r in op.outputs[0].consumers() if r.name in moving]
        if len(readers) != 1:
            return
        op = readers[0]
        constants = [x for x in op.inputs if x.op.name not in moving]
        if op.type in _CALLS:
            yield from ((op, constant) for constant in _constants_inside(op, graph))
            return
        if len(op.inputs) == 2 and not constants:
            return  # two maps
        if op.type in _FUSED:
            if op.type not in _COMMUTE and constants[0] is op.inputs[0]:
                return
            yield op, constants[0]
        elif op.type not in (*_NARROW, *_NOTHING, *(_RECTIFIERS if bare else ())):
            return
        bare = bare and op.type in (*_RECTIFIERS, *_NOTHING)


def _constants_inside(call: Any, graph: Any) -> Iterator[tf.Tensor]:
    """Yields what a function called by a graph may add or multiply by."""
    inner = graph._get_function(call.get_attr("f").name).graph
    pairs = zip(call.inputs, inner.inputs, strict=True)
    stored = {id(own) for given, own in pairs if given.dtype == tf.resource}
    fixed = {x.op.name for x in inner.inputs if id(x) in stored}
    for op in inner.get_operations():
        if op.type != "Placeholder" and all(x.op.name in fixed for x in op.inputs):
            fixed.add(op.name)
        elif op.type in _FUSED:
            yield from (x for x in op.inputs if x.op.name in fixed)


# --- signs of sums of signs


def check_signs(graph: Any) -> None:
    """Rejects signs that LCE would take for the one inside of them.

    Larq's sign is sign(sign(x) + 0.1), and LCE makes one of sign(sign(x) + c) whatever
    c is. Measured with Larq's ternary sign, sign(sign(x + t) + sign(x - t)): -1 and +1
    come out, never 0.

    Arguments:
        graph: Of a concrete function, its operations named 'model/layer/operation'.

    Raises:
        ConversionError: It names the layer, and the remedy.
    """
    moving = _moving(graph)
    for op in graph.get_operations():
        if op.type != "Sign" or op.inputs[0].op.type not in ("AddV2", "Add"):
            continue
        first, second = op.inputs[0].op.inputs
        for inner, other in ((first, second), (second, first)):
            if inner.op.type == "Sign" and not _is_small(other, moving):
                _reject_sign(op)


def _reject_sign(op: Any) -> None:
    scopes = op.name.split("/")
    raise ConversionError(
        f"Layer {scopes[min(1, len(scopes) - 1)]!r} takes the sign of a sum with a "
        "sign, as Larq's ternary sign does, and LCE drops the outer one. Write the "
        "layer with comparisons, such as tf.cast(x >= t, x.dtype) - tf.cast(x <= -t, "
        "x.dtype); ste_tern as an Activation of a functional model is rewritten so."
    )


def _is_small(tensor: Any, moving: set[str]) -> bool:
    """Whether a sign that this is added to stays, and 0 becomes +1."""
    if tensor.op.name in moving:
        return False
    value = tf.get_static_value(tensor)
    return value is None or bool(((value > 0) & (value < 1)).all())


# --- tensors that share memory

# How many of its first inputs an operation may overwrite.
_CHANGES = {"ADD": 2, "SUB": 2, "MUL": 2, "DIV": 2, "SOFTMAX": 1}
# These hand on what is in the memory.
_KEEPS = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "BITCAST")
_SCALAR_BYTES = 4  # what is no larger gets memory of its own


def overwritten(
    graph: Subgraph,
) -> Iterator[tuple[FileOperation, FileOperation, FileOperation]]:
    """Finds what is destroyed when TensorFlow Lite executes a graph.

    Yields what makes a tensor, what overwrites it, and what reads it afterwards.

    The output of some operations takes the memory of an input. Those that change
    numbers may do so only if nobody else reads that input. TensorFlow Lite checks this
    for the input itself and for the tensor whose memory it was first, not for those
    between. Measured with Keras' GroupNormalization beside a shortcut: x, m = MUL(x),
    y = RESHAPE(m) and z = ADD(y) come to share one piece of memory, and ADD destroys m,
    which the shortcut still needs.
    """
    readers = Counter(t.index for op in graph.operations for t in op.inputs if t)
    readers.update(tensor.index for tensor in (*graph.inputs, *graph.outputs))
    homes: dict[int, int] = {}  # the tensor whose memory a tensor shares
    living: dict[int, list[Tensor]] = {}  # who shares the memory of a tensor
    given = {tensor.index for tensor in graph.inputs}
    for op in graph.operations:
        keeps, output = op.op in _KEEPS, op.outputs[0]
        count = 1 if keeps else _CHANGES.get(op.op, 0)
        fitting = (  # the inputs whose memory the output may take
            tensor
            for tensor in op.inputs[:count]
            if tensor is not None and not tensor.constant and tensor.index not in given
            if keeps or readers[tensor.index] <= 1
            if keeps or tensor.bytes == output.bytes > _SCALAR_BYTES
        )
        source = None if output in graph.outputs else next(fitting, None)
        if source is None:
            continue
        home = homes.get(source.index, source.index)
        sharers = living.setdefault(home, [source])
        if op.op in _CHANGES:
            if readers[home] > 1:
                continue
            for tensor in sharers:
                maker = graph.producer(tensor)
                late = [r for r in graph.consumers(tensor) if r.index > op.index]
                if maker is not None and late:
                    yield maker, op, late[0]
        homes[output.index] = home
        sharers.append(output)


# --- tensors that move in memory

# The array of tensors has this room from the start: with more it moves right away.
_RESERVED = 128
# More than any operation makes of its own; recurrent ones make a dozen.
_PER_OPERATION = 20


def with_room(content: bytes) -> bytes:
    """Returns a file with unused tensors added to its graphs, to be run instead.

    LCE's interpreter for Python notes where its inputs and outputs lie once it is ready
    to run. TensorFlow Lite keeps all tensors in one array, and before each operation
    sees to it that 16 more would fit; if not, it moves the array to twice the room.
    Where the last operations make tensors of their own, as convolutions do, that may
    happen as late as in the first run, and what was noted points to memory that is no
    longer theirs. Measured with a binary convolution beside eight float layers: garbage
    or a crash for 113 to 128 tensors in all. With tensors enough from the start, the
    first move comes before all of this, and leaves room for all that operations make.
    """

    class Unused(schema.TensorT):
        """It is written once, and all places of a file lead there."""

        place = None

        def Pack(self, builder: Any) -> Any:
            if self.place is None:
                self.place = super().Pack(builder)
            return self.place

    unused = Unused()
    unused.name, unused.shape = b"unused", [1]
    unused.type, unused.buffer = schema.TensorType.FLOAT32, 0

    def fill(model: Any) -> None:
        for graph in model.subgraphs:
            wanted = _RESERVED + _PER_OPERATION * (1 + len(graph.operators))
            graph.tensors += [unused] * (wanted - len(graph.tensors))

    return edited(content, fill)
