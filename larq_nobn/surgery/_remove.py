from __future__ import annotations

from typing import Any

import numpy as np

from .._checks import check_choice, check_flag, check_number
from .._keras import keras
from .._names import VARIANCE_RULES
from .._progress import step
from ..graph import _copies, _graph, _kinds, _models, _operation, _signs
from ..layers import ChannelAffine, IndependentComponent
from ..quantizers import BiPer, ScaledStandardization, ScaledStdSign
from . import _plan
from ._batch_norm import check_batch_norms
from ._report import Change, SurgeryReport


def remove_batch_norm(
    model: keras.Model,
    alpha: float = 0.2,
    variance_rule: str = "nf",
    variance_preserving: bool = True,
    balanced: bool = False,
    return_report: bool = False,
) -> Any:
    r"""Rewrites a model with batch norm in the normalizer-free form of BNN-BN.

    The new model has the same architecture, and weights to continue training from. It
    does not compute the same function (`fold_batch_norm` does): where batch norm
    measured means and standard deviations, kernels are standardized instead, and a
    residual block becomes

    \[ y = \alpha\, \mathrm{conv}(\mathrm{sign}(\beta x + b)) + \mathrm{shortcut}(x) ,
       \qquad \beta = v^{-1/2} , \]

    where v is the variance that x should have: 1 after a standardized kernel, α² more
    after every sum, and 1 again where a shortcut is a convolution or an average over a
    smaller map. Both factors are found in the graph, and are not operations of their
    own.

    - Binary kernels get `ScaledStdSign`. `ScaledStandardization` goes to real-valued
      ones whose output meets a batch norm, a sign, a sum or a concatenation; their
      scale is one over the expected standard deviation of the input, 1.71 after a ReLU.
      Dense layers without batch norm after them and depthwise or transposed kernels
      stay. Latent weights stay too, constraints go.
    - Signs become `RSign` with the same estimator. A sign that `RSign` cannot stand for
      is kept.
    - A batch norm after a kernel becomes its gain γ, which is kept at 0.0001 or more
      on either side of 0, and its bias β. A batch norm that only signs read becomes
      their shift β/γ,
      at most 3 either way, if no γ is negative. Any other becomes a `ChannelAffine`, or
      nothing if that would do nothing.
    - What is not known here, such as a Lambda or a layer of a user's class, stays as it
      is, and is taken to leave mean and variance as they are.
    - Moving statistics are dropped, but for a batch norm of the model's input or after
      a kernel that stays: there they still hold, and join the `ChannelAffine`.

    A model without batch norm is only copied. Train the new one with
    `optimizers.AdaptiveGradientClipping`, as networks without normalization need it.

    Arguments:
        model: A built functional or Sequential model; it is not changed. Models inside
            it are opened.
        alpha: Positive factor on the residual branches.
        variance_rule: `"nf"` counts every residual sum; `"vita"`, as the published code
            of BNN-BN does for ReActNet-18, leaves out the first sum after a kernel of
            the stream.
        variance_preserving, balanced: As in `quantizers.ScaledStdSign`. The bookkeeping
            above takes the first for granted; the published code does without.
        return_report: Whether to return a `SurgeryReport` as well.

    Returns:
        The new model, not compiled, or the pair of it and the report.

    Raises:
        ModelError: If the model contains a subclassed part, a layer that cannot be made
            again from its configuration, a batch norm inside another layer or one that
            normalizes another axis than the last. The message names them.
        TypeError, ValueError: For arguments outside the ranges above.

    Example:
        ```python
        import larq_nobn as nobn

        model = nobn.models.ReActNet18((32, 32, 3), 10, "batch_norm", width=16)
        free, report = nobn.remove_batch_norm(model, return_report=True)
        print(report)
        ```

    References:
        - T. Chen, Z. Zhang, X. Ouyang, Z. Liu, Z. Shen, Z. Wang, '"BNN - BN = ?":
          Training Binary Neural Networks without Batch Normalization', CVPR Workshops
          2021, arXiv:2104.08215.
        - A. Brock, S. De, S. L. Smith, "Characterizing signal propagation to close the
          performance gap in unnormalized ResNets", ICLR 2021, arXiv:2101.08692.

    Differences from the paper:
        The paper builds two networks by hand and trains them from scratch. Here gains
        and shifts start where batch norm has left them, the variance is counted as in
        normalizer-free residual networks by default, and signs get a shift only where
        they, or a batch norm before them, had one.
    """
    check_number("alpha", alpha, "(0, inf)", "The paper uses 0.2.")
    check_choice("variance_rule", variance_rule, VARIANCE_RULES)
    for name, value in (
        ("variance_preserving", variance_preserving),
        ("balanced", balanced),
        ("return_report", return_report),
    ):
        check_flag(name, value)
    given = _models.flat(model)
    _models.check_inference(given)
    graph = _graph.Graph(given)
    check_batch_norms(graph)
    if not any(_models.is_batch_norm(call.layer) for call in graph.calls):
        copy = _copies.to_keras(graph)
        return (copy, SurgeryReport(copy.name, ())) if return_report else copy
    plan = _plan.Planner(graph, alpha, variance_rule).run()
    free = build(
        graph, plan, variance_preserving=variance_preserving, balanced=balanced
    )
    return (free, report_of(given.name, graph, plan)) if return_report else free


def report_of(name: str, graph: _graph.Graph, plan: _plan.Plan) -> SurgeryReport:
    """One row per layer that is gone or has changed, in the order of the graph."""
    changes: dict[str, Change] = {}
    for call in graph.calls:
        actions, reason = _done(plan, call)
        if actions:
            kind, action = type(call.layer).__name__, "; ".join(actions)
            changes.setdefault(call.name, Change(call.name, kind, action, reason))
    return SurgeryReport(name, tuple(changes.values()))


def _done(plan: _plan.Plan, call: _graph.Call) -> tuple[list[str], str]:
    name = call.name
    if name in plan.norms:
        return [str(plan.norms[name])], plan.norms[name].reason
    if name in plan.unresolved:
        return ["kept, its branches without alpha"], plan.unresolved[name]
    if name in plan.pools:
        return [f"reads {plan.pools[name]:.4g} of its input"], ""
    actions, reason = [], ""
    sign = plan.signs.get(name)
    if sign is not None:
        scale = "" if sign.scale == 1 else f", scale {sign.scale:.4g}"
        shift = "" if sign.shift is None else ", shift"
        actions.append(f"rsign{scale}{shift}")
    elif _signs.sign_of_call(call) is not None:
        actions.append("keeps its sign")
        reason = "rsign has no estimator like it"
    if name in plan.kernels:
        actions.append(str(plan.kernels[name]))
    return actions, reason


# A gain of 0 would never be binary again, and could not be learned.
_LEAST_GAIN = 1e-4


def build(graph: _graph.Graph, plan: _plan.Plan, **binary: bool) -> keras.Model:
    """Returns the network without batch norm, of new layers.

    Arguments:
        graph: The given network.
        plan: How its layers are replaced.
        **binary: Arguments of `ScaledStdSign`.
    """
    given = graph
    for done, call in enumerate(given.calls):
        step("Replacing layers", done, len(given.calls))
        row = _row(call, plan, binary)
        if row != [call.operation] and call is given.uses(call.name)[0]:
            graph = graph.with_row(call.name, row)
    return _copies.to_keras(graph)


def _row(
    call: _graph.Call, plan: _plan.Plan, binary: dict[str, bool]
) -> list[_operation.Operation]:
    """Returns the operations that replace a call, in a row."""
    name, operation = call.name, call.operation
    if name in plan.norms:
        return _norm(call, plan)
    if _signs.sign_of_layer(call.layer) and name in plan.signs:
        return [plan.signs[name].operation(name, **_precision(call))]
    if _plan.has_kernel(call.layer) and (name in plan.kernels or name in plan.signs):
        return [_kernel(call, plan, binary)]
    if name in plan.pools:
        arguments = {"scale": plan.pools[name], **_precision(call)}
        scale = keras.layers.Rescaling
        return [
            _operation.Operation(f"{name}_scale", scale, None, arguments),
            operation,
        ]
    return [operation]


def _precision(call: _graph.Call) -> dict[str, Any]:
    return {"dtype": call.layer.dtype_policy.name}


def _norm(call: _graph.Call, plan: _plan.Plan) -> list[_operation.Operation]:
    """Returns an affine operation, dropout, both or neither."""
    norm, layer, row = plan.norms[call.name], call.layer, []
    if norm.gain is not None and norm.bias is not None:
        values = {"gamma": norm.alpha * norm.gain, "beta": norm.alpha * norm.bias}
        arguments = {**_precision(call), "trainable": layer.trainable}
        row.append(
            _operation.Operation(call.name, ChannelAffine, None, arguments, values)
        )
    if isinstance(layer, IndependentComponent) and layer.rate > 0:
        name = f"{call.name}_dropout" if row else call.name
        arguments = {**_precision(call), "rate": layer.rate}
        row.append(_operation.Operation(name, keras.layers.Dropout, None, arguments))
    return row


def _kernel(
    call: _graph.Call, plan: _plan.Plan, binary: dict[str, bool]
) -> _operation.Operation:
    operation, name = call.operation, call.name
    own, sign = plan.kernels.get(name), plan.signs.get(name)
    arguments: dict[str, Any] = {}
    values: dict[str, np.ndarray] = {}
    if own is not None:
        if (sine := _sine(operation, own.name)) is not None:
            operation = operation.replaced({own.name: sine})
        quantizer = _quantizer(own, call, binary)
        argument = _operation.KERNELS[own.name]
        arguments[argument] = quantizer
        arguments[argument.replace("quantizer", "constraint")] = None
        bias = own.bias if own.norm else operation.arrays.get("bias")
        arguments["use_bias"] = bias is not None
        if bias is not None:
            values["bias"] = own.alpha * bias
    if sign is not None:
        inner = sign.operation(f"{name}_sign", **_precision(call))
        arguments["input_quantizer"] = inner
    kind = _kinds.traits(operation.kind).quantized or operation.kind
    return operation.replaced(values, arguments, kind=kind)


def _sine(operation: _operation.Operation, kernel: str) -> np.ndarray | None:
    """Latent weights in place of those of `BiPer`, whose signs repeat."""
    quantizer = operation.quantizer(kernel)
    quantizer = getattr(quantizer, "quantizer", quantizer)
    if not isinstance(quantizer, BiPer):
        return None
    rate = quantizer.frequency
    return np.sin(rate * operation.arrays[kernel]) / rate


def _quantizer(
    plan: _plan.KernelPlan, call: _graph.Call, binary: dict[str, bool]
) -> _operation.Operation:
    name = f"{call.name}_kernel"
    arguments = {"scale": plan.scale * plan.alpha, **_precision(call)}
    values = {}
    if plan.gain is not None:
        turn = np.where(plan.gain < 0, -1.0, 1.0)
        values["gain"] = turn * np.maximum(np.abs(plan.gain), _LEAST_GAIN)
    kind = ScaledStdSign if plan.binary else ScaledStandardization
    more = binary if plan.binary else {}
    return _operation.Operation(name, kind, None, {**arguments, **more}, values)
