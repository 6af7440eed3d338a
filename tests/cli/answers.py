"""What an answer to bad input looks like."""

from __future__ import annotations

from click.testing import Result


def one_sentence(result: Result) -> str:
    """Returns the one line that a command wrote to stderr before exit code 2."""
    assert result.exit_code == 2, (result.output, result.exception)
    assert isinstance(result.exception, SystemExit)
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("Error: ")
    assert "Traceback" not in result.output
    return result.stderr.strip()
