"""Decides how to replace every kernel, sign and batch norm of a network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from ..._keras import keras
from ...graph import _graph, _kinds, _models, _operation, _signs
from ...layers import RPReLU
from ...rewrites._into_sign import RSignArguments, as_rsign
from . import _moments


@dataclass
class KernelPlan:
    """The arguments of the quantizer of a standardized kernel.

    Arguments:
        name: Of the kernel, within its layer.
        binary: Whether it is.
        scale: One over the expected standard deviation of its input; 1 after a sign.
        alpha: Of the branch that it ends.
        norm: The batch norm whose factors are its gain.
        gain: (C,), or None to start at 1.
        bias: (C,), or None for the bias that the layer has.
    """

    name: str
    binary: bool
    scale: float = 1.0
    alpha: float = 1.0
    norm: str = ""
    gain: np.ndarray | None = None
    bias: np.ndarray | None = None


@dataclass
class NormPlan:
    """How one batch norm is replaced.

    Arguments:
        kind: `"kernel"` (its factors are the gain of one), `"shift"` (of signs),
            `"identity"` (there is nothing to do) or `"affine"`.
        targets: Names of the layers that do its work.
        beta: (C,); None without.
        gain, bias: (C,) each, of an affine layer.
        alpha: Of the branch that an affine layer ends.
        reason: Why it is an affine layer.
    """

    kind: str
    targets: tuple[str, ...] = ()
    beta: np.ndarray | None = None
    gain: np.ndarray | None = None
    bias: np.ndarray | None = None
    alpha: float = 1.0
    reason: str = ""


@dataclass
class Plan:
    """How the layers of a network are replaced, by name.

    Arguments:
        kernels, signs, norms: Those that change; of a sign the arguments of the
            `RSign` in its place.
        flips: Of layers that read signs, -1 for every input channel that now has the
            opposite sign, else 1.
        pools: Factor before a pool.
        activations: What is added to the first shift of an `RPReLU`.
        unresolved: Sums whose branches keep their scale, and why.
    """

    kernels: dict[str, KernelPlan] = field(default_factory=dict)
    signs: dict[str, RSignArguments] = field(default_factory=dict)
    norms: dict[str, NormPlan] = field(default_factory=dict)
    flips: dict[str, np.ndarray] = field(default_factory=dict)
    pools: dict[str, float] = field(default_factory=dict)
    activations: dict[str, np.ndarray] = field(default_factory=dict)
    unresolved: dict[str, str] = field(default_factory=dict)


_layers = keras.layers


def has_kernel(layer: keras.layers.Layer) -> bool:
    """Whether a layer multiplies by a kernel of any kind."""
    return any(getattr(layer, name, None) is not None for name in _operation.KERNELS)


def kernel_name(layer: keras.layers.Layer) -> str | None:
    """Which kernel of a layer can be standardized: that which makes its output."""
    known = _kinds.inherited(type(layer))
    quantized = _kinds.traits(type(layer)).quantized or type(layer)
    if (
        known.kernels is None
        or known.quantized is None
        or not _kinds.is_channels_last(layer)
    ):
        return None
    if not issubclass(quantized, known.quantized):
        return None
    name = known.kernels.last
    shape = _operation.latent(getattr(layer, name)).shape
    return name if shape[:-1].num_elements() > 1 else None


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
    if is_bounded(call.layer):
        return
    for reader in graph.consumers(call.first_output):
        layer = reader.layer
        if _models.is_batch_norm(layer):
            yield "norm"
        elif _signs.sign_of_call(reader) is not None:
            yield "sign"
        elif _moments.is_sum(reader) or isinstance(layer, _layers.Concatenate):
            yield "merge"
        elif not has_kernel(layer) and len(reader.reads) == 1:
            yield from _ahead(graph, reader)


def is_bounded(layer: keras.layers.Layer) -> bool:
    """Whether a layer ends in a gate or a probability, which has no scale."""
    if isinstance(layer, _layers.Softmax):
        return True
    known = _kinds.FUNCTIONS_BY_NAME.get(_moments.activation_of(layer))
    return known is not None and known.gate


def lets_through(call: _graph.Call, positive: bool) -> bool:
    """Whether a gain and a bias per channel may stand before a layer as well as after.

    Arguments:
        call: Of the layer.
        positive: Whether all gains are.
    """
    if _kinds.inherited(call.operation.kind).idle:
        return True
    known = _kinds.commutation(call)
    gain = known.gain and (positive or known.negative)
    return gain and known.shift and not known.tiles


def kernel_before(
    graph: _graph.Graph, norm: _graph.Call, positive: bool
) -> _graph.Call | None:
    """Returns the kernel whose gain and bias can do what all uses of a batch norm do.

    Arguments:
        graph: Of the model.
        norm: Some use of the batch norm.
        positive: Whether its factors are; only then may a maximum lie between.
    """
    uses = graph.uses(norm.name)
    kernels = [_kernel_before(graph, use, positive) for use in uses]
    first = kernels[0]
    if first is None or any(
        call is None or call.name != first.name for call in kernels
    ):
        return None
    different = len({id(call.first_output) for call in kernels if call}) == len(uses)
    return first if different and len(graph.uses(first.name)) == len(uses) else None


def _kernel_before(
    graph: _graph.Graph, norm: _graph.Call, positive: bool
) -> _graph.Call | None:
    tensor = norm.first_input
    while graph.sole_consumer(tensor) is not None:
        call = graph.producer(tensor)
        if call is None:
            return None
        if has_kernel(call.layer):
            return None if _moments.activation_of(call.layer) else call
        if not lets_through(call, positive):
            return None
        tensor = call.first_input
    return None


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


def flippable(graph: _graph.Graph, sign: _graph.Call) -> list[str] | None:
    """The layers whose kernels can turn the signs of a call around, channel by channel.

    None if something else reads them too, or a kernel does that has other inputs.
    """
    readers = [sign]
    if not has_kernel(sign.layer):
        if graph.is_output(sign.first_output):
            return None
        readers = graph.consumers(sign.first_output)
    names: list[str] = []
    for reader in readers:
        layer = reader.layer
        if _kinds.inherited(type(layer)).idle:
            further = flippable(graph, reader)
            if further is None:
                return None
            names += further
        elif (
            _kinds.traits(type(layer)).quantized is not None
            and kernel_name(layer) == "kernel"
            and getattr(layer, "groups", 1) == 1
            and len(graph.uses(reader.name)) == 1
        ):
            names.append(reader.name)
        else:
            return None
    return names


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
        self._moments: dict[int, _moments.ExpectedMoments] = {}

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
                self._moments[id(tensor)] = _moments.resized(
                    moments, _moments.channels_of(tensor)
                )
        place_biases(self.graph, self.plan)
        return self.plan

    def _of(self, tensor: Any) -> _moments.ExpectedMoments:
        return self._moments.get(id(tensor)) or _moments.unit(
            _moments.channels_of(tensor), given=True
        )

    def _step(
        self, call: _graph.Call, inputs: list[_moments.ExpectedMoments]
    ) -> _moments.ExpectedMoments:
        layer, channels = call.layer, _moments.channels_of(call.first_output)
        sign = self.plan.signs.get(call.name)
        if sign is not None and call is self.graph.uses(call.name)[0]:
            scale = sign.scale * inputs[0].rate
            self.plan.signs[call.name] = sign._replace(scale=scale)
        if _models.is_batch_norm(layer):
            return self._norm(call, inputs[0])
        if has_kernel(layer):
            return _moments.activated(layer, self._kernel(call, inputs[0], channels))
        if _moments.is_sum(call):
            return self._sum(call, inputs)
        if _signs.sign_of_call(call) is not None:
            return _moments.unit(channels)
        return _moments.through(call, inputs, channels)

    def _kernel(
        self, call: _graph.Call, x: _moments.ExpectedMoments, channels: int
    ) -> _moments.ExpectedMoments:
        plan = self.plan.kernels.get(call.name)
        if plan is None:
            return _moments.unit(channels, given=True)
        if not _signs.has_sign_input(call) and call is self.graph.uses(call.name)[0]:
            plan.scale = x.rate
        return _moments.unit(channels)

    def _norm(
        self, call: _graph.Call, x: _moments.ExpectedMoments
    ) -> _moments.ExpectedMoments:
        if call.name not in self.plan.norms:
            self.plan.norms[call.name] = self._plan_norm(call, x)
        kind = self.plan.norms[call.name].kind
        if kind in ("identity", "shift"):
            return x
        return _moments.unit(len(x.mean), given=kind == "affine" and x.given)

    def _plan_norm(self, call: _graph.Call, x: _moments.ExpectedMoments) -> NormPlan:
        gamma, beta = factors(call.layer, len(x.mean))
        kernel = kernel_before(self.graph, call, positive=bool(np.all(gamma >= 0)))
        if kernel is not None and kernel.name in self.plan.kernels:
            plan = self.plan.kernels[kernel.name]
            plan.norm, plan.gain = call.name, gamma
            return NormPlan("kernel", (kernel.name,), beta)
        signs = signs_after(self.graph, call, self.plan.signs, gamma)
        if signs is None:
            return affine_plan(call.layer, gamma, beta, x, self._why(call))
        for sign, kernels in signs:
            rsign = self.plan.signs[sign.name]
            shift = sign_shift(rsign, gamma, beta, x)
            self.plan.signs[sign.name] = rsign._replace(shift=shift)
            for name in kernels:
                self.plan.flips[name] = np.where(gamma < 0, -1.0, 1.0)
        return NormPlan("shift", tuple(sign.name for sign, _ in signs), beta)

    def _why(self, call: _graph.Call) -> str:
        """Why a batch norm is neither the gain of a kernel nor the shift of a sign."""
        if len(self.graph.uses(call.name)) > 1:
            return "it is used more than once"
        readers = self.graph.consumers(call.first_output)
        if self.graph.is_output(call.first_output) or len(readers) > 1:
            return "more than a sign reads it"
        return "no kernel before it and no sign after it can hold it"

    def _sum(
        self, call: _graph.Call, inputs: list[_moments.ExpectedMoments]
    ) -> _moments.ExpectedMoments:
        tensors = call.reads
        place = stream_of(self.graph, call)
        if place is None:
            self.plan.unresolved[call.name] = "no input is the residual shortcut"
            return _moments.total(inputs)
        branches = []
        for n, (tensor, x) in enumerate(zip(tensors, inputs, strict=True)):
            if n != place:
                branches.append(x.times(self._scale_branch(call, tensor)))
        stream = self._average(tensors[place], inputs[place])
        counts = self.rule == "nf" or not is_first_sum(self.graph, tensors[place])
        return _moments.total([stream, *branches]) if counts else stream

    def _scale_branch(self, call: _graph.Call, tensor: Any) -> float:
        plans: dict[str, KernelPlan | NormPlan] = {
            **{n: p for n, p in self.plan.norms.items() if p.kind == "affine"},
            **self.plan.kernels,
        }
        setter = scale_setter(self.graph, tensor, set(plans))
        if setter is None:
            self.plan.unresolved[call.name] = "no layer can scale a branch on its own"
            return 1.0
        plans[setter].alpha = self.alpha
        return self.alpha

    def _average(
        self, tensor: Any, x: _moments.ExpectedMoments
    ) -> _moments.ExpectedMoments:
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
) -> list[tuple[_graph.Call, list[str]]] | None:
    """The signs whose shifts can do what a batch norm does, if nothing else reads it.

    Negative factors turn signs around, and so need kernels that turn them back: with
    each sign, the names of these.
    """
    readers = graph.consumers(norm.first_output)
    if graph.is_output(norm.first_output) or not readers:
        return None
    signs_and_kernels = []
    for use in (norm, *readers):
        if len(graph.uses(use.name)) > 1:
            return None
    for reader in readers:
        kernels = flippable(graph, reader) if np.any(gamma < 0) else []
        if reader.name not in signs or kernels is None:
            return None
        signs_and_kernels.append((reader, kernels))
    return signs_and_kernels


def sign_shift(
    sign: RSignArguments,
    gamma: np.ndarray,
    beta: np.ndarray | None,
    x: _moments.ExpectedMoments,
) -> np.ndarray:
    """Returns the shift, (C,), for which a sign of x is that of the normalized x.

    With the sign's own a and b, a·(γ·(x - m)/√v + β) + b has, up to the sign of γ, the
    sign of x - m + √v·(β + b/a)/γ.
    """
    own = 0.0 if sign.shift is None else sign.shift / sign.scale
    offset = own + (np.zeros_like(gamma) if beta is None else beta)
    tiny = np.where(gamma < 0, -1e-12, 1e-12)
    relative = offset / np.where(np.abs(gamma) < 1e-12, tiny, gamma)
    relative = np.clip(relative, -_FURTHEST, _FURTHEST)
    return sign.scale * x.rate * (np.sqrt(x.variance) * relative - x.mean)


def affine_plan(
    norm: keras.layers.Layer,
    gamma: np.ndarray,
    beta: np.ndarray | None,
    x: _moments.ExpectedMoments,
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
        return NormPlan("identity")
    gain = gamma / np.sqrt(variance + norm.epsilon)
    return NormPlan("affine", gain=gain, bias=beta - mean * gain, reason=reason)


class Term(NamedTuple):
    """How much of a network stands in one term of a sum; the stream has least.

    Arguments:
        kernels: Number of kernels that no other term depends on.
        binary: Whether the last of them has signs as its input.
        window: Positions of that kernel.
    """

    kernels: int
    binary: bool
    window: int


def stream_of(graph: _graph.Graph, call: _graph.Call) -> int | None:
    """The place of the stream among the inputs of a sum, if one is not like the rest.

    That is the input itself or what lies closest to it: after fewer kernels than the
    branches, or as many, but on real-valued inputs, or of a smaller window.
    """
    inputs = call.reads
    above = [_ancestors(graph, tensor) for tensor in inputs]
    terms = []
    for place, tensor in enumerate(inputs):
        others = set().union(*(a for n, a in enumerate(above) if n != place))
        own = [made for key, made in above[place].items() if key not in others]
        terms.append(_term(graph, tensor, [made for made in own if made]))
    least = min(terms)
    if terms.count(least) > 1:
        return None
    return terms.index(least)


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


def _term(graph: _graph.Graph, tensor: Any, own: list[_graph.Call]) -> Term:
    kernels = [call for call in own if has_kernel(call.layer)]
    if not kernels:
        return Term(0, False, 0)
    last = _last_kernel(graph, tensor) or kernels[0]
    return Term(len(kernels), _signs.has_sign_input(last), _window(last))


def _last_kernel(graph: _graph.Graph, tensor: Any) -> _graph.Call | None:
    call = graph.producer(tensor)
    while call and not has_kernel(call.layer):
        before = main_input(call)
        call = None if before is None else graph.producer(before)
    return call


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
    while graph.sole_consumer(tensor) is not None:
        call = graph.producer(tensor)
        if call is None:
            return None
        if call.name in setters:
            return call.name if len(graph.uses(call.name)) == 1 else None
        opaque = (
            has_kernel(call.layer)
            or _signs.sign_of_layer(call.layer)
            or _moments.is_sum(call)
        )
        before = None if opaque or is_bounded(call.layer) else main_input(call)
        if before is None:
            return None
        tensor = before
    return None


def is_first_sum(graph: _graph.Graph, tensor: Any) -> bool:
    """Whether a stream comes from a kernel or the model's input, not from a sum."""
    call = graph.producer(tensor)
    while call and not has_kernel(call.layer):
        before = None if _moments.is_sum(call) else main_input(call)
        if before is None:
            return False
        call = graph.producer(before)
    return True


def place_biases(graph: _graph.Graph, plan: Plan) -> None:
    """Adds every such bias to a learned shift after, or else to the kernel's layer."""
    for name, norm in plan.norms.items():
        if norm.kind != "kernel" or norm.beta is None:
            continue
        kernel = plan.kernels[norm.targets[0]]
        bias = kernel.alpha * norm.beta
        reader = _shift_after(graph, plan, name)
        if reader is None:
            kernel.bias = bias
            continue
        norm.targets += (reader.name,)
        sign = plan.signs.get(reader.name)
        if sign is not None and sign.shift is not None:
            shift = sign.shift + sign.scale * bias
            plan.signs[reader.name] = sign._replace(shift=shift)
        else:
            before = plan.activations.get(reader.name, 0.0)
            plan.activations[reader.name] = before + bias


def _shift_after(graph: _graph.Graph, plan: Plan, name: str) -> _graph.Call | None:
    """Returns the learned shift that alone reads a batch norm, or a sum with it."""
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
        passes = _moments.is_sum(reader) or lets_through(reader, positive=True)
        tensor = reader.first_output if passes else None
    return None
