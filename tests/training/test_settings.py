"""What `RunSettings` accepts, the sentence for all else, and what a field brings."""

from __future__ import annotations

import inspect
import json
import math
import sys
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import click
import numpy as np
import pytest
from larq_nobn import training
from click.testing import CliRunner
from larq_nobn.cli._arguments import Grouped, training_options
from larq_nobn.config._fields import GROUPS, documented, setting, settings_of
from larq_nobn.config._recipe import Recipe
from larq_nobn.config._run_files import write_json
from larq_nobn.config._settings import Settings
from larq_nobn.training import RunSettings, grid
from settings import PAGE, table
from training import commands
from training.fake_runs import leave_run


def test_defaults_are_the_published_recipe_with_clipping():
    settings = RunSettings(blocks=[2, 3])
    assert (settings.model, settings.normalization) == ("ReActNet18", "nobn")
    assert (settings.learning_rate, settings.clip_factor) == (1e-3, 0.02)
    assert (settings.batch_size, settings.precision) == (128, "float32")
    assert settings.blocks == (2, 3)
    assert RunSettings() == RunSettings.from_recipe("plain")
    published = {"variance_preserving": False, "balanced": False}
    assert RunSettings(model="VGGSmall").network == published
    published |= {"alpha": 0.2, "variance_rule": "vita"}
    assert settings.network == published
    assert RunSettings.from_recipe("vita_cifar").network == published
    assert RunSettings(network={"alpha": 0.3}).network == {**published, "alpha": 0.3}


# A row for each kind of message, and for each pair of settings that exclude each other.
WRONG = [
    # Each by itself.
    ({"model": "LeNet"}, "model must be one of .*ReActNet18.*; got 'LeNet'"),
    ({"dataset": "cats"}, "dataset must be one of .*digits.*; got 'cats'"),
    ({"dataset": 3}, "dataset=3 is neither a name nor a path."),
    ({"width": 0}, "width=0 is below 1"),
    ({"stages": 3}, "stages=3 is above 2"),
    ({"blocks": ()}, r"blocks=\(\) is not a list of blocks per stage"),
    ({"blocks": (4, 0)}, "blocks=0 is below 1"),
    ({"image_size": (32,)}, r"image_size=\(32,\) is not a pair"),
    ({"learning_rate": 0.0}, "learning_rate=0.0 is outside"),
    ({"learning_rate": "fast"}, "learning_rate='fast' is not a number"),
    ({"beta_2": 1.0}, r"beta_2=1.0 is outside \[0, 1\)"),
    ({"latent_initializer": "ones"}, "must be one of glorot_uniform, .*; got 'ones'"),
    ({"teacher": 5}, "teacher=5 is not a text. Give a word, or a path as text."),
    ({"init": ""}, "init='' is not a text"),
    ({"calibrate": 1}, "calibrate=1 is neither True nor False"),
    ({"network": "alpha"}, "network='alpha' is not a mapping"),
    # Together.
    ({"accumulate": 3}, "accumulate=3 does not divide batch_size=128"),
    ({"warmup_epochs": 2}, "warmup_epochs=2 needs the schedule 'cosine'"),
    (
        {"warmup_epochs": 20, "schedule": "cosine"},
        "warmup_epochs=20 leaves nothing of epochs=20",
    ),
    (
        {"kernel": "biper", "late_penalty": 1e-5},
        "late_penalty=1e-05 pulls .*, but those of kernel='biper' do not",
    ),
    ({"kernel": "biper", "stages": 2}, "stages=2 does not go with kernel='biper'"),
    (
        {"kernel": "bernoulli_sign", "weight_decay": 0.1},
        "weight_decay=0.1 would be .* Use prior_weight in its place",
    ),
    (
        {"label_smoothing": 0.1, "teacher": "train"},
        "label_smoothing=0.1 changes labels, but teacher='train' takes their",
    ),
    ({"ema": 1.0}, r"ema=1.0 is outside \(0, 1\)"),
    ({"patience": 0}, "patience=0 is below 1"),
    ({"keep": "best", "monitor": "val_auc"}, "val_loss"),
    ({"monitor": "val_loss"}, "monitor='val_loss' is not used: keep='last'"),
    ({"kernel": "bernoulli_sign", "ema": 0.9}, "ema=0.9 does not apply to kernel="),
    # With the network.
    ({"network": {"beta": 1}}, "'beta', which ReActNet18 does not know. .*alpha"),
    ({"kernel": "recu"}, "kernel='recu' needs a normalization"),
    (
        {"model": "VGGSmall", "blocks": (1,)},
        r"blocks=\(1,\) does not apply: VGGSmall is not made of",
    ),
    (
        {"calibrate": True, "normalization": "kalman"},
        "finds nothing to set in ReActNet18 with normalization='kalman'",
    ),
    (
        {"standardize_activations": True, "normalization": "kalman"},
        "standardize_activations=True does not apply to normalization='kalman'",
    ),
    # With another network's weights.
    ({"model": "init"}, "model='init' is the network of init, which is not given"),
    (
        {"model": "init", "init": "a", "normalization": None, "width": 8},
        "width=8 does not apply to the network of",
    ),
    (
        {"init": "a", "calibrate": True},
        "calibrate=True would overwrite thresholds, biases and gains of init='a'",
    ),
]


@pytest.mark.parametrize(("wrong", "sentence"), WRONG, ids=str)
def test_what_is_not_allowed(wrong: dict, sentence: str):
    with pytest.raises((ValueError, TypeError), match=sentence):
        RunSettings(**wrong)


def test_words_that_are_no_recipe_or_normalization():
    with pytest.raises(ValueError, match="recipe must be one of .*two.*; got 'best'"):
        RunSettings.from_recipe("best")
    with pytest.raises(ValueError, match="normalization must be one of .*; got 'bn'"):
        RunSettings.from_recipe(normalization="bn")


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
    assert numpy == plain
    written, expected = (
        [json.dumps(asdict(settings)) for settings in runs.values()]
        for runs in (numpy, plain)
    )
    assert written == expected


def test_json_has_no_number_that_is_not_finite(tmp_path: Path):
    content = {"a": math.nan, "b": [math.inf, {"c": -math.inf}], "d": (1.5, "NaN")}
    write_json(tmp_path / "a.json", content)
    read = json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail)
    assert read == {"a": None, "b": [None, {"c": None}], "d": [1.5, "NaN"]}


def test_a_record_has_its_losses_back(tmp_path: Path):
    """As of a training that ends well but for its test."""
    leave_run(tmp_path, RunSettings(), [0.5])
    record = json.loads((tmp_path / "run.json").read_text())
    record["metrics"]["test_loss"] = math.nan
    write_json(tmp_path / "run.json", record)
    assert math.isnan(training.load_record(tmp_path)[0]["metrics"]["test_loss"])
    outcome = training.report([tmp_path]).to_dict()["runs"][0]
    assert outcome["metrics"]["test_loss"] is None


@documented
@dataclass(frozen=True)
class Longer(RunSettings):
    """With one field more.

    Raises:
        ValueError: As ever.
    """

    sharpness: float = setting(
        0.5, "Sharpen the edges of images.", range=("[0, 1]", "0.5 is usual.")
    )


def test_a_new_field_is_checked_and_an_option_and_a_line_of_the_docs():
    assert Longer(sharpness=1.0).sharpness == 1.0
    with pytest.raises(ValueError, match=r"sharpness=2 is outside \[0, 1\]. 0.5 is us"):
        Longer(sharpness=2)
    with pytest.raises(TypeError, match="sharpness='a' is not a number"):
        Longer(sharpness="a")
    given = {}

    @click.command(cls=Grouped)
    @training_options(settings=Longer)
    def command(**options: object) -> None:
        given.update(options)

    result = CliRunner().invoke(command, ["--sharpness", "0.25"])
    assert result.exit_code == 0, result.output
    assert given["sharpness"] == 0.25
    text = CliRunner().invoke(command, ["--help"]).stdout
    described = " ".join(text.split("--sharpness", 1)[1].split())
    assert described.startswith("FLOAT Sharpen the edges of images.")
    section = inspect.getdoc(Longer).split("Arguments:\n")[1].split("\nRaises:")[0]
    assert "    sharpness: Sharpen the edges of images. Allowed: [0, 1]. " in section
    (row,) = (line for line in table(Longer).splitlines() if "sharpness" in line)
    assert [cell.strip() for cell in row.split("|")[1:-1]] == [
        "`sharpness`, `--sharpness`",
        "Sharpen the edges of images.",
        "[0, 1]",
        "0.5",
    ]


@pytest.mark.parametrize("cls", [Recipe, Settings, RunSettings])
def test_docstrings_describe_every_field_once(cls: type):
    text = inspect.getdoc(cls)
    section = text.split("\nArguments:\n")[1].split("\nRaises:\n")[0]
    starts = [
        line.strip().partition(":")[0]
        for line in section.splitlines()
        if line.startswith("    ") and not line.startswith("     ")
    ]
    assert sorted(starts) == sorted(field.name for field in fields(cls))
    assert max(map(len, text.splitlines())) <= 88


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
        network={"alpha": 0.25},
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


def test_settings_are_read_from_toml(tmp_path: Path):
    file = tmp_path / "a.toml"
    file.write_text(
        """
        recipe = "batch_norm"
        dataset = "digits"
        blocks = [1, 2]
        [network]
        alpha = 0.25
        """
    )
    command = [*("-", "-m", "larq_nobn", "train"), f"--config={file}", "--output=o"]
    if sys.version_info < (3, 11):  # which has no tomllib
        with pytest.raises(click.BadParameter, match="from version 3.11 on"):
            commands.settings_of(command)
        return
    wanted = {"dataset": "digits", "blocks": (1, 2), "network": {"alpha": 0.25}}
    found = commands.settings_of(command)[0]
    assert found == RunSettings.from_recipe("batch_norm", **wanted)
