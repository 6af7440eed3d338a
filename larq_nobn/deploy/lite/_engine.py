"""The door to Larq Compute Engine, which is an optional dependency."""

from __future__ import annotations

import logging
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .._errors import ConversionError


def compute_engine() -> Any:
    """Imports Larq Compute Engine."""
    try:
        with quiet():
            import larq_compute_engine
    except ImportError as error:
        raise ConversionError(
            "Larq Compute Engine is not installed, and binary .tflite files need it. "
            "Install it with: pip install 'larq-nobn[lce]'"
        ) from error
    return larq_compute_engine


# What MLIR says of an operation, after all the calls that it is in.
_PLACED = re.compile(r'loc\(.*?"(?P<name>[^"@]+)@.*\)(?:: error)?: (?P<said>.+)')


def cause(error: Exception, chatter: str) -> str:
    """Returns the line that says why a native program failed, if that is short."""
    lines = [*chatter.splitlines(), *str(error).splitlines(), repr(error)]
    lines = [line for line in lines if not line.lstrip().startswith("File ")]
    said = next((line for line in lines if "error" in line.lower()), repr(error))
    said = said.strip().removeprefix("ERROR: ").rstrip(".")
    if placed := _PLACED.search(said):
        said = f"{placed['said']} ({placed['name']})"
    return said[:300].rpartition(". ")[0] or said[:300] if said[300:] else said


def _says_more(record: logging.LogRecord) -> bool:
    """Whether TensorFlow says more than that a file to convert has no gradients."""
    return "unsaved custom gradients" not in str(record.msg)


@contextmanager
def quiet() -> Iterator[Callable[[], str]]:
    """Keeps what TensorFlow and MLIR print; yields a function that returns it."""
    logger, absl = logging.getLogger("tensorflow"), logging.getLogger("absl")
    level = logger.level
    sys.stderr.flush()
    with tempfile.TemporaryFile() as kept:
        # MLIR writes to the process's stderr, past sys.stderr.
        stderr = os.dup(2)
        os.dup2(kept.fileno(), 2)
        logger.setLevel(logging.ERROR)
        absl.addFilter(_says_more)

        def chatter() -> str:
            sys.stderr.flush()
            os.fsync(kept.fileno())
            kept.seek(0)
            return kept.read().decode(errors="replace")

        try:
            yield chatter
        finally:
            logger.setLevel(level)
            absl.removeFilter(_says_more)
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
