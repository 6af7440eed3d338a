"""Python as pages print it, on networks that are cut down to a step."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from unittest.mock import patch

import larq_nobn as nobn
import pytest
from larq_nobn.config import _presets
from tf_keras import Model

Smaller = Mapping[str, str | Callable[[re.Match[str]], str]]


def run(text: str, smaller: Smaller, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs a text with what patterns replace; nothing is trained or compared for long.

    The contract and the tests of conversion know what that leaves out.
    """
    fit, convert = Model.fit, nobn.convert

    def short(self: Model, data: Any, epochs: int = 1, **options: Any) -> Any:
        self.run_eagerly = True  # a graph is traced for seconds
        return fit(self, data.take(1), verbose=0)

    def unverified(*arguments: Any, **options: Any) -> Any:
        return convert(*arguments, **{**options, "verify": False})

    monkeypatch.setattr(Model, "fit", short)
    monkeypatch.setattr(nobn, "convert", unverified)
    for pattern, replacement in smaller.items():
        text = re.sub(pattern, replacement, text)
    with patch.dict(_presets.RECIPES):  # which it may add to
        exec(text, {"__name__": "example"})
