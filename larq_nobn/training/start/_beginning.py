"""The weights that a run begins with, told once and kept for its record."""

from __future__ import annotations

import logging
from typing import Any

from ..._keras import keras
from ..settings import RunSettings
from ._source import opened
from ._transfer import Transfer, transfer

# Below the package's own, so that a program can show it alone.
_log = logging.getLogger("larq_nobn.start")


class Beginning:
    """What a run takes from `init` before its first step, and never again.

    Checkpoints hold what was taken, so a run that goes on opens no other network for
    it.

    Arguments:
        settings: Those of the run.
        applies: Whether the run begins with `init`, and not where a stage ended.
        trust: Whether code from the file of `init` may run.
    """

    def __init__(
        self, settings: RunSettings, applies: bool = True, trust: bool = False
    ) -> None:
        self._settings = settings
        self._trust = trust
        self._applies = applies and settings.init is not None
        self._found: dict[str, Any] | None = None

    @property
    def stateful(self) -> dict[str, Beginning]:
        """What a checkpoint has to hold of it: nothing where nothing is taken."""
        return {"init": self} if self._applies else {}

    @property
    def record(self) -> dict[str, Any]:
        """What `run.json` says of it."""
        return {} if self._found is None else {"init": self._found}

    def fill(self, network: keras.Model) -> None:
        """Gives the network the weights that fit it, and says which."""
        if not self._applies:
            return
        found: Transfer = transfer(
            opened(self._settings, self._trust), network, str(self._settings.init)
        )
        self._found = found.to_dict()
        _log.info("%s", found)

    def get_state(self) -> dict[str, Any] | None:
        """Returns what was taken, for a checkpoint."""
        return self._found

    def set_state(self, state: dict[str, Any] | None) -> None:
        """Takes over what a checkpoint says was taken."""
        self._found = state
