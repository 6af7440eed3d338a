"""What a `larq-nobn train` command trains, and what runs it at once in tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from larq_nobn import training
from click.testing import CliRunner
from larq_nobn.cli import main


class Found(BaseException):
    """Instead of a training."""


def settings_of(
    command: Sequence[str],
) -> tuple[training.RunSettings, Path, dict[str, Any]]:
    """Returns settings, output and options that `train` is called with."""

    def train(settings: object, output: object, _: object, **options: object) -> None:
        raise Found(settings, output, options)

    assert command[1:4] == ["-m", "larq_nobn", "train"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "train", train)
        with pytest.raises(Found) as caught:
            CliRunner().invoke(main, command[3:], catch_exceptions=False)
    settings, output, options = caught.value.args
    return settings, output, options


Submit = Callable[[Sequence[str]], "Future[CompletedProcess[str]]"]
Train = Callable[[training.RunSettings, Path], "str | None"]


def executing(train: Train) -> Callable[..., AbstractContextManager[Submit]]:
    """Returns what executes commands in this process.

    Arguments:
        train: Takes settings and folder; returns what a command that fails says.
    """

    def submit(command: Sequence[str]) -> Future[CompletedProcess[str]]:
        settings, output, options = settings_of(command)
        assert options["resume"] and not options["trust"]
        future: Future[CompletedProcess[str]] = Future()
        said = train(settings, output)
        code = 0 if said is None else 2
        future.set_result(CompletedProcess(command, code, stderr=said or ""))
        return future

    @contextmanager
    def execute(*_: object) -> Iterator[Submit]:
        yield submit

    return execute
