"""What `RunSettings` accepts, the sentence for all else, and what a field brings."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from larq_nobn.config._fields import GROUPS, settings_of
from larq_nobn.config._run_files import write_json
from larq_nobn.training import RECIPES, RunSettings, grid
from settings import PAGE, table
from training import commands


def test_defaults_are_the_published_recipe_with_clipping():
    assert RunSettings() == RunSettings.from_recipe() == RunSettings("nobn")
    settings = RunSettings("plain", blocks=[2, 3])
    assert (settings.model, settings.normalization) == ("ReActNet18", "nobn")
    assert (settings.learning_rate, settings.clip_factor) == (1e-3, 0.02)
    assert (settings.batch_size, settings.precision) == (128, "float32")
    assert settings.blocks == (2, 3)
    assert RunSettings("plain") == RunSettings.from_recipe("plain")
    published = {"variance_preserving": False, "balanced": False}
    assert RunSettings("plain", model="VGGSmall").network == published
    published |= {"alpha": 0.2, "variance_rule": "vita"}
    assert settings.network == published
    assert RunSettings.from_recipe("vita_cifar").network == published
    chosen = RunSettings("plain", network={"alpha": 0.3})
    assert chosen.network == {**published, "alpha": 0.3}


# A row for each kind of message, and for pairs of settings that exclude each other.
WRONG = [
    ({"model": "LeNet"}, "model must be one of .*ReActNet18.*; got 'LeNet'"),
    ({"dataset": "cats"}, "dataset must be one of .*digits.*; got 'cats'"),
    ({"width": 0}, "width=0 is below 1"),
    ({"blocks": (4, 0)}, "blocks=0 is below 1"),
    ({"image_size": (32,)}, r"image_size=\(32,\) is not a pair"),
    ({"learning_rate": "fast"}, "learning_rate='fast' is not a number"),
    ({"calibrate": 1}, "calibrate=1 is neither True nor False"),
    ({"network": {"beta": 1}}, "beta is not an argument of ReActNet18. .*alpha"),
    ({"accumulate": 3}, "accumulate=3 does not divide batch_size=128"),
    ({"warmup_epochs": 2}, "warmup_epochs=2 does not go .* Choose schedule cosine"),
    ({"kernel": "biper", "stages": 2}, "stages=2 does not go with kernel='biper'"),
    ({"label_smoothing": 0.1, "teacher": "train"}, "label_smoothing=0.1 does not go"),
    ({"kernel": "bernoulli_sign", "ema": 0.9}, "ema=0.9 does not go with kernel="),
    ({"kernel": "recu"}, "kernel='recu' needs a normalization"),
    ({"model": "VGGSmall", "blocks": (1,)}, "blocks is not an argument of VGGSmall"),
    ({"calibrate": True, "normalization": "kalman"}, "has no effect on ReActN"),
    ({"model": "init"}, "model='init' is the network of init, which is not given"),
    ({"init": "a", "calibrate": True}, "calibrate=True does not go with init='a'"),
    ({"normalization": None}, "normalization must be one of batch_norm.*got None"),
    ({"learning_rat": 0.1}, "learning_rat is not a setting. Choose learning_rate"),
]


@pytest.mark.parametrize(("wrong", "sentence"), WRONG, ids=str)
def test_what_is_not_allowed(wrong: dict, sentence: str):
    with pytest.raises((ValueError, TypeError), match=sentence):
        RunSettings(**wrong)


# What nothing would use, and what the sentence names as the use of it.
UNUSED = [
    ({"momentum": 0.5}, "optimizer sgd"),
    ({"optimizer": "sgd", "beta_2": 0.9}, "optimizer adam or adamw"),
    ({"stage_one_decay": 0.1}, "stages 2"),
    ({"clip_each_gain": True, "clip_factor": 0.0}, "clip_factor"),
    (
        {"reflect": True, "augment": "none", "normalization": "kalman"},
        "another augment",
    ),
    (
        {
            "reflect": True,
            "augment": "random_resized_crop",
            "normalization": "kalman",
        },
        "another augment",
    ),
    (
        {"reflect": True, "dataset": "imagenet", "normalization": "kalman"},
        "another dataset or augment crop or standard or strong or randaugment",
    ),
    ({"flip": "horizontal", "augment": "none"}, "another augment"),
    ({"temperature": 0.5}, "kernel bernoulli_sign"),
    ({"monitor": "val_loss"}, "keep best or patience"),
    ({"holdout": 0.2}, "dataset an image folder or tfds:NAME"),
    ({"skip_unreadable": True, "dataset": "tfds:a"}, "dataset an image folder"),
    ({"data_dir": "x", "dataset": "digits"}, "dataset mnist or .* or tfds:NAME"),
    ({"latent_scale": 2.0, "init": "a"}, "another model"),
    ({"latent_scale": 2.0, "stages": 2}, "stages 1"),
    ({"network": {"alpha": 0.3}, "normalization": "group"}, "normalization nobn"),
]


@pytest.mark.parametrize(("unused", "use"), UNUSED, ids=str)
def test_a_value_that_nothing_uses(unused: dict, use: str):
    """From an option as from a file; one that a recipe says is only left out."""
    for make in (
        lambda: RunSettings(**unused),
        lambda: RunSettings.from_recipe(**unused),
        lambda: RunSettings.from_layers(None, unused, {}),
        lambda: RunSettings.from_layers(None, unused, {"epochs": 2}),
    ):
        with pytest.raises(ValueError, match=f"does not go with .*Choose {use}, or le"):
            make()


def test_what_a_recipe_says_and_nothing_uses_is_left_out():
    settings = RunSettings.from_recipe("nobn", optimizer="sgd")
    assert (settings.beta_2, settings.sources["beta_2"]) == (0.999, "default")
    with pytest.raises(ValueError, match="momentum=0.9 does not go with"):
        RunSettings.from_recipe("nobn", momentum=0.9)  # though it is the default
    assert RunSettings("nobn", momentum=0.9) == RunSettings("nobn")
    # A run of an earlier version has them all.
    assert RunSettings(**{**asdict(settings), "beta_2": 0.99}).optimizer == "sgd"
    with pytest.raises(ValueError, match="stages=2 does not go with kernel='biper'"):
        RunSettings.from_recipe("two_stage", kernel="biper")


def test_layers_and_where_values_are_from():
    file = {"epochs": 7, "width": 4, "network": {"estimator": "sigmoid_sign"}}
    options = {"epochs": 3, "network": {"alpha": 0.3}}
    settings = RunSettings.from_layers(None, file, options)
    usual = RECIPES["nobn"].network
    assert settings.network == {**usual, **file["network"], **options["network"]}
    names = ("epochs", "width", "learning_rate", "clip_factor", "network")
    assert [settings.sources[name] for name in names] == [
        *("option", "file", "recipe nobn", "default", "option")
    ]
    other = settings.but(seed=3, optimizer="sgd")
    assert (other.epochs, other.beta_2, other.seed) == (3, 0.999, 3)
    assert other.sources["epochs"] == "option"


def test_another_recipe_beside_the_record_of_a_run():
    """It changes what was of the other recipe, and nothing that was chosen."""
    chosen = {"dataset": "digits", "width": 4, "epochs": 2, "mixup": 0.2}
    network = {"estimator": "sign_swish"}
    for before, more in (("nobn", {}), ("proxy", {}), ("small", {"stages": 1})):
        run = asdict(RunSettings.from_recipe(before, network=network, **chosen))
        actual = RunSettings.from_layers("two_stage", run, more)
        norm = {"normalization": run["normalization"]}
        wanted = RunSettings.from_recipe(
            "two_stage", **{**chosen, **norm, **more}, network=network
        )
        assert actual == wanted and actual.stages == more.get("stages", 2)
    group = RunSettings.from_layers("group", run, {})
    assert (group.normalization, group.epochs) == ("group", 2)


def test_names_of_folders_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    for name, path in (("./digits", "digits"), ("a/b", "a/b"), ("../x", "../x")):
        settings = RunSettings(dataset=name)
        assert settings.dataset == str((tmp_path / path).resolve())
    assert RunSettings(dataset="digits").dataset == "digits"


def test_numbers_of_numpy_are_those_of_python():
    """In memory and in files."""
    numpy = grid(
        seeds=np.arange(2),
        learning_rates=np.array([0.5], np.float32),
        blocks=list(np.ones(2, int)),
        network={"alpha": np.float32(0.25), "balanced": np.bool_(True)},
    )
    network = {"alpha": 0.25, "balanced": True}
    plain = grid(seeds=range(2), learning_rates=[0.5], blocks=(1, 1), network=network)
    assert numpy == plain
    written = [
        [json.dumps(asdict(x)) for x in runs.values()] for runs in (numpy, plain)
    ]
    assert written[0] == written[1]


def test_json_has_no_number_that_is_not_finite(tmp_path: Path):
    content = {"a": math.nan, "b": [math.inf, {"c": -math.inf}], "d": (1.5, "NaN")}
    write_json(tmp_path / "a.json", content)
    read = json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail)
    assert read == {"a": None, "b": [None, {"c": None}], "d": [1.5, "NaN"]}


def test_every_setting_says_what_it_does():
    for known in settings_of(RunSettings).values():
        assert known.group in GROUPS
        assert known.help.endswith(".") and known.help[0].isupper()
        assert known.check(known.default) == known.default


def test_the_page_of_settings_is_up_to_date():
    """`python docs/tools/settings.py` writes it."""
    assert table(RunSettings) in PAGE.read_text(encoding="utf-8")


def test_a_run_is_repeated_by_its_record(tmp_path: Path):
    settings = RunSettings.from_recipe(
        "batch_norm",
        dataset="digits",
        blocks=(1, 2),
        image_size=(8, 9),
        network={"estimator": "sign_swish"},
        balance_classes=True,
        reflect=False,
        validation=0.1,
        ema=0.9,
        keep="best",
    )
    record = tmp_path / "run.json"
    write_json(record, {"settings": asdict(settings)})
    command = [*("-", "-m", "larq_nobn", "train"), f"--config={record}", "--output=o"]
    assert commands.settings_of(command)[0] == settings
    other, _, _ = commands.settings_of([*command, "--epochs=3", "--reflect"])
    assert other == replace(settings, epochs=3, reflect=True)
