"""Rules that write binary operations as ones that every runtime has, exactly.

A ±1 kernel is a convolution of real numbers, a sign is a depthwise convolution that
saturates. A scale that is no power of two is one of its own: as part of the kernel it
would make rounding of a sum that is 0.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ._program import Node, Program, Rule, channelwise


def plain_sign(program: Program, node: Node) -> Program | None:
    if node.kind != "sign":
        return None
    shift = node["shift"] if np.any(node["shift"]) else None
    arguments = {"shift": shift, "padding": None, "step": None}
    return program.with_nodes(
        [node], [replace(node, kind="saturating", arguments=arguments)]
    )


def plain_pad(program: Program, node: Node) -> Program | None:
    """A sign makes the ones around it, of zeros: delegates have no padding by ones."""
    sign = program.maker(node.x) if node.kind == "pad" else None
    if sign is None or sign.kind != "saturating" or sign["padding"] is not None:
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
    scale, ones = node["scale"], np.ones_like(node["scale"])
    if np.all(np.frexp(scale)[0] == 0.5):
        kernel = node["kernel"] * scale
        whole = node.with_arguments(kernel=kernel, scale=ones, binary=False)
        return program.with_nodes([node], [whole])
    value = node.y.like()
    signs = node.with_arguments(scale=ones, bias=0 * scale, binary=False)
    scaled = channelwise(f"{node.name}_scale", value, node.y, scale, node["bias"])
    return program.with_nodes([node], [signs.making(value), scaled])


PLAIN: tuple[Rule, ...] = (plain_sign, plain_pad, plain_kernel)
