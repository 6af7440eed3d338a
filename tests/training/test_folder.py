"""Run folders: whose they are, who may write, and what is left in them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from larq_nobn import training
from larq_nobn.config._run_files import write_json
from larq_nobn.training._checkpoints import newest_position
from larq_nobn.training._run_folder import is_finished, lock_run_folder

SETTINGS = json.loads(
    json.dumps(asdict(training.RunSettings("plain", epochs=2, blocks=(1, 1))))
)
OTHER = SETTINGS | {"epochs": 3, "limit": 64}
DIFFERENCE = "a run with epochs=2, limit=None, but epochs=3, limit=64 was given"


class Failure(BaseException):
    """Whatever ends a run."""


def fails_after(
    folder: Path, write: Callable[[Path], object], resume: bool = False
) -> None:
    with pytest.raises(Failure), lock_run_folder(folder, SETTINGS, resume):
        write(folder)
        raise Failure


def write_checkpoint(folder: Path) -> None:
    (folder / "history.csv").write_text("epoch\n1\n")
    (folder / "checkpoints").mkdir(exist_ok=True)
    (folder / "checkpoints" / "epoch-0001.npz").write_bytes(b"")


def contents(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_finished_run_needs_no_checkpoints(tmp_path: Path):
    folder = tmp_path / "deep" / "run"
    with lock_run_folder(folder, SETTINGS) as same:
        assert same == folder
        assert json.loads((folder / "settings.json").read_text()) == SETTINGS
        write_checkpoint(folder)
        write_json(folder / "run.json", {"settings": SETTINGS})
    assert contents(folder) == {"history.csv", "run.json"}
    with pytest.raises(ValueError, match=DIFFERENCE):
        is_finished(folder, OTHER)


def test_a_failure_leaves_all(tmp_path: Path):
    folder = tmp_path / "run"
    assert newest_position(folder) is None
    fails_after(folder, write_checkpoint)
    kept = contents(folder)
    assert kept == {"settings.json", "history.csv", "checkpoints"}
    fails_after(folder, lambda folder: (folder / "logs").mkdir(), resume=True)
    assert contents(folder) == kept | {"logs"}
    assert newest_position(folder) == (1, 0)
    (tmp_path / "two").mkdir()
    first = folder.rename(tmp_path / "two" / "stage1") / "checkpoints"
    (first / "epoch-0001-step-0000020.npz").touch()
    assert str(newest_position(tmp_path / "two")) == "step 20 of epoch 2"


# What is in a folder beside an unfinished run; whether it is to be resumed, with which
# settings; and why it is not.
REFUSED = {
    "a run": ("", "", False, SETTINGS, FileExistsError, r"resume it by --resume"),
    "other files": ("run", "mine", True, OTHER, ValueError, DIFFERENCE),
    "damaged": (
        *("settings.json", "[1", True, SETTINGS),
        *(ValueError, r"settings\.json is damaged.*train again"),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_there_is_not_touched(name: str, tmp_path: Path):
    file, content, resume, settings, error, sentence = REFUSED[name]
    fails_after(tmp_path, write_checkpoint)
    if file:
        (tmp_path / file).write_text(content)
    before = sorted(tmp_path.rglob("*"))
    with (
        pytest.raises(error, match=sentence),
        lock_run_folder(tmp_path, settings, resume),
    ):
        pytest.fail("claimed")
    assert sorted(tmp_path.rglob("*")) == before


def test_what_is_no_run_folder(tmp_path: Path):
    (tmp_path / "file").touch()
    for folder, error, sentence in (
        (tmp_path / "file", NotADirectoryError, "file is a file"),
        (tmp_path, FileExistsError, "is not empty, and a run never overwrites"),
    ):
        with (
            pytest.raises(error, match=sentence),
            lock_run_folder(folder, SETTINGS, resume=True),
        ):
            pytest.fail("claimed")


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_that_ended_before_its_first_checkpoint_makes_room(
    resume: bool, tmp_path: Path
):
    fails_after(
        tmp_path, lambda folder: (folder / "logs" / "train").mkdir(parents=True)
    )
    with lock_run_folder(tmp_path, OTHER, resume):
        assert contents(tmp_path) == {".lock", "settings.json"}


OTHER_PROCESS = """
import sys
from filelock import FileLock
lock = FileLock(sys.argv[1])
lock.acquire()
print("has it", flush=True)
sys.stdin.read()
"""


def test_one_process_at_a_time_trains_in_a_folder(tmp_path: Path):
    folder = tmp_path / "run"
    with lock_run_folder(folder, SETTINGS):
        (folder / ".partial-a.npz").touch()
        before = contents(folder)
        with (
            pytest.raises(training.RunInUse, match="run is in use: another process"),
            lock_run_folder(folder, SETTINGS, resume=True),
        ):
            pytest.fail("claimed")
        assert contents(folder) == before
    assert not contents(folder)
    command = [sys.executable, "-c", OTHER_PROCESS, folder / ".lock"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdout.readline() == b"has it\n"
        with pytest.raises(training.RunInUse), lock_run_folder(folder, SETTINGS):
            pytest.fail("claimed")
        process.kill()
    with lock_run_folder(folder, SETTINGS):
        assert contents(folder) == {".lock", "settings.json"}
    assert not contents(folder)
