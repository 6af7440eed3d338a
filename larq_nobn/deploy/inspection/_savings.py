"""What could still be saved in a file, and how."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..lite import Subgraph
from ._chain import Chain
from ._saving_rules import RULES, Saving
from ._stayed_float import stayed_float
from ._work import Layers, kind_of, macs

# A float multiplication takes some nine times as long as a binary one on a phone, so
# from this share of all MACs on, float takes about half of the time.
_LARGE_SHARE = 0.1
# Below that, a constant is not worth a line.
_LARGE_CONSTANT = 256


def savings(
    graphs: Sequence[Subgraph], layers: Sequence[Layers]
) -> list[dict[str, Any]]:
    """Lists what the file shows for certain; equal findings share an entry."""
    chains = [Chain(*pair) for pair in zip(graphs, layers, strict=True)]
    found = [
        *(saving for chain in chains for saving in _in_chain(chain)),
        *_float_share(chains),
        *_stored_twice(chains),
    ]
    where: dict[tuple[str, str], list[str]] = {}
    for layer, finding, remedy in found:
        where.setdefault((finding, remedy), []).append(layer)
    return [
        {"layers": list(dict.fromkeys(names)), "finding": finding, "remedy": remedy}
        for (finding, remedy), names in where.items()
    ]


def _in_chain(chain: Chain) -> Iterator[Saving]:
    rules: tuple[Callable, ...] = (*RULES, stayed_float)
    for rule in rules:
        for op in chain.operations:
            saving = rule(chain, op)
            if saving is not None:
                yield saving


def _float_share(chains: Sequence[Chain]) -> Iterator[Saving]:
    counts: Counter[str] = Counter()
    binary = 0
    for chain in chains:
        for op in chain.operations:
            if kind_of(op) == "binary":
                binary += macs(op)
            elif macs(op):
                counts[chain.layer(op)] += macs(op)
    total = sum(counts.values())
    if binary and total > _LARGE_SHARE * (total + binary):
        layer, most = counts.most_common(1)[0]
        yield Saving(
            layer,
            f"{total / (total + binary):.0%} of all multiplications are not binary, "
            f"and {most / total:.0%} of those are here.",
            "Give it fewer channels or a larger stride, or split it into groups or "
            "into a depthwise and a 1x1 convolution.",
        )


def _stored_twice(chains: Sequence[Chain]) -> Iterator[Saving]:
    copies: dict[bytes, dict[int, str]] = {}
    for chain in chains:
        for op in chain.operations:
            for tensor in op.constants:
                if tensor.bytes >= _LARGE_CONSTANT:
                    content = bytes(tensor.data or b"")
                    first = copies.setdefault(content, {})
                    first.setdefault(tensor.buffer, chain.layer(op))
    for content, layers in copies.items():
        if len(layers) > 1:
            size = (len(layers) - 1) * len(content)
            for layer in layers.values():
                yield Saving(
                    layer,
                    f"Equal constants are stored {len(layers)} times, which takes "
                    f"{size / 1e3:,.1f} kB.",
                    "Convert the model again with LCE 0.16, which stores them once.",
                )
