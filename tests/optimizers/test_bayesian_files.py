"""A Bayesian training that is saved and opened again, or shared, is the same one."""

import pytest
import tensorflow as tf
from larq_nobn._keras import keras
from larq_nobn.optimizers import AdaptiveGradientClipping, BayesianLearningRule
from numpy.testing import assert_array_equal
from optimizers.bayesian_model import eager, train
from replicas import assert_replicas_agree

new, legacy = keras.optimizers, keras.optimizers.legacy
# Keras calls its older format legacy; it stays one of our formats.
pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")


def rule(inner):
    # Drops with the third step: only a file that knows the step goes on alike.
    rates = keras.optimizers.schedules.PiecewiseConstantDecay([2], [5.0, 0.5])
    return BayesianLearningRule(inner, rates, 0.01, prior=0.6)


def adam():
    return rule(AdaptiveGradientClipping(new.AdamW(0.01, use_ema=True), 0.02))


def legacy_adam():
    return rule(legacy.Adam(0.01))


def around():
    return AdaptiveGradientClipping(rule(new.Adam(0.01)), 0.02)


def assert_same(first, second):
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        assert_array_equal(a, b)


@pytest.mark.parametrize(
    "make, ending", [(adam, "keras"), (around, "h5"), (legacy_adam, "h5")]
)
def test_files(tmp_path, make, ending):
    model, path = eager(make()), tmp_path / f"model.{ending}"
    train(model)
    model.save(path)
    opened = keras.models.load_model(path)
    opened.run_eagerly = True
    assert type(opened.optimizer) is type(model.optimizer)
    assert opened.optimizer.get_config() == model.optimizer.get_config()
    train(model)
    train(opened)
    assert_same(model, opened)


@pytest.mark.parametrize(
    "make, policy", [(adam, "mixed_float16"), (legacy_adam, "float32")]
)
def test_checkpoints(tmp_path, make, policy):
    model, other = eager(make(), policy), eager(make(), policy)
    train(model)
    path = tf.train.Checkpoint(model=model, optimizer=model.optimizer).write(
        str(tmp_path / "state")
    )
    restored = tf.train.Checkpoint(model=other, optimizer=other.optimizer).read(path)
    train(model)
    train(other)
    restored.assert_consumed()
    assert_same(model, other)


REPLICAS = """
import numpy as np
from larq_nobn._keras import keras
from larq_nobn.training._callbacks import Reseeding
from optimizers.bayesian_model import IMAGES, LABELS, build, natural_of
from optimizers.test_bayesian_files import around

def make(**how):
    scaler = keras.mixed_precision.LossScaleOptimizer
    return build(scaler(around(), initial_scale=1024.0), **how)

alone = make(run_eagerly=True)
start = natural_of(alone)
with strategy.scope():
    shared = make()
for model in (alone, shared):
    # Both halves of a batch meet the weights of one draw.
    model.fit(IMAGES, LABELS, 8, 3, verbose=0, shuffle=False, callbacks=[Reseeding(3)])
assert (natural_of(alone) != start).any()
for a, b in zip(alone.get_weights(), shared.get_weights()):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
kernel = shared.get_layer("binary").kernel.latent_variable
one, two = strategy.experimental_local_results(kernel)
np.testing.assert_array_equal(one, two)
"""


@pytest.mark.slow
def test_replicas_share_a_draw_and_its_step():
    assert_replicas_agree(REPLICAS)
