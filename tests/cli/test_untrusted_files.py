"""No command runs code from a model file, and each opens one's own with --trust."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import pytest
from cli.answers import one_sentence
from click.testing import Result
from larq_nobn._keras import keras
from loading import hostile

Invoke = Callable[..., Result]
pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")

DIGITS = ("--dataset", "digits")
START = (*DIGITS, "--epochs", "1", "--limit", "64", "--output", "{out}")
COMMANDS = {
    "convert": ("convert", "{file}", "{out}.tflite"),
    "evaluate": ("evaluate", "{file}", *DIGITS, "--limit", "9"),
    "benchmark": ("benchmark", "{file}", "--formats", *DIGITS, "--limit", "9"),
    "fold": ("fold", "{file}", "{out}.keras"),
    "remove": ("remove", "{file}", "{out}.keras"),
    "summary": ("summary", "{file}"),
    "predict": ("predict", "{file}", "{picture}"),
    "init": ("train", "--init", "{file}", *START),
    "teacher": ("train", "--teacher", "{file}", *START),
}
ATTACKS = {
    "mask.h5": lambda target: hostile.lambda_with("mask", target),
    "getcwd.keras": lambda target: hostile.dotted,
    "write_file.keras": hostile.write_file,
    "write_file.h5": hostile.write_file,
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What every one of the attacks would leave."""
    return tmp_path_factory.mktemp("target") / "written"


@pytest.fixture(scope="module")
def attacks(written: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file of each."""
    folder = tmp_path_factory.mktemp("attacks")
    files = hostile.saved(folder)
    for name, make in ATTACKS.items():
        hostile.changed(files[Path(name).suffix], folder / name, make(written))
    return folder


def command(name: str, file: Path, folder: Path) -> list[str]:
    folder.mkdir(exist_ok=True)
    (folder / "cat.png").write_bytes(b"")
    places = {"file": file, "out": folder / "out", "picture": folder / "cat.png"}
    return [part.format(**places) for part in COMMANDS[name]]


def test_every_command_that_opens_models_is_here(invoke: Invoke):
    usages = {
        name: invoke(name, "--help").output
        for name in invoke.__globals__["main"].commands
    }
    trusting = {name for name, usage in usages.items() if "--trust" in usage}
    limited = {name for name, usage in usages.items() if "--memory" in usage}
    importing = {name for name, usage in usages.items() if "--import" in usage}
    # compare gives the options to the commands of its runs.
    assert importing == trusting
    assert trusting == {*(parts[0] for parts in COMMANDS.values()), "compare"}
    assert limited == trusting | {"audit", "import", "data"}
    for name, usage in usages.items():
        assert ("RUN_OR_FILE" in usage) <= ("--trust" in usage), name


@pytest.mark.parametrize("name, attack", [*zip(COMMANDS, cycle(ATTACKS), strict=False)])
def test_an_attack_gets_a_sentence(
    name: str,
    attack: str,
    attacks: Path,
    written: Path,
    invoke: Invoke,
    tmp_path: Path,
):
    said = one_sentence(invoke(*command(name, attacks / attack, tmp_path)))
    assert attack in said and "in layer '" in said
    assert said.endswith("or pass trust=True (--trust) for a file of your own.")
    assert not written.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["cat.png"]


def test_a_run_folder_is_no_better_than_a_file(
    run_folder: Path, written: Path, invoke: Invoke, tmp_path: Path
):
    folder = Path(shutil.copytree(run_folder, tmp_path / "run"))

    def change(config: dict) -> None:
        actual = next(
            each
            for each in config["config"]["layers"]
            if each["class_name"] == "Activation" or each["name"] == "head"
        )
        actual["config"]["activation"] = hostile.marshalled(written)

    hostile.changed(run_folder / "model.keras", folder / "model.keras", change)
    said = one_sentence(invoke(*command("evaluate", folder, tmp_path)))
    assert "contains Python code" in said
    assert not written.exists()


MODULE = """
import tensorflow as tf

@tf.keras.utils.register_keras_serializable("mine")
class Halved(tf.keras.layers.Layer):
    def call(self, inputs):
        return inputs / 2
"""


def test_a_module_of_ones_own_brings_its_layers(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "halves.py").write_text(MODULE)
    (tmp_path / "broken.py").write_text("1 / 0\n")
    made: dict[str, type] = {}
    exec(MODULE, made)
    layer = made["Halved"](input_shape=(8,))
    keras.Sequential([layer, keras.layers.Dense(2)]).save(tmp_path / "own.keras")
    known = keras.saving.get_custom_objects()
    monkeypatch.delitem(known, "mine>Halved")
    monkeypatch.setattr("sys.path", sys.path.copy())
    monkeypatch.chdir(tmp_path)
    line = ("fold", "own.keras", "out.keras")
    said = one_sentence(invoke(*line))
    assert "'mine>Halved'" in said and "(--import MODULE)" in said
    said = one_sentence(invoke(*line, "--import", "no_such_module"))
    assert "--import no_such_module: No module named 'no_such_module'" in said
    said = one_sentence(invoke(*line, "--import", "broken"))
    assert "--import broken: division by zero" in said
    result = invoke(*line, "--import", "json", "--import", "halves")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out.keras").exists()
    known.pop("mine>Halved")


def test_a_file_of_ones_own_opens_with_trust(invoke: Invoke, tmp_path: Path):
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Lambda(lambda x: 2 * x)(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, keras.layers.Dense(10, name="head")(x))
    model.save(tmp_path / "own.keras")
    line = command("fold", tmp_path / "own.keras", tmp_path / "fold")
    assert "(a Lambda)" in one_sentence(invoke(*line))
    result = invoke(*line, "--trust")
    assert result.exit_code == 0, result.output
    # What is written from it is one's own file as well.
    folded = command("evaluate", tmp_path / "fold" / "out.keras", tmp_path)
    assert "(a Lambda)" in one_sentence(invoke(*folded))
