"""What `RunSettings` accepts, and the sentence for everything else."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from larq_nobn import training
from larq_nobn.training import RunSettings, grid
from training.fake_runs import leave_run


def test_defaults_are_the_published_recipe_with_clipping():
    settings = RunSettings()
    assert (settings.model, settings.normalization) == ("ReActNet18", "nobn")
    assert (settings.learning_rate, settings.clip_factor) == (1e-3, 0.02)
    assert (settings.batch_size, settings.precision) == (128, "float32")


def test_blocks_become_a_tuple():
    assert RunSettings(blocks=[2, 3]).blocks == (2, 3)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"model": "LeNet"}, "model must be one of .*ReActNet18.*; got 'LeNet'"),
        (
            {"normalization": "bn"},
            "normalization must be one of .*batch_norm.*; got 'bn'",
        ),
        ({"dataset": "cats"}, "dataset must be one of .*digits.*; got 'cats'"),
        (
            {"precision": "int8"},
            "precision must be one of .*mixed_bfloat16.*; got 'int8'",
        ),
        ({"width": 0}, "width=0 is below 1"),
        ({"blocks": ()}, r"blocks=\(\) is not a list of blocks per stage"),
        ({"blocks": (4, 0)}, "blocks=0 is below 1"),
        ({"epochs": 0}, "epochs=0 is below 1"),
        ({"batch_size": -1}, "batch_size=-1 is below 1"),
        ({"learning_rate": 0.0}, "learning_rate=0.0 is outside"),
        ({"clip_factor": -0.1}, "clip_factor=-0.1 is outside"),
        ({"seed": -1}, "seed=-1 is below 0"),
        ({"limit": 0}, "limit=0 is below 1"),
    ],
)
def test_values_outside_what_is_allowed(wrong: dict, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        RunSettings(**wrong)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"width": "8"}, "width='8' is not a whole number"),
        ({"blocks": 4}, "blocks=4 is not a list of blocks per stage"),
        ({"blocks": (1.5,)}, "blocks=1.5 is not a whole number"),
        ({"epochs": 1.5}, "epochs=1.5 is not a whole number"),
        ({"learning_rate": "fast"}, "learning_rate='fast' is not a number"),
        ({"clip_factor": None}, "clip_factor=None is not a number"),
        ({"teacher": 5}, "teacher=5 is not a text. Give a word, or a path as text."),
        ({"teacher": ""}, "teacher='' is not a text"),
        ({"init_sha256": b"a"}, "init_sha256=b'a' is not a text"),
    ],
)
def test_values_of_the_wrong_type(wrong: dict, sentence: str):
    with pytest.raises(TypeError, match=sentence):
        RunSettings(**wrong)


def test_numbers_of_numpy_are_those_of_python():
    """In memory and in files."""
    cells = grid(
        seeds=np.arange(2),
        batch_sizes=np.array([8]),
        learning_rates=np.array([0.5], np.float32),
        limit=np.int16(7),
        blocks=list(np.ones(2, int)),
        image_size=np.int64(8),
        network={"alpha": np.float32(0.25), "balanced": np.bool_(True)},
    )
    plain = grid(
        seeds=range(2),
        batch_sizes=[8],
        learning_rates=[0.5],
        limit=7,
        blocks=(1, 1),
        image_size=8,
        network={"alpha": 0.25, "balanced": True},
    )
    assert cells == plain
    written = [json.dumps(asdict(each)) for each in cells.values()]
    assert written == [json.dumps(asdict(each)) for each in plain.values()]


def test_json_has_no_number_that_is_not_finite(tmp_path: Path):
    content = {"a": math.nan, "b": [math.inf, {"c": -math.inf}], "d": (1.5, "NaN")}
    training.write_json(tmp_path / "a.json", content)
    found = json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail)
    assert found == {"a": None, "b": [None, {"c": None}], "d": [1.5, "NaN"]}


def test_a_record_has_its_losses_back(tmp_path: Path):
    """As of a training that ends well but for its test."""
    leave_run(tmp_path, RunSettings(), [0.5])
    record = json.loads((tmp_path / "run.json").read_text())
    record["metrics"]["test_loss"] = math.nan
    training.write_json(tmp_path / "run.json", record)
    assert math.isnan(training.load_record(tmp_path)[0]["metrics"]["test_loss"])
    outcome = training.report([tmp_path]).to_dict()["runs"][0]
    assert outcome["metrics"]["test_loss"] is None
