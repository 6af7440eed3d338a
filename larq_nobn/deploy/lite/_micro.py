"""Packs kernels for TensorFlow Lite Micro in one bit a weight, and runs such files.

Its operation `TFLM_DECODE` unpacks a kernel while the file runs. For each weight it
reads one or two bits, and looks up the number in a table of the weight's output
channel.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from .._errors import ConversionError
from ._described import NOTE
from ._file import CHANNELS, Subgraph, Tensor, edited, read

DECODE = "TFLM_DECODE"
# The approximate bytes of an unpacking operation in a file, without its tables.
_OPERATION = 400
_LACKING = re.compile(r"Didn't find op for builtin opcode '(\w+)'")
_FAILING = re.compile(r"Node (\w+) \(number (\d+)\) failed")
_TOTAL = re.compile(r"Arena allocation total (\d+) bytes")
_ARENA = 1 << 28


def _package(name: str) -> Any:
    try:
        return import_module(f"tflite_micro.{name}")
    except ImportError as error:
        raise ConversionError(
            "TensorFlow Lite Micro is not installed, and files for it are written and "
            "run by it. Install it with: pip install 'larq-nobn[micro]'"
        ) from error


def check_micro() -> None:
    """Checks that TensorFlow Lite Micro is installed."""
    _package("python.tflite_micro.runtime")


def resolver(operations: Sequence[str]) -> list[str]:
    """Returns the methods of a `MicroMutableOpResolver` that add these operations."""
    names = (name.removeprefix("TFLM_") for name in operations)
    words = ("".join(part.title() for part in name.split("_")) for name in names)
    return [f"Add{word}" for word in words]


def packed_kernels(graph: Subgraph) -> list[tuple[Tensor, int, int]]:
    """Returns the kernels that take less space as bits, with their axis and bits."""
    found = {}
    for op in graph.operations:
        kernel = op.input(1) if op.op in CHANNELS else None
        if kernel is None or not kernel.constant or kernel.dtype != "int8":
            continue
        axis = CHANNELS[op.op]
        rows = np.moveaxis(kernel.values, axis, 0)
        rows = np.sort(rows.reshape(len(rows), -1), axis=1)
        most = 1 + int((np.diff(rows, axis=1) != 0).sum(axis=1).max(initial=0))
        bits = 1 if most <= 2 else 2
        saved = kernel.bytes * (8 - bits) // 8 - len(rows) * 2**bits - _OPERATION
        if most <= 2**bits and saved > 0:
            found[kernel.index] = kernel, axis % len(kernel.shape), bits
    return list(found.values())


def with_packed_kernels(content: bytes, graph: Subgraph) -> bytes:
    """Returns the file with kernels of few values packed into bits."""
    chosen = packed_kernels(graph)
    if not chosen:
        return _lean(content)
    compression = _package("tensorflow.lite.micro.compression")
    spec = _package("tensorflow.lite.micro.compression.spec")
    tensors = []
    for tensor, axis, bits in chosen:
        # With one table for all channels, Micro silently computes wrong numbers.
        mode = spec.PerChannel(axis=axis)
        way = spec.LookUpTableCompression(index_bitwidth=bits, mode=mode)
        tensors.append(spec.Tensor(subgraph=0, tensor=tensor.index, compression=[way]))
    return _lean(bytes(compression.compress(content, tensors)))


def _lean(content: bytes) -> bytes:
    """Returns a file of the same function without what Micro does not read.

    A name says the layer of an operation, and no more. Of scales per channel those of
    kernels are read, whose zero points are one 0 for all channels.
    """
    graphs = read(content, "the file")

    def strip(model: Any) -> None:
        model.metadata = [x for x in model.metadata or () if x.name == NOTE.encode()]
        for graph, own in zip(graphs, model.subgraphs, strict=True):
            layers = {
                t.index: graph.layer(x) for x in graph.operations for t in x.outputs
            }
            for index, tensor in enumerate(own.tensors):
                if index not in (*own.inputs, *own.outputs):
                    tensor.name = f"/{layers[index]}" if index in layers else None
                steps = tensor.quantization
                if steps is None or steps.scale is None or len(steps.scale) == 1:
                    continue
                if tensor.type != schema.TensorType.INT8:
                    tensor.quantization = None
                elif not steps.zeroPoint.any():
                    steps.zeroPoint = steps.zeroPoint[:1]

    return edited(content, strip, once=True)


def open_in_micro(content: bytes) -> Any:
    """Opens a file in Micro's interpreter.

    Its arena is larger than that of any board, since native code may end the process
    if an allocation in a smaller one fails.

    Raises:
        RuntimeError: If an operation is lacking.
    """
    runtime = _package("python.tflite_micro.runtime")
    return runtime.Interpreter.from_bytes(content, arena_size=_ARENA)


def run_in_micro(
    content: bytes, num_threads: int, outputs: int
) -> Callable[[Any], list[Any]]:
    """Returns a function that runs a batch in Micro's interpreter, in one thread."""
    inner = open_in_micro(content)

    def predict(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        for place, array in enumerate(arrays):
            inner.set_input(np.ascontiguousarray(array), place)
        inner.invoke()
        return [inner.get_output(place).copy() for place in range(outputs)]

    return predict


def arena_bytes(content: bytes, chatter: Callable[[], str]) -> int | None:
    """Runs a file once, and returns how many bytes of the arena it used.

    Micro's interpreter prints that; `chatter` returns what was printed.
    """
    inner = open_in_micro(content)
    inner.invoke()
    inner.print_allocations()
    found = _TOTAL.search(chatter())
    return int(found[1]) if found else None


def micro_error(error: Exception, said: str, graph: Subgraph) -> ConversionError:
    """Returns the error for a file that Micro cannot run, from what Micro printed."""
    if found := _LACKING.search(said):
        ops = [op for op in graph.operations if op.op == found[1]]
    elif found := _FAILING.search(said):
        ops = [graph.operations[int(found[2])]]
    else:
        last = next((x for x in reversed(said.splitlines()) if x.strip()), f"{error}")
        return ConversionError(
            f"TensorFlow Lite Micro cannot run the file: {last.strip()}. Convert the "
            "model for another runtime, such as litert."
        )
    layer = graph.layer(ops[0]) if ops else "unknown"
    return ConversionError(
        f"Layer {layer!r} needs the operation {found[1]!r}, which TensorFlow Lite "
        "Micro does not have in int8. Write the layer with other functions, or convert "
        "the model for another runtime, such as litert."
    )
