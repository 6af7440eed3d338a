"""A lock on a folder, which ends with the process that has it."""

from __future__ import annotations

import json
import logging
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ..._run_files import LOCK

_log = logging.getLogger("larq_nobn")


class RunInUse(FileExistsError):
    """Another process trains in a run folder; the message says which."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps a folder for this process, on this machine and on others that see it.

    The lock is on a file that is removed afterwards. It ends with the process, however
    that ends; the file alone means nothing. Where files cannot be locked a warning says
    so, and it continues.

    Raises:
        RunInUse: If another process, or another part of this one, has the lock.
        OSError: If the file is something else, or may not be written.
    """
    path = folder / LOCK
    if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
        kind = "a link" if path.is_symlink() else "a folder or a device"
        raise FileExistsError(
            f"{path} is {kind}, but a training locks its folder by a file of that "
            "name. Remove it, or choose another output."
        )
    lock = FileLock(path, timeout=0, thread_local=False, fallback_to_soft=False)
    _acquire(lock, path)
    try:
        owner = {"host": socket.gethostname(), "pid": os.getpid()}
        with suppress(OSError):  # a full disk; what is written next will say so
            path.write_text(json.dumps(owner))
        yield
    finally:
        with suppress(OSError):  # Windows removes no file that is open
            path.unlink()
        lock.release()


def _acquire(lock: FileLock, path: Path) -> None:
    while not lock.is_locked:
        try:
            lock.acquire()
        except Timeout as error:
            # Its owner removes the file before it releases it.
            if path.exists():
                raise RunInUse(
                    f"{path.parent} is in use: {_owner(path)}. Wait until it has "
                    "ended, or choose another output."
                ) from error
        except OSError as error:
            if error.filename is not None:  # of the file, not of its lock
                raise
            _log.warning(
                "Cannot lock %s (%s). Make sure that no other process uses it.",
                path.parent,
                error.strerror,
            )
            return


def check_not_in_use(folder: Path) -> None:
    """Raises what `locked` does; the folder need not exist."""
    if (folder / LOCK).is_file():
        with locked(folder):
            pass


def _owner(path: Path) -> str:
    try:
        with path.open("rb") as file:
            owner = json.loads(file.read(1000))
        if owner == {"host": socket.gethostname(), "pid": os.getpid()}:
            return "this process trains in it already"
        return f"process {owner['pid']} on {owner['host']} trains in it"
    except (
        OSError,
        ValueError,
        TypeError,
        KeyError,
        RecursionError,
    ):  # not written yet
        return "another process trains in it"
