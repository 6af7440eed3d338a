import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from gradients import finite_differences, value_and_gradients
from larq_nobn._keras import keras
from larq_nobn.quantizers import SignSwish
from numpy.testing import assert_allclose, assert_array_equal


def swish(x, beta):
    """SignSwish itself; x may be complex, and so gives its own derivative."""
    gate = 1 / (1 + np.exp(-beta * x))
    return 2 * gate * (1 + beta * x * (1 - gate)) - 1


def slope_at(x, beta, dtype="float64"):
    x = tf.constant(x, dtype)
    _, d_x, _ = value_and_gradients(SignSwish(beta, dtype=dtype), x, np.ones(x.shape))
    return d_x


@pytest.mark.parametrize(
    "beta, x, expected",
    [
        (5, 0.0, 5),
        (5, 0.1, 4.4122902698),
        (5, 0.3, 1.5619758496),
        (5, 0.5, -0.0846215652),
        (5, 1.0, -0.1949922549),
        (1, 1.0, 0.6047322376),
        (10, 0.1, 6.0473222),
    ],
)
def test_published_numbers(beta, x, expected):
    assert_allclose(slope_at([x, -x], beta), expected, rtol=1e-7)


def test_published_number_of_beta():
    layer = SignSwish(trainable_beta=True, dtype="float64")
    x = tf.constant([[0.3]], tf.float64)
    _, _, d_weights = value_and_gradients(layer, x, np.ones((1, 1)))
    assert_allclose(d_weights["beta"], 0.0937185510, rtol=1e-7)


def test_slope_is_the_derivative_of_sign_swish_in_both():
    x = np.linspace(-2, 2, 41)
    for beta in (1.0, 5.0, 20.0):
        complex_step = swish(x + 1e-30j, beta).imag / 1e-30
        assert_allclose(slope_at(x, beta), complex_step, atol=1e-12)
    layer = SignSwish(5.0, trainable_beta=True, dtype="float64")
    # The sum over ±x cancels, unless the two count differently.
    upstream = np.where(x > 0, 1.0, 0.25)
    _, _, d_weights = value_and_gradients(layer, x[None], upstream[None])
    expected = finite_differences(
        lambda beta: np.sum(upstream * swish(x, beta)), np.array(5.0)
    )
    assert_allclose(d_weights["beta"], expected, rtol=1e-7)


def test_agrees_with_larq():
    x = np.random.default_rng(30).normal(size=(64, 8)).astype(np.float32)
    for beta in (1.0, 5.0):
        ours, larqs = (
            value_and_gradients(make(beta), x, np.ones_like(x))
            for make in (SignSwish, lq.quantizers.SwishSign)
        )
        assert_array_equal(ours[0], larqs[0])
        assert_allclose(ours[1], larqs[1], atol=1e-5)


def test_shape_of_the_slope():
    x = np.linspace(-3, 3, 60001)
    slope = slope_at(x, 1.0)
    assert x[slope.argmin()] in (3.0, -3.0)  # the dip lies further out
    x = np.linspace(2, 5, 30001)
    slope = slope_at(x, 1.0)
    assert_allclose(x[slope.argmin()], 3.436, atol=1e-3)
    assert_allclose(slope.min(), -0.0738, atol=1e-4)
    assert_allclose(np.interp(0, -slope[:10000], x[:10000]), 2.39936, atol=1e-4)


def test_value_is_a_sign():
    x = tf.constant([[0.0, -0.0, 1e-30, -1e-30, 7.0]])
    assert_array_equal(SignSwish()(x), [[1, 1, 1, -1, 1]])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_far_inputs_have_finite_gradients(dtype):
    largest = float(tf.as_dtype(dtype).max)
    x = np.array([0.0, 1e-4, 17.0, 500.0, 1e4, 6e4, largest])
    x = tf.constant([[*x, *-x]], dtype)
    layer = SignSwish(20.0, trainable_beta=True, dtype=dtype)
    value, d_x, d_weights = value_and_gradients(layer, x, np.ones(x.shape))
    assert_array_equal(np.abs(value), 1)
    assert_allclose(d_x[0, [0, 7]], 20)
    assert_allclose(d_x[0, [2, 3, 4, 5, 6, 9, 10, 11, 12, 13]], 0, atol=1e-100)
    assert np.isfinite(d_weights["beta"])


def test_half_precision_is_computed_in_float32():
    x = tf.cast(np.linspace(-1, 1, 201)[None], tf.float16)
    layer = SignSwish(trainable_beta=True)
    _, d_x, d_weights = value_and_gradients(layer, x, np.ones(x.shape))
    wide = np.asarray(x, np.float64)
    exact = swish(wide + 1e-30j, 5.0).imag / 1e-30
    assert_allclose(d_x, exact, rtol=2e-3, atol=1e-6)
    assert layer.beta.dtype == tf.float32
    assert d_weights["beta"].shape == ()


@pytest.mark.parametrize("optimizer", ["SGD", "legacy.SGD"])
@pytest.mark.parametrize("upstream, kept", [(-100.0, 20.0), (100.0, 1.0)])
def test_a_learned_beta_stays_inside_its_bounds(optimizer, upstream, kept):
    layer = SignSwish(trainable_beta=True)
    x = tf.constant([[0.2]])
    with tf.GradientTape() as tape:
        loss = upstream * tf.reduce_sum(layer(x))
    gradients = tape.gradient(loss, layer.trainable_weights)
    new = {"SGD": keras.optimizers.SGD, "legacy.SGD": keras.optimizers.legacy.SGD}
    pairs = zip(gradients, layer.trainable_weights, strict=True)
    new[optimizer](100.0).apply_gradients(pairs)
    assert float(layer.beta) == kept


def test_beta_is_the_argument_until_it_is_a_variable():
    fixed, learned = SignSwish(7.0), SignSwish(7.0, trainable_beta=True)
    for layer in (fixed, learned):
        assert layer.beta == 7.0
        layer(tf.ones((1, 4)))
        assert layer.get_config()["beta"] == 7.0
    assert fixed.beta == 7.0 and fixed.weights == []
    learned.beta.assign(9.0)
    assert learned.get_config()["beta"] == 7.0
    assert [w.name for w in learned.trainable_weights] == [learned.beta.name]


def test_a_kernel_quantizer_with_a_learned_beta_trains():
    keras.utils.set_random_seed(31)
    layer = lq.layers.QuantDense(
        3,
        kernel_quantizer=SignSwish(trainable_beta=True),
        kernel_constraint="weight_clip",
    )
    model = keras.Sequential([keras.Input((5,)), layer])
    model.compile("sgd", "mse")
    start = [w.numpy() for w in model.trainable_weights]
    model.train_on_batch(np.eye(5), np.ones((5, 3)))
    assert len(start) == 3  # kernel, bias, beta
    for weight, before in zip(model.trainable_weights, start, strict=True):
        assert not np.array_equal(weight, before), weight.name


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"beta": 0.0}, ValueError, r"beta=0.0 is outside \(0, inf\). Start with 5"),
        ({"beta": "5"}, TypeError, "beta='5' is not a number"),
        ({"trainable_beta": 1}, TypeError, "trainable_beta=1 is neither True nor"),
        (
            {"beta": 0.5, "trainable_beta": True},
            ValueError,
            r"beta=0.5 is outside \[1, 20\]",
        ),
    ],
)
def test_rejects(arguments, error, message):
    with pytest.raises(error, match=message):
        SignSwish(**arguments)


def test_rejects_a_second_owner():
    shared = SignSwish(trainable_beta=True)
    shared(tf.ones((1, 4)))
    shared(tf.ones((3, 4)))  # another batch of the same layer
    with pytest.raises(ValueError, match=r"\(2, 4\) and of \(2, 8\), but it owns"):
        shared(tf.ones((1, 8)))
    fixed = SignSwish()
    fixed(tf.ones((1, 4)))
    assert fixed(tf.ones((1, 8))).shape == (1, 8)  # nothing to own
