"""Writes files atomically, reads untrusted files, and finds the cache folder."""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np

from ._errors import InvalidValue

_PREFIX = ".partial-"
# Errors that readers of ZIP, HDF5, NumPy and JSON raise for damaged files.
UNREADABLE = (
    *(ValueError, TypeError, KeyError, OSError, EOFError, RuntimeError),
    *(BadZipFile, zlib.error),
)
# Largest expansion of a file, as a ratio, and the bytes that are always allowed. An
# archive of zeros, or a malicious one, expands to any size.
_RATIO, _FREE = 64, 1 << 26
_LARGEST = sys.float_info.max


def reject_expansion(unpacked: int, stored: int) -> None:
    """Raises ValueError if `stored` bytes would expand to too many in memory."""
    if unpacked > _FREE + _RATIO * stored:
        raise InvalidValue(
            f"it would grow from {stored:,} to {unpacked:,} bytes when it is read"
        )


def check_zip(archive: ZipFile) -> None:
    """Raises ValueError if an archive would need far more memory than its size."""
    assert archive.fp is not None  # None only after `close`
    unpacked = sum(member.file_size for member in archive.infolist())
    reject_expansion(unpacked, archive.fp.seek(0, os.SEEK_END))


def read_arrays(file: Path | memoryview) -> dict[str, np.ndarray]:
    """Returns the arrays of an untrusted NumPy archive, or of its content.

    Raises OSError if it cannot be opened, and ValueError if it is not such an archive,
    or would need far more memory than its size.
    """
    try:
        with file.open("rb") if isinstance(file, Path) else io.BytesIO(file) as stream:
            check_zip(ZipFile(stream))
            stream.seek(0)
            with np.load(stream, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
    except PermissionError:
        raise
    except UNREADABLE as error:
        raise InvalidValue(str(error)) from error


def parse_json(content: bytes | str) -> Any:
    """Returns the content of untrusted JSON; raises ValueError if it is invalid."""
    try:
        return json.loads(content)
    except RecursionError as error:
        raise InvalidValue("it is nested too deep") from error


def check_shape(value: Any, wanted: Any, place: str = "it") -> None:
    """Raises ValueError unless a value from JSON has the wanted types.

    `wanted` is a type or a tuple of types, a list of one such entry for all elements,
    or a dictionary of such entries for required keys. `place` is for the message.
    """
    kinds: Any = wanted if isinstance(wanted, type | tuple) else type(wanted)
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    flag = isinstance(value, bool) and bool not in kinds
    # A whole number with hundreds of digits cannot become a float.
    huge = isinstance(value, int) and float in kinds and abs(value) > _LARGEST
    if flag or huge or not isinstance(value, kinds):
        text = repr(value)
        shown = text if len(text) <= 40 else f"{text[:40]}..."
        raise InvalidValue(f"{place} is {shown}")
    if isinstance(wanted, dict):
        for name, inner in wanted.items():
            inside = name if place == "it" else f"{place}.{name}"
            if name not in value:
                raise InvalidValue(f"{inside} is missing")
            check_shape(value[name], inner, inside)
    elif isinstance(wanted, list):
        for each in value:
            check_shape(each, wanted[0], place)


def cache_folder() -> Path:
    """Returns the folder for files that can be computed again.

    The environment variable `LARQ_NOBN_CACHE` sets it; the default is `larq_nobn` in
    the user's cache folder.
    """
    chosen = os.environ.get("LARQ_NOBN_CACHE")
    if chosen:
        return Path(chosen)
    in_home = os.path.join("~", ".cache")
    usual = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser(in_home)
    if usual == in_home:
        raise OSError(
            "This user has no home folder for a cache. Set the environment variable "
            "LARQ_NOBN_CACHE to a folder."
        )
    return Path(usual) / "larq_nobn"


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def files_below(
    folder: Path, counts: Callable[[str], bool] = lambda name: True, links: bool = True
) -> Iterator[Path]:
    """Yields all files in a folder and its subfolders, if their name `counts`.

    Subfolders whose name does not count are skipped. If links are followed, each folder
    is read once, although links may lead to it several times or in circles.
    """

    def failed(error: OSError) -> None:
        raise error

    seen: set[str] = set()
    for place, folders, files in os.walk(folder, onerror=failed, followlinks=links):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(filter(counts, folders))
        yield from (Path(place, name) for name in sorted(filter(counts, files)))


def check_folder(path: str | os.PathLike, what: str) -> None:
    """Raises unless a path is a folder or can become one."""
    for entry in (Path(path), *Path(path).parents):
        if entry.is_dir():
            return
        if os.path.lexists(entry):
            kind = "a file" if entry.exists() else "a link that leads nowhere"
            raise NotADirectoryError(
                f"{entry} is {kind}, but {what} needs a folder. Choose another place, "
                "or remove it."
            )


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary file that replaces `path` if the block raises no error.

    The file is on disk before it replaces the old one, so after a loss of power either
    the old or the new file exists. A killed process leaves the temporary file, which
    `is_leftover` recognizes.

    Raises:
        OSError: If the file cannot be written; the message says what to do. After any
            error, `path` is unchanged.
    """
    target = Path(path)
    # Keras and matplotlib choose the format by the suffix.
    temporary = target.parent / f"{_PREFIX}{secrets.token_hex(8)}{target.suffix}"
    try:
        # The umask decides who may read it, as for other files of the user.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise unwritable(target, error) from error
    try:
        yield temporary
        _flush(temporary)
        os.replace(temporary, target)
        if os.name == "posix":  # elsewhere a folder cannot be opened
            _flush(target.parent)
    except OSError as error:
        raise unwritable(target, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def is_leftover(path: Path) -> bool:
    """Tells whether a file is a temporary file of a killed process."""
    return path.name.startswith(_PREFIX)


def _flush(path: Path) -> None:
    """Waits until a file, or a folder's list of files, is on disk."""
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def unwritable(target: Path, error: OSError) -> OSError:
    """Returns the error for a path that cannot be written, with a remedy."""
    if error.errno is None:  # raised by this package, about another file
        return error
    reason = error.strerror or str(error)
    return type(error)(
        f"{os.fspath(target)!r} cannot be written: {reason}. Pass a path in an "
        "existing folder with room for the file and permission to write."
    )
