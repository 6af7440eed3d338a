"""A kernel quantizer, a normalization and an estimator of a user, by name."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn import data, models, training
from click.testing import CliRunner
from larq_nobn._keras import keras
from larq_nobn.cli import main
from larq_nobn.config import _presets
from larq_nobn.graph._signs import is_binary
from larq_nobn.training import RunSettings
from larq_nobn.training._network import build_network
from training.fake_runs import leave_run
from training.runs import Stop, StopAt, assert_same


@keras.utils.register_keras_serializable("own_parts")
class CubicSign(lq.quantizers.Quantizer):
    precision = 1

    def call(self, inputs):
        return super().call(lq.math.sign(tf.identity(inputs)))


@keras.utils.register_keras_serializable("own_parts")
class Rms(keras.layers.Layer):
    def call(self, inputs):
        mean = tf.reduce_mean(tf.square(inputs), [1, 2], keepdims=True)
        return inputs * tf.math.rsqrt(mean + 1e-5)


KERNEL, NORM = "own_parts>CubicSign", "own_parts>Rms"


def test_a_network_takes_them():
    settings = RunSettings(
        normalization=NORM,
        kernel=KERNEL,
        network={"estimator": KERNEL},
        width=8,
        blocks=(1, 1),
        dataset="cifar10",
    )
    network = build_network(settings, data.open_dataset("cifar10").info)
    kinds = [type(layer) for layer in network.layers]
    assert Rms in kinds and keras.layers.BatchNormalization not in kinds
    quantizers = [getattr(each, "kernel_quantizer", None) for each in network.layers]
    binary = [each for each in quantizers if is_binary(each)]
    assert binary and {type(each) for each in binary} == {CubicSign}
    signs = [getattr(each, "input_quantizer", each) for each in network.layers]
    assert CubicSign in [type(each) for each in signs]


def test_what_is_not_registered_is_said():
    for name in ("kernel", "normalization"):
        with pytest.raises(
            ValueError, match="not registered with Keras. Import the mod"
        ):
            RunSettings(**{"normalization": NORM, name: "other>Thing"})
    with pytest.raises(ValueError, match="normalization must be one of"):
        RunSettings(normalization="layer")
    with pytest.raises(TypeError, match="has activation=.* which run.json cannot"):
        RunSettings(network={"activation": Rms()})
    with pytest.raises(ValueError, match="not registered with Keras"):
        models.ReActNet18((8, 8, 1), 10, "other>Thing", width=4, blocks=(1,))


def test_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    runs = []

    def stopped(settings: RunSettings, *_: object, **__: object):
        runs.append(settings)
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train", stopped)
    words = ["--dataset", "digits", "--kernel", KERNEL, "--normalization"]
    CliRunner().invoke(main, ["train", *words, NORM, "--output", str(tmp_path / "a")])
    (settings,) = runs
    assert (settings.kernel, settings.normalization) == (KERNEL, NORM)
    cells = training.grid([NORM, "group"], seeds=[0, 1], kernel=KERNEL)
    names = [f"own_parts.Rms-128-{seed}" for seed in (0, 1)]
    assert [name for name in cells if name.startswith("own")] == names


def test_a_network_that_is_given_keeps_its_kernels():
    for recipe in ("batch_norm", "recu_cifar", "bnn_plus"):
        assert RunSettings(recipe, init="a", normalization=None).kernel is None
    assert RunSettings("batch_norm", init="a", normalization=None, kernel="recu").kernel


# A recipe of one's own.


@pytest.fixture
def own_recipe() -> Iterator[training.Recipe]:
    made = replace(_presets.RECIPES["bnn_plus"], epochs=3, kernel=KERNEL)
    yield training.register_recipe("own_parts>fast", made, "group")
    del _presets.RECIPES["own_parts>fast"]
    del _presets.REQUIRED_NORMALIZATION["own_parts>fast"]


def test_a_recipe_is_registered(own_recipe: training.Recipe, tmp_path: Path):
    """Its values are those of settings, grids and commands that name it."""
    settings = RunSettings("own_parts>fast", dataset="digits")
    assert (settings.recipe, settings.normalization) == ("own_parts>fast", "group")
    for name, value in vars(own_recipe).items():
        assert getattr(settings, name) == value, name
    assert settings.sources["epochs"] == "recipe own_parts>fast"
    assert RunSettings.from_recipe("own_parts>fast", epochs=4).epochs == 4
    (cell,) = training.grid(recipes=["own_parts>fast"], dataset="digits").values()
    assert cell == settings
    leave_run(tmp_path / "a", settings, [0.5])
    leave_run(tmp_path / "b", RunSettings(dataset="digits"), [0.5])
    comparison = training.report([tmp_path / "a", tmp_path / "b"])
    assert set(comparison.compared) == {"normalization", "recipe"}
    # The same again changes nothing; another one does not replace it.
    training.register_recipe("own_parts>fast", own_recipe, "group")
    for wrong in (("own_parts>fast", own_recipe), ("nobn", own_recipe)):
        with pytest.raises(ValueError, match="already belongs to another recipe"):
            training.register_recipe(*wrong)
    with pytest.raises(ValueError, match="normalization must be one of"):
        training.register_recipe("x", own_recipe, "layer")
    for name, recipe in (("", own_recipe), ("x", {"epochs": 5})):
        with pytest.raises(TypeError, match="a Recipe|is not a name"):
            training.register_recipe(name, recipe)


MODULE = """
from dataclasses import replace
import larq_nobn as nobn
nobn.training.register_recipe(
    "plain_name", replace(nobn.training.RECIPES["nobn"], epochs=7)
)
"""


@pytest.mark.parametrize("command", ["train", "compare"])
def test_commands_import_a_recipe(command, tmp_path, monkeypatch):
    """Without the import, its name is an error before anything else."""
    (tmp_path / "my_recipes.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    seen = []

    def stopped(given, *_, **__):
        seen.extend(given.values() if isinstance(given, dict) else [given])
        raise KeyboardInterrupt

    monkeypatch.setattr(training, command, stopped)
    words = [command, "--recipe", "plain_name", "--dataset", "digits", "--output", "a"]
    unknown = CliRunner().invoke(main, words)
    assert unknown.exit_code == 2 and "got 'plain_name'" in unknown.output
    try:
        CliRunner().invoke(main, [*words, "--import", "my_recipes"])
    finally:
        sys.modules.pop("my_recipes", None)
        _presets.RECIPES.pop("plain_name", None)
    assert {(each.recipe, each.epochs) for each in seen} == {("plain_name", 7)}


# A network of one's own, as an object.

LITTLE = RunSettings(dataset="digits", epochs=2, batch_size=16, limit=32)


def own_network(classes: int = 10, **head: object) -> keras.Model:
    keras.utils.set_random_seed(5)
    x = image = keras.Input((8, 8, 1))
    sign = {"kernel_quantizer": CubicSign(), "input_quantizer": CubicSign()}
    x = Rms()(lq.layers.QuantConv2D(4, 3, name="conv", **sign)(x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(classes, name="end", **head)(x))


def latent(model: keras.Model) -> list[np.ndarray]:
    weights = model.weights
    return [getattr(each, "latent_variable", each).numpy() for each in weights]


@pytest.mark.usefixtures("eager")
def test_a_given_network_is_trained_from_its_weights(tmp_path: Path):
    """And stays as it was; a stopped run resumes bitwise from the same object."""
    given = own_network()
    before = latent(given)
    trainer = training.Trainer(LITTLE, output=tmp_path / "a", model=given)
    # What is for new networks goes; what the recipe says of steps stays.
    assert (trainer.config.model, trainer.config.normalization) == ("given", None)
    assert (trainer.config.learning_rate, trainer.config.calibrate) == (0.003, False)
    trainer.build()
    assert type(trainer.network.get_layer("conv").kernel_quantizer) is CubicSign
    trainer.fit()
    whole = trainer.save()
    assert whole.record["init"]["fresh"] == []
    for ours, theirs in zip(latent(given), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not np.array_equal(latent(whole.model)[-2], before[-2])
    with pytest.raises(Stop):
        training.train(LITTLE, tmp_path / "b", StopAt(1), model=own_network())
    again = {"resume": True, "model": own_network()}
    assert_same(training.train(LITTLE, tmp_path / "b", False, **again), whole)
    opened = training.load_run(tmp_path / "a")
    assert opened.record["settings"]["model"] == "given"
    assert_same(opened, whole)


@pytest.mark.usefixtures("eager")
def test_the_first_step_of_a_given_network_is_that_of_keras(tmp_path: Path):
    """Its weights, by a step of SGD that Keras takes of the same object."""
    settings = RunSettings(
        "plain",
        **{"dataset": "digits", "optimizer": "sgd", "momentum": 0.0, "epochs": 1},
        **{"batch_size": 32, "limit": 32, "augment": "none", "clip_factor": 0.0},
        schedule="constant",
    )
    given = own_network()
    run = training.train(settings, tmp_path / "a", False, model=given)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    given.compile(keras.optimizers.SGD(settings.learning_rate), loss)
    given.fit(data.load("digits", "train", 32, limit=32, augment=False), verbose=0)
    for ours, theirs in zip(latent(run.model), latent(given), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


PART = np.zeros((40, 8, 8, 1), np.uint8), np.arange(40) % 10
CASES = {
    "other classes, replaced": (replace(LITTLE, epochs=3), {"classes": 3}, None),
    "softmax, arrays": (
        *(RunSettings(validation=0.2), {"activation": "softmax"}),
        (PART, PART),
    ),
    "fine_tune": (RunSettings("fine_tune", dataset="digits"), {}, None),
}


@pytest.mark.parametrize("case", CASES)
def test_settings_of_a_given_network(case: str, tmp_path: Path):
    settings, options, images = CASES[case]
    given = own_network(**options)
    trainer = training.Trainer(settings, images, output=tmp_path, model=given)
    network = trainer.build()
    assert network.output_shape == (None, 10)
    assert network.layers[-1].activation is keras.activations.linear


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"width": 8}, "width=8 cannot change the network that is given"),
        ({"model": "ResNet20"}, "settings have model='ResNet20' and init=None, but"),
        ({"stages": 2}, "stages=2 cannot change the network that is given"),
        ({"init": "a.keras"}, "and init='a.keras', but a network was given"),
        ({"normalization": "group"}, "normalization='group' cannot change the"),
    ],
)
def test_what_a_given_network_has_already(chosen: dict, said: str, tmp_path: Path):
    with pytest.raises(ValueError, match=said):
        training.train(RunSettings(**chosen), tmp_path / "a", model=own_network())
    assert not (tmp_path / "a").exists()


def test_networks_that_cannot_be_given(tmp_path: Path):
    for wrong in ("ResNet20", own_network, [own_network()]):
        with pytest.raises(TypeError, match="Keras"):
            training.train(LITTLE, tmp_path / "a", model=wrong)
    again = "is a network that only the caller has. Pass it again: "
    with pytest.raises(ValueError, match=again):
        training.train(LITTLE.of_given_network(), tmp_path / "a")


# Seeds and labels.


def test_labels_of_a_grid(tmp_path: Path):
    own = {"kernel": KERNEL, "dataset": "digits", "epochs": 2}
    cells = training.grid([NORM, "group"], [0, 1], labels=["cubic", "a/b: c"], **own)
    assert list(cells) == [
        *("cubic-own_parts.Rms-128-0", "cubic-own_parts.Rms-128-1"),
        *("a.b..c-group-128-0", "a.b..c-group-128-1"),
    ]
    assert [each.label for each in cells.values()] == ["cubic"] * 2 + ["a/b: c"] * 2
    one = training.grid([NORM, "group"], labels=["mine"], **own)
    assert {each.label for each in one.values()} == {"mine"}
    with pytest.raises(ValueError, match="labels=a,b,c are 3 labels for 2 normal"):
        training.grid([NORM, "group"], labels=["a", "b", "c"], **own)


def test_a_label_is_a_row_of_its_seeds(tmp_path: Path):
    """Also of networks in a file for each seed, and beside runs without a label."""
    base = RunSettings(dataset="digits", epochs=2)
    mine = replace(RunSettings(normalization=NORM, kernel=KERNEL), label="mine")
    runs = {
        **{f"mine-{seed}": replace(mine, seed=seed) for seed in (0, 1)},
        **{
            f"file-{seed}": RunSettings(init=f"{seed}.keras", seed=seed, label="file")
            for seed in (0, 1)
        },
        **{f"usual-{seed}": replace(base, seed=seed) for seed in (0, 1)},
        "group": RunSettings(normalization="group"),
    }
    for name, settings in runs.items():
        settings = replace(settings, dataset="digits", epochs=2)
        leave_run(tmp_path / name, settings, [0.5, 0.6])
    comparison = training.report([tmp_path / name for name in runs])
    found = {
        (g.settings["label"], g.settings.get("normalization")): len(g.outcomes)
        for g in comparison.groups
    }
    expected = {("mine", NORM): 2, ("file", None): 2, (None, "nobn"): 2}
    assert found == {**expected, (None, "group"): 1}
    assert comparison.compared[0] == "label"
    named = [each.told_by(comparison.compared) for each in comparison.groups]
    assert named[:2] == [["label"]] * 2 and "label" not in named[2] + named[3]
    # With labels alone, these say it all.
    labelled = training.report([tmp_path / name for name in list(runs)[:4]])
    assert labelled.compared == ["label"]
    assert [len(group.outcomes) for group in labelled.groups] == [2, 2]
    assert "mine" in str(labelled) and "normalization" not in str(labelled)


def test_folders_of_one_name_are_not_one_data_set(tmp_path: Path):
    places = ["x/y/z", "w/y/z"]
    for name, place in zip("ab", places, strict=True):
        leave_run(tmp_path / name, LITTLE, [0.5])
        record = json.loads((tmp_path / name / "run.json").read_text())
        record["settings"]["dataset"] = Path(place).name
        (tmp_path / name / "run.json").write_text(json.dumps(record))
        (tmp_path / name / "images.txt").write_text(str(tmp_path / place))
    comparison = training.report([tmp_path / name for name in "ab"])
    assert [g.settings["dataset"] for g in comparison.groups] == places
    # The same images, or of one name alone, are called by their name.
    comparison = training.report([tmp_path / "a"])
    assert comparison.outcomes[0].settings["dataset"] == Path(places[0]).name
