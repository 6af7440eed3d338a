import math
import re
import textwrap
from pathlib import Path
from statistics import NormalDist

import larq_nobn as nobn
import fresh
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from gradients import assert_is_gradient
from larq_nobn._keras import dtype_policy, keras
from larq_nobn.layers import BatchKalmanNormalization, RPReLU, propagate_moments
from layers import moments_network
from numpy.testing import assert_allclose, assert_array_equal

MEAN = np.array([-1.5, 0.0, 0.4, 3.0])
VARIANCE = np.array([0.3, 1.0, 4.0, 0.5])
PLAIN = {
    "dense": lambda: keras.layers.Dense(5),
    "conv1d": lambda: keras.layers.Conv1D(5, 3),
    "conv2d": lambda: keras.layers.Conv2D(5, 3, use_bias=False),
    "conv3d": lambda: keras.layers.Conv3D(5, 2),
    "quantdense": lambda: lq.layers.QuantDense(5, kernel_quantizer="ste_sign"),
    "quantconv2d": lambda: lq.layers.QuantConv2D(
        5, 3, kernel_quantizer=nobn.quantizers.ScaledStdSign()
    ),
}
ACTIVATIONS = {
    None: lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "sign": lambda x: np.where(x >= 0, 1.0, -1.0),
}


@pytest.fixture(autouse=True)
def _seeded():
    keras.utils.set_random_seed(41)


def in_float64(make):
    """A built layer in float64, its weights off their start, and its kernel's value."""
    with dtype_policy("float64"):
        layer = make()
        rank = {"Dense": 2, "1D": 3, "2D": 4, "3D": 5}
        dimensions = next(
            v for k, v in rank.items() if type(layer).__name__.endswith(k)
        )
        layer(np.zeros((1, *[4] * (dimensions - 2), 4)))
    rng = np.random.default_rng(42)
    for weight in layer.weights:
        weight.assign(rng.normal(0.1, 0.5, weight.shape))
    quantizer = getattr(layer, "kernel_quantizer", None)
    value = layer.kernel.latent_variable if quantizer else layer.kernel
    return layer, np.asarray(quantizer(value) if quantizer else value)


def bias_of(layer):
    return layer.bias.numpy() if layer.use_bias else 0.0


def assert_sampled(found, outputs):
    """Within 5 standard errors of a sample's moments, which one run in a million is
    not; that of a variance follows from the fourth moment."""
    count, mean, variance = len(outputs), outputs.mean(0), outputs.var(0)
    fourth = np.mean((outputs - mean) ** 4, axis=0)
    errors = np.sqrt(variance / count), np.sqrt((fourth - variance**2) / count)
    for one, sample, error in zip(found, (mean, variance), errors, strict=True):
        assert np.all(np.abs(one - sample) <= 5 * error)


def samples(shape=(), count=100_000):
    rng = np.random.default_rng(43)
    return MEAN + np.sqrt(VARIANCE) * rng.normal(size=(count, *shape, 4))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", PLAIN)
def test_samples_have_these_moments(name, activation):
    layer, kernel = in_float64(PLAIN[name])
    inputs = ACTIVATIONS[activation](samples(kernel.shape[:-2]))
    outputs = inputs.reshape(len(inputs), -1) @ kernel.reshape(-1, 5) + bias_of(layer)
    assert_sampled(propagate_moments(layer, (MEAN, VARIANCE), activation), outputs)


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


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", PLAIN)
def test_closed_forms(name, activation):
    layer, kernel = in_float64(PLAIN[name])
    of = [closed_form(m, v, activation) for m, v in zip(MEAN, VARIANCE, strict=True)]
    expected = np.zeros((2, 5))
    for index in np.ndindex(kernel.shape):
        (*_, channel, output), weight = index, kernel[index]
        expected[0, output] += weight * of[channel][0]
        expected[1, output] += weight**2 * of[channel][1]
    expected[0] += bias_of(layer)
    found = propagate_moments(layer, (MEAN, VARIANCE), activation)
    assert_allclose(found, expected, rtol=1e-10)


def with_sign(quantizer):
    return lambda: lq.layers.QuantConv2D(
        5,
        3,
        input_quantizer=quantizer,
        kernel_quantizer=nobn.quantizers.ScaledStdSign(),
    )


def test_the_shift_and_scale_of_a_sign_count():
    rsign = nobn.quantizers.RSign(scale=0.7, dtype="float64")
    layer, kernel = in_float64(with_sign(rsign))
    z = 0.7 * samples((3, 3)) + rsign.shift
    outputs = ACTIVATIONS["sign"](z).reshape(len(z), -1) @ kernel.reshape(-1, 5)
    assert_sampled(propagate_moments(layer, (MEAN, VARIANCE)), outputs + bias_of(layer))


@pytest.mark.parametrize("quantizer", ["ste_sign", "approx_sign", "swish_sign"])
def test_the_signs_of_larq(quantizer):
    layer, _ = in_float64(with_sign(quantizer))
    plain, _ = in_float64(with_sign(None))
    found = propagate_moments(layer, (MEAN, VARIANCE))
    assert_array_equal(found, propagate_moments(plain, (MEAN, VARIANCE), "sign"))


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


def test_prelu_of_one_slope_per_channel():
    layer = keras.layers.PReLU(shared_axes=[1, 2], dtype="float64")
    layer.build((None, 8, 8, 4))
    layer.alpha.assign(np.random.default_rng(44).normal(size=(1, 1, 4)))
    x = samples()[:, None, None]
    assert_sampled(propagate_moments(layer, (MEAN, VARIANCE)), layer(x).numpy())


@pytest.mark.parametrize("power_of_two", [False, True])
def test_rprelu(power_of_two):
    layer = RPReLU(power_of_two=power_of_two, dtype="float64")
    layer.build((None, 4))
    rng = np.random.default_rng(44)
    for weight in layer.weights:
        weight.assign(rng.normal(size=4))
    assert_sampled(propagate_moments(layer, (MEAN, VARIANCE)), layer(samples()).numpy())


def test_after_a_normalization():
    layer = BatchKalmanNormalization(epsilon=0.2, dtype="float64")
    layer.build((None, 4))
    rng = np.random.default_rng(45)
    for weight in (layer.gamma, layer.beta):
        weight.assign(rng.normal(size=4))
    # At inference the state is the moving moments; here they are those of the features.
    layer.moving_mean.assign(MEAN)
    layer.moving_variance.assign(VARIANCE)
    y, state = layer(samples())
    found = propagate_moments(layer, state)
    assert_array_equal(found[0], layer.beta)
    assert_sampled(found, y.numpy())


def test_values_without_variance_are_certain():
    layer, kernel = in_float64(PLAIN["dense"])
    state = np.array([-1.0, 0.5, 2.0, 1.0]), np.zeros(4)
    for activation, function in ACTIVATIONS.items():
        mean, variance = propagate_moments(layer, state, activation)
        assert_allclose(mean, function(state[0]) @ kernel + bias_of(layer), rtol=1e-5)
        assert_allclose(variance, 0, atol=1e-10)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", ["dense", "conv2d"])
def test_gradients(name, activation):
    layer, _ = in_float64(PLAIN[name])
    rng = np.random.default_rng(46)
    upstream = rng.normal(size=(2, 5))
    kernel = layer.kernel.numpy()
    variables = [kernel, MEAN, VARIANCE]

    def loss(kernel, mean, variance):
        layer.kernel.assign(kernel)
        moments = propagate_moments(layer, (mean, variance), activation)
        return tf.reduce_sum(tf.stack(moments) * upstream)

    mean, variance = tf.constant(MEAN), tf.constant(VARIANCE)
    with tf.GradientTape() as tape:
        tape.watch([mean, variance])
        value = loss(kernel, mean, variance)
    found = tape.gradient(value, [layer.kernel, mean, variance])
    for place, gradient in enumerate(found):

        def at(array, place=place):
            return loss(*[*variables[:place], array, *variables[place + 1 :]]).numpy()

        assert_is_gradient(gradient, at, variables[place])


def test_a_network_computes_the_same_as_arrays():
    state = keras.Input(batch_shape=(4,)), keras.Input(batch_shape=(4,))
    features = keras.Input((6, 6, 4))
    layer = with_sign(nobn.quantizers.RSign())()
    moments = propagate_moments(layer, (layer(features), *state)[1:])
    model = keras.Model([features, *state], moments)
    arrays = [tf.constant(moment, tf.float32) for moment in (MEAN, VARIANCE)]
    assert_array_equal(
        model([tf.zeros((1, 6, 6, 4)), *arrays]), propagate_moments(layer, arrays)
    )
    assert [layer.name for layer in model.layers[-1:]] == [f"{layer.name}_moments"]


def test_the_state_adds_no_weights():
    with_state, without = moments_network.network(), moments_network.network(False)
    counts = [
        (len(m.weights), m.count_params(), lq.models.ModelProfile(m).weight_count())
        for m in (with_state, without)
    ]
    assert counts[0] == counts[1]
    assert counts[0][1] == counts[0][2]


def test_clones_carry_moments_through_their_own_layers():
    model = moments_network.network()
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    x, _ = moments_network.batch()
    expected = model(x, training=True)
    for weight in model.weights:
        weight.assign(tf.zeros_like(weight))
    assert_array_equal(clone(x, training=True), expected)


def test_mixed_precision_carries_float32():
    keras.utils.set_random_seed(47)
    plain = moments_network.network()
    with dtype_policy("mixed_float16"):
        mixed = moments_network.network()
    mixed.set_weights(plain.get_weights())
    states = []
    for model in (plain, mixed):
        moments = model.get_layer("act_moments").output
        assert {moment.dtype for moment in moments} == {tf.float32}
        states.append(keras.Model(model.input, moments)(moments_network.batch()[0]))
    assert_allclose(*states, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
def test_files_share_the_weights_again(tmp_path):
    model = moments_network.network()
    for suffix in moments_network.SUFFIXES:
        kind = {"save_format": "tf"} if suffix == ".saved_model" else {}
        model.save(tmp_path / f"network{suffix}", **kind)
    done = fresh.run(Path(moments_network.__file__), [tmp_path])
    assert done.returncode == 0, done.stderr[-3000:]
    expected = moments_network.seen(model)
    for suffix in moments_network.SUFFIXES:
        found = np.load(tmp_path / f"{suffix[1:]}.npz")
        # A kernel held twice would be one weight more, or move by half its gradient.
        for name, array in zip(found.files, expected, strict=True):
            assert_allclose(found[name], array, rtol=1e-5, atol=1e-6)


def test_the_example_runs():
    text = textwrap.dedent(propagate_moments.__doc__.partition("\n")[2])
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    scope = {}
    exec(textwrap.dedent(example), scope)
    assert scope["model"].output_shape == (None, 8, 8, 16)


def unbuilt():
    return keras.layers.Dense(5, name="new")


def called(layer, shape=(1, 6, 6, 4)):
    layer(np.zeros(shape, np.float32))
    return layer


@pytest.mark.parametrize(
    "make, activation, error, message",
    [
        (
            lambda: called(keras.layers.ReLU()),
            None,
            TypeError,
            "is not a layer that moments",
        ),
        (
            lambda: called(keras.layers.Conv2DTranspose(5, 3)),
            None,
            TypeError,
            "Conv2DTranspose.* is not a layer that moments",
        ),
        (unbuilt, None, ValueError, "Layer 'new' was not called on a tensor"),
        (
            lambda: called(keras.layers.Dense(5)),
            "tanh",
            ValueError,
            "activation must be one of linear, relu, sign.*; got 'tanh'",
        ),
        (
            lambda: called(with_sign("ste_sign")()),
            "relu",
            ValueError,
            "activation='relu' does not go with layer 'quant_conv2d",
        ),
        (
            lambda: called(RPReLU(name="act")),
            "sign",
            ValueError,
            "activation='sign' does not go with layer 'act'",
        ),
        (
            lambda: called(keras.layers.Conv2D(4, 3, groups=2, name="grouped")),
            None,
            ValueError,
            "Layer 'grouped' has groups or an activation",
        ),
        (
            lambda: called(keras.layers.Dense(5, activation="relu", name="fc")),
            None,
            ValueError,
            "Layer 'fc' has groups or an activation",
        ),
        (
            lambda: called(with_sign("ste_heaviside")()),
            None,
            ValueError,
            "has the input quantizer .*SteHeaviside",
        ),
        (
            lambda: called(with_sign("ste_tern")()),
            None,
            ValueError,
            "has the input quantizer .*SteTern",
        ),
        (
            lambda: called(keras.layers.PReLU(name="act")),
            None,
            ValueError,
            r"Layer 'act' has slopes of shape \(6, 6, 4\), but moments",
        ),
        (
            lambda: called(keras.layers.Dense(5, name="fc"), (1, 3)),
            None,
            ValueError,
            r"shapes \[\(4,\), \(4,\)\], but the input of layer 'fc' has 3 channels",
        ),
    ],
)
def test_rejects(make, activation, error, message):
    with pytest.raises(error, match=message):
        propagate_moments(make(), (MEAN, VARIANCE), activation)


def test_rejects_layers_outside_the_network():
    layer = called(keras.layers.Dense(5, name="fc"))
    state = keras.Input(batch_shape=(4,)), keras.Input(batch_shape=(4,))
    with pytest.raises(
        ValueError, match="Layer 'fc' was not called on a tensor of the"
    ):
        propagate_moments(layer, state)


def test_rejects_a_first_call_on_arrays():
    from larq_nobn.layers._propagate_moments import MomentPropagation

    with pytest.raises(ValueError, match="Layer 'm' was called on arrays first"):
        MomentPropagation(name="m")([tf.zeros((1, 4)), tf.zeros(4), tf.ones(4)])


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("name", ["scaled_std_sign", "recu", "reste", None])
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
    mean, variance, *found = (np.float64(each) for each in model(images))
    for ours, expected in zip(
        found, (mean @ kernel, variance @ kernel**2), strict=True
    ):
        assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["ste_sign", "scaled_std_sign"])
def test_metrics_of_a_kernel_are_those_without_moments(name):
    found = []
    for carried in (True, False):
        features = keras.Input((4,))
        with lq.context.metrics_scope(["flip_ratio"]):
            layer = lq.layers.QuantDense(5, kernel_quantizer=name)
        x, state = BatchKalmanNormalization()(features)
        x = layer(x)
        moments = propagate_moments(layer, state) if carried else []
        model = keras.Model(features, [x, *moments])
        for sign in (1, 1, -1, 1):
            kernel = np.sign(np.sin(1 + np.arange(20.0))).reshape(4, 5)
            layer.kernel.latent_variable.assign(sign * kernel)
            model(np.ones((2, 4), np.float32))
        found.append(float(layer.kernel_quantizer.flip_ratio.result()))
    # Of three steps after the first, the kernel is turned over in two.
    assert_allclose(found, 2 / 3, rtol=1e-6)
