"""`larq-nobn benchmark`: a table, JSON, a phone's log, and whatever goes wrong."""

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

LOG = """STARTING!
Graph: [/data/local/tmp/model.tflite]
#threads used for CPU inference: [4]
count=50 first=9000 curr=8100 min=7900 max=9000 avg=8150.0 std=120 \
p5=7950 median=8150 p95=8900

Inference timings in us: Init: 900, First inference: 12000, Warmup (avg): 9100, \
Inference (avg): 8150.0
Profiling Info for Regular Benchmark Runs:
============================== Summary by node type ==============================
\t[Node type]\t[count]\t[avg ms]\t[avg %]\t[cdf %]\t[mem KB]\t[times called]
\tLceBconv2d\t2\t6.112\t75.000%\t75.000%\t0.000\t2
"""


def test_one_file_and_the_commands_for_a_device(lite_file: Path, invoke: Invoke):
    result = invoke(
        "benchmark", lite_file, *("--runs", 2, "--warmup", 0, "--threads", 2)
    )
    assert result.exit_code == 0, result.output
    assert "ms, median" in result.stdout
    (run,) = [line for line in result.stdout.splitlines() if "--graph" in line]
    assert run.split()[:2] == ["adb", "shell"]
    assert "--num_threads=2" in run
    assert result.stderr == ""


def test_a_log_in_the_same_table(lite_file: Path, invoke: Invoke, tmp_path: Path):
    log = tmp_path / "phone.log"
    log.write_text(LOG)
    options = ("--read", log, "--json", tmp_path / "result.json")
    result = invoke("benchmark", lite_file, *options)
    assert result.exit_code == 0, result.output
    for part in ("8.150 ms, median", "LceBconv2d", "75.0%"):
        assert part in result.stdout
    assert "adb" not in result.stdout
    actual = json.loads((tmp_path / "result.json").read_text())
    assert actual["timings"][0]["threads"] == 4


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
    Path("cut.log").write_text(LOG.split("count=")[0])
    Path("whole.log").write_text(LOG)
    Path("folder").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("m.tflite --against truncated.tflite", "'truncated.tflite' is a damaged"),
        ("m.tflite --read cut.log", "'cut.log' contains no times of one run"),
        ("m.tflite --limit 5 --trust", "--limit and --trust are not used without"),
        ("folder --formats --read whole.log", "--read is not used with --formats"),
        ("m.tflite --phone --seed 3", "--seed is not used with --phone"),
    ],
)
def test_one_sentence(line: str, sentence: str, invoke: Invoke, place: Path):
    before = sorted(place.rglob("*"))
    assert sentence in one_sentence(invoke("benchmark", *line.split()))
    assert sorted(place.rglob("*")) == before
