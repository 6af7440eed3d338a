"""A lock on a folder, which ends with the process that has it."""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, where nothing is locked
    fcntl = None  # type: ignore[assignment]

_log = logging.getLogger("larq_nobn")
LOCK = ".lock"
# What a system says of a lock that another process has.
_TAKEN = (errno.EACCES, errno.EAGAIN)
# Such locks belong to processes, so that this one's have to be known here: the path of
# each, and the process, which a copy of it made by fork is not.
_held: dict[str, int] = {}
_guard = threading.Lock()


class RunInUse(FileExistsError):
    """Another process trains in a run folder; the message says which."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps a folder for this process, on this machine and on others that see it.

    The lock is one of POSIX, which network file systems know too, on a file that is
    removed afterwards. It ends with the process, however that ends; the file alone
    means nothing. Where files cannot be locked a warning says so, and it goes on.

    Arguments:
        folder: Where the file is; it exists.

    Raises:
        RunInUse: If another process, or another part of this one, has the lock.
    """
    if fcntl is None:
        yield
        return
    path = folder / LOCK
    name = os.path.realpath(path)
    handle = None
    while handle is None:
        handle = _taken(path, name)
    try:
        yield
    finally:
        with _guard:
            path.unlink(missing_ok=True)
            os.close(handle)
            del _held[name]


def refuse_if_in_use(folder: Path) -> None:
    """Raises what `locked` does; the folder need not exist.

    Raises:
        RunInUse: If another process, or another part of this one, has the lock.
    """
    if (folder / LOCK).is_file():
        with locked(folder):
            pass


def _taken(path: Path, name: str) -> int | None:
    """The open file with the lock; None if the file was removed meanwhile."""
    with _guard:
        # Nor must it be opened here: the first to close it would end the lock.
        if _held.get(name) == os.getpid():
            raise _in_use(path, "this process trains in it already")
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(handle, path)
            # Its owner removes the file before it lets go of it.
            if not path.exists() or not os.path.samestat(os.fstat(handle), path.stat()):
                os.close(handle)
                return None
            owner = {"host": socket.gethostname(), "pid": os.getpid()}
            os.ftruncate(handle, 0)
            os.write(handle, json.dumps(owner).encode())
        except BaseException:
            os.close(handle)
            raise
        _held[name] = os.getpid()
        return handle


def _lock(handle: int, path: Path) -> None:
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _TAKEN:
            raise _in_use(path, _owner(handle)) from error
        _log.warning(
            "%s lies where files cannot be locked (%s): see to it that no other "
            "process trains there.",
            path.parent,
            error.strerror,
        )


def _owner(handle: int) -> str:
    try:
        owner = json.loads(os.read(handle, 1000))
        return f"process {owner['pid']} on {owner['host']} trains in it"
    except (ValueError, TypeError, KeyError):  # not written yet
        return "another process trains in it"


def _in_use(path: Path, owner: str) -> RunInUse:
    return RunInUse(
        f"{path.parent} is in use: {owner}. Wait until it has ended, or choose another "
        "output."
    )
