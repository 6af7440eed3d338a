"""Signs of what is exactly 0: +1 in the given model, the prepared one and the file."""

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import binary_conv, images
from larq_nobn._keras import keras
from larq_nobn.deploy.inspection._audit import audit_bytes
from larq_nobn.deploy.lite import Runner, inference, io_spec, to_flatbuffer
from larq_nobn.deploy.prepare._prepare import prepare
from larq_nobn.graph import calls, sign_in
from larq_nobn.quantizers import RSign
from numpy.testing import assert_allclose, assert_array_equal
from tie_networks import GAINS, MEANS, REAL, SHAPE, WHOLE, conv, network, norm, sign

layers = keras.layers


def rescaled(x):
    """Whole numbers times 0.7, rectified."""
    return norm(0.7, 0.0, 1e-3, "first")(layers.ReLU()(binary_conv(16)(x)))


# What tie_networks has, and what is a number of its own here.
CASES = {
    **{kind: (part, {}) for kind, part in WHOLE.items()},
    **{kind: (part, {"means": mean}) for kind, (mean, part) in REAL.items()},
    "without an epsilon": (WHOLE["rectified"], {"epsilon": 0.0}),
    "maximum without an epsilon": (WHOLE["maximum"], {"epsilon": 0.0}),
    "rescaled": (rescaled, {"means": MEANS * 0.7 / np.sqrt(1.001), "epsilon": 0.0}),
    "some gains are 0": (WHOLE["rectified"], {"gains": GAINS * (np.arange(16) % 5)}),
    "few channels": (lambda x: layers.ReLU()(binary_conv(16, 1)(x[..., :5])), {}),
}


@pytest.mark.convert
@pytest.mark.parametrize("kind", CASES)
def test_prepared_models_and_files_give_the_signs_of_the_given_model(kind):
    part, options = CASES[kind]
    model, before = network(part, **options)
    x = images(4, SHAPE)
    assert np.mean(before(x).numpy() == 0) > 0.01
    prepared = prepare(model)
    content = to_flatbuffer(inference(prepared), prepared.variables, io_spec(prepared))
    binary = [x for x in model.layers if getattr(x, "input_quantizer", None)]
    assert audit_bytes(content, "net").ops["LceBconv2d"] == len(binary)
    assert_array_equal(prepared(x), model(x))
    assert_array_equal(Runner(content)(x), model(x))


def mean(x):
    return layers.AveragePooling2D()(x)


# A sign, and what needs scale and bias of the map beside it.
BESIDE = {
    "a real kernel": lambda sign, x: (sign(x), layers.Conv2D(8, 1)(x)),
    "an average": lambda sign, x: (sign(mean(x)), layers.Conv2D(8, 1)(mean(x))),
}


@pytest.mark.parametrize("offset", [None, -0.5])
@pytest.mark.parametrize("kind", BESIDE)
def test_a_bias_that_stays_is_part_of_the_steps(kind, offset):
    """The signs are of whole numbers plus a bias that is none, of any size."""
    start, mean_of_channel = keras.Input(SHAPE), np.arange(16) + np.linspace(0, 1, 16)
    x = norm(0.25, mean_of_channel, 1e-3, "norm")(conv(1, activation="relu")(start))
    sign = conv(1) if offset is None else conv(1, input_quantizer=RSign(offset=offset))
    model, x = keras.Model(start, BESIDE[kind](sign, x)), images(8, SHAPE)
    for found, expected in zip(prepare(model)(x), model(x), strict=True):
        assert_allclose(found, expected, rtol=0, atol=1e-4)


# What reads a map as it is, beside signs of its values.
OTHERS = {
    "an output": lambda x: [conv(1)(x), x],
    "a sum": lambda x: [layers.Add()([conv(1)(x), x])],
    "a function": lambda x: [sign()(x), layers.Activation("tanh")(x)],
    "a pool": lambda x: [conv(1)(layers.MaxPooling2D()(x)), x],
    "groups": lambda x: [conv(1, groups=2)(x), x],
    "groups alone": lambda x: [conv(1, groups=2)(x)],
    "two signs": lambda x: [conv(1)(x), conv(1, input_quantizer="approx_sign")(x), x],
    "other channels": lambda x: [conv(1)(joined(x)), x],
}


def joined(x):
    return layers.Concatenate()([layers.Conv2D(3, 1)(x), x, layers.Conv2D(1, 1)(x)])


@pytest.mark.convert
@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("kind", ["zero padded", "average", "dense"])
def test_signs_beside_another_reader(kind, other):
    """It needs the bias: of sums that should be 0 that makes rounding."""
    model, before = network(WHOLE[kind], last=OTHERS[other])
    x = images(4, SHAPE)
    assert np.mean(before(x).numpy() == 0) > 0.01
    prepared = prepare(model)
    content = to_flatbuffer(inference(prepared), prepared.variables, io_spec(prepared))
    wanted = [y.numpy() for y in tf.nest.flatten(model(x))]
    for outputs in (tf.nest.flatten(prepared(x)), Runner(content).outputs([x])):
        for found, expected in zip(outputs, wanted, strict=True):
            assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.convert
@pytest.mark.parametrize("other", ["an output", "a function", "a pool", "groups"])
def test_signs_of_scaled_sums_beside_zeros_and_another_reader(other):
    """LCE takes a border of zeros from sums that have their scale, which rounds."""

    def net(kernel):
        keras.utils.set_random_seed(0)
        start = keras.Input(SHAPE)
        first = binary_conv(16, pad_values=0.0, kernel_quantizer=kernel, name="first")
        return keras.Model(start, OTHERS[other](first(start)))

    scaled, whole, x = net("magnitude_aware_sign"), net("ste_sign"), images(4, SHAPE)
    sums = keras.Model(whole.inputs, whole.get_layer("first").output)(x).numpy()
    assert np.mean(sums == 0) > 0.01
    prepared = prepare(scaled)
    content = to_flatbuffer(inference(prepared), prepared.variables, io_spec(prepared))
    assert_array_equal(prepared(x)[0], whole(x)[0])
    assert_array_equal(Runner(content).outputs([x])[0], whole(x)[0])


# What is made of a map and of a branch that reads it, before signs.
SUMMED = {
    "sum": lambda x, y: layers.Add()([y, x]),
    "operator": lambda x, y: x + y,
    "difference": lambda x, y: layers.Subtract()([x, y]),
    "largest": lambda x, y: layers.MaxPooling2D()(layers.Add()([y, x])),
    "two in a row": lambda x, y: layers.Add()([layers.Add()([x, y]), y]),
    "negative": lambda x, y: norm(GAINS, 0.0, 1e-3, "negative")(y - x),
}


@pytest.mark.convert
@pytest.mark.parametrize("kind", SUMMED)
def test_signs_of_sums_with_a_branch_beside_zeros(kind):
    """Where both are 0, so is the sum: not of what LCE takes borders of zeros from."""

    def branch(x, name):
        gain = np.linspace(0.3, 1.7, 16)
        return norm(gain, 0.0, 1e-3, name)(binary_conv(16, pad_values=0.0)(x))

    keras.utils.set_random_seed(0)
    start = keras.Input(SHAPE)
    x = branch(start, "first")
    total = SUMMED[kind](x, branch(x, "second"))
    model = keras.Model(start, [conv(1)(total), total])
    x = images(8, SHAPE)
    wanted, sums = (y.numpy() for y in model(x))
    assert np.mean(sums == 0) > 0.003
    prepared = prepare(model)
    content = to_flatbuffer(inference(prepared), prepared.variables, io_spec(prepared))
    for found in (prepared(x), Runner(content).outputs([x])):
        assert_array_equal(found[0], wanted)
        assert_allclose(found[1], sums, rtol=0, atol=1e-5 * np.abs(sums).max())


def test_what_is_close_to_a_sum_needs_no_shift():
    """Only of sums that are exactly 0 it matters what rounding makes of them."""
    for away, wanted in ((0.0, 1), (1e-3, 0)):
        model, _ = network(
            WHOLE["convolution"], means=MEANS + away, last=OTHERS["an output"]
        )
        signs = map(sign_in, calls(prepare(model)))
        shifts = [s for s in signs if getattr(s, "shift", None) is not None]
        assert len(shifts) == wanted


@pytest.mark.parametrize("rows", [6, 16])
def test_a_batch_norm_over_rows_is_not_one_over_channels(rows):
    """Its gains are not steps of channels, as many as there may be of both."""
    keras.utils.set_random_seed(0)
    start = keras.Input((rows, 5, 16))
    gains = np.linspace(0.5, 2.0, rows).astype(np.float32)
    over_rows = layers.BatchNormalization(axis=1, epsilon=0.0, center=False)
    x = norm(0.7, 1.05 * np.resize(gains, 16), 0.0, "norm")(over_rows(sign()(start)))
    model = keras.Model(start, conv(1)(x))
    over_rows.set_weights([gains, np.zeros(rows), np.ones(rows)])
    x = images(4, (rows, 5, 16))
    assert_array_equal(prepare(model)(x), model(x))


def bordered(quantizer, kernel, pad, gain):
    """A map that is padded with what LCE does not pad with, and read by a sign."""
    start = keras.Input((6, 6, 4))
    first = lq.layers.QuantConv2D(
        16, 3, padding="same", pad_values=pad, use_bias=False, name="first",
        input_quantizer=quantizer, kernel_quantizer=kernel,
    )  # fmt: skip
    x = first(start)
    if gain is not None:
        x = norm(gain, 0.0, 1e-3, "norm")(x)
    x = layers.GlobalAveragePooling2D()(binary_conv(8)(x))
    return keras.Model(start, x)


@pytest.mark.convert
@pytest.mark.parametrize("gain", [None, 0.7, -0.7])
@pytest.mark.parametrize("kernel", ["magnitude_aware_sign", "scaled_std_sign"])
@pytest.mark.parametrize(
    "quantizer, pad", [("ste_heaviside", 1.0), ("ste_sign", -1.0), ("ste_sign", 0.5)]
)
def test_sums_beside_a_border_have_no_scale_before_a_sign(quantizer, kernel, pad, gain):
    given, x = bordered(quantizer, kernel, pad, gain), images(4, (6, 6, 4))
    # In steps of the scale, Keras' own sums are noise where they should be 0.
    whole = bordered(quantizer, "ste_sign", pad, gain)
    for layer, other in zip(whole.layers, given.layers, strict=True):
        if hasattr(layer, "kernel"):
            with lq.context.quantized_scope(True):
                layer.kernel.assign(tf.sign(other.kernel))
        else:
            layer.set_weights(other.get_weights())
    sums = keras.Model(whole.inputs, whole.get_layer("first").output)(x).numpy()
    assert np.mean(sums == 0) > 0.01
    prepared = prepare(given)
    content = to_flatbuffer(inference(prepared), prepared.variables, io_spec(prepared))
    assert audit_bytes(content, "net").ops["LceBconv2d"] == 2
    assert_allclose(prepared(x), whole(x), rtol=1e-6)
    assert_allclose(Runner(content)(x), whole(x), rtol=1e-6)


@pytest.mark.convert
@pytest.mark.parametrize("pad", [-1.0, 0.5])
@pytest.mark.parametrize("kind", ["gate", "tanh", "groups"])
def test_sums_beside_a_border_are_0_whatever_reads_them(kind, pad):
    """What reads them takes no scale: they are whole numbers all the same."""
    keras.utils.set_random_seed(0)
    start = keras.Input((6, 6, 4))
    x = binary_conv(16, pad_values=pad, kernel_quantizer="magnitude_aware_sign")(start)
    if kind == "gate":
        gate = layers.Dense(16, "sigmoid")(layers.GlobalAveragePooling2D()(x))
        x = layers.Multiply()([x, layers.Reshape((1, 1, 16))(gate)])
    if kind == "tanh":
        x = layers.Activation("tanh")(x)
    before = keras.Model(start, x)
    x = binary_conv(8, groups=2 if kind == "groups" else 1)(x)
    model = keras.Model(start, [x, before.output])
    x, prepared = images(4, (6, 6, 4)), prepare(model)
    content = to_flatbuffer(inference(prepared), prepared.variables, io_spec(prepared))
    signs, sums = prepared(x)
    assert np.mean(sums.numpy() == 0) > 0.01
    assert_allclose(sums, before(x), atol=1e-5)
    file = Runner(content).outputs([x])
    assert_array_equal(file[1] == 0, sums.numpy() == 0)
    assert_allclose(file[0], signs, rtol=1e-5)


@pytest.mark.convert
@pytest.mark.parametrize("kind", ["convolution", "rectified", "maximum", "average"])
def test_a_step_of_0_and_1_is_0_where_the_sum_is(kind):
    def last(x):
        return layers.GlobalAveragePooling2D()(layers.Activation("ste_heaviside")(x))

    model, before = network(WHOLE[kind], last=last)
    x = images(4, SHAPE)
    assert np.mean(before(x).numpy() == 0) > 0.01
    prepared = prepare(model)
    content = to_flatbuffer(inference(prepared), prepared.variables, io_spec(prepared))
    assert_allclose(prepared(x), model(x), rtol=1e-6)
    assert_allclose(Runner(content)(x), model(x), rtol=1e-6)
