"""Gives TensorFlow Lite room for the tensors that it makes while it gets ready.

LCE's interpreter for Python notes where its inputs and outputs lie once it is ready to
run. TensorFlow Lite keeps all tensors in one array, and before each operation sees to
it that 16 more would fit; if not, it moves the array to twice the room. Where the last
operations make tensors of their own, as convolutions do, that may happen as late as in
the first run, and what was noted points to memory that is no longer theirs: the run
reads garbage, or crashes. With tensors enough from the start, the first move comes
before all of this, and leaves room for all that operations make.
"""

from __future__ import annotations

from typing import Any

# The array has this room from the start: with more tensors it moves right away.
_RESERVED = 128
# More than any operation makes of its own; recurrent ones make a dozen.
_PER_OPERATION = 20


def with_room(content: bytes) -> bytes:
    """Returns a file with unused tensors added to its graphs, to be run instead."""
    import flatbuffers
    from larq_compute_engine.mlir.python import tflite_schema as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    for graph in model.subgraphs:
        wanted = _RESERVED + _PER_OPERATION * (1 + len(graph.operators))
        for _ in range(wanted - len(graph.tensors)):
            graph.tensors.append(_unused(schema))
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _unused(schema: Any) -> Any:
    tensor = schema.TensorT()
    tensor.name, tensor.shape = b"unused", [1]
    tensor.type, tensor.buffer = schema.TensorType.FLOAT32, 0
    return tensor
