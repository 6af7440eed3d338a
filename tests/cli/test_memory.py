"""--memory: what needs more ends with one sentence, also where native code aborts."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import fresh
import pytest
from cli.answers import one_sentence
from cli.conftest import Invoke
from larq_nobn.cli import _memory
from loading import hostile

pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")


@pytest.mark.parametrize(
    ("word", "size"),
    [
        ("4GiB", 4 * 2**30),
        ("2.5gb", 2_500_000_000),
        ("3000MB", 3 * 10**9),
    ],
)
def test_sizes(word: str, size: int):
    assert _memory.read_size(word) == size


@pytest.mark.parametrize("word", ["4", "4G", "GB", "1.99GB"])
def test_words_that_are_no_sizes(word: str, invoke: Invoke):
    said = one_sentence(invoke("audit", __file__, f"--memory={word}"))
    assert f"{word!r} is not a size of 2GB or more, such as 8GB or 8GiB" in said


COMMAND = "from larq_nobn.cli import main; main()"


def test_a_model_of_ten_billion_units(tmp_path: Path):
    change = hostile.of_dense(units=10**10)
    file = hostile.changed(
        hostile.saved(tmp_path)[".keras"], tmp_path / "large.keras", change
    )
    done = fresh.run(COMMAND, ["summary", file, "--memory", "4GB"])
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("Error: There is not enough memory. Choose ")
    assert done.stderr.count("\n") == 1


def let_child_run(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts a program in the place of the child that gets the limit."""
    words = [sys.executable, "-c", code]
    monkeypatch.setattr(
        os, "fork", lambda: os.posix_spawn(sys.executable, words, os.environ)
    )


def test_a_child_that_native_code_has_ended(monkeypatch: pytest.MonkeyPatch):
    let_child_run("import os; os.abort()", monkeypatch)
    with pytest.raises(MemoryError):
        _memory.limit_memory(4 * 10**9)


@pytest.mark.parametrize("code", [0, 2])
def test_the_command_ends_as_its_child(code: int, monkeypatch: pytest.MonkeyPatch):
    let_child_run(f"raise SystemExit({code})", monkeypatch)
    with pytest.raises(SystemExit) as caught:
        _memory.limit_memory(4 * 10**9)
    assert caught.value.code == code


def test_a_signal_reaches_the_child(monkeypatch: pytest.MonkeyPatch):
    let_child_run(
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGINT, lambda *_: sys.exit(130))\n"
        "time.sleep(0.3)\n"
        "os.kill(os.getppid(), signal.SIGINT)\n"
        "time.sleep(600)",
        monkeypatch,
    )
    with pytest.raises(SystemExit) as caught:
        _memory.limit_memory(4 * 10**9)
    assert caught.value.code == 130


def test_a_platform_without_limits_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setitem(sys.modules, "resource", None)
    _memory.limit_memory(4 * 10**9)
    assert capsys.readouterr().err == "--memory has no effect on this platform.\n"
