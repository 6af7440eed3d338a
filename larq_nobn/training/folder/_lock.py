"""A lock on a folder, which ends with the process that has it."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ...config._run_files import LOCK

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
    lock = FileLock(path, timeout=0, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout as error:
        owner = ""
        with suppress(OSError):  # it ends at this moment
            owner = path.read_text()
        raise RunInUse(
            f"{folder} is in use: {owner or 'another process'} trains in it. Wait "
            "until it has ended, or choose another output."
        ) from error
    except OSError as error:
        if error.filename is not None:  # of the file, not of its lock
            raise
        _log.warning(
            "Cannot lock %s (%s). Make sure that no other process uses it.",
            folder,
            error.strerror,
        )
    try:
        with suppress(OSError):  # a full disk; what is written next will say so
            path.write_text(f"process {os.getpid()} on {socket.gethostname()}")
        yield
    finally:
        path.unlink(missing_ok=True)
        lock.release()


def check_not_in_use(folder: Path) -> None:
    """Raises what `locked` does; the folder need not exist."""
    if (folder / LOCK).is_file():
        with locked(folder):
            pass
