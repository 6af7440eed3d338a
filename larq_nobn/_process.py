"""Lets the command `larq-nobn` import TensorFlow only when it needs a network.

`import larq_nobn` imports TensorFlow and registers every class, so that Keras can open
files with them. Parsing a command line, `--help` and completion need a tenth of that
time.
"""

from __future__ import annotations

import atexit
import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from . import _signals

_PROGRAM, _PACKAGE = "larq-nobn", "larq_nobn"


def _is_command() -> bool:
    """Tells whether Python was started as `larq-nobn` or `python -m larq_nobn`.

    Processes that the command starts have its `sys.argv`, but another command line.
    """
    script = next(iter(sys.argv), "")
    if script == "-m":  # Python has not found the module's path yet
        at = sys.orig_argv.index("-m") + 1 if "-m" in sys.orig_argv else 0
        return sys.orig_argv[at : at + 1] == [_PACKAGE]
    name = Path(script)  # a user's own script ends in .py
    return script in sys.orig_argv and name.stem == _PROGRAM and name.suffix != ".py"


class Late(ModuleType):
    """A placeholder for a module, which is imported at the first use of a name."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        if self.__name__.startswith(_PACKAGE):
            import_all()
        return getattr(importlib.import_module(self.__name__), name)


# Whether modules that need TensorFlow are not imported yet.
late = _is_command()
if late:
    if "tensorflow" not in sys.modules and (spec := find_spec("tensorflow")):
        sys.modules["tensorflow"] = Late("tensorflow")
        sys.modules["tensorflow"].__spec__ = spec
    atexit.register(_signals.leave)  # registered first, so called last
    _signals.handle_signals(_signals.stop_at_once, *_signals.USUAL)


def import_all() -> None:
    """Imports all modules that the command has not imported so far."""
    global late
    if late:
        late = False
        importlib.reload(sys.modules[_PACKAGE])


@contextmanager
def native_stderr_closed() -> Iterator[None]:
    """Discards messages that native code writes to standard error.

    TensorFlow's first messages ignore log levels. They are shown only if
    TF_CPP_MIN_LOG_LEVEL is 0 or 1.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2") in ("0", "1"):
        yield
        return
    try:
        stderr = os.dup(2)
    except OSError:  # a process without standard error
        yield
        return
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
