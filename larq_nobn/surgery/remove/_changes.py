"""Says of every layer what the removal of batch norm made of it."""

from __future__ import annotations

from ...graph import Call, Graph
from .._report import Change, SurgeryReport
from ._plan import KernelPlan, NormPlan, Plan
from ._signs import quantizer_of


def report_of(name: str, graph: Graph, plan: Plan) -> SurgeryReport:
    """One row per layer that is gone or has changed, in the order of the graph."""
    changes: dict[str, Change] = {}
    for call in graph.calls:
        actions, reason = _row(plan, call)
        if actions:
            kind, action = type(call.layer).__name__, "; ".join(actions)
            changes.setdefault(call.name, Change(call.name, kind, action, reason))
    return SurgeryReport(name, tuple(changes.values()))


def _row(plan: Plan, call: Call) -> tuple[list[str], str]:
    name = call.name
    if name in plan.norms:
        return [_norm(plan.norms[name])], plan.norms[name].reason
    if name in plan.unresolved:
        return ["kept, its branches without alpha"], plan.unresolved[name]
    if name in plan.pools:
        return [f"reads {plan.pools[name]:.4g} of its input"], ""
    actions, reason = [], ""
    sign = plan.signs.get(name)
    if sign is not None:
        actions.append(sign.text)
    elif quantizer_of(call.layer) is not None:
        actions.append("keeps its sign")
        reason = "rsign has no estimator like it"
    if name in plan.kernels:
        actions.append(_kernel(plan.kernels[name]))
    if name in plan.flips:
        flipped = int((plan.flips[name] < 0).sum())
        actions.append(f"{flipped} input channels turned around")
    return actions, reason


def _kernel(plan: KernelPlan) -> str:
    parts = ["scaled_std_sign" if plan.binary else "scaled_standardization"]
    if plan.scale != 1:
        parts.append(f"scale {plan.scale:.4g}")
    if plan.alpha != 1:
        parts.append(f"alpha {plan.alpha:.4g}")
    if plan.norm:
        parts.append(f"gain from {plan.norm!r}")
    return ", ".join(parts)


def _norm(plan: NormPlan) -> str:
    names = [repr(name) for name in plan.targets]
    if plan.kind == "identity":
        return "removed; it changed nothing but the scale"
    if plan.kind == "shift":
        return f"removed; shift of {', '.join(names)}"
    if plan.kind == "affine":
        alpha = "" if plan.alpha == 1 else f", alpha {plan.alpha:.4g}"
        return f"channel_affine{alpha}"
    if plan.beta is None:
        return f"removed; gain to {names[0]}"
    if len(names) == 1:
        return f"removed; gain and bias to {names[0]}"
    return f"removed; gain to {names[0]}, bias to {names[1]}"
