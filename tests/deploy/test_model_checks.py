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
    binary_conv,
    chain,
)
from larq_nobn._keras import keras
from larq_nobn.deploy import ConversionError, binary_layers
from larq_nobn.deploy._binary_layers import check_float
from larq_nobn.deploy._prepared import few_examples, lowered_model, opened_model

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
    whole, given, _ = opened_model(model, None)
    stages = lowered_model(whole, given)
    check_float(stages, "lce", False, lambda: few_examples(given))
    return stages.binary


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
    # Real numbers on one side, or many bits, beside a binary one.
    ([*unsigned(), binary_conv(kernel_quantizer=None), binary_conv()], 1),
    ([binary_conv(kernel_quantizer=None, input_quantizer=two_bits), *x()], 1),
    ([binary_conv(), lq.layers.QuantDepthwiseConv2D(3, input_quantizer=sign())], 1),
    # What is written as another binary convolution, or fits as it is.
    ([lq.layers.QuantDense(8, **BINARY)], 1),
    (rows_of(lq.layers.QuantConv1D(8, 3, **BINARY)), 1),
    (x(input_quantizer="ste_heaviside", pad_values=-1.0), 1),
    (own(layers.AveragePooling2D(2), pad_values=0.0), 1),
    (own(layers.Cropping2D(((2, 3), (3, 2))), pad_values=0.0), 1),
    # Of the user's classes, too.
    (rows_of(OwnConv1D(8, 3, **BINARY)), 1),
    (own(pad_values=-1.0), 1),
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
BITS = "'x' has {}-bit inputs and a {}-bit kernel.*'ste_sign'"
BETWEEN = "Layer 'b'.* stands between a sign and layer 'x'"
REJECTED = [
    (unsigned(), "Model 'chain' has no binary layer. A QuantConv2D is binary with"),
    (x(input_quantizer=two_bits), BITS.format(2, 1)),
    (x(**ternary), BITS.format(1, 2)),
    (unsigned(sign(), layers.MaxPooling2D(name="b")), BETWEEN),
    (unsigned(layers.Activation(tf.sign), layers.MaxPooling2D(name="b")), BETWEEN),
    # Others are named in `test_allow_float.py`.
    (
        [layers.Reshape((8, 8, 32, 1)), lq.layers.QuantConv3D(8, 3, **BINARY)],
        f"'x' is a binary QuantConv3D, {NO_KERNEL}.* Use a QuantConv2D",
    ),
    # Operations of its own stand between its sign and its kernel.
    (
        [lq.layers.QuantLocallyConnected2D(2, 3, **BINARY)],
        f"'x' is a binary QuantLocallyConnected2D, {NO_KERNEL}",
    ),
]


@pytest.mark.parametrize("rows, message", REJECTED)
def test_the_layer_and_the_remedy_are_named(rows, message):
    with pytest.raises(ConversionError, match=message):
        checked(chain(*rows, scramble=False))


@pytest.mark.convert
def test_the_steps_of_a_wrapper_may_be_called_one_by_one(tmp_path):
    shared = binary_conv(8, name="shared")
    clip = keras.Input((2, 4, 4, 8))
    wrapped = keras.Model(clip, layers.TimeDistributed(shared, name="each")(clip))
    steps = tf.stack([shared(clip[:, t]) for t in range(2)], axis=1)
    model = keras.Model(clip, steps)
    images = np.random.default_rng(0).normal(size=(4, 2, 4, 4, 8)).astype("float32")
    np.testing.assert_array_equal(model(images), wrapped(images))
    report = nobn.convert(model, tmp_path / "m.tflite", data=images)
    assert (report.lce_bconv2d, report.not_prepared) == (2, None)


@pytest.mark.convert
def test_signs_that_no_layer_shows_are_found_in_the_trace(tmp_path):
    """And a binary kernel that reads signs is not float without a word."""
    inputs, path = keras.Input((8, 8, 4)), tmp_path / "m.tflite"
    x = lq.math.sign(binary_conv(8)(inputs) + 0.5)
    x = binary_conv(8, input_quantizer=None)(Thresholds()(x))
    between = layers.Lambda(lambda x: x[:, ::2])
    (last,) = unsigned()
    model = keras.Model(inputs, last(between(sign()(x))))
    with pytest.raises(ConversionError, match=r"'lambda.*' stands between .* 'x'"):
        nobn.convert(model, path)
    report = nobn.convert(model, path, allow_float=True, verify=False)
    assert report.lce_bconv2d == report.binary_layers == 2
    assert report.not_prepared is None
    assert [row["layer"] for row in report.in_float] == ["x"]


def test_weights_that_are_not_numbers_are_named():
    shift = nobn.quantizers.RSign(name="shift")
    model = chain(*x(input_quantizer=shift))
    shift.shift.assign(np.full(32, np.nan))
    with pytest.raises(ConversionError, match="shift.*' of layer 'x' contains NaN"):
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
