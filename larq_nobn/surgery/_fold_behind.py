"""Batch norm behind a layer of weights: its gain and bias go into those."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..graph import Call, is_binary_convolution
from ._fold_chains import Chain, result
from ._fold_plan import NotExact, Plan, label


def into_kernel_behind(plan: Plan, chain: Chain) -> str:
    """Multiplies gains into the kernels of the layers before, in all their uses.

    Returns:
        What was done.

    Raises:
        NotExact: If that would change another path, or is not possible.
    """
    sources = [_source(plan, tensor) for tensor in chain.starts]
    for source in sources:
        _check_float(plan, source, chain)
        ends = [result(call) for call in plan.graph.uses(source.name)]
        if not all(any(end is start for start in chain.starts) for end in ends):
            raise NotExact(f"{source.name!r} is used elsewhere too")
    names = dict.fromkeys(source.name for source in sources)
    by_name = {source.name: source for source in sources}
    for name in names:
        plan.linear(by_name[name]).scale_outputs(chain.gain, chain.bias)
    plan.dropped |= set(chain.names)
    return "folded into " + " and ".join(map(repr, names))


def _source(plan: Plan, tensor: Any) -> Call:
    source = plan.graph.producer(tensor)
    if source is None:
        raise NotExact("it reads an input of the model")
    if plan.graph.sole_consumer(tensor) is None:
        raise NotExact(f"the output of {label(source)} is read elsewhere too")
    return source


def _check_float(plan: Plan, source: Call, chain: Chain) -> None:
    linear = plan.linear(source)
    if linear.is_activated:
        raise NotExact(f"{source.name!r} has an activation")
    # Gains in a binary kernel would make its integer sums inexact.
    if linear.is_quantized(linear.last) or is_binary_convolution(source):
        raise NotExact(f"the kernel of {source.name!r} is quantized")
    if source.layer.compute_dtype != chain.layers[0].compute_dtype:
        raise NotExact(f"{source.name!r} computes in {source.layer.compute_dtype}")


def quantized_source(plan: Plan, chain: Chain) -> Call | None:
    """The layer of a quantized kernel behind which gain and bias are free, if any."""
    try:
        sources = [_source(plan, tensor) for tensor in chain.starts]
        linear = [plan.linear(source) for source in sources]
    except NotExact:
        return None
    quantized = [
        x.is_quantized(x.last) or is_binary_convolution(source)
        for x, source in zip(linear, sources, strict=True)
    ]
    return sources[0] if np.all(quantized) else None
