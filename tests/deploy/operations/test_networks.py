"""Networks with binary dense and 1D layers, whole: nothing of them stays float."""

import larq as lq
import pytest
from larq_nobn import layers as own
from deploy.nets import binary_conv, chain, scrambled
from deploy.operations.oracle import (
    BINARY,
    converted,
    examples,
    operations,
)
from deploy.operations.programs import program_of
from deploy.sides import beside
from larq_nobn._keras import keras
from larq_nobn.deploy import audit, convert
from numpy.testing import assert_allclose

pytestmark = pytest.mark.convert
layers = keras.layers
OPTIONS = {**BINARY, "use_bias": False}


def norm():
    return layers.BatchNormalization(momentum=0.999, scale=False)


def dense(units, **changes):
    return lq.layers.QuantDense(units, **{**OPTIONS, **changes})


def conv1d(**changes):
    return lq.layers.QuantConv1D(32, 3, **{**OPTIONS, **changes})


def test_bits_pass_from_one_layer_to_the_next(tmp_path):
    """From dense layers, and from 1D ones beside them."""
    flat = [dense(64), norm(), layers.Dropout(0.5), dense(32), norm(), dense(8)]
    line = [conv1d(), norm(), conv1d(padding="same", pad_values=1.0), conv1d()]
    rows = {(40,): flat, (12, 6): line}
    models = [
        chain(*row, shape=shape, stem=False, name=f"of_rank{len(shape)}")
        for shape, row in rows.items()
    ]
    report, _ = converted(beside(models), tmp_path, [*map(examples, rows)])
    assert (report.lce_bconv2d, operations(report)) == (6, {})
    assert audit(tmp_path / "model.tflite").bitpacked_outputs == 4


def two_norms(groups):
    """Batch norm after a concatenation of convolutions, one of them twice."""
    inputs = keras.Input((4, 4, 8))
    first = binary_conv(8, groups=groups)(inputs)
    return keras.Model(inputs, norm()(layers.Concatenate()([first, first])))


@pytest.mark.parametrize("groups", [1, 2])
def test_batch_norm_enters_no_convolution_twice(groups):
    program_of(scrambled(two_norms(groups)))


def signs_before(x):
    """Signs that are layers of their own, before layers that take them as is."""
    plain = {"input_quantizer": None}
    signs = lq.quantizers.SteSign()(x)
    steps = lq.quantizers.SteHeaviside()(layers.ReLU()(x))
    return [
        dense(4, **plain)(layers.Flatten()(signs)),
        binary_conv(4, groups=2, **plain)(signs),
        binary_conv(4, pad_values=0.0, **plain)(steps),
        dense(4, **plain)(steps),
    ]


def residual(x):
    """Dense layers beside shortcuts, one of them used twice."""
    x = layers.Flatten()(x)
    first = dense(64)
    x = layers.Add()([norm()(first(x)), x])
    x = layers.Add()([own.RPReLU()(first(x)), x])
    return own.RPReLU()(dense(64, input_quantizer="rsign")(x))


def pooled(x):
    """Sequences through a pool, and 1D layers of some channels on each side."""
    x = conv1d(padding="causal", groups=2)(layers.Reshape((8, 8))(x))
    x = conv1d(input_quantizer="ste_heaviside")(layers.MaxPooling1D()(norm()(x)))
    return dense(4)(layers.GlobalAveragePooling1D()(norm()(x)))


def test_what_stands_between_does_not_matter(tmp_path):
    inputs = keras.Input((4, 2, 8))
    ends = [*signs_before(inputs), residual(inputs), pooled(inputs)]
    model = scrambled(keras.Model(inputs, ends))
    x = examples((4, 2, 8))
    report, actual = converted(model, tmp_path, x)
    assert report.lce_bconv2d == report.binary_layers == 5 + 3 + 4
    assert report.verify["exact_share"] == report.verify["prepared"]["exact_share"] == 1
    assert not set(operations(report)) & {"CONV_2D", "FULLY_CONNECTED"}
    for pair in zip(actual, model(x), strict=True):
        assert_allclose(*pair, atol=1e-3)


AWARE = {"kernel_quantizer": "magnitude_aware_sign"}


STEPS = {"input_quantizer": "ste_heaviside"}


def test_rounding_before_a_rewritten_layer_explains(tmp_path):
    """Sums of ±c that should be 0 are not quite that in Keras, and 0 in the file."""
    rows = {
        (12, 32): lambda: [conv1d(**AWARE), conv1d(padding="causal")],
        (4, 3, 32): lambda: [binary_conv(**AWARE), binary_conv(**STEPS)],
    }
    models = [
        chain(*row(), shape=shape, stem=False, name=f"row{number}")
        for number, (shape, row) in enumerate(rows.items())
    ]
    data = [examples(shape) for shape in rows]
    model = beside(models)
    actual = convert(model, tmp_path / "model.tflite", data=data).verify
    assert actual["prepared"]["explained"] > 0
    assert actual["prepared"]["unexplained"] == actual["unexplained"] == 0
