"""Ctrl-C and SIGTERM: they end a training, even when Python loses them."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from larq_nobn import _signals, training
from click.testing import CliRunner
from larq_nobn._signals import stoppable
from larq_nobn.cli import _epoch_progress, _exit, main
from larq_nobn.training._checkpoints import newest_position
from larq_nobn.training._stopping import StopCheck

RAISES = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: training.Terminated}
TINY = (
    *("train", "--recipe", "plain", "--dataset", "digits", "--width", "4"),
    *("--blocks", "1", "--epochs", "2", "--batch-size", "32", "--limit", "32"),
)


@pytest.fixture(autouse=True)
def usual_handlers() -> Iterator[None]:
    """Those of a foreground process: one that a shell started after & ignores
    Ctrl-C."""
    usual = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
    }
    before = {number: signal.signal(number, usual[number]) for number in usual}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Freed:
    """Raises where Python ignores it."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __del__(self) -> None:
        signal.raise_signal(self._number)


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in RAISES]


@pytest.mark.parametrize("number", list(RAISES))
def test_a_signal_ends_what_is_inside_and_a_lost_one_is_raised_after_the_batch(
    number: int, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(RAISES[number]), stoppable():
        signal.raise_signal(number)
        pytest.fail("nothing was raised")
    ignored: list[type] = []
    monkeypatch.setattr(
        sys, "unraisablehook", lambda actual: ignored.append(actual.exc_type)
    )
    before = handlers()
    check = StopCheck()
    with pytest.raises(RAISES[number]), stoppable(), stoppable():
        check.on_train_batch_end(0)
        Freed(number)
        assert ignored == [RAISES[number]]
        with pytest.raises(RAISES[number]):
            check.on_train_batch_end(1)
        check.on_test_batch_end(0)
    assert handlers() == before
    assert _signals.stopped_by is None  # of the next training
    check.on_train_batch_end(0)
    assert issubclass(training.Terminated, SystemExit)  # scripts end with it
    assert training.Terminated().code == 143


def stopped_in(
    epoch: int, number: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[int, str]:
    """Exit code and last line of a command that gets a signal as an epoch starts."""

    def on_epoch_begin(self: object, now: int, logs: object = None) -> None:
        if now == epoch:
            signal.raise_signal(number)

    shown = _epoch_progress.TrainingProgress
    monkeypatch.setattr(shown, "on_epoch_begin", on_epoch_begin)
    result = CliRunner().invoke(main, [*TINY, "--output", str(folder)])
    return result.exit_code, result.stderr.splitlines()[-1]


@pytest.mark.usefixtures("little_network")
def test_the_command_says_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "run"
    stopped = "Stopped; nothing half-written is left."
    code, line = stopped_in(0, signal.SIGTERM, folder, monkeypatch)
    assert code == 143
    assert line == f"{stopped} To start again, repeat the command."
    code, line = stopped_in(1, signal.SIGINT, folder, monkeypatch)
    assert (code, line) == (
        130,
        f"{stopped} {folder} is saved up to epoch 1. To resume: larq-nobn train "
        f"--resume {folder}",
    )
    assert newest_position(folder) == (1, 0)
    first = tmp_path / "two" / "stage1"  # which is finished
    first.mkdir(parents=True)
    said = _exit._how_to_resume({_exit.RUN: first.parent})
    assert said == f" To resume: larq-nobn train --resume {first.parent}"
    code, line = stopped_in(9, signal.SIGINT, folder, monkeypatch)
    assert (code, line) == (
        2,
        f"Error: {folder} is not empty, and a run never overwrites another. Choose "
        "another output, or resume it by --resume (resume=True).",
    )
