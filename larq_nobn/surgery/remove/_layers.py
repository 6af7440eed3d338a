"""Builds the network that a plan describes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..._keras import keras
from ..._progress import step
from ...graph import Call, Graph, Operation, Value, sign_of, to_keras
from ...layers import ChannelAffine, IndependentComponent
from ...quantizers import RSign, ScaledStandardization, ScaledStdSign
from ._plan import KernelPlan, Plan, SignPlan
from ._walks import QUANTIZED, argument_of, has_kernel

# A gain of 0 would never be binary again, and could not be learned.
_LEAST_GAIN = 1e-4


def build(graph: Graph, plan: Plan, **binary: bool) -> keras.Model:
    """Returns the network without batch norm, of new layers.

    Arguments:
        graph: The given network.
        plan: How its layers are replaced.
        **binary: Arguments of `ScaledStdSign`.
    """
    rows: dict[str, list[Operation]] = {}
    given_calls = list(graph.calls)
    for done, call in enumerate(given_calls):
        step("Replacing layers", done, len(given_calls))
        row = rows.setdefault(call.name, _row(call, plan, binary))
        given = graph.call(call.label)
        edges = [given.first_input, *(Value(given.first_input) for _ in row[1:])]
        calls = [
            given.reading(edges[0], edge)._replace(
                label=f"{given.label}/{operation.name}",
                name=operation.name,
                outputs=after,
                operation=operation,
            )
            for edge, after, operation in zip(edges, edges[1:], row, strict=False)
        ]
        if row:
            last = given.reading(edges[0], edges[-1])._replace(operation=row[-1])
            graph = graph.with_calls({call.label: [*calls, last]})
        else:
            graph = graph.with_calls({call.label: []})
            graph = graph.with_edge(given.first_output, given.first_input)
    return to_keras(graph)


def _row(call: Call, plan: Plan, binary: dict[str, bool]) -> list[Operation]:
    """What stands in the place of a call, in a row."""
    name, operation = call.name, call.operation
    if name in plan.norms:
        return _norm(call, plan)
    if sign_of(call.layer) and name in plan.signs:
        return [_sign(plan.signs[name], name, call)]
    if has_kernel(call.layer) and (
        name in plan.kernels or name in plan.signs or name in plan.flips
    ):
        return [_kernel(call, plan, binary)]
    if name in plan.pools:
        arguments = {"scale": plan.pools[name], **_precision(call)}
        scale = keras.layers.Rescaling
        return [Operation(f"{name}_scale", scale, None, arguments), operation]
    if name in plan.activations:
        shift = operation.arrays["shift_in"] + plan.activations[name]
        return [operation.replaced({"shift_in": shift})]
    return [operation]


def _precision(call: Call) -> dict[str, Any]:
    return {"dtype": call.layer.dtype_policy.name}


def _norm(call: Call, plan: Plan) -> list[Operation]:
    """An affine operation, dropout, both or neither."""
    norm, layer, found = plan.norms[call.name], call.layer, []
    if norm.gain is not None and norm.bias is not None:
        values = {"gamma": norm.alpha * norm.gain, "beta": norm.alpha * norm.bias}
        arguments = {**_precision(call), "trainable": layer.trainable}
        found.append(Operation(call.name, ChannelAffine, None, arguments, values))
    if isinstance(layer, IndependentComponent) and layer.rate > 0:
        name = f"{call.name}_dropout" if found else call.name
        arguments = {**_precision(call), "rate": layer.rate}
        found.append(Operation(name, keras.layers.Dropout, None, arguments))
    return found


def _sign(plan: SignPlan, name: str, call: Call) -> Operation:
    arguments = {
        "scale": plan.scale,
        "estimator": plan.estimator,
        "shift": plan.shift is not None,
        "power": plan.power,
        **_precision(call),
    }
    values = {} if plan.shift is None else {"shift": plan.shift}
    return Operation(name, RSign, None, arguments, values)


def _kernel(call: Call, plan: Plan, binary: dict[str, bool]) -> Operation:
    operation, name = call.operation, call.name
    own, sign = plan.kernels.get(name), plan.signs.get(name)
    arguments: dict[str, Any] = {}
    values: dict[str, np.ndarray] = {}
    if own is not None:
        quantizer = _quantizer(own, call, binary)
        arguments[argument_of(own.name, "quantizer")] = quantizer
        arguments[argument_of(own.name, "constraint")] = None
        if own.norm:
            arguments["use_bias"] = own.bias is not None
    if sign is not None:
        arguments["input_quantizer"] = _sign(sign, f"{name}_sign", call)
    if arguments.get("use_bias", operation.argument("use_bias")):
        bias = None if own is None else own.bias
        alpha = 1.0 if own is None else own.alpha
        values["bias"] = alpha * operation.arrays["bias"] if bias is None else bias
    if name in plan.flips:
        values["kernel"] = operation.arrays["kernel"] * plan.flips[name][:, None]
    kind = QUANTIZED.get(operation.kind, operation.kind)
    return operation.replaced(values, arguments, kind=kind)


def _quantizer(plan: KernelPlan, call: Call, binary: dict[str, bool]) -> Operation:
    name = f"{call.name}_kernel"
    arguments = {"scale": plan.scale * plan.alpha, **_precision(call)}
    values = {}
    if plan.gain is not None:
        turn = np.where(plan.gain < 0, -1.0, 1.0)
        values["gain"] = turn * np.maximum(np.abs(plan.gain), _LEAST_GAIN)
    kind = ScaledStdSign if plan.binary else ScaledStandardization
    more = binary if plan.binary else {}
    return Operation(name, kind, None, {**arguments, **more}, values)
