"""Rules that write binary operations as ones that every runtime has, exactly.

A ±1 kernel is a convolution of real numbers, a sign is a depthwise convolution that
saturates. A scale that is no power of two is one of its own: as part of the kernel it
would make rounding of a sum that is 0.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ._program import Node, Program, Rule, channelwise


def plain_sign(
    program: Program, node: Node, step: float | None = None
) -> Program | None:
    if node.kind != "sign":
        return None
    made = node.with_arguments(step=step, padding=None)
    return program.with_nodes([node], [replace(made, kind="saturating")])


def plain_pad(program: Program, node: Node) -> Program | None:
    """A sign makes the ones around it, of zeros: delegates have no padding by ones."""
    sign = program.maker(node.x, "saturating") if node.kind == "pad" else None
    if sign is None or sign["padding"] is not None:
        return None
    first, *padding, last = node["sides"]
    if node["value"] != 1 or len(padding) != 2 or any((*first, *last)):
        return None
    made = replace(sign.with_arguments(padding=padding), makes=(node.y, *sign.makes))
    return program.with_nodes([sign, node], [made])


def plain_kernel(program: Program, node: Node) -> Program | None:
    """A binary kernel with a scale after it, which is part of it if that is exact."""
    if node.kind != "kernel" or not node["binary"]:
        return None
    scale = node["scale"]
    if np.all(np.frexp(scale)[0] == 0.5):
        return whole_kernel(program, node)
    value = node.y.like()
    signs = node.with_arguments(scale=0 * scale + 1, bias=0 * scale, binary=False)
    scaled = channelwise(f"{node.name}_scale", value, scale, node.y, node["bias"])
    return program.with_nodes([node], [signs.making(value), scaled])


def whole_kernel(program: Program, node: Node) -> Program | None:
    """A binary kernel that contains its scale.

    In int8 that is ±127 times the step of each channel.
    """
    if node.kind != "kernel" or not node["binary"]:
        return None
    scale = node["scale"]
    whole = {"kernel": node["kernel"] * scale, "scale": 0 * scale + 1}
    return program.with_nodes([node], [node.with_arguments(**whole, binary=False)])


PLAIN: tuple[Rule, ...] = (plain_sign, plain_pad, plain_kernel)
