"""What a converted file of several networks side by side does for each of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Branch:
    """The way from one input, by its number, to one output."""

    entry: int
    operations: Counter[str]


def branches(buffer: bytes) -> tuple[list[str], list[Branch]]:
    """The inputs by the names they have in Keras, and a branch per output.

    Every operation belongs to exactly one branch, and so does every input.
    """
    from larq_compute_engine.mlir.python import tflite_schema as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(buffer, 0))
    builtin = {v: k for k, v in vars(schema.BuiltinOperator).items() if k.isupper()}
    (graph,) = model.subgraphs
    makers = {made: each for each in graph.operators for made in each.outputs}
    entries = {tensor: place for place, tensor in enumerate(graph.inputs)}

    def name(operation: Any) -> str:
        code = model.operatorCodes[operation.opcodeIndex]
        if code.customCode:
            return code.customCode.decode()
        # Files hold the code in one field or the other, by the age of the operation.
        return builtin[max(code.builtinCode, code.deprecatedBuiltinCode)]

    def branch(output: int) -> Branch:
        waiting, seen, met = [output], set(), {}
        while waiting:
            tensor = waiting.pop()
            if tensor in seen:
                continue
            seen.add(tensor)
            if tensor in makers:
                met[id(makers[tensor])] = makers[tensor]
                waiting += list(makers[tensor].inputs)
        (entry,) = (entries[tensor] for tensor in seen & entries.keys())
        return Branch(entry, Counter(map(name, met.values())))

    found = [branch(output) for output in graph.outputs]
    assert sum(each.operations.total() for each in found) == len(graph.operators)
    assert sorted(each.entry for each in found) == list(range(len(graph.inputs)))
    kept = [graph.tensors[tensor].name.decode() for tensor in graph.inputs]
    return [
        each.removeprefix("serving_default_").partition(":")[0] for each in kept
    ], found
