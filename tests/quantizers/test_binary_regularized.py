import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from gradients import finite_differences
from larq_nobn._keras import keras
from larq_nobn.optimizers import AdaptiveGradientClipping
from larq_nobn.quantizers import BinaryRegularized
from numpy.testing import assert_allclose, assert_array_equal


def built(shape, *args, scale=None, **kwargs):
    layer = BinaryRegularized(*args, dtype="float64", **kwargs)
    layer.build(shape)
    if scale is not None:
        layer.scale.assign(scale)
    return layer


def penalty_and_gradients(layer, kernel):
    """The one loss, and its gradients by the kernel and the scale."""
    kernel = tf.constant(kernel)
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        layer(kernel)
        (loss,) = layer.losses
    return loss, *tape.gradient(loss, [kernel, layer.scale])


def test_gradients_by_finite_differences():
    rng, order = np.random.default_rng(50), 2
    kernel, scale = rng.normal(size=(3, 2, 4, 5)), rng.uniform(0.5, 1.5, 5)
    layer = built(kernel.shape, "ste_sign", order, 0.1, True, scale=scale)
    _, d_kernel, d_scale = penalty_and_gradients(layer, kernel)

    def penalty(kernel, scale):
        return 0.1 * np.sum(np.abs(scale - np.abs(kernel)) ** order)

    slopes = finite_differences(lambda kernel: penalty(kernel, scale), kernel)
    assert_allclose(d_kernel, slopes, atol=1e-7)
    slopes = finite_differences(lambda scale: penalty(kernel, scale), scale)
    assert_allclose(d_scale, slopes, atol=1e-7)


@pytest.mark.parametrize("shape", [(6, 3), (3, 3, 4, 5)])
def test_scale_starts_at_the_mean_magnitude_of_a_glorot_uniform_kernel(shape):
    keras.utils.set_random_seed(53)
    layer = built(shape, "ste_sign")
    draws = [
        np.abs(keras.initializers.GlorotUniform()(shape)).mean() for _ in range(200)
    ]
    # At least 3,600 draws, of a standard deviation of 0.58 times their mean.
    assert_allclose(layer.scale, np.mean(draws), rtol=0.04)
    given = built(shape, "ste_sign", initial_scale=0.25, per_channel=True)
    assert_array_equal(given.scale, np.full(shape[-1], 0.25))


IMAGES = np.random.default_rng(55).normal(size=(2, 2, 2, 4)).astype(np.float32)


def network(calls=1, **kwargs):
    keras.utils.set_random_seed(54)
    x = image = keras.Input((2, 2, 4))
    layer = lq.layers.QuantConv2D(
        4, 3, padding="same", input_quantizer="ste_sign", use_bias=False,
        kernel_quantizer=BinaryRegularized("scaled_std_sign", **kwargs),
    )  # fmt: skip
    for _ in range(calls):
        x = layer(x)
    return keras.Model(image, x), layer


def test_one_penalty_in_every_step():
    model, layer = network(2, strength=0.01)
    model(IMAGES)
    model(IMAGES)
    kernel = layer.kernel.latent_variable.numpy()
    scale = layer.kernel_quantizer.scale.numpy()
    expected = 0.01 * np.sum(np.abs(scale - np.abs(kernel)))
    (loss,) = model.losses
    assert_allclose(loss, expected, rtol=1e-5)
    model.compile("sgd", "mse")
    error = np.mean(np.square(model(IMAGES) - IMAGES))
    history = model.fit(IMAGES, IMAGES, verbose=0).history
    assert_allclose(history["loss"], error + expected, rtol=1e-5)


OPTIMIZERS = {
    "new": lambda: keras.optimizers.SGD(10.0),
    "legacy": lambda: keras.optimizers.legacy.SGD(10.0),
    "clipping": lambda: AdaptiveGradientClipping(keras.optimizers.SGD(1e6), 1.0),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_scale_stays_positive(optimizer):
    model, layer = network(order=2, strength=1.0, initial_scale=3.0)
    # Without anything else to learn than the penalty.
    loss = lambda labels, y: 0.0 * y  # noqa: E731
    model.compile(OPTIMIZERS[optimizer](), loss, run_eagerly=True)
    model.train_on_batch(IMAGES, IMAGES)
    assert_allclose(layer.kernel_quantizer.scale, 1e-4, rtol=1e-6)
