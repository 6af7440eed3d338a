"""Compares the thresholds of the binary convolutions inside of a file.

A convolution that writes bits has a threshold per channel in the place of scale and
bias: how many bits may differ for the sum to be no less than it. Examples tell nothing
of a threshold that none of them comes near. So it is compared as a number, with what
the model makes of every sum that there may be.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from ..._keras import keras
from ...graph import _graph, _segments, _signs
from ...layers._inference import BinaryConvolution, PlainAffine
from ..lite._file import FileOperation, read

# What makes numbers of a layer's sums, (sums, C).
_Made = Callable[[tf.Tensor], tf.Tensor]
_ELEMENTWISE = (keras.layers.ReLU, PlainAffine)


def differing_threshold(prepared: keras.Model, flatbuffer: bytes) -> str:
    """Says which threshold of a file is not the model's; empty if none is known to be.

    Whose it is the kernel tells. The converter turns the channels of negative scales.

    Arguments:
        prepared: The model that the file was written from.
        flatbuffer: The content of the file.
    """
    graph = _graph.Graph(prepared)
    convolutions = defaultdict(list)
    for call in graph.calls:
        if call.operation.kind is BinaryConvolution:
            kernel = np.moveaxis(np.asarray(call.layer.kernel) < 0, -1, 0)
            convolutions[_key(kernel)].append((call, kernel))
    for op in read(flatbuffer, "the file")[0].operations:
        if op.op != "LceBconv2d" or not op.writes_bits:
            continue
        bits = _kernel(op)
        differences = [
            _difference(op, _opposite_channels(bits, kernel), call, sign, made)
            for call, kernel in convolutions[_key(bits)]
            for sign, made in _signs_of(graph, call.first_output, _after(call))
        ]
        if differences and all(differences):
            return differences[0]
    return ""


def _key(kernel: np.ndarray) -> tuple[tuple[int, ...], bytes]:
    """Returns a key that kernels share whose channels are equal or opposite."""
    alike = kernel != kernel[:, :1, :1, :1]
    return kernel.shape, np.packbits(alike).tobytes()


def _opposite_channels(kernel: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Returns where channels of such kernels are opposite, (C,)."""
    return kernel[:, 0, 0, 0] != other[:, 0, 0, 0]


def _kernel(op: FileOperation) -> np.ndarray:
    """Where a kernel of a file is -1, (C, height, width, channels in)."""
    words = np.ascontiguousarray(op.input(1).values).astype("<i4").view(np.uint8)
    bits = np.unpackbits(words, axis=-1, bitorder="little")
    return bits[..., : op.options["channels_in"]] == 1


def _after(call: _graph.Call) -> _Made:
    """Returns the function of its sums that a binary convolution computes."""
    layer = call.layer
    scale = 1.0 if layer.scale is None else layer.scale
    offset = 0.0 if layer.offset is None else layer.offset
    return lambda sums: layer.last(sums * scale + offset)


def _signs_of(
    graph: _graph.Graph, edge: Any, made: _Made
) -> Iterator[tuple[_graph.Call, _Made]]:
    """Yields the signs after a map, and the function of the sums that each reads."""
    for call in graph.consumers(edge):
        sign = _signs.sign_of_call(call)
        if sign is not None:
            shifted = getattr(sign, "shifted", None)
            yield call, made if shifted is None else partial(_then, made, shifted)
        elif type(call.layer) is keras.layers.MaxPooling2D:
            yield from _signs_of(graph, call.first_output, made)
        elif type(call.layer) in _ELEMENTWISE:
            yield from _signs_of(
                graph, call.first_output, partial(_then, made, call.layer)
            )


def _then(made: _Made, function: _Made, sums: tf.Tensor) -> tf.Tensor:
    return function(made(sums))


def _difference(
    op: FileOperation,
    opposite: np.ndarray,
    call: _graph.Call,
    sign: _graph.Call,
    made: _Made,
) -> str:
    """Says of which channel the threshold is another one; empty if of none."""
    height, width, channels, _ = call.layer.kernel.shape
    differing = np.arange(height * width * channels + 1)[:, None]
    thresholds = op.input(-1).values
    sums = np.broadcast_to(
        differing[-1] - 2.0 * differing, (len(differing), len(thresholds))
    )
    numbers = made(tf.constant(sums, tf.float32)).numpy()
    counts = np.where(opposite, differing[::-1], differing)
    wrong = (numbers < 0) != (counts > thresholds)
    near = np.abs(numbers) <= _segments.MARGIN * np.abs(numbers).max(axis=0)
    wrong &= ~near | (numbers == 0)
    if not wrong.any():
        return ""
    channel = int(np.flatnonzero(wrong.any(axis=0))[0])
    first = np.flatnonzero(wrong[:, channel])[0]
    return (
        f"the threshold between layer {call.label!r} and the sign of {sign.label!r} is "
        f"{thresholds[channel]} of {len(differing) - 1} bits in channel {channel}, "
        f"which turns the sign of a sum of {sums[first, channel]:g}"
    )
