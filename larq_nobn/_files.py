"""Writes files atomically, and knows the cache folder."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PREFIX = ".partial-"


def cache_folder() -> Path:
    """Returns the folder for what can be computed again.

    That is the variable `LARQ_NOBN_CACHE`, or `larq_nobn` in the user's cache folder.
    """
    chosen = os.environ.get("LARQ_NOBN_CACHE")
    if chosen:
        return Path(chosen)
    usual = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(usual) / "larq_nobn"


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary file beside `path` that takes its place if all goes well.

    The file has reached the disk before it takes the place, so that a machine that
    loses power finds either the old one or the new one. A process that is killed leaves
    the temporary file, which `is_leftover` recognises.

    Raises:
        OSError: If the file cannot be written; one sentence says what to do. Whatever
            goes wrong, `path` is what it was before.
    """
    target = Path(path)
    try:
        # Keras and matplotlib choose the format by the suffix, so that one is kept.
        handle, name = tempfile.mkstemp(
            dir=target.parent, prefix=_PREFIX, suffix=target.suffix
        )
    except OSError as error:
        raise _unwritable(target, error) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # Temporary files are private; this one shall be as readable as any other.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        _flush(temporary)
        os.replace(temporary, target)
        if os.name == "posix":  # elsewhere a folder cannot be opened
            _flush(target.parent)
    except OSError as error:
        raise _unwritable(target, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def is_leftover(path: Path) -> bool:
    """Whether `replacing` was killed before it could remove this file."""
    return path.name.startswith(_PREFIX)


def _flush(path: Path) -> None:
    """Waits until a file, or a folder's list of files, is on the disk."""
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unwritable(target: Path, error: OSError) -> OSError:
    reason = error.strerror or str(error)
    return type(error)(
        f"{os.fspath(target)!r} cannot be written: {reason}. Pass a path in an "
        "existing folder with room for the file and permission to write."
    )
