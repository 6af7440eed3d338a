"""What Larq says when a layer is made."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_starvation_warning() -> Iterator[None]:
    """Mutes the advice to give a binary kernel a constraint.

    Standardized kernels cannot starve, and of a layer that is only made again the user
    has been told before.
    """
    log = logging.getLogger("larq.layers_base")
    before = log.disabled
    log.disabled = True
    try:
        yield
    finally:
        log.disabled = before
