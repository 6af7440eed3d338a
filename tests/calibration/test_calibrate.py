"""What calibrate takes, what it rejects, and what it leaves alone."""

import larq_nobn as nobn
import numpy as np
import pytest
import tensorflow as tf
from calibration.oracle import deviation, mean, sign_inputs, tensors
from larq_nobn._keras import dtype_policy, keras
from larq_nobn.graph._errors import ModelError
from numpy.testing import assert_allclose, assert_array_equal


def network(normalization="nobn", **changes):
    keras.utils.set_random_seed(0)
    settings = {"width": 4, "blocks": (1,), **changes}
    return nobn.models.ReActNet18((6, 6, 2), 3, normalization, **settings)


def images(count=24):
    rng = np.random.default_rng(0)
    return rng.normal(0.5, 2.0, (count, 6, 6, 2)).astype(np.float32)


def batched(x):
    return tf.data.Dataset.from_tensor_slices((x, np.zeros(len(x)))).batch(5)


def same_weights(model, other):
    for one, two in zip(model.get_weights(), other.get_weights(), strict=True):
        assert_allclose(one, two, rtol=1e-5, atol=1e-6)


def copy(model):
    """A network of the same weights."""
    made = keras.models.clone_model(model)
    made.set_weights(model.get_weights())
    return made


def check_centered(model):
    for value in sign_inputs(model, images()):
        assert np.abs(mean(value)).max() < 1e-5 * deviation(value).min()


@pytest.fixture(scope="module")
def start():
    return network()


@pytest.fixture(scope="module")
def wanted(start):
    model = copy(start)
    nobn.calibrate(model, images())
    return model


def test_every_form_of_data(start, wanted, monkeypatch):
    """Pairs, batches, more examples than asked for, and parts of the data."""
    others = np.concatenate([images(), np.full((9, 6, 6, 2), 1e9, np.float32)])
    for data, arguments in (
        ((images(), np.zeros(24)), {}),
        (batched(others), {"examples": 24}),
        (images(), {}),
    ):
        model = copy(start)
        monkeypatch.setattr("larq_nobn.calibration._calibrate._BATCH", 7)
        nobn.calibrate(model, data, **arguments)
        same_weights(model, wanted)
    nobn.calibrate(model, images())  # a second time, which changes nothing
    same_weights(model, wanted)


def test_what_was_learned_is_overwritten(start):
    model, rng = copy(start), np.random.default_rng(1)
    for weight in model.trainable_weights:
        weight.assign_add(0.1 * rng.normal(size=weight.shape))
    nobn.calibrate(model, images())
    check_centered(model)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_has_float32_statistics(policy):
    with dtype_policy(policy):
        model = network()
    nobn.calibrate(model, images())
    assert {weight.dtype for weight in model.weights} == {tf.float32}
    # Not more: a mean taken in half precision would be off by 1e-3.
    check_centered(model)
    name = "stage1_block1_conv"
    branch = tensors(model, images(), [model.get_layer(name).output])[0]
    # The kernel is rounded twice: with the gain that is measured and with the new one.
    rounding = 2.0**-8 if policy == "mixed_bfloat16" else 2.0**-11
    assert_allclose(deviation(branch), 0.5, rtol=2 * rounding)


def test_variables_of_a_strategy():
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        model = network()
    nobn.calibrate(model, images())
    check_centered(model)


def test_rejects_models_with_batch_norm_or_nothing_to_set():
    for normalization in ("batch_norm", "kalman"):
        with pytest.raises(ModelError, match="has the batch norm 'stem_norm' and 1 mo"):
            nobn.calibrate(network(normalization), images())
    model = keras.Sequential([keras.layers.Dense(3, input_shape=(2,))], name="bare")
    with pytest.raises(ModelError, match="'bare' has no shift, gain or bias"):
        nobn.calibrate(model, np.ones((4, 2), np.float32))


def test_a_failure_leaves_the_model_as_it_was(start):
    model = copy(start)
    kernel = model.get_layer("stage1_block1_conv").kernel_quantizer.gain
    kernel.assign([1.0, np.inf, 1.0, 1.0])
    before = model.get_weights()
    with pytest.raises(ValueError, match="'stage1_block1_conv'.*not finite"):
        nobn.calibrate(model, images())
    for now, then in zip(model.get_weights(), before, strict=True):
        assert_array_equal(now, then)
