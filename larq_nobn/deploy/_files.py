"""Writes a file entirely, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

from ._errors import ConversionError


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary file beside `path` that takes its place if all goes well.

    Raises:
        ConversionError: If the file cannot be written. Whatever goes wrong, `path` is
            what it was before.
    """
    target = Path(path)
    try:
        with NamedTemporaryFile(dir=target.parent, prefix=".", delete=False) as file:
            temporary = Path(file.name)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        yield temporary
        # Temporary files are private; this one shall be as readable as any other.
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, target)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _unwritable(path: str | os.PathLike, error: OSError) -> ConversionError:
    return ConversionError(
        f"{os.fspath(path)!r} cannot be written: {error.strerror}. Pass a path in an "
        "existing folder with room for the file and permission to write."
    )
