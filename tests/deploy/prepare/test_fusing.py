"""What costs nothing beside a binary convolution, and what stays: in pairs."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import binary_conv, chain, images, scrambled
from larq_nobn._keras import keras
from larq_nobn.deploy._errors import ConversionError
from larq_nobn.deploy.inspection._audit import audit_bytes
from larq_nobn.deploy.lite import Runner, inference, io_spec, to_flatbuffer
from larq_nobn.deploy.prepare._prepare import prepare
from numpy.testing import assert_allclose

pytestmark = pytest.mark.convert
_layers = keras.layers
SHAPE = (8, 8, 32)


def flatbuffer(model):
    return to_flatbuffer(inference(model), model.variables, io_spec(model))


def ops(*layers, plain=False):
    """Operations of the converted chain, by name; `plain` converts it unprepared."""
    model = chain(*layers, stem=False, shape=SHAPE)
    model = model if plain else prepare(model)
    content = flatbuffer(model)
    x = images(4, SHAPE)
    assert_allclose(Runner(content)(x), model(x), rtol=0, atol=2e-4)
    return audit_bytes(content, "chain").ops


ONE = {"LceQuantize": 1, "LceBconv2d": 1}


def test_these_cost_nothing_beside_a_binary_convolution():
    """Each row of layers, of one file, is one operation on the bits that all take."""
    behind = [
        [],
        [_layers.BatchNormalization()],
        [_layers.ReLU(), _layers.BatchNormalization()],
        [_layers.Dropout(0.5), _layers.BatchNormalization()],
    ]
    changed = [
        {"pad_values": 1.0},
        {"pad_values": 0.0},
        {"padding": "valid"},
        {"strides": 2},
        {"dilation_rate": 2},
        {"use_bias": True},
        {"kernel_quantizer": "magnitude_aware_sign"},
        {"kernel_quantizer": nobn.quantizers.ScaledStdSign(scale=0.2)},
        {"activation": "relu"},
        {"kernel_quantizer": "magnitude_aware_sign", "activation": "relu"},
    ]
    rows = [[binary_conv(), *layers] for layers in behind]
    rows += [[binary_conv(**changes)] for changes in changed]
    inputs = keras.Input(SHAPE)
    ends = []
    for number, (*first, last) in enumerate(rows):
        last._name = f"row{number}"
        x = inputs
        for layer in (*first, last):
            x = layer(x)
        ends.append(x)
    model = prepare(scrambled(keras.Model(inputs, ends)))
    content = flatbuffer(model)
    x = images(4, SHAPE)
    for end, found, wanted in zip(ends, Runner(content)(x), model(x), strict=True):
        assert_allclose(found, wanted, rtol=0, atol=2e-4, err_msg=end.name)
    audit = audit_bytes(content, "rows")
    more = [(row["op"], row["layer"]) for row in audit.operations]
    assert [row for row in more if row[0] not in ONE] == []
    assert audit.ops == {"LceBconv2d": len(rows), "LceQuantize": 1}


@pytest.mark.parametrize(
    "layers, extra",
    [
        ([_layers.BatchNormalization(), _layers.ReLU()], {"RELU": 1}),
        ([_layers.MaxPooling2D(), _layers.BatchNormalization()], {"MAX_POOL_2D": 1}),
    ],
)
def test_these_do_not(layers, extra):
    found = ops(binary_conv(), *layers)
    assert {**found, **ONE, **extra} == found
    assert len(found) > 2


def test_a_relu_after_zero_padding_stays():
    assert ops(binary_conv(pad_values=0.0, activation="relu")) == {**ONE, "RELU": 1}


def test_a_scale_in_the_kernel_would_keep_the_relu():
    """The reason why preparation takes the scale out of the kernel."""
    conv = binary_conv(kernel_quantizer="magnitude_aware_sign", activation="relu")
    assert ops(conv, plain=True) == {**ONE, "RELU": 1}


def test_an_rsign_costs_one_addition_whatever_its_scale():
    conv = binary_conv(input_quantizer=nobn.quantizers.RSign(scale=3.0))
    assert ops(conv) == {**ONE, "ADD": 1}


def test_an_rsign_after_a_binary_convolution_costs_nothing():
    model = chain(
        binary_conv(),
        binary_conv(input_quantizer=nobn.quantizers.RSign()),
        stem=False,
        shape=SHAPE,
    )
    found = audit_bytes(flatbuffer(prepare(model)), "bits")
    assert found.ops == {"LceBconv2d": 2, "LceQuantize": 1}
    assert found.bitpacked_outputs == 1


def test_zero_padding_keeps_floats_between_convolutions():
    model = chain(binary_conv(pad_values=0.0), binary_conv(), stem=False, shape=SHAPE)
    found = audit_bytes(flatbuffer(prepare(model)), "floats")
    assert found.ops == {"LceBconv2d": 2, "LceQuantize": 2}
    assert found.bitpacked_outputs == 0


def test_an_rprelu_is_one_prelu_between_two_additions():
    rows = nobn.layers.RPReLU(), binary_conv()
    assert ops(*rows) == {**ONE, "PRELU": 1, "ADD": 2}


def test_its_first_addition_goes_into_a_binary_convolution():
    rows = binary_conv(), nobn.layers.RPReLU()
    assert ops(*rows) == {**ONE, "PRELU": 1, "ADD": 1}


def residual(x):
    conv = binary_conv(
        input_quantizer=nobn.quantizers.RSign(scale=0.9),
        kernel_quantizer=nobn.quantizers.ScaledStdSign(scale=0.2),
    )
    return nobn.layers.RPReLU()(_layers.Add()([conv(x), x]))


def test_a_residual_block_needs_three_float_operations():
    """One shift for its sign, the shortcut, and the ReLU."""
    inputs, blocks = keras.Input(SHAPE), 2
    x = residual(residual(inputs))
    x = _layers.Dense(5)(_layers.GlobalAveragePooling2D()(x))
    found = audit_bytes(flatbuffer(prepare(scrambled(keras.Model(inputs, x)))), "x")
    each = {"LceQuantize": blocks, "LceBconv2d": blocks, "PRELU": blocks}
    last = {"MEAN": 1, "FULLY_CONNECTED": 1}
    assert found.ops == {**each, "ADD": 2 * blocks, **last}


def test_a_sequential_block_needs_none_and_hands_on_bits():
    def conv():
        return binary_conv(
            input_quantizer=nobn.quantizers.RSign(),
            kernel_quantizer=nobn.quantizers.ScaledStdSign(scale=0.2),
        )

    affine, norm = nobn.layers.ChannelAffine(), _layers.BatchNormalization()
    model = chain(conv(), affine, conv(), norm, conv(), stem=False, shape=SHAPE)
    found = audit_bytes(flatbuffer(prepare(model)), "x")
    # The shift of the first sign is the one that nothing stands before.
    assert found.ops == {"ADD": 1, "LceQuantize": 1, "LceBconv2d": 3}
    assert found.bitpacked_outputs == 2


class Raw(_layers.Layer):
    """A sign or gain in a spelling of its own."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, inputs):
        return self.function(inputs)


GAIN = np.linspace(0.5, 1.5, 32).astype(np.float32)


@pytest.mark.parametrize(
    "sign, fuses",
    [
        (lq.math.sign, True),
        (lambda x: tf.where(x >= 0.0, 1.0, -1.0), True),
        (tf.sign, False),
        (lambda x: 0.5 * lq.math.sign(x), False),
    ],
)
def test_signs_that_lce_recognises(sign, fuses):
    conv = binary_conv(input_quantizer=None)
    found = ops(Raw(sign), conv, plain=True)
    assert ("LceBconv2d" in found, "CONV_2D" in found) == (fuses, not fuses)


def test_a_gain_of_rank_one_fuses():
    assert ops(binary_conv(), Raw(lambda x: x * GAIN), plain=True) == ONE


@pytest.mark.parametrize("shape", [(1, 32), (1, 1, 32), (1, 1, 1, 32)])
def test_a_gain_of_any_other_rank_makes_a_file_that_cannot_run(shape):
    gain = GAIN.reshape(shape)
    model = chain(binary_conv(), Raw(lambda x: x * gain), stem=False, shape=SHAPE)
    with pytest.raises(ConversionError, match="into which LCE fuses it wrongly"):
        Runner(flatbuffer(model))
