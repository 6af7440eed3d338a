"""Compares the thresholds of the binary convolutions inside of a file.

A convolution that writes bits has a threshold per channel in the place of scale and
bias: how many bits may differ for the sum to be no less than it. Examples tell nothing
of a threshold that none of them comes near. So it is compared as a number, with what
the model makes of every sum that there may be.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator

import numpy as np

from ...graph import _segments
from ..lite._file import FileOperation, read
from ..lite._trace import layer_name
from ..operations._program import Node, Program
from ..operations._shapes import keeps_channels

# What makes numbers of a layer's sums, (sums, C).
_Made = Callable[[np.ndarray], np.ndarray]


def differing_threshold(program: Program, content: bytes) -> str:
    """Says which threshold of a file is not its program's; empty if none is.

    Whose it is the kernel tells. The converter turns the channels of negative scales.
    """
    convolutions = defaultdict(list)
    for node in program.nodes:
        if node.kind == "kernel" and node["binary"]:
            kernel = np.moveaxis(node["kernel"] < 0, -1, 0)
            convolutions[kernel_key(kernel)].append((node, kernel))
    for op in read(content, "the file")[0].operations:
        if op.op != "LceBconv2d" or not op.writes_bits:
            continue
        bits = kernel_of(op)
        differences = [
            # Where channels are opposite, the first weights are.
            _difference(op, bits[:, 0, 0, 0] != kernel[:, 0, 0, 0], node, sign, made)
            for node, kernel in convolutions[kernel_key(bits)]
            for sign, made in _signs_of(program, node, lambda sums: sums)
        ]
        if differences and all(differences):
            return differences[0]
    return ""


def kernel_key(kernel: np.ndarray) -> tuple[tuple[int, ...], bytes]:
    """Returns a key that kernels share whose channels are equal or opposite."""
    alike = kernel != kernel[:, :1, :1, :1]
    return kernel.shape, np.packbits(alike).tobytes()


def kernel_of(op: FileOperation) -> np.ndarray:
    """Where a kernel of a file is -1, (C, height, width, channels in)."""
    words = np.ascontiguousarray(op.input(1).values).astype("<i4").view(np.uint8)
    bits = np.unpackbits(words, axis=-1, bitorder="little")
    return bits[..., : op.options["channels_in"]] == 1


def _signs_of(
    program: Program, node: Node, before: _Made
) -> Iterator[tuple[Node, _Made]]:
    """Yields the signs after a node, and the function of the sums that each takes."""
    step = _function_of(node)
    if step is None:
        return

    def made(sums: np.ndarray) -> np.ndarray:
        return step(before(sums))

    if node.kind == "sign":
        yield node, made
        return
    for reader in program.readers(node.y):
        yield from _signs_of(program, reader, made)


def _function_of(node: Node) -> _Made | None:
    """What a node makes of each number; None if that is not known."""
    if node.kind == "kernel" and node["binary"]:
        return lambda x: x * np.float32(node["scale"]) + np.float32(node["bias"])
    if node.kind == "affine":
        return lambda x: x * np.float32(node["k"]) + np.float32(node["b"])
    if node.kind == "sign":
        return lambda x: x + np.float32(node["shift"])
    if node.type == "Relu":
        return lambda x: np.maximum(x, 0)
    return np.asarray if node.type == "MaxPool" or keeps_channels(node) else None


def _difference(
    op: FileOperation,
    opposite: np.ndarray,
    node: Node,
    sign: Node,
    made: _Made,
) -> str:
    """Says of which channel the threshold is another one; empty if of none."""
    differing = np.arange(np.prod(node["kernel"].shape[:-1]) + 1)[:, None]
    thresholds = op.input(-1).values
    sums = np.broadcast_to(
        differing[-1] - 2.0 * differing, (len(differing), len(thresholds))
    )
    numbers = made(sums.astype(np.float32))
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
        f"{thresholds[channel]} of {len(differing) - 1} bits in channel {channel}, "
        f"which turns the sign of a sum of {sums[first, channel]:g}"
    )
