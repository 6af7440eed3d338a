"""Findings about binary convolutions, and about the signs in front of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..lite import Operation
from ._chain import Chain, is_positive_factor, is_shift, values

_RELUS = ("RELU", "RELU6", "RELU_N1_TO_1")
# What is said of a file that larq_nobn has not written, or of a user's own layer.
GROUPS = (
    "Convert the model with larq_nobn.convert, which writes a QuantConv2D in groups as "
    "one binary convolution for each."
)
_POOLS = ("MAX_POOL_2D", "AVERAGE_POOL_2D")


class Saving(NamedTuple):
    """What could be saved in one layer."""

    layer: str
    finding: str
    remedy: str


def zero_padding(chain: Chain, op: Operation) -> Saving | None:
    """A sign behind a zero-padded convolution, which cannot write bits."""
    reader = chain.only_reader(op) if _pads_with_zeros(op) else None
    if reader is None or reader.op != "LceQuantize" or _is_packed(op):
        return None
    return Saving(
        chain.layer(op),
        "Padding with zeros makes it write floats, of which a sign then takes bits.",
        f"{_other_padding(op)} Then it writes the bits itself.",
    )


def relu_behind(chain: Chain, op: Operation) -> Saving | None:
    """A ReLU that LCE could not fuse into the convolution in front of it."""
    reader = chain.only_reader(op) if op.op == "LceBconv2d" else None
    if reader is None or reader.op not in _RELUS or op.inputs[2] is None:
        return None
    scale, bias = (values(t) for t in op.inputs[2:4] if t is not None)
    causes, remedies = [], []
    if _pads_with_zeros(op):
        causes.append("zero padding")
        remedies.append(_other_padding(op))
    if np.any(bias != 0):
        causes.append("scale and bias in front of it")
        remedies.append("Put the ReLU in front of scale and bias, as in training.")
    elif np.any(scale != 1):
        causes.append("the scale in front of it")
        same = reader.op == "RELU" and np.all(scale > 0)
        why = ": the values are the same, since it is positive." if same else "."
        remedies.append(f"Put the ReLU in front of the scale{why}")
    if not causes:
        return None
    return Saving(
        chain.layer(op),
        f"{reader.op} stays an operation, because of {' and '.join(causes)}.",
        " ".join(remedies),
    )


def factor_before_sign(chain: Chain, op: Operation) -> Saving | None:
    """A positive factor that nothing but signs can see."""
    readers = chain.readers(op) if is_positive_factor(op) else []
    shifts = [reader for reader in readers if is_shift(reader)]
    behind = [r for shift in shifts for r in chain.readers(shift) or [shift]]
    signs = [r for r in readers if r not in shifts] + behind
    if not signs or any(sign.op != "LceQuantize" for sign in signs):
        return None
    return Saving(
        chain.layer(op),
        f"{op.op} by positive numbers changes no sign, and only signs follow.",
        "Divide the shift behind it by the factor, and leave the factor out."
        if shifts
        else "Leave the factor out.",
    )


def pool_of_floats(chain: Chain, op: Operation) -> Saving | None:
    """A maximum over floats of which only the signs are used."""
    if op.op != "MAX_POOL_2D":
        return None
    reader = chain.only_reader(op)
    if reader is None or reader.op != "LceQuantize":
        return None
    return Saving(
        chain.layer(op),
        "It pools floats, of which only the signs are used.",
        "Pool bits instead (LceBMaxPool2d): convert for LCE's target 'arm'.",
    )


def affine_behind_pool(chain: Chain, op: Operation) -> Saving | None:
    """A scale or shift that would vanish in the convolution in front of the pool."""
    pool = chain.producer(op)
    if pool is None or pool.op not in _POOLS or chain.only_reader(pool) is not op:
        return None
    convolution = chain.producer(pool)
    if convolution is None or convolution.op != "LceBconv2d":
        return None
    if chain.only_reader(convolution) is not pool:
        return None
    if not is_positive_factor(op) and not is_shift(op):
        return None
    return Saving(
        chain.layer(op),
        f"{op.op} stands behind a pool, and a binary convolution in front of it.",
        "Move it in front of the pool, where it vanishes in the convolution.",
    )


def signs_of_one_tensor(chain: Chain, op: Operation) -> Saving | None:
    """The same bits, made twice."""
    if op.op != "LceQuantize":
        return None
    source = chain.producer(op)
    same = chain.readers(source) if source is not None else []
    if sum(other.op == "LceQuantize" for other in same) < 2:
        return None
    return Saving(
        chain.layer(op),
        "The sign of one tensor is taken more than once.",
        "Take it once, and share it.",
    )


def idle_bits(chain: Chain, op: Operation) -> Saving | None:
    """Input channels that leave words partly empty."""
    if op.op != "LceBconv2d":
        return None
    if op.options["channels_in"] % 32 == 0:
        return None
    return Saving(
        chain.layer(op),
        "Its input channels are no multiple of 32, so part of a word of bits is idle.",
        "Give it a multiple of 32 input channels.",
    )


def odd_outputs(chain: Chain, op: Operation) -> Saving | None:
    """Output channels that LCE's kernels do not divide into equal parts."""
    if op.op != "LceBconv2d" or _kernel(op)[0] % 8 == 0:
        return None
    return Saving(
        chain.layer(op),
        "Its output channels are no multiple of 8, which LCE computes at once.",
        "Give it a multiple of 8 output channels.",
    )


def groups(chain: Chain, op: Operation) -> Saving | None:
    """A binary convolution that phones refuse to run."""
    if op.op != "LceBconv2d" or op.options["channels_in"] <= 32 * _kernel(op)[3]:
        return None
    return Saving(
        chain.layer(op),
        "It is a binary convolution in groups, which LCE's kernels on phones refuse.",
        GROUPS,
    )


def small_map(chain: Chain, op: Operation) -> Saving | None:
    """A zero-padded convolution on a map smaller than its kernel."""
    image = op.inputs[0]
    if not _pads_with_zeros(op) or image is None:
        return None
    _, height, width, _ = _kernel(op)
    reach = (
        (height - 1) * op.options["dilation_height_factor"] + 1,
        (width - 1) * op.options["dilation_width_factor"] + 1,
    )
    size = image.shape[1:3]
    if all(s >= r for s, r in zip(size, reach, strict=True)):
        return None
    return Saving(
        chain.layer(op),
        f"It pads a {size[0]}x{size[1]} map with zeros for a {reach[0]}x{reach[1]} "
        "kernel, which LCE 0.16 computes wrongly.",
        "Convert the model with larq_nobn.convert, which writes a convolution that is "
        "right there, or use larger images.",
    )


def _kernel(op: Operation) -> tuple[int, ...]:
    filters = op.inputs[1]
    assert filters is not None
    return filters.shape


def _is_packed(op: Operation) -> bool:
    return op.outputs[0].dtype == "int32"


def _pads_with_zeros(op: Operation) -> bool:
    same = op.op == "LceBconv2d" and op.options["padding"] == 0
    return same and op.options["pad_values"] == 0


def _other_padding(op: Operation) -> str:
    if _kernel(op)[1:3] == (1, 1):
        return "Use padding='valid', which is the same for a 1x1 kernel."
    return "Train with pad_values=1.0, or convert with one_padding=True."


RULES = (
    zero_padding,
    relu_behind,
    factor_before_sign,
    pool_of_floats,
    affine_behind_pool,
    signs_of_one_tensor,
    idle_bits,
    odd_outputs,
    groups,
    small_map,
)
