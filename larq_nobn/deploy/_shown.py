"""The base class of results, which are shown as plain JSON and as tables."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from dataclasses import asdict
from typing import Any

from rich.table import Table

from .._files import replacing
from .._tables import as_text


class Shown(ABC):
    """A dataclass that is shown as JSON and as a table."""

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as plain JSON types."""
        return asdict(self)  # type: ignore[call-overload]  # subclasses are dataclasses

    def to_json(self, path: str | os.PathLike | None = None) -> str:
        """Returns the fields as JSON, and writes them to `path` if given."""
        text = json.dumps(self.to_dict(), indent=2)
        if path is not None:
            with replacing(path) as temporary:
                temporary.write_text(text + "\n")
        return text

    @abstractmethod
    def table(self) -> Table:
        """Returns the fields as a `rich` table."""

    def tables(self) -> list[Table]:
        """Returns all tables to print."""
        return [self.table()]

    def __str__(self) -> str:
        return "\n".join(map(as_text, self.tables()))
