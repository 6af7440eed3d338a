"""The folder that export makes: what is in it, and that it stands by itself."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import larq_nobn as nobn
import numpy as np
import pytest
import yaml
from larq_nobn import training
from cli.answers import one_sentence
from larq_nobn.cli import _export, main
from larq_nobn.models import pretrained
from numpy.testing import assert_array_equal

DIGITS = "reactnet18-w32-digits"
NAMES = {"model.keras", "model.tflite", "model.tflite.json", "README.md"}
pytestmark = [pytest.mark.convert, pytest.mark.slow]


@pytest.fixture(scope="module")
def exported(invoke, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("hub") / "digits"
    done = invoke("export", DIGITS, folder, "--license", "mit")
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture(scope="module")
def header(exported: Path) -> dict:
    _, text, _ = (exported / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(text)


def test_there_are_four_files(exported: Path):
    assert {path.name for path in exported.iterdir()} == NAMES


def test_the_models_are_the_network(exported: Path):
    network = nobn.models.ReActNet18(weights=DIGITS)
    images = next(iter(nobn.data.load("digits", "test", 16)))[0]
    expected = network.predict(images, verbose=0)
    keras_model = training.open_model(exported / "model.keras")
    assert_array_equal(keras_model.predict(images, verbose=0), expected)
    runner = nobn.deploy.Runner(exported / "model.tflite")
    lite = np.concatenate([runner.outputs([image[None]])[0] for image in images])
    assert_array_equal(lite.argmax(1), expected.argmax(1))
    card = nobn.deploy.read_card(exported / "model.tflite")
    assert card.labels == tuple("0123456789")


def test_the_header_is_what_hubs_read(header: dict):
    (row,) = (row for row in pretrained() if row.name == DIGITS)
    assert header["license"] == "mit"
    assert header["library_name"] == "larq_nobn"
    (entry,) = header["model-index"]
    (result,) = entry["results"]
    assert entry["name"] == DIGITS
    assert result["dataset"] == {"name": "digits", "type": "digits", "split": "test"}
    (metric,) = result["metrics"]
    assert metric == {"type": "accuracy", "value": round(100 * row.accuracy, 2)}


def test_a_public_data_set_is_named_as_on_the_hub():
    header = _export._header("a network", "mit", "cifar10", 83.9)
    found = yaml.safe_load(header.split("---\n")[1])
    assert found["datasets"] == ["uoft-cs/cifar10"]


def test_the_snippet_runs_in_the_folder(exported: Path, tmp_path: Path):
    folder = shutil.copytree(exported, tmp_path / "elsewhere")
    (code,) = re.findall(
        r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.split("\n")[-3:-1]
    assert first == second in "0123456789"


def test_nothing_names_a_machine(exported: Path):
    for path in exported.iterdir():
        content = path.read_bytes()
        for place in (str(Path.home()), str(exported.parent), str(Path.cwd())):
            assert place.encode() not in content, path.name


@pytest.mark.parametrize("name", [row.name for row in pretrained()])
def test_the_training_command_has_the_settings_of_the_run(name: str, monkeypatch):
    (row,) = (row for row in pretrained() if row.name == name)
    text = _export._command(row.settings, row.dataset)
    words = text.replace("\\\n", " ").split("\n")[1].split()[1:]
    found = {}
    command = main.commands["train"]
    monkeypatch.setattr(
        training, "train", lambda settings, *_, **__: found.update(s=settings) or 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        command.main(words[1:], standalone_mode=False)
    for key, value in row.settings.items():
        if hasattr(found["s"], key):
            given = getattr(found["s"], key)
            assert json.loads(json.dumps(given)) == value, key


def test_a_run_is_exported_with_its_accuracy(invoke, run_folder, tmp_path):
    folder = tmp_path / "mine"
    done = invoke("export", run_folder, folder)
    assert done.exit_code == 0, done.output
    record = json.loads((run_folder / "run.json").read_text())
    text = (folder / "README.md").read_text()
    percent = round(100 * record["metrics"]["test_accuracy"], 2)
    assert f"| accuracy on digits (test) | {percent} % |" in text
    assert "--width 8" in text and "--limit 128" in text


@pytest.fixture
def stubbed(monkeypatch):
    """A conversion that writes "new" at once, and a page without a report."""

    def converts(model: object, target: Path, *_: object) -> None:
        target.write_bytes(b"new")

    monkeypatch.setattr(_export, "converted", converts)
    monkeypatch.setattr(_export, "_readme", lambda *_: "\nlibrary_name: larq_nobn\n")


def test_an_earlier_export_is_replaced_by_force(invoke, exported, stubbed, tmp_path):
    folder = shutil.copytree(exported, tmp_path / "again")
    (folder / "notes.txt").write_text("mine")
    (folder / "model.tflite").write_bytes(b"old")
    said = one_sentence(invoke("export", DIGITS, folder))
    assert said.endswith("Choose another name, or overwrite it with --force.")
    assert (folder / "model.tflite").read_bytes() == b"old"
    assert invoke("export", DIGITS, folder, "--force").exit_code == 0
    assert {path.name for path in folder.iterdir()} == {*NAMES, "notes.txt"}
    assert (folder / "model.tflite").read_bytes() == b"new"


def test_a_link_to_a_folder_is_that_folder(invoke, stubbed, tmp_path):
    (tmp_path / "there").mkdir()
    for name in ("there", "not yet"):
        link = tmp_path / f"link to {name}"
        link.symlink_to(name)
        for force in ((), ("--force",)):
            done = invoke("export", DIGITS, link, *force)
            assert done.exit_code == 0, done.output
            assert link.is_symlink() and (tmp_path / name / "README.md").is_file()
            assert (tmp_path / name / "model.tflite").read_bytes() == b"new"
            (tmp_path / name / "model.tflite").write_bytes(b"old")
    assert len([*tmp_path.iterdir()]) == 4


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_nothing_else_is_written_to(force, invoke, run_folder, tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "README.md").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "loop").symlink_to("loop")
    before = sorted(path.name for path in run_folder.rglob("*"))
    for target, sentence in (
        (tmp_path / "own", "is not empty and not an export"),
        (tmp_path / "file", "is a file. Give the name of a folder"),
        (run_folder, "belongs to the training run|is not empty and not an export"),
        (run_folder / "logs", "belongs to the training run"),
        (tmp_path / "deep" / "er", "lies in no existing folder"),
        (tmp_path / "loop", "is a link that leads to itself"),
    ):
        said = one_sentence(invoke("export", DIGITS, target, *force))
        assert re.search(sentence, said), said
    assert sorted(path.name for path in run_folder.rglob("*")) == before
    assert {path.name for path in tmp_path.iterdir()} == {"own", "file", "loop"}


@pytest.mark.parametrize("mask", [0o077, 0o022])
def test_an_export_is_as_readable_as_the_umask_says(mask, invoke, stubbed, tmp_path):
    before = os.umask(mask)
    try:
        assert invoke("export", DIGITS, tmp_path / "hub").exit_code == 0
    finally:
        os.umask(before)
    assert (tmp_path / "hub").stat().st_mode & 0o777 == 0o777 & ~mask
    for path in (tmp_path / "hub").iterdir():
        assert path.stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_failure_leaves_nothing(invoke, stubbed, tmp_path, monkeypatch):
    def fails(*_: object, **__: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(_export, "_readme", fails)
    assert invoke("export", DIGITS, tmp_path / "hub").exit_code == 2
    assert [*tmp_path.iterdir()] == []


def test_a_path_of_other_bytes_is_written_as_text(invoke, tmp_path, monkeypatch):
    monkeypatch.setattr(_export, "converted", lambda *_: None)
    monkeypatch.setattr(_export, "_readme", lambda *_: "trained on caf\udce9")
    assert invoke("export", DIGITS, tmp_path / "hub").exit_code == 0
    assert (tmp_path / "hub" / "README.md").read_text() == "trained on caf?"


def test_a_full_disk_is_named(invoke, tmp_path, monkeypatch):
    def full(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(_export, "converted", lambda *_: None)
    monkeypatch.setattr(_export, "_readme", lambda *_: "text")
    monkeypatch.setattr(Path, "write_bytes", full)
    said = one_sentence(invoke("export", DIGITS, tmp_path / "hub"))
    readme = tmp_path / "hub" / "README.md"
    assert f"'{readme}' cannot be written: No space left on device" in said
    monkeypatch.setattr(Path, "mkdir", lambda path, **_: path.is_dir() or full(path))
    said = one_sentence(invoke("export", DIGITS, tmp_path / "hub"))
    assert f"'{tmp_path / 'hub'}' cannot be written: No space left on device" in said
    assert [*tmp_path.iterdir()] == []


def test_a_place_that_may_not_be_written_is_named(invoke, tmp_path, monkeypatch):
    def forbidden(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "mkdir", forbidden)
    said = one_sentence(invoke("export", DIGITS, tmp_path / "hub"))
    assert (
        f"'{tmp_path / 'hub'}' cannot be written: Permission denied. Pass a path in"
        in said
    )


def test_a_model_file_has_no_accuracy_to_state(invoke, exported, tmp_path):
    said = one_sentence(invoke("export", exported / "model.keras", tmp_path / "hub"))
    assert "Export a run folder, or the name of a trained network" in said
