"""Batch norm behind a layer of weights: its gain and bias go into those."""

from __future__ import annotations

from typing import Any, NamedTuple

import larq as lq
import numpy as np

from ...graph import Call, is_binary_convolution, kernel_value
from .._linear import Linear
from ._chains import Chain, keep_as_affine
from ._plan import NotExact, Plan, Scaling
from ._pools import keeps_channels, passes


class Source(NamedTuple):
    """What makes the input of a chain, and the pools between, in order."""

    call: Call
    tensor: Any
    pools: list[Call]


def into_kernel_behind(plan: Plan, chain: Chain) -> str:
    """Multiplies gains into the kernels of the layers before, in all their uses.

    Returns:
        What was done.

    Raises:
        NotExact: If that would change another path, or is not possible.
    """
    sources = [_source(plan, chain, tensor) for tensor in chain.starts]
    ends = {id(source.tensor) for source in sources}
    by_name = {source.call.name: source.call for source in sources}
    for name, call in by_name.items():
        _check_float(plan, call, chain)
        if not all(id(use.first_output) in ends for use in plan.graph.uses(name)):
            raise NotExact(f"{name!r} is used elsewhere too")
    for call in by_name.values():
        plan.linear(call).scale_outputs(chain.scaling.gain, chain.scaling.bias)
    plan.dropped |= set(chain.names)
    return "folded into " + " and ".join(map(repr, by_name))


def behind_quantized_kernel(plan: Plan, chain: Chain) -> str:
    """Leaves gain and bias as a layer, right behind a quantized kernel: free there.

    Pools in between follow it from now on, where it could not be fused.

    Returns:
        What was done.

    Raises:
        NotExact: If there is no such kernel, or an activation lies behind it.
    """
    sources = _quantized_sources(plan, chain)
    for source in sources:
        if plan.linear(source.call).is_activated:
            raise NotExact(f"{source.call.name!r} has an activation")
    if len(sources) > 1 and any(source.pools for source in sources):
        raise NotExact("it is used more than once")
    keep_as_affine(plan, chain, sources[0].pools)
    return f"became gain and bias behind {sources[0].call.name!r}"


def behind_activation(plan: Plan, chain: Chain) -> str:
    """Leaves gain and bias as a layer behind a quantized kernel and its activation.

    Returns:
        What was done.

    Raises:
        NotExact: If there is no such kernel, or something else between.
    """
    sources = _quantized_sources(plan, chain)
    if any(source.pools for source in sources):
        raise NotExact("a pool lies between")
    keep_as_affine(plan, chain)
    return f"became gain and bias behind {sources[0].call.name!r}"


def _quantized_sources(plan: Plan, chain: Chain) -> list[Source]:
    sources = [_source(plan, chain, tensor) for tensor in chain.starts]
    for source in sources:
        if not _is_quantized(plan, source.call):
            raise NotExact(f"the kernel of {source.call.name!r} is no quantized one")
    return sources


def _source(plan: Plan, chain: Chain, tensor: Any) -> Source:
    call = plan.graph.producer(tensor)
    if call is None:
        raise NotExact("it reads an input of the model")
    if plan.graph.sole_consumer(tensor) is None:
        raise NotExact(f"the output of {call.described} is read elsewhere too")
    if not keeps_channels(call) or passes(call, chain.scaling) is None:
        return Source(call, tensor, [])
    if plan.is_shared(call):
        raise NotExact(f"{call.described} is used more than once")
    before = _source(plan, chain, call.first_input)
    return before._replace(pools=[*before.pools, call])


def _is_quantized(plan: Plan, call: Call) -> bool:
    linear = plan.linear(call)
    # A kernel of ±c may also be a plain one.
    return linear.is_quantized(linear.last) or is_binary_convolution(call)


def _check_float(plan: Plan, call: Call, chain: Chain) -> None:
    if plan.linear(call).is_activated:
        raise NotExact(f"{call.name!r} has an activation")
    # Gains in a kernel of -1 and +1 would make its integer sums inexact.
    if _is_quantized(plan, call) and not _follows(plan.linear(call), chain.scaling):
        raise NotExact(f"the kernel of {call.name!r} is quantized")
    if call.layer.compute_dtype != chain.dtype:
        raise NotExact(f"{call.name!r} computes in {call.layer.compute_dtype}")
    plan.check_trains(call, chain.scaling)


def _follows(linear: Linear, scaling: Scaling) -> bool:
    """Whether a quantized kernel has the magnitude, and sign, of the latent one.

    As that of MagnitudeAwareSign has. Then gains are better off in the latent kernel:
    beside a gain of 10, steps that double small latent weights would shake the network.
    """
    if not linear.is_quantized(linear.last) or not np.all(scaling.gain):
        return False
    kernel, gain = linear.variable(linear.last), linear.by_output(scaling.gain)
    if isinstance(kernel.quantizer, lq.quantizers.NoOp):  # flipped in place, by Bop
        return False
    latent = linear.kernels[linear.last]
    if np.abs(latent * gain).max() > 1:  # where estimators have no gradient
        return False
    wanted = kernel_value(kernel, latent) * gain
    return np.allclose(kernel_value(kernel, latent * gain), wanted, rtol=1e-5, atol=0)
