import larq_nobn as nobn
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import binary_conv
from gradients import value_and_gradients
from larq_nobn._keras import keras
from larq_nobn.layers import SkipInit
from numpy.testing import assert_allclose, assert_array_equal


def block(x, name, gain):
    branch = binary_conv(name=name)(x)
    layer = SkipInit(keras.initializers.Constant(gain), name=f"{name}_skip")
    return keras.layers.add([layer(branch), x])


def test_starts_at_zero_and_multiplies():
    x = np.random.default_rng(39).normal(size=(2, 3, 3, 4)).astype(np.float32)
    layer = SkipInit()
    assert_array_equal(layer(x), 0 * x)
    assert layer.gain.shape == ()
    layer.gain.assign(-1.5)
    assert_array_equal(layer(x), np.float32(-1.5) * x)


def test_gradients():
    rng = np.random.default_rng(40)
    x, upstream = rng.normal(size=(2, 3, 3, 4)), rng.normal(size=(2, 3, 3, 4))
    layer = SkipInit(keras.initializers.Constant(0.3), dtype="float64")
    value, d_x, d_weights = value_and_gradients(layer, x, upstream)
    assert_allclose(value, 0.3 * x)
    assert_allclose(d_x, 0.3 * upstream)
    assert_allclose(d_weights["gain"], np.sum(x * upstream))


def test_a_block_starts_as_its_shortcut_and_learns():
    keras.utils.set_random_seed(41)
    image = keras.Input((8, 8, 32))
    model = keras.Model(image, block(image, "conv", gain=0.0))
    x = np.random.default_rng(42).normal(size=(2, 8, 8, 32)).astype(np.float32)
    assert_array_equal(model(x), x)
    model.compile("sgd", "mse")
    kernel = model.get_layer("conv").kernel.latent_variable
    start = kernel.numpy()
    model.train_on_batch(x, np.zeros_like(x))
    assert_array_equal(kernel, start)  # after a zero gain
    assert float(model.get_layer("conv_skip").gain) != 0
    model.train_on_batch(x, np.zeros_like(x))
    assert not np.array_equal(kernel, start)


def test_float16_sums_in_float32():
    x = tf.fill((64, 8, 8, 4), tf.constant(2, tf.float16))
    layer = SkipInit(keras.initializers.Constant(1e-3))
    _, _, d_weights = value_and_gradients(layer, x, np.ones(x.shape))
    assert_allclose(d_weights["gain"], 2 * 64 * 8 * 8 * 4)  # 65,504 is float16's most


@pytest.mark.convert
def test_converts_without_an_operation(tmp_path):
    keras.utils.set_random_seed(43)
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(32, 3, padding="same", name="stem")(image)
    for name, gain in {"none": 0.0, "positive": 0.7, "negative": -0.3}.items():
        x = block(x, name, gain)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(image, keras.layers.Dense(5, name="head")(x))
    report = nobn.convert(model, tmp_path / "model.tflite", verify=True)
    assert report.lce_bconv2d == report.binary_layers == 3
    found = {each["op"]: each["count"] for each in report.to_dict()["float_ops"]}
    assert found == {"CONV_2D": 1, "ADD": 3, "MEAN": 1, "FULLY_CONNECTED": 1}
    assert report.verify["unexplained"] == 0


@pytest.mark.parametrize("given", ["zeroes", 3])
def test_rejects(given):
    message = f"gain_initializer={given!r} is not an initializer. Pass a"
    with pytest.raises(ValueError, match=message):
        SkipInit(given)
