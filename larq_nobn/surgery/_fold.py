"""Folds batch norm into the layers around it."""

from __future__ import annotations

from typing import Any

from .._checks import check_flag
from .._keras import keras
from .._progress import step
from ..graph import _copies, _graph, _models, _operation, _same
from ..layers import IndependentComponent
from ..rewrites import _after_quantized
from ..rewrites._batch_norm import batch_norm_to_affine
from ..rewrites._concatenation import affine_before_concatenation
from ..rewrites._forward import affine_into_layers_after
from ..rewrites._kernel_before import affine_into_kernel_before
from ..rewrites._merge import merge_affines
from ..rewrites._rule import Edit, Refusal, applied, everywhere, is_affine
from ._batch_norm import check_batch_norms, check_no_nan
from ._report import Change, SurgeryReport

# Applied to every batch norm, wherever it is.
_FIRST = (batch_norm_to_affine, merge_affines)
# The first that fits is applied to what is left; from no operation to one addition.
_THEN = (
    affine_into_kernel_before,
    _after_quantized.affine_after_quantized_kernel,
    affine_before_concatenation(
        (affine_into_kernel_before, _after_quantized.affine_after_quantized_kernel)
    ),
    affine_into_layers_after,
    _after_quantized.affine_after_activation,
    _after_quantized.affine_stays,
)
# Their refusals are about what costs nothing, where others leave a layer.
_TOLD = (affine_into_kernel_before, affine_into_layers_after)


def fold_batch_norm(
    model: keras.Model, return_report: bool = False, verify: bool = True
) -> Any:
    r"""Returns a model of the same inference function without batch norm.

    At inference batch norm is a scale and a bias per channel,

    \[ y = k_c x + b_c, \qquad k_c = \frac{\gamma_c}{\sqrt{\sigma_c^2 + \epsilon}},
       \qquad b_c = \beta_c - \mu_c k_c . \]

    The first of these that computes the same takes them over: kernel and bias of the
    layer before, if that is real-valued, or binary with the magnitude of its latent
    weights; a `ChannelAffine` of the batch norm's name right after any other quantized
    kernel, where it costs nothing; the layers that make the parts of a concatenation,
    in the same ways; the signs and the real-valued layers after it, if nothing else
    reads it. A sign becomes an `RSign`,

    \[ \operatorname{sign}(k_c x + b_c)
       = \operatorname{sign}(k_c)\, \operatorname{sign}(a x + a b_c / k_c), \]

    with the median \(a\) of \(|k_c|\), which keeps its pseudo-gradient about as wide as
    it was, and with those input channels of the next kernel negated where
    \(k_c < 0\); that needs zero or no padding, and a quantizer that then negates too.
    Where \(k_c x + b_c = 0\) the sign is +1 in both models. Scale and bias pass pools
    on the way. All that is left becomes a `ChannelAffine`. The report
    names for each batch norm how it was replaced and why, and no float operation is
    added on device. A Lambda, a layer of a user's class or an operator such as `tf.pad`
    stays as it is: nothing is moved into it or through it.

    Arguments:
        model: A built functional or Sequential model, models inside it included. It is
            not changed.
        return_report: Whether to return a `SurgeryReport` too.
        verify: Whether to compare both models on a few generated examples, segment by
            segment: from the signs and inputs that it reads to the next pre-activations
            and outputs. Sizes that the model leaves open are chosen so that it runs.

    Returns:
        A functional model of the same name, not compiled; with `return_report` a pair
        of it and the report. What was trainable or frozen stays so. Constraints that
        the new weights do not obey, and regularizers of batch norm itself, are gone.

    Raises:
        ModelError: For a subclassed model inside, a layer that cannot be made again
            from its configuration and weights, or computes something else then, batch
            norm over another axis than the last, inside a wrapper or a Lambda, or
            called with `training=True`. It names all such layers. Also if the folded
            model computes something else, with the layer, or if the given one cannot
            be called on generated examples.

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
    given = _models.flat(model)
    _models.check_inference(given)
    graph = _graph.Graph(given)
    check_batch_norms(graph)
    check_no_nan(graph)
    order = dict.fromkeys(call.name for call in graph.calls)
    for rule in _FIRST:
        graph = everywhere(graph, rule)
    changes: dict[str, Change] = {}
    batch_norms = _folded(graph)
    for done, operation in enumerate(batch_norms):
        step("Folding batch norms", done, len(batch_norms))
        graph, action, reason = _fold(graph, graph.uses(operation.name)[0])
        kept = graph.uses(operation.name) != []
        changes.update(_changes(operation, kept, action, reason))
    folded = _copies.to_keras(graph)
    if verify:
        opposite_channels = {
            call.label: call.operation.opposite
            for call in graph.calls
            if call.operation.opposite is not None
        }
        _same.check_same_function(
            given, folded, "Folding batch norm", opposite_channels
        )
    if not return_report:
        return folded
    return folded, SurgeryReport(
        model.name, tuple(changes[name] for name in order if name in changes)
    )


def _folded(graph: _graph.Graph) -> list[_operation.Operation]:
    """Lists the affine operations that were batch norms, once each, in order."""
    affines = {c.name: c.operation for c in graph.calls if is_affine(c)}
    return [x for x in affines.values() if any(map(_models.is_batch_norm, x.origins))]


def _fold(graph: _graph.Graph, call: _graph.Call) -> tuple[_graph.Graph, str, str]:
    """Applies the first rule that fits: what is done, and why nothing better."""
    reasons: list[str] = []
    for rule in _THEN:
        outcome = applied(rule, graph, call)
        if isinstance(outcome, Edit):
            told = reasons if rule is _after_quantized.affine_stays else []
            return outcome.graph, outcome.words, "; ".join(dict.fromkeys(told))
        if isinstance(outcome, Refusal) and rule in _TOLD:
            reasons.append(outcome.reason)
    raise AssertionError("every rule may leave a layer as it is")


def _changes(
    operation: _operation.Operation, kept: bool, action: str, reason: str
) -> dict[str, Change]:
    changes = {}
    for layer in operation.origins:
        what, why = action, reason
        if kept and layer.name != operation.name:
            what, why = f"merged into {operation.name!r}", ""
        if isinstance(layer, IndependentComponent) and layer.rate > 0:
            what += ", without its dropout"
        changes[layer.name] = Change(layer.name, type(layer).__name__, what, why)
    return changes
