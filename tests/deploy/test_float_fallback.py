"""What is nearly binary is rejected by name, and not silently computed in float."""

import re

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import binary_conv, chain, head
from larq_nobn._keras import keras
from larq_nobn.deploy import ConversionError
from larq_nobn.deploy._checks import check_model
from larq_nobn.deploy._opening import as_functional

layers = keras.layers
SIGN = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign"}


def refused(message, *rows, **options):
    with pytest.raises(ConversionError, match=message):
        check_model(as_functional(chain(*rows, **options)))


def passes(*rows, **options):
    return len(check_model(as_functional(chain(*rows, **options)))[0])


@pytest.mark.parametrize(
    "rows, missing",
    [
        ([binary_conv(name="a", input_quantizer=None)], "no sign before 'a'"),
        ([binary_conv(name="a", kernel_quantizer=None)], "no binary kernel in 'a'"),
        (
            [
                binary_conv(name="a", input_quantizer=None),
                binary_conv(name="b", kernel_quantizer=None),
            ],
            "no sign before 'a' and no binary kernel in 'b'",
        ),
        ([layers.Conv2D(8, 3)], "it contains no QuantConv2D"),
    ],
)
def test_layers_that_lack_a_quantizer_are_named_where_none_is_binary(rows, missing):
    refused(f"has no binary layer: {missing}. A QuantConv2D is binary with", *rows)


def test_layers_that_lack_a_quantizer_are_fine_beside_binary_ones():
    without = {"input_quantizer": None}, {"kernel_quantizer": None}
    assert passes(*(binary_conv(**changes) for changes in without), binary_conv()) == 1


@pytest.mark.parametrize(
    "changes, bits",
    [
        ({"input_quantizer": lq.quantizers.DoReFa(2)}, "2 bit and a kernel of 1 bit"),
        ({"input_quantizer": "ste_tern"}, "2 bit and a kernel of 1 bit"),
        ({"kernel_quantizer": "ste_tern"}, "1 bit and a kernel of 2 bit"),
        (
            {"kernel_quantizer": "ste_tern", "input_quantizer": "ste_tern"},
            "2 bit and a kernel of 2 bit",
        ),
    ],
)
def test_few_bits_that_are_not_one_are_rejected(changes, bits):
    refused(f"'x' has inputs of {bits}.*'ste_sign'", binary_conv(name="x", **changes))


def test_few_bits_beside_real_numbers_are_fine():
    eight = lq.quantizers.DoReFa(8)
    rows = [
        binary_conv(kernel_quantizer=None, input_quantizer=lq.quantizers.DoReFa(2)),
        binary_conv(kernel_quantizer="ste_tern", input_quantizer=None),
        binary_conv(input_quantizer=eight),
        binary_conv(),
    ]
    assert passes(*rows) == 1


@pytest.mark.parametrize(
    "between",
    [
        layers.MaxPooling2D(name="b"),
        layers.Rescaling(0.5, name="b"),
        layers.ZeroPadding2D(name="b"),
        layers.Reshape((8, 4, 64), name="b"),
    ],
    ids=lambda layer: type(layer).__name__,
)
@pytest.mark.parametrize("more", [[], [layers.Dropout(0.1), layers.Cropping2D(1)]])
def test_nothing_may_stand_between_a_sign_and_its_convolution(between, more):
    sign = lq.quantizers.SteSign()
    conv = binary_conv(name="x", input_quantizer=None)
    refused(
        "Layer 'b'.* stands between a sign and layer 'x'", sign, between, *more, conv
    )


def test_an_operator_between_is_named_too():
    inputs = keras.Input((8, 8, 32))
    halved = 0.5 * nobn.quantizers.RSign()(inputs)
    outputs = binary_conv(name="x", input_quantizer=None)(halved)
    named = r"'tf\.math\.multiply(_\d+)?'.* between.*'x'"
    with pytest.raises(ConversionError, match=named):
        check_model(as_functional(keras.Model(inputs, outputs)))


def test_joined_signs_are_named():
    inputs = keras.Input((8, 8, 32))
    signs = [lq.quantizers.SteSign()(x) for x in (inputs, -inputs)]
    joined = layers.Concatenate(name="both")(signs)
    outputs = binary_conv(name="x", input_quantizer=None)(joined)
    with pytest.raises(ConversionError, match="'both' .*between a sign and layer 'x'"):
        check_model(as_functional(keras.Model(inputs, outputs)))


@pytest.mark.parametrize("sign", [tf.sign, layers.Activation(tf.sign)])
def test_the_sign_of_tensorflow_is_rejected(sign):
    inputs = keras.Input((8, 8, 32))
    signs = layers.MaxPooling2D()(sign(inputs))
    outputs = binary_conv(name="x", input_quantizer=None)(signs)
    said = "takes the sign for layer 'x', but gives 0 at 0"
    with pytest.raises(ConversionError, match=said):
        check_model(as_functional(keras.Model(inputs, outputs)))


def test_dropout_may_stand_between():
    rows = lq.quantizers.SteSign(), layers.Dropout(0.1)
    assert passes(*rows, binary_conv(input_quantizer=None)) == 1


def test_what_a_convolution_makes_of_signs_are_numbers():
    rows = binary_conv(), layers.MaxPooling2D(), binary_conv(input_quantizer=None)
    assert passes(*rows) == 1


class Block(layers.Layer):
    """A layer of the user's that contains another."""

    def __init__(self, inner, **kwargs):
        super().__init__(**kwargs)
        self.inner = inner

    def call(self, inputs):
        return self.inner(inputs)


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda: Block(binary_conv(name="inner"), name="x"),
        lambda: Block(Block(binary_conv(name="inner")), name="x"),
        lambda: Block(lq.layers.QuantDense(8, **SIGN, name="inner"), name="x"),
    ],
)
def test_binary_layers_inside_others_are_found(wrapped):
    refused(
        "'x' .Block. contains the binary layer 'inner'.*in the model itself", wrapped()
    )


@pytest.mark.parametrize("before", [[], [lq.quantizers.SteSign()]])
def test_binary_layers_inside_wrappers_are_found(before):
    inner = binary_conv(name="inner", input_quantizer=None if before else "ste_sign")
    wrapper = layers.TimeDistributed(inner, name="x")
    rows = [layers.Reshape((1, 8, 8, 32)), *before, wrapper]
    refused("'x' .TimeDistributed. contains the binary layer 'inner'", *rows)


def test_the_steps_of_a_wrapper_may_be_called_one_by_one(tmp_path):
    shared = binary_conv(8, name="shared")
    clip = keras.Input((2, 8, 8, 8))
    wrapped = keras.Model(clip, layers.TimeDistributed(shared, name="each")(clip))
    message = "'each' .* layer 'shared'.* step x.:, t., .* tf.stack"
    report = nobn.convert(wrapped, tmp_path / "m.tflite")
    assert report.lce_bconv2d == 1
    assert re.search(message, report.not_prepared)
    # What the message advises computes the same, and is prepared.
    steps = tf.stack([shared(clip[:, t]) for t in range(2)], axis=1)
    model = keras.Model(clip, steps)
    x = np.random.default_rng(0).normal(size=(4, 2, 8, 8, 8)).astype("float32")
    np.testing.assert_array_equal(model(x), wrapped(x))
    report = nobn.convert(model, tmp_path / "m.tflite", data=x)
    assert (report.lce_bconv2d, report.not_prepared) == (2, None)


def test_few_bits_inside_wrappers_are_found():
    inner = binary_conv(
        name="inner",
        input_quantizer="dorefa_quantizer",
        kernel_quantizer="dorefa_quantizer",
        kernel_constraint=None,
    )
    rows = layers.Reshape((1, 8, 8, 32)), layers.TimeDistributed(inner, name="x")
    refused("'x' .TimeDistributed. contains the quantized layer 'inner'", *rows)


def one_bit(x):
    return lq.math.sign(x)


one_bit.precision = 1


class Cell(layers.Layer):
    """A recurrent cell with a Larq layer in it."""

    state_size = output_size = 4

    def __init__(self, sign, **kwargs):
        super().__init__(**kwargs)
        self.sign = sign
        self.inner = lq.layers.QuantDense(
            4, **{**SIGN, "input_quantizer": sign}, name="inner"
        )

    def call(self, inputs, states):
        found = self.inner(inputs) + states[0]
        return found, [found]

    def get_config(self):
        return {**super().get_config(), "sign": self.sign}


@pytest.mark.parametrize("sign", ["ste_sign", one_bit])
def test_binary_layers_inside_recurrent_ones_are_found(sign):
    rows = layers.Reshape((8, -1)), layers.RNN(Cell(sign), name="x")
    refused("'x' .RNN. contains the binary layer 'inner'.* steps of a recurrent", *rows)
    with keras.utils.custom_object_scope({"Cell": Cell, "one_bit": one_bit}):
        both = layers.Bidirectional(layers.RNN(Cell(sign)), name="x")
        refused("'x' .Bidirectional. contains the binary layer 'inner'", rows[0], both)


def test_inner_layers_are_named_where_none_is_binary():
    inner = binary_conv(name="inner", input_quantizer=None)
    rows = layers.Reshape((1, 8, 8, 32)), layers.TimeDistributed(inner, name="x")
    refused("no binary layer: no sign before 'x/inner'", *rows)


def test_inner_layers_without_a_sign_are_fine():
    inner = binary_conv(input_quantizer=None)
    assert passes(Block(inner), Block(layers.Dense(8)), binary_conv()) == 1


def test_a_functional_model_inside_is_opened():
    inner = keras.Sequential([keras.Input((8, 8, 32)), binary_conv()])
    assert passes(inner, binary_conv()) == 2


@pytest.mark.parametrize(
    ("weight", "value", "what"),
    [("kernel", np.nan, "NaN"), ("bias", np.nan, "NaN"), ("kernel", -np.inf, "inf")],
)
def test_weights_that_are_not_numbers_are_named(weight, value, what):
    model = chain(binary_conv(name="x", use_bias=True), *head())
    variable = getattr(model.get_layer("x"), weight)
    values = variable.numpy()
    values[..., 1] = value
    variable.assign(values)
    with pytest.raises(
        ConversionError, match=f"'x/{weight}:0' of layer 'x' contains {what}"
    ):
        check_model(as_functional(model))


def test_gains_of_kernels_are_finite():
    quantizer = nobn.quantizers.ScaledStdSign(gain=True, name="sign")
    conv = binary_conv(name="x", kernel_quantizer=quantizer)
    model = chain(conv)
    conv.kernel_quantizer.gain.assign(np.full(conv.kernel_quantizer.gain.shape, np.inf))
    with pytest.raises(ConversionError, match="gain.*' of layer 'x' contains infinity"):
        check_model(as_functional(model))


def test_shifts_of_signs_count_as_weights():
    conv = binary_conv(name="x", input_quantizer=nobn.quantizers.RSign(name="sign"))
    model = chain(conv)
    conv.input_quantizer.shift.assign(np.full(32, np.nan))
    with pytest.raises(ConversionError, match="shift.*' of layer 'x' contains NaN"):
        check_model(as_functional(model))
