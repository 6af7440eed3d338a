"""Run folders: whose they are, and what is left in them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from larq_nobn import training
from larq_nobn.training.folder import position_kept
from larq_nobn.training.folder._run_folder import is_finished, lock_run_folder

SETTINGS = json.loads(json.dumps(asdict(training.RunSettings(epochs=2, blocks=(1, 1)))))


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


def write_stage(folder: Path) -> None:
    (folder / "stage1").mkdir()
    (folder / "stage1" / "run.json").write_text("{}")


def contents(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_finished_run_needs_no_checkpoints(tmp_path: Path):
    folder = tmp_path / "deep" / "run"
    with lock_run_folder(folder, SETTINGS) as same:
        assert same == folder
        assert json.loads((folder / "settings.json").read_text()) == SETTINGS
        write_checkpoint(folder)
        training.write_json(folder / "run.json", {"settings": SETTINGS})
    assert contents(folder) == {"history.csv", "run.json"}


@pytest.mark.parametrize("write", [write_checkpoint, write_stage, write_history])
def test_a_failure_leaves_all(write: Callable[[Path], object], tmp_path: Path):
    folder = tmp_path / "run"
    fails_after(folder, write)
    kept = contents(folder)
    assert "settings.json" in kept and len(kept) > 1
    fails_after(folder, write_history, resume=True)
    assert contents(folder) >= kept


def test_an_empty_folder_of_the_user_stays(tmp_path: Path):
    """Whatever ends the run, before or after its first file."""
    folder = tmp_path / "mine"
    folder.mkdir()
    with pytest.raises(ValueError, match="is damaged"):
        (folder / "settings.json").write_text("[1")
        with lock_run_folder(folder, SETTINGS, resume=True):
            pytest.fail("claimed")
    (folder / "settings.json").unlink()
    fails_after(folder, lambda _: None)
    assert contents(folder) == {"settings.json"}
    fails_after(folder, lambda _: None, resume=True)
    assert contents(folder) == {"settings.json"}


@pytest.mark.parametrize(
    "name", ["checkpoints", "stage1", "teacher", "logs", "logs/train", "logs/monitors"]
)
@pytest.mark.parametrize("kind", ["file", "dangling"])
def test_folders_of_a_run_that_are_none(name: str, kind: str, tmp_path: Path):
    place = tmp_path / name
    fails_after(tmp_path, write_checkpoint)
    shutil.rmtree(place, ignore_errors=True)
    place.parent.mkdir(exist_ok=True)
    if kind == "file":
        place.write_bytes(b"")
    else:
        place.symlink_to("gone")
    before = sorted(tmp_path.rglob("*"))
    with (
        pytest.raises(
            NotADirectoryError, match=f"{name} is not a folder, or a link to"
        ),
        lock_run_folder(tmp_path, SETTINGS, resume=True),
    ):
        pytest.fail("claimed")
    assert sorted(tmp_path.rglob("*")) == before


def test_epochs_kept(tmp_path: Path):
    assert training.epochs_kept(tmp_path / "none") is None
    fails_after(tmp_path / "run", write_checkpoint)
    assert training.epochs_kept(tmp_path / "run") == 1
    (tmp_path / "two").mkdir()
    (tmp_path / "run").rename(tmp_path / "two" / "stage1")
    assert training.epochs_kept(tmp_path / "two") == 1
    within = tmp_path / "two" / "stage1" / "checkpoints" / "epoch-0001-step-0000020.npz"
    within.touch()
    assert training.epochs_kept(tmp_path / "two") == 1
    assert str(position_kept(tmp_path / "two")) == "step 20 of epoch 2"


def test_what_is_there_is_not_overwritten(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    with (
        pytest.raises(FileExistsError, match="is not empty.*, or delete it"),
        lock_run_folder(tmp_path, SETTINGS),
    ):
        pytest.fail("claimed")
    with (
        pytest.raises(FileExistsError, match=r"contains notes\.txt, so it is not the"),
        lock_run_folder(tmp_path, SETTINGS, resume=True),
    ):
        pytest.fail("claimed")
    with (
        pytest.raises(NotADirectoryError, match=r"notes\.txt is a file"),
        lock_run_folder(tmp_path / "notes.txt", SETTINGS, resume=True),
    ):
        pytest.fail("claimed")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_model_alone_is_no_run(tmp_path: Path):
    (tmp_path / "model.keras").write_bytes(b"mine")
    with (
        pytest.raises(FileExistsError, match=r"contains model\.keras, so it is not"),
        lock_run_folder(tmp_path, SETTINGS, resume=True),
    ):
        pytest.fail("claimed")
    assert contents(tmp_path) == {"model.keras"}


def test_foreign_files_in_an_unfinished_run_are_not_touched(tmp_path: Path):
    fails_after(tmp_path, write_checkpoint)
    (tmp_path / "notes.txt").write_text("mine")
    before = contents(tmp_path)
    with (
        pytest.raises(FileExistsError, match=r"contains notes\.txt"),
        lock_run_folder(tmp_path, SETTINGS, resume=True),
    ):
        pytest.fail("claimed")
    assert contents(tmp_path) == before


def test_an_unfinished_run_has_to_be_resumed(tmp_path: Path):
    fails_after(tmp_path, write_checkpoint)
    with (
        pytest.raises(FileExistsError, match=r"resume it by --resume \(resume="),
        lock_run_folder(tmp_path, SETTINGS),
    ):
        pytest.fail("claimed")


@pytest.mark.parametrize("finished", [False, True])
def test_other_settings_are_named(finished: bool, tmp_path: Path):
    if finished:
        training.write_json(tmp_path / "run.json", {"settings": SETTINGS})
    else:
        fails_after(tmp_path, write_checkpoint)
    before = contents(tmp_path)
    other = SETTINGS | {"epochs": 3, "limit": 64}
    message = r"a run with epochs=2, limit=None, but epochs=3, limit=64 was given"
    with pytest.raises(ValueError, match=message):
        if finished:
            is_finished(tmp_path, other)
        else:
            with lock_run_folder(tmp_path, other, resume=True):
                pytest.fail("claimed")
    assert contents(tmp_path) == before


def test_killed_before_anything_was_written(tmp_path: Path):
    for folder in (tmp_path / "empty", tmp_path / "partial"):
        folder.mkdir()
    (tmp_path / "partial" / ".partial-abc.json").write_text("{")
    (tmp_path / "partial" / ".lock").write_text("{")
    for folder in (tmp_path / "empty", tmp_path / "partial"):
        with lock_run_folder(folder, SETTINGS, resume=True):
            assert contents(folder) == {"settings.json", ".lock"}


def test_killed_while_it_cleared_up(tmp_path: Path):
    fails_after(tmp_path, write_checkpoint)
    assert not is_finished(tmp_path, SETTINGS)
    training.write_json(tmp_path / "run.json", {"settings": SETTINGS})
    assert is_finished(tmp_path, SETTINGS)
    assert contents(tmp_path) == {"history.csv", "run.json"}


def test_damaged_settings_get_a_sentence(tmp_path: Path):
    fails_after(tmp_path, write_checkpoint)
    (tmp_path / "settings.json").write_text("[1")
    with (
        pytest.raises(ValueError, match=r"settings\.json is damaged.*train again"),
        lock_run_folder(tmp_path, SETTINGS, resume=True),
    ):
        pytest.fail("claimed")
