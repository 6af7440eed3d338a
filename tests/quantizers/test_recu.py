import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from gradients import value_and_gradients
from larq_nobn._keras import keras
from larq_nobn.quantizers import ReCU
from numpy.testing import assert_allclose, assert_array_equal


def sign_as_identity(x):
    return x + tf.stop_gradient(lq.math.sign(x) - x)


def published(latent, tau):
    """sign(w2) of the published arrangement, by TensorFlow's own derivatives."""
    mean = tf.reduce_mean(latent, (0, 1, 2))
    count = np.prod(latent.shape[:-1])
    variance = tf.reduce_sum((latent - mean) ** 2, (0, 1, 2)) / (count - 1)
    w1 = (latent - mean) / (tf.sqrt(variance + 1e-5) / (2 * np.sqrt(2)))
    limit = tf.stop_gradient(-tf.reduce_mean(tf.abs(w1)) * np.log(2 - 2 * tau))
    return sign_as_identity(tf.clip_by_value(w1, -limit, limit))


@pytest.mark.parametrize("tau", [0.6, 0.85, 0.99])
def test_equals_a_convolution_with_the_signs_and_alpha_after_it(tau):
    rng = np.random.default_rng(30)
    images = tf.constant(rng.normal(size=(2, 7, 7, 4)))
    start = rng.normal(size=(3, 3, 4, 5))
    scale = rng.normal(size=5)  # of both signs
    upstream = rng.normal(size=(2, 5, 5, 5))

    layer = lq.layers.QuantConv2D(
        5, 3, use_bias=False, kernel_quantizer=ReCU(tau, dtype="float64"),
        dtype="float64",
    )  # fmt: skip
    layer(images)
    layer.kernel.latent_variable.assign(start)
    layer.kernel_quantizer.alpha.assign(scale)
    latent, alpha = tf.Variable(start), tf.Variable(scale)

    def theirs(images):
        return tf.nn.conv2d(images, published(latent, tau), 1, "VALID") * alpha

    found = []
    for function, weights in [
        (layer, [layer.kernel_quantizer.alpha, layer.kernel.latent_variable]),
        (theirs, [alpha, latent]),
    ]:
        with tf.GradientTape() as tape:
            tape.watch(images)
            y = function(images)
            loss = tf.reduce_sum(y * upstream)
        found.append([y, *tape.gradient(loss, [images, *weights])])
    for one, other in zip(*found, strict=True):
        assert_allclose(one, other, rtol=1e-9, atol=1e-11)


def test_published_number():
    """W = 1, 2, 3, 4: |w1| = 3.29, 1.10, b = 2.19, so Q(.85) = 2.64 masks the ends."""
    kernel = np.array([[1.0], [2.0], [3.0], [4.0]])
    w1 = [-3.2863255, -1.0954418, 1.0954418, 3.2863255]
    assert_allclose(np.abs(w1).mean() * 1.2039728, 2.6377643, rtol=1e-7)
    for tau, mask in [
        (0.7, [0, 1, 1, 0]),  # Q/b = 0.51, Q = 1.119
        (0.69, [0, 0, 0, 0]),  # Q/b = 0.478, Q = 1.047
        (0.85, [0, 1, 1, 0]),
        (0.88, [0, 1, 1, 0]),  # Q/b = 1.427, Q = 3.127
        (0.89, [1, 1, 1, 1]),  # Q/b = 1.514, Q = 3.317
    ]:
        layer = ReCU(tau, dtype="float64")
        layer.build(kernel.shape)
        layer.alpha.assign([0.5])
        upstream = np.array([[1.0], [-2.0], [0.5], [3.0]])
        value, found, _ = value_and_gradients(layer, kernel, upstream)
        assert_array_equal(value[:, 0], [-0.5, -0.5, 0.5, 0.5])
        h, d = 0.5 * np.array(mask) * upstream[:, 0], kernel[:, 0] - 2.5
        variance = 5 / 3 + 1e-5
        expected = h - h.mean() - d * (h @ d) / (3 * variance)
        assert_allclose(found[:, 0], np.sqrt(8 / variance) * expected, rtol=1e-12)


def clamped(kernel, tau):
    """Which weights get no gradient, for filters that hold -w with every w.

    There, in every filter, the weights inside the clamp sum to 0, and an upstream
    gradient of 1 becomes a multiple of the mask less its mean.
    """
    layer = ReCU(tau, dtype="float64")
    layer.build(kernel.shape)
    layer.alpha.assign(np.ones(kernel.shape[-1]))
    _, d_kernel, _ = value_and_gradients(layer, kernel, np.ones_like(kernel))
    return d_kernel < -1e-6


@pytest.mark.parametrize(
    "tau, ratio",
    [(0.85, 1.2039728), (0.9, 1.6094379), (0.95, 2.3025851), (0.99, 3.912023)],
)
def test_the_clamp_stands_at_the_published_multiple_of_the_mean_magnitude(tau, ratio):
    for side, beyond in [(0.9999, False), (1.0001, True)]:
        # The five magnitudes that make the sixth, 1, `side * ratio` times their mean.
        rest = (6 / (side * ratio) - 1) / 5
        half = np.array([[1.0], *[[rest]] * 5])
        found = clamped(np.concatenate([half, -half]), tau)
        assert_array_equal(found[:, 0], np.abs([*half, *half])[:, 0] * beyond == 1)


@pytest.mark.parametrize("tau", [0.7, 0.85, 0.95])
def test_clamps_a_fraction_of_2_minus_2_tau_of_laplace_weights(tau):
    half = np.random.default_rng(31).laplace(size=(2000, 16))
    share = np.mean(clamped(np.concatenate([half, -half]), tau))
    # 32,000 independent draws: the standard error of a share is below 0.003.
    assert_allclose(share, 2 - 2 * tau, atol=0.012)


def test_clamps_what_was_measured_for_gaussian_weights():
    half = np.random.default_rng(32).normal(size=(2000, 16))
    share = np.mean(clamped(np.concatenate([half, -half]), 0.85))
    assert_allclose(share, 0.337, atol=0.012)


def test_tau_changes_no_value():
    kernel = np.random.default_rng(33).normal(size=(3, 3, 16, 8)).astype(np.float32)
    layer = ReCU()
    layer.build(kernel.shape)
    values = []
    for tau in (0.6, 0.85, 0.99):
        layer.tau.assign(tau)
        values.append(np.asarray(layer(kernel)))
    assert_array_equal(values[0], values[1])
    assert_array_equal(values[0], values[2])
    signs = np.where(kernel >= kernel.mean((0, 1, 2)), 1, -1)
    assert_array_equal(values[0], signs * layer.alpha.numpy())


def test_tau_is_the_argument_first_and_the_saved_variable_then():
    layer = ReCU(tau=0.9)
    assert layer.tau == 0.9
    layer.build((3, 3, 4, 5))
    assert_allclose(layer.tau.numpy(), 0.9, rtol=1e-6)
    assert [w is layer.tau for w in layer.non_trainable_weights] == [True]
    layer.tau.assign(0.99)
    assert layer.get_config()["tau"] == 0.9


def test_alpha_starts_uniform():
    layer = ReCU()
    layer.build((1, 1, 2, 10_000))
    alpha = layer.alpha.numpy()
    assert alpha.min() >= 0 and alpha.max() <= 1
    # Deciles of 10,000 draws lie within four standard errors, 0.02, of a tenth.
    assert_allclose(np.quantile(alpha, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.02)


def test_half_precision_keeps_the_statistics_in_float32():
    kernel = np.random.default_rng(34).normal(300, 1, (3, 3, 64, 4))
    half = tf.cast(kernel, tf.float16)
    layer = ReCU()
    layer.build(half.shape)
    upstream = np.random.default_rng(35).normal(size=kernel.shape)
    value, d_kernel, _ = value_and_gradients(layer, half, upstream)
    exact = value_and_gradients(layer, tf.cast(half, tf.float32), upstream)
    assert_array_equal(np.sign(value), np.sign(exact[0]))
    # The upstream gradient itself has ten bits.
    assert_allclose(d_kernel, exact[1], rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize(
    "tau, error, message",
    [
        (1, ValueError, r"tau=1 is outside \(0.5, 1\). Use 0.85 to start and 0.99"),
        (0.5, ValueError, r"tau=0.5 is outside \(0.5, 1\)"),
        ("0.9", TypeError, r"tau='0.9' is not a number; it must lie in \(0.5, 1\)"),
    ],
)
def test_rejects_tau(tau, error, message):
    with pytest.raises(error, match=message):
        ReCU(tau=tau)


def test_rejects_filters_of_one_weight():
    with pytest.raises(ValueError, match=r"\(1, 1, 1, 8\), whose filters have a sing"):
        ReCU().build((1, 1, 1, 8))


def test_rejects_a_second_owner():
    shared = ReCU()
    shared(tf.ones((3, 3, 4, 5)))
    with pytest.raises(ValueError, match=r"\(3, 3, 4, 5\) and \(3, 3, 8, 5\)"):
        shared(tf.ones((3, 3, 8, 5)))


@pytest.mark.convert
def test_converts_with_an_alpha_of_zero_and_a_negative_one(tmp_path):
    keras.utils.set_random_seed(36)
    image = keras.Input((6, 6, 32))
    convolution = lq.layers.QuantConv2D(
        32, 3, padding="same", pad_values=1.0, use_bias=False,
        input_quantizer="ste_sign", kernel_quantizer="recu",
    )  # fmt: skip
    y = keras.layers.GlobalAveragePooling2D()(convolution(image))
    model = keras.Model(image, keras.layers.Dense(3)(y))
    alpha = convolution.kernel_quantizer.alpha
    alpha.assign([0.0, -0.7, *alpha.numpy()[2:]])
    report = nobn.convert(model, tmp_path / "recu.tflite")
    assert report.binary_layers == report.lce_bconv2d == 1
    assert report.verify["unexplained"] == 0
