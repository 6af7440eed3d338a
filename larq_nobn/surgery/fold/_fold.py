"""Folds batch norm into the layers around it."""

from __future__ import annotations

from typing import Any

from ..._checks import check_flag
from ..._keras import keras
from ...graph import (
    Graph,
    check_inference,
    check_same_function,
    flat,
    steps_of,
)
from ...layers import IndependentComponent
from .._batch_norm import check_batch_norms
from .._report import Change, SurgeryReport
from ._ahead import into_layers_ahead
from ._behind import behind_activation, behind_quantized_kernel, into_kernel_behind
from ._build import build
from ._chains import Chain, chains, keep_as_affine, steps_behind_affine
from ._plan import NotExact, Plan

# The first that fits, from nothing left on the phone to one addition.
_RULES = (
    into_kernel_behind,
    behind_quantized_kernel,
    into_layers_ahead,
    behind_activation,
)


def fold_batch_norm(
    model: keras.Model, return_report: bool = False, verify: bool = True
) -> Any:
    r"""Returns a model of the same inference function without batch norm.

    At inference batch norm is a gain and a bias per channel,

    \[ y = k_c x + b_c, \qquad k_c = \frac{\gamma_c}{\sqrt{\sigma_c^2 + \epsilon}},
       \qquad b_c = \beta_c - \mu_c k_c . \]

    The first of these that computes the same takes them over: kernel and bias of the
    layer before, if that is real-valued, or binary with the magnitude of its latent
    weights; a `ChannelAffine` of the batch norm's name right behind any other quantized
    kernel, where it costs nothing; the signs and the real-valued layers behind, if
    nothing else reads it. A sign becomes an `RSign`,

    \[ \operatorname{sign}(k_c x + b_c)
       = \operatorname{sign}(k_c)\, \operatorname{sign}(a x + a b_c / k_c), \]

    with the median \(a\) of \(|k_c|\), which keeps the estimator about as wide as it
    was, and with those input channels of the next kernel negated where \(k_c < 0\);
    that needs zero or no padding, and a quantizer that then negates too. Where
    \(k_c x + b_c = 0\) the sign is +1 in both models. If x is a sum of signs, which
    often meets its threshold, the threshold moves to between two sums. Gain and bias
    pass pools on the way. All that is left becomes a `ChannelAffine`. The report names
    for each batch norm what became of it and why, and no float operation is added on
    the phone. A Lambda, a layer of a user's class or an operator such as `tf.pad` stays
    as it is: nothing is moved into it or through it.

    Arguments:
        model: A built functional or Sequential model, models inside it included. It is
            not changed.
        return_report: Whether to return a `SurgeryReport` too.
        verify: Whether to compare both models on a few made-up examples, segment by
            segment: from the signs and inputs that it reads to the next pre-activations
            and outputs.

    Returns:
        A functional model of the same name, not compiled; with `return_report` a pair
        of it and the report. What was trainable or frozen stays so. Constraints that
        the new weights do not obey, and regularizers of batch norm itself, are gone.

    Raises:
        ModelError: For a subclassed model inside, a layer that cannot be made again
            from its configuration, batch norm over another axis than the last, inside
            a wrapper or a Lambda, or called with `training=True`. It names all such
            layers. Also if the folded model computes something else, with the layer.

    Example:
        ```python
        import larq_nobn as nobn

        model = nobn.models.ReActNet18((32, 32, 3), 10, "batch_norm", width=16)
        folded, report = nobn.fold_batch_norm(model, return_report=True)
        print(report)
        ```
    """
    check_flag("return_report", return_report)
    check_flag("verify", verify)
    given = flat(model)
    check_inference(given)
    graph = Graph(given)
    check_batch_norms(graph)
    plan = Plan(graph, steps_of(graph, steps_behind_affine))
    changes: dict[str, Change] = {}
    for chain in chains(graph):
        action, reason = _decide(plan, chain)
        changes.update(_changes(plan, chain, action, reason))
    folded = build(given, plan)
    if verify:
        check_same_function(given, folded, "Folding batch norm", plan.turned)
    if not return_report:
        return folded
    order = dict.fromkeys(call.name for call in graph.calls)
    return folded, SurgeryReport(
        model.name, tuple(changes[name] for name in order if name in changes)
    )


def _decide(plan: Plan, chain: Chain) -> tuple[str, str]:
    """Plans what becomes of a chain: what is done, and why not something better."""
    reasons = {}
    for rule in _RULES:
        try:
            return rule(plan, chain), ""
        except NotExact as error:
            reasons[rule] = str(error)
    keep_as_affine(plan, chain)
    # The other rules are about what costs nothing, where these leave a layer.
    why = dict.fromkeys(reasons[x] for x in (into_kernel_behind, into_layers_ahead))
    return "became a per-channel affine layer", "; ".join(why)


def _changes(plan: Plan, chain: Chain, action: str, reason: str) -> dict[str, Change]:
    found = {}
    for layer in chain.layers:
        what, why = action, reason
        if chain.name not in plan.dropped and layer.name != chain.name:
            what, why = f"merged into {chain.name!r}", ""
        if isinstance(layer, IndependentComponent) and layer.rate > 0:
            what += ", without its dropout"
        found[layer.name] = Change(layer.name, type(layer).__name__, what, why)
    return found
