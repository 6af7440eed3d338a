"""Reports the progress of long computations to a function, if there is one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

# A function of a text, the completed steps, and the total steps or None.
Watch = Callable[[str, int, int | None], object]


_watch: ContextVar[Watch] = ContextVar("watch", default=lambda *_: None)


def step(text: str, done: int = 0, total: int | None = None) -> None:
    """Reports the present work, such as "Verifying segments", and its progress."""
    _watch.get()(text, done, total)


@contextmanager
def watched(by: Watch) -> Iterator[None]:
    """Calls `by` at every step of the block."""
    token = _watch.set(by)
    try:
        yield
    finally:
        _watch.reset(token)
