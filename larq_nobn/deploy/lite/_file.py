"""The operations and tensors of a `.tflite` file, whoever wrote it."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count
from math import prod
from typing import Any, NamedTuple

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from ..._checks import check_path
from ..._errors import InvalidValue
from ..._messages import first_line
from .._errors import ConversionError

_STARTS = b"TFL3"  # from the fifth byte on
# What an operation computes in. Those of kind "shape" rename axes, do arithmetic on
# sizes, or unpack constants, which is done once. Padding, concatenation, slicing and
# transposition move whole maps through memory, and count as what these are made of.
OPERATION_KINDS = ("binary", "float", "int8", "shape")

_BINARY = ("LceQuantize", "LceDequantize", "LceBconv2d", "LceBMaxPool2d")
_SHAPES = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "SHAPE")
_FLOATS = ("float16", "float32", "float64")
_BYTES = ("int8", "uint8", "int16", "int4")
_CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")
_MACS = (
    "LceBconv2d",
    "CONV_2D",
    "DEPTHWISE_CONV_2D",
    "TRANSPOSE_CONV",
    "FULLY_CONNECTED",
    "BATCH_MATMUL",
)
# Bits of one element; other types have no fixed size.
_BITS = {
    "float16": 16,
    "float32": 32,
    "float64": 64,
    "complex64": 64,
    "complex128": 128,
    "bool": 8,
    "int4": 4,
    "int8": 8,
    "int16": 16,
    "int32": 32,
    "int64": 64,
    "uint8": 8,
    "uint16": 16,
    "uint32": 32,
    "uint64": 64,
}
TYPES = tuple(_BITS)
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

    Equal constants may share a `buffer` of the file. A size that only a running file
    knows is 1 in `shape`, and its axis is one of `open_axes`; the axis of examples, the
    first, is never one.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    open_axes: tuple[int, ...]
    dtype: str
    data: memoryview | None
    buffer: int
    sparse: bool

    @property
    def constant(self) -> bool:
        """Whether its values are in the file."""
        return self.data is not None

    @property
    def bytes(self) -> int:
        """The size of its content; 0 where that depends on its values."""
        return self.fixed_bytes if self.data is None else len(self.data)

    @property
    def fixed_bytes(self) -> int:
        """The size of its shape and type; 0 for a type of no fixed size."""
        return (prod(self.shape) * _BITS.get(self.dtype, 0) + 7) // 8

    @property
    def values(self) -> np.ndarray:
        """The numbers of a constant."""
        return np.frombuffer(self.data or b"", self.dtype).reshape(self.shape)


@dataclass(frozen=True, eq=False)
class FileOperation:
    """One operation; an input that was left out is None.

    Attributes:
        index: Its place among all operations of the file.
        op: `"CONV_2D"`, or the name of a custom operation such as `"LceBconv2d"`.
        inputs: What it reads.
        outputs: What it writes.
        options: How it computes, by the names that LCE uses. Builtin operations have
            `fused_activation_function`, `padding` (0 same, 1 valid), `stride_height`
            and `stride_width` as far as they know them.
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
        """The other tensors that it reads."""
        return [t for t in self.inputs if t is not None and not t.constant]

    @property
    def kind(self) -> str:
        """The one of `OPERATION_KINDS` that it belongs to."""
        if self.op in _BINARY:
            return "binary"
        if self.op in _SHAPES or (self.op == "DEQUANTIZE" and not self.maps):
            return "shape"
        types = {t.dtype for t in (*self.maps, *self.outputs)}
        has_bytes = not types.isdisjoint(_BYTES)
        converts = has_bytes and self.op in _CONVERSIONS
        if not types.isdisjoint(_FLOATS) and not converts:
            return "float"
        return "int8" if has_bytes else "shape"

    @property
    def reads_bits(self) -> bool:
        """Whether what it reads contains 32 channels per word."""
        first = self.inputs[0] if self.inputs else None
        packed = self.op in _BINARY and self.op != "LceQuantize"
        return packed and first is not None and first.dtype == "int32"

    @property
    def writes_bits(self) -> bool:
        """Whether what it writes contains 32 channels per word."""
        packed = self.op in _BINARY and self.op != "LceDequantize"
        return packed and bool(self.outputs) and self.outputs[0].dtype == "int32"

    @property
    def macs(self) -> int:
        """The multiply-accumulates of one run; 0 for what has none."""
        if self.op not in _MACS:
            return 0
        made, first = self.outputs[0].shape, self.input(0).shape
        second = self.input(1).shape
        if self.op == "LceBconv2d":
            outputs, height, width, words = second
            # 32 channels share a word; several groups show only as too few words.
            channels = min(self.options["channels_in"], 32 * words)
            return outputs * height * width * channels * prod(made[:3])
        if self.op == "CONV_2D":  # (O, h, w, I / groups), at every output position
            return prod(made[:3]) * prod(second)
        if self.op == "DEPTHWISE_CONV_2D":
            _, height, width, _ = second
            return prod(made) * height * width
        if self.op == "TRANSPOSE_CONV":  # every input is spread over a whole kernel
            return prod(self.input(2).shape[:3]) * prod(second)
        if self.op == "FULLY_CONNECTED":
            _, inputs = second
            return prod(made) * inputs
        *_, rows, columns = first
        return prod(made) * (rows if self.options.get("adjoint_x") else columns)

    def input(self, place: int) -> Tensor:
        """Returns the input at a place where none may be left out."""
        tensor = self.inputs[place]
        assert tensor is not None
        return tensor


@dataclass(frozen=True)
class Subgraph:
    """One graph of a file: the first is the network, others are bodies of loops.

    Attributes:
        inputs, outputs, tensors, operations: What the file contains, in its order.
        ends: The layers of its outputs, whose names the converter drops; empty where
            they are not known.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    tensors: tuple[Tensor, ...]
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

    @cached_property
    def _consumers(self) -> dict[int, list[FileOperation]]:
        consumers: dict[int, list[FileOperation]] = {t.index: [] for t in self.tensors}
        for op in self.operations:
            for index in dict.fromkeys(t.index for t in op.inputs if t is not None):
                consumers[index].append(op)
        return consumers

    def consumers(self, tensor: Tensor) -> list[FileOperation]:
        """Returns the operations that read a tensor, in order, each once."""
        return self._consumers[tensor.index]

    def readers(self, op: FileOperation) -> list[FileOperation]:
        """The operations that read an output; none if it is an output of the file."""
        output = op.outputs[0]
        return [] if output in self.outputs else self.consumers(output)

    def only_reader(self, op: FileOperation) -> FileOperation | None:
        """Returns the operation that reads an output, if it is the only use of it."""
        readers = self.readers(op)
        return readers[0] if len(readers) == 1 else None

    @cached_property
    def _last(self) -> dict[int, str]:
        pairs = zip(self.outputs, self.ends, strict=False)
        return {tensor.index: end for tensor, end in pairs}

    def layer(self, op: FileOperation) -> str:
        """The layer of an operation, if known.

        Of several that were fused it is that of the kernel, where its name says which,
        or else the last. A binary convolution that writes bits or int8 bears the name
        of the sign or range after it; its own layer is that of the sign in front.
        """
        after = op.writes_bits or (op.outputs and "FakeQuant" in op.outputs[0].name)
        inner = op.op == "LceBconv2d" and after
        tensors = [op.input(0)] if inner else op.outputs
        if not tensors:
            return "unknown"
        if tensors[0].index in self._last:
            return self._last[tensors[0].index]
        name = tensors[0].name
        if name.startswith(("StatefulPartitionedCall:", "PartitionedCall:")):
            return "output"
        names = _layers_in(name)
        kernel = _layers_in(op.input(1).name) if op.op in _MACS else []
        # That of equal kernels may be of another operation.
        return next((x for x in kernel if x in names), next(iter(names), "unknown"))


def _layers_in(name: str) -> list[str]:
    """The layers in 'model/layer/operation;other/fused/parts'."""
    parts = (part.split("/") for part in name.split(";"))
    return [scope[1] for scope in parts if len(scope) > 1]


def read_file(path: str | os.PathLike) -> bytes:
    """Returns the content of a file; of none of TFLite, only how it starts."""
    if not isinstance(path, (str, os.PathLike)):
        raise ConversionError(
            f"{reprlib.repr(path)} is not the path of a file. Pass that of a .tflite "
            "file, which larq_nobn.convert writes."
        )
    path = check_path("path", path)
    try:
        with open(path, "rb") as file:
            content = file.read(8)
            return content + file.read() if content[4:] == _STARTS else content
    except OSError as error:
        raise ConversionError(
            f"{os.fspath(path)!r} cannot be read: {error.strerror}. Pass the path of a "
            ".tflite file."
        ) from error


@contextmanager
def parsing(path: str) -> Iterator[None]:
    """Says of a file, whoever wrote it, that it cannot be read.

    Bytes that contradict each other may lead to any error, struct.error, IndexError and
    UnicodeDecodeError among them, and so may a kind of file that is not known here.

    Raises:
        ConversionError: If the block raises an error.
    """
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
    """Rejects what is no TFLite file by its first bytes."""
    if content[4:8] != _STARTS:
        raise ConversionError(
            f"{path!r} is not a TFLite file. Pass a file that larq_nobn.convert or "
            "another LCE converter wrote."
        )


def read(content: bytes, path: str, ends: Sequence[str] = ()) -> list[Subgraph]:
    """Returns the graphs of a `.tflite` file.

    Nothing of this leaves Python, so that no content can crash it.

    Raises:
        ConversionError: If it is not an intact TFLite file.
    """
    check_starts(content, path)
    with parsing(path):
        return _graphs(content, path, ends)


def unpacked(content: bytes | bytearray) -> Any:
    """Returns all of a file as objects of its schema; arrays are views of `content`.

    An offset that leads outside is an error in Python, where native code would follow
    it: measured, LCE's interpreter crashes on a file that was cut.
    """
    return schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))


def edited(content: bytes, change: Callable[[Any], None]) -> bytes:
    """Returns a file packed again, after `change` has edited its objects."""
    import flatbuffers

    class Aligned(flatbuffers.Builder):
        """Puts bytes where numbers of every type may lie, as the format asks for."""

        def StartVector(self, size: int, count: int, alignment: int) -> int:
            return super().StartVector(size, count, 16 if size == 1 else alignment)

    model = unpacked(content)
    change(model)
    builder = Aligned(len(content))
    builder.Finish(model.Pack(builder), file_identifier=_STARTS)
    return bytes(builder.Output())


# Bytes that an operation and two tensors take, about.
_OPERATION = 256


def with_half_kernels(content: bytes) -> bytes:
    """Returns a file of convolutions whose kernels are float16 where that is exact.

    Runtimes unpack them once. XNNPACK of TensorFlow wants the bias to be float16, too.
    """

    def halve(model: Any) -> None:
        graph, kinds = model.subgraphs[0], schema.BuiltinOperator
        dequantize = schema.OperatorCodeT()
        dequantize.builtinCode = dequantize.deprecatedBuiltinCode = kinds.DEQUANTIZE
        dequantize.version = 3  # the first one of float16
        codes = [
            max(code.builtinCode, code.deprecatedBuiltinCode)
            for code in model.operatorCodes
        ]
        halves = [_half(model, tensor) for tensor in graph.tensors]
        unpackings: list[Any] = []
        floats: dict[int, int] = {}
        for op in graph.operators:
            if codes[op.opcodeIndex] != kinds.CONV_2D:
                continue
            constants = [index for index in _integers(op.inputs)[1:] if index >= 0]
            exact = [half for i in constants if (half := halves[i]) is not None]
            if len(exact) < len(constants) or exact[0].nbytes < _OPERATION:
                continue
            for index in constants:
                if index not in floats:
                    stored = _tensor(model, index, "FLOAT16", halves[index])
                    floats[index] = _tensor(model, index, "FLOAT32", None)
                    unpacking = schema.OperatorT()
                    unpacking.opcodeIndex = len(codes)
                    unpacking.inputs, unpacking.outputs = [stored], [floats[index]]
                    unpackings.append(unpacking)
            op.inputs = [*op.inputs[:1], *(floats.get(i, i) for i in op.inputs[1:])]
        if unpackings:
            model.operatorCodes.append(dequantize)
            graph.operators = [*unpackings, *graph.operators]
        ends = *graph.inputs, *graph.outputs
        left = {*map(int, ends), *(int(i) for op in graph.operators for i in op.inputs)}
        unread = floats.keys() - left
        kept = {t.buffer for i, t in enumerate(graph.tensors) if i not in unread}
        kept |= {t.buffer for other in model.subgraphs[1:] for t in other.tensors}
        for index in unread:
            if (buffer := graph.tensors[index].buffer) not in kept:
                model.buffers[buffer].data = None

    return edited(content, halve)


def _half(model: Any, tensor: Any) -> np.ndarray | None:
    """A float32 constant of a file in float16; None where that is another one."""
    data = model.buffers[tensor.buffer].data
    if tensor.type != schema.TensorType.FLOAT32 or data is None:
        return None
    values = np.frombuffer(data.tobytes(), np.float32)
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    return half if np.array_equal(half.astype(np.float32), values) else None


def _tensor(model: Any, like: int, kind: str, values: np.ndarray | None) -> int:
    """Adds a tensor of the shape of another one, with an empty buffer for no values."""
    tensors, buffer = model.subgraphs[0].tensors, schema.BufferT()
    if values is not None:
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    model.buffers.append(buffer)
    tensor = schema.TensorT()
    tensor.shape, tensor.hasRank = tensors[like].shape, True
    tensor.name = tensors[like].name + f"/{kind.lower()}".encode()
    tensor.type = getattr(schema.TensorType, kind)
    tensor.buffer = len(model.buffers) - 1
    tensors.append(tensor)
    return len(tensors) - 1


class Signature(NamedTuple):
    """The first graph of a file, and its tensors by the names of inputs and outputs."""

    graph: Any
    inputs: dict[str, int]
    outputs: dict[str, int]


def signature(content: bytes | bytearray) -> Signature:
    """Reads the names of inputs and outputs; a file may have none."""
    model = unpacked(content)
    if not model.signatureDefs:
        return Signature(model.subgraphs[0], {}, {})
    first = model.signatureDefs[0]
    inputs, outputs = (
        {
            (row.name or b"").decode(errors="backslashreplace"): row.tensorIndex
            for row in rows or ()
        }
        for rows in (first.inputs, first.outputs)
    )
    return Signature(model.subgraphs[0], inputs, outputs)


def _graphs(content: bytes, path: str, ends: Sequence[str]) -> list[Subgraph]:
    """Reads all graphs; the numbers of operations run through them."""
    model, numbers = unpacked(content), count()
    known = {v: k for k, v in vars(schema.BuiltinOperator).items() if k.isupper()}
    types = {v: k.lower() for k, v in vars(schema.TensorType).items() if k.isupper()}
    names, buffers, subgraphs = [], [], []
    for code in model.operatorCodes or ():
        # Old files contain the number in a byte of its own, new ones in both.
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        if number not in known:
            raise ConversionError(
                f"{path!r} contains the operation number {number}, which this version "
                "of TensorFlow does not know. Convert the model again with "
                "this version."
            )
        custom = code.customCode
        names.append(known[number] if custom is None else custom.decode())
    for buffer in model.buffers or ():
        data = buffer.data
        if data is None and buffer.offset > 1:  # after the rest, in files above 2 GB
            data = memoryview(content)[buffer.offset :][: buffer.size]
            _expect(len(data) == buffer.size)
        filled = data is not None and len(data) > 0
        buffers.append(memoryview(data) if filled else None)
    for graph in model.subgraphs or ():
        given = graph.tensors or ()
        tensors = [
            Tensor(
                index=index,
                name=(tensor.name or b"").decode(),
                shape=tuple(1 if n == -1 else n for n in _integers(tensor.shape)),
                open_axes=open_axes(tensor),
                dtype=types.get(tensor.type, f"type {tensor.type}"),
                data=buffers[tensor.buffer],
                buffer=tensor.buffer,
                sparse=tensor.sparsity is not None,
            )
            for index, tensor in enumerate(given)
        ]
        for tensor in tensors:
            _expect(min(tensor.shape, default=0) >= 0)
            free = tensor.data is None or tensor.sparse or tensor.dtype not in _BITS
            _expect(free or tensor.bytes == tensor.fixed_bytes)

        def chosen(places: Any, tensors: list[Tensor] = tensors) -> tuple[Any, ...]:
            places = _integers(places)
            _expect(min(places, default=0) >= -1)
            return tuple(None if i == -1 else tensors[i] for i in places)

        operations = []
        for op in graph.operators or ():
            name = names[op.opcodeIndex]
            inputs, outputs = chosen(op.inputs), chosen(op.outputs)
            operation = FileOperation(
                next(numbers), name, inputs, outputs, _options(op, name)
            )
            operations.append(operation)
        ways = chosen(graph.inputs), chosen(graph.outputs)
        subgraph = Subgraph(*ways, tuple(tensors), tuple(operations))
        states = [i for i, tensor in enumerate(given) if tensor.isVariable]
        _check_order(subgraph, states)
        subgraphs.append(subgraph)
    _expect(bool(subgraphs) and bool(subgraphs[0].outputs))
    return [replace(subgraphs[0], ends=tuple(ends)), *subgraphs[1:]]


def _options(op: Any, name: str) -> dict[str, Any]:
    """Reads the options of an operation, by the names that LCE uses."""
    from flatbuffers import flexbuffers

    written = op.customOptions is not None and len(op.customOptions)
    # What others write there need not be a map; LceBconv2d crashes without.
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
    """Returns the axes of a tensor of a file whose size only a running file knows.

    Converters write -1 into a signature of its own, and 1 into the shape; some write -1
    into the shape. The first axis is left out: it is that of the examples.
    """
    signature, shape = _integers(tensor.shapeSignature), _integers(tensor.shape)
    return tuple(
        axis
        for axis, size in enumerate(shape)
        if axis > 0 and -1 in (size, *signature[axis : axis + 1])
    )


def _integers(numbers: Any) -> tuple[int, ...]:
    return () if numbers is None else tuple(map(int, numbers))


def _expect(fits: bool) -> None:
    if not fits:
        raise InvalidValue("the file contradicts itself")


def _check_order(graph: Subgraph, states: Iterable[int]) -> None:
    """Checks that every tensor is written once, and only then read.

    Native code takes that for granted, and would read and write where no memory is.
    """
    empty = {t.index for t in graph.tensors if 0 in t.shape}  # nothing to read
    constants = [t.index for t in graph.tensors if t.constant]
    known = {*states, *constants, *(t.index for t in graph.inputs)}
    for op in graph.operations:
        read = {tensor.index for tensor in op.inputs if tensor is not None}
        written = [tensor.index for tensor in op.outputs]
        _expect(read <= known | empty and known.isdisjoint(written))
        known.update(written)
    _expect({tensor.index for tensor in graph.outputs} <= known | empty)
