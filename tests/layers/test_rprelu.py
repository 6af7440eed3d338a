import larq_nobn as nobn
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import binary_conv, chain, head
from gradients import finite_differences, value_and_gradients
from larq_nobn._keras import keras
from larq_nobn.layers import RPReLU
from numpy.testing import assert_allclose, assert_array_equal


def oracle(x, shift_in, slope, shift_out):
    z = x + shift_in
    return np.where(z > 0, z, slope * z) + shift_out


@pytest.mark.parametrize("shape", [(3, 4, 5, 3), (6, 3), (2, 4, 3)])
def test_value_and_gradients(shape):
    rng = np.random.default_rng(14)
    x, upstream = rng.normal(size=shape), rng.normal(size=shape)
    weights = {
        "shift_in": rng.normal(size=3),
        "slope": rng.normal(size=3),
        "shift_out": rng.normal(size=3),
    }
    layer = RPReLU(dtype="float64")
    layer.build(shape)
    for name, array in weights.items():
        getattr(layer, name).assign(array)
    value, d_x, d_weights = value_and_gradients(layer, x, upstream)

    def loss(x, **changed):
        return np.sum(upstream * oracle(x, **{**weights, **changed}))

    assert_allclose(value, oracle(x, **weights), rtol=1e-12)
    assert_allclose(d_x, finite_differences(loss, x), atol=1e-7)
    for name in weights:
        expected = finite_differences(
            lambda w, name=name: loss(x, **{name: w}), weights[name]
        )
        assert_allclose(d_weights[name], expected, atol=1e-7)


def test_starts_as_a_leaky_relu_of_slope_a_quarter():
    assert_allclose(RPReLU()(tf.constant([[-2.0, 2.0]])), [[-0.5, 2.0]])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(dtype):
    rng = np.random.default_rng(15)
    x = tf.cast(rng.normal(size=(64, 8, 8, 4)), dtype)
    upstream = tf.cast(rng.normal(size=x.shape), dtype)
    value, d_x, d_weights = value_and_gradients(RPReLU(), x, upstream)
    wide, g = np.asarray(x, np.float64), np.asarray(upstream, np.float64)
    assert_allclose(value, oracle(wide, 0, 0.25, 0), rtol=1e-2)
    assert_allclose(d_x, np.where(wide > 0, g, 0.25 * g), rtol=1e-2)
    assert_allclose(d_weights["shift_out"], g.sum((0, 1, 2)), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_small_gradients_of_a_large_map_are_not_lost(dtype):
    """Added up in their own precision, ones would end at 2,048 or at 256."""
    x = tf.ones((128, 32, 32, 4), dtype)
    _, _, d_weights = value_and_gradients(RPReLU(), x, np.ones(x.shape))
    assert_array_equal(d_weights["shift_in"], 4 * [2**17])
    assert_array_equal(d_weights["shift_out"], 4 * [2**17])


def test_rejects_unknown_channels():
    with pytest.raises(ValueError, match=r"RPReLU got an input of shape \(3, None\)"):
        RPReLU().build((3, None))


def built(logarithms, **kwargs):
    layer = RPReLU(power_of_two=True, **kwargs)
    layer.build((None, len(logarithms)))
    layer.log2_slope.assign(logarithms)
    return layer


def test_power_of_two_starts_at_an_eighth():
    layer = RPReLU(power_of_two=True)
    assert_array_equal(layer(tf.constant([[-2.0, 2.0]])), [[-0.25, 2.0]])
    names = [w.name.split(":")[0].split("/")[-1] for w in layer.weights]
    assert names == ["shift_in", "log2_slope", "shift_out"]


def test_power_of_two_is_exact_and_rounds_halves_to_even():
    whole = np.arange(-20.0, 8.0)
    exact = 2.0**whole
    assert_array_equal(built(whole).effective_slope(), exact)
    assert_array_equal(built(whole + 0.49).effective_slope(), exact)
    halves = built([-3.5, -2.5, -1.5, -0.5, 0.5, 1.5])
    assert_array_equal(halves.effective_slope(), [1 / 16, 0.25, 0.25, 1, 1, 4])


@pytest.mark.parametrize("shape", [(3, 4, 5, 3), (6, 3)])
def test_power_of_two_gradients(shape):
    rng = np.random.default_rng(45)
    x, upstream = rng.normal(size=shape), rng.normal(size=shape)
    logarithms, axes = np.array([-2.6, -1.2, 0.4]), tuple(range(len(shape) - 1))
    slope = np.array([0.125, 0.5, 1.0])
    shift_in, shift_out = rng.normal(size=(2, 3))
    layer = built(logarithms, dtype="float64")
    layer.shift_in.assign(shift_in)
    layer.shift_out.assign(shift_out)
    value, d_x, d_weights = value_and_gradients(layer, x, upstream)
    z = x + shift_in
    assert_allclose(value, oracle(x, shift_in, slope, shift_out), rtol=1e-12)
    assert_allclose(d_x, np.where(z > 0, 1, slope) * upstream, rtol=1e-12)
    d_slope = np.sum(upstream * np.minimum(z, 0), axes)
    assert_allclose(d_weights["log2_slope"], np.log(2) * slope * d_slope, rtol=1e-12)
    assert_allclose(d_weights["shift_in"], d_x.sum(axes), rtol=1e-10)
    assert_allclose(d_weights["shift_out"], upstream.sum(axes), rtol=1e-10)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
@pytest.mark.parametrize("name", ["model.keras", "model.h5", "saved_model"])
def test_power_of_two_is_saved(name, tmp_path):
    image = keras.Input((4, 4, 3))
    model = keras.Model(image, RPReLU(power_of_two=True)(image))
    model.layers[-1].log2_slope.assign([-1.0, -2.4, 0.0])
    model.save(tmp_path / name)
    again = keras.models.load_model(tmp_path / name)
    x = np.random.default_rng(46).normal(size=(2, 4, 4, 3)).astype(np.float32)
    assert_array_equal(again(x), model(x))
    assert again.layers[-1].power_of_two is True
    assert_array_equal(again.layers[-1].effective_slope(), [0.5, 0.25, 1])


@pytest.mark.convert
def test_power_of_two_converts_as_any_slope_does(tmp_path):
    keras.utils.set_random_seed(47)
    counts = []
    for flag in (False, True):
        activation = RPReLU(power_of_two=flag, name="act")
        model = chain(binary_conv(name="conv"), activation, *head())
        report = nobn.convert(model, tmp_path / "model.tflite")
        assert report.lce_bconv2d == 1
        assert report.verify["unexplained"] == 0
        counts.append({each["op"]: each["count"] for each in report.float_ops})
    assert counts[0] == counts[1]
    assert counts[0]["PRELU"] == 1


def test_rejects_a_flag_that_is_none():
    with pytest.raises(TypeError, match="power_of_two='yes' is neither True nor False"):
        RPReLU(power_of_two="yes")
