"""The order and the names of a file's inputs and outputs."""

from __future__ import annotations

from typing import Any

from ._ports import Ports


def in_order(content: bytes, ports: Ports) -> bytes:
    """Puts inputs and outputs in the order of the model; LCE's depends on chance.

    Only the signature of a file tells which is which, and not every program that runs
    files reads that.
    """
    buffer = bytearray(content)
    model = _parsed(buffer)
    graph, (inputs, outputs) = model.Subgraphs(0), _signature(model)
    # These arrays are views of the buffer: its bytes change, and nothing moves.
    graph.InputsAsNumpy()[:] = [inputs[spec.name] for spec in ports.inputs]
    graph.OutputsAsNumpy()[:] = [outputs[name] for name in ports.outputs]
    return bytes(buffer)


def port_names(content: bytes) -> tuple[list[str], list[str]]:
    """Returns the names of a file's inputs and outputs, in its order.

    They are those of its signature, or of its tensors where it has none.
    """
    model = _parsed(content)
    graph, (inputs, outputs) = model.Subgraphs(0), _signature(model)
    count_in, count_out = graph.InputsLength(), graph.OutputsLength()
    return (
        _names(graph, [graph.Inputs(i) for i in range(count_in)], inputs),
        _names(graph, [graph.Outputs(i) for i in range(count_out)], outputs),
    )


def _parsed(content: bytes | bytearray) -> Any:
    from larq_compute_engine.mlir.python import tflite_schema as schema

    return schema.Model.GetRootAsModel(content, 0)


def _signature(model: Any) -> tuple[dict[str, int], dict[str, int]]:
    """The tensors behind the names of inputs and outputs, if those have names."""
    if not model.SignatureDefsLength():
        return {}, {}
    found = model.SignatureDefs(0)
    inputs = [found.Inputs(i) for i in range(found.InputsLength())]
    outputs = [found.Outputs(i) for i in range(found.OutputsLength())]
    return _by_name(inputs), _by_name(outputs)


def _by_name(ports: list[Any]) -> dict[str, int]:
    return {port.Name().decode(): port.TensorIndex() for port in ports}


def _names(graph: Any, indices: list[int], named: dict[str, int]) -> list[str]:
    left = dict(named)  # one tensor may be two outputs
    names = []
    for index in indices:
        fitting = (name for name, of in left.items() if of == index)
        name = next(fitting, graph.Tensors(index).Name().decode())
        left.pop(name, None)
        names.append(name)
    return names
