from __future__ import annotations

from typing import Any

import numpy as np

from .._checks import check_choice, check_flag, check_number
from .._keras import keras
from .._names import VARIANCE_RULES
from .._progress import step
from ..graph import _copies, _graph, _models, _operation, _signs, _traits
from ..layers import IndependentComponent
from ..quantizers import BiPer, ScaledStandardization, ScaledStdSign
from . import _plan
from ._batch_norm import channel_affine, check_batch_norms
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

    where v is the variance that x should have. It is 1 after a standardized kernel,
    grows by α² with every sum, and is 1 again where a shortcut is a convolution or an
    average over a smaller map. Both factors are found from the graph, and are no
    operations of their own.

    - Binary kernels get `ScaledStdSign`. `ScaledStandardization` goes to real-valued
      kernels whose output meets a batch norm, a sign, a sum or a concatenation; their
      scale is the inverse of the input's expected standard deviation, 1.71 after a
      ReLU. Dense layers without batch norm after them, and depthwise or transposed
      kernels, are kept. Latent weights are kept, too; constraints are removed.
    - Signs become `RSign` with the same estimator. A sign without an equivalent `RSign`
      is kept.
    - A batch norm after a kernel becomes its gain γ, which is kept at 0.0001 or more on
      either side of 0, and its bias β. A batch norm that only signs read becomes their
      shift β/γ, limited to 3 on either side, if no γ is negative. Any other batch norm
      becomes a `ChannelAffine`, or is removed if that would do nothing.
    - Unknown layers, such as a Lambda or a layer of a user's class, are kept, and are
      assumed to leave mean and variance unchanged.
    - Moving statistics are dropped, except those of a batch norm that reads the model's
      input or the output of a kernel that is kept: they are still valid, and become
      part of the `ChannelAffine`.

    A model without batch norm is only copied. Train the new one with
    `optimizers.AdaptiveGradientClipping`, as networks without normalization need it.

    Arguments:
        model: A built functional or Sequential model; it is not changed. Nested models
            are opened.
        alpha: Positive factor on the residual branches.
        variance_rule: `"nf"` counts every residual sum; `"vita"` leaves out the first
            sum after a kernel of the stream, as the published code of BNN-BN does for
            ReActNet-18.
        variance_preserving, balanced: As in `quantizers.ScaledStdSign`. The variances
            above assume the first, which the published code omits.
        return_report: Whether to return a `SurgeryReport` as well.

    Returns:
        The new model, not compiled, or the pair of it and the report.

    Raises:
        ModelError: If the model contains a subclassed part, a layer that cannot be
            rebuilt from its configuration, a batch norm inside another layer, or one
            that normalizes another axis than the last. The message names them.
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
        and shifts start from those of batch norm, the variance is by default counted as
        in normalizer-free residual networks, and signs get a shift only if they, or a
        batch norm before them, had one.
    """
    check_number("alpha", alpha, "(0, inf)", "The paper uses 0.2.")
    check_choice("variance_rule", variance_rule, VARIANCE_RULES)
    binary = {"variance_preserving": variance_preserving, "balanced": balanced}
    for name, value in {**binary, "return_report": return_report}.items():
        check_flag(name, value)
    given = _models.flat(model)
    _models.check_inference(given)
    graph = free = _graph.Graph(given)
    check_batch_norms(graph)
    changes = []
    if any(_models.is_batch_norm(call.layer) for call in graph.calls):
        plan = _plan.Plan(graph, alpha, variance_rule)
        for done, call in enumerate(graph.calls):
            step("Replacing layers", done, len(graph.calls))
            if call is not graph.uses(call.name)[0]:
                continue
            row, action, reason = _replaced(call, plan, binary)
            if row != [call.operation]:
                free = free.with_row(call.name, row)
            if action:
                kind = type(call.layer).__name__
                changes.append(Change(call.name, kind, action, reason))
    made = _copies.to_keras(free)
    return (made, SurgeryReport(made.name, changes)) if return_report else made


# A gain of 0 would never give a binary kernel again, and could not be learned.
_LEAST_GAIN = 1e-4


def _replaced(
    call: _graph.Call, plan: _plan.Plan, binary: dict[str, bool]
) -> tuple[list[_operation.Operation], str, str]:
    """Returns operations in a row that replace a call, and its action and reason."""
    name, operation, layer = call.name, call.operation, call.layer
    action, reason = plan.outcomes.get(name, ("", ""))
    precision = {"dtype": layer.dtype_policy.name}
    if _models.is_batch_norm(layer):
        row = []
        if name in plan.affine:
            alpha = plan.alpha_of(call)
            action += _words(alpha=alpha)
            weights = {key: alpha * value for key, value in plan.affine[name].items()}
            row.append(channel_affine(layer, name, **weights))
        if isinstance(layer, IndependentComponent) and layer.rate > 0:
            own = plan.graph.free(f"{name}_dropout") if row else name
            arguments = {**precision, "rate": layer.rate}
            row.append(_operation.Operation(own, keras.layers.Dropout, None, arguments))
        return row, action, reason
    if name in plan.pools:
        own = plan.graph.free(f"{name}_scale")
        arguments = {**precision, "scale": plan.pools[name]}
        scale = _operation.Operation(own, keras.layers.Rescaling, None, arguments)
        return [scale, operation], action, reason
    sign = ""
    if name in plan.kernels:
        operation, action = _standardized(call, plan, binary)
    if name in plan.signs:
        rsign = plan.signs[name]
        sign = "rsign" + _words(scale=rsign.scale)
        sign += "" if rsign.shift is None else ", shift"
        if _signs.sign_of_layer(layer):
            operation = rsign.operation(name, **precision)
        elif _plan.latent_kernels(layer):
            inner = rsign.operation(plan.graph.free(f"{name}_sign"), **precision)
            operation = operation.replaced(arguments={"input_quantizer": inner})
    elif _signs.sign_of_call(call) is not None:
        sign, reason = "keeps its sign", "rsign has no estimator like it"
        if _signs.drops_mask(call):
            reason = "a mask ends in it, which rsign would pass on"
    return [operation], "; ".join(filter(None, (sign, action))), reason


def _words(**factors: float) -> str:
    """Returns the words of a report for factors that are not 1."""
    words = (f", {name} {value:.4g}" for name, value in factors.items() if value != 1)
    return "".join(words)


def _standardized(
    call: _graph.Call, plan: _plan.Plan, binary: dict[str, bool]
) -> tuple[_operation.Operation, str]:
    """Returns the layer of a standardized kernel, and words for a report."""
    own, alpha, operation = plan.kernels[call.name], plan.alpha_of(call), call.operation
    quantizer, values, gains = operation.quantizer(own.name), {}, {}
    arguments = {"scale": own.scale * alpha, "dtype": call.layer.dtype_policy.name}
    kind: type = ScaledStandardization
    words = "scaled_standardization"
    if quantizer is not None:
        kind, words = ScaledStdSign, "scaled_std_sign"
        arguments |= binary
        inner = getattr(quantizer, "quantizer", quantizer)
        if isinstance(inner, BiPer):  # its signs are periodic
            rate = inner.frequency
            values[own.name] = np.sin(rate * operation.arrays[own.name]) / rate
    words += _words(scale=own.scale, alpha=alpha)
    if own.norm:
        words += f", gain from {own.norm!r}"
    if own.gain is not None:
        turn = np.where(own.gain < 0, -1.0, 1.0)
        gains["gain"] = turn * np.maximum(np.abs(own.gain), _LEAST_GAIN)
    bias = own.bias if own.norm else operation.arrays.get("bias")
    if bias is not None:
        values["bias"] = alpha * bias
    name = plan.graph.free(f"{call.name}_kernel")
    new = _operation.Operation(name, kind, None, arguments, gains)
    argument = _operation.KERNELS[own.name]
    constraint = argument.replace("quantizer", "constraint")
    changes = {argument: new, constraint: None, "use_bias": bias is not None}
    kind = _traits.traits(operation.kind).quantized or operation.kind
    return operation.replaced(values, changes, kind=kind), words
