"""What is remembered of a folder from one time to the next, outside of it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from ..._files import replacing
from ._listing import Entry

_VERSION = 1


def cache_folder() -> Path:
    """Where this package keeps what it can find out again.

    That is `LARQ_NOBN_CACHE` if this variable is set, and else `larq_nobn` in the
    user's folder for such things.
    """
    chosen = os.environ.get("LARQ_NOBN_CACHE")
    if chosen:
        return Path(chosen)
    usual = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(usual) / "larq_nobn"


class Notes:
    """A file in the user's cache folder; without it, all is found out again.

    Arguments:
        root: The folder of pictures.
    """

    def __init__(self, root: Path) -> None:
        name = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:32]
        self._target = cache_folder() / "folders" / f"{name}.json"
        self._files: dict[str, list] = {}
        self._statistics: dict[str, list] = {}
        with contextlib.suppress(
            OSError, ValueError, KeyError, TypeError, RecursionError
        ):
            found = json.loads(self._target.read_text(encoding="utf-8"))
            if found["version"] == _VERSION:
                self._files = dict(found["files"])
                self._statistics = dict(found["statistics"])

    def of_file(self, entry: Entry) -> tuple | None:
        """What was found in a file, unless it has changed since, or was unreadable."""
        noted = self._files.get(entry.path)
        if not isinstance(noted, list) or noted[:2] != [entry.size, entry.changed]:
            return None
        return None if noted[-1] is not None else tuple(noted[2:])

    def note_file(self, entry: Entry, found: tuple) -> None:
        """Remembers what was found in a file."""
        self._files[entry.path] = [entry.size, entry.changed, *found]

    def statistics(self, key: str) -> Any:
        """What was noted under a key; None if nothing was."""
        return self._statistics.get(key)

    def note_statistics(self, key: str, values: Any) -> None:
        """Remembers numbers under a key."""
        self._statistics[key] = values
        self.keep()

    def keep(self) -> None:
        """Writes all of it, if there is a place for it."""
        content = {
            "version": _VERSION,
            "files": self._files,
            "statistics": self._statistics,
        }
        with contextlib.suppress(OSError):
            self._target.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self._target) as temporary:
                temporary.write_text(json.dumps(content), encoding="utf-8")
