"""Decides how to replace every kernel, sign and batch norm of a network.

The decisions follow the moments that features should have without batch norm.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from .._keras import keras
from ..graph import _graph, _models, _operation, _signs, _traits
from ..layers._channel_padding import ChannelPadding
from ._batch_norm import float64

_layers = keras.layers


class ExpectedMoments(NamedTuple):
    """Expected moments of a feature map's channels, for gains of 1 and biases of 0.

    Attributes:
        values: The mean and the variance of each channel, (2, C).
        given: Whether the map is still that of the given model, so that the given
            model's statistics of it are valid.
    """

    values: np.ndarray
    given: bool = False

    @property
    def rate(self) -> float:
        """The inverse of the expected standard deviation of all channels together."""
        _, variance = self.values
        return float(np.mean(variance)) ** -0.5 if variance.any() else 1.0

    def times(self, factor: float) -> ExpectedMoments:
        return self._replace(values=self.values * [[factor], [factor**2]])

    def resized(self, channels: int) -> ExpectedMoments:
        """Returns the moments for other channels: repeated, or the mean for all."""
        repeats, rest = divmod(channels, self.values.shape[1])
        if rest:
            mean = self.values.mean(axis=1, keepdims=True)
            return self._replace(values=np.repeat(mean, channels, axis=1))
        # A flattened map has the channels of every position.
        return self._replace(values=np.tile(self.values, repeats))


def unit(given: bool = False) -> ExpectedMoments:
    """Returns the moments after a standardized kernel of independent inputs."""
    return ExpectedMoments(np.array([[0.0], [1.0]]), given)


def channels_of(tensor: Any) -> int:
    """Returns the size of the last axis, or 1 if there is none."""
    return int(tensor.shape[-1] or 1) if tensor.shape.rank else 1


def total(terms: Sequence[ExpectedMoments]) -> ExpectedMoments:
    """Returns the moments of a sum of independent maps; one channel is repeated."""
    values = reduce(np.add, [term.values for term in terms])
    return ExpectedMoments(values, all(term.given for term in terms))


# Practically infinite.
_FAR = 1e9


def _clipped(x: ExpectedMoments, low: float, high: float) -> ExpectedMoments:
    """Returns the moments of normally distributed values after clipping to bounds."""
    low, high = max(low, -_FAR), min(high, _FAR)
    center, variance = x.values
    deviation = np.sqrt(np.maximum(variance, 1e-12))
    ends = [(bound - center) / deviation for bound in (low, high)]
    density = [np.exp(-(end**2) / 2) / math.sqrt(2 * math.pi) for end in ends]
    below, above = (
        np.array([0.5 * math.erfc(side * z / math.sqrt(2)) for z in end])
        for side, end in zip((-1, 1), ends, strict=True)
    )
    inside = 1 - below - above
    first = deviation * (density[0] - density[1])
    second = deviation * ((center + low) * density[0] - (center + high) * density[1])
    mean = low * below + high * above + center * inside + first
    square = center**2 + variance
    power = low**2 * below + high**2 * above + square * inside + second
    return x._replace(values=np.array([mean, np.maximum(power - mean**2, 0.0)]))


def activated(layer: keras.layers.Layer, x: ExpectedMoments) -> ExpectedMoments:
    """Returns the moments after a layer's activation, which leaky ones keep."""
    bounds = _traits.activation_traits(layer).bounds
    return x if bounds is None else _clipped(x, *bounds)


def through(call: _graph.Call, inputs: Sequence[ExpectedMoments]) -> ExpectedMoments:
    """Returns the moments after a layer without kernel, before its activation.

    Unknown layers do not change them.
    """
    layer, channels = call.layer, channels_of(call.first_output)
    sizes = [x.values.shape[1] for x in inputs]
    values = inputs[sizes.index(channels) if channels in sizes else 0].values
    if len(inputs) > 1 and sum(sizes) == channels:
        values = np.hstack([x.values for x in inputs])
    elif isinstance(layer, ChannelPadding):
        values = np.pad(values, [(0, 0), (layer.before, layer.after)])
    return ExpectedMoments(values, all(x.given for x in inputs))


def latent_kernels(layer: keras.layers.Layer) -> list[Any]:
    """Returns the variables of all kernels that a layer multiplies by."""
    kernels = (getattr(layer, name, None) for name in _operation.KERNELS)
    return [_operation.latent(kernel) for kernel in kernels if kernel is not None]


def to_standardize(graph: _graph.Graph, call: _graph.Call) -> str | None:
    """Returns the kernel of a call that the BN-free form standardizes; else None.

    It is the kernel that makes the output.
    """
    layer = call.layer
    known = _traits.inherited(type(layer))
    quantized = _traits.traits(type(layer)).quantized or type(layer)
    fits = issubclass(quantized, known.quantized or ())
    if not known.kernel or not fits or not _traits.is_channels_last(layer):
        return None
    name = known.kernel
    quantizer = getattr(layer, _operation.KERNELS[name], None)
    shape = _operation.latent(getattr(layer, name)).shape
    if shape[:-1].num_elements() == 1:
        return None
    if quantizer is not None:
        return name if _signs.is_binary(quantizer) else None
    readers = [reader for use in graph.uses(call.name) for reader in _ahead(graph, use)]
    if isinstance(layer, _layers.Dense):
        readers = [x for x in readers if _models.is_batch_norm(x.layer)]
    return name if readers else None


def _ahead(graph: _graph.Graph, call: _graph.Call) -> Iterator[_graph.Call]:
    """Yields the first norms, signs and merges that read the output of a call.

    There may be pools and activations between.
    """
    if _traits.activation_traits(call.layer).gate:
        return
    for reader in graph.consumers(call.first_output):
        layer = reader.layer
        merges = _traits.adds_up(reader) or isinstance(layer, _layers.Concatenate)
        is_sign = _signs.sign_of_call(reader) is not None
        if merges or is_sign or _models.is_batch_norm(layer):
            yield reader
        elif not latent_kernels(layer) and len(reader.reads) == 1:
            yield from _ahead(graph, reader)


def main_input(call: _graph.Call) -> Any:
    """Returns the input that sets the scale of a call's output; None if unclear."""
    inputs = call.reads
    if len(inputs) > 1 and isinstance(call.layer, _layers.Multiply):
        # A gate has another shape: one factor for many positions.
        inputs = tuple(x for x in inputs if tuple(x.shape) == tuple(call.outputs.shape))
    return inputs[0] if len(inputs) == 1 else None


def upstream(
    graph: _graph.Graph, tensor: Any, alone: bool = False
) -> Iterator[_graph.Call]:
    """Yields the calls that make a tensor, back to the kernel that sets its scale.

    With `alone`, only back to the first output that has another reader.
    """
    while tensor is not None and (call := graph.producer(tensor)) is not None:
        if alone and graph.sole_consumer(tensor) is None:
            return
        yield call
        tensor = None if latent_kernels(call.layer) else main_input(call)


def kernel_before(graph: _graph.Graph, norm: _graph.Call, positive: bool) -> str | None:
    """Returns the layer whose gain and bias can replace all uses of a batch norm.

    A maximum may be between them only if the factors are `positive`.
    """
    uses = graph.uses(norm.name)
    name, *others = {_kernel_before(graph, use, positive) for use in uses}
    return None if others or len(graph.uses(name)) != len(uses) else name


def _kernel_before(graph: _graph.Graph, norm: _graph.Call, positive: bool) -> str:
    for call in upstream(graph, norm.first_input, alone=True):
        if latent_kernels(call.layer):
            activation = call.operation.argument("activation")
            return call.name if activation in (None, keras.activations.linear) else ""
        passes = _traits.passes(call)
        idle = _traits.inherited(call.operation.kind).idle
        if not (idle or passes == "all" or (positive and passes == "positive")):
            break
    return ""


class Kernel(NamedTuple):
    """A standardized kernel.

    Attributes:
        name: The name of the kernel within its layer.
        scale: The inverse of the input's expected standard deviation; 1 after a sign.
        norm: The batch norm whose factors become the gain.
        gain: (C,), or None to start at 1.
        bias: (C,), which replaces the layer's own if there is a norm; None for none.
    """

    name: str
    scale: float
    norm: str = ""
    gain: np.ndarray | None = None
    bias: np.ndarray | None = None


# The largest shift of a sign in standard deviations of its input. Further out, a sign
# is nearly constant, and no gradient would reach its shift.
_FURTHEST = 3.0
_UNSCALED = "kept, its branches without alpha"


def sign_shift(
    sign: _signs.RSignArguments, gamma: np.ndarray, beta: np.ndarray, x: ExpectedMoments
) -> np.ndarray:
    """Returns the shift, (C,), for which a sign of x is that of the normalized x.

    With the sign's own a and b, a·(γ·(x - m)/√v + β) + b has the sign of
    x - m + √v·(β + b/a)/γ.
    """
    mean, variance = x.values
    own = 0.0 if sign.shift is None else sign.shift / sign.scale
    relative = (own + beta) / np.maximum(gamma, 1e-12)
    relative = np.clip(relative, -_FURTHEST, _FURTHEST)
    return sign.scale * x.rate * (np.sqrt(variance) * relative - mean)


class Plan:
    """Decides how to replace every kernel, sign and batch norm of a network.

    The decisions follow the moments that features should have without batch norm, from
    the inputs to the outputs of the graph.

    Arguments:
        graph: The graph of a functional model.
        alpha: Factor on the residual branches.
        rule: `"nf"` or `"vita"`.

    Attributes:
        kernels, signs: The kernels and signs that change, by layer name; for a sign,
            the arguments of the `RSign` that replaces it.
        affine: The weights of affine layers that replace batch norms, by layer name.
        pools: Factors before pools, by layer name.
        scaled: The names of layers that multiply a branch by alpha.
        outcomes: Action and reason, as in `Change`, of batch norms, pools and sums.
    """

    def __init__(self, graph: _graph.Graph, alpha: float, rule: str):
        self.graph, self.alpha, self.rule = graph, alpha, rule
        signs = (
            (call.name, _signs.as_rsign(_signs.sign_of_call(call)))
            for call in graph.calls
            if not _signs.drops_mask(call)
        )
        self.signs = {name: sign for name, sign in signs if sign is not None}
        self.kernels: dict[str, Kernel] = {}
        self.affine: dict[str, dict[str, np.ndarray]] = {}
        self.pools: dict[str, float] = {}
        self.scaled: set[str] = set()
        self.outcomes: dict[str, tuple[str, str]] = {}
        moments: dict[int, ExpectedMoments] = {}
        # The calls with a kernel that a tensor depends on, the last one first.
        self._above: dict[int, dict[str, _graph.Call]] = {}
        for tensor in graph.model.inputs:
            moments[id(tensor)] = unit(given=True).resized(channels_of(tensor))
            self._above[id(tensor)] = {}
        for call in graph.calls:
            made = self._moments(call, [moments[id(tensor)] for tensor in call.reads])
            above = {call.label: call} if latent_kernels(call.layer) else {}
            for tensor in reversed(call.reads):
                above = {**above, **self._above[id(tensor)]}
            for tensor in tf.nest.flatten(call.outputs):
                wide = made.resized(channels_of(tensor))
                moments[id(tensor)] = activated(call.layer, wide)
                self._above[id(tensor)] = above

    def alpha_of(self, call: _graph.Call) -> float:
        """Returns the factor by which a layer multiplies the branch that it ends."""
        return self.alpha if call.name in self.scaled else 1.0

    def _moments(
        self, call: _graph.Call, inputs: list[ExpectedMoments]
    ) -> ExpectedMoments:
        """Decides on a layer, and returns the moments before its activation."""
        name, layer = call.name, call.layer
        is_first = call is self.graph.uses(name)[0]
        if is_first and name in self.signs:
            sign = self.signs[name]
            self.signs[name] = sign._replace(scale=sign.scale * inputs[0].rate)
        if _models.is_batch_norm(layer):
            return self._after_norm(call, inputs[0])
        if latent_kernels(layer):
            kernel = to_standardize(self.graph, call)
            if kernel is not None and is_first:
                rate = 1.0 if _signs.has_sign_input(call) else inputs[0].rate
                self.kernels[name] = Kernel(kernel, rate)
            return unit(given=kernel is None)
        if _traits.adds_up(call):
            return self._after_sum(call, inputs)
        if _signs.sign_of_call(call) is not None:
            return unit()
        return through(call, inputs)

    # --- batch norms

    def _after_norm(self, call: _graph.Call, x: ExpectedMoments) -> ExpectedMoments:
        if call.name not in self.outcomes:
            self.outcomes[call.name] = self._replace_norm(call, x)
        affine = call.name in self.affine
        if affine or any(kernel.norm == call.name for kernel in self.kernels.values()):
            return unit(affine and x.given)
        return x

    def _replace_norm(self, call: _graph.Call, x: ExpectedMoments) -> tuple[str, str]:
        norm = call.layer
        ones = np.ones(x.values.shape[1])
        gamma = ones if norm.gamma is None else float64(norm.gamma)
        beta = None if norm.beta is None else float64(norm.beta)
        kernel = kernel_before(self.graph, call, bool(np.all(gamma >= 0)))
        if kernel in self.kernels:
            own = self.kernels[kernel]
            self.kernels[kernel] = own._replace(norm=call.name, gain=gamma, bias=beta)
            what = "gain" if beta is None else "gain and bias"
            return f"removed; {what} to {kernel!r}", ""
        beta = 0 * ones if beta is None else beta
        reason = self._why_no_shift(call, gamma)
        if not reason:
            names = [reader.name for reader in self.graph.consumers(call.first_output)]
            for name in names:
                shift = sign_shift(self.signs[name], gamma, beta, x)
                self.signs[name] = self.signs[name]._replace(shift=shift)
            return f"removed; shift of {', '.join(map(repr, names))}", ""
        # If the given model had this input, its moving statistics are still valid.
        mean, variance = x.values
        if x.given:
            mean, variance = float64(norm.moving_mean), float64(norm.moving_variance)
        # After a rewritten layer, the next kernel or sign accounts for the scale.
        scaled = x.given and np.any(variance != 1)
        if np.all(gamma == 1) and not np.any(beta) and not np.any(mean) and not scaled:
            return "removed; it changed nothing but the scale", ""
        gain = gamma / np.sqrt(variance + norm.epsilon)
        self.affine[call.name] = {"gamma": gain, "beta": beta - mean * gain}
        return "channel_affine", reason

    def _why_no_shift(self, norm: _graph.Call, gamma: np.ndarray) -> str:
        """Returns why signs after a batch norm cannot replace it; '' if they can."""
        readers = self.graph.consumers(norm.first_output)
        is_output = self.graph.is_output(norm.first_output)
        if len(self.graph.uses(norm.name)) > 1:
            return "it is used more than once"
        if not is_output and all(reader.name in self.signs for reader in readers):
            if np.any(gamma < 0):  # they would negate signs
                return "some of its factors are negative"
            if all(len(self.graph.uses(reader.name)) == 1 for reader in readers):
                return ""
        if is_output or len(readers) > 1:
            return "more than a sign reads it"
        return "no kernel before it and no sign after it can hold it"

    # --- sums

    def _after_sum(
        self, call: _graph.Call, inputs: list[ExpectedMoments]
    ) -> ExpectedMoments:
        place = self._place_of_stream(call)
        if place is None:
            self.outcomes[call.name] = _UNSCALED, "no input is the residual shortcut"
            return total(inputs)
        terms = list(zip(call.reads, inputs, strict=True))
        tensor, x = terms.pop(place)
        branches = [y.times(self._scale_branch(call, edge)) for edge, y in terms]
        stream = self._average(tensor, x)
        *_, last = None, *upstream(self.graph, tensor)
        is_first = last is None or main_input(last) is not None
        if self.rule == "vita" and is_first:
            return stream
        return total([stream, *branches])

    def _place_of_stream(self, call: _graph.Call) -> int | None:
        """Returns the place of the stream among a sum's inputs, if one stands out.

        The stream has passed the fewest kernels since the block starts; of as many, its
        last one has real-valued inputs, or the smallest window.
        """
        above = [self._above[id(tensor)] for tensor in call.reads]
        counts = Counter(label for kernels in above for label in kernels)
        terms = []
        for tensor, kernels in zip(call.reads, above, strict=True):
            own = [made for label, made in kernels.items() if counts[label] == 1]
            if not own:
                terms.append((0, False, 0))
                continue
            ahead = (c for c in upstream(self.graph, tensor) if latent_kernels(c.layer))
            last = next(ahead, own[0])
            shapes = [kernel.shape[:-2] for kernel in latent_kernels(last.layer)]
            window = max(shape.num_elements() or 1 for shape in shapes)
            terms.append((len(own), _signs.has_sign_input(last), window))
        least = min(terms)
        return terms.index(least) if terms.count(least) == 1 else None

    def _scale_branch(self, total: _graph.Call, tensor: Any) -> float:
        """Lets a layer multiply a branch of a sum by alpha, and returns the factor."""
        for call in upstream(self.graph, tensor, alone=True):
            if call.name in self.affine or call.name in self.kernels:
                if len(self.graph.uses(call.name)) > 1:
                    break
                self.scaled.add(call.name)
                return self.alpha
            gate = _traits.activation_traits(call.layer).gate
            if gate or _signs.sign_of_layer(call.layer):
                break
        self.outcomes[total.name] = _UNSCALED, "no layer can scale a branch on its own"
        return 1.0

    def _average(self, tensor: Any, x: ExpectedMoments) -> ExpectedMoments:
        """Resets the variance to 1 at a shortcut's average pool before a new stage."""
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
        self.pools[call.name] = x.rate
        self.outcomes[call.name] = f"reads {x.rate:.4g} of its input", ""
        return x.times(x.rate)
