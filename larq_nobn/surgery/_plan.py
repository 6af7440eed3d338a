"""Decides how to replace every kernel, sign and batch norm of a network.

By the moments that features should have without batch norm, as far as the graph tells.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from .._keras import keras
from ..graph import _graph, _kinds, _models, _operation, _signs
from ..layers._channel_padding import ChannelPadding
from ._rsign import RSignArguments, as_rsign

_layers = keras.layers


class ExpectedMoments(NamedTuple):
    """Expected moments of the channels of a map, for gains of 1 and biases of 0.

    Arguments:
        mean, variance: (C,) each.
        given: Whether the map is still that of the given model, so that statistics
            which were taken there hold.
    """

    mean: np.ndarray
    variance: np.ndarray
    given: bool = False

    @property
    def rate(self) -> float:
        """One over the expected standard deviation, of all channels together."""
        return float(np.mean(self.variance)) ** -0.5 if self.variance.any() else 1.0

    def times(self, factor: float) -> ExpectedMoments:
        return ExpectedMoments(
            factor * self.mean, factor**2 * self.variance, self.given
        )


def unit(channels: int, given: bool = False) -> ExpectedMoments:
    """Returns the moments after a standardized kernel of independent inputs."""
    return ExpectedMoments(np.zeros(channels), np.ones(channels), given)


def channels_of(tensor: Any) -> int:
    """Returns the size of the last axis, or 1 where there is none."""
    return int(tensor.shape[-1] or 1) if tensor.shape.rank else 1


def total(terms: Sequence[ExpectedMoments]) -> ExpectedMoments:
    """Returns the moments of the sum of independent maps."""
    return ExpectedMoments(
        sum(term.mean for term in terms),  # type: ignore[arg-type]
        sum(term.variance for term in terms),  # type: ignore[arg-type]
        all(term.given for term in terms),
    )


# As good as infinite.
_FAR = 1e9


def clipped(x: ExpectedMoments, low: float, high: float) -> ExpectedMoments:
    """Returns the moments of normal values clipped to bounds, as by a ReLU."""
    low, high = max(low, -_FAR), min(high, _FAR)
    deviation = np.sqrt(np.maximum(x.variance, 1e-12))
    ends = [(bound - x.mean) / deviation for bound in (low, high)]
    density = [np.exp(-(end**2) / 2) / math.sqrt(2 * math.pi) for end in ends]
    below, above = (
        np.array([0.5 * math.erfc(side * z / math.sqrt(2)) for z in end])
        for side, end in zip((-1, 1), ends, strict=True)
    )
    inside = 1 - below - above
    square = x.mean**2 + x.variance
    first = deviation * (density[0] - density[1])
    second = deviation * ((x.mean + low) * density[0] - (x.mean + high) * density[1])
    mean = low * below + high * above + x.mean * inside + first
    power = low**2 * below + high**2 * above + square * inside + second
    return ExpectedMoments(mean, np.maximum(power - mean**2, 0.0), x.given)


def activated(layer: keras.layers.Layer, x: ExpectedMoments) -> ExpectedMoments:
    """Returns the moments after a layer's activation; leaky ones count as identity."""
    bounds = _kinds.activation_traits(layer).bounds
    return x if bounds is None else clipped(x, *bounds)


def through(
    call: _graph.Call, inputs: Sequence[ExpectedMoments], channels: int
) -> ExpectedMoments:
    """Returns the moments after a layer without kernel; unknown layers keep them."""
    given = all(x.given for x in inputs)
    if len(inputs) > 1 and sum(len(x.mean) for x in inputs) == channels:
        means, variances, _ = zip(*inputs, strict=True)
        return ExpectedMoments(np.concatenate(means), np.concatenate(variances), given)
    x = next((x for x in inputs if len(x.mean) == channels), inputs[0])
    x = x._replace(given=given)
    layer = call.layer
    if isinstance(layer, ChannelPadding) and len(x.mean) < channels:
        sides = layer.before, layer.after
        return ExpectedMoments(np.pad(x.mean, sides), np.pad(x.variance, sides), given)
    return activated(layer, resized(x, channels))


def resized(x: ExpectedMoments, channels: int) -> ExpectedMoments:
    """Returns the moments for other channels: repeated, or the mean for all."""
    if len(x.mean) == channels:
        return x
    if channels % len(x.mean) == 0:  # flattened: the channels of every position
        repeat = channels // len(x.mean)
        return ExpectedMoments(
            np.tile(x.mean, repeat), np.tile(x.variance, repeat), x.given
        )
    mean, variance = (np.full(channels, a.mean()) for a in (x.mean, x.variance))
    return ExpectedMoments(mean, variance, x.given)


@dataclass
class KernelPlan:
    """The arguments of the quantizer of a standardized kernel, and the layer's bias.

    Arguments:
        name: Of the kernel, within its layer.
        binary: Whether it is.
        scale: One over the expected standard deviation of its input; 1 after a sign.
        alpha: Of the branch that it ends.
        norm: The batch norm whose factors are its gain.
        gain: (C,), or None to start at 1.
        bias: (C,), in the place of the layer's own; None without one.
    """

    name: str
    binary: bool
    scale: float = 1.0
    alpha: float = 1.0
    norm: str = ""
    gain: np.ndarray | None = None
    bias: np.ndarray | None = None

    def __str__(self) -> str:
        parts = ["scaled_std_sign" if self.binary else "scaled_standardization"]
        if self.scale != 1:
            parts.append(f"scale {self.scale:.4g}")
        if self.alpha != 1:
            parts.append(f"alpha {self.alpha:.4g}")
        if self.norm:
            parts.append(f"gain from {self.norm!r}")
        return ", ".join(parts)


@dataclass
class NormPlan:
    """How one batch norm is replaced.

    Arguments:
        action: What is done, for the report.
        reason: Why it is an affine layer.
        gain, bias: (C,) each, of an affine layer; None where there is none.
        alpha: Of the branch that an affine layer ends.
    """

    action: str
    reason: str = ""
    gain: np.ndarray | None = None
    bias: np.ndarray | None = None
    alpha: float = 1.0

    def __str__(self) -> str:
        alpha = "" if self.alpha == 1 else f", alpha {self.alpha:.4g}"
        return self.action + alpha


@dataclass
class Plan:
    """How the layers of a network are replaced, by name.

    Arguments:
        kernels, signs, norms: Those that change; of a sign the arguments of the
            `RSign` in its place.
        pools: Factor before a pool.
        unresolved: Sums whose branches keep their scale, and why.
    """

    kernels: dict[str, KernelPlan] = field(default_factory=dict)
    signs: dict[str, RSignArguments] = field(default_factory=dict)
    norms: dict[str, NormPlan] = field(default_factory=dict)
    pools: dict[str, float] = field(default_factory=dict)
    unresolved: dict[str, str] = field(default_factory=dict)


def has_kernel(layer: keras.layers.Layer) -> bool:
    """Whether a layer multiplies by a kernel of any kind."""
    return any(getattr(layer, name, None) is not None for name in _operation.KERNELS)


def kernel_name(layer: keras.layers.Layer) -> str | None:
    """Which kernel of a layer can be standardized: that which makes its output."""
    known = _kinds.inherited(type(layer))
    quantized = _kinds.traits(type(layer)).quantized or type(layer)
    fits = known.quantized is not None and issubclass(quantized, known.quantized)
    if not known.kernel or not fits or not _kinds.is_channels_last(layer):
        return None
    shape = _operation.latent(getattr(layer, known.kernel)).shape
    return known.kernel if shape[:-1].num_elements() > 1 else None


def to_standardize(graph: _graph.Graph, call: _graph.Call) -> str | None:
    """The kernel of a call that the BN-free form standardizes, if it has one."""
    layer = call.layer
    name = kernel_name(layer)
    if name is None:
        return None
    quantizer = getattr(layer, _operation.KERNELS[name], None)
    if _signs.is_binary(quantizer):
        return name
    if quantizer is not None:
        return None
    readers = {what for use in graph.uses(call.name) for what in _ahead(graph, use)}
    wanted = {"norm"} if isinstance(layer, _layers.Dense) else {"norm", "sign", "merge"}
    return name if readers & wanted else None


def _ahead(graph: _graph.Graph, call: _graph.Call) -> Iterator[str]:
    """Yields the kinds of the first readers of a call, after pools and activations."""
    if _kinds.activation_traits(call.layer).gate:
        return
    for reader in graph.consumers(call.first_output):
        layer = reader.layer
        if _models.is_batch_norm(layer):
            yield "norm"
        elif _signs.sign_of_call(reader) is not None:
            yield "sign"
        elif _kinds.adds_up(reader) or isinstance(layer, _layers.Concatenate):
            yield "merge"
        elif not has_kernel(layer) and len(reader.reads) == 1:
            yield from _ahead(graph, reader)


def kernel_before(graph: _graph.Graph, norm: _graph.Call, positive: bool) -> str | None:
    """Returns the layer whose gain and bias can do what all uses of a batch norm do.

    Arguments:
        graph: Of the model.
        norm: Some use of the batch norm.
        positive: Whether its factors are; only then may a maximum lie between.
    """
    uses = graph.uses(norm.name)
    kernels = [_kernel_before(graph, use, positive) for use in uses]
    labels = {kernel.label for kernel in kernels if kernel is not None}
    names = {kernel and kernel.name for kernel in kernels}
    first = kernels[0]
    if first is None or len(names) > 1 or len(labels) < len(uses):
        return None
    return first.name if len(graph.uses(first.name)) == len(uses) else None


def _kernel_before(
    graph: _graph.Graph, norm: _graph.Call, positive: bool
) -> _graph.Call | None:
    tensor = norm.first_input
    for call in _upstream(graph, tensor):
        if graph.sole_consumer(tensor) is None:
            return None
        if has_kernel(call.layer):
            activation = call.operation.argument("activation")
            return call if activation in (None, keras.activations.linear) else None
        passes = _kinds.passes(call)
        idle = _kinds.inherited(call.operation.kind).idle
        if not (idle or passes == "all" or (positive and passes == "positive")):
            return None
        tensor = call.first_input
    return None


def _upstream(graph: _graph.Graph, tensor: Any) -> Iterator[_graph.Call]:
    """Yields what makes a tensor, and what makes the one that has its scale before."""
    call = graph.producer(tensor)
    while call is not None:
        yield call
        before = main_input(call)
        call = None if before is None else graph.producer(before)


def main_input(call: _graph.Call) -> Any:
    """The tensor whose scale the output of a call has; None where that is unclear."""
    inputs = call.reads
    if len(inputs) == 1:
        return inputs[0]
    if not isinstance(call.layer, _layers.Multiply):
        return None
    # A gate has one factor for many positions.
    full = [x for x in inputs if tuple(x.shape) == tuple(call.outputs.shape)]
    return full[0] if len(full) == 1 else None


class Planner:
    """Walks through a network in the order of its graph.

    Arguments:
        graph: Of a functional model.
        alpha: Factor on the residual branches.
        rule: `"nf"` or `"vita"`.
    """

    def __init__(self, graph: _graph.Graph, alpha: float, rule: str):
        self.graph, self.alpha, self.rule = graph, alpha, rule
        self.plan = Plan()
        self._moments: dict[int, ExpectedMoments] = {}

    def run(self) -> Plan:
        for call in self.graph.calls:
            if name := to_standardize(self.graph, call):
                quantizer = getattr(call.layer, _operation.KERNELS[name], None)
                self.plan.kernels[call.name] = KernelPlan(
                    name, _signs.is_binary(quantizer)
                )
            if equal := as_rsign(_signs.sign_of_call(call)):
                self.plan.signs[call.name] = equal
        for call in self.graph.calls:
            inputs = [self._of(tensor) for tensor in call.reads]
            moments = self._step(call, inputs)
            for tensor in tf.nest.flatten(call.outputs):
                self._moments[id(tensor)] = resized(moments, channels_of(tensor))
        return self.plan

    def _of(self, tensor: Any) -> ExpectedMoments:
        return self._moments.get(id(tensor)) or unit(channels_of(tensor), given=True)

    def _step(
        self, call: _graph.Call, inputs: list[ExpectedMoments]
    ) -> ExpectedMoments:
        layer, channels = call.layer, channels_of(call.first_output)
        sign = self.plan.signs.get(call.name)
        if sign is not None and call is self.graph.uses(call.name)[0]:
            scale = sign.scale * inputs[0].rate
            self.plan.signs[call.name] = sign._replace(scale=scale)
        if _models.is_batch_norm(layer):
            return self._norm(call, inputs[0])
        if has_kernel(layer):
            plan = self.plan.kernels.get(call.name)
            first = call is self.graph.uses(call.name)[0]
            if plan is not None and first and not _signs.has_sign_input(call):
                plan.scale = inputs[0].rate
            return activated(layer, unit(channels, given=plan is None))
        if _kinds.adds_up(call):
            return self._sum(call, inputs)
        if _signs.sign_of_call(call) is not None:
            return unit(channels)
        return through(call, inputs, channels)

    def _norm(self, call: _graph.Call, x: ExpectedMoments) -> ExpectedMoments:
        if call.name not in self.plan.norms:
            self.plan.norms[call.name] = self._plan_norm(call, x)
        affine = self.plan.norms[call.name].gain is not None
        held = any(kernel.norm == call.name for kernel in self.plan.kernels.values())
        if not affine and not held:
            return x
        return unit(len(x.mean), given=affine and x.given)

    def _plan_norm(self, call: _graph.Call, x: ExpectedMoments) -> NormPlan:
        gamma, beta = factors(call.layer, len(x.mean))
        kernel = kernel_before(self.graph, call, positive=bool(np.all(gamma >= 0)))
        plan = self.plan.kernels.get(kernel or "")
        if plan is not None:
            plan.norm, plan.gain, plan.bias = call.name, gamma, beta
            what = "gain" if beta is None else "gain and bias"
            return NormPlan(f"removed; {what} to {kernel!r}")
        signs = signs_after(self.graph, call, self.plan.signs, gamma)
        if signs is None:
            return affine_plan(call.layer, gamma, beta, x, self._why(call, gamma))
        for name in signs:
            rsign = self.plan.signs[name]
            shift = sign_shift(rsign, gamma, beta, x)
            self.plan.signs[name] = rsign._replace(shift=shift)
        return NormPlan(f"removed; shift of {', '.join(map(repr, signs))}")

    def _why(self, call: _graph.Call, gamma: np.ndarray) -> str:
        """Why a batch norm is neither the gain of a kernel nor the shift of a sign."""
        if len(self.graph.uses(call.name)) > 1:
            return "it is used more than once"
        readers = self.graph.consumers(call.first_output)
        is_output = self.graph.is_output(call.first_output)
        signs = all(reader.name in self.plan.signs for reader in readers)
        if signs and not is_output and np.any(gamma < 0):
            return "some of its factors are negative"
        if is_output or len(readers) > 1:
            return "more than a sign reads it"
        return "no kernel before it and no sign after it can hold it"

    def _sum(self, call: _graph.Call, inputs: list[ExpectedMoments]) -> ExpectedMoments:
        tensors = call.reads
        place = stream_of(self.graph, call)
        if place is None:
            self.plan.unresolved[call.name] = "no input is the residual shortcut"
            return total(inputs)
        branches = []
        for n, (tensor, x) in enumerate(zip(tensors, inputs, strict=True)):
            if n != place:
                branches.append(x.times(self._scale_branch(call, tensor)))
        stream = self._average(tensors[place], inputs[place])
        counts = self.rule == "nf" or not is_first_sum(self.graph, tensors[place])
        return total([stream, *branches]) if counts else stream

    def _scale_branch(self, call: _graph.Call, tensor: Any) -> float:
        plans: dict[str, KernelPlan | NormPlan] = {
            **{n: p for n, p in self.plan.norms.items() if p.gain is not None},
            **self.plan.kernels,
        }
        setter = scale_setter(self.graph, tensor, set(plans))
        if setter is None:
            self.plan.unresolved[call.name] = "no layer can scale a branch on its own"
            return 1.0
        plans[setter].alpha = self.alpha
        return self.alpha

    def _average(self, tensor: Any, x: ExpectedMoments) -> ExpectedMoments:
        """A shortcut that averages on the way to a new stage starts at 1 again."""
        call = self.graph.producer(tensor)
        if (
            call is None
            or not isinstance(call.layer, keras.layers.AveragePooling2D)
            or max(call.layer.strides) == 1
            or len(self.graph.uses(call.name)) > 1
            or self.graph.sole_consumer(tensor) is None
            or np.isclose(x.rate, 1)
        ):
            return x
        self.plan.pools[call.name] = x.rate
        return x.times(x.rate)


# In standard deviations of its input: further out a sign is as good as constant, and no
# gradient would ever reach its shift.
_FURTHEST = 3.0


def factors(norm: keras.layers.Layer, channels: int) -> tuple[np.ndarray, Any]:
    """The learned gain of a batch norm and its bias, (C,) each, or None for no bias."""
    gamma, beta = (
        None if weight is None else weight.numpy().astype(np.float64).reshape(-1)
        for weight in (norm.gamma, norm.beta)
    )
    return (np.ones(channels) if gamma is None else gamma), beta


def signs_after(
    graph: _graph.Graph,
    norm: _graph.Call,
    signs: Mapping[str, RSignArguments],
    gamma: np.ndarray,
) -> list[str] | None:
    """The signs whose shifts can do what a batch norm does, if nothing else reads it.

    Negative factors would turn signs around.
    """
    readers = graph.consumers(norm.first_output)
    if graph.is_output(norm.first_output) or np.any(gamma < 0):
        return None
    if any(len(graph.uses(use.name)) > 1 for use in (norm, *readers)):
        return None
    names = [reader.name for reader in readers]
    return names if all(name in signs for name in names) else None


def sign_shift(
    sign: RSignArguments,
    gamma: np.ndarray,
    beta: np.ndarray | None,
    x: ExpectedMoments,
) -> np.ndarray:
    """Returns the shift, (C,), for which a sign of x is that of the normalized x.

    With the sign's own a and b, a·(γ·(x - m)/√v + β) + b has the sign of
    x - m + √v·(β + b/a)/γ.
    """
    own = 0.0 if sign.shift is None else sign.shift / sign.scale
    offset = own + (np.zeros_like(gamma) if beta is None else beta)
    relative = np.clip(offset / np.maximum(gamma, 1e-12), -_FURTHEST, _FURTHEST)
    return sign.scale * x.rate * (np.sqrt(x.variance) * relative - x.mean)


def affine_plan(
    norm: keras.layers.Layer,
    gamma: np.ndarray,
    beta: np.ndarray | None,
    x: ExpectedMoments,
    reason: str,
) -> NormPlan:
    """Gain and bias without statistics of a batch, or nothing where there are none.

    Where the input is still that of the given model, its moving statistics join them;
    after rewritten kernels the expected moments do.
    """
    mean, variance = x.mean, x.variance
    if x.given:
        mean, variance = (
            weight.numpy().astype(np.float64).reshape(-1)
            for weight in (norm.moving_mean, norm.moving_variance)
        )
    beta = np.zeros_like(gamma) if beta is None else beta
    # The scale of what is rewritten is accounted for in the next kernel or sign.
    scaled = x.given and np.any(variance != 1)
    if np.all(gamma == 1) and not np.any(beta) and not np.any(mean) and not scaled:
        return NormPlan("removed; it changed nothing but the scale")
    gain = gamma / np.sqrt(variance + norm.epsilon)
    return NormPlan("channel_affine", reason, gain, beta - mean * gain)


def stream_of(graph: _graph.Graph, call: _graph.Call) -> int | None:
    """The place of the stream among the inputs of a sum, if one is not like the rest.

    That is the input itself or what lies closest to it: after fewer kernels than the
    branches, or as many, but on real-valued inputs, or of a smaller window.
    """
    above = [_ancestors(graph, tensor) for tensor in call.reads]
    terms = []
    for place, tensor in enumerate(call.reads):
        others = set().union(*(a for n, a in enumerate(above) if n != place))
        own = [made for key, made in above[place].items() if key not in others]
        kernels = [made for made in own if made and has_kernel(made.layer)]
        ahead = (made for made in _upstream(graph, tensor) if has_kernel(made.layer))
        last = next(ahead, None) or next(iter(kernels), None)
        if not kernels or last is None:
            terms.append((0, False, 0))
        else:
            terms.append((len(kernels), _signs.has_sign_input(last), _window(last)))
    least = min(terms)
    return terms.index(least) if terms.count(least) == 1 else None


def _ancestors(graph: _graph.Graph, tensor: Any) -> dict[int, _graph.Call | None]:
    """Every tensor that one depends on, itself too, by id: the call that makes it."""
    makers: dict[int, _graph.Call | None] = {}
    left = [tensor]
    while left:
        tensor = left.pop()
        if id(tensor) not in makers:
            call = makers[id(tensor)] = graph.producer(tensor)
            left += call.reads if call else []
    return makers


def _window(call: _graph.Call) -> int:
    kernels = (getattr(call.layer, name, None) for name in _operation.KERNELS)
    shapes = [
        _operation.latent(kernel).shape for kernel in kernels if kernel is not None
    ]
    return max(shape[:-2].num_elements() or 1 for shape in shapes)


def scale_setter(graph: _graph.Graph, tensor: Any, setters: set[str]) -> str | None:
    """Returns the layer that can multiply a branch by alpha, for that branch alone.

    Arguments:
        graph: Of the model.
        tensor: What the sum reads of the branch.
        setters: Names of layers with a scale of their own.
    """
    for call in _upstream(graph, tensor):
        if graph.sole_consumer(tensor) is None:
            return None
        if call.name in setters:
            return call.name if len(graph.uses(call.name)) == 1 else None
        gate = _kinds.activation_traits(call.layer).gate
        if has_kernel(call.layer) or gate or _signs.sign_of_layer(call.layer):
            return None
        tensor = main_input(call)
    return None


def is_first_sum(graph: _graph.Graph, tensor: Any) -> bool:
    """Whether a stream comes from a kernel or the model's input, not from a sum."""
    call = None
    for call in _upstream(graph, tensor):
        if has_kernel(call.layer):
            return True
    return call is None or main_input(call) is not None
