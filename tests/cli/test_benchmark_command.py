"""`larq-nobn benchmark`: a table, JSON, and whatever goes wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from larq_nobn import deploy
from cli.answers import one_sentence
from cli.conftest import Invoke
from deploy.nets import chain
from larq_nobn._keras import keras
from rich.table import Table

pytestmark = pytest.mark.convert


def test_one_file(lite_file: Path, invoke: Invoke):
    result = invoke(
        "benchmark", lite_file, *("--runs", 2, "--warmup", 0, "--threads", 2)
    )
    assert result.exit_code == 0, result.output
    assert "ms, median" in result.stdout
    assert result.stderr == ""


def test_the_formats_of_a_network(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file, seen = tmp_path / "m.keras", []

    def compare(model: keras.Model, **options: Any) -> deploy.FormatComparison:
        seen.append(options)
        return deploy.FormatComparison.__new__(deploy.FormatComparison)

    monkeypatch.setattr(deploy, "compare_formats", compare)
    kind = deploy.FormatComparison
    monkeypatch.setattr(kind, "to_dict", lambda _: {"formats": []})
    monkeypatch.setattr(kind, "table", lambda _: Table("Fastest here"))
    chain(keras.layers.Flatten(), keras.layers.Dense(10), shape=(4, 4, 1)).save(file)
    line = ("benchmark", file, "--formats", "--dataset", "digits", "--limit", 50)
    result = invoke(*line, "--runs", 2, "--json", tmp_path / "formats.json")
    assert "Fastest here" in result.stdout, result.output
    assert json.loads((tmp_path / "formats.json").read_text()) == {"formats": []}
    (given,) = seen
    assert (given["runs"], given["phone"]) == (2, False)
    assert given["data_name"] == "test images of digits"
    assert sum(len(x) for x, _ in given["data"]) == 50
    assert given["range_data"].element_spec[0].shape[1:] == (4, 4, 1)


@pytest.fixture
def place(lite_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    content = lite_file.read_bytes()
    Path("m.tflite").write_bytes(content)
    Path("truncated.tflite").write_bytes(content[: len(content) // 2])
    Path("notes.txt").write_text("text")
    Path("folder").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("m.tflite --against truncated.tflite", "'truncated.tflite' is a damaged"),
        ("m.tflite --limit 5 --trust", "--limit and --trust are not used without"),
        ("folder --formats --against m.tflite", "--against is not used with --format"),
        ("m.tflite --phone --seed 3", "--seed is not used with --phone"),
    ],
)
def test_one_sentence(line: str, sentence: str, invoke: Invoke, place: Path):
    before = sorted(place.rglob("*"))
    assert sentence in one_sentence(invoke("benchmark", *line.split()))
    assert sorted(place.rglob("*")) == before
