"""Moments carried through layers: by samples, by closed forms, and in networks."""

import math
from statistics import NormalDist

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from gradients import assert_is_gradient
from larq_nobn._keras import dtype_policy, keras
from larq_nobn.layers import BatchKalmanNormalization, RPReLU, propagate_moments
from numpy.testing import assert_allclose, assert_array_equal

MEAN = np.array([-1.5, 0.0, 0.4, 3.0])
VARIANCE = np.array([0.3, 1.0, 4.0, 0.5])
PLAIN = {
    "dense": lambda: keras.layers.Dense(5),
    "conv1d": lambda: keras.layers.Conv1D(5, 3),
    "conv2d": lambda: keras.layers.Conv2D(5, 3, use_bias=False),
    "quantconv2d": lambda: lq.layers.QuantConv2D(
        5, 3, kernel_quantizer=nobn.quantizers.ScaledStdSign()
    ),
}
RANKS = {"dense": 2, "conv1d": 3}
ACTIVATIONS = {
    None: lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "sign": lambda x: np.where(x >= 0, 1.0, -1.0),
}


@pytest.fixture(autouse=True)
def _seeded():
    keras.utils.set_random_seed(41)


def in_float64(make, rank=4):
    """A built layer in float64, its weights off their start, and its kernel's value."""
    with dtype_policy("float64"):
        layer = make()
        layer(np.zeros((1, *[4] * (rank - 2), 4)))
    rng = np.random.default_rng(42)
    for weight in layer.weights:
        weight.assign(rng.normal(0.1, 0.5, weight.shape))
    quantizer = getattr(layer, "kernel_quantizer", None)
    value = layer.kernel.latent_variable if quantizer else layer.kernel
    return layer, np.asarray(quantizer(value) if quantizer else value)


def plain(name):
    return in_float64(PLAIN[name], RANKS.get(name, 4))


def bias_of(layer):
    return layer.bias.numpy() if layer.use_bias else 0.0


def assert_sampled(actual, outputs):
    """Within 5 standard errors of a sample's moments, which one run in a million is
    not; that of a variance follows from the fourth moment."""
    count, mean, variance = len(outputs), outputs.mean(0), outputs.var(0)
    fourth = np.mean((outputs - mean) ** 4, axis=0)
    errors = np.sqrt(variance / count), np.sqrt((fourth - variance**2) / count)
    for moment, sample, error in zip(actual, (mean, variance), errors, strict=True):
        assert np.all(np.abs(moment - sample) <= 5 * error)


def samples(shape=(), count=50_000):
    rng = np.random.default_rng(43)
    return MEAN + np.sqrt(VARIANCE) * rng.normal(size=(count, *shape, 4))


def closed_form(mean, variance, activation):
    """One value's moments, by the formulas for the first and second one."""
    k = mean / math.sqrt(variance)
    above, density = NormalDist().cdf(k), NormalDist().pdf(k)
    if activation == "sign":
        return 2 * above - 1, 1 - (2 * above - 1) ** 2
    if activation is None:
        return mean, variance
    first = mean * above + math.sqrt(variance) * density
    second = (mean**2 + variance) * above + mean * math.sqrt(variance) * density
    return first, second - first**2


# Every layer in turn with an activation, and one with each.
@pytest.mark.parametrize(
    "name, activation",
    [
        *zip(PLAIN, ACTIVATIONS, strict=False),
        *(("quantconv2d", activation) for activation in ACTIVATIONS),
    ],
)
def test_closed_forms(name, activation):
    layer, kernel = plain(name)
    of = [closed_form(m, v, activation) for m, v in zip(MEAN, VARIANCE, strict=True)]
    expected = np.zeros((2, 5))
    for index in np.ndindex(kernel.shape):
        (*_, channel, output), weight = index, kernel[index]
        expected[0, output] += weight * of[channel][0]
        expected[1, output] += weight**2 * of[channel][1]
    expected[0] += bias_of(layer)
    actual = propagate_moments(layer, (MEAN, VARIANCE), activation)
    assert_allclose(actual, expected, rtol=1e-10)
    if name == "quantconv2d":
        inputs = ACTIVATIONS[activation](samples(kernel.shape[:-2]))
        outputs = inputs.reshape(len(inputs), -1) @ kernel.reshape(-1, 5)
        assert_sampled(actual, outputs + bias_of(layer))


def with_sign(quantizer):
    return lambda: lq.layers.QuantConv2D(
        5,
        3,
        input_quantizer=quantizer,
        kernel_quantizer=nobn.quantizers.ScaledStdSign(),
    )


@pytest.mark.parametrize("shift", [True, False])
def test_a_sign_before_its_convolution(shift):
    quantizer = nobn.quantizers.RSign(scale=0.7, shift=shift, dtype="float64")
    inside, _ = in_float64(with_sign(quantizer))
    marker = lq.quantizers.NoOp(precision=1, dtype="float64")
    behind, _ = in_float64(with_sign(marker))
    for name in ("kernel", "bias"):
        getattr(behind, name).assign(getattr(inside, name))
    gain = inside.kernel_quantizer.gain
    behind.kernel_quantizer.gain.assign(gain)
    bits = propagate_moments(quantizer, (MEAN, VARIANCE))
    means = 0.7 * MEAN + (quantizer.shift.numpy() if shift else 0.0)
    normal = zip(means, 0.49 * VARIANCE, strict=True)
    of = [closed_form(mean, variance, "sign") for mean, variance in normal]
    assert_allclose(bits, np.transpose(of), rtol=1e-9, atol=1e-12)
    expected = propagate_moments(inside, (MEAN, VARIANCE))
    assert_array_equal(propagate_moments(behind, bits), expected)


def with_random_weights(layer, shape=(None, 4)):
    layer.build(shape)
    rng = np.random.default_rng(44)
    for weight in layer.trainable_weights:
        weight.assign(rng.normal(size=weight.shape))
    return layer


def test_activations_with_slopes():
    state = MEAN, VARIANCE
    prelu = keras.layers.PReLU(shared_axes=[1, 2], dtype="float64")
    x = samples()[:, None, None]
    with_random_weights(prelu, (None, 8, 8, 4))
    assert_sampled(propagate_moments(prelu, state), prelu(x).numpy().squeeze((1, 2)))
    for power_of_two in (False, True):
        layer = RPReLU(power_of_two=power_of_two, dtype="float64")
        with_random_weights(layer)
        assert_sampled(propagate_moments(layer, state), layer(samples()).numpy())


def test_after_a_normalization():
    layer = with_random_weights(BatchKalmanNormalization(epsilon=0.2, dtype="float64"))
    # At inference the state is the moving moments; here they are those of the features.
    layer.moving_mean.assign(MEAN)
    layer.moving_variance.assign(VARIANCE)
    y, state = layer(samples())
    actual = propagate_moments(layer, state)
    assert_array_equal(actual[0], layer.beta)
    assert_sampled(actual, y.numpy())


@pytest.mark.parametrize("name, activation", [("conv2d", "relu"), ("dense", "sign")])
def test_gradients(name, activation):
    layer, _ = plain(name)
    upstream = np.random.default_rng(46).normal(size=(2, 5))
    variables = [layer.kernel.numpy(), MEAN, VARIANCE]

    def loss(kernel, mean, variance):
        layer.kernel.assign(kernel)
        moments = propagate_moments(layer, (mean, variance), activation)
        return tf.reduce_sum(tf.stack(moments) * upstream)

    mean, variance = tf.constant(MEAN), tf.constant(VARIANCE)
    with tf.GradientTape() as tape:
        tape.watch([mean, variance])
        value = loss(variables[0], mean, variance)
    actual = tape.gradient(value, [layer.kernel, mean, variance])
    for place, gradient in enumerate(actual):

        def at(array, place=place):
            return loss(*[*variables[:place], array, *variables[place + 1 :]]).numpy()

        assert_is_gradient(gradient, at, variables[place])


IMAGES = np.random.default_rng(40).normal(size=(4, 4, 4, 2)).astype(np.float32)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
def test_files_share_the_weights_again(tmp_path):
    inputs = keras.Input((4, 4, 2))
    x, state = BatchKalmanNormalization()(inputs)
    layer = with_sign(nobn.quantizers.RSign())()
    x = layer(x)
    x, _ = BatchKalmanNormalization()([x, *propagate_moments(layer, state)])
    model = keras.Model(inputs, keras.layers.Flatten()(x))
    model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=True)
    others = []
    for name in ("model.keras", "model.h5"):
        model.save(tmp_path / name)
        others.append(keras.models.load_model(tmp_path / name))
    seen = []
    for trained in (model, *others):
        trained.run_eagerly = True  # which not every kind of file keeps
        outputs = np.asarray(trained(IMAGES, training=False))
        trained.train_on_batch(IMAGES, np.eye(4, 20))
        seen.append([outputs, *trained.get_weights()])
    for other in seen[1:]:
        # A kernel held twice would be one weight more, or move by half its gradient.
        for array, expected in zip(other, seen[0], strict=True):
            assert_allclose(array, expected, rtol=1e-5, atol=1e-6)


def called(layer, shape=(1, 6, 6, 4)):
    layer(np.zeros(shape, np.float32))
    return layer


layers = keras.layers
REJECTED = [
    (lambda: layers.Conv2DTranspose(5, 3), None, "propagated through .*ose"),
    (lambda: layers.Dense(5), "tanh", "one of linear, relu, sign.*; got 'tanh'"),
    (with_sign("ste_sign"), "relu", "'relu' is not allowed for layer 'quant_conv2d"),
    (lambda: layers.Dense(5, "relu", name="c"), None, "'c' has groups or an act"),
    (with_sign("ste_tern"), None, "has the input quantizer .*SteTern"),
    (lambda: layers.PReLU(name="a"), None, r"'a' has slopes of shape \(6, 6, 4\), but"),
]


@pytest.mark.parametrize("make, activation, message", REJECTED)
def test_rejects(make, activation, message):
    layer = called(make())
    with pytest.raises((TypeError, ValueError), match=message):
        propagate_moments(layer, (MEAN, VARIANCE), activation)


@pytest.mark.parametrize(
    "name, policy",
    [
        ("scaled_std_sign", "mixed_bfloat16"),
        ("reste", "mixed_bfloat16"),
        (None, "mixed_float16"),
    ],
)
def test_the_kernel_is_that_of_the_forward_pass(name, policy):
    with dtype_policy(policy):
        features = keras.Input((4,))
        layer = lq.layers.QuantDense(5, kernel_quantizer=name, use_bias=False)
        x, state = BatchKalmanNormalization()(features)
        layer(x)
        model = keras.Model(features, [*state, *propagate_moments(layer, state)])
    offsets = np.sign(np.sin(1 + np.arange(20.0))).reshape(4, 5)
    getattr(layer.kernel, "latent_variable", layer.kernel).assign(1 + 1e-5 * offsets)
    for weight in getattr(layer.kernel_quantizer, "trainable_weights", []):
        weight.assign(np.linspace(0.3, 0.7, 5))
    rows = tf.constant(np.eye(4), layer.compute_dtype)  # each shows one of the kernel
    kernel = layer(rows).numpy().astype(np.float64)
    images = np.random.default_rng(1).normal(size=(8, 4))
    mean, variance, *actual = (np.float64(moment) for moment in model(images))
    assert_allclose(actual[0], mean @ kernel, rtol=1e-5, atol=1e-6)
    assert_allclose(actual[1], variance @ kernel**2, rtol=1e-5, atol=1e-6)
