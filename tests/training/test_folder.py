"""Run folders: whose they are, and what is left in them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from larq_nobn import training
from larq_nobn.config._run_files import write_json
from larq_nobn.training.folder._run_folder import (
    is_finished,
    kept_settings,
    lock_run_folder,
    position_kept,
)

SETTINGS = json.loads(json.dumps(asdict(training.RunSettings(epochs=2, blocks=(1, 1)))))


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


def write_history(folder: Path) -> None:
    (folder / "history.csv").write_text("epoch\n1\n")
    (folder / "logs").mkdir(exist_ok=True)


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


def test_a_failure_leaves_all(tmp_path: Path):
    folder = tmp_path / "run"
    fails_after(folder, write_checkpoint)
    kept = contents(folder)
    assert kept == {"settings.json", "history.csv", "checkpoints"}
    fails_after(folder, write_history, resume=True)
    assert contents(folder) == kept | {"logs"}


# What is in a folder beside an unfinished run, or None without one; whether it is to be
# resumed, with which settings; and why it is not.
REFUSED = {
    "a run": (
        lambda folder: fails_after(folder, write_checkpoint),
        *(False, SETTINGS, FileExistsError, r"resume it by --resume \(resume="),
    ),
    "a run and other files": (
        lambda folder: (
            fails_after(folder, write_checkpoint),
            (folder / "notes.txt").write_text("mine"),
        ),
        *(True, SETTINGS, FileExistsError, r"contains notes\.txt"),
    ),
    "a run of other settings": (
        lambda folder: fails_after(folder, write_checkpoint),
        *(True, OTHER, ValueError, DIFFERENCE),
    ),
    "damaged settings": (
        lambda folder: (
            fails_after(folder, write_checkpoint),
            (folder / "settings.json").write_text("[1"),
        ),
        *(True, SETTINGS, ValueError, r"settings\.json is damaged.*train again"),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_there_is_not_touched(name: str, tmp_path: Path):
    prepare, resume, settings, error, sentence = REFUSED[name]
    prepare(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with (
        pytest.raises(error, match=sentence),
        lock_run_folder(tmp_path, settings, resume),
    ):
        pytest.fail("claimed")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_that_ended_before_its_first_checkpoint_makes_room(
    resume: bool, tmp_path: Path
):
    fails_after(
        tmp_path, lambda folder: (folder / "logs" / "train").mkdir(parents=True)
    )
    assert kept_settings(tmp_path) is None
    with lock_run_folder(tmp_path, OTHER, resume):
        assert kept_settings(tmp_path) is None
        assert contents(tmp_path) == {".lock", "settings.json"}
        write_checkpoint(tmp_path)
        assert kept_settings(tmp_path) == OTHER


def test_a_file_is_no_folder_and_a_finished_run_has_its_settings(tmp_path: Path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(NotADirectoryError, match="file is a file"),
        lock_run_folder(tmp_path / "file", SETTINGS, resume=True),
    ):
        pytest.fail("claimed")
    write_json(tmp_path / "run.json", {"settings": SETTINGS})
    with pytest.raises(ValueError, match=DIFFERENCE):
        is_finished(tmp_path, OTHER)


def test_position_kept(tmp_path: Path):
    assert position_kept(tmp_path / "none") is None
    fails_after(tmp_path / "run", write_checkpoint)
    assert position_kept(tmp_path / "run") == (1, 0)
    (tmp_path / "two").mkdir()
    (tmp_path / "run").rename(tmp_path / "two" / "stage1")
    within = tmp_path / "two" / "stage1" / "checkpoints" / "epoch-0001-step-0000020.npz"
    within.touch()
    assert str(position_kept(tmp_path / "two")) == "step 20 of epoch 2"
