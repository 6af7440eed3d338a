from __future__ import annotations

from typing import Any

import larq as lq

from ..._checks import check_choice, check_flag, check_number
from ..._keras import keras
from ..._names import VARIANCE_RULES
from ...graph import (
    Graph,
    check_inference,
    flat,
    flat_copy,
    is_batch_norm,
    replace_layers,
)
from .._batch_norm import check_batch_norms
from .._report import SurgeryReport
from ._changes import report_of
from ._layers import Builder
from ._planner import Planner


def remove_batch_norm(
    model: keras.Model,
    alpha: float = 0.2,
    variance_rule: str = "nf",
    variance_preserving: bool = True,
    balanced: bool = False,
    return_report: bool = False,
) -> Any:
    r"""Rewrites a model with batch norm in the normalizer-free form of BNN-BN.

    The new model has the same architecture, and weights to go on training from. It does
    not compute the same function (`fold_batch_norm` does): where batch norm measured
    means and deviations, kernels are standardized instead, and a residual block becomes

    \[ y = \alpha\, \mathrm{conv}(\mathrm{sign}(\beta x + b)) + \mathrm{shortcut}(x) ,
       \qquad \beta = v^{-1/2} , \]

    where v is the variance that x should have: 1 behind a standardized kernel, α² more
    behind every sum, and 1 again where a shortcut is a convolution or an average over a
    smaller map. Both factors are found in the graph, and are no operation of their own.

    - Binary kernels get `ScaledStdSign`. `ScaledStandardization` goes to real-valued
      ones whose output meets a batch norm, a sign, a sum or a concatenation; their
      scale is one over the expected deviation of the input, 1.71 behind a ReLU. Dense
      layers without batch norm behind them and depthwise or transposed kernels stay.
      Latent weights stay too, constraints go.
    - Signs become `RSign` with the same estimator. A sign that `RSign` cannot stand for
      is kept.
    - A batch norm behind a kernel becomes its gain γ, which is kept at 0.0001 or more
      on either side of 0, and its bias β, which a learned shift behind takes over if
      nothing else reads it. A batch norm that only signs read becomes their shift β/γ,
      at most 3 either way; where γ is negative, the kernel behind changes its sign. Any
      other becomes a `ChannelAffine`, or nothing if that would do nothing.
    - What is not known here, such as a Lambda or a layer of a user's class, stays as it
      is, and is taken to leave mean and variance as they are.
    - Moving statistics are dropped, but for a batch norm of the model's input or behind
      a kernel that stays: there they still hold, and join the `ChannelAffine`.

    A model without batch norm is only copied. Train the new one with
    `optimizers.AdaptiveGradientClipping`, as networks without normalization need it.

    Arguments:
        model: A built functional or Sequential model; it is not changed. Models inside
            it are opened.
        alpha: Positive factor on the residual branches.
        variance_rule: `"nf"` counts every residual sum; `"vita"`, as the published code
            of BNN-BN does for ReActNet-18, leaves out the first sum behind a kernel of
            the stream.
        variance_preserving, balanced: As in `quantizers.ScaledStdSign`. The bookkeeping
            above takes the first for granted; the published code does without.
        return_report: Whether to return a `SurgeryReport` as well.

    Returns:
        The new model, not compiled, or the pair of it and the report.

    Raises:
        ModelError: If the model holds a subclassed part, a layer that cannot be made
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
    given = flat(model)
    check_inference(given)
    graph = Graph(given)
    check_batch_norms(graph)
    if not any(is_batch_norm(call.layer) for call in graph.calls):
        copy = flat_copy(model) if given is model else given
        return (copy, SurgeryReport(copy.name, ())) if return_report else copy
    plan = Planner(graph, alpha, variance_rule).run()
    builder = Builder(plan, variance_preserving, balanced)
    with lq.context.quantized_scope(False):
        free = replace_layers(given, builder.layer)
        builder.fill()
    return (free, report_of(given.name, graph, plan)) if return_report else free
