"""What Keras hands on beside tensors, other than masks: kept, rejected or said."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import scrambled
from larq_nobn._keras import keras
from larq_nobn.deploy import ConversionError, fake_quantize, prepared
from larq_nobn.graph._errors import ModelError
from numpy.testing import assert_allclose

layers = keras.layers
STEPS = np.random.default_rng(0).normal(size=(3, 4, 8)).astype(np.float32)


def binary(x):
    quantizers = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign"}
    dense = lq.layers.QuantDense(8, kernel_constraint="weight_clip", **quantizers)
    return layers.BatchNormalization()(dense(x))


def initial_state():
    inputs = keras.Input((4, 8))
    state = binary(layers.Flatten()(inputs))
    x = layers.SimpleRNN(8)(binary(inputs), initial_state=state)
    return scrambled(keras.Model(inputs, x))


def fixed_mode():
    inputs = keras.Input((4, 8))
    x = layers.Dropout(0.9)(binary(inputs), training=False)
    return scrambled(keras.Model(inputs, x))


@pytest.mark.parametrize("make", [initial_state, fixed_mode])
def test_other_arguments_of_calls_reach_them(make):
    model = make()
    for rewrite in (prepared, nobn.fold_batch_norm):
        made = rewrite(model, verify=False)
        assert_allclose(made(STEPS), model(STEPS), rtol=1e-4, atol=1e-5)
    removed = nobn.remove_batch_norm(model)
    assert np.isfinite(removed(STEPS)).all()


def test_ragged_and_sparse_inputs_are_rejected():
    for kind in ("ragged", "sparse"):
        inputs = keras.Input((8,), name="rows", **{kind: True})
        model = keras.Model(inputs, layers.Dense(8)(inputs))
        said = f"Input 'rows' of model 'model.*' is a {kind.title()}Tensor"
        for surgery in (nobn.fold_batch_norm, nobn.remove_batch_norm):
            with pytest.raises(ModelError, match=said):
                surgery(model)
        with pytest.raises(ConversionError, match=said):
            prepared(model)


def penalized():
    inputs = keras.Input((4, 8))
    x = layers.Dense(8, kernel_regularizer="l2", activity_regularizer="l1")(inputs)
    return keras.Model(inputs, layers.ActivityRegularization(0.1)(binary(x)))


def test_penalties_of_layers_stay_theirs(caplog):
    model = scrambled(penalized())
    model(STEPS)
    losses = [float(loss) for loss in model.losses]
    for made in (nobn.fold_batch_norm(model), fake_quantize(model, STEPS)):
        made(STEPS)
        assert len(losses) == 3
        assert_allclose(made.losses, losses, rtol=0.01)
    assert caplog.text == ""


def by_tensor(model):
    model.add_loss(tf.reduce_mean(model.output))


def by_metric(model):
    model.add_metric(tf.reduce_mean(model.output), name="mean")


@pytest.mark.parametrize("add", [by_tensor, by_metric])
def test_what_was_added_to_a_model_is_missing_with_a_word(add, caplog):
    model = penalized()
    add(model)
    made = nobn.fold_batch_norm(model)
    assert len(made.losses) == 3
    assert "has losses or metrics of its add_loss or add_metric" in caplog.text
