"""Reads and edits the operations and tensors of any `.tflite` file."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from math import ceil, prod
from pathlib import Path
from typing import Any

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from ..._checks import check_path
from ..._errors import InvalidValue
from ..._messages import first_line
from .._errors import ConversionError

_STARTS = b"TFL3"  # from the fifth byte on
_KINDS = vars(schema.TensorType).items()
# The names of tensor types, by their numbers.
TYPES = {number: name.lower() for name, number in _KINDS if name.isupper()}
# What an operation computes in. Those of kind "shape" rename axes, compute with sizes,
# or unpack constants, which is done once. Padding, concatenation, slicing and
# transposition move whole maps through memory, so they count as their numbers' kind.
OPERATION_KINDS = ("binary", "float", "int8", "shape")

_BINARY = ("LceQuantize", "LceDequantize", "LceBconv2d", "LceBMaxPool2d")
_SHAPES = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "SHAPE")
_FLOATS = ("float16", "float32", "float64")
_BYTES = ("int8", "uint8", "int16", "int4")
_CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")
# These unpack constants, once or in each run.
_UNPACKING = ("DEQUANTIZE", "TFLM_DECODE")
# The rank of kernels of operations that multiply; a matrix product has two maps.
_MACS = {
    **dict.fromkeys(("LceBconv2d", "CONV_2D", "DEPTHWISE_CONV_2D"), 4),
    **{"TRANSPOSE_CONV": 4, "FULLY_CONNECTED": 2, "BATCH_MATMUL": None},
}
# The axis of output channels in the filters of an operation, its second input.
CHANNELS = {
    **{"CONV_2D": 0, "FULLY_CONNECTED": 0, "TRANSPOSE_CONV": 0},
    "DEPTHWISE_CONV_2D": -1,
}
# Bytes of one element of types that NumPy lacks; strings have no fixed size.
_BYTES_EACH = {"int4": 0.5, "string": 0, "resource": 0, "variant": 0}
# The fields of builtin options that say how an operation computes.
_OPTIONS = {
    "fused_activation_function": "fusedActivationFunction",
    "padding": "padding",
    "stride_height": "strideH",
    "stride_width": "strideW",
    "adjoint_x": "adjX",
    "adjoint_y": "adjY",
}


@dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor of a graph; `data` contains the bytes of a constant.

    Equal constants may share a `buffer` of the file. A size that is unknown until the
    file runs is 1 in `shape`, and its axis is in `open_axes`. The first axis, that of
    examples, is never in it.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    open_axes: tuple[int, ...]
    dtype: str
    data: memoryview | None
    buffer: int

    @property
    def constant(self) -> bool:
        """Whether its values are in the file."""
        return self.data is not None

    @property
    def bytes(self) -> int:
        """The size of its content in bytes; 0 where that depends on its values."""
        if self.data is not None:
            return len(self.data)
        each = _BYTES_EACH.get(self.dtype)
        each = np.dtype(self.dtype).itemsize if each is None else each
        return ceil(prod(self.shape) * each)

    @property
    def values(self) -> np.ndarray:
        """The numbers of a constant."""
        return np.frombuffer(self.data or b"", self.dtype).reshape(self.shape)


@dataclass(frozen=True, eq=False)
class FileOperation:
    """One operation; an omitted input is None.

    `index` is its place among all operations of the file, and `op` the name of a
    builtin or custom operation. `options` have LCE's names; for builtin operations
    these are `fused_activation_function`, `padding` (0 same, 1 valid), `stride_height`
    and `stride_width`.
    """

    index: int
    op: str
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    options: dict[str, Any]

    @property
    def constants(self) -> list[Tensor]:
        """The constants that it reads."""
        return [t for t in self.inputs if t is not None and t.constant]

    @property
    def maps(self) -> list[Tensor]:
        """The tensors that it reads and that are not constant."""
        return [t for t in self.inputs if t is not None and not t.constant]

    @property
    def kind(self) -> str:
        """Which of `OPERATION_KINDS` it is."""
        if self.op in _BINARY:
            return "binary"
        if self.op in _SHAPES or (self.op in _UNPACKING and not self.maps):
            return "shape"
        types = {t.dtype for t in (*self.maps, *self.outputs)}
        has_bytes = not types.isdisjoint(_BYTES)
        converts = has_bytes and self.op in _CONVERSIONS
        if not types.isdisjoint(_FLOATS) and not converts:
            return "float"
        return "int8" if has_bytes else "shape"

    @property
    def writes_bits(self) -> bool:
        """Whether its output contains 32 channels per word."""
        packed = self.op in _BINARY and self.op != "LceDequantize"
        return packed and bool(self.outputs) and self.outputs[0].dtype == "int32"

    @property
    def macs(self) -> int:
        """The multiply-accumulates of one run; 0 for operations without any."""
        if self.op not in _MACS:
            return 0
        made, kernel = self.outputs[0].shape, self.input(1).shape
        if self.op == "BATCH_MATMUL":
            *_, rows, columns = self.input(0).shape
            return prod(made) * (rows if self.options.get("adjoint_x") else columns)
        if len(kernel) != _MACS[self.op]:
            raise InvalidValue(f"{self.op} has a kernel of shape {kernel}")
        if self.op == "TRANSPOSE_CONV":  # each input is multiplied by the whole kernel
            made = self.input(2).shape
        if self.op == "LceBconv2d":
            *sides, words = kernel
            # 32 channels share a word. Too few words mean that the kernel has groups.
            channels = min(self.options["channels_in"], 32 * words)
            kernel = *sides, channels
        return prod(made[:-1]) * prod(kernel)  # the whole kernel at every position

    def input(self, place: int) -> Tensor:
        """Returns an input that may not be omitted."""
        tensor = self.inputs[place]
        assert tensor is not None
        return tensor


@dataclass(frozen=True)
class Subgraph:
    """One graph of a file: the first is the network, others are bodies of loops.

    `ends` are the layers of its outputs, as far as known; the converter drops their
    names.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    operations: tuple[FileOperation, ...]
    ends: tuple[str, ...] = ()

    @cached_property
    def _producers(self) -> dict[int, FileOperation]:
        return {t.index: op for op in self.operations for t in op.outputs}

    def producer(self, tensor: Tensor) -> FileOperation | None:
        """Returns the operation that writes a tensor; None for inputs and constants."""
        return self._producers.get(tensor.index)

    def before(self, op: FileOperation, place: int = 0) -> FileOperation | None:
        """Returns the operation that writes an input of another."""
        tensor = op.inputs[place] if place < len(op.inputs) else None
        return None if tensor is None else self.producer(tensor)

    def layer(self, op: FileOperation) -> str:
        """Returns the layer of an operation: if fused, that of its kernel, or the last.

        A binary convolution that writes bits or int8 is named after the sign or range
        that follows. The name of its input, the sign before it, contains its own layer.
        """
        after = op.writes_bits or (op.outputs and "FakeQuant" in op.outputs[0].name)
        inner = op.op == "LceBconv2d" and after
        tensors = [op.input(0)] if inner else op.outputs
        if not tensors:
            return "unknown"
        for output, end in zip(self.outputs, self.ends, strict=False):
            if tensors[0] is output:
                return end
        name = tensors[0].name
        if name.startswith(("StatefulPartitionedCall:", "PartitionedCall:")):
            return "output"
        names = _layers_in(name)
        kernel = _layers_in(op.input(1).name) if op.op in _MACS else []
        # Equal kernels are stored once, perhaps under the name of another operation.
        return next((x for x in kernel if x in names), next(iter(names), "unknown"))


def _layers_in(name: str) -> list[str]:
    """Returns the layers in 'model/layer/operation;other/fused/parts'."""
    scopes = (part.split("/") for part in name.split(";"))
    return [scope[1] for scope in scopes if len(scope) > 1]


def read_file(
    path: str | os.PathLike, advice: str = "Pass the path of a .tflite file."
) -> bytes:
    """Returns the content of a file."""
    path = check_path("path", path)
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConversionError(
            f"{path!r} cannot be read: {error.strerror}. {advice}"
        ) from error


@contextmanager
def parsing(path: str) -> Iterator[None]:
    """Raises a `ConversionError` for any error; damaged files may cause all kinds."""
    try:
        yield
    except (ConversionError, MemoryError):
        raise
    except Exception as error:
        raise ConversionError(
            f"{path!r} is a damaged TFLite file, or of a kind that larq_nobn cannot "
            f"read: {type(error).__name__}: {first_line(error).rstrip('.')}. Copy or "
            "convert it again."
        ) from error


def check_starts(content: bytes, path: str) -> None:
    """Rejects files whose first bytes are not those of TFLite."""
    if content[4:8] != _STARTS:
        raise ConversionError(
            f"{path!r} is not a TFLite file. Pass a file that larq_nobn.convert or "
            "another LCE converter wrote."
        )


def read(content: bytes, path: str, ends: Sequence[str] = ()) -> list[Subgraph]:
    """Returns the graphs of a TFLite file, reading it in Python alone."""
    check_starts(content, path)
    with parsing(path):
        return _graphs(content, ends)


def unpacked(content: bytes | bytearray) -> Any:
    """Returns all of a file as objects of its schema; arrays are views of `content`.

    An offset that leads outside raises here; LCE's interpreter would crash.
    """
    return schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))


def packed(model: Any, size: int, once: bool = False) -> bytes:
    """Returns the content of a file, of about `size` bytes, from its objects.

    If `once`, equal texts and arrays are stored once.
    """
    import flatbuffers

    class Builder(flatbuffers.Builder):
        """Aligns bytes for numbers of every type, as the format requires."""

        places: dict[Any, int] = {}

        def StartVector(self, size: int, count: int, alignment: int) -> int:
            return super().StartVector(size, count, 16 if size == 1 else alignment)

        def CreateNumpyVector(self, x: np.ndarray) -> int:
            return self.place((x.dtype.str, x.tobytes()), super().CreateNumpyVector, x)

        def CreateString(self, s: str | bytes) -> int:
            return self.place(s, super().CreateString, s)

        def place(self, key: Any, create: Callable[[Any], int], value: Any) -> int:
            if not once or key not in self.places:
                self.places[key] = create(value)
            return self.places[key]

    builder = Builder(size)
    builder.Finish(model.Pack(builder), file_identifier=_STARTS)
    return bytes(builder.Output())


def edited(content: bytes, change: Callable[[Any], None], once: bool = False) -> bytes:
    """Returns a file packed again, after `change` has edited its objects."""
    model = unpacked(content)
    change(model)
    return packed(model, len(content), once)


# The approximate bytes of an operation and two tensors in a file.
_OPERATION = 256


def with_half_kernels(content: bytes) -> bytes:
    """Returns a file whose convolutions have float16 kernels where these are exact.

    Runtimes unpack them once. TensorFlow's XNNPACK requires a float16 bias, too.
    """

    def halve(model: Any) -> None:
        graph, kinds = model.subgraphs[0], schema.BuiltinOperator
        halves: dict[int, np.ndarray] = {}
        read, chosen = Counter[int](), list[Any]()
        for op in graph.operators:
            read.update(_integers(op.inputs))
            if model.operatorCodes[op.opcodeIndex].builtinCode == kinds.CONV_2D:
                constants = [i for i in _integers(op.inputs)[1:] if i >= 0]
                exact = [_half(model, graph.tensors[i]) for i in constants]
                arrays = [half for half in exact if half is not None]
                if len(arrays) == len(exact) and arrays[0].nbytes >= _OPERATION:
                    halves.update(zip(constants, arrays, strict=True))
                    read.subtract(constants)
                    chosen.append(op)
        if not halves:
            return
        dequantize = schema.OperatorCodeT()
        dequantize.builtinCode = dequantize.deprecatedBuiltinCode = kinds.DEQUANTIZE
        dequantize.version = 3  # the first one with float16
        floats: dict[int, int] = {}
        unpackings, before = [], {graph.tensors[index].buffer for index in halves}
        for index, half in halves.items():
            tensor, unpacking, stored = graph.tensors[index], schema.OperatorT(), index
            if read[index]:  # other operations still read it as float32
                tensor, stored = copy(tensor), len(graph.tensors)
                graph.tensors.append(tensor)
            whole, buffer = copy(tensor), schema.BufferT()
            whole.buffer, tensor.buffer = 0, len(model.buffers)  # the first is empty
            buffer.data = np.frombuffer(half.tobytes(), np.uint8)
            model.buffers.append(buffer)
            tensor.type = schema.TensorType.FLOAT16
            tensor.name += b"/float16"
            unpacking.opcodeIndex = len(model.operatorCodes)
            floats[index] = len(graph.tensors)
            unpacking.inputs, unpacking.outputs = [stored], [floats[index]]
            graph.tensors.append(whole)
            unpackings.append(unpacking)
        for unused in before - {t.buffer for g in model.subgraphs for t in g.tensors}:
            model.buffers[unused].data = None
        for op in chosen:
            op.inputs = [floats.get(i, i) for i in _integers(op.inputs)]
        model.operatorCodes.append(dequantize)
        graph.operators = [*unpackings, *graph.operators]

    return edited(content, halve)


def _half(model: Any, tensor: Any) -> np.ndarray | None:
    """Returns a float32 constant in float16; None where that is not exact."""
    data = model.buffers[tensor.buffer].data
    if tensor.type != schema.TensorType.FLOAT32 or data is None:
        return None
    values = np.frombuffer(data.tobytes(), np.float32)
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    return half if np.array_equal(half.astype(np.float32), values) else None


def signature(model: Any) -> tuple[dict[str, int], dict[str, int]]:
    """Returns the inputs and outputs of an unpacked file by name."""
    first = next(iter(model.signatureDefs or ()), None)
    sides = (first.inputs, first.outputs) if first else ((), ())
    inputs, outputs = (
        {
            (row.name or b"").decode(errors="backslashreplace"): row.tensorIndex
            for row in rows or ()
        }
        for rows in sides
    )
    return inputs, outputs


def _graphs(content: bytes, ends: Sequence[str]) -> list[Subgraph]:
    """Reads all graphs; the indices of operations run through all of them."""
    model, numbers = unpacked(content), count()
    known = {v: k for k, v in vars(schema.BuiltinOperator).items() if k.isupper()}
    names = []
    for code in model.operatorCodes or ():
        # Old files store the number in a byte, new ones in both fields.
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        custom = code.customCode
        names.append(known[number] if custom is None else custom.decode())
    buffers = [
        None if x.data is None or not len(x.data) else memoryview(x.data)
        for x in model.buffers or ()
    ]
    subgraphs = list[Subgraph]()
    for graph in model.subgraphs:
        tensors = [
            Tensor(
                index=index,
                name=(tensor.name or b"").decode(),
                shape=tuple(1 if n == -1 else n for n in _integers(tensor.shape)),
                open_axes=open_axes(tensor),
                dtype=TYPES[tensor.type],
                data=buffers[tensor.buffer],
                buffer=tensor.buffer,
            )
            for index, tensor in enumerate(graph.tensors or ())
        ]

        def chosen(places: Any, tensors: list[Tensor] = tensors) -> tuple[Any, ...]:
            return tuple(None if i == -1 else tensors[i] for i in _integers(places))

        operations = [
            FileOperation(
                next(numbers),
                names[op.opcodeIndex],
                chosen(op.inputs),
                chosen(op.outputs),
                _options(op, names[op.opcodeIndex]),
            )
            for op in graph.operators or ()
        ]
        ways = chosen(graph.inputs), chosen(graph.outputs)
        last = () if subgraphs else tuple(ends)
        subgraphs.append(Subgraph(*ways, tuple(operations), last))
    return subgraphs


def _options(op: Any, name: str) -> dict[str, Any]:
    """Returns the options of an operation, by LCE's names."""
    from flatbuffers import flexbuffers

    written = op.customOptions is not None and len(op.customOptions)
    # Other operations may store something else there. LceBconv2d cannot run without.
    if name == "LceBconv2d" or (name.startswith("Lce") and written):
        loaded = flexbuffers.Loads(op.customOptions.tobytes())
        if isinstance(loaded, dict) and loaded:
            return loaded
    return {
        name: int(getattr(op.builtinOptions, field))
        for name, field in _OPTIONS.items()
        if hasattr(op.builtinOptions, field)
    }


def open_axes(tensor: Any) -> tuple[int, ...]:
    """Returns the axes of a tensor of unknown size, which a file stores as -1.

    The first axis, that of the examples, is left out.
    """
    signature, shape = _integers(tensor.shapeSignature), _integers(tensor.shape)
    return tuple(
        axis
        for axis, size in enumerate(shape)
        if axis > 0 and -1 in (size, *signature[axis : axis + 1])
    )


def _integers(numbers: Any) -> tuple[int, ...]:
    return () if numbers is None else tuple(map(int, numbers))
