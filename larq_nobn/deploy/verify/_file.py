"""Reads the values of a converted file at the signs of the model.

LCE's interpreter shows outputs only. So the tensors that contain them are declared
outputs of the very same operations: the bits that a binary convolution reads, and the
numbers of which these were taken. Which convolution is which, the bits of its kernel
tell. What a file does not pack, a second one of the same operations shows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
import tensorflow as tf

from .._errors import VerificationError
from ..lite import _converter
from ..lite._file import FileOperation, Subgraph, Tensor, read
from ..lite._trace import TracedSign
from ..operations import LoweredTrace
from ..operations._binary import sign_before
from ..operations._program import Node
from ._compare import Recording
from ._thresholds import kernel_key, kernel_of

LOOK = (
    "Look for a layer whose output depends on more than its input, such as on a state "
    "or a random number."
)


class FileSigns:
    """Reads a file that was written from `lowered`, at those `signs` that it has."""

    def __init__(
        self,
        lowered: LoweredTrace,
        signs: Sequence[TracedSign],
        content: bytes,
        runner: _converter.Runner,
    ) -> None:
        self._shipped = runner
        self._suspects = rounding_to_bytes(content) or LOOK
        graph = read(content, "the file")[0]
        shown = [tensor.index for tensor in graph.outputs]
        self._count = len(shown)

        def place_of(tensor: Tensor) -> int:
            if tensor.index not in shown:
                shown.append(tensor.index)
            return shown.index(tensor.index)

        self.signs, self._rest = list[TracedSign](), list[int]()
        self._bits: dict[int, tuple[int, int, Any]] = {}
        self._numbers: dict[int, int] = {}
        packed = _packed(lowered, signs, graph.operations)
        for sign in signs:
            maker, number = lowered.maker(sign.value), len(self.signs)
            op = None if maker is None else packed.get(id(maker))
            if op is not None and maker is not None:
                bits = op.input(0)
                opposite = maker.arguments.get("opposite", False)
                self._bits[number] = place_of(bits), maker.y.channels or 0, opposite
                given = _quantized(graph, bits)
                if given is not None and not np.any(opposite):
                    self._numbers[number] = place_of(given)
            elif maker is not None and lowered.value(sign.value) in maker.makes:
                self._rest.append(number)
            else:
                continue
            self.signs.append(sign)
        added = shown[self._count :]
        self._runner = runner
        if added:
            whole = _converter.with_outputs(content, added)
            self._runner = _converter.Runner(whole, runner.runtime)
        values = [self.signs[i].value for i in self._rest]
        self._probe = _probe(lowered, values, runner.runtime) if values else None

    def __call__(self, examples: Sequence[np.ndarray]) -> Recording:
        """Returns what the file computes."""
        arrays = proper = self._shipped.outputs(examples)
        if self._runner is not self._shipped:
            arrays = self._runner.outputs(examples)
            self._check(arrays[: self._count], proper)
        values: dict[int, np.ndarray] = {}
        for number, (place, channels, opposite) in self._bits.items():
            shape = self.signs[number].value.shape[1:]
            positive = _unpacked(arrays[place], channels) != opposite
            values[number] = np.where(positive, 1, -1).reshape(-1, *shape)
        if self._probe is not None:
            ends, *made = self._probe(examples)
            rows = [y.reshape(len(y), -1) for y in proper]
            self._check([ends], [np.concatenate(rows, axis=1)])
            values.update(zip(self._rest, made, strict=True))
        numbers = {i: arrays[place] for i, place in self._numbers.items()}
        return Recording(proper, [values[i] for i in range(len(values))], numbers)

    def _check(self, parts: Sequence[np.ndarray], proper: Sequence[np.ndarray]) -> None:
        """Checks that a file with its signs made visible has the outputs of it."""
        for part, output in zip(parts, proper, strict=True):
            if not np.allclose(part, output, rtol=1e-5, atol=1e-6, equal_nan=True):
                raise VerificationError(
                    "The converted file and the same file with its signs made visible "
                    "compute different outputs, so the sign that differs from the "
                    f"model is unknown. {self._suspects} No file was written."
                )


def _packed(
    lowered: LoweredTrace,
    signs: Sequence[TracedSign],
    operations: Sequence[FileOperation],
) -> dict[int, FileOperation]:
    """The binary convolutions of a file that read the bits of signs, by their ids.

    Of kernels that are equal or opposite, nothing says which is whose.
    """
    nodes: dict[Any, dict[int, Node | None]] = defaultdict(dict)
    ops: dict[Any, list[FileOperation]] = defaultdict(list)
    for node in lowered.program.nodes:
        if node.kind == "kernel" and node["binary"] and node["of"] == "Conv2D":
            sign = sign_before(lowered.program, node.x)
            key = kernel_key(np.moveaxis(node["kernel"] < 0, -1, 0))
            nodes[key][id(sign)] = sign
    for op in operations:
        if op.op == "LceBconv2d":
            ops[kernel_key(kernel_of(op))].append(op)
    packed = {}
    for key, of_kernel in nodes.items():
        sign, *others = of_kernel.values()
        if sign is None or others or not ops[key]:
            continue
        first = ops[key][0]
        size, *positions, words = first.input(0).shape
        _, *wanted, channels = [n or 0 for n in sign.y.shape or ()]
        alike = prod(positions) == prod(wanted) and words == -(-channels // 32)
        # Of a dense layer of several examples these are positions.
        if alike and size == lowered.io.batch_size:
            packed[id(sign)] = first
    return packed


def _quantized(graph: Subgraph, bits: Tensor) -> Tensor | None:
    """The numbers of which bits are, unless they are given or constant."""
    op = graph.producer(bits)
    if op is None or op.op != "LceQuantize":
        return None
    given = op.input(0)
    return None if given.constant or given in graph.inputs else given


def _unpacked(words: np.ndarray, channels: int) -> np.ndarray:
    """Where packed bits stand for +1."""
    data = np.ascontiguousarray(words).astype("<i4").view(np.uint8)
    return np.unpackbits(data, axis=-1, bitorder="little")[..., :channels] == 0


def _probe(
    lowered: LoweredTrace, values: Sequence[Any], runtime: str
) -> Callable[[Sequence[np.ndarray]], list[np.ndarray]]:
    """Returns what gives the outputs of a file in one array, and the values of signs.

    They come from a second file with one output that contains all of it: taken after
    the sign, they change nothing in how LCE fuses and packs, nor where a sign of
    LiteRT saturates.
    """
    io = lowered.io

    def in_rows(inputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        numbers = lowered.function(values)(inputs)
        rows = [
            tf.reshape(tf.cast(x, tf.float32), (io.batch_size, -1)) for x in numbers
        ]
        sizes[:] = [row.shape[1] for row in rows]
        return [tf.concat(rows, axis=1)]

    sizes: list[int] = []
    spec = _converter.IoSpec(io.inputs, ["output"])
    content = _converter.to_flatbuffer(in_rows, [], spec, runtime=runtime)
    probe = _converter.Runner(content, runtime)
    shown = len(values)

    def run(examples: Sequence[np.ndarray]) -> list[np.ndarray]:
        (rows,) = probe.outputs(examples)
        ends = np.cumsum([sum(sizes[:-shown]), *sizes[-shown:]])
        return np.split(rows, ends[:-1], axis=1)

    return run


def rounding_to_bytes(flatbuffer: bytes) -> str:
    """Advises on layers that a float file rounds to 8 bits; empty for none."""
    graph = read(flatbuffer, "the file")[0]
    layers = [graph.layer(op) for op in graph.operations if op.op == "QUANTIZE"]
    if not layers:
        return ""
    named = " and ".join(map(repr, dict.fromkeys(layers)))
    return (
        f"The fake quantization of layer {named} rounds otherwise in a file than in "
        "TensorFlow, at halves and in the last digits: quantize with "
        "lq.quantizers.DoReFa(8) instead, or not at all."
    )
