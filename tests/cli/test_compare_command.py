"""`compare`: one tiny grid, trained once."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
from larq_nobn import training
from cli.answers import one_sentence
from click.testing import Result
from larq_nobn._errors import InvalidValue
from larq_nobn.cli import _progress
from larq_nobn.training.comparison import _compare
from rich.console import Console
from rich.progress import Progress
from training.commands import executing
from training.runs import step_by_step, without_curves

Invoke = Callable[..., Result]
GRID = (
    *("compare", "--normalization", "none,nobn", "--seed", "1"),
    *("--model", "reactnet18", "--dataset", "digits", "--width", "4", "--blocks", "1"),
    *("--epochs", "1", "--batch-size", "32", "--limit", "32"),
)
CELLS = {"none-32-1", "nobn-32-1"}
Compared = tuple[Path, Result]


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory, invoke: Invoke) -> Compared:
    """Trained in this process, without a graph."""
    folder = tmp_path_factory.mktemp("compare") / "grid"

    def train(settings: training.RunSettings, output: Path) -> None:
        training.train(settings, output)

    with step_by_step(), without_curves(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(_compare, "_executing", executing(train))
        return folder, invoke(*GRID, "--output", folder, "--json", "-")


@pytest.mark.slow
def test_a_grid_is_trained_and_put_side_by_side(compared: Compared):
    folder, result = compared
    assert result.exit_code == 0, result.output
    assert {path.name for path in folder.iterdir()} == CELLS | {
        "compare.json",
        "compare.png",
    }
    # Lines of the training leave stdout to the JSON.
    content = json.loads(result.stdout)
    assert content == json.loads((folder / "compare.json").read_text())
    assert "nobn-32-1, epoch 1/1: loss" in result.stderr
    assert [group["seeds"] for group in content["groups"]] == [[1], [1]]
    for run in content["runs"]:
        record = json.loads(Path(run["folder"], "run.json").read_text())
        assert run["metrics"] == record["metrics"]
        assert run["versions"] == record["versions"]


@pytest.mark.slow
def test_the_same_command_again_trains_nothing(
    compared: Compared, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
):
    folder, _ = compared
    before = (folder / "compare.json").read_text()
    monkeypatch.setattr(_compare, "_executing", None)
    result = invoke(*GRID, "--output", folder)
    assert result.exit_code == 0, result.output
    assert (folder / "compare.json").read_text() == before
    for row in ("none", "nobn"):
        assert f"│ {row} " in result.stdout
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


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("--normalization none,", "evonorm, dynamic_tanh; got ''"),
        ("--recipe plain,best", "quick, fine_tune; got 'best'"),
        (
            "--jobs 2 --scheduler tcp://127.0.0.1:9",
            "scheduler='tcp://127.0.0.1:9' were",
        ),
    ],
)
def test_one_sentence(
    options: str,
    sentence: str,
    invoke: Invoke,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(tmp_path)
    answer = one_sentence(invoke(*GRID, "--output", "grid", *options.split()))
    assert sentence in answer
    assert list(tmp_path.iterdir()) == []


def settings_in(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, *given: object
) -> list[training.RunSettings]:
    """What `compare` would train."""
    cells: list[training.RunSettings] = []

    def noted(found: dict, *_: object) -> None:
        cells.extend(found.values())
        raise InvalidValue("Not trained.")

    monkeypatch.setattr(training, "compare", noted)
    result = invoke("compare", "--dataset", "digits", "--output", "nowhere", *given)
    assert "Not trained." in one_sentence(result)
    return cells


@pytest.mark.parametrize(
    "given, expected",
    [
        ((), [("ReActNet18", each) for each in ("batch_norm", "none", "nobn")]),
        (("--init", "runs/a", "--recipe", "plain,fine_tune"), [("init", None)] * 2),
        (
            ("--init", "runs/a", "--model", "BiRealNet18"),
            [("BiRealNet18", each) for each in ("batch_norm", "none", "nobn")],
        ),
    ],
)
def test_networks_are_those_that_were_asked_for(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, given: tuple, expected: list
):
    found = settings_in(invoke, monkeypatch, *given)
    assert [(each.model, each.normalization) for each in found] == expected


def test_one_view_counts_all_runs(monkeypatch: pytest.MonkeyPatch):
    bar = Progress(disable=True)
    monkeypatch.setattr(_progress, "progress", lambda: nullcontext(bar))
    console = Console(file=io.StringIO(), width=100)
    cells = {"a": training.RunSettings(dataset="digits", epochs=2)}
    row = {"loss": 0.5, "accuracy": 0.25, "val_accuracy": 0.125}
    with _progress.comparing_progress(cells, 1, console) as show:
        counts = []
        for place, epoch in (("a/stage1", 2), ("a", 1), ("a", 2)):
            show(place, {"epoch": epoch, **row})
            counts.append(bar.tasks[0].completed)
    assert counts == [1, 1, 2]
    assert console.file.getvalue().splitlines()[-1] == (
        "a, epoch 2/2: loss 0.500, accuracy 25.0 %, test accuracy 12.5 %"
    )
