"""Returns the binary layers of a model as bits, for your own kernels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .._keras import keras
from ..graph._thresholds import threshold_of_affine
from ._binary_layers import check_float
from ._errors import ConversionError, conversion_errors
from ._prepared import few_examples, lowered_model, opened_model
from .operations import Stages
from .operations._binary import same_sides, with_binary
from .operations._emit import form_of
from .operations._kinds import (
    Affine,
    Constant,
    InvalidProgram,
    Kernel,
    Node,
    Pad,
    Part,
    Sign,
    Value,
)
from .operations._lower import with_signs
from .operations._program import Program, binary_kernels
from .operations._rules import RULES, scale_after_relu
from .trace._inference import LayerCall
from .trace._operation_names import layer_name
from .trace._signs import sign_taken_by
from .trace._trace import TracedKernel
from .verify._lowered import verify_operations

# A layer is pads and signs, a binary kernel with scale and offset, and an activation.
_GIVEN = "given"
_KINDS = {Pad: "p", Sign: "s", Part: "c", Affine: "a"}
_CHAIN = re.compile("p?sc?a?")
_RULES = tuple(rule for rule in RULES if rule is not scale_after_relu)


@dataclass(frozen=True)
class PackedKernel:
    """A binary layer: `activation(scales * (sign(x - thresholds) * w) + offsets)`.

    This is what Keras computes from the layer's input x, including the layer's own
    quantizers, bias and activation, but nothing before or after the layer. A sum is
    `n - 2 * popcount(x XOR w)` over the `n` weights that meet an input.

    Attributes:
        name: The name of the layer; in groups, that of the group, such as 'conv/1'.
        bits: The kernel, uint8, (output channels, height, width, bytes). Input channel
            `8 * j + i` is bit `i` of byte `j`, with `i = 0` the lowest: 1 for +1 and 0
            for -1. Bits beyond the last input channel are 0.
        channels: The number of input channels.
        thresholds: Float32, (input channels,): an input is +1 if it is at least its
            threshold, else -1. None if the input is ±1 already.
        scales: Float32, (output channels,).
        offsets: Float32, (output channels,).
        activation: The name of Keras' activation at the end; 'linear' for none, or for
            a sign, which belongs to the next layer.
        strides, dilation_rate: Two numbers each.
        padding: 'same' or 'valid'.
        pad_values: The number around the ±1 inputs under 'same': 1, -1 or 0. An input
            of 0 adds nothing to a sum.
    """

    name: str
    bits: np.ndarray
    channels: int
    thresholds: np.ndarray | None
    scales: np.ndarray
    offsets: np.ndarray
    activation: str
    strides: tuple[int, int]
    dilation_rate: tuple[int, int]
    padding: str
    pad_values: float

    def unpacked(self) -> np.ndarray:
        """Returns the ±1 kernel, (height, width, input channels, output channels)."""
        ones = np.unpackbits(self.bits, axis=3, count=self.channels, bitorder="little")
        return ones.transpose(1, 2, 3, 0) * np.float32(2) - 1


@conversion_errors()
def packed_kernels(model: keras.Model) -> list[PackedKernel]:
    """Returns the binary layers of a model as bits, thresholds and scales.

    Dense and 1D binary layers are convolutions, as in a file. A batch norm beside a
    layer is not included: `fold_batch_norm` turns it into thresholds and scales.

    Arguments:
        model: A model as for `prepared`.

    Returns:
        A list with one for each name in `binary_layers(model)`, in their order.

    Raises:
        ConversionError: If the model cannot be converted, if a binary layer of it stays
            in float or computes more than a `PackedKernel`, or if it has none.
        VerificationError: If the prepared model computes something else than the model.

    Example:
        ```python
        import larq_nobn as nobn

        model = nobn.models.ReActNet18((32, 32, 3), 10, width=16)
        first = nobn.deploy.packed_kernels(model)[0]
        first.bits.shape  # (16, 3, 3, 2): 16 bits take two bytes
        ```
    """
    whole, given, _ = opened_model(model, None)
    stages, examples = lowered_model(whole, given), few_examples(given)
    check_float(stages, "lce", False, lambda: examples)
    verify_operations(whole, stages, examples, ending="")
    packed, uses = list[PackedKernel](), {x.op.name: x for x in stages.traced.kernels}
    for name in dict.fromkeys(stages.binary):
        call = stages.traced.owners.get(name) or _of_function(uses[name])
        packed += _Layer(layer_name(name), call.layer).kernels(stages, call, examples)
    return packed


def _of_function(use: TracedKernel) -> LayerCall:
    """Returns a kernel of a function, which has no layers, from sign to sums."""
    sign = sign_taken_by(use.source)
    inputs = [*sign.of] if sign and sign.of else [use.read]
    return LayerCall(None, inputs, [*use.op.outputs], [])


class _Layer(NamedTuple):
    """A layer, one use of which is read on its own, from its input to its output."""

    name: str
    layer: keras.layers.Layer

    def kernels(
        self, stages: Stages, call: LayerCall, examples: Sequence[np.ndarray]
    ) -> list[PackedKernel]:
        """Returns the kernels of one use: one, or one for each group."""
        if getattr(self.layer, "padding", "") == "causal":
            raise ConversionError(
                f"Layer {self.name!r} has padding='causal', which a PackedKernel does "
                "not contain. Use padding='valid' after a ZeroPadding1D."
            )
        if len(call.inputs) != 1 or len(call.outputs) != 1:
            raise self._more()
        x, y = (stages.lowered.value(ends[0]) for ends in (call.inputs, call.outputs))
        own = Program([x], (n for n in stages.lowered.nodes if x not in n.makes), [y])
        program = with_binary(with_signs(own)[0], _RULES)
        if not binary_kernels(program):  # another layer makes its signs
            inputs = dict(zip(stages.traced.inputs, examples, strict=True))
            levels = np.unique(stages.traced.form.run(inputs, call.inputs)[0])
            program = with_binary(with_signs(self._with_sign(own, levels))[0], _RULES)
        kernels = binary_kernels(program)
        joins = program.readers(kernels[0].y)[:1] if len(kernels) > 1 else []
        if any(list(x.reads) != [node.y for node in kernels] for x in joins):
            raise self._more()
        chains = [self._before(program, node) for node in kernels]
        known = {*kernels, *joins, *(node for chain in chains for node in chain)}
        after = [node for node in program.nodes if node not in known]
        name = self._activation((joins or kernels)[0].y, after, program.outputs)
        return [
            self._packed(node, chain, f"/{place}" * bool(joins), name)
            for place, (node, chain) in enumerate(zip(kernels, chains, strict=True), 1)
        ]

    def _with_sign(self, own: Program, levels: np.ndarray) -> Program:
        """Puts a sign before a layer without one, for the two numbers that it takes.

        If it takes only one number, the other is the opposite.
        """
        low, *_, high = sorted([*levels, *(-levels if levels.size == 1 else ())])
        if levels.size > 2 or low == high:
            raise ConversionError(
                f"Layer {self.name!r} takes other numbers beside those of a sign, such "
                "as padding by zeros, which a PackedKernel does not contain. Give "
                "the layer itself padding='same', pad_values or an input_quantizer."
            )
        half, middle, (x,) = (high - low) / 2, (high + low) / 2, own.inputs
        bits, real = x.like(), x.like()
        made = [
            Sign(_GIVEN, (x,), (bits,), -middle),
            Affine(_GIVEN, (bits,), (real,), half, middle),
        ]
        nodes = [node.reading(x, real) for node in own.nodes]
        return Program([x], [*made, *nodes], own.outputs)

    def _before(self, program: Program, kernel: Kernel) -> list[Node]:
        """Returns the nodes between the input and a kernel, the last one first."""
        chain, maker = list[Node](), program.maker(kernel.x)
        while maker is not None:
            chain.append(maker)
            maker = program.maker(maker.x)
        kinds = "".join(_KINDS.get(type(x), "?") for x in chain if not x.is_reshape)
        if not _CHAIN.fullmatch(kinds):
            raise self._more()
        return chain

    def _activation(
        self, value: Value, after: Sequence[Node], ends: Sequence[Value]
    ) -> str:
        """Returns the name of the activation that some nodes compute."""
        if all(isinstance(node, Constant) or node.is_reshape for node in after):
            return "linear"
        name = getattr(getattr(self.layer, "activation", None), "__name__", "")
        try:
            form = form_of(Program([value], after, ends))
            wanted = keras.activations.get(name)
        except (InvalidProgram, ValueError):  # it reads other values, or has no name
            raise self._more() from None
        sizes = value.sizes
        numbers = np.linspace(-8, 8, int(np.prod(sizes))).reshape(sizes)
        numbers = numbers.astype(np.float32)
        (made,) = form.outputs_of([numbers])
        pair = np.ravel(made), np.ravel(wanted(numbers))
        if not np.allclose(*pair, 1e-4, 1e-5):
            raise self._more()
        return name

    def _packed(
        self, node: Kernel, chain: Sequence[Node], group: str, activation: str
    ) -> PackedKernel:
        pads = [x for x in chain if isinstance(x, Pad)]
        if any(x.sides != same_sides(node, x.x) for x in pads):
            raise self._more()
        (first,) = (x for x in chain if isinstance(x, Sign))
        sides = (x for x in chain if isinstance(x, Affine))
        k, b = next(((side.k, side.b) for side in sides), (1.0, 0.0))
        at = threshold_of_affine(k, b + first.shift)
        kernel, value = node.weights, pads[0].value if pads else 0.0
        channels = kernel.shape[2]
        turned = np.broadcast_to(at.negated, channels)
        if value and turned.any() != turned.all():
            raise self._more()
        signs = (kernel > 0) ^ turned[:, None]
        return PackedKernel(
            name=f"{self.name}{group}",
            bits=np.packbits(signs.transpose(3, 0, 1, 2), axis=3, bitorder="little"),
            channels=channels,
            thresholds=None
            if first.name == _GIVEN and not np.any(at.value)
            else np.tile(at.edge(), channels // at.value.size),
            scales=node.scale.astype(np.float32),
            offsets=node.bias.astype(np.float32),
            activation=activation,
            strides=(node.strides[1], node.strides[2]),
            dilation_rate=(node.dilations[1], node.dilations[2]),
            padding="same" if pads else node.padding.lower(),
            pad_values=-value if turned.any() else value,
        )

    def _more(self) -> ConversionError:
        return ConversionError(
            f"Layer {self.name!r} ({type(self.layer).__name__}) computes more than a "
            "PackedKernel contains: a sign, one kernel of ±1, padded as 'same' or "
            "'valid', a scale and an offset per channel, and an activation of Keras "
            "by its name. Put the rest into a layer of its own."
        )
