"""The function of a file as a Keras model, ties included."""

import larq as lq
import numpy as np
import pytest
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
