"""A training that is saved and opened again goes on as if never interrupted."""

import json
from pathlib import Path

import fresh
import pytest
import tensorflow as tf
from larq_nobn._keras import keras
from larq_nobn.optimizers import AdaptiveGradientClipping
from numpy.testing import assert_array_equal
from optimizers.agc_model import eager, opened, train

new, legacy = keras.optimizers, keras.optimizers.legacy


def scheduled(family):
    decay = keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)
    return family.SGD(decay, momentum=0.9)


OPTIMIZERS = {
    "adam": lambda: new.Adam(0.01),
    "adamw": lambda: new.AdamW(0.01, use_ema=True),
    "schedule": lambda: scheduled(new),
    "legacy_adam": lambda: legacy.Adam(0.01),
    "legacy_schedule": lambda: scheduled(legacy),
}
ENDINGS = {name: ["h5"] if "legacy" in name else ["h5", "keras"] for name in OPTIMIZERS}
# Keras calls its older format legacy; it stays one of our formats.
pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")


def wrapped(name):
    return AdaptiveGradientClipping(OPTIMIZERS[name](), 0.02, unit_axes={"^conv/": ()})


def assert_same(first, second):
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        assert_array_equal(a, b)


FRESH = """
import json, sys
from optimizers.agc_model import opened, train
for path in sys.argv[1:]:
    model = opened(path)
    assert type(model.optimizer).__name__ == "AdaptiveGradientClipping"
    with open(path + ".json") as file:
        assert json.loads(json.dumps(model.optimizer.get_config())) == json.load(file)
    train(model)
    model.save_weights(path + ".after.h5")
"""


@pytest.mark.slow
def test_files_opened_in_a_fresh_process(tmp_path):
    unbroken = {}
    for name, endings in ENDINGS.items():
        model = eager(wrapped(name))
        train(model, 2)
        paths = [str(tmp_path / f"{name}.{ending}") for ending in endings]
        config = json.dumps(model.optimizer.get_config())
        for path in paths:
            model.save(path)
            Path(f"{path}.json").write_text(config)
        train(model)
        unbroken |= dict.fromkeys(paths, model)
    done = fresh.run(FRESH, unbroken)
    assert done.returncode == 0, done.stderr[-3000:]
    reopened = eager("sgd")
    for path, model in unbroken.items():
        reopened.load_weights(path + ".after.h5")
        assert_same(model, reopened)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_checkpoints(tmp_path, name):
    model, other = eager(wrapped(name)), eager(wrapped(name))
    train(model, 2)
    path = tf.train.Checkpoint(model=model, optimizer=model.optimizer).write(
        str(tmp_path / "state")
    )
    restored = tf.train.Checkpoint(model=other, optimizer=other.optimizer).read(path)
    train(model)
    train(other)
    restored.assert_consumed()
    assert_same(model, other)


@pytest.mark.parametrize("name", ["adam", "legacy_adam"])
def test_a_checkpoint_is_that_of_the_wrapped_optimizer(tmp_path, name):
    model, plain = eager(wrapped(name)), eager(OPTIMIZERS[name]())
    train(model)
    path = tf.train.Checkpoint(model=model, optimizer=model.optimizer).write(
        str(tmp_path / "state")
    )
    status = tf.train.Checkpoint(model=plain, optimizer=plain.optimizer).read(path)
    train(plain)
    status.assert_consumed()


def test_a_keras_file_contains_the_state_once(tmp_path):
    sizes = []
    for optimizer in (wrapped("adam"), OPTIMIZERS["adam"]()):
        model = eager(optimizer)
        train(model)
        model.save(tmp_path / "model.keras")
        sizes.append((tmp_path / "model.keras").stat().st_size)
    assert sizes[0] - sizes[1] < 1000  # the arguments; a second state would be 7 kB


def test_a_bfloat16_file(tmp_path):
    model = eager(wrapped("adam"), policy="mixed_bfloat16")
    train(model)
    model.save(tmp_path / "model.keras")
    again = opened(tmp_path / "model.keras")
    train(model)
    train(again)
    assert_same(model, again)


@pytest.mark.parametrize("name", ["adam", "legacy_adam"])
def test_a_float16_checkpoint(tmp_path, name):
    # Files do not hold the loss scale, with any optimizer; checkpoints do.
    model, other = (eager(wrapped(name), policy="mixed_float16") for _ in range(2))
    train(model, 4)
    checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
    path = checkpoint.write(str(tmp_path / "state"))
    restored = tf.train.Checkpoint(model=other, optimizer=other.optimizer).read(path)
    train(model)
    train(other)
    restored.assert_consumed()
    assert_same(model, other)


@pytest.mark.parametrize("name", ["adam", "legacy_adam"])
def test_a_saved_model_keeps_the_arguments_but_as_in_keras_no_state(tmp_path, name):
    model = eager(wrapped(name))
    train(model)
    model.save(tmp_path / "model", save_format="tf")
    again = opened(tmp_path / "model")
    assert isinstance(again.optimizer, AdaptiveGradientClipping)
    assert again.optimizer.get_config() == model.optimizer.get_config()
    assert_same(model, again)
    train(again)
    fresh = eager(wrapped(name))
    fresh.set_weights(model.get_weights())
    train(fresh)
    assert_same(fresh, again)
