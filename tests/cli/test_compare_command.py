"""`compare`: one tiny grid of runs whose accuracies are known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from larq_nobn import training
from cli.answers import one_sentence
from click.testing import Result
from larq_nobn.training import _compare
from training.commands import executing
from training.fake_runs import leave_run

Invoke = Callable[..., Result]
GRID = (
    *("compare", "--normalizations", "none,nobn", "--seed", "1"),
    *("--model", "reactnet18", "--dataset", "digits", "--width", "4", "--blocks", "1"),
    *("--epochs", "1", "--batch-size", "32", "--limit", "32"),
)
CELLS = {"none-32-1", "nobn-32-1"}


def test_a_grid_is_trained_and_put_side_by_side(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def train(settings: training.RunSettings, output: Path) -> None:
        leave_run(output, settings, [0.5])

    monkeypatch.setattr(_compare, "_executing", executing(train))
    folder = tmp_path / "grid"
    result = invoke(*GRID, "--output", folder, "--json", "-")
    assert result.exit_code == 0, result.output
    names = {path.name for path in folder.iterdir()}
    assert names == CELLS | {"compare.json", "compare.png"}
    # Lines of the training leave stdout to the JSON.
    content = json.loads(result.stdout)
    assert content == json.loads((folder / "compare.json").read_text())
    said = "nobn-32-1, epoch 1/1: loss 1.000, accuracy 50.0 %, test accuracy 50.0 %"
    assert said in result.stderr
    assert [group["seeds"] for group in content["groups"]] == [[1], [1]]
    # The same command again trains nothing.
    monkeypatch.setattr(_compare, "_executing", None)
    result = invoke(*GRID, "--output", folder)
    assert result.exit_code == 0, result.output
    assert json.loads((folder / "compare.json").read_text()) == content
    for row in ("none", "nobn"):
        assert f"\n {row} " in result.stdout
    assert f"Curves: {folder / 'compare.png'}" in result.stdout


def test_a_run_that_diverges_ends_with_code_1(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    sentence = "The loss is not finite at epoch 1, step 2."
    failing = executing(lambda *_: f"Error: {sentence}")
    monkeypatch.setattr(_compare, "_executing", failing)
    result = invoke(*GRID, "--output", tmp_path / "grid")
    assert result.exit_code == 1
    lines = [line for line in result.stderr.splitlines() if line.startswith("Failed")]
    assert len(lines) == 2
    assert lines[-1] == f"Failed: {tmp_path / 'grid' / 'nobn-32-1'}. {sentence}"
    assert str(tmp_path / "grid" / "compare.json") in result.stdout
    assert "compare.png" not in result.stdout


def test_a_stopped_grid_says_that_it_resumes(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def is_stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(_compare, "_executing", executing(is_stopped))
    result = invoke(*GRID, "--output", tmp_path / "grid")
    assert result.exit_code == 130
    assert result.stderr == (
        "Stopped; nothing half-written is left. To resume, repeat the command.\n"
    )


def test_one_sentence(invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for options, sentence in (
        ("--recipe plain,best", "quick, fine_tune; got 'best'"),
        ("--jobs 2 --scheduler tcp://[::1]:9", "scheduler='tcp://[::1]:9' were given"),
    ):
        line = (*GRID, "--output", "grid", *options.split())
        assert sentence in one_sentence(invoke(*line))
    assert list(tmp_path.iterdir()) == []
