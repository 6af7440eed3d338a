"""Runs side by side: which go together, their statistics, what is rejected."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from larq_nobn import training
from _runs import as_folders
from larq_nobn.training import RunSettings
from training.fake_runs import leave_run

PLAIN = RunSettings("plain", dataset="digits", normalization="none", epochs=3)
NOBN = RunSettings.from_recipe("nobn", dataset="digits", epochs=3)
# Of each seed, epoch by epoch.
CURVES = np.array([[0.1, 0.7, 0.4], [0.2, 0.5, 0.6], [0.6, 0.6, 0.8]])
SECONDS = np.array([[9.0, 1.0, 2.0], [8.0, 3.0, 1.0], [7.0, 2.0, 2.0]])
OLD = Path(__file__).parents[2] / "results" / "cifar10_accuracy"


def leave_seeds(place: Path, settings: RunSettings, curves: np.ndarray) -> list[Path]:
    folders = []
    for seed, curve in enumerate(curves):
        folders.append(place / f"{settings.normalization}-{seed}")
        leave_run(folders[-1], replace(settings, seed=seed), curve, SECONDS[seed])
    return folders


def test_statistics_over_the_seeds(tmp_path: Path):
    comparison = training.report(leave_seeds(tmp_path, PLAIN, CURVES))
    (group,) = comparison.to_dict()["groups"]
    last = CURVES[:, -1]
    assert group["metrics"]["test_accuracy"] == {
        "mean": pytest.approx(last.mean()),
        "min": last.min(),
        "max": last.max(),
        "std": pytest.approx(last.std(ddof=1)),
    }
    for epoch, row in enumerate(group["test_accuracy"]):
        assert row["epoch"] == epoch + 1
        assert row["mean"] == pytest.approx(CURVES[:, epoch].mean())
        assert row["std"] == pytest.approx(CURVES[:, epoch].std(ddof=1))
        assert row["min"] == CURVES[:, epoch].min()
        assert row["max"] == CURVES[:, epoch].max()
    assert CURVES.mean(0).argmax() == 1  # where it learned and forgot again
    assert group["best_epoch"]["epoch"] == 2
    assert group["best_epoch"]["mean"] == pytest.approx(CURVES[:, 1].mean())
    assert group["seconds_per_epoch"] == pytest.approx(np.median(SECONDS))
    assert group["seeds"] == [0, 1, 2]
    (line,) = (each for each in str(comparison).splitlines() if "80.0" in each)
    row = line.replace("│", "").split()
    assert row == [
        *["3", "60.0", "(40.0", "to", "80.0)", "1.000", "2", "(60.0)", "2.0"]
    ]


def test_the_json_is_whole_and_plain(tmp_path: Path):
    runs = leave_seeds(tmp_path, PLAIN, CURVES)
    leave_run(runs[0], PLAIN, CURVES[0], test_loss=float("nan"), accuracy=0.5)
    target = tmp_path / "report.json"
    comparison = training.report(runs)
    comparison.to_json(target)
    content = json.loads(target.read_text(), parse_constant=pytest.fail)
    assert content == comparison.to_dict()
    assert content["runs"][0]["settings"]["normalization"] == "none"
    assert content["runs"][0]["versions"] == {"larq_nobn": "0.1.0"}
    assert [row["test_accuracy"] for row in content["runs"][2]["history"]] == [
        *CURVES[2]
    ]
    assert content["groups"][0]["metrics"]["test_loss"]["mean"] is None
    # Not all runs have it, so there is no mean of it.
    assert "accuracy" not in content["groups"][0]["metrics"]
    with pytest.raises(OSError, match="cannot be written"):
        comparison.to_json(tmp_path / "nowhere" / "report.json")


def test_what_follows_from_the_recipe_goes_without_saying(tmp_path: Path):
    runs = leave_seeds(tmp_path, PLAIN, CURVES) + leave_seeds(tmp_path, NOBN, CURVES)
    comparison = training.report(runs)
    assert NOBN.learning_rate != PLAIN.learning_rate
    assert comparison.compared == ["normalization", "recipe"]
    # The epochs are not those of either recipe, but the same for all.
    other = replace(NOBN, learning_rate=0.02, clip_factor=0.5, seed=7)
    leave_run(tmp_path / "other", other, [0.5])
    comparison = training.report([*runs, tmp_path / "other"])
    assert comparison.compared == [
        *("normalization", "recipe", "learning_rate", "clip_factor")
    ]


def test_of_the_rest_the_best_is_shown(tmp_path: Path):
    worse, better = replace(PLAIN, learning_rate=0.1), replace(PLAIN, clip_factor=0)
    runs = [
        *leave_seeds(tmp_path / "a", worse, CURVES / 2),
        *leave_seeds(tmp_path / "b", better, CURVES),
    ]
    comparison = training.report(runs, by=["normalization"])
    best = [group.settings for group in comparison.groups if group.best]
    assert best == [{"normalization": "none", "learning_rate": 0.001, "clip_factor": 0}]
    assert len(comparison.groups) == 2
    text = " ".join(str(comparison).replace("┃", "").split())
    assert "chosen on the test images" in text
    assert "60.0 (40.0 to 80.0)" in text and "30.0" not in text
    # By the seed there is nothing to take together.
    assert len(training.report(runs, by=["clip_factor", "seed"]).groups) == 6


def test_what_cannot_be_reported(tmp_path: Path):
    (run,) = leave_seeds(tmp_path, PLAIN, CURVES[:1])
    (tmp_path / "logs").mkdir()
    with pytest.raises(ValueError, match="by=colour: 'colour' is not a setting"):
        training.report([run], ["colour"])
    for runs, sentence in (
        ([tmp_path / "logs"], "contains no finished run"),
        ([], "An empty list contains no finished run"),
    ):
        with pytest.raises(FileNotFoundError, match=sentence):
            training.report(runs)


def test_runs_of_an_older_version_and_of_this_one(tmp_path: Path):
    same = RunSettings("plain", normalization="none", width=16, epochs=5, seed=3)
    leave_run(tmp_path / "new", same, [0.1, 0.2, 0.3, 0.4, 0.56])
    with as_folders(OLD) as runs:
        comparison = training.report([*runs, tmp_path / "new"])
        text = str(training.report(runs))
    assert comparison.compared == ["normalization"]
    sizes = {g.settings["normalization"]: len(g.outcomes) for g in comparison.groups}
    assert sizes == {"batch_norm": 3, "nobn": 3, "none": 4}
    # As published in docs/results.md, from the same runs by another script.
    for published in (
        *("67.7 (66.2 to 68.9)", "60.4 (60.1 to 60.8)", "56.4 (55.0 to 57.6)"),
    ):
        assert published in text


def test_what_is_no_finished_run_is_named_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    runs = leave_seeds(tmp_path, PLAIN, CURVES)
    (runs[1] / "run.json").unlink()  # unfinished
    (tmp_path / "compare.json").write_text("{}")  # known, and said nothing of
    (tmp_path / "notes.txt").write_text("")
    comparison = training.report(sorted(tmp_path.iterdir()))
    assert [each.folder for each in comparison.outcomes] == [str(runs[0]), str(runs[2])]
    (message,) = caplog.messages
    assert message.startswith("Skipped, because there is no run.json")
    assert message.endswith(f": {runs[1]}, {tmp_path / 'notes.txt'}.")
    whole = training.report([tmp_path])  # the folder of a comparison
    assert [each.folder for each in whole.outcomes] == [str(runs[0]), str(runs[2])]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run.json", '{"settings": {}, "metrics": {}, "versions": {}}'),
        ("history.csv", "epoch,val_accuracy,seconds\n1,high,2\n"),
    ],
)
def test_a_damaged_run_is_rejected(name: str, content: str, tmp_path: Path):
    runs = leave_seeds(tmp_path, PLAIN, CURVES)
    (runs[1] / name).write_text(content)
    with pytest.raises(ValueError, match=r"none-1(/[.a-z]+)? is damaged: "):
        training.report(runs)
