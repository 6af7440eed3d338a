"""`compare` and `report`: one tiny grid, trained once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from larq_nobn import training

GRID = (
    *("compare", "--normalizations", "none,nobn", "--seeds", "0,1"),
    *("--dataset", "digits", "--width", "4", "--blocks", "1,1"),
    *("--epochs", "1", "--batch-sizes", "32", "--limit", "64"),
)
CELLS = {f"{name}-32-{seed}" for name in ("none", "nobn") for seed in (0, 1)}


@pytest.fixture(scope="module")
def compared(tmp_path_factory, invoke):
    folder = tmp_path_factory.mktemp("compare") / "grid"
    return folder, invoke(*GRID, "--output", folder)


def test_a_grid_is_trained_and_put_side_by_side(compared):
    folder, result = compared
    assert result.exit_code == 0, result.output
    assert {path.name for path in folder.iterdir()} == CELLS | {
        "compare.json",
        "compare.png",
    }
    assert "nobn-32-1, epoch 1/1: loss" in result.output
    content = json.loads((folder / "compare.json").read_text())
    assert [group["seeds"] for group in content["groups"]] == [[0, 1], [0, 1]]


def test_the_same_command_again_trains_nothing(compared, invoke, monkeypatch):
    folder, _ = compared
    monkeypatch.setattr(training._run, "fit", None)
    result = invoke(*GRID, "--output", folder, "--json", "-")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == json.loads(
        (folder / "compare.json").read_text()
    )


def test_report_says_the_same(compared, invoke, tmp_path: Path):
    folder, _ = compared
    cells = [folder / name for name in sorted(CELLS)]
    target, picture = tmp_path / "report.json", tmp_path / "report.png"
    result = invoke("report", *cells, "--json", target, "--png", picture)
    assert result.exit_code == 0, result.output
    by_report, by_compare = (
        {
            group["settings"]["normalization"]: group["metrics"]["val_accuracy"]
            for group in json.loads(file.read_text())["groups"]
        }
        for file in (target, folder / "compare.json")
    )
    assert by_report == by_compare
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert "none" in result.stdout and "nobn" in result.stdout


def test_a_run_that_diverges_ends_with_code_1(invoke, tmp_path: Path, monkeypatch):
    def diverges(*_, **__):
        raise training.NonFiniteLoss("The loss is not finite at epoch 1, step 2.")

    monkeypatch.setattr(training._compare, "train", diverges)
    result = invoke(*GRID, "--output", tmp_path)
    assert result.exit_code == 1
    assert "nobn-32-1. The loss is not finite at epoch 1, step 2." in result.stderr
