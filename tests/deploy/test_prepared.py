"""The function of a file as a Keras model, ties included."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import Subclassed, binary_conv, chain, head, images, scrambled
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


@pytest.mark.parametrize("pad", [None, 1.0])
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
    weights = made.trainable_weights
    assert all(x is not None for x in tape.gradient(loss, weights))


def scaled(x, gain=(0.3, 2), **options):
    """Sums of signs and of zeros around these, times one number per channel."""
    norm = keras.layers.BatchNormalization(center=False)
    y = norm(binary_conv(8, **{"pad_values": 0.0, **options})(x))
    norm.gamma.assign(np.random.default_rng(0).uniform(*gain, 8))
    return y


def add(*parts):
    return keras.layers.Add()([*parts])


half = keras.layers.MaxPooling2D(2, padding="same")
BESIDE_ZEROS = {
    "alone": scaled,
    "shortcut": lambda x: add(scaled(x), x),
    "stride": lambda x: add(scaled(x, strides=2), half(x)),
    "groups": lambda x: add(scaled(x, groups=2), x),
    "dilation": lambda x: keras.layers.Concatenate()([scaled(x, dilation_rate=2), x]),
    "negative": lambda x: add(scaled(x, (-2, -0.3)), x),
}


def test_sums_that_are_0_beside_zeros_are_0_in_a_file(tmp_path):
    keras.utils.set_random_seed(0)
    inputs, ends = keras.Input((6, 5, 4)), []
    for kind in BESIDE_ZEROS.values():
        x = kind(scaled(keras.layers.Conv2D(8, 3, padding="same")(inputs)))
        ends += [scaled(x), x]
    model, x = keras.Model(inputs, ends), images(8, (6, 5, 4))
    # Kernels of ±1 sum up exactly in Keras, too.
    expected = model(x)
    assert all(np.mean(y == 0) > 1e-3 for y in expected[1::2])
    convert(model, tmp_path / "m.tflite", data=x)
    for made in (Runner(tmp_path / "m.tflite")(x), prepared(model)(x)):
        for place, (actual, wanted) in enumerate(zip(made, expected, strict=True)):
            name = [*BESIDE_ZEROS][place // 2]
            assert_allclose(actual, wanted, rtol=1e-4, atol=1e-4, err_msg=name)


TWICE = {
    "conv": lambda name: keras.layers.Conv2D(4, 3, name=name),
    "dense": lambda name: keras.layers.Dense(4, name=name),
    "depthwise": lambda name: keras.layers.DepthwiseConv2D(3, name=name),
    "slopes": lambda name: keras.layers.PReLU(shared_axes=[1, 2], name=name),
    "norm": lambda name: keras.layers.BatchNormalization(name=name),
}


def test_equal_layers_have_weights_of_their_own():
    inputs, ends = keras.Input((4, 4, 8)), []
    pairs = [(make(f"{n}_first"), make(f"{n}_second")) for n, make in TWICE.items()]
    ends = [add(first(inputs), 2 * second(inputs)) for first, second in pairs]
    model = scrambled(keras.Model(inputs, ends))
    for first, second in pairs:
        second.set_weights(first.get_weights())
    made, x = prepared(model, allow_float=True), images(2, (4, 4, 8))
    with tf.GradientTape() as tape:
        outputs = made(x)
        loss = tf.add_n([tf.reduce_sum(y) for y in outputs])
    for actual, wanted in zip(outputs, model(x), strict=True):
        assert_allclose(actual, wanted, rtol=1e-4, atol=1e-4)
    grads = tape.gradient(loss, made.trainable_weights)
    named = {
        w.name: g.numpy() for w, g in zip(made.trainable_weights, grads, strict=True)
    }
    own = {name for name in named if "first/" in name}
    assert {name.split("_first")[0] for name in own} == {*TWICE}
    assert len(named) == 2 * len(own)
    for name in own:
        other = named[name.replace("first", "second")]
        assert_allclose(other, 2 * named[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_numbers_that_processors_make_0_are_no_reason_to_refuse():
    """Below -87, parts of these functions are too small for float32."""
    keras.utils.set_random_seed(0)
    inputs, stem = keras.Input((6, 6, 4)), keras.layers.Conv2D(8, 1, name="stem")
    x, ends = stem(inputs), []
    for function in ("swish", "selu", "gelu", "sigmoid"):
        y = keras.layers.Activation(function)(x)
        y = keras.layers.BatchNormalization(center=False)(y)
        ends.append(binary_conv(8)(y))
    model = keras.Model(inputs, ends)
    stem.bias.assign(np.linspace(-110, -80, 8))
    made = prepared(model)(images(4, (6, 6, 4)))
    assert [y.shape for y in made] == 4 * [(4, 6, 6, 8)]
