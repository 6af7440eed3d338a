"""Whole models through folding: what stays, what is rejected, what it costs."""

import larq_nobn as nobn
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import binary_conv
from larq_nobn._keras import dtype_policy, keras
from larq_nobn.graph._errors import ModelError
from surgery.folding import (
    BatchNorm,
    chain,
    difference,
    make_positive,
    randomize,
)
from surgery.parts import settled

layers = keras.layers


def mixed_network():
    """Batch norms before and after convolutions, pools, signs and the head."""
    inputs = keras.Input((8, 8, 4))
    x = BatchNorm(name="stem_norm")(layers.Conv2D(8, 3, padding="same")(inputs))
    y = binary_conv(8, name="conv")(BatchNorm(name="before")(x))
    y = layers.MaxPool2D(3, 1, padding="same")(y)
    x = layers.Add()([x, BatchNorm(name="behind")(y)])
    x = layers.GlobalAvgPool2D()(BatchNorm(name="final_norm")(x))
    return keras.Model(inputs, layers.Dense(5, name="head")(x), name="mixed")


@pytest.fixture(scope="module")
def mixed():
    return make_positive(randomize(mixed_network()))


def test_every_new_weight_trains_and_the_new_model_is_not_compiled(mixed):
    mixed.compile("adam", "mse")
    optimizer = mixed.optimizer
    folded = nobn.fold_batch_norm(mixed)
    assert mixed.optimizer is optimizer
    assert folded.optimizer is None
    names = [weight.name for weight in folded.trainable_weights]
    assert "behind/gamma:0" in names
    assert sum("rsign/shift" in name for name in names) == 1
    before = folded.get_weights()
    folded.compile(keras.optimizers.Adam(1e-4), "mse", run_eagerly=True)
    random = np.random.default_rng(2)
    x, y = random.normal(size=(16, 8, 8, 4)), random.normal(size=(16, 5))
    folded.fit(x, y, batch_size=4, verbose=0)
    for name, was, now in zip(names, before, folded.get_weights(), strict=True):
        assert np.all(np.isfinite(now)) and np.any(now != was), name


def test_frozen_batch_norms_leave_frozen_weights():
    model = make_positive(randomize(mixed_network()))
    for layer in model.layers:
        layer.trainable = "norm" not in layer.name and layer.name[:2] != "be"
    folded = nobn.fold_batch_norm(model)
    names = [weight.name for weight in folded.trainable_weights]
    assert not [name for name in names if "behind" in name or "shift" in name]
    assert "head/bias:0" in names


@pytest.mark.parametrize("behind", [False, True])
def test_beside_a_frozen_layer_a_gain_and_a_bias_stay_to_be_trained(behind):
    conv = binary_conv(8, pad_values=0.0, trainable=False, name="conv")
    rows = [BatchNorm(name="norm"), conv]
    model = settled(chain(*(rows if behind else rows[::-1]), shape=(8, 8, 8)))
    folded = nobn.fold_batch_norm(model)
    names = [weight.name for weight in folded.trainable_weights]
    assert names == ["norm/gamma:0", "norm/beta:0"]


def test_mixed_precision_stays():
    with dtype_policy("mixed_float16"):
        model = make_positive(randomize(mixed_network()))
        row = randomize(chain(layers.Dense(5), BatchNorm(), layers.ReLU()))
    folded = nobn.fold_batch_norm(model)
    assert folded.get_layer("behind").dtype_policy.name == "mixed_float16"
    assert folded.get_layer("head").compute_dtype == "float16"
    assert all(weight.dtype == tf.float32 for weight in folded.weights)
    assert difference(row, nobn.fold_batch_norm(row)) < 5e-3


@pytest.mark.parametrize("constraint, stays", [("unit_norm", 0), ("weight_clip", 1)])
def test_constraints_that_would_undo_the_folding_are_gone(constraint, stays):
    dense = layers.Dense(3, kernel_constraint=constraint, name="dense")
    model = chain(dense, BatchNorm(), shape=(4,))
    dense.kernel.assign(dense.kernel_constraint(dense.kernel))
    kept = nobn.fold_batch_norm(model).get_layer("dense").kernel_constraint
    assert (kept is not None) == stays


def model_with(layer, shape=(8, 8, 4), **call):
    inputs = keras.Input(shape)
    return keras.Model(inputs, layer(inputs, **call), name="net")


class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.norm = BatchNorm()

    def call(self, inputs):
        return self.norm(inputs)


WRAPPED = layers.TimeDistributed
REJECTED = {
    r"Layer 'norm' \(BatchNormalization\) normalizes axis \[1\], but only": (
        lambda: model_with(BatchNorm(axis=1, name="norm"))
    ),
    r"'each' \(TimeDistributed\) contains the batch norm 'norm'": (
        lambda: model_with(WRAPPED(BatchNorm(name="norm"), name="each"))
    ),
    "'whole'": lambda: Subclassed(name="whole"),
    # All at once.
    "'a'.*; .*'b'": lambda: chain(BatchNorm(1, name="a"), BatchNorm(2, name="b")),
}
NOT_FOLDED = {
    "'norm'.* is called with training=True": (
        lambda: model_with(BatchNorm(name="norm"), training=True)
    ),
    r"state of layer 'norm' \(BatchKalmanNormalization\)": (
        lambda: model_with(nobn.layers.BatchKalmanNormalization(name="norm"))
    ),
}


@pytest.mark.parametrize("message", [*REJECTED, *NOT_FOLDED])
def test_what_cannot_be_taken_apart_is_named(message):
    model = {**REJECTED, **NOT_FOLDED}[message]()
    tools = [nobn.fold_batch_norm, nobn.remove_batch_norm]
    for tool in tools[: 1 + (message in REJECTED)]:
        with pytest.raises(ModelError, match=message):
            tool(model)


def test_a_batch_norm_with_nan_is_rejected_by_name():
    layer = BatchNorm(name="diverged")
    model = chain(layer, binary_conv(4))
    start = layer.get_weights()
    for place in range(4):
        numbers = [number.copy() for number in start]
        numbers[place][1] = np.nan
        layer.set_weights(numbers)
        with pytest.raises(ModelError, match="of layer 'diverged' .* contains NaN"):
            nobn.fold_batch_norm(model)
