"""Reads the operations of a `.tflite` file, whoever wrote it and whatever befell it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from .._errors import ConversionError
from ._file_graph import (
    BITS,
    Operation,
    Subgraph,
    Tensor,
    is_executable,
    whole_bytes,
)
from ._flatbuffer import compute_engine
from ._structure import Structure

# The fields of builtin options that say how an operation computes.
_OPTIONS = {
    "fused_activation_function": "FusedActivationFunction",
    "padding": "Padding",
    "stride_height": "StrideH",
    "stride_width": "StrideW",
    "adjoint_x": "AdjX",
    "adjoint_y": "AdjY",
}


def read(content: bytes, path: str) -> list[Subgraph]:
    """Returns the graphs of a `.tflite` file.

    Nothing of this leaves Python, so that no content can crash or stall it.

    Arguments:
        content: The content of the file.
        path: What to call it in messages.

    Raises:
        ConversionError: If it is no intact TFLite file, or LCE is not installed.
    """
    if not is_lite(content):
        raise ConversionError(
            f"{path!r} is not a TFLite file. Pass a file that larq_nobn.convert or "
            "another LCE converter wrote."
        )
    compute_engine()
    try:
        return _Reader(content, path).subgraphs()
    except ConversionError:
        raise
    except Exception as error:  # struct.error, IndexError, UnicodeDecodeError, ...
        raise damaged(path) from error


def is_lite(content: bytes) -> bool:
    """Whether this is how a TFLite file begins."""
    return content[4:8] == b"TFL3"


def damaged(path: str) -> ConversionError:
    """Returns what to raise where a file contradicts itself."""
    return ConversionError(
        f"{path!r} is a damaged TFLite file. Copy or convert it again."
    )


class _Reader:
    def __init__(self, content: bytes, path: str):
        from larq_compute_engine.mlir.python import tflite_schema

        self._schema = tflite_schema
        self._content = memoryview(content)
        self._path = path
        self._model = tflite_schema.Model.GetRootAsModel(content, 0)
        Structure(content, tflite_schema).check(self._model)
        builtin = vars(tflite_schema.BuiltinOperator).items()
        self._builtin = {v: k for k, v in builtin if k.isupper()}
        types = vars(tflite_schema.TensorType).items()
        self._types = {v: k.lower() for k, v in types if k.isupper()}

    def subgraphs(self) -> list[Subgraph]:
        """Returns all graphs; the numbers of operations run through them."""
        model = self._model
        codes = _each(model.OperatorCodesLength, model.OperatorCodes)
        self._codes = [self._name(code) for code in codes]
        buffers = _each(model.BuffersLength, model.Buffers)
        self._buffers = [self._data(buffer) for buffer in buffers]
        self._count = 0
        graphs = _each(model.SubgraphsLength, model.Subgraphs)
        found = [self._subgraph(graph) for graph in graphs]
        if not found or not found[0].outputs:
            raise damaged(self._path)
        return found

    def _name(self, code: Any) -> str:
        # Old files hold the number in a byte of its own, new ones in both.
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        if number not in self._builtin:
            raise ConversionError(
                f"{self._path!r} holds the operation number {number}, which this "
                "version of Larq Compute Engine does not know. Convert the model "
                "again with this version."
            )
        custom = code.CustomCode()
        return self._builtin[number] if custom is None else custom.decode()

    def _data(self, buffer: Any) -> memoryview | None:
        if not buffer.DataIsNone():
            array = buffer.DataAsNumpy()
            return memoryview(array) if len(array) else None
        if buffer.Offset() > 1:  # behind the flatbuffer, in files above 2 GB
            data = self._content[buffer.Offset() :][: buffer.Size()]
            if len(data) != buffer.Size():
                raise damaged(self._path)
            return data
        return None

    def _subgraph(self, graph: Any) -> Subgraph:
        given = list(_each(graph.TensorsLength, graph.Tensors))
        tensors = [self._tensor(i, tensor) for i, tensor in enumerate(given)]

        def chosen(length: Callable, index: Callable) -> tuple[Any, ...]:
            numbers = [int(i) for i in _each(length, index)]
            if any(i < -1 for i in numbers):
                raise damaged(self._path)
            return tuple(None if i == -1 else tensors[i] for i in numbers)

        operators = _each(graph.OperatorsLength, graph.Operators)
        found = Subgraph(
            inputs=chosen(graph.InputsLength, graph.Inputs),
            outputs=chosen(graph.OutputsLength, graph.Outputs),
            tensors=tuple(tensors),
            operations=tuple(self._operation(op, chosen) for op in operators),
        )
        states = [i for i, tensor in enumerate(given) if tensor.IsVariable()]
        if not is_executable(found, states):
            raise damaged(self._path)
        return found

    def _tensor(self, index: int, tensor: Any) -> Tensor:
        buffer = tensor.Buffer()
        data = self._buffers[buffer]
        shape = tuple(map(int, _each(tensor.ShapeLength, tensor.Shape)))
        dtype = self._types.get(tensor.Type(), f"type {tensor.Type()}")
        sparse = tensor.Sparsity() is not None
        name = (tensor.Name() or b"").decode()
        fixed = data is not None and dtype in BITS
        wrong = fixed and len(data) != whole_bytes(shape, dtype)
        if min(shape, default=0) < 0 or (wrong and not sparse):
            raise damaged(self._path)
        return Tensor(index, name, shape, dtype, data, buffer, sparse)

    def _operation(self, op: Any, chosen: Callable) -> Operation:
        name = self._codes[op.OpcodeIndex()]
        outputs = chosen(op.OutputsLength, op.Outputs)
        if None in outputs:
            raise damaged(self._path)
        found = Operation(
            index=self._count,
            op=name,
            inputs=chosen(op.InputsLength, op.Inputs),
            outputs=outputs,
            options=self._custom(op, name) or self._options(op),
        )
        self._count += 1
        return found

    def _custom(self, op: Any, name: str) -> dict[str, Any]:
        binary = name == "LceBconv2d"  # which crashes without
        if not binary and not (name.startswith("Lce") and op.CustomOptionsLength()):
            return {}  # what others write there need not be a map
        from flatbuffers import flexbuffers

        loaded = flexbuffers.Loads(op.CustomOptionsAsNumpy().tobytes())
        return loaded if isinstance(loaded, dict) else {}

    def _options(self, op: Any) -> dict[str, Any]:
        kinds = vars(self._schema.BuiltinOptions).items()
        kind = next((k for k, v in kinds if v == op.BuiltinOptionsType()), "NONE")
        table = op.BuiltinOptions()
        if kind == "NONE" or table is None:
            return {}
        options = getattr(self._schema, kind)()
        options.Init(table.Bytes, table.Pos)
        return {
            name: int(getattr(options, field)())
            for name, field in _OPTIONS.items()
            if hasattr(options, field)
        }


def _each(length: Callable, item: Callable) -> Iterator[Any]:
    return (item(i) for i in range(length()))
