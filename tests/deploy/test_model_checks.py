"""What is binary, and what LCE cannot binarize: named before anything runs."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import (
    SIGNS,
    Block,
    OwnConv2D,
    Subclassed,
    binary_conv,
    chain,
)
from larq_nobn._keras import keras
from larq_nobn.deploy import ConversionError, binary_layers
from larq_nobn.deploy._prepared import lowered_model

BINARY = {**SIGNS, "name": "x"}
layers, sign = keras.layers, lq.quantizers.SteSign
two_bits, scaled = lq.quantizers.DoReFa(2), nobn.quantizers.ScaledStdSign
ternary = {"kernel_quantizer": "ste_tern"}


class OwnConv1D(lq.layers.QuantConv1D):
    """A user's layer."""


class Thresholds(layers.Layer):
    """A sign with weights, which does not say that it is one."""

    def build(self, shape):
        self.shift = self.add_weight("shift", shape[-1:], initializer="uniform")

    def call(self, inputs):
        return lq.math.sign(inputs - self.shift)


def checked(model):
    """What is binary of a model that has nothing else of few bits."""
    return lowered_model(model, False, None)[1].binary


def x(*before, **changes):
    """A binary convolution named 'x' after other layers."""
    return [*before, binary_conv(name="x", **changes)]


def own(*before, **changes):
    same = {"kernel_size": 3, "padding": "same", "pad_values": 1.0}
    return [*before, OwnConv2D(32, **{**BINARY, **same, **changes})]


def unsigned(*before):
    """A binary convolution without a sign of its own."""
    return x(*before, input_quantizer=None)


def rows_of(layer):
    return [layers.Reshape((64, 32)), layer]


def step(inner, *before):
    wrapper = layers.TimeDistributed(inner, name="x")
    return [layers.Reshape((1, 8, 8, 32)), *before, wrapper]


def inner(**changes):
    return binary_conv(name="inner", **changes)


def plain(kernel):
    """A convolution of Keras whose kernel happens to be ±c, or not."""
    return layers.Conv2D(32, 3, kernel_initializer=kernel, name="plain")


def two_valued(shape, dtype=None):
    return np.where(np.indices(shape).sum(axis=0) % 2, 0.5, -0.5).astype(np.float32)


# How many binary convolutions rows of layers make.
COUNTS = [
    (x(), 1),
    (x(groups=4), 4),
    (unsigned(sign(), layers.Dropout(0.1)), 1),
    ([layers.Activation(sign()), plain(two_valued)], 1),
    ([keras.Sequential([keras.Input((8, 8, 32)), binary_conv()]), binary_conv()], 2),
    # Real numbers on one side, or many bits, beside a binary one.
    ([*unsigned(), binary_conv(kernel_quantizer=None), binary_conv()], 1),
    ([binary_conv(kernel_quantizer=None, input_quantizer=two_bits), *x()], 1),
    ([binary_conv(), lq.layers.QuantDepthwiseConv2D(3, input_quantizer=sign())], 1),
    # What is written as another binary convolution, or fits as it is.
    ([lq.layers.QuantDense(8, **BINARY)], 1),
    (rows_of(lq.layers.QuantConv1D(8, 3, **BINARY)), 1),
    (x(input_quantizer="ste_heaviside", pad_values=-1.0), 1),
    (x(layers.AveragePooling2D(4), pad_values=0.0), 1),
    (own(layers.AveragePooling2D(2), pad_values=0.0), 1),
    (own(layers.Cropping2D(((2, 3), (3, 2))), pad_values=0.0), 1),
    # Of the user's classes, too.
    (rows_of(OwnConv1D(8, 3, **BINARY)), 1),
    (own(pad_values=-1.0), 1),
    (own(input_quantizer="ste_heaviside"), 1),
    (own(layers.AveragePooling2D(4), pad_values=0.0), 1),
    ([Block(inner(), name="x")], 1),
    (step(inner()), 1),
    (unsigned(sign(), layers.Rescaling(0.5)), 1),
]


@pytest.mark.parametrize("rows, count", COUNTS)
def test_binary_layers_are_counted(rows, count):
    model = chain(*rows, scramble=False)
    assert len(checked(model)) == count


@pytest.mark.parametrize(
    "rows",
    [
        [plain(two_valued), layers.ReLU()],
        x(input_quantizer=lq.quantizers.NoOp(precision=1)),  # a marker, and no sign
        [sign(), lq.layers.QuantConv2DTranspose(32, 3, kernel_quantizer=None)],
    ],
)
def test_what_only_looks_binary_is_not_counted(rows):
    assert binary_layers(chain(*rows, scramble=False)) == []


def test_a_layer_used_twice_counts_twice():
    conv = binary_conv()
    assert binary_layers(chain(conv, conv)) == [conv.name, conv.name]


NO_KERNEL = "for which LCE has no"
BITS = "'x' has inputs of {} bit and a kernel of {} bit.*'ste_sign'"
BETWEEN = "Layer 'b'.* stands between a sign and layer 'x'"
REJECTED = [
    (unsigned(), "Model 'chain' has no binary layer. A QuantConv2D is binary with"),
    (x(input_quantizer=two_bits), BITS.format(2, 1)),
    (x(**ternary), BITS.format(1, 2)),
    (unsigned(sign(), layers.MaxPooling2D(name="b")), BETWEEN),
    # Others are named in `test_allow_float.py`.
    (
        [layers.Reshape((8, 8, 32, 1)), lq.layers.QuantConv3D(8, 3, **BINARY)],
        f"'x' is a binary QuantConv3D, {NO_KERNEL}.* Use a QuantConv2D",
    ),
]


@pytest.mark.parametrize("rows, message", REJECTED)
def test_the_layer_and_the_remedy_are_named(rows, message):
    with pytest.raises(ConversionError, match=message):
        checked(chain(*rows, scramble=False))


def signed(x):
    return nobn.quantizers.RSign()(x)


@pytest.mark.parametrize(
    "between, message",
    [
        (
            lambda x: layers.MaxPooling2D()(layers.Activation(tf.sign)(x)),
            "Layer 'max_pooling2d.*' stands between a sign and layer 'x'",
        ),
    ],
)
def test_operators_between_are_named_too(between, message):
    inputs = keras.Input((8, 8, 32))
    outputs = binary_conv(name="x", input_quantizer=None)(between(inputs))
    with pytest.raises(ConversionError, match=message):
        checked(keras.Model(inputs, outputs))


@pytest.mark.convert
def test_the_steps_of_a_wrapper_may_be_called_one_by_one(tmp_path):
    shared = binary_conv(8, name="shared")
    clip = keras.Input((2, 4, 4, 8))
    wrapped = keras.Model(clip, layers.TimeDistributed(shared, name="each")(clip))
    report = nobn.convert(wrapped, tmp_path / "m.tflite")
    assert (report.lce_bconv2d, report.not_prepared) == (1, None)
    steps = tf.stack([shared(clip[:, t]) for t in range(2)], axis=1)
    model = keras.Model(clip, steps)
    images = np.random.default_rng(0).normal(size=(4, 2, 4, 4, 8)).astype("float32")
    np.testing.assert_array_equal(model(images), wrapped(images))
    report = nobn.convert(model, tmp_path / "m.tflite", data=images)
    assert (report.lce_bconv2d, report.not_prepared) == (2, None)


@pytest.mark.convert
@pytest.mark.parametrize("sign_of", [Thresholds(), lq.math.sign])
def test_signs_that_no_layer_shows_are_found_in_the_trace(sign_of, tmp_path):
    inputs = keras.Input((8, 8, 4))
    signs = sign_of(binary_conv(8)(inputs) + 0.5)
    (last,) = unsigned()
    report = nobn.convert(keras.Model(inputs, last(signs)), tmp_path / "m.tflite")
    assert report.lce_bconv2d == report.binary_layers == 2
    assert report.not_prepared is None


@pytest.mark.convert
@pytest.mark.parametrize("form", [lambda model: model, Subclassed])
def test_a_binary_kernel_that_reads_signs_is_not_float_without_a_word(form, tmp_path):
    between = layers.Lambda(lambda x: x[:, ::2])
    given = form(chain(binary_conv(), sign(), between, *unsigned()))
    given(np.zeros((1, 8, 8, 3), np.float32))
    with pytest.raises(ConversionError, match=r"'lambda.*' stands between .* 'x'"):
        nobn.convert(given, tmp_path / "m.tflite")
    report = nobn.convert(given, tmp_path / "m.tflite", allow_float=True)
    assert [row["layer"] for row in report.in_float] == ["x"]


@pytest.mark.parametrize(
    "weight, value, message",
    [
        ("bias", np.nan, "'x/bias:0' of layer 'x' contains NaN"),
        ("shift", np.nan, "shift.*' of layer 'x' contains NaN"),
    ],
)
def test_weights_that_are_not_numbers_are_named(weight, value, message):
    quantizers = {
        "input_quantizer": nobn.quantizers.RSign(name="shift"),
        "kernel_quantizer": scaled(gain=True, name="gain"),
    }
    model = chain(*x(use_bias=True, **quantizers))
    (variable,) = (w for w in model.get_layer("x").weights if f"{weight}:" in w.name)
    values = variable.numpy()
    values[..., 1] = value
    variable.assign(values)
    with pytest.raises(ConversionError, match=message):
        checked(model)


def test_channels_first_is_rejected():
    message = "'x' has data_format='channels_first'"
    first = {"data_format": "channels_first"}
    with pytest.raises(ConversionError, match=message):
        checked(chain(*x(**first), stem=False, shape=(32, 8, 8)))


def test_a_recurrent_layer_that_remembers_is_named():
    inputs = keras.Input(batch_shape=(1, 8, 8, 8))
    rows = layers.Reshape((8, -1))(binary_conv(8)(inputs))
    outputs = layers.GRU(4, stateful=True, name="memory")(rows)
    message = r"layer '.*memory' \(GRU\) has stateful=True: .* stateful=False"
    with pytest.raises(ConversionError, match=message):
        checked(keras.Model(inputs, outputs))
