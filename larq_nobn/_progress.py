"""Says what a long computation does, to whoever watches; without, to nobody."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

# What is done, how much of it is done, and how much there is, if that is known.
Watch = Callable[[str, int, int | None], object]


_watch: ContextVar[Watch] = ContextVar("watch", default=lambda *_: None)


def step(text: str, done: int = 0, total: int | None = None) -> None:
    """Says what is done now, such as "Verifying segments", and how much of it."""
    _watch.get()(text, done, total)


@contextmanager
def watched(by: Watch) -> Iterator[None]:
    """Has `by` called with every step of the block."""
    token = _watch.set(by)
    try:
        yield
    finally:
        _watch.reset(token)
