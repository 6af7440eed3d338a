"""Files: written atomically, read from anybody; and the cache folder."""

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
# What readers of ZIP, HDF5, NumPy and JSON raise for other bytes.
UNREADABLE = (
    *(ValueError, TypeError, KeyError, OSError, EOFError, RuntimeError),
    *(BadZipFile, zlib.error),
)
# A few bytes may stand for so many: an archive of zeros, or one made to fill a disk.
_RATIO, _FREE = 64, 1 << 26
_LARGEST = sys.float_info.max


def reject_expansion(unpacked: int, stored: int) -> None:
    """Raises ValueError if so many stored bytes would become too many in memory."""
    if unpacked > _FREE + _RATIO * stored:
        raise InvalidValue(
            f"it would grow from {stored:,} to {unpacked:,} bytes when it is read"
        )


def check_zip(archive: ZipFile) -> None:
    """Raises ValueError if an archive would take far more memory than it is large."""
    assert archive.fp is not None  # which a closed archive has no more
    unpacked = sum(member.file_size for member in archive.infolist())
    reject_expansion(unpacked, archive.fp.seek(0, os.SEEK_END))


def read_arrays(file: Path | memoryview) -> dict[str, np.ndarray]:
    """Returns the arrays of a NumPy archive, or of its content, of anybody.

    Raises OSError if it cannot be opened, and ValueError if it is no such archive, or
    would take far more memory than it is large.
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
    """Returns what JSON of anybody says; raises ValueError if it is none."""
    try:
        return json.loads(content)
    except RecursionError as error:
        raise InvalidValue("it is nested too deep") from error


def check_shape(value: Any, wanted: Any, place: str = "it") -> None:
    """Raises unless what JSON says at a place is of the wanted types.

    That is a type, or several; a list of one, for every element; or a dictionary of
    those that have to be there.
    """
    kinds: Any = wanted if isinstance(wanted, type | tuple) else type(wanted)
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    flag = isinstance(value, bool) and bool not in kinds
    # A whole number of hundreds of digits is not a float.
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
    """Returns the folder for what can be computed again.

    That is the variable `LARQ_NOBN_CACHE`, or `larq_nobn` in the user's cache folder.
    """
    chosen = os.environ.get("LARQ_NOBN_CACHE")
    if chosen:
        return Path(chosen)
    in_home = os.path.join("~", ".cache")
    usual = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser(in_home)
    if usual == in_home:
        raise OSError(
            "This user has no home folder, and so no cache. Choose a folder for it by "
            "LARQ_NOBN_CACHE."
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
    """All files in a folder and those in it; what is not a folder is a file.

    Looks at files and folders whose name counts. Links may lead to one folder in many
    ways, or in circles: each is read once, if links are followed.
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
    """Checks that there is a folder, or that one can be made."""
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
    """Yields a temporary file beside `path` that takes its place if all goes well.

    The file has reached the disk before it takes the place, so that a machine that
    loses power finds either the old one or the new one. A process that is killed leaves
    the temporary file, which `is_leftover` recognises.

    Raises:
        OSError: If the file cannot be written; one sentence says what to do. Whatever
            goes wrong, `path` is what it was before.
    """
    target = Path(path)
    # With the suffix, by which Keras and matplotlib choose the format.
    temporary = target.parent / f"{_PREFIX}{secrets.token_hex(8)}{target.suffix}"
    try:
        # As readable as any other file of the user, by the umask.
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
    """Whether `replacing` was killed before it could remove this file."""
    return path.name.startswith(_PREFIX)


def _flush(path: Path) -> None:
    """Waits until a file, or a folder's list of files, is on the disk."""
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def unwritable(target: Path, error: OSError) -> OSError:
    """Returns what is raised for a path that cannot be written, with what to do."""
    if error.errno is None:  # a sentence of this package, about another file
        return error
    reason = error.strerror or str(error)
    return type(error)(
        f"{os.fspath(target)!r} cannot be written: {reason}. Pass a path in an "
        "existing folder with room for the file and permission to write."
    )
