import larq_nobn as nobn
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import binary_conv
from larq_nobn._keras import keras
from larq_nobn.layers import LeakyIntegrateAndFire
from numpy.testing import assert_allclose, assert_array_equal
from rows.spiking import leaky_integrate_and_fire


def spikes_of(current, steps, **kwargs):
    currents = tf.fill((1, steps, 1), tf.constant(current, tf.float64))
    layer = LeakyIntegrateAndFire(**kwargs, dtype="float64")
    return np.ravel(layer(currents))


def test_published_spikes():
    assert_array_equal(spikes_of(0.4, 8), [0, 0, 1, 0, 0, 1, 0, 0])


def test_if_neuron_counts_its_current():
    currents = np.array([-0.5, 0.0, 0.125, 0.25, 0.75, 1.0, 2.0])
    steps = np.broadcast_to(2.0 * currents, (1, 40, 7))
    rate = np.mean(LeakyIntegrateAndFire(decay=1.0, threshold=2.0)(steps), 1)[0]
    assert_allclose(rate, np.clip(currents, 0, 1), atol=1 / 40)


# The contract has a known time, a soft reset and no signs.
def test_gradients_through_an_unknown_time():
    rng = np.random.default_rng(50)
    x, upstream = rng.normal(0.3, 1, (3, 7, 2, 4)), rng.normal(size=(3, 7, 2, 4))
    options = {"decay": 0.8, "threshold": 0.7, "signed": True}
    layer = LeakyIntegrateAndFire(reset="hard", **options, dtype="float64")
    layer.build(x.shape)

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 4), x.dtype)])
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        return y, tape.gradient(y, x, upstream)

    value, d_x = run(x)
    expected = leaky_integrate_and_fire(x, {}, upstream, hard=True, **options)
    assert_allclose(d_x, expected["x"], rtol=1e-12, atol=1e-12)
    assert_array_equal(value, layer(x))
    assert set(np.unique(value)) == {-1, 1}


@pytest.mark.parametrize("steps", [9, None])
@pytest.mark.parametrize("signed", [False, True])
def test_steps_that_are_masked_are_as_if_they_were_not_there(steps, signed):
    rng = np.random.default_rng(51)
    x, mask = rng.normal(0.3, 1, (3, 9, 4)), rng.random((3, 9)) < 0.6
    x[~mask] = 0  # what `Masking` masks
    start = keras.Input((steps, 4))
    spikes = LeakyIntegrateAndFire(0.8, signed=signed)
    # A bias: what is masked has a current, too.
    dense = keras.layers.Dense(4, bias_initializer="ones")
    made = spikes(dense(keras.layers.Masking()(start)))
    actual = keras.Model(start, made)(x)
    currents = keras.Model(start, dense.output)(x).numpy()
    for row, here, fired in zip(currents, mask, actual.numpy(), strict=True):
        assert_array_equal(fired[here], spikes(row[None, here])[0])
        assert_array_equal(fired[~here], -1.0 if signed else 0.0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_keeps_the_membrane_in_float32(dtype):
    # In half precision 64 + 1/64 would stay 64.
    x = np.full((1, 65, 1), 1 / 64)
    x[0, 0] = 64
    layer = LeakyIntegrateAndFire(1.0, threshold=64.5, dtype=f"mixed_{dtype}")
    spikes = tf.cast(layer(tf.cast(x, dtype)), tf.float32)
    assert_array_equal(np.ravel(spikes), np.arange(65) == 32)


@pytest.mark.convert
def test_signed_spikes_feed_a_binary_convolution(tmp_path):
    keras.utils.set_random_seed(53)
    image = keras.Input((4, 2, 2, 8))
    x = LeakyIntegrateAndFire(signed=True, name="spikes")(image)
    x = keras.layers.Reshape((8, 2, 8))(x)
    x = binary_conv(8, padding="valid", size=(2, 2), strides=2, name="conv")(x)
    model = keras.Model(image, keras.layers.Reshape((4, 8))(x))
    report = nobn.convert(model, tmp_path / "spiking.tflite")
    assert report.lce_bconv2d == report.binary_layers == 1
    assert report.verify["unexplained"] == 0
    counts = {row["op"]: row["count"] for row in report.float_ops}
    # 2s - 1 is none of the file, beside 3 MUL and 3 SUB of the membrane.
    assert (counts["MUL"], counts["SUB"]) == (3, 3)
