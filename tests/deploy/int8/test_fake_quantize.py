"""fake_quantize: where ranges go, which are shared, and what else stays as it was."""

import re
from functools import cache

import larq_nobn as nobn
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import binary_conv, chain, images, scrambled
from larq_nobn._keras import keras
from larq_nobn.deploy import ConversionError, fake_quantize
from larq_nobn.deploy.lite._converter import io_spec
from larq_nobn.deploy.operations import stages_of
from larq_nobn.deploy.operations._kinds import Range
from larq_nobn.deploy.trace._operation_names import layer_name
from larq_nobn.deploy.trace._trace import Trace
from larq_nobn.layers import FakeQuantization
from numpy.testing import assert_allclose, assert_array_equal

X = images(16)


def ranges(model):
    return {x.name for x in model.layers if isinstance(x, FakeQuantization)}


def ranged(model, data=X):
    """A model with ranges, without the comparison that tests make themselves."""
    return fake_quantize(model, data, verify=False)


def without_rounding(model, x):
    """What a model computes without ranges, which it has again in the end."""
    layers = [y for y in model.layers if isinstance(y, FakeQuantization)]
    kept = [(float(layer.minimum), float(layer.maximum)) for layer in layers]
    for layer in layers:
        layer.set_range(0.0, 0.0)
    actual = model(x)
    for layer, extremes in zip(layers, kept, strict=True):
        layer.set_range(*extremes)
    return actual


@cache
def reactnet():
    model = nobn.models.ReActNet18((8, 8, 3), 5, width=8, blocks=(2, 1), name="net")
    return scrambled(model)


@cache
def quantized_reactnet():
    return fake_quantize(reactnet(), X)


@pytest.fixture
def quantized():
    return quantized_reactnet()


def operators(x):
    """Sums and products as Python writes them."""
    x = keras.layers.Conv2D(32, 3, padding="same")(x)
    x = x + 0.5 * binary_conv(32)(x)
    return x - tf.nn.relu(x)


def small():
    rows = [keras.layers.ReLU(), nobn.layers.ChannelAffine(), operators]
    shifted = nobn.quantizers.RSign(2.0), binary_conv(input_quantizer=None)
    return chain(*rows, *shifted, keras.layers.BatchNormalization())


def sequential():
    rows = [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)]
    return scrambled(keras.Sequential(rows))


@pytest.mark.parametrize("build", [reactnet, sequential, small])
def test_without_rounding_it_is_the_same_function(build):
    model = build()
    quantized = quantized_reactnet() if build is reactnet else fake_quantize(model, X)
    assert_allclose(without_rounding(quantized, X), model(X), rtol=1e-4, atol=1e-5)
    assert quantized.input_names == model.input_names
    assert quantized.name == model.name


def test_the_given_model_stays_and_the_copy_trains():
    model = scrambled(nobn.models.ReActNet18((8, 8, 3), 5, width=8, blocks=(2,)))
    before = model.get_weights()
    quantized = ranged(model)
    # One shift has joined another.
    assert len(quantized.trainable_weights) == len(model.trainable_weights) - 1
    start = [w.numpy() for w in quantized.trainable_weights]
    quantized.compile("adam", "mse", run_eagerly=True)
    quantized.train_on_batch(X, np.zeros((16, 5)))
    for old, new in zip(start, quantized.trainable_weights, strict=True):
        assert not np.array_equal(old, new), new.name
    for old, new in zip(before, model.get_weights(), strict=True):
        assert_array_equal(old, new)


def test_what_is_computed_at_once_has_one_range():
    model = chain(
        binary_conv(name="first"),
        keras.layers.BatchNormalization(name="norm"),
        keras.layers.Dropout(0.5, name="drop"),
        keras.layers.Conv2D(8, 3, name="real"),
        keras.layers.ReLU(name="relu"),
        keras.layers.MaxPooling2D(name="most"),
        keras.layers.Flatten(name="flat"),
        keras.layers.Dense(4, activation="softmax", name="head"),
    )
    expected = {"input", "stem", "norm", "relu", "head"}  # before the softmax
    names = {f"{name}_range" for name in expected}
    actual = ranges(ranged(model))
    assert {n if not n.startswith("input") else "input_range" for n in actual} == names


def test_a_concatenation_and_a_pool_share_the_range_of_their_inputs():
    inputs = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Conv2D(4, 3, name="small")(inputs)
    y = keras.layers.Conv2D(4, 3, name="large")(inputs)
    z = keras.layers.Concatenate(name="both")([x, y])
    z = keras.layers.AveragePooling2D(name="pool")(z)
    model = keras.Model(inputs, keras.layers.Conv2D(4, 1, name="last")(z))
    model.get_layer("large").kernel.assign(10 * model.get_layer("large").kernel.numpy())
    quantized = ranged(model)
    assert ranges(quantized) == {"image_range", "small_range", "last_range"}
    shared = quantized.get_layer("small_range")
    assert len(shared.inbound_nodes) >= 3
    assert_allclose(
        shared.maximum,
        keras.Model(inputs, y)(X).numpy().max(),
        rtol=0.05,
    )


def quicknet():
    model = nobn.models.QuickNet((8, 8, 3), 5, width=8, blocks=(1, 1), name="quick")
    return scrambled(model)


def several():
    """A map of three readers, a concatenation, outputs, and one layer used twice."""
    inputs = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Conv2D(4, 3, padding="same", name="stem")(inputs)
    twice = keras.layers.Conv2D(4, 3, padding="same", activation="tanh", name="twice")
    y = keras.layers.BatchNormalization(name="norm")(twice(x))
    both = keras.layers.Concatenate(name="both")([x, y])
    pool = keras.layers.MaxPooling2D(name="pool")(both)
    z = keras.layers.Add(name="sum")([x, keras.layers.ReLU(name="relu")(twice(y))])
    line = keras.layers.Conv1D(5, 3, name="line")(keras.layers.Reshape((-1, 8))(pool))
    line = keras.layers.BatchNormalization(name="last")(line)
    return scrambled(keras.Model(inputs, [both, line, z]))


def placed(model, batches=None):
    """The maps in a program that have a range, by the layers that make them."""
    program = stages_of(Trace(model, io_spec(model)), "lce", True, batches).merged
    found = {}
    for node in program.nodes:
        if isinstance(node, Range):
            maker = program.maker(node.x)
            name = "input" if maker is None else layer_name(maker.name)
            layer = re.sub("_(shift|activation).*", "", name)
            found.setdefault(layer, []).append((node.low, node.high))
    return found


@pytest.mark.parametrize("build", [reactnet, quicknet, several])
def test_a_program_has_the_same_ranges_at_the_same_maps(build):
    model = build()
    quantized = quantized_reactnet() if build is reactnet else ranged(model)
    actual, expected = placed(quantized), placed(model, [[X]])
    if build is reactnet:
        # In a program these shifts are part of convolutions and of the dense layer.
        for act in ("stage1_block2_act", "stage2_block1_act"):
            assert len(actual[act]) == 2 and len(expected[act]) == 1
            del actual[act][1]
        del actual["pool"], actual["stage2_block1_shortcut_pool"]
        del expected["pool"], expected["stage2_block1_shortcut_pool"]
    assert actual.keys() == expected.keys()
    for name, ends in expected.items():
        assert_allclose(sorted(actual[name]), sorted(ends), atol=1e-5, err_msg=name)


@cache
def plain():
    return chain(name="m")


def test_ranges_leave_out_the_outermost_values_and_are_averages_of_batches():
    x, batch = images(64), 32
    x[0, 0, 0, 0] *= 1e3
    model = chain(binary_conv())
    stem = keras.Model(model.inputs, model.get_layer("stem").output)
    quantized = ranged(model, (x, np.zeros(64)))
    for name, values, outside in (
        ("stem_range", stem(x).numpy(), 6),  # of 32 x 8 x 8 x 32 values
        (f"{model.input_names[0]}_range", x, 0),
    ):
        layer = quantized.get_layer(name)
        actual = [layer.minimum.numpy(), layer.maximum.numpy()]
        batches = np.sort(values.reshape(len(x) // batch, -1))
        ends = batches[:, [outside, -1 - outside]].mean(0)
        assert_allclose(actual, ends, rtol=1e-5)


def test_the_shift_after_an_rprelu_goes_where_all_readers_have_one(quantized):
    names = [layer.name for layer in quantized.layers]
    assert "stage1_block1_act_shift_out" not in names
    # A pool and the sign of the next stage read this one, the head the other.
    assert "stage1_block2_act_shift_out" in names
    assert "stage2_block1_act_shift_out" in names


@pytest.mark.parametrize(
    "build, data, message",
    [
        (lambda: "model.keras", X, "'model.keras' is not a Keras model"),
        (
            lambda: chain(FakeQuantization(), name="m"),
            X,
            "'m' contains FakeQuantization layers",
        ),
        (
            plain,
            np.full_like(X, np.inf),
            "not finite in layer 'input'",
        ),
    ],
)
def test_what_it_cannot_take_is_rejected(build, data, message):
    with pytest.raises(ConversionError, match=message):
        fake_quantize(build(), data)


def test_a_model_that_only_hands_on_its_input_is_rejected():
    inputs = keras.Input((4, 4, 3))
    for outputs in (inputs, [inputs, inputs]):
        with pytest.raises(ConversionError, match="computes no real numbers"):
            ranged(keras.Model(inputs, outputs, name="m"), images(2, (4, 4, 3)))


def test_masks_reach_the_layers_after_ranges():
    inputs = keras.Input((6, 4))
    x = keras.layers.Dense(8)(keras.layers.Masking()(inputs))
    x = nobn.layers.RPReLU()(nobn.quantizers.RSign()(x))
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling1D()(x))
    data = images(16, (6, 4))
    data[:, 3:] = 0
    quantized = ranged(model, data)
    assert_allclose(without_rounding(quantized, data), model(data), atol=1e-5)
