"""Faults of LCE 0.16 and TensorFlow Lite that raise no error, and how to avoid them.

Each fault has the measurement that found it. Rules avoid most of them. The faults that
they leave are checked here, or found by the verification, such as sums that TensorFlow
Lite writes over a map that is still needed:
| fault | checked by |
|---|---|
| zero-padded maps smaller than the kernel | `missed_reach`, of sizes |
| inputs and outputs move in memory | `add_room` prevents it, before a file runs |

Rules avoid these by how they write a model for LCE:

| fault | measured |
|---|---|
| zeros before a strided "valid" convolution are taken for "same" | off by 3.3 |
| PReLU is known only as relu(z) + (-a) relu(-z), a of (1, 1, C) | else 2 to 5 others |
| a ReLU is fused before a scale, never after it | one operation more |
| the input of an int8 sign is lost if it is an output, too | the interpreter fails |
| several inputs and outputs are in random order | `to_flatbuffer` restores it |
| names of tensors are cut at 50 characters | layers are not found again |
| scales become part of sums, also of corrections for zero padding | 0 is 1e-8 |
| constants are fused whatever their shape | `keep_apart` |
| the outer sign of sign(sign(x) + y) is lost | `keep_apart` |
| with strides beyond the kernel, "same" starts elsewhere | LiteRT: off by 16 of 24 |
| an int8 bias of equal numbers has the first channel's steps | off by 9 steps |
| softplus is log(1 + exp(x)) | 88.7 of 100; off by 6e-8, all of it below -16 |

In a float kernel after `DoReFa`, scales do become part of sums. The comparison of signs
finds it, and the error says what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema

_NEXT = 1 + 2.0**-23  # the number next to 1


def bounded_softplus(x: tf.Tensor) -> tf.Tensor:
    """Returns softplus as max(x, 0) + log(1 + exp(-|x|)), exact also for tiny exp.

    Files contain log(1 + exp(x)), where exp(89) overflows float32 and 1 + exp(-12)
    loses a hundredth of exp(-12). For small y = exp(-|x|), log(1 + y) times
    y / ((1 + y) - 1) restores what 1 + y has lost.

    In int8, the converter would round the inputs of a maximum to its output's range, so
    the result ends in a sum.
    """
    y = tf.exp(-tf.abs(x))
    more = tf.maximum(1 + y, _NEXT)
    return tf.nn.relu(x) + tf.math.log(more) * (y / (more - 1))


def missed_reach(
    size: Sequence[int], kernel: Sequence[int], dilation: Sequence[int]
) -> tuple[int, ...] | None:
    """Returns the reach of a kernel if the map is smaller; zero padding is wrong then.

    Measured: LCE's default and indirect kernels are off for a 3x3 kernel on 1x1 and 2x2
    maps, and for 5x5 on maps up to 4x4. The reference kernel is right, and with padding
    by ones all of them are.
    """
    reach = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
    fits = all(s >= r for s, r in zip(size, reach, strict=True))
    return None if fits else reach


# --- tensors that move in memory

# The array of tensors has this capacity at first; with more tensors it moves at once.
_RESERVED = 128
# More tensors than any operation adds; recurrent ones add a dozen.
_PER_OPERATION = 20


def add_room(model: Any) -> None:
    """Adds unused tensors to the graphs of an unpacked file that is to be run.

    LCE's interpreter for Python notes the addresses of inputs and outputs once it is
    ready to run. TensorFlow Lite keeps all tensors in one array, and moves it to twice
    the capacity unless 16 more would fit, perhaps only in the first run. Measured with
    a binary convolution beside eight float layers: garbage or a crash for 113 to 128
    tensors in all. With enough tensors from the start, the move comes before the
    addresses are noted, and leaves room for all that operations add.
    """

    class Unused(schema.TensorT):
        """A tensor that is written once, whatever its number of uses."""

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
