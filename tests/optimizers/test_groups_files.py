"""A training by groups that is saved and opened again goes on as if undisturbed."""

import pytest
import tensorflow as tf
from larq_nobn.optimizers import AdaptiveGradientClipping, ParameterGroups
from numpy.testing import assert_array_equal
from optimizers.agc_model import eager, opened, train
from optimizers.groups_model import new, scheduled

# Keras calls its older format legacy; it stays one of our formats.
pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
# A reopened .keras file has lost the first part of the names under `binary/`.
MULTIPLIERS = {"^binary/kernel:0$": 0.5, "^(bias|alpha):0$": 4.0}


def adam():
    return new.Adam(0.01)


def averaged():
    return ParameterGroups(new.AdamW(0.01, use_ema=True), MULTIPLIERS)


def by_schedule():
    return ParameterGroups(scheduled(), MULTIPLIERS)


def around_clipping():
    return ParameterGroups(AdaptiveGradientClipping(adam(), 0.02), MULTIPLIERS)


def inside_clipping():
    return AdaptiveGradientClipping(ParameterGroups(adam(), MULTIPLIERS), 0.02)


def assert_same(first, second):
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        assert_array_equal(a, b)


@pytest.mark.parametrize(
    "make, ending",
    [
        (averaged, "keras"),
        (inside_clipping, "keras"),
        (by_schedule, "h5"),
        (around_clipping, "h5"),
    ],
)
def test_files_twice(tmp_path, make, ending):
    model = eager(make())
    train(model, 2)
    again, path = model, tmp_path / f"model.{ending}"
    for _ in range(2):
        again.save(path)
        again = opened(path)
        assert type(again.optimizer) is type(model.optimizer)
        assert again.optimizer.get_config() == model.optimizer.get_config()
        train(model)
        train(again)
        assert_same(model, again)


def test_a_saved_model_keeps_the_arguments_but_as_in_keras_no_state(tmp_path):
    model = eager(averaged())
    train(model)
    model.save(tmp_path / "model", save_format="tf")
    again = opened(tmp_path / "model")
    assert isinstance(again.optimizer, ParameterGroups)
    assert again.optimizer.get_config() == model.optimizer.get_config()
    train(again)
    fresh = eager(averaged())
    fresh.set_weights(model.get_weights())
    train(fresh)
    assert_same(fresh, again)


@pytest.mark.parametrize(
    "make, policy", [(averaged, "mixed_float16"), (around_clipping, "float32")]
)
def test_checkpoints(tmp_path, make, policy):
    model, other = eager(make(), policy=policy), eager(make(), policy=policy)
    train(model, 2)
    path = tf.train.Checkpoint(model=model, optimizer=model.optimizer).write(
        str(tmp_path / "state")
    )
    restored = tf.train.Checkpoint(model=other, optimizer=other.optimizer).read(path)
    train(model)
    train(other)
    restored.assert_consumed()
    assert_same(model, other)


def test_a_checkpoint_is_that_of_the_wrapped_optimizer(tmp_path):
    model, plain = eager(around_clipping()), eager(adam())
    train(model)
    path = tf.train.Checkpoint(model=model, optimizer=model.optimizer).write(
        str(tmp_path / "state")
    )
    status = tf.train.Checkpoint(model=plain, optimizer=plain.optimizer).read(path)
    train(plain)
    status.assert_consumed()


def test_a_keras_file_contains_the_state_once(tmp_path):
    sizes = []
    for optimizer in (ParameterGroups(adam(), MULTIPLIERS), adam()):
        model = eager(optimizer)
        train(model)
        model.save(tmp_path / "model.keras")
        sizes.append((tmp_path / "model.keras").stat().st_size)
    assert sizes[0] - sizes[1] < 1000  # the arguments; a second state would be 7 kB
