import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from gradients import finite_differences
from larq_nobn._keras import keras
from larq_nobn.layers import ActivationStandardization
from numpy.testing import assert_allclose, assert_array_equal


def oracle(x):
    deviation = [np.sqrt(example.var(ddof=1) + 1e-5) for example in x]
    return x / np.reshape(deviation, (-1, *(1,) * (x.ndim - 1)))


def value_and_gradient(x, upstream, **kwargs):
    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = ActivationStandardization(**kwargs)(x, training=True)
    return y.numpy(), tape.gradient(y, x, tf.cast(upstream, y.dtype)).numpy()


@pytest.mark.parametrize("shape", [(2, 3, 4, 3), (3, 5, 3), (4, 3)])
def test_value_and_gradient(shape):
    rng = np.random.default_rng(40)
    x, upstream = 3 + rng.normal(size=shape), rng.normal(size=shape)
    value, d_x = value_and_gradient(x, upstream, dtype="float64")
    assert_allclose(value, oracle(x), rtol=1e-12)
    slopes = finite_differences(lambda x: np.sum(upstream * oracle(x)), x)
    assert_allclose(d_x, slopes, atol=1e-7)


def test_worked_number():
    """1, 2, 3, 4 have the mean 2.5 and the unbiased variance 5/3."""
    x = np.reshape([1.0, 2.0, 3.0, 4.0], (1, 2, 2, 1))
    upstream = np.reshape([1.0, 0.0, 0.0, 0.0], x.shape)
    value, d_x = value_and_gradient(x, upstream, dtype="float64")
    rate = 1 / np.sqrt(5 / 3 + 1e-5)
    assert_allclose(value.ravel(), rate * np.array([1, 2, 3, 4]), rtol=1e-12)
    # Σ g x = 1, and three degrees of freedom.
    along = rate**2 / 3 * np.array([-1.5, -0.5, 0.5, 1.5])
    assert_allclose(d_x.ravel(), rate * ([1, 0, 0, 0] - along), rtol=1e-12)


def test_no_sign_changes():
    x = np.random.default_rng(41).normal(size=(4, 8, 8, 6)).astype(np.float32)
    x[0, 0, 0] = 0
    value, _ = value_and_gradient(x, x)
    assert_array_equal(lq.math.sign(value), lq.math.sign(x))


def test_changes_nothing_at_inference():
    x = np.random.default_rng(42).normal(size=(4, 8, 8, 6)).astype(np.float32)
    layer = ActivationStandardization()
    assert_array_equal(layer(x, training=False), x)
    assert_array_equal(layer(x), x)


def test_an_example_does_not_see_the_rest_of_its_batch():
    x = np.random.default_rng(43).normal(size=(5, 6, 6, 3)).astype(np.float32)
    other = np.concatenate([x[:1], 9 * x[1:] + 4])
    first, again = (value_and_gradient(batch, batch) for batch in (x, other))
    assert_array_equal(first[0][0], again[0][0])
    assert_array_equal(first[1][0], again[1][0])


def test_float16_does_not_overflow():
    x = np.reshape([-1e3, 1e3], (1, 2)).repeat(512, axis=1).astype(np.float16)
    value, d_x = value_and_gradient(x, np.ones_like(x), dtype="mixed_float16")
    assert value.dtype == np.float16
    # 1,024 elements of ±1000: the unbiased standard deviation is 1000 sqrt(1024 /
    # 1023).
    assert_allclose(np.abs(value), np.sqrt(1023 / 1024), rtol=1e-3)
    assert np.isfinite(d_x).all()


def test_rejects_examples_of_one_element():
    with pytest.raises(ValueError, match=r"shape \(8, 1, 1, 1\), but one element"):
        ActivationStandardization().build((8, 1, 1, 1))


@pytest.mark.convert
def test_leaves_no_trace_between_a_convolution_and_a_sign(tmp_path):
    keras.utils.set_random_seed(44)
    around = {
        "padding": "same",
        "pad_values": 1.0,
        "use_bias": False,
        "input_quantizer": "ste_sign",
        "kernel_quantizer": "recu",
    }
    image = keras.Input((6, 6, 32))
    y = lq.layers.QuantConv2D(32, 3, **around)(ActivationStandardization()(image))
    y = lq.layers.QuantConv2D(32, 3, **around)(ActivationStandardization()(y))
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(y))
    report = nobn.convert(model, tmp_path / "model.tflite")
    assert report.lce_bconv2d == 2
    assert [each["op"] for each in report.float_ops] == ["MEAN"]
    assert report.verify["unexplained"] == 0
