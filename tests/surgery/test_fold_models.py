"""Whole models through folding: what stays, what is rejected, what it costs."""

import larq_nobn as nobn
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import binary_conv
from larq_nobn._keras import dtype_policy, keras
from larq_nobn.graph import ModelError
from surgery.folding import BatchNorm, chain, difference, fold, make_positive, randomize

layers = keras.layers


def mixed_network(pad_values=1.0, blocks=2):
    """Batch norms before and after convolutions, pools, signs and the head."""
    inputs = keras.Input((8, 8, 8))
    x = BatchNorm(name="stem_norm")(layers.Conv2D(32, 3, padding="same")(inputs))
    for i in range(blocks):
        y = BatchNorm(name=f"before{i}")(x)
        y = binary_conv(32, name=f"conv{i}", pad_values=pad_values)(y)
        y = layers.MaxPool2D(3, 1, padding="same")(y)
        x = layers.Add()([x, BatchNorm(name=f"behind{i}")(y)])
    x = layers.GlobalAvgPool2D()(BatchNorm(name="final_norm")(x))
    model = keras.Model(inputs, layers.Dense(5, name="head")(x), name="mixed")
    return randomize(model)


@pytest.mark.slow
@pytest.mark.convert
@pytest.mark.parametrize(
    "pad_values, positive", [(0.0, False), (1.0, False), (1.0, True)]
)
def test_no_float_operation_is_added(pad_values, positive, tmp_path):
    model = mixed_network(pad_values, blocks=1)
    if positive:
        make_positive(model)
    folded = nobn.fold_batch_norm(model)
    before, after = (
        operations(nobn.convert(x, tmp_path / "x.tflite", verify=x is folded))
        for x in (model, folded)
    )
    assert all(count <= before.get(op, 0) for op, count in after.items())
    # Conversion finds places for positive gains, and for some of the others.
    assert ("MUL" in before) == (not positive)
    # As many as folding does.
    assert after.get("MUL", 0) == before.get("MUL", 0)


def operations(report):
    assert report.lce_bconv2d == report.binary_layers
    return {op["op"]: op["count"] for op in report.float_ops}


def test_every_new_weight_trains():
    folded = nobn.fold_batch_norm(make_positive(mixed_network()))
    names = [weight.name for weight in folded.trainable_weights]
    assert "behind0/gamma:0" in names
    assert sum("rsign/shift" in name for name in names) == 2
    before = folded.get_weights()
    folded.compile(keras.optimizers.Adam(1e-4), "mse", run_eagerly=True)
    random = np.random.default_rng(2)
    x, y = random.normal(size=(16, 8, 8, 8)), random.normal(size=(16, 5))
    folded.fit(x, y, batch_size=2, verbose=0)
    for name, was, now in zip(names, before, folded.get_weights(), strict=True):
        assert np.all(np.isfinite(now)) and np.any(now != was), name


def test_the_model_stays_compiled_and_the_new_one_is_not():
    model = mixed_network()
    model.compile("adam", "mse")
    optimizer = model.optimizer
    folded = nobn.fold_batch_norm(model)
    assert model.optimizer is optimizer
    assert folded.optimizer is None


def test_frozen_batch_norms_leave_frozen_weights():
    model = make_positive(mixed_network())
    for layer in model.layers:
        layer.trainable = "norm" not in layer.name and layer.name[:2] != "be"
    folded = nobn.fold_batch_norm(model)
    names = [weight.name for weight in folded.trainable_weights]
    assert not [name for name in names if "behind" in name or "shift" in name]
    assert "head/bias:0" in names


def test_mixed_precision_stays():
    with dtype_policy("mixed_float16"):
        model = mixed_network()
    folded = nobn.fold_batch_norm(model)
    assert folded.get_layer("behind0").dtype_policy.name == "mixed_float16"
    assert folded.get_layer("head").compute_dtype == "float16"
    assert all(weight.dtype == tf.float32 for weight in folded.weights)
    with dtype_policy("mixed_float16"):
        model = randomize(chain(layers.Dense(5), BatchNorm(), layers.ReLU()))
    assert difference(model, nobn.fold_batch_norm(model)) < 5e-3


CONSTRAINTS = {"unit_norm": False, "weight_clip": True}


@pytest.mark.parametrize("constraint", CONSTRAINTS)
def test_constraints_that_would_undo_the_folding_are_gone(constraint):
    dense = layers.Dense(3, kernel_constraint=constraint, name="dense")
    model = chain(dense, BatchNorm(), shape=(4,))
    kernel = model.get_layer("dense").kernel
    kernel.assign(model.get_layer("dense").kernel_constraint(kernel))
    kept = nobn.fold_batch_norm(model).get_layer("dense").kernel_constraint
    assert (kept is not None) == CONSTRAINTS[constraint]


def test_masks_pass():
    def build():
        rows = [layers.ReLU(), BatchNorm(name="norm"), layers.LSTM(3)]
        return chain(layers.Masking(), *rows, shape=(5, 4))

    with dtype_policy("float64"):
        model = randomize(build())
    x = np.random.default_rng(1).normal(size=(2, 5, 4))
    x[:, 2] = 0
    folded = nobn.fold_batch_norm(model)
    np.testing.assert_allclose(folded(x), model(x), rtol=1e-9)


@pytest.mark.parametrize("call", [{"training": False}, {}])
def test_a_fixed_inference_mode_is_no_obstacle(call):
    def build():
        inputs = keras.Input((8, 8, 4))
        x = BatchNorm(name="norm")(layers.ReLU()(inputs), **call)
        return keras.Model(inputs, x, name="net")

    fold(build)


def model_with(layer, shape=(8, 8, 4), **call):
    inputs = keras.Input(shape)
    return keras.Model(inputs, layer(inputs, **call), name="net")


REFUSALS = {
    r"Layer 'norm' \(BatchNormalization\) normalizes axis \[1\], but only": (
        lambda: model_with(BatchNorm(axis=1, name="norm"))
    ),
    r"'norm' \(BatchNormalization\) normalizes axis \[1, 3\]": (
        lambda: model_with(BatchNorm(axis=[1, 3], name="norm"))
    ),
    r"'each' \(TimeDistributed\) contains the batch norm 'norm'": (
        lambda: model_with(layers.TimeDistributed(BatchNorm(name="norm"), name="each"))
    ),
    "'norm'.* is called with training=True": (
        lambda: model_with(BatchNorm(name="norm"), training=True)
    ),
    r"state of layer 'norm' \(BatchKalmanNormalization\)": (
        lambda: model_with(nobn.layers.BatchKalmanNormalization(name="norm"))
    ),
}


@pytest.mark.parametrize("message", REFUSALS)
def test_rejects_by_name(message):
    with pytest.raises(ModelError, match=message):
        nobn.fold_batch_norm(REFUSALS[message]())


def test_rejects_all_at_once():
    rows = [BatchNorm(1, name="a"), BatchNorm(2, name="b")]
    with pytest.raises(ModelError, match="'a'.*; .*'b'"):
        nobn.fold_batch_norm(chain(*rows))


def test_rejects_what_is_neither_true_nor_false():
    with pytest.raises(TypeError, match="return_report='yes' is neither"):
        nobn.fold_batch_norm(chain(BatchNorm()), return_report="yes")


@pytest.mark.parametrize("weight", range(4))
def test_a_batch_norm_with_nan_is_rejected_by_name(weight):
    layer = BatchNorm(name="diverged")
    model = keras.Sequential([keras.Input((6, 6, 8)), layer, binary_conv(4)])
    numbers = layer.get_weights()
    numbers[weight][1] = np.nan
    layer.set_weights(numbers)
    with pytest.raises(ModelError, match="of layer 'diverged' .* contains NaN"):
        nobn.fold_batch_norm(model)
