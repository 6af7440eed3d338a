"""Grids of runs: what is trained, what is not trained again, what is written."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from larq_nobn import training
from larq_nobn.training import _compare, grid

SHARED = {"dataset": "digits", "width": 4, "blocks": (1, 1), "epochs": 2, "limit": 64}
ACCURACIES = {"none": [0.2, 0.3], "nobn": [0.5, 0.4]}


def fake_train(settings, output, progress=None, *, resume=False):
    """Leaves the record of a run whose accuracies are known."""
    if not (output / "run.json").exists():
        output.mkdir(parents=True, exist_ok=True)
        fake_train.trained.append(output.name)
        last = ACCURACIES[settings.normalization][settings.seed]
        if settings.learning_rate > 1:
            raise training.NonFiniteLoss("The loss is not finite at epoch 1, step 2.")
        rows = [
            {"epoch": epoch, "val_accuracy": last * epoch / 2, "seconds": 3.0}
            for epoch in (1, 2)
        ]
        metrics = {"val_accuracy": last, "val_loss": 1.0}
        record = {"settings": asdict(settings), "metrics": metrics, "versions": {}}
        (output / "run.json").write_text(json.dumps(record))
        lines = ["epoch,val_accuracy,seconds"]
        lines += [",".join(str(value) for value in row.values()) for row in rows]
        (output / "history.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    fake_train.trained = []
    monkeypatch.setattr(_compare, "train", fake_train)
    return fake_train.trained


def test_a_grid_has_every_combination():
    cells = grid(["batch_norm", "nobn"], [0, 3], [2, 128], **SHARED)
    assert list(cells) == [
        f"{normalization}-{size}-{seed}"
        for normalization in ("batch_norm", "nobn")
        for size in (2, 128)
        for seed in (0, 3)
    ]
    found = cells["nobn-2-3"]
    assert (found.normalization, found.batch_size, found.seed) == ("nobn", 2, 3)
    assert (found.recipe, found.width) == ("nobn", 4)
    assert cells["batch_norm-2-0"].recipe == "plain"


def test_further_lists_are_part_of_the_name():
    cells = grid(["nobn"], learning_rates=[0.001, 0.01], recipes=["plain", "nobn"])
    assert "nobn-plain-128-0.001-0" in cells
    assert cells["nobn-nobn-128-0.01-0"].learning_rate == 0.01


@pytest.mark.parametrize(
    ("lists", "sentence"),
    [
        ({"normalizations": []}, r"normalizations=\[\] is empty"),
        (
            {"normalizations": ["nobn"], "seeds": [1, 1]},
            r"seeds=\[1, 1\] is empty or holds something twice",
        ),
        ({"normalizations": ["bn"]}, "normalization='bn' is not known"),
        (
            {"normalizations": ["nobn"], "recipes": ["best"]},
            "recipe='best' is not known",
        ),
    ],
)
def test_lists_that_make_no_grid(lists: dict, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        grid(**lists)


def test_what_is_finished_is_not_trained_again(tmp_path: Path, trained: list[str]):
    cells = grid(["none", "nobn"], [0, 1], **SHARED)
    training.compare(cells, tmp_path)
    assert trained == list(cells)
    (tmp_path / "nobn-128-1" / "run.json").unlink()
    trained.clear()
    training.compare(cells, tmp_path)
    assert trained == ["nobn-128-1"]


def test_statistics_over_the_seeds(tmp_path: Path, trained: list[str]):
    comparison = training.compare(grid(["none", "nobn"], [0, 1], **SHARED), tmp_path)
    written = json.loads((tmp_path / "compare.json").read_text())
    assert written == comparison.to_dict()
    for group, values in zip(written["groups"], ACCURACIES.values(), strict=True):
        found = group["metrics"]["val_accuracy"]
        assert found["mean"] == pytest.approx(np.mean(values))
        assert found["std"] == pytest.approx(np.std(values, ddof=1))
        assert (found["min"], found["max"]) == (min(values), max(values))
        first = group["val_accuracy"][0]
        assert first["mean"] == pytest.approx(np.mean(values) / 2)
        assert group["seeds"] == [0, 1]
        assert group["seconds_per_epoch"] == 3.0
    assert [group["settings"]["normalization"] for group in written["groups"]] == [
        "none",
        "nobn",
    ]
    assert (tmp_path / "compare.png").read_bytes()[:4] == b"\x89PNG"
    assert "45.0 (40.0 to 50.0)" in str(comparison)


def test_of_several_learning_rates_the_best_is_shown(
    tmp_path: Path, trained: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(ACCURACIES, "nobn", {0: 0.5, 1: 0.4})
    cells = grid(["none", "nobn"], [0], learning_rates=[0.1, 0.2], **SHARED)
    monkeypatch.setattr(
        _compare,
        "train",
        lambda settings, *rest, **options: _better_at_two_tenths(settings, *rest),
    )
    comparison = training.compare(cells, tmp_path)
    best = [group.settings for group in comparison.groups if group.best]
    assert [each["learning_rate"] for each in best] == [0.2, 0.2]
    assert len(comparison.to_dict()["groups"]) == 4


def _better_at_two_tenths(settings, output, progress=None):
    seed = 0 if settings.learning_rate == 0.2 else 1
    better = {"none": [0.3, 0.2], "nobn": [0.5, 0.4]}[settings.normalization]
    ACCURACIES_OF = {"val_accuracy": better[seed], "val_loss": 1.0}
    output.mkdir(parents=True)
    record = {"settings": asdict(settings), "metrics": ACCURACIES_OF, "versions": {}}
    (output / "run.json").write_text(json.dumps(record))
    (output / "history.csv").write_text(
        f"epoch,val_accuracy,seconds\n1,{better[seed]},1.0\n"
    )


def test_a_run_that_diverges_is_noted_and_the_others_are_trained(
    tmp_path: Path, trained: list[str]
):
    cells = grid(["none", "nobn"], [0, 1], **SHARED)
    cells["none-128-1"] = replace(cells["none-128-1"], learning_rate=2.0)
    comparison = training.compare(cells, tmp_path)
    assert trained == list(cells)
    failures = [each.failure for each in comparison.outcomes]
    assert failures == [None, "The loss is not finite at epoch 1, step 2.", None, None]
    written = json.loads((tmp_path / "compare.json").read_text())
    assert [group["failed"] for group in written["groups"]].count([]) == 2


def test_where_all_diverge_there_is_no_picture(tmp_path: Path, trained: list[str]):
    cells = grid(["none"], [0], learning_rates=[2.0], **SHARED)
    comparison = training.compare(cells, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "none-128-2.0-0",
        "compare.json",
    }
    assert "failed" in str(comparison)


def test_a_file_is_no_folder(tmp_path: Path):
    place = tmp_path / "file"
    place.write_text("mine")
    with pytest.raises(NotADirectoryError, match="is a file, but a comparison needs"):
        training.compare(grid(["nobn"]), place)


def test_reports_of_runs_of_an_older_version(tmp_path: Path):
    committed = Path(__file__).parents[2] / "benchmarks" / "logs" / "cifar10_accuracy"
    runs = sorted(path for path in committed.iterdir() if path.is_dir())
    comparison = training.report(runs)
    assert comparison.compared == ["normalization"]
    means = {
        group.settings["normalization"]: group.spread("val_accuracy")["mean"]
        for group in comparison.groups
    }
    for normalization, mean in means.items():
        values = [
            json.loads((run / "run.json").read_text())["metrics"]["val_accuracy"]
            for run in runs
            if run.name.startswith(normalization)
        ]
        assert len(values) == 3
        assert mean == pytest.approx(np.mean(values))
    assert set(means) == {"batch_norm", "nobn", "none"}


def test_what_is_no_run_is_named_and_left_out(tmp_path: Path, trained, caplog):
    training.compare(grid(["none"], [0], **SHARED), tmp_path)
    comparison = training.report(sorted(tmp_path.iterdir()))
    assert len(comparison.outcomes) == 1
    assert "Left out" in caplog.text and "compare.json" in caplog.text


@pytest.mark.parametrize(
    ("by", "sentence"),
    [
        (["colour"], "by=colour has 'colour', which is no setting"),
        (
            ["seed", "seed"],
            "by=seed,seed has 'seed', which is no setting, or comes twice",
        ),
    ],
)
def test_reports_by_what_is_no_setting(by, sentence, tmp_path: Path, trained):
    training.compare(grid(["none"], [0], **SHARED), tmp_path)
    with pytest.raises(ValueError, match=sentence):
        training.report([tmp_path / "none-128-0"], by)


def test_there_has_to_be_a_run(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="holds no finished run"):
        training.report([tmp_path])
    with pytest.raises(FileNotFoundError, match="gone does not exist"):
        training.report([tmp_path / "gone"])
