"""SignSwish, SigmoidSign and ReSTE: far inputs, and what they carry on.

The contract compares their gradients with oracles in every rank and precision.
"""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from gradients import value_and_gradients
from larq_nobn._keras import keras
from larq_nobn.quantizers import ReSTE, RSign, SigmoidSign, SignSwish
from numpy.testing import assert_allclose, assert_array_equal


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_far_inputs_have_finite_gradients(dtype):
    largest = float(tf.as_dtype(dtype).max)
    x = np.array([0.0, 1e-30, 17.0, 1e4, 6e4, largest])
    x = tf.constant([[*x, *-x]], dtype)
    learned = SignSwish(20.0, trainable_beta=True, dtype=dtype)
    for layer, steepest in ((learned, 20), (SigmoidSign(dtype=dtype), 1.5)):
        value, d_x, d_weights = value_and_gradients(layer, x, np.ones(x.shape))
        assert_array_equal(value, np.where(np.asarray(x, np.float64) >= 0, 1, -1))
        assert_allclose(d_x[0, [0, 1, 6, 7]], steepest)
        assert_allclose(d_x[0, [2, 3, 4, 5, 8, 9, 10, 11]], 0, atol=1e-20)
        assert all(np.isfinite(slope).all() for slope in d_weights.values())


@pytest.mark.parametrize(
    "optimizer, upstream, kept",
    [(keras.optimizers.SGD, -100.0, 20.0), (keras.optimizers.legacy.SGD, 100.0, 1.0)],
)
def test_a_learned_beta_stays_inside_its_bounds(optimizer, upstream, kept):
    layer = SignSwish(trainable_beta=True)
    x = tf.constant([[0.2]])
    with tf.GradientTape() as tape:
        loss = upstream * tf.reduce_sum(layer(x))
    gradients = tape.gradient(loss, layer.trainable_weights)
    pairs = zip(gradients, layer.trainable_weights, strict=True)
    optimizer(100.0).apply_gradients(pairs)
    assert float(layer.beta) == kept


def test_surgery_carries_the_power_on():
    kernel = {"kernel_quantizer": "reste", "kernel_constraint": "weight_clip"}
    image = keras.Input((2, 2, 8))
    x = keras.layers.BatchNormalization()(image)
    sign = RSign(estimator="reste")
    x = lq.layers.QuantConv2D(8, 1, name="conv", input_quantizer=sign, **kernel)(x)
    x = keras.layers.BatchNormalization()(x)
    x = lq.layers.QuantConv2D(8, 1, name="last", input_quantizer=ReSTE(), **kernel)(x)
    model = keras.Model(image, x)
    for name in ("conv", "last"):
        model.get_layer(name).input_quantizer.power.assign(2.5)
    images = np.random.default_rng(82).normal(size=(3, 2, 2, 8)).astype("float32")
    # Folded into the first sign, and after the first kernel; removed from both signs.
    kinds = {nobn.fold_batch_norm: ReSTE, nobn.remove_batch_norm: RSign}
    for change, of_last in kinds.items():
        changed = change(model)
        signs = [changed.get_layer(n).input_quantizer for n in ("conv", "last")]
        assert [type(sign) for sign in signs] == [RSign, of_last]
        assert [float(sign.power) for sign in signs] == [2.5, 2.5]
        assert signs[0].estimator == getattr(signs[1], "estimator", "reste") == "reste"
    assert_allclose(nobn.fold_batch_norm(model)(images), model(images), atol=1e-3)
