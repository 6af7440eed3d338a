"""What `RunSettings` accepts, and the sentence for everything else."""

from __future__ import annotations

import pytest
from larq_nobn.training import RunSettings


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
    ],
)
def test_values_of_the_wrong_type(wrong: dict, sentence: str):
    with pytest.raises(TypeError, match=sentence):
        RunSettings(**wrong)
