"""Whether this process is the command `larq-nobn`, which imports late.

`import larq_nobn` imports TensorFlow and registers every class, so that Keras can open
files with them. The command does so when it first needs a network: reading a command
line, `--help` and completion take a tenth of that time.
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
    """Whether Python was started as `larq-nobn` or `python -m larq_nobn`.

    Processes that the command starts have its `sys.argv`, but no such command line.
    """
    script = next(iter(sys.argv), "")
    if script == "-m":  # which becomes a path once the module is found
        at = sys.orig_argv.index("-m") + 1 if "-m" in sys.orig_argv else 0
        return sys.orig_argv[at : at + 1] == [_PACKAGE]
    name = Path(script)  # of a user's own script, it ends in .py
    return script in sys.orig_argv and name.stem == _PROGRAM and name.suffix != ".py"


class Late(ModuleType):
    """Stands for TensorFlow, or a part of the package, until something is needed."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        if self.__name__.startswith(_PACKAGE):
            import_all()
        return getattr(importlib.import_module(self.__name__), name)


# Whether the package has left out what needs TensorFlow.
late = _is_command()
if late:
    if "tensorflow" not in sys.modules and (spec := find_spec("tensorflow")):
        sys.modules["tensorflow"] = Late("tensorflow")
        sys.modules["tensorflow"].__spec__ = spec
    atexit.register(_signals.leave)  # what is registered first is called last
    _signals.handle_signals(_signals.stop_at_once, *_signals.USUAL)


def import_all() -> None:
    """Imports what the command has left out so far, as `import larq_nobn` does."""
    global late
    if late:
        late = False
        importlib.reload(sys.modules[_PACKAGE])


@contextmanager
def native_stderr_closed() -> Iterator[None]:
    """Sends what native code writes to standard error nowhere.

    TensorFlow's first messages ignore log levels. With TF_CPP_MIN_LOG_LEVEL set to 0 or
    1 they are shown all the same.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2") in ("0", "1"):
        yield
        return
    try:
        kept = os.dup(2)
    except OSError:  # a process without standard error
        yield
        return
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
