"""`larq-nobn benchmark`: a table, JSON, and whatever goes wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from larq_nobn import data, deploy
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


def test_which_file_to_ship(lite_file: Path, invoke: Invoke, tmp_path: Path):
    """Two files on images: the sentence names one, and the numbers are there."""
    other = Path(shutil.copy(lite_file, tmp_path / "other.tflite"))
    line = ("benchmark", lite_file, other, "--dataset", "digits", "--limit", 40)
    actual = json.loads(invoke(*line, *("--runs", 3, "--json", "-")).stdout)
    first, second = actual["timings"]
    for file, timing in ((lite_file, first), (other, second)):
        scores = json.loads(
            invoke(
                *("evaluate", file, "--dataset", "digits", "--limit", 40, "--json", "-")
            ).stdout
        )
        assert timing["accuracy"] == scores["accuracy"]
        assert timing["accuracy_interval"] == scores["accuracy_interval"]
        found = deploy.audit(file)
        assert timing["memory_bytes"] == found.peak_activation_bytes
        assert timing["binary_macs"] == found.binary_macs
    assert actual["verdict"].startswith(("Ship " + str(lite_file), f"Ship {other}"))


def timing(path: str, ms: float, size: int, accuracy: float) -> deploy.Timing:
    sizes = dict.fromkeys(
        ("lce_bconv2d", "float_ops", "memory_bytes", "binary_macs", "float_macs"), 0
    )
    times = {"ms": ms, "low_ms": ms, "high_ms": ms, "spread": "quartiles"}
    return deploy.Timing(
        path=path,
        size_bytes=size,
        **{**sizes, **times, "int8_macs": 0, "threads": 1, "runs": 1},
    )


def test_the_verdict_weighs_accuracy_first():
    rows = {"slow": (3.0, 9, 0.90), "fast": (1.0, 5, 0.60), "near": (2.0, 7, 0.89)}
    files = [timing(name, *row) for name, row in rows.items()]
    plain = deploy.Benchmark("here", "", files)
    assert plain.verdict() == "Ship fast: it is the fastest."
    known = plain.with_accuracies([(row[2], 1000) for row in rows.values()])
    assert known.verdict() == (
        "Ship near: it is the fastest, and no file is clearly more accurate (1 faster "
        "or smaller ones are clearly less so)."
    )
    assert deploy.Benchmark("here", "", files[:1]).verdict() == ""


@pytest.mark.filterwarnings("ignore:You are saving:UserWarning")  # .h5
def test_a_keras_file_beside_its_tflite_file(invoke: Invoke, tmp_path: Path):
    """Of a Keras model nobody knows the memory; it multiplies in float."""
    dense = keras.layers.Dense(10, name="dense")
    model = chain(keras.layers.Flatten(), dense, shape=(8, 8, 1), stem=False)
    files = tmp_path / "m.keras", tmp_path / "m.h5", tmp_path / "m.tflite"
    for file in files[:2]:
        model.save(file)
    deploy.convert(model, files[2], runtime="litert", verify=False)
    images = ("--dataset", "digits", "--limit", 40)
    line = ("benchmark", *files, *images, "--trust", "--runs", 2)
    result = invoke(*line, "--json", tmp_path / "report.json")
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "report.json").read_text())["timings"]
    x, y = next(iter(data.load("digits", "test", 40)))
    right = float((model.predict_on_batch(x).argmax(-1) == y.numpy()).mean())
    for file, row in zip(files, rows, strict=True):
        assert row["size_bytes"] == file.stat().st_size and row["ms"] > 0
        assert (row["binary_macs"], row["float_macs"]) == (0, 64 * 10)
        assert row["accuracy"] == pytest.approx(right)
    assert [row["memory_bytes"] is None for row in rows] == [True, True, False]
    (memory,) = (x for x in result.stdout.splitlines() if "memory" in x)
    assert memory.split().count("-") == 2


def test_keras_files_that_cannot_be_timed(invoke: Invoke, tmp_path: Path):
    model = chain(keras.layers.GlobalAveragePooling2D(), shape=(None, None, 3))
    model.save(tmp_path / "open.keras")
    (tmp_path / "damaged.keras").write_text("text")
    for name, sentence in (
        ("open", "does not say the size of an example"),
        ("damaged", "damaged.keras"),
        ("lacking", "does not exist"),
    ):
        line = ("benchmark", tmp_path / f"{name}.keras")
        assert sentence in one_sentence(invoke(*line))


def test_several_files_and_what_is_none(
    lite_file: Path, invoke: Invoke, tmp_path: Path
):
    for arguments, sentence in (
        ((lite_file, tmp_path), "is a directory, not a .tflite, .c or .keras file"),
        ((lite_file, lite_file, "--formats"), "Give only one FILE"),
        ((lite_file, "--limit", 4), "without --formats or --dataset"),
    ):
        assert sentence in one_sentence(invoke("benchmark", *arguments))
