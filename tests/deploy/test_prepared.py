"""The function of a file as a Keras model, ties included."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import Subclassed, binary_conv, chain, head, images
from larq_nobn._keras import keras
from larq_nobn.deploy import (
    ConversionError,
    Runner,
    binary_layers,
    convert,
    packed_kernels,
    prepared,
)
from numpy.testing import assert_allclose, assert_array_equal

pytestmark = pytest.mark.convert
SCALED = {"kernel_quantizer": "magnitude_aware_sign"}


def in_a_row(**options):
    return [binary_conv(8, name=n, **SCALED, **options) for n in ("a", "b", "c")]


def joined():
    """Two scaled maps of 0 and more, whose sum is 0 as often as not."""
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(8, 3)(inputs)
    first, second = (binary_conv(8, name=n, **SCALED)(x) for n in "ab")
    pooled = keras.layers.MaxPooling2D(2)(first)
    other = keras.layers.MaxPooling2D(2)(second)
    x = keras.layers.Concatenate()([pooled, other])
    return keras.Model(inputs, binary_conv(8, name="c")(x))


def signed():
    """Scaled convolutions in a row, padded with zeros, and a sign as a layer."""
    shifted = binary_conv(8, input_quantizer="rsign", **SCALED)
    rows = in_a_row(pad_values=0.0)[1:]
    return chain(shifted, *rows, lq.quantizers.SwishSign(), keras.layers.Flatten())


@pytest.mark.parametrize("build", [joined, signed])
def test_it_computes_what_the_file_computes(build, tmp_path):
    model, x = build(), images(8)
    report = convert(model, tmp_path / "m.tflite", data=x)
    actual = prepared(model)(x).numpy()
    file = Runner((tmp_path / "m.tflite").read_bytes())(x)
    assert_allclose(actual, file, rtol=1e-5, atol=1e-5 * np.abs(file).max())
    # Unlike the given model, which has noise in place of 0.
    assert report.verify["prepared"]["exact_share"] < 1
    assert report.verify["exact_share"] == 1


def test_its_float_layers_train_and_its_kernels_stay(tmp_path):
    model = prepared(chain(*in_a_row(), *head(), name="mine"))
    assert model.name == "mine"
    before = {weight.name: weight.numpy() for weight in model.weights}
    model.compile("sgd", "mse", run_eagerly=True)
    model.fit(images(8), np.ones((8, 5)), verbose=0)
    kernels = [w for w in model.weights if w.name in ("a/kernel:0", "b/kernel:0")]
    assert len(kernels) == 2
    for kernel in kernels:
        assert_array_equal(np.abs(kernel), 1)
        assert_array_equal(kernel, before[kernel.name])
    model.save_weights(tmp_path / "weights.h5")
    moved = [w for w in model.weights if np.any(w.numpy() != before[w.name])]
    assert {"head/kernel:0", "head/bias:0"} <= {weight.name for weight in moved}


def test_the_options_of_convert():
    model = chain(binary_conv(name="a"), *head(), shape=(None, None, 3))
    actual = prepared(model, input_shape=(8, 8, 3))
    assert actual.input_shape == (None, 8, 8, 3)
    ternary = chain(binary_conv(name="a", kernel_quantizer="ste_tern"), *head())
    x = images(4)
    assert_allclose(prepared(ternary, allow_float=True)(x), ternary(x), rtol=1e-4)
    with pytest.raises(ConversionError, match="allow_float=True"):
        prepared(ternary)


def test_subclassed_models_are_prepared_too():
    model = Subclassed(binary_conv(4, name="conv"))
    expected = model(images(2))
    assert_allclose(prepared(model)(images(2)), expected, rtol=0, atol=1e-4)
    assert [kernel.name for kernel in packed_kernels(model)] == ["conv"]
    assert binary_layers(model) == ["conv"]


@pytest.mark.parametrize("pad", [None, 0.0, 1.0])
def test_inputs_of_zero_and_one_stay_what_they_are(pad):
    keras.utils.set_random_seed(0)
    same = {"padding": "valid"} if pad is None else {"pad_values": pad}
    conv = binary_conv(8, input_quantizer="ste_heaviside", **same)
    model = chain(conv, *head(), scramble=False)
    made, x = prepared(model, verify=False), images(4)
    assert_allclose(made(x), model(x), rtol=1e-4, atol=1e-5)
    # The gradient is that of the quantizer, too.
    stems = [made.weights[0], model.layers[1].kernel]
    grads = []
    for network, kernel in zip((made, model), stems, strict=True):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(network(x) ** 2)
        grads.append(tape.gradient(loss, kernel).numpy())
    assert_allclose(*grads, rtol=1e-3, atol=1e-4 * np.abs(grads[1]).max())


def test_each_number_of_a_layer_is_a_weight_of_its_own():
    inputs = keras.Input((8, 8, 4))
    shared = keras.layers.Dense(4, name="shared")
    x = nobn.layers.RPReLU(name="act")(binary_conv(4, name="conv")(inputs))
    x = keras.layers.PReLU(shared_axes=[1, 2], name="slopes")(x)
    x = shared(shared(keras.layers.GlobalAveragePooling2D()(x)))
    model = keras.Model(inputs, keras.layers.Dense(1, name="one")(x))
    for weight in model.weights:
        noise = np.random.default_rng(0).normal(size=weight.shape)
        weight.assign(np.full(weight.shape, 0.5) if "shift" in weight.name else noise)
    made = prepared(model)
    count = [w.name.partition("/")[0] for w in made.trainable_weights].count
    # Two shifts, and the slope; a kernel and a bias each, of two calls once.
    assert [count(x) for x in ("act", "slopes", "shared", "one")] == [3, 1, 2, 2]
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(made(images(2, (8, 8, 4))))
    weights = [w for w in made.trainable_weights if not w.name.startswith("conv/")]
    assert all(x is not None for x in tape.gradient(loss, weights))
