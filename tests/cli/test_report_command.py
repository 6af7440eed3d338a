"""`report`, on runs whose accuracies are known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from larq_nobn import training
from click.testing import Result
from training.fake_runs import leave_run

Invoke = Callable[..., Result]
CELLS = training.grid(
    *(["none", "nobn"], [0, 1]), learning_rates=[0.001, 0.01], dataset="digits"
)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Accuracies 0.1, 0.2, ..., in the order of normalization, rate and seed."""
    monkeypatch.chdir(tmp_path)
    for number, (name, settings) in enumerate(CELLS.items(), 1):
        leave_run(Path("runs", name), settings, [number / 20, number / 10])
    return [f"runs/{name}" for name in CELLS]


def test_json_and_plot(runs: list[str], invoke: Invoke):
    printed = invoke("report", *runs, "--json", "-", "--png", "runs.png")
    written = invoke("report", *runs, "--json", "report.json")
    assert printed.exit_code == written.exit_code == 0, printed.output
    content = json.loads(printed.stdout)
    assert content == json.loads(Path("report.json").read_text())
    assert content == training.report(runs).to_dict()
    assert "55.0 (50.0 to 60.0)" in written.stdout and written.stderr == ""
    assert Path("runs.png").read_bytes()[:4] == b"\x89PNG"
