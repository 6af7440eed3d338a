"""Folds batch norm into the layers before or after it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .._checks import check_flag
from .._keras import keras
from .._larq import lq
from .._progress import step
from ..deploy.verify._same import check_same_function
from ..graph import _copies, _graph, _models, _operation, _signs, _thresholds, _traits
from ..layers import IndependentComponent
from ._batch_norm import (
    batch_norm_affine,
    channel_affine,
    check_batch_norms,
    check_no_nan,
)
from ._report import Change, SurgeryReport


def fold_batch_norm(
    model: keras.Model, return_report: bool = False, verify: bool = True
) -> Any:
    r"""Returns a model of the same inference function without batch norm.

    At inference batch norm is a scale and a bias per channel,

    \[ y = k_c x + b_c, \qquad k_c = \frac{\gamma_c}{\sqrt{\sigma_c^2 + \epsilon}},
       \qquad b_c = \beta_c - \mu_c k_c . \]

    Both move into the first of these that keeps the function: the kernel and bias of
    the layer before, if that is real-valued, or binary with the magnitude of its latent
    weights; a `ChannelAffine` of the batch norm's name (but `channel_affine` for
    `batch_normalization`) right after any other quantized kernel; the signs after it,
    if nothing else reads it. A sign becomes an `RSign`,

    \[ \operatorname{sign}(k_c x + b_c)
       = \operatorname{sign}(a x + a b_c / k_c), \qquad k_c > 0, \]

    with the median \(a\) of \(k_c\), which keeps its pseudo-gradient about as wide as
    before. Where \(k_c x + b_c = 0\), the sign is +1 in both models. In all other
    cases, a `ChannelAffine` replaces the batch norm. The report tells how each batch
    norm was replaced, and why. `convert` later moves these layers through pools and
    concatenations, into signs and kernels, so no float operation is added on device.

    Arguments:
        model: A built functional or Sequential model, which may contain nested models.
            It is not changed.
        return_report: Whether to return a `SurgeryReport` as well.
        verify: Whether to compare both models on a few generated examples, segment by
            segment: from signs and inputs to the next pre-activations and outputs.
            Unknown sizes of inputs are chosen so that the model runs.

    Returns:
        A functional model of the same name, not compiled; with `return_report` the pair
        of it and the report. Trainable layers stay trainable, frozen ones frozen.
        Constraints that the new weights violate, and regularizers of batch norm, are
        gone.

    Raises:
        ModelError: For a nested subclassed model, a layer that cannot be rebuilt from
            its configuration and weights, and batch norm over another axis than the
            last, inside a wrapper, or called with `training=True`. It names all such
            layers. Also if the folded model computes something else, with the layer, or
            if the given model cannot be called on generated examples.

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
    norms = {c.name: c.layer for c in graph.calls if _models.is_batch_norm(c.layer)}
    changes = []
    for done, (name, norm) in enumerate(norms.items()):
        step("Folding batch norms", done, len(norms))
        graph, action, reason = _folded(graph, name, norm)
        if isinstance(norm, IndependentComponent) and norm.rate > 0:
            action += ", without its dropout"
        changes.append(Change(name, type(norm).__name__, action, reason))
    folded = _copies.to_keras(graph)
    if verify:
        check_same_function(given, folded, "Folding batch norm")
    if not return_report:
        return folded
    return folded, SurgeryReport(model.name, changes)


class _NotExact(Exception):
    """Why a layer cannot take over scale and bias, as a clause for a report."""


class _Affine(NamedTuple):
    """A batch norm at inference: scale and bias, (C,) each, in float64."""

    norm: keras.layers.Layer
    scale: np.ndarray
    bias: np.ndarray

    @property
    def trainable(self) -> bool:
        return bool(self.norm.trainable_weights)

    def check_takes(self, call: _graph.Call) -> None:
        """Rejects layers of another precision, and frozen ones for a trainable norm."""
        if call.layer.compute_dtype != self.norm.compute_dtype:
            raise _NotExact(f"{call.described} computes in {call.layer.compute_dtype}")
        if self.trainable and not call.layer.trainable:
            raise _NotExact(f"{call.name!r} is frozen")


def _folded(
    graph: _graph.Graph, name: str, norm: keras.layers.Layer
) -> tuple[_graph.Graph, str, str]:
    """Folds one batch norm; returns the graph, the action, and why no better one."""
    affine, reasons = _Affine(norm, *batch_norm_affine(norm)), []
    for take in (_into_makers, _into_signs):
        try:
            return *take(graph, name, affine), ""
        except _NotExact as reason:
            reasons.append(str(reason))
    action = "became a per-channel affine layer"
    return _in_place(graph, name, affine), action, "; ".join(reasons)


def _in_place(graph: _graph.Graph, name: str, affine: _Affine) -> _graph.Graph:
    """Puts a `ChannelAffine` in the place of a batch norm, in all its uses."""
    own = name.replace("batch_normalization", "channel_affine")  # Keras' own name
    own = own if own == name else graph.free(own)
    layer = channel_affine(affine.norm, own, affine.scale, affine.bias)
    layer = layer.replaced(arguments={"trainable": affine.trainable})
    return graph.with_row(name, [layer])


# --- the kernel before


def _maker(graph: _graph.Graph, use: _graph.Call) -> _graph.Call:
    """Returns the call with a kernel whose output only a batch norm reads."""
    maker = graph.producer(use.first_input)
    if maker is None:
        raise _NotExact("it reads an input of the model")
    if graph.sole_consumer(use.first_input) is None:
        raise _NotExact(f"the output of {maker.described} is read elsewhere too")
    last = maker.operation.argument("data_format", "channels_last")
    if not _kernel(maker.operation) or last != "channels_last":
        raise _NotExact(f"{maker.described} lies before it")
    activation = maker.operation.argument("activation")
    if activation not in (None, keras.activations.linear):
        raise _NotExact(f"{maker.name!r} has an activation")
    return maker


def _kernel(operation: _operation.Operation) -> str:
    return _traits.traits(operation.kind).kernel


def _is_quantized(call: _graph.Call) -> bool:
    quantizer = call.operation.quantizer(_kernel(call.operation))
    # A kernel without a quantizer may also consist of ±c.
    return quantizer is not None or _signs.is_binary_convolution(call)


def _into_makers(
    graph: _graph.Graph, name: str, affine: _Affine
) -> tuple[_graph.Graph, str]:
    """Moves scale and bias into kernels, or leaves them after quantized ones."""
    makers = [_maker(graph, use) for use in graph.uses(name)]
    try:
        return _into_kernels(graph, name, affine, makers)
    except _NotExact:
        if not all(map(_is_quantized, makers)):
            raise
    # After a quantized kernel, they cost nothing.
    words = f"became gain and bias after {makers[0].name!r}"
    return _in_place(graph, name, affine), words


def _follows(operation: _operation.Operation, scale: np.ndarray) -> bool:
    """Whether scaling the latent kernel also scales the quantized one.

    `MagnitudeAwareSign` gives such kernels. Then scales belong into the latent kernel:
    with a separate scale of 10, an update that doubles small latent weights would upset
    the network.
    """
    last = _kernel(operation)
    quantizer = operation.quantizer(last)
    if quantizer is None or not np.all(scale):
        return False
    if isinstance(quantizer, lq.quantizers.NoOp):  # flipped in place, by Bop
        return False
    own = operation.arrays[last]
    latent = _scaled(operation, own, scale)
    if np.abs(latent).max() > 1:  # where pseudo-gradients are 0
        return False
    wanted = _scaled(operation, _signs.quantized(quantizer, own), scale)
    made = _signs.quantized(quantizer, latent.astype(own.dtype))
    return np.allclose(made, wanted, 1e-5, 0)


def _into_kernels(
    graph: _graph.Graph, name: str, affine: _Affine, makers: list[_graph.Call]
) -> tuple[_graph.Graph, str]:
    """Multiplies the scale into the kernels before, in all uses of them."""
    labels, taken = [maker.label for maker in makers], {}
    for maker in makers:
        operation = maker.operation
        # Scales in a kernel of -1 and +1 would make its integer sums inexact.
        if _is_quantized(maker) and not _follows(operation, affine.scale):
            raise _NotExact(f"the kernel of {maker.name!r} is quantized")
        affine.check_takes(maker)
        if any(use.label not in labels for use in graph.uses(maker.name)):
            raise _NotExact(f"{maker.name!r} is used elsewhere too")
        taken[maker.name] = _taken(operation, affine)
    changed: dict[str, list[_graph.Call]] = {}
    for use, maker in zip(graph.uses(name), makers, strict=True):
        new = maker._replace(operation=taken[maker.name], outputs=use.first_output)
        changed |= {use.label: [], maker.label: [new]}
    return graph.with_calls(changed), f"folded into {' and '.join(map(repr, taken))}"


def _taken(operation: _operation.Operation, affine: _Affine) -> _operation.Operation:
    """Returns an operation that computes scale * y + bias where the given one has y."""
    last, bias = _kernel(operation), affine.bias
    kernel = _scaled(operation, operation.arrays[last], affine.scale)
    if operation.argument("use_bias"):
        bias = bias + operation.arrays["bias"].astype(np.float64) * affine.scale
    return operation.replaced({last: kernel, "bias": bias}, {"use_bias": True})


def _scaled(
    operation: _operation.Operation, kernel: np.ndarray, scale: np.ndarray
) -> np.ndarray:
    if _traits.traits(operation.kind).transposed:
        scale = scale[:, None]
    elif _kernel(operation) == "depthwise_kernel":
        scale = scale.reshape(kernel.shape[-2:])
    return kernel.astype(np.float64) * scale


# --- the signs after


def _into_signs(
    graph: _graph.Graph, name: str, affine: _Affine
) -> tuple[_graph.Graph, str]:
    """Turns scale and bias into thresholds, if only signs read the batch norm."""
    use, *others = graph.uses(name)
    if others:
        raise _NotExact("it is used more than once")
    if graph.is_output(use.first_output):
        raise _NotExact("it is an output of the model")
    changed: dict[str, list[_graph.Call]] = {use.label: []}
    words = []
    for reader in graph.consumers(use.first_output):
        quantizer = _signs.sign_of_call(reader)
        if quantizer is None:
            raise _NotExact(f"{reader.described} lies after it")
        if len(graph.uses(reader.name)) > 1:
            raise _NotExact(f"{reader.described} is used more than once")
        affine.check_takes(reader)
        inside = _signs.sign_of_layer(reader.layer) is None
        if _signs.drops_mask(reader):
            raise _NotExact(f"{reader.name!r} drops the mask of its output")
        operation = _rsign("rsign" if inside else reader.name, quantizer, affine)
        if inside:
            arguments = {"input_quantizer": operation}
            operation = reader.operation.replaced(arguments=arguments)
        where = f"in {reader.name!r}" if inside else f"{reader.name!r}"
        new = reader.reading(use.first_output, use.first_input)
        changed[reader.label] = [new._replace(operation=operation)]
        words.append(f"became the shift of the sign {where}")
    return graph.with_calls(changed), " and ".join(words)


def _rsign(name: str, quantizer: Any, affine: _Affine) -> _operation.Operation:
    """Returns the sign of k x + b as an `RSign` of x, with the median of k for its a.

    If the quantizer is sign(s z + c), this is the sign of s k x + s b + c.
    """
    scale, equal = affine.scale, _signs.as_rsign(quantizer)
    if equal is None:
        kind = type(quantizer).__name__
        raise _NotExact(f"RSign has no estimator like that of {kind}")
    if np.any(scale <= 0):
        count = np.sum(scale <= 0)
        raise _NotExact(f"{count} of its {scale.size} gains are 0 or negative")
    # RSign takes the sign of half precision in float32.
    dtype = np.float64 if quantizer.compute_dtype == "float64" else np.float32
    own = 0.0 if equal.shift is None else equal.shift.astype(float)
    threshold = _thresholds.threshold_of_affine(
        equal.scale * scale, equal.scale * affine.bias + own
    )
    factor = equal.scale * float(np.median(scale))
    with np.errstate(over="ignore"):
        far = np.abs(factor * threshold.value) >= 1e30
    if np.any(far):
        raise _NotExact("some of its gains are as good as 0")
    sign = equal._replace(scale=factor, shift=threshold.shift(factor, dtype))
    policy = quantizer.dtype_policy.name
    return sign.operation(name, dtype=policy, trainable=affine.trainable)
