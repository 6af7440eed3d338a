"""What commands answer, to bad input too."""

from __future__ import annotations

import json
from collections.abc import Callable

from click.testing import Result


def one_sentence(result: Result) -> str:
    """Returns the one line that a command wrote to stderr before exit code 2."""
    assert result.exit_code == 2, (result.output, result.exception)
    assert isinstance(result.exception, SystemExit)
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("Error: ")
    assert "Traceback" not in result.output
    return result.stderr.strip()


def predictions(invoke: Callable[..., Result], *arguments: object) -> list[dict]:
    """Returns what `predict` says of each image."""
    result = invoke("predict", *arguments, "--json", "-")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)
