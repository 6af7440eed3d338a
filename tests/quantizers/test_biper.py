"""The square wave of a kernel, the sine of its gradient, and runs and files with it."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import tensorflow as tf
from deploy.nets import binary_conv
from gradients import value_and_gradients
from larq_nobn._keras import dtype_policy, keras
from larq_nobn.graph._signs import kernel_value
from larq_nobn.quantizers import BiPer
from larq_nobn.training import RunSettings
from larq_nobn.training._network import build_network
from numpy.testing import assert_allclose, assert_array_equal
from quantizers.oracles import square_wave

NOBN = {"dataset": "digits", "width": 8, "blocks": (1, 1), "kernel": "biper"}


def test_published_numbers():
    # The slope is f at zero, 0 half-way to the next change and -f there.
    half = np.pi / 20
    w = np.array([[0.0], [-0.0], [half / 2], [1.001 * half], [-1e-4], [-1.5 * half]])
    layer = BiPer(gain=False, dtype="float64")
    value, d_w, _ = value_and_gradients(layer, w, np.ones_like(w))
    assert_array_equal(value[:, 0], [1, 1, 1, -1, -1, 1])
    assert_allclose(d_w[:, 0], [20, 20, 0, -20, 20, 0], atol=2e-4)


def test_far_weights_have_finite_gradients_in_half_precision():
    w = tf.constant([[-1e3], [0.0], [6e4]], tf.float16)
    value, d_w, _ = value_and_gradients(BiPer(gain=False), w, np.ones((3, 1)))
    assert_array_equal(np.abs(value), 1)
    assert (np.abs(d_w) <= 20).all()


def test_mixed_precision_reads_the_stored_kernel():
    with dtype_policy("mixed_bfloat16"):
        layer = lq.layers.QuantDense(
            3, kernel_quantizer=BiPer(gain=False), use_bias=False
        )
    layer(tf.zeros((1, 4)))
    # 16 bits of bfloat16 are as far apart here as half a period.
    latent = 40 + np.random.default_rng(2).uniform(-0.2, 0.2, (4, 3))
    layer.kernel.latent_variable.assign(latent)
    stored = layer.kernel.latent_variable.numpy()
    assert_array_equal(layer(np.eye(4)), square_wave(stored))


def network(**chosen):
    keras.utils.set_random_seed(3)
    settings = RunSettings.from_recipe(**{**NOBN, **chosen})
    return settings, build_network(settings, nobn.data.open_dataset("digits").info)


def test_networks_without_batch_norm_give_it_the_scale_of_their_kernels():
    settings, actual = network()
    _, usual = network(kernel=None)
    assert settings.latent_initializer == "glorot_uniform"
    for layer in usual.layers:
        own = getattr(layer, "kernel_quantizer", None)
        if type(own).__name__ != "ScaledStdSign":
            continue
        theirs = actual.get_layer(layer.name)
        quantizer = theirs.kernel_quantizer
        assert type(quantizer) is BiPer and quantizer.name == own.name
        latent = theirs.kernel.latent_variable.numpy()
        fan_in = latent[..., 0].size
        expected = own.scale / fan_in**0.5 * square_wave(latent)
        assert_allclose(kernel_value(theirs.kernel), expected, rtol=1e-6)
        assert (latent > 0).any() and (latent < 0).any()
        assert quantizer.gain.shape == latent.shape[-1:]
    names = [weight.name for weight in actual.weights]
    assert names == [weight.name for weight in usual.weights]


def with_batch_norm():
    start = keras.initializers.RandomUniform(-1, 1, seed=5)
    of_kernel = {"kernel_quantizer": BiPer(), "kernel_initializer": start}
    inputs, norm = keras.Input((2, 2, 8)), keras.layers.BatchNormalization()
    conv = binary_conv(8, name="conv", kernel_constraint=None, **of_kernel)
    return keras.Model(inputs, norm(conv(inputs))), norm


def test_folding_and_converting_read_its_signs():
    model, norm = with_batch_norm()
    rng = np.random.default_rng(7)
    # A gain and factors of both signs, and weights of exactly 0.
    model.get_layer("conv").kernel_quantizer.gain.assign(rng.normal(size=8))
    norm.gamma.assign(rng.normal(size=8))
    latent = model.get_layer("conv").kernel.latent_variable
    latent.assign(np.where(rng.random(latent.shape) < 0.1, 0, latent.numpy()))
    x = rng.normal(size=(4, 2, 2, 8)).astype("f4")
    folded = nobn.fold_batch_norm(model)
    assert_allclose(folded(x), model(x), rtol=1e-4, atol=1e-4)
    ready = nobn.deploy.prepared(model)
    assert_allclose(ready(x), model(x), rtol=1e-4, atol=1e-4)
