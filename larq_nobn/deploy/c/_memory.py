"""Plans where maps lie in the memory of a C file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# A plan may exceed the minimum by this factor; at most so many plans are tried.
_ABOVE, _TRIES = 1.1, 500


class Block(NamedTuple):
    """A part of the memory: its size, and the first and last call that need it."""

    size: int
    first: int
    last: int


def least(blocks: Sequence[Block]) -> int:
    """Returns the largest sum of blocks that are needed at one time."""
    times = {block.first for block in blocks}
    sums = (sum(b.size for b in blocks if b.first <= t <= b.last) for t in times)
    return max(sums, default=0)


def plan(blocks: Sequence[Block]) -> tuple[list[int], int]:
    """Returns the start of each block, and the size of the memory.

    The largest blocks are placed first, each at the lowest free place. While the memory
    is more than a tenth above `least`, blocks that end highest are placed earlier.
    """
    order = sorted(range(len(blocks)), key=lambda i: (-blocks[i].size, blocks[i].first))
    best, limit = _placed(blocks, order), _ABOVE * least(blocks)
    tried, random = best, np.random.default_rng(0)
    for _ in range(_TRIES):
        if best[1] <= limit:
            break
        starts, size = tried
        high = [i for i in order if starts[i] + blocks[i].size == size]
        order.remove(high[0])
        order.insert(int(random.integers(len(order) + 1)), high[0])
        tried = _placed(blocks, order)
        best = min(best, tried, key=lambda placed: placed[1])
    return best


def _placed(blocks: Sequence[Block], order: Sequence[int]) -> tuple[list[int], int]:
    starts, placed = [0] * len(blocks), list[int]()
    for i in order:
        block, start = blocks[i], 0
        for j in sorted(placed, key=starts.__getitem__):
            other = blocks[j]
            if other.last < block.first or block.last < other.first:
                continue
            if start + block.size <= starts[j]:
                break
            start = max(start, starts[j] + other.size)
        starts[i] = start
        placed.append(i)
    return starts, max(
        (s + b.size for s, b in zip(starts, blocks, strict=True)), default=0
    )
