"""Tells the branches of a residual sum from the stream that they are added to."""

from __future__ import annotations

from typing import Any, NamedTuple

from ...graph import Call, Graph, has_sign_input, inputs_of, latent, sign_of
from ._moments import is_sum
from ._walks import KERNELS, has_kernel, is_bounded, main_input


class Term(NamedTuple):
    """How much of a network stands in one term of a sum; the stream has least.

    Arguments:
        kernels: Number of kernels that no other term depends on.
        binary: Whether the last of them has signs as its input.
        window: Positions of that kernel.
    """

    kernels: int
    binary: bool
    window: int


def stream_of(graph: Graph, call: Call) -> int | None:
    """The place of the stream among the inputs of a sum, if one is not like the rest.

    That is the input itself or what lies closest to it: behind fewer kernels than the
    branches, or as many, but on real-valued inputs, or of a smaller window.
    """
    inputs = inputs_of(call.node)
    above = [_ancestors(graph, tensor) for tensor in inputs]
    terms = []
    for place, tensor in enumerate(inputs):
        others = set().union(*(a for n, a in enumerate(above) if n != place))
        own = [made for key, made in above[place].items() if key not in others]
        terms.append(_term(graph, tensor, [made for made in own if made]))
    least = min(terms)
    if terms.count(least) > 1:
        return None
    return terms.index(least)


def _ancestors(graph: Graph, tensor: Any) -> dict[int, Call | None]:
    """Every tensor that one depends on, itself too, by id: the call that makes it."""
    found: dict[int, Call | None] = {}
    left = [tensor]
    while left:
        tensor = left.pop()
        if id(tensor) not in found:
            call = found[id(tensor)] = graph.producer(tensor)
            left += inputs_of(call.node) if call else []
    return found


def _term(graph: Graph, tensor: Any, own: list[Call]) -> Term:
    kernels = [call for call in own if has_kernel(call.layer)]
    if not kernels:
        return Term(0, False, 0)
    last = _last_kernel(graph, tensor) or kernels[0]
    return Term(len(kernels), has_sign_input(last), _window(last))


def _last_kernel(graph: Graph, tensor: Any) -> Call | None:
    call = graph.producer(tensor)
    while call and not has_kernel(call.layer):
        before = main_input(call)
        call = None if before is None else graph.producer(before)
    return call


def _window(call: Call) -> int:
    kernels = (getattr(call.layer, name, None) for name in KERNELS)
    shapes = [latent(kernel).shape for kernel in kernels if kernel is not None]
    return max(shape[:-2].num_elements() or 1 for shape in shapes)


def scale_setter(graph: Graph, tensor: Any, setters: set[str]) -> str | None:
    """The layer that can multiply a branch by alpha, for that branch alone.

    Arguments:
        graph: Of the model.
        tensor: What the sum reads of the branch.
        setters: Names of layers with a scale of their own.
    """
    while graph.sole_consumer(tensor) is not None:
        call = graph.producer(tensor)
        if call is None:
            return None
        if call.name in setters:
            return call.name if len(graph.uses(call.name)) == 1 else None
        opaque = has_kernel(call.layer) or sign_of(call.layer) or is_sum(call)
        before = None if opaque or is_bounded(call.layer) else main_input(call)
        if before is None:
            return None
        tensor = before
    return None


def is_first_sum(graph: Graph, tensor: Any) -> bool:
    """Whether a stream comes from a kernel or the model's input, not from a sum."""
    call = graph.producer(tensor)
    while call and not has_kernel(call.layer):
        before = None if is_sum(call) else main_input(call)
        if before is None:
            return False
        call = graph.producer(before)
    return True
