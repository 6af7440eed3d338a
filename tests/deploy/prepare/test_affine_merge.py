"""Gains and offsets that go into the layers before them, and those that must not."""

import numpy as np
import pytest
from deploy.nets import binary_conv
from deploy.prepare.affine_nets import (
    BOTH_SIGNS,
    POSITIVE,
    affine,
    affines,
    operations,
    prepared,
    row,
)
from larq_nobn._keras import keras
from larq_nobn.deploy.prepare._prepare import prepare
from numpy.testing import assert_allclose, assert_array_equal

_layers = keras.layers
AVERAGES = {
    "average": lambda: _layers.AveragePooling2D(3, 2, padding="same"),
    "global average": lambda: _layers.GlobalAveragePooling2D(),
}
MAXIMA = {
    "maximum": lambda: _layers.MaxPooling2D(3, 2, padding="same"),
    "global maximum": lambda: _layers.GlobalMaxPooling2D(),
}
POOLS = {**AVERAGES, **MAXIMA}
SOME_ZERO = np.where(np.arange(32) < 8, 0.0, BOTH_SIGNS)


def scaled_conv(**changes):
    arguments = {"kernel_quantizer": "magnitude_aware_sign", "use_bias": True}
    return binary_conv(bias_initializer="normal", **{**arguments, **changes})


@pytest.mark.parametrize("conv", [binary_conv, scaled_conv])
@pytest.mark.parametrize("gain", [POSITIVE, BOTH_SIGNS, SOME_ZERO])
def test_a_binary_convolution_contains_what_stands_after_it(conv, gain):
    model = row(conv(name="conv"), affine(gain))
    new = prepared(model)
    assert "affine" not in [layer.name for layer in new.layers]
    conv = new.get_layer("conv")
    assert_array_equal(np.abs(conv.kernel), 1)
    assert conv.scale.shape == conv.offset.shape == (32,)
    assert np.all(conv.scale.numpy() >= 0)


def test_negative_gains_turn_the_kernel():
    model = row(binary_conv(name="conv"), affine(BOTH_SIGNS))
    conv = prepared(model).get_layer("conv")
    given = np.where(model.get_layer("conv").kernel < 0, -1, 1)
    assert_array_equal(conv.kernel, given * np.sign(BOTH_SIGNS))
    assert_allclose(conv.scale, np.abs(BOTH_SIGNS), rtol=1e-6)


def test_two_in_a_row_become_one_with_the_name_of_the_second():
    first, second = affine(BOTH_SIGNS, "first"), affine(POSITIVE, "second", seed=1)
    tanh = _layers.Activation("tanh")
    model = row(tanh, first, _layers.Dropout(0.5), second, _layers.ReLU())
    assert affines(model) == ["second"]


def test_three_in_a_row_go_into_a_binary_convolution():
    rows = [affine(BOTH_SIGNS, f"affine{i}", seed=i) for i in range(3)]
    assert affines(row(binary_conv(), *rows)) == []


@pytest.mark.parametrize("name", POOLS)
def test_positive_gains_pass_pools(name):
    assert affines(row(scaled_conv(), POOLS[name](), affine(POSITIVE))) == []


@pytest.mark.parametrize("name", AVERAGES)
def test_negative_gains_pass_averages(name):
    assert affines(row(scaled_conv(), AVERAGES[name](), affine(BOTH_SIGNS))) == []


@pytest.mark.parametrize("name", MAXIMA)
def test_negative_gains_stay_after_maxima(name):
    model = row(scaled_conv(), MAXIMA[name](), affine(BOTH_SIGNS))
    assert affines(model) == ["affine"]


def test_several_pools_are_passed():
    pools = [pool() for pool in (*POOLS.values(),)[::2]]
    assert affines(row(scaled_conv(), *reversed(pools), affine(POSITIVE))) == []


def layer_before(model, name):
    return model.get_layer(name).inbound_nodes[-1].inbound_layers.name


@pytest.mark.parametrize(
    "conv",
    [
        lambda **name: _layers.Conv2D(32, 3, **name),
        lambda **name: _layers.DepthwiseConv2D(3, **name),
        lambda **name: binary_conv(kernel_quantizer=None, **name),
        lambda **name: binary_conv(activation="relu", **name),
    ],
)
def test_where_the_converter_merges_it_stands_right_after(conv):
    model = row(conv(name="conv"), _layers.MaxPooling2D(name="pool"), affine(POSITIVE))
    new = prepared(model)
    assert layer_before(new, "pool") == "affine"
    assert layer_before(new, "affine") == "conv"


@pytest.mark.parametrize(
    "conv",
    [
        lambda **name: _layers.Conv2D(32, 3, activation="relu", **name),
        lambda **name: binary_conv(activation="tanh", **name),
        lambda **name: binary_conv(activation="relu", pad_values=0.0, **name),
        lambda **name: binary_conv(
            activation="relu", use_bias=True, bias_initializer="ones", **name
        ),
        lambda **name: _layers.ReLU(**name),
    ],
)
def test_on_a_larger_map_it_would_be_work(conv):
    model = row(conv(name="conv"), _layers.MaxPooling2D(name="pool"), affine(POSITIVE))
    new = prepared(model)
    assert layer_before(new, "pool") == "conv"
    assert layer_before(new, "affine") == "pool"


def test_what_something_else_reads_too_stays_as_it_is():
    def build(pool):
        inputs = keras.Input((8, 8, 32))
        x = binary_conv()(inputs)
        y = _layers.MaxPooling2D()(x) if pool else x
        other = _layers.Activation("tanh")(y)
        return keras.Model(inputs, _layers.Add()([affine(POSITIVE)(y), other]))

    assert affines(build(pool=False)) == ["affine"]
    assert affines(build(pool=True)) == ["affine"]


def test_an_output_stays_as_it_is():
    inputs = keras.Input((8, 8, 32))
    x = binary_conv(name="conv")(inputs)
    model = keras.Model(inputs, [x, affine(POSITIVE)(x)])
    assert prepare(model).get_layer("conv").scale is None


def test_shared_layers_stay_as_they_are():
    conv = binary_conv(name="conv")
    assert affines(row(conv, affine(POSITIVE), conv)) == ["affine"]
    norm = affine(POSITIVE)
    assert affines(row(binary_conv(), norm, _layers.ReLU(), norm)) == ["affine"]


ONE = {"LceQuantize": 1, "LceBconv2d": 1}


@pytest.mark.convert
@pytest.mark.parametrize("name", ["average", "maximum"])
def test_after_a_pool_it_costs_nothing(name):
    found = operations(row(binary_conv(), POOLS[name](), affine(POSITIVE)))
    assert not {"MUL", "ADD"} & set(found)


@pytest.mark.convert
def test_a_relu_stays_part_of_its_convolution():
    rows = binary_conv(activation="relu"), _layers.MaxPooling2D(), affine(POSITIVE)
    assert operations(row(*rows)) == {**ONE, "MAX_POOL_2D": 1}
    rows = binary_conv(), _layers.ReLU(), affine(POSITIVE)
    assert operations(row(*rows)) == ONE


@pytest.mark.convert
def test_a_real_convolution_takes_it_too():
    conv = _layers.Conv2D(32, 3)
    rows = conv, _layers.MaxPooling2D(), affine(POSITIVE), binary_conv()
    assert operations(row(*rows)) == {"CONV_2D": 1, "LceBMaxPool2d": 1, **ONE}


@pytest.mark.convert
@pytest.mark.parametrize("gain", [BOTH_SIGNS, SOME_ZERO], ids=["turned", "zero"])
def test_between_binary_convolutions_there_are_bits(gain):
    rows = binary_conv(), affine(gain), binary_conv()
    assert operations(row(*rows)) == {"LceBconv2d": 2, "LceQuantize": 1}


@pytest.mark.convert
def test_a_pool_between_binary_convolutions_is_one_of_bits():
    rows = binary_conv(), _layers.MaxPooling2D(), affine(POSITIVE), binary_conv()
    found = operations(row(*rows))
    assert found == {"LceBconv2d": 2, "LceQuantize": 1, "LceBMaxPool2d": 1}
