"""Binary convolutions padded with ones in place of zeros."""

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn import pad_with_ones
from deploy.nets import binary_conv, chain, images
from larq_nobn._keras import keras
from numpy.testing import assert_allclose, assert_array_equal

SHAPE = (6, 5, 8)


def zero_padded(**changes):
    return binary_conv(8, pad_values=0.0, **changes)


def alone(layer, shape=SHAPE):
    return chain(layer, stem=False, shape=shape)


def test_other_layers_are_left_alone():
    rows = [
        binary_conv(),
        zero_padded(size=1),
        zero_padded(size=1, strides=2),
        zero_padded(padding="valid"),
        zero_padded(input_quantizer=None),
    ]
    inputs, x = keras.Input(SHAPE), images(4, SHAPE)
    model = keras.Model(inputs, [layer(inputs) for layer in rows])
    for actual, wanted in zip(pad_with_ones(model)(x), model(x), strict=True):
        assert_array_equal(actual, wanted)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"strides": 2},
        {"dilation_rate": 2},
        {"kernel_quantizer": "magnitude_aware_sign", "use_bias": True},
        {"input_quantizer": "rsign"},
    ],
    ids=str,
)
def test_the_border_is_that_of_a_map_of_plus_ones(changes):
    conv = zero_padded(name="conv", **changes)
    model = alone(conv)
    padded, x = pad_with_ones(model), images(4, SHAPE)
    assert padded.get_layer("conv").pad_values == 1
    signs = np.asarray(conv.input_quantizer(x))
    with lq.context.quantized_scope(True):
        kernel = conv.kernel.numpy()
    pairs = zip(conv.kernel_size, conv.dilation_rate, strict=True)
    reach = [(k - 1) * d for k, d in pairs]
    sizes = [-(-size // conv.strides[0]) for size in SHAPE[:2]]
    total = [
        max((out - 1) * conv.strides[0] + r + 1 - size, 0)
        for out, r, size in zip(sizes, reach, SHAPE[:2], strict=True)
    ]
    width = [(0, 0), *((t // 2, t - t // 2) for t in total), (0, 0)]
    whole = np.pad(signs, width, constant_values=1.0)
    expected = tf.nn.conv2d(
        whole, kernel, conv.strides, "VALID", dilations=conv.dilation_rate
    )
    expected += conv.bias if conv.use_bias else 0
    assert_allclose(padded(x), expected, atol=1e-4)


def test_the_given_model_and_its_structure_stay():
    """Names, inputs, outputs, precision, and the model inside."""
    inputs = {"a": keras.Input(SHAPE), "b": keras.Input(SHAPE)}
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        inner = alone(zero_padded(name="first"))
    finally:
        keras.mixed_precision.set_global_policy("float32")
    x = zero_padded(name="second")(inner(inputs["a"]))
    model = keras.Model(inputs, {"sum": x + inputs["b"]})
    weights, x = model.get_weights(), {name: images(2, SHAPE) for name in inputs}
    before = model(x)["sum"]
    padded = pad_with_ones(model)
    for name in ("first", "second"):
        assert padded.get_layer(name).pad_values == 1
    assert padded.get_layer("first").compute_dtype == "bfloat16"
    assert set(padded(x)) == {"sum"}
    assert_array_equal(model(x)["sum"], before)
    for old, new in zip(weights, padded.get_weights(), strict=True):
        assert_array_equal(old, new)
