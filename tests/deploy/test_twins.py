"""Binary layers that compute the same of the same tensors are one, and counted once."""

import larq as lq
import pytest
from larq_nobn import deploy
from deploy.nets import binary_conv, scrambled
from deploy.sides import compared
from larq_nobn._keras import keras
from larq_nobn.quantizers import RSign

pytestmark = pytest.mark.convert
layers = keras.layers
SHAPE = (6, 6, 8)


def equal(layer, other):
    other.set_weights(layer.get_weights())


def two(first, second, shape=SHAPE):
    """Two layers of equal weights on one tensor, with different ones behind."""
    inputs = keras.Input(shape)
    ends = [layers.BatchNormalization()(layer(inputs)) for layer in (first, second)]
    model = scrambled(keras.Model(inputs, layers.Add()(ends)))
    equal(first, second)
    return model


def equal_convolutions():
    return two(binary_conv(8), binary_conv(8))


def equal_dense():
    kwargs = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign"}
    return two(*(lq.layers.QuantDense(8, **kwargs) for _ in range(2)), shape=(20,))


def equal_sequences():
    kwargs = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign"}
    return two(*(lq.layers.QuantConv1D(8, 3, **kwargs) for _ in range(2)), (9, 8))


def equal_shifts():
    return two(*(binary_conv(8, input_quantizer=RSign()) for _ in range(2)))


def equal_values():
    """Their latent kernels differ, but not in their signs."""
    first, second = binary_conv(8), binary_conv(8)
    model = two(first, second)
    second.kernel.latent_variable.assign(3 * first.kernel.latent_variable)
    return model


def equal_branches():
    """Equal all the way, from a float layer on, with what only training needs."""
    inputs = keras.Input(SHAPE)

    def branch():
        rows = layers.Conv2D(8, 1), layers.Dropout(0.5), binary_conv(8)
        return keras.Sequential([keras.Input(SHAPE), *rows, binary_conv(8)])

    first, second = branch(), branch()
    ends = [layers.Dense(4)(layers.Flatten()(x(inputs))) for x in (first, second)]
    model = scrambled(keras.Model(inputs, ends))
    equal(first, second)
    return model


def one_called_twice():
    inputs, conv = keras.Input(SHAPE), binary_conv(8)
    ends = [layers.BatchNormalization()(conv(inputs)) for _ in range(2)]
    return scrambled(keras.Model(inputs, layers.Add()(ends)))


def outputs_that_are_one():
    inputs, conv = keras.Input(SHAPE), binary_conv(8)
    return scrambled(keras.Model(inputs, [conv(inputs), conv(inputs)]))


def nested():
    inputs = keras.Input(SHAPE)
    x = layers.BatchNormalization()(binary_conv(8)(inputs))
    return keras.Model(inputs, x, name="nested")


def model_in_a_sum():
    inputs = keras.Input(SHAPE)
    s = nested()
    return scrambled(keras.Model(inputs, s(inputs) + s(s(inputs))))


def backbone_of_two_heads():
    inputs, start = keras.Input(SHAPE), keras.Input(SHAPE)
    x = layers.ReLU()(layers.Conv2D(8, 1)(start))
    backbone = keras.Model(start, binary_conv(8)(nested()(x)), name="backbone")
    ends = [layers.Dense(n)(layers.Flatten()(backbone(inputs))) for n in (3, 2)]
    return scrambled(keras.Model(inputs, ends))


CASES = {
    equal_convolutions: (1, 1),
    equal_dense: (1, 1),
    equal_sequences: (1, 1),
    equal_shifts: (1, 1),
    equal_values: (1, 1),
    equal_branches: (2, 2),
    one_called_twice: (1, 1),
    outputs_that_are_one: (1, 1),
    model_in_a_sum: (2, 1),
    backbone_of_two_heads: (2, 2),
}


@pytest.mark.parametrize("build", CASES, ids=lambda build: build.__name__)
def test_equal_layers_become_one(build, tmp_path):
    left, merged = CASES[build]
    model = build()
    report, off = compared(model, tmp_path)
    assert report.lce_bconv2d == report.binary_layers == left
    assert len(deploy.binary_layers(model)) == left
    assert len(report.merged) == merged
    assert ("merged" in str(report)) == bool(merged)
    assert report.verify["exact_share"] == 1
    assert max(off) < 1e-4


def changed_weight():
    first, second = binary_conv(8), binary_conv(8)
    model = two(first, second)
    kernel = second.kernel.latent_variable.numpy()
    kernel[1, 1, 0, 0] *= -1
    second.kernel.latent_variable.assign(kernel)
    return model


def other_inputs():
    left, right = keras.Input(SHAPE), keras.Input(SHAPE)
    conv = binary_conv(8)
    return scrambled(keras.Model([left, right], conv(left) + conv(right)))


def other_borders():
    return two(binary_conv(8), binary_conv(8, pad_values=0.0))


@pytest.mark.parametrize("build", [changed_weight, other_inputs, other_borders])
def test_different_layers_stay_apart(build, tmp_path):
    model = build()
    report, off = compared(model, tmp_path)
    assert report.lce_bconv2d == report.binary_layers == 2
    assert report.merged == []
    assert max(off) < 1e-4
