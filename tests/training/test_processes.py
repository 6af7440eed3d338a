"""Commands of a grid, here and on a cluster: what they leave, say, and end with."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fresh
import pytest
from larq_nobn import training
from larq_nobn.training import RunSettings, _compare
from training.runs import assert_same

# Leaves a file with its process number, and then does what it is told.
SCRIPT = """
import os, signal, sys, time
open(sys.argv[1] + ".new", "w").write(str(os.getpid()))
os.rename(sys.argv[1] + ".new", sys.argv[1])
exec(sys.argv[2])
"""
STAYS = "time.sleep(600)"


def command(file: Path, does: str = "") -> list[str]:
    return [sys.executable, "-S", "-c", SCRIPT, str(file), does]


def soon(actual: Callable[[], object]) -> bool:
    """Whether it is so within half a minute."""
    for _ in range(300):
        if actual():
            return True
        time.sleep(0.1)
    return False


def is_gone(file: Path) -> bool:
    """Whether the process that has left a file ends."""
    place = Path("/proc", file.read_text(), "stat")

    def gone() -> bool:
        try:
            return " Z " in place.read_text()
        except FileNotFoundError:
            return True

    return soon(gone)


def test_what_a_command_says(tmp_path: Path):
    fails = "print('1 image\\nError: It is wrong.', file=sys.stderr); sys.exit(2)"
    with _compare._executing(1, None) as submit:
        for does, said in (
            ("print('well', file=sys.stderr)", (None, ["well"])),
            (fails, ("It is wrong.", ["1 image"])),
        ):
            future = submit(command(tmp_path / "a", does))
            future.exception()
            assert _compare._messages_of(future) == said
        killed = submit(command(tmp_path / "a", "os.kill(os.getpid(), 9)"))
        killed.exception()
        failure, _ = _compare._messages_of(killed)
        assert failure.startswith("Its process ended with exit code -9. If memory")


def test_what_is_stopped_takes_its_processes_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(_compare, "_SECONDS_OF_GRACE", 0.1)
    a, b, c = (tmp_path / name for name in "abc")
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN); open(sys.argv[1] + '!', 'w')"
    with pytest.raises(KeyboardInterrupt), _compare._executing(2, None) as submit:
        commands = command(a, STAYS), command(b, f"{deaf}; {STAYS}"), command(c, STAYS)
        futures = [submit(each) for each in commands]
        assert soon(lambda: a.exists() and (tmp_path / "b!").exists())
        raise KeyboardInterrupt
    assert is_gone(a) and is_gone(b)
    assert not c.exists() and futures[2].cancelled()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two workers, forked off a process that has imported the package."""
    fresh.begin()
    import dask
    from distributed import LocalCluster

    with (
        dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}),
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address=":0",  # any port that is free
            memory_limit=0,
        ) as actual,
    ):
        yield actual


@pytest.mark.slow
def test_workers_of_a_cluster_run_commands(cluster: Any, tmp_path: Path):
    """The second one loses its worker, and another takes it up."""
    dies = "os.path.exists('again') or (open('again', 'w'), os.kill(os.getppid(), 9))"
    files = [tmp_path / name for name in "ab"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        with _compare._executing(1, cluster.scheduler_address) as submit:
            futures = [
                submit(command(files[0], "print(5, file=sys.stderr)")),
                submit(command(files[1], dies)),
            ]
            actual = [_compare._messages_of(each) for each in futures]
            assert actual == [(None, ["5"]), (None, [])]


def test_an_address_without_a_scheduler_is_a_sentence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_compare, "_SECONDS_TO_CONNECT", 0.5)
    address = "tcp://127.0.0.1:9"
    said = f"No Dask scheduler answers at scheduler='{address}'. Start one by"
    with pytest.raises(ConnectionError, match=said), _compare._executing(1, address):
        pytest.fail("connected")


@pytest.mark.slow
def test_a_command_trains_what_one_process_does(
    tmp_path: Path, tiny_run: training.Run, tiny_settings: RunSettings
):
    rows: list[tuple[str, float]] = []
    comparison = training.compare(
        {"again": tiny_settings},
        tmp_path,
        lambda name, row: rows.append((name, row["epoch"])),
    )
    assert_same(training.load_run(tmp_path / "again"), tiny_run)
    assert rows == [("again", 1), ("again", 2)]
    assert [outcome.failure for outcome in comparison.outcomes] == [None]
