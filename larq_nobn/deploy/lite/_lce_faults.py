"""What LCE 0.16 and TensorFlow Lite get wrong without a word, and how it is found.

Each fault bears the measurement that found it. What rules leave of them is
looked for here, and the rest, such as sums that TensorFlow Lite computes in place of a
map that is still needed, is found by the verification:

| fault | looked for by |
|---|---|
| zero-padded maps smaller than the kernel | `missed_reach`, of sizes |
| inputs and outputs move in memory | `add_room` prevents it, before a file runs |

And these are kept from LCE by how models are written for it:

| fault | measured |
|---|---|
| zeros before a strided "valid" convolution are taken for "same" | off by 3.3 |
| PRELU has one spelling, relu(z) + (-a) relu(-z), a of (1, 1, C) | else 2 to 5 others |
| a ReLU is fused before a scale, never after it | one operation more |
| the input of an int8 sign is lost if it is an output, too | the interpreter breaks |
| several inputs and outputs come in an order of chance | `to_flatbuffer` undoes it |
| names of tensors are cut at 50 characters | layers are not found again |
| scales become part of sums, and of what a border of zeros takes back | 0 is 1e-8 |
| constants are fused whatever their shape | `keep_apart` |
| a sign is lost around a sum of another | `keep_apart` |
| of a stride beyond the kernel, "same" starts elsewhere | LiteRT: off by 16 of 24 |
| an int8 bias of one number has the steps of the first channel | off by 9 steps |
| softplus is log(1 + exp(x)) | 88.7 of 100; off by 6e-8, all of it below -16 |

Scales become part of sums all the same in a float kernel after `DoReFa`: there the
comparison of signs finds it, and says what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema

_NEXT = 1 + 2.0**-23  # the number next to 1


def bounded_softplus(x: tf.Tensor) -> tf.Tensor:
    """max(x, 0) + log(1 + exp(-|x|)), exact where that exp is next to 0.

    In a file it is log(1 + exp(x)): exp(89) is more than float32 can represent, and of
    1 + exp(-12) a hundredth of exp(-12) is lost. What 1 + y has lost of a small y,
    log(1 + y) times y / ((1 + y) - 1) has again.

    The sum is last: in int8, the converter would round what a maximum is taken of to
    the range that is noted for that.
    """
    y = tf.exp(-tf.abs(x))
    more = tf.maximum(1 + y, _NEXT)
    return tf.nn.relu(x) + tf.math.log(more) * (y / (more - 1))


def missed_reach(
    size: Sequence[int], kernel: Sequence[int], dilation: Sequence[int]
) -> tuple[int, ...] | None:
    """The reach of a kernel, if it is larger than the map; then zero padding is wrong.

    Measured: LCE's default and indirect kernels are off for a 3x3 kernel on 1x1 and 2x2
    maps, and 5x5 on maps up to 4x4. The reference kernel is right, and so are all of
    them where ones pad.
    """
    reach = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
    fits = all(s >= r for s, r in zip(size, reach, strict=True))
    return None if fits else reach


# --- tensors that move in memory

# The array of tensors has this room from the start: with more it moves right away.
_RESERVED = 128
# More than any operation makes of its own; recurrent ones make a dozen.
_PER_OPERATION = 20


def add_room(model: Any) -> None:
    """Adds unused tensors to the graphs of an unpacked file that is to be run.

    LCE's interpreter for Python notes where inputs and outputs lie once it is ready to
    run. TensorFlow Lite keeps all tensors in one array, which it moves to twice the
    room unless 16 more would fit, perhaps as late as in the first run. Measured with a
    binary convolution beside eight float layers: garbage or a crash for 113 to 128
    tensors in all. With tensors enough from the start, the first move comes before all
    of this, and leaves room for all that operations make.
    """

    class Unused(schema.TensorT):
        """It is written once, and all places of a file lead there."""

        place = None

        def Pack(self, builder: Any) -> Any:
            if self.place is None:
                self.place = super().Pack(builder)
            return self.place

    unused = Unused()
    unused.name, unused.shape = b"unused", [1]
    unused.type, unused.buffer = schema.TensorType.FLOAT32, 0

    for graph in model.subgraphs:
        wanted = _RESERVED + _PER_OPERATION * (1 + len(graph.operators))
        graph.tensors += [unused] * (wanted - len(graph.tensors))
