"""Shifts that move to where they cost nothing: how many additions of constants stay."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
from deploy.nets import binary_conv, chain, head, scrambled
from deploy.operations.programs import LAYERS, SHAPE, additions, program_of, row
from larq_nobn._keras import keras
from larq_nobn.deploy.operations._kinds import Affine, Sign

layers = keras.layers
RPReLU = nobn.layers.RPReLU


def rsign_conv(filters=32, size=3, **changes):
    rsign = nobn.quantizers.RSign()
    return binary_conv(filters, size, input_quantizer=rsign, **changes)


def left(*parts, **options):
    """The additions that are left in a row of layers."""
    return additions(row(*parts, scramble=True, **options))


def model_of(function, shape=SHAPE):
    inputs = keras.Input(shape)
    return scrambled(keras.Model(inputs, function(inputs)))


def classified(x):
    return layers.Dense(5)(layers.GlobalAveragePooling2D()(x))


def block(x):
    return RPReLU()(layers.Add()([rsign_conv()(x), x]))


def test_an_identity_block_keeps_the_shift_of_its_sign():
    """Each block has four shifts: of the sign, the two of the ReLU, the next."""
    model = model_of(lambda x: classified(block(block(x))))
    assert additions(model) == 2
    stem = layers.Conv2D(32, 3, padding="same")  # which takes the first one too
    model = model_of(lambda x: classified(block(stem(x))), (8, 8, 3))
    assert additions(model) == 0


BETWEEN = ("", "norm maximum skip")


@pytest.mark.parametrize("between", BETWEEN)
def test_a_convolution_takes_the_shift_of_a_sign_after(between):
    assert left("binary", between, rsign_conv()) == 0


def test_real_kernels_give_any_shift():
    assert left("depthwise", rsign_conv(), *head()) == 0


TAKERS = ("strided", "flatten dense", "global-maximum dense")


@pytest.mark.parametrize("behind", TAKERS)
def test_real_kernels_take_any_shift(behind):
    assert left("binary rprelu", behind) == 0


STOPS = ("conv-same", "relu", "")


@pytest.mark.parametrize("behind", STOPS)
def test_a_shift_stays_where_nothing_can_take_it(behind):
    assert left("binary rprelu", behind) == left("binary", behind) + 1


@pytest.mark.parametrize(
    "join",
    [
        lambda a, b: layers.Average()([a, b]),
        lambda a, b: layers.Add()([a, b]),
        lambda a, b: layers.Concatenate()([a, b]),
    ],
)
def test_shifts_pass_where_maps_meet(join):
    def network(x):
        x = join(RPReLU()(x), RPReLU()(binary_conv()(x)))
        return layers.Dense(5)(rsign_conv()(x))

    # Of five shifts those of the first ReLU's input and of the sign remain.
    assert additions(model_of(network)) == 2


READ_BY = {
    # What is cut out of a map has to be right.
    "a part": (lambda x: layers.Dense(5)(rsign_conv()(x[..., :16])), 2),
    # Three shifts want the map: the ReLU's own has it, each sign adds its rest.
    "two signs": (
        lambda x: layers.Concatenate()([rsign_conv()(x), rsign_conv()(x)]),
        2,
    ),
    "two signs without a shift": (
        lambda x: layers.Concatenate()([binary_conv()(x), binary_conv()(x)]),
        1,
    ),
}


@pytest.mark.parametrize("name", READ_BY)
def test_what_reads_a_map_decides(name):
    reader, count = READ_BY[name]
    model = model_of(lambda x: reader(RPReLU()(binary_conv()(x))))
    assert additions(model) == count


def test_an_offset_after_a_rectified_convolution_costs_nothing():
    """Every one stays, as part of its convolution, and does what signs would."""

    def network(x):
        x = layers.Conv2D(32, 1)(x)
        for _ in range(2):
            y = layers.BatchNormalization()(rsign_conv(activation="relu")(x))
            x = layers.Add()([y, x])
        return classified(layers.ReLU()(x))

    nodes = program_of(model_of(network)).nodes
    signs = [node for node in nodes if isinstance(node, Sign)]
    assert not any(np.any(sign.shift) for sign in signs)
    assert sum(isinstance(node, Affine) for node in nodes) == len(signs) == 2


def test_shifts_far_larger_than_the_map_stay_exact():
    act = RPReLU(name="act")
    model = chain(binary_conv(), act, binary_conv(), *head())
    act.shift_out.assign(np.full(32, 1e4))
    program_of(model)


# --- Before gains that are 0, negative or tiny in some of the channels.
# What reads the map after the gain, and what it makes of it as a map again.
READERS = {
    **{word: LAYERS[word] for word in ("tanh", "prelu", "relu", "layer-norm")},
    "padded": lambda: layers.Conv2D(32, 3, padding="same"),
    "maximum": lambda: layers.MaxPooling2D(3, 1, padding="same"),
    "shifted sign": rsign_conv,
    "output": lambda: lambda x: x,
}
GAINS = np.resize([0, -1, 1e-3, 1, -1e-6, 1e-12, 0.5, -1e-20], 32)


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_of_the_map_gets_what_it_got(reader):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 3))
    y = layers.Conv2D(32, 1)(inputs)
    scale, shift = nobn.layers.ChannelAffine(), RPReLU()
    read = READERS[reader]()(scale(y))
    x = layers.Add()([read, shift(y)])
    outputs = [binary_conv(16)(x), *([read] if reader == "output" else [])]
    random = np.random.default_rng(0)
    for weight in (shift.shift_in, shift.shift_out):
        weight.assign(random.normal(size=32))
    scale.gamma.assign(GAINS)
    scale.beta.assign(random.normal(size=32))
    program_of(keras.Model(inputs, outputs))


def test_a_threshold_far_off_drowns_no_map_that_others_read():
    """A gain that training made tiny puts the threshold of its channel at a million."""
    keras.utils.set_random_seed(0)
    inputs, scale = keras.Input((6, 6, 3)), nobn.layers.ChannelAffine()
    y = layers.Conv2D(32, 1)(inputs)
    model = keras.Model(inputs, [binary_conv(16)(scale(y)), layers.Conv2D(8, 1)(y)])
    scale.gamma.assign(np.where(np.arange(32) % 8, 1, 1e-6))
    scale.beta.assign(np.ones(32))
    program_of(model)


def test_a_constant_channel_far_smaller_than_others_keeps_its_shift():
    start = keras.Input((2, 2, 8))
    signs, norm = lq.quantizers.SteSign()(start), layers.BatchNormalization()
    x = layers.Add()([binary_conv(8, 1, input_quantizer=None)(signs), signs])
    reader = binary_conv(8, 1, input_quantizer="ste_heaviside", padding="valid")
    model = keras.Model(start, reader(norm(x)))
    gamma, beta, mean, _ = (weight.numpy() for weight in norm.weights)
    gamma[0], beta[0], mean[1:] = 0.0, 1e-6, 100.0
    norm.set_weights([gamma, beta, mean, np.ones(8)])
    given = np.random.default_rng(0).normal(size=(4, 2, 2, 8)).astype(np.float32)
    program_of(model, given)
