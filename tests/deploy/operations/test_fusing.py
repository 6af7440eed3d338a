"""What costs nothing beside a binary convolution, and what stays: in pairs."""

import larq_nobn as nobn
import larq as lq
import pytest
import tensorflow as tf
from deploy.nets import binary_conv, chain, images
from deploy.operations.programs import (
    SHAPE,
    audited,
    check_together,
    network,
    operations,
    row,
)
from larq_nobn._keras import keras
from larq_nobn.quantizers import RSign, ScaledStdSign

pytestmark = pytest.mark.convert
layers = keras.layers
ONE = {"LceQuantize": 1, "LceBconv2d": 1}
TWO = {"LceQuantize": 1, "LceBconv2d": 2}


def test_these_cost_nothing_beside_a_binary_convolution():
    """Each row, of one file, is one operation on its bits."""
    aware = {"kernel_quantizer": "magnitude_aware_sign"}
    rows = ["binary norm", "binary relu norm", "binary dropout norm"]
    rows += [
        *({}, {"pad_values": 1.0}, {"pad_values": 0.0}, {"padding": "valid"}),
        *({"strides": 2}, {"dilation_rate": 2}, {"use_bias": True}, aware),
        *({"activation": "relu"}, {**aware, "activation": "relu"}),
        {"kernel_quantizer": ScaledStdSign(scale=0.2)},
    ]
    models = {}
    for parts in rows:
        parts = parts if isinstance(parts, str) else binary_conv(**parts)
        name = f"row{len(models)}"
        models[name] = row(parts, scramble=True, name=name)
    audit = check_together(models, images(4, SHAPE), 2e-4)
    more = [(row["op"], row["layer"]) for row in audit.operations]
    assert [row for row in more if row[0] not in ONE] == []
    assert audit.ops == dict.fromkeys(ONE, len(models))


# Rows of layers, and the operations of their file: with learned numbers,
LEARNED = {
    "binary norm relu": {**ONE, "RELU": 1},
    # An RSign costs one addition, and nothing after a convolution.
    "rsign": {**ONE, "ADD": 1},
    "zero-padded binary": {"LceBconv2d": 2, "LceQuantize": 2},
    # An RPReLU is one PReLU between two additions: a convolution takes the first.
    "rprelu binary": {**ONE, "PRELU": 1, "ADD": 2},
    "binary rprelu": {**ONE, "PRELU": 1, "ADD": 1},
}
# and with those of the batch norms.
GIVEN = {
    "binary-relu maximum positive": {**ONE, "MAX_POOL_2D": 1},
    "conv-32 maximum positive binary": {"CONV_2D": 1, "LceBMaxPool2d": 1, **ONE},
    "binary both binary": TWO,
    "binary maximum positive binary": {**TWO, "LceBMaxPool2d": 1},
    "tanh positive relu conv-32 binary": {"TANH": 1, "ADD": 1, "CONV_2D": 1, **ONE},
    # Of -g * 0 the sign is +1, like that of 0: the opposite of which is -1.
    "relu negative binary-1x1": {"RELU": 1, "ADD": 1, **ONE},
}


@pytest.mark.parametrize("words", [*LEARNED, *GIVEN])
def test_what_is_left_in_a_file(words):
    model = row(words, scramble=words in LEARNED)
    assert operations(model) == {**LEARNED, **GIVEN}[words]


def scaled(**changes):
    return binary_conv(kernel_quantizer=ScaledStdSign(scale=0.2), **changes)


def residual(x):
    conv = scaled(input_quantizer=RSign(scale=0.9))
    return nobn.layers.RPReLU()(layers.Add()([conv(x), x]))


def test_a_residual_block_needs_three_float_operations():
    """One shift for its sign, the shortcut, and the ReLU."""
    model = network(lambda x: residual(residual(x)))
    blocks = dict.fromkeys((*ONE, "PRELU"), 2)
    last = {"MEAN": 1, "FULLY_CONNECTED": 1}
    assert audited(model).ops == {**blocks, "ADD": 4, **last}


def test_a_sequential_block_needs_none_and_hands_on_bits():
    def conv():
        return scaled(input_quantizer=RSign())

    affine, norm = nobn.layers.ChannelAffine(), layers.BatchNormalization()
    model = chain(conv(), affine, conv(), norm, conv(), stem=False, shape=SHAPE)
    actual = audited(model)
    # The shift of the first sign is the one that nothing stands before.
    assert actual.ops == {"ADD": 1, "LceQuantize": 1, "LceBconv2d": 3}
    assert actual.bitpacked_outputs == 2


@pytest.mark.parametrize(
    "sign, fuses",
    [
        (lq.math.sign, True),
        (tf.sign, False),
        (lambda x: 0.5 * lq.math.sign(x), True),
    ],
)
def test_signs_that_lce_recognises(sign, fuses):
    actual = audited(
        row(layers.Activation(sign), binary_conv(input_quantizer=None))
    ).ops
    assert ("LceBconv2d" in actual, "CONV_2D" in actual) == (fuses, not fuses)


def test_a_normalization_after_a_convolution_is_fused():
    """Its constants are of rank four, which LCE would fuse wrongly."""
    models = {}
    for axis, invert in ((None, False), (-1, True)):
        after = layers.Normalization(axis, invert=invert)
        after.adapt(3 * images(4, SHAPE) + 1)
        name = f"normalization{len(models)}"
        models[name] = row("binary", after, scramble=True, name=name)
    audit = check_together(models, images(4, SHAPE), 2e-4)
    assert audit.ops == dict.fromkeys(ONE, len(models))
