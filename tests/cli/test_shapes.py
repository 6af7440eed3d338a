"""JSON and CSV of another shape than those that are written: one right sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from cli.answers import one_sentence
from cli.conftest import Invoke
from PIL import Image

SHAPES = ("[]", "", "\xff", '{"settings": []}', "[" * 100_000)
READERS = {
    "evaluate": "evaluate run --limit 8",
    "convert": "convert run new.tflite",
    "predict": "predict run picture.png",
    "summary": "summary run",
    "fold": "fold run new.keras",
    "remove": "remove run new.keras",
    "report": "report run",
    "train": "train --dataset digits --output run --resume",
}


@pytest.fixture
def place(run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(run_folder, tmp_path / "run")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_record_of_a_run(invoke: Invoke, place: Path):
    for number, line in enumerate(READERS.values()):
        for shape in SHAPES if number == 0 else SHAPES[number % len(SHAPES) :][:1]:
            Path("run", "run.json").write_bytes(shape.encode("latin-1"))
            said = one_sentence(invoke(*line.split()))
            assert said.startswith("Error: run/run.json is damaged: "), shape[:20]
            assert said.endswith("or train again in another folder.")
            assert len(said) < 300


@pytest.fixture
def ten_classes(tmp_path: Path) -> Path:
    """A folder of grey images, of as many classes as digits has."""
    for name in "0123456789":
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(4):
            pixels = np.full((8, 8), 20 * number + int(name), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
    return tmp_path / "images"


def test_damaged_metadata_is_rejected_alike(
    lite_file: Path, ten_classes: Path, tmp_path: Path, invoke: Invoke, monkeypatch
):
    monkeypatch.setenv("LARQ_NOBN_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "m.tflite"
    shutil.copy(lite_file, file)
    beside = Path(f"{file}.json")
    evaluate = ("evaluate", file, "--dataset", ten_classes, "--split", "train")
    predict = ("predict", file, ten_classes)
    intact = Path(f"{lite_file}.json").read_bytes()
    other = intact.replace(b'"sha256": "', b'"sha256": "0')
    for content in (intact[:-9], other):
        beside.write_bytes(content)
        said = one_sentence(invoke(*evaluate))
        assert f"{str(beside)!r}" in said
        assert one_sentence(invoke(*predict)) == said
        digits = one_sentence(invoke("evaluate", file, "--dataset", "digits"))
        assert digits == said
    beside.unlink()
    for make in (Path.mkdir, lambda path: path.symlink_to("nowhere")):
        make(beside)
        said = one_sentence(invoke(*evaluate))
        assert f"{str(beside)!r} cannot be read" in said
        assert one_sentence(invoke(*predict)) == said
        beside.rmdir() if beside.is_dir() else beside.unlink()


@pytest.mark.parametrize("name", ["m.tflite", "M.TFLITE"])
def test_an_evaluation_says_whose_mean_and_std_it_takes(
    name: str,
    lite_file: Path,
    ten_classes: Path,
    tmp_path: Path,
    invoke: Invoke,
    monkeypatch,
):
    monkeypatch.setenv("LARQ_NOBN_CACHE", str(tmp_path / "cache"))
    file, report = tmp_path / name, tmp_path / "report.json"
    shutil.copy(lite_file, file)
    if name == "m.tflite":
        shutil.copy(f"{lite_file}.json", f"{file}.json")
    words = ("evaluate", file, "--split", "train", "--json", report)
    result = invoke(*words, "--dataset", ten_classes)
    assert result.exit_code == 0, result.output
    owner = name if name == "m.tflite" else str(ten_classes)
    assert json.loads(report.read_text())["mean_and_std_of"] == owner
    assert "mean and std of" in result.stdout
