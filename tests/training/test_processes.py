"""Runs of a grid in processes of their own, here and on a cluster."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import fresh
import numpy as np
import pytest
from larq_nobn import training
from larq_nobn.training import RunSettings
from larq_nobn.training.comparison import _compare
from larq_nobn.training.comparison._apart import Killed, apart
from larq_nobn.training.comparison._compare import executing, failure_of
from training import light
from training.runs import assert_same

ENDED = (
    "Its process ended with exit code -9, at each of 3 attempts. See whether memory "
    "was short, with fewer runs at a time then; the same command continues."
)
PROGRESS = ("progress", ({"steps": 9}, "on_train_begin", ()))
Told = list[tuple[str, str, Any]]


def all_of(
    tasks: dict[str, str], folder: Path, jobs: int | None, scheduler: str | None = None
) -> tuple[dict[str, str | None], Told]:
    """Why each failed, and what was told."""
    messages: Any = SimpleQueue()
    with executing(light.run, jobs, scheduler, messages) as submit:
        futures = {n: submit(n, how, folder / n) for n, how in tasks.items()}
        found = {name: failure_of(future) for name, future in futures.items()}
    return found, emptied(messages)


def emptied(messages: Any) -> Told:
    told = []
    while not messages.empty():
        told.append(messages.get())
    return told


def processes(folder: Path) -> list[int]:
    return [int(each.name.split("-")[1]) for each in sorted(folder.glob("?-*"))]


def soon(found: Callable[[], object]) -> bool:
    """Whether it is so within half a minute."""
    for _ in range(300):
        if found():
            return True
        time.sleep(0.1)
    return False


def is_gone(process: int) -> bool:
    def gone() -> bool:
        try:
            return " Z " in Path(f"/proc/{process}/stat").read_text()
        except FileNotFoundError:
            return True

    return soon(gone)


def test_each_has_a_process_and_is_heard_of(tmp_path: Path):
    found, told = all_of(dict.fromkeys("ab", "ends") | {"c": "fails"}, tmp_path, 2)
    assert found == {"a": None, "b": None, "c": "diverged"}
    used = [process for name in "abc" for process in processes(tmp_path / name)]
    assert len({*used, os.getpid()}) == 4
    assert [each[1:] for each in told if each[0] == "a"] == [
        ("begins", None),
        ("said", (30, "7 images")),
        PROGRESS,
    ]


def test_a_process_works_in_the_folder_of_the_caller(tmp_path: Path):
    place = apart(light.where, (), print, lambda: True, str(tmp_path))
    assert Path(place) == tmp_path


@pytest.mark.parametrize(
    ("how", "kind", "message"),
    [
        ("raises", ValueError, "a is wrong."),
        ("odd", RuntimeError, "Unsent: .*a/x is odd."),
    ],
)
def test_what_is_raised_there_ends_all(
    how: str, kind: type[Exception], message: str, tmp_path: Path
):
    with pytest.raises(kind, match=message):  # the other one would stay for ever
        all_of({"a": how, "b": "stays"}, tmp_path, 2)
    assert all(map(is_gone, processes(tmp_path / "b")))


def test_one_that_is_killed_is_resumed_and_the_others_continue(tmp_path: Path):
    tasks = {"a": "killed", "b": "ends", "c": "killed once", "d": "ends"}
    found, told = all_of(tasks, tmp_path, 2)
    assert found == {"a": ENDED, "b": None, "c": None, "d": None}
    assert [len(processes(tmp_path / name)) for name in "abcd"] == [3, 1, 2, 1]
    said = [content[1] for name, kind, content in told if (name, kind) == ("c", "said")]
    again = "Its process ended with exit code -9; another resumes the run from its last"
    assert said == [f"{again} checkpoint.", "7 images"]


@pytest.mark.parametrize(
    "task", ["('stays', folder)", "(light.Slow(folder),)"], ids=["works", "imports"]
)
def test_a_process_ends_with_the_one_that_waits_for_it(task: str, tmp_path: Path):
    script = (
        "import sys; from pathlib import Path\n"
        "from importlib.util import module_from_spec, spec_from_file_location\n"
        "spec = spec_from_file_location('apart', sys.argv[1])\n"
        "apart = module_from_spec(spec)\n"
        "spec.loader.exec_module(apart)\n"
        "from training import light\n"
        "folder = Path(sys.argv[2])\n"
        f"apart.apart(light.run, {task}, print, lambda: True, '.')\n"
    )
    waits = subprocess.Popen(
        [
            sys.executable,
            "-c",
            script,
            sys.modules[apart.__module__].__file__,
            tmp_path,
        ],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert soon(lambda: processes(tmp_path))
    waits.kill()
    waits.wait()
    assert all(map(is_gone, processes(tmp_path)))


def test_one_that_is_not_wanted_ends(tmp_path: Path):
    def wanted() -> bool:
        return not processes(tmp_path)

    with pytest.raises(Killed, match=f"exit code -{int(signal.SIGTERM)}"):
        apart(light.run, ("stays", tmp_path), print, wanted, ".")


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
            dashboard_address=None,
            memory_limit=0,
        ) as found,
    ):
        yield found


@pytest.mark.slow
def test_a_cluster_trains_and_another_worker_resumes(cluster: Any, tmp_path: Path):
    """Of two workers one is killed while it has a run."""
    messages: Any = SimpleQueue()
    address = cluster.scheduler_address
    with executing(light.run, None, address, messages) as submit:
        lost = submit("lost", "loses its worker", tmp_path / "lost")
        other = submit("other", "fails", tmp_path / "other")
        parent = tmp_path / "lost" / "parent"
        assert soon(lambda: parent.exists() and parent.read_text())
        os.kill(int(parent.read_text()), signal.SIGKILL)
        assert failure_of(lost) is None
        assert failure_of(other) == "diverged"
    first, second = processes(tmp_path / "lost")
    assert first != second and is_gone(first)
    assert ("lost", *PROGRESS) in emptied(messages)


@pytest.mark.slow
def test_a_run_on_a_cluster_ends_with_who_waits_for_it(cluster: Any, tmp_path: Path):
    address = cluster.scheduler_address
    with (
        pytest.raises(KeyboardInterrupt),
        executing(light.run, None, address, SimpleQueue()) as submit,
    ):
        submit("a", "stays", tmp_path / "a")
        assert soon(lambda: processes(tmp_path / "a"))
        raise KeyboardInterrupt
    assert all(map(is_gone, processes(tmp_path / "a")))
    # The worker is free for others.
    found, _ = all_of({"b": "ends", "c": "ends"}, tmp_path, None, address)
    assert found == {"b": None, "c": None}


@pytest.mark.slow
def test_a_worker_without_the_folder_says_so(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    monkeypatch.setattr(os, "getcwd", lambda: str(gone))
    gone.rmdir()
    with pytest.raises(NotADirectoryError, match=r"does not see the folder .*gone\. "):
        all_of({"a": "ends"}, tmp_path, None, cluster.scheduler_address)


@pytest.mark.slow
def test_a_run_that_is_left_elsewhere_is_missed(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(_compare, "training", light.trains_elsewhere)
    grid = training.grid(["none"], dataset="digits")
    with pytest.raises(FileNotFoundError, match="none-128-0 was trained by a worker, "):
        training.compare(grid, tmp_path, scheduler=cluster.scheduler_address)


def test_of_workers_that_die_one_after_the_other_the_run_has_failed():
    import distributed

    future: Future[str | None] = Future()
    future.set_exception(distributed.KilledWorker("run", None, 3))
    said = failure_of(future)
    assert said is not None and "Worker after worker died with it" in said


def test_a_scheduler_that_is_lost_is_a_sentence():
    future: Future[str | None] = Future()
    future.cancel()
    with pytest.raises(ConnectionError, match="The scheduler is lost. Start it again"):
        failure_of(future)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "", "http://x", "tls://x:9"])
def test_an_address_without_a_scheduler_is_a_sentence(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(_compare, "_SECONDS_TO_CONNECT", 0.5)
    said = f"No Dask scheduler answers at scheduler='{address}'. Start one by"
    with pytest.raises(ConnectionError, match=said):
        all_of({"a": "ends"}, tmp_path, None, address)
    assert list(tmp_path.iterdir()) == []


def test_what_listens_and_says_nothing_is_no_scheduler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(_compare, "_SECONDS_TO_CONNECT", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = "tcp://{}:{}".format(*server.getsockname())
        with pytest.raises(ConnectionError, match=address):
            all_of({"a": "ends"}, tmp_path, None, address)


def test_without_dask_a_sentence_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "distributed", None)
    grid = training.grid(["none"], dataset="digits")
    with pytest.raises(ImportError, match=r"pip install 'larq-nobn\[cluster\]'"):
        training.compare(grid, tmp_path, scheduler="tcp://127.0.0.1:9")
    with pytest.raises(ValueError, match="jobs=2 and scheduler='tcp.*Choose one"):
        training.compare(grid, tmp_path, jobs=2, scheduler="tcp://127.0.0.1:9")


@pytest.mark.slow
def test_two_at_a_time_train_what_one_process_does(
    tmp_path: Path, tiny_run: training.Run, tiny_settings: RunSettings
):
    grid = {
        "again": tiny_settings,
        "other": replace(tiny_settings, seed=1, epochs=1),
        "there": tiny_settings,
    }
    shutil.copytree(tiny_run.folder, tmp_path / "there")
    comparison = training.compare(grid, tmp_path, jobs=2)
    assert [Path(each.folder).name for each in comparison.outcomes] == list(grid)
    assert_same(training.load_run(tmp_path / "again"), tiny_run)
    assert [row["epoch"] for row in comparison.outcomes[1].history] == [1]
    # Of another seed is the kernel of the stem too: all else may start from constants.
    other = training.load_run(tmp_path / "other").model.get_weights()[0]
    assert np.abs(other - tiny_run.model.get_weights()[0]).max() > 0.1
