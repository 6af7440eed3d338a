"""JSON and CSV of another shape than those that are written: one right sentence."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from cli.answers import one_sentence
from cli.conftest import Invoke
from PIL import Image

SHAPES = ("[]", "", "\xff", '{"settings": []}', "[" * 100_000)


def test_the_record_of_a_run(
    run_folder: Path, tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
):
    shutil.copytree(run_folder, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    lines = (
        "evaluate run",
        "report run",
        "train --dataset digits --output run --resume",
    )
    for number, shape in enumerate(SHAPES):
        Path("run", "run.json").write_bytes(shape.encode("latin-1"))
        said = one_sentence(invoke(*lines[number % 3].split()))
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
