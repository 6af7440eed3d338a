"""A training that is saved and opened again, or shared, is the same one."""

from pathlib import Path

import larq as lq
import pytest
import tensorflow as tf
from larq_nobn._keras import keras
from larq_nobn.optimizers import (
    AdaptiveGradientClipping,
    BayesianLearningRule,
    BooleanAccumulation,
    ParameterGroups,
)
from numpy.testing import assert_array_equal
from optimizers.networks import eager, opened, train
from replicas import assert_replicas_agree

new, legacy = keras.optimizers, keras.optimizers.legacy
schedules = keras.optimizers.schedules
# Keras calls its older format legacy; it stays one of our formats.
pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
# A reopened .keras file has lost the first part of the names under `binary/`.
MULTIPLIERS = {"^binary/kernel:0$": 0.5, "^(bias|alpha):0$": 4.0}


def clipping(inner):
    return AdaptiveGradientClipping(inner, 0.02, unit_axes={"^conv/": ()})


def groups(inner):
    return ParameterGroups(inner, MULTIPLIERS)


def rule(inner):
    # Drops with the third step: only a file that knows the step goes on alike.
    rates = schedules.PiecewiseConstantDecay([2], [5.0, 0.5])
    return BayesianLearningRule(inner, rates, 0.01, prior=0.6)


def scheduled():
    return legacy.SGD(schedules.ExponentialDecay(0.1, 2, 0.5), momentum=0.9)


def averaged():
    return new.AdamW(0.01, use_ema=True)


def lion():
    return new.Lion(0.01)


def in_case(learning_rate=300.0):
    flips = BooleanAccumulation(learning_rate)
    return lq.optimizers.CaseOptimizer(
        (flips.is_binary_variable, flips), default_optimizer=legacy.Adam(0.01)
    )


# Keras keeps the state of no legacy optimizer in .keras files. None: checkpoints only.
OPTIMIZERS = {
    "clipping legacy": (lambda: clipping(scheduled()), "h5"),
    "groups of clipping": (lambda: groups(clipping(new.Adam(0.01))), None),
    "clipping of groups": (lambda: clipping(groups(new.Adam(0.01))), "keras"),
    "clipping of lion": (lambda: clipping(lion()), "h5"),
    "groups of adafactor": (lambda: groups(new.Adafactor(0.01)), "keras"),
    "rule of lion": (lambda: rule(clipping("lion")), "keras"),
    "rule of clipping": (lambda: rule(clipping(averaged())), None),
    "rule legacy": (lambda: rule(legacy.Adam(0.01)), "h5"),
    "boolean": (in_case, None),
}


def network(name, policy="float32"):
    quantizer = "bernoulli_sign" if "rule" in name else "ste_sign"
    if name == "boolean":
        quantizer = lq.quantizers.NoOp(precision=1, dtype=policy)
    return eager(OPTIMIZERS[name][0](), quantizer, policy)


def assert_same(first, second):
    for one, other in zip(first.get_weights(), second.get_weights(), strict=True):
        assert_array_equal(one, other)


def train_both(first, second):
    train(first)
    train(second)
    assert_same(first, second)


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if OPTIMIZERS[name][1]])
def test_files(name, tmp_path):
    model = again = network(name)
    train(model)
    path = tmp_path / f"model.{OPTIMIZERS[name][1]}"
    # Once the file of what a file gave, too, whose variables have other names.
    for _ in range(2 if name == "clipping of groups" else 1):
        again.save(path)
        again = opened(path)
        assert type(again.optimizer) is type(model.optimizer)
        assert again.optimizer.get_config() == model.optimizer.get_config()
        train_both(model, again)


def checkpoint(model):
    return tf.train.Checkpoint(model=model, optimizer=model.optimizer)


# Files do not contain the loss scale, with any optimizer; checkpoints do.
@pytest.mark.parametrize(
    "name, policy",
    [
        ("groups of clipping", "mixed_bfloat16"),
        ("rule of clipping", "mixed_float16"),
        ("boolean", "float32"),
    ],
)
def test_checkpoints(name, policy, tmp_path):
    model, other = network(name, policy), network(name, policy)
    train(model, 2)
    path = checkpoint(model).write(str(tmp_path / "state"))
    restored = checkpoint(other).read(path)
    train_both(model, other)
    restored.assert_consumed()


def test_a_checkpoint_is_that_of_the_wrapped_optimizer(tmp_path):
    model, plain = network("groups of clipping"), eager(new.Adam(0.01))
    train(model)
    path = checkpoint(model).write(str(tmp_path / "state"))
    status = checkpoint(plain).read(path)
    train(plain)
    status.assert_consumed()


@pytest.mark.slow
def test_replicas_clip_the_summed_gradient_and_share_draws():
    assert_replicas_agree(Path(__file__).with_name("two_replicas.py").read_text())
