"""Reads the values of a converted file at the signs of the model.

LCE's interpreter shows outputs only. So in a copy of the file, whose operations are the
same, the bits that binary convolutions read are declared outputs, and so are the
pre-activations of these bits. The kernel tells which convolution is which. Signs that
the file does not pack are shown by a second file of the same operations.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any

import numpy as np
import tensorflow as tf

from .._errors import VerificationError
from ..lite import _converter
from ..lite._described import with_note
from ..lite._file import FileOperation, Subgraph, Tensor, edited
from ..operations import Stages
from ..operations._binary import sign_before
from ..operations._kinds import Affine, Kernel, Node, Sign, Value
from ..operations._program import Program
from ..trace._operation_names import layer_name
from ..trace._signs import TracedSign
from . import _segments
from ._segments import Recording

LOOK = (
    "Look for a layer whose output depends on more than its input, such as on a random "
    "number or on a state: build recurrent layers with unroll=True."
)


def file_signs(
    stages: Stages,
    signs: Sequence[TracedSign],
    content: bytes,
    graph: Subgraph,
    runner: _converter.Runner,
) -> tuple[list[TracedSign], Callable[[Sequence[np.ndarray]], Recording]]:
    """Returns the signs that a file of `stages` has, and a function to record them."""
    program = stages.spelled
    found = stages.signs_in(program, signs)
    sources = dict.fromkeys(x for _, value in found for x in program.sources(value))
    packed = _packed(stages, graph.operations)
    bits = {value: packed[value] for value in sources if value in packed}
    numbers = {x: made for x, y in bits.items() if (made := _quantized(graph, y))}
    ends = [tensor.index for tensor in graph.outputs]
    inner = (x.index for x in (*bits.values(), *numbers.values()))
    shown = [*ends, *dict.fromkeys(x for x in inner if x not in ends)]
    visible = runner
    if shown != ends:

        def show(model: Any) -> None:
            model.subgraphs[0].outputs = shown

        visible = _converter.Runner(edited(content, show), runner.runtime)
    rest = [value for value in sources if value not in bits]
    probe = _probe(stages, rest, runner.runtime) if rest else None

    def recorded(examples: Sequence[np.ndarray]) -> Recording:
        arrays = proper = runner.outputs(examples)
        if visible is not runner:
            arrays = visible.outputs(examples)
            _check_same(arrays[: len(ends)], proper)
        made = dict(zip(shown, arrays, strict=True))
        known = {x: _signs(x, made[tensor.index]) for x, tensor in bits.items()}
        if probe is not None:
            joined, *more = probe(examples)
            rows = [y.reshape(len(y), -1) for y in proper]
            _check_same([joined], [np.concatenate(rows, axis=1)])
            known |= {x: _shaped(x, y) for x, y in zip(rest, more, strict=True)}
        taken = {x: _shaped(x, made[tensor.index]) for x, tensor in numbers.items()}
        return Recording(
            proper,
            [program.decoded(value, known) for _, value in found],
            {
                i: program.decoded(value, taken)
                for i, (_, value) in enumerate(found)
                if all(x in taken for x in program.sources(value))
            },
        )

    return [sign for sign, _ in found], recorded


def _check_same(shown: Sequence[np.ndarray], proper: Sequence[np.ndarray]) -> None:
    """Checks that a file with visible signs has the outputs of the file itself."""
    for visible, output in zip(shown, proper, strict=True):
        if not np.allclose(visible, output, rtol=1e-5, atol=1e-6, equal_nan=True):
            raise VerificationError(
                "The converted file and the same file with its signs made visible "
                "compute different outputs, so the sign that differs from the model is "
                f"unknown. {LOOK} No file was written."
            )


def _packed(stages: Stages, operations: Sequence[FileOperation]) -> dict[Value, Tensor]:
    """Returns the tensors of a file that contain the bits of signs.

    Kernels that are equal or opposite are ambiguous, so their signs are left out.
    """
    ops = dict[Any, FileOperation]()
    for op in operations:
        if op.op == "LceBconv2d":
            ops.setdefault(kernel_key(kernel_of(op)), op)
    packed = {}
    for key, kernels in _binary_kernels(stages.spelled).items():
        before = (sign_before(stages.spelled, node.x) for node, _ in kernels)
        sign, *others = dict.fromkeys(before)
        if sign is None or others or key not in ops:
            continue
        first = ops[key].input(0)
        *positions, words = first.shape
        *wanted, channels = [n or 0 for n in sign.y.shape or ()]
        alike = prod(positions) == prod(wanted) and words == -(-channels // 32)
        # The examples of a dense layer are the positions of a 1x1 convolution.
        if alike and first.shape[0] % stages.io.batch_size == 0:
            packed[sign.y] = first
    return packed


def _quantized(graph: Subgraph, bits: Tensor) -> Tensor | None:
    """Returns the pre-activations of bits, if an operation makes them; else None."""
    maker = graph.producer(bits)
    source = maker.input(0) if maker and maker.op == "LceQuantize" else None
    return None if not source or source.constant or source in graph.inputs else source


def _shaped(value: Value, array: np.ndarray) -> np.ndarray:
    return array.reshape(-1, *(value.shape or ())[1:])


def _signs(value: Value, words: np.ndarray) -> np.ndarray:
    """Returns the signs, ±1, that bits stand for."""
    return _shaped(value, np.where(_unpacked(words, value.channels or 0), 1, -1))


def _unpacked(words: np.ndarray, channels: int) -> np.ndarray:
    """Returns where packed bits stand for +1."""
    data = np.ascontiguousarray(words).astype("<i4").view(np.uint8)
    return np.unpackbits(data, axis=-1, bitorder="little")[..., :channels] == 0


def _probe(
    stages: Stages, values: Sequence[Value], runtime: str
) -> Callable[[Sequence[np.ndarray]], list[np.ndarray]]:
    """Returns a function that computes a file's outputs in one array, and signs.

    They come from a second file, which also outputs the signs. An output taken after
    a sign does not change how LCE fuses and packs, nor where LiteRT's signs saturate.
    """
    io, function = stages.io, stages.function(values)

    def in_rows(inputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        numbers = (tf.cast(x, tf.float32) for x in function(inputs))
        return [tf.concat([tf.reshape(x, (io.batch_size, -1)) for x in numbers], 1)]

    spec = _converter.IoSpec(io.inputs, ["output"])
    content = _converter.to_flatbuffer(in_rows, spec, runtime=runtime)
    if stages.steps is not None:
        content = with_note(content, stages.steps)
    probe = _converter.Runner(content, runtime)
    # Counted from the end, since the outputs come first.
    sizes = [prod(x.sizes) // io.batch_size for x in values]
    starts = np.cumsum([-size for size in sizes[::-1]])[::-1]
    return lambda examples: np.split(probe.outputs(examples)[0], starts, axis=1)


# --- thresholds: examples do not test a threshold that none of them comes near, so
# each is compared as a number, with what the program computes for every possible sum


def differing_threshold(program: Program, graph: Subgraph) -> str:
    """Says which threshold of a file differs from its program's; '' if none does.

    Kernels tell its layer. The converter negates channels of negative scale.
    """
    convolutions = _binary_kernels(program)
    for op in graph.operations:
        if op.op != "LceBconv2d" or not op.writes_bits:
            continue
        bits = kernel_of(op)
        differences = [
            # Channels are opposite where their first weights are.
            _difference(op, bits[:, 0, 0, 0] != kernel[:, 0, 0, 0], node, *sign)
            for node, kernel in convolutions.get(kernel_key(bits), ())
            for sign in signs_after(program, node, sums_of(node))
        ]
        if differences and all(differences):
            return differences[0]
    return ""


def _binary_kernels(program: Program) -> dict[Any, list[tuple[Kernel, np.ndarray]]]:
    """Returns the kernels of a program by key, with where they are -1."""
    kernels = defaultdict(list)
    for node in program.nodes:
        if isinstance(node, Kernel) and node.binary and node.of == "Conv2D":
            kernel = np.moveaxis(node.weights < 0, -1, 0)
            kernels[kernel_key(kernel)].append((node, kernel))
    return kernels


def kernel_key(kernel: np.ndarray) -> tuple[tuple[int, ...], bytes]:
    """Returns a key that is equal for kernels of equal or opposite channels."""
    alike = kernel != kernel[:, :1, :1, :1]
    return kernel.shape, np.packbits(alike).tobytes()


def kernel_of(op: FileOperation) -> np.ndarray:
    """Returns where a kernel of a file is -1, (C, height, width, channels in)."""
    return ~_unpacked(op.input(1).values, op.options["channels_in"])


def sums_of(kernel: Kernel) -> np.ndarray:
    """Returns every possible sum of a kernel, by the number of differing bits."""
    count = np.prod(kernel.weights.shape[:-1])
    return np.arange(count, -count - 1, -2, dtype=np.float32)[:, None]


def signs_after(
    program: Program, node: Node, x: np.ndarray
) -> Iterator[tuple[Sign, np.ndarray]]:
    """Yields the signs after a node with input x, and their pre-activations."""
    if isinstance(node, Sign):
        yield node, x + np.float32(node.shift)
        return
    if isinstance(node, Kernel) and node.binary:
        x = x * np.float32(node.scale) + np.float32(node.bias)
    elif isinstance(node, Affine):
        x = x * np.float32(node.k) + np.float32(node.b)
    elif node.type == "Relu":
        x = np.maximum(x, 0)
    elif node.type != "MaxPool" and not node.keeps_channels:
        return
    for reader in program.readers(node.y):
        yield from signs_after(program, reader, x)


def _difference(
    op: FileOperation,
    opposite: np.ndarray,
    node: Kernel,
    sign: Sign,
    numbers: np.ndarray,
) -> str:
    """Says which channel's threshold differs; '' if none does."""
    differing, thresholds = np.arange(len(numbers))[:, None], op.input(-1).values
    counts = np.where(opposite, differing[::-1], differing)
    wrong = (numbers < 0) != (counts > thresholds)
    near = np.abs(numbers) <= _segments.MARGIN * np.abs(numbers).max(axis=0)
    wrong &= ~near | (numbers == 0)
    if not wrong.any():
        return ""
    channel = int(np.flatnonzero(wrong.any(axis=0))[0])
    first = np.flatnonzero(wrong[:, channel])[0]
    before, after = layer_name(node.name), layer_name(sign.name)
    return (
        f"the threshold between layer {before!r} and the sign of {after!r} is "
        f"{thresholds[channel]} of {len(numbers) - 1} bits in channel {channel}, "
        f"which turns the sign of a sum of {sums_of(node)[first, 0]:g}"
    )
