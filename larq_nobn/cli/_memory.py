"""A limit of memory, for commands that open files of others."""

from __future__ import annotations

import os
import re
import signal
import sys
from contextlib import suppress

import click

from .. import _signals
from .._errors import InvalidValue

_UNITS = {"m": 2, "g": 3, "t": 4}
_LEAST = 2 * 1000**3  # about what TensorFlow takes to be imported


def read_size(word: str) -> int:
    """Returns the bytes of a size such as 4GB, of 1000 each, or 4GiB, of 1024 each.

    Raises:
        InvalidValue: If it is not of this form, or less than TensorFlow takes.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([mgt])(i?)b", word.strip().lower())
    if match is None:
        raise InvalidValue(word)
    number, unit, binary = match.groups()
    size = int(float(number) * (1024 if binary else 1000) ** _UNITS[unit])
    if size < _LEAST:
        raise InvalidValue(word)
    return size


def limit_memory(size: int) -> None:
    """Lets the command have so many bytes of addresses, and waits for its end.

    Native code that is given no memory ends its process without a word. So this returns
    in a child process alone; the parent ends as the child does.

    Raises:
        MemoryError: If the child was ended so.
    """
    try:
        import resource
    except ImportError:  # on Windows
        click.echo("--memory has no effect on this platform.", err=True)
        return
    child = os.fork()
    if child == 0:
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        least = size if most == resource.RLIM_INFINITY else min(size, most)
        resource.setrlimit(resource.RLIMIT_AS, (least, most))
        return
    code = _wait(child)
    if code < 0:
        raise MemoryError
    sys.exit(code)


def _wait(child: int) -> int:
    """Returns how a process has ended, which gets the signals that this one gets."""
    while True:
        number = signal.SIGINT
        try:
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        except _signals.Terminated:
            number = signal.SIGTERM
        except KeyboardInterrupt:
            pass
        with suppress(ProcessLookupError):
            os.kill(child, number)
