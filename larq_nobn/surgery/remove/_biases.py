"""Where the bias of a batch norm goes whose gain a kernel holds."""

from __future__ import annotations

from ...graph import Call, Graph
from ...layers import RPReLU
from ._moments import is_sum
from ._plan import Plan
from ._walks import lets_through


def place_biases(graph: Graph, plan: Plan) -> None:
    """Adds every such bias to a learned shift behind, or else to the kernel's layer."""
    for name, norm in plan.norms.items():
        if norm.kind != "kernel" or norm.beta is None:
            continue
        kernel = plan.kernels[norm.targets[0]]
        bias = kernel.alpha * norm.beta
        reader = _shift_behind(graph, plan, name)
        if reader is None:
            kernel.bias = bias
            continue
        norm.targets += (reader.name,)
        sign = plan.signs.get(reader.name)
        if sign is not None and sign.shift is not None:
            sign.shift = sign.shift + sign.scale * bias
        else:
            before = plan.activations.get(reader.name, 0.0)
            plan.activations[reader.name] = before + bias


def _shift_behind(graph: Graph, plan: Plan, name: str) -> Call | None:
    """The learned shift that alone reads a batch norm, or a sum with it."""
    uses = graph.uses(name)
    tensor = uses[0].first_output if len(uses) == 1 else None
    while tensor is not None:
        reader = graph.sole_consumer(tensor)
        if reader is None or len(graph.uses(reader.name)) > 1:
            return None
        sign = plan.signs.get(reader.name)
        shifted = sign is not None and sign.shift is not None
        if shifted or isinstance(reader.layer, RPReLU):
            return reader
        passes = is_sum(reader) or lets_through(reader, positive=True)
        tensor = reader.first_output if passes else None
    return None
