"""The lock on a run folder: one process at a time, and none once it is gone."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from larq_nobn.training.folder import _lock
from larq_nobn.training.folder._lock import RunInUse, check_not_in_use, locked
from larq_nobn.training.folder._run_folder import lock_run_folder

# The module in packages that import nothing: without TensorFlow a process is there at
# once.
OTHER = """
import sys
from pathlib import Path
from types import ModuleType

place = Path(sys.argv[1]).parent
for name in ("larq_nobn.training.folder", "larq_nobn.training", "larq_nobn"):
    sys.modules[name] = ModuleType(name)
    sys.modules[name].__path__ = [str(place)]
    place = place.parent
from larq_nobn.training.folder import _lock as lock
try:
    with lock.locked(Path(sys.argv[2])):
        print("has it", flush=True)
        sys.stdin.read()
except lock.RunInUse as error:
    print(error, flush=True)
"""


@contextmanager
def another_process(folder: Path) -> Iterator[tuple[subprocess.Popen, str]]:
    """One that takes the lock and keeps it, or is rejected; with what it says."""
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER, _lock.__file__, folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


def in_use(folder: Path, pid: int) -> str:
    return (
        f"{folder} is in use: process {pid} on {socket.gethostname()} trains in it. "
        "Wait until it has ended, or choose another output."
    )


def test_the_second_process_is_rejected(tmp_path: Path):
    with locked(tmp_path), another_process(tmp_path) as (_, said):
        assert said == in_use(tmp_path, os.getpid())
    assert list(tmp_path.iterdir()) == []
    check_not_in_use(tmp_path / "none")


def test_it_ends_with_its_process(tmp_path: Path):
    with another_process(tmp_path) as (process, said):
        assert said == "has it"
        for refused in (check_not_in_use, lambda folder: locked(folder).__enter__()):
            with pytest.raises(RunInUse) as caught:
                refused(tmp_path)
            assert str(caught.value) == in_use(tmp_path, process.pid)
        process.kill()
        process.wait()
        assert (tmp_path / ".lock").exists()
        check_not_in_use(tmp_path)
    with locked(tmp_path):
        assert (tmp_path / ".lock").exists()
    assert list(tmp_path.iterdir()) == []


def test_where_files_cannot_be_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def refuse(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with caplog.at_level(logging.WARNING, "larq_nobn"), locked(tmp_path):
        pass
    assert f"Cannot lock {tmp_path} (No locks av" in caplog.text


def test_a_run_in_use_is_not_touched(tmp_path: Path):
    folder = tmp_path / "run"
    with lock_run_folder(folder, {"seed": 1}):
        (folder / ".partial-a.npz").touch()
        before = {path.name for path in folder.iterdir()}
        with (
            pytest.raises(RunInUse, match=r"run is in use: process"),
            lock_run_folder(folder, {"seed": 1}, resume=True),
        ):
            pytest.fail("claimed")
        assert {path.name for path in folder.iterdir()} == before
    assert list(folder.iterdir()) == []
