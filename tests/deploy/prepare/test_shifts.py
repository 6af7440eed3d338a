"""Shifts that move to where they cost nothing: how many additions of constants stay."""

import larq_nobn as nobn
import numpy as np
import pytest
from deploy.nets import binary_conv, chain, head, images, scrambled
from larq_nobn._keras import keras
from larq_nobn.deploy.prepare._prepare import prepare
from larq_nobn.layers._channel_padding import ChannelPadding
from larq_nobn.layers._inference import BinaryConvolution, ShiftedSign
from numpy.testing import assert_allclose, assert_array_equal

layers = keras.layers
SHAPE = (8, 8, 32)


def additions(model):
    """How many layers of a prepared model add a constant of their own to a map."""
    signs = [getattr(layer, "input_quantizer", None) for layer in model.layers]
    found = 0
    for layer in (*model.layers, *signs):
        # The offset of a binary convolution is part of it.
        names = ("shift", "shift_in", "shift_out", "offset", "beta")
        if not isinstance(layer, BinaryConvolution):
            found += sum(getattr(layer, name, None) is not None for name in names)
    return found


def checked(model, tolerance=1e-5):
    """Prepares a model and returns the result, once both agree."""
    prepared, x = prepare(model), images(shape=tuple(model.input.shape[1:]))
    expected = np.asarray(model(x))
    scale = np.abs(expected).max()
    assert_allclose(prepared(x), expected, rtol=0, atol=tolerance * scale)
    return prepared


def rsign_conv(filters=32, size=3, **changes):
    return binary_conv(
        filters, size, input_quantizer=nobn.quantizers.RSign(), **changes
    )


def row(*layers):
    return chain(*layers, stem=False, shape=SHAPE)


def block(x):
    x = layers.Add()([rsign_conv()(x), x])
    return nobn.layers.RPReLU()(x)


def model_of(function, shape=SHAPE):
    inputs = keras.Input(shape)
    return scrambled(keras.Model(inputs, function(inputs)))


def test_an_identity_block_keeps_the_shift_of_its_sign():
    """Each block has four shifts: of the sign, the two of the ReLU, the next."""

    def network(x):
        return layers.Dense(5)(layers.GlobalAveragePooling2D()(block(block(x))))

    assert additions(checked(model_of(network))) == 2


def test_a_convolution_in_front_takes_the_first_shift_too():
    def network(x):
        x = block(layers.Conv2D(32, 3, padding="same")(x))
        return layers.Dense(5)(layers.GlobalAveragePooling2D()(x))

    assert additions(checked(model_of(network, (8, 8, 3)))) == 0


@pytest.mark.parametrize(
    "between",
    [
        [],
        [layers.AveragePooling2D()],
        [layers.AveragePooling2D(3, 1, "same")],
        [layers.MaxPooling2D()],
        [layers.MaxPooling2D(3, 2, "same")],
        [layers.UpSampling2D()],
        [layers.Cropping2D(1)],
        [layers.Reshape((4, 16, 32))],
        [layers.Activation("linear"), layers.Dropout(0.5)],
        [nobn.layers.ThresholdedLinearUnit("ones")],
        [nobn.layers.ChannelAffine()],
        [layers.BatchNormalization()],
        [layers.BatchNormalization(), layers.MaxPooling2D(), nobn.layers.SkipInit()],
    ],
    ids=lambda between: "-".join(type(layer).__name__ for layer in between),
)
def test_a_convolution_takes_the_shift_of_a_sign_after(between):
    model = checked(row(binary_conv(), *between, rsign_conv()))
    assert additions(model) == 0


@pytest.mark.parametrize(
    "front",
    [
        layers.Conv2D(32, 3),
        layers.Conv2D(32, 3, padding="same", use_bias=False),
        layers.DepthwiseConv2D(3, use_bias=False),
        layers.Dense(32, use_bias=False),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_real_kernels_give_any_shift(front):
    model = checked(chain(front, rsign_conv(), *head(), stem=False))
    assert additions(model) == 0


@pytest.mark.parametrize(
    "behind",
    [
        [layers.Conv2D(8, 3)],
        [layers.Conv2D(8, 3, strides=2, use_bias=False)],
        [layers.Conv2D(8, 1, padding="same")],
        [layers.Conv2D(8, 2, dilation_rate=2)],
        [layers.Conv2D(8, 3, groups=2)],
        [layers.DepthwiseConv2D(3, use_bias=False)],
        [layers.DepthwiseConv2D(3, depth_multiplier=2)],
        [layers.Dense(8)],
        [layers.Dense(8, use_bias=False)],
        [layers.Flatten(), layers.Dense(8)],
        [layers.GlobalMaxPooling2D(), layers.Dense(8, activation="relu")],
        [layers.BatchNormalization(), layers.Dense(8)],
    ],
    ids=lambda behind: "-".join(type(layer).__name__ for layer in behind),
)
def test_real_kernels_take_any_shift(behind):
    assert additions(checked(row(binary_conv(), nobn.layers.RPReLU(), *behind))) == 0


@pytest.mark.parametrize(
    "behind",
    [
        layers.Conv2D(8, 3, padding="same"),
        layers.SeparableConv2D(8, 3),
        layers.Conv2DTranspose(8, 3),
        layers.ReLU(),
        layers.PReLU(),
        layers.LayerNormalization(),
        layers.ZeroPadding2D(1),
        nobn.layers.FilterResponseNormalization(),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_shift_stays_where_nothing_can_take_it(behind):
    before = additions(checked(row(binary_conv(), behind)))
    model = row(binary_conv(), nobn.layers.RPReLU(), behind)
    assert additions(checked(model)) == before + 1


def test_the_output_of_the_model_is_what_it_was():
    assert additions(checked(chain(binary_conv(), nobn.layers.RPReLU()))) == 1


@pytest.mark.parametrize(
    "join",
    [
        lambda a, b: layers.Add()([a, b]),
        lambda a, b: layers.Average()([a, b]),
        lambda a, b: layers.Subtract()([a, b]),
        lambda a, b: layers.Concatenate()([a, b]),
        lambda a, b: a + b,
        lambda a, b: a - b,
        lambda a, b: layers.Add()([a, a, b]),
        lambda a, b: layers.Concatenate()([a, b, a]),
    ],
)
def test_shifts_pass_where_maps_meet(join):
    def network(x):
        x = join(nobn.layers.RPReLU()(x), nobn.layers.RPReLU()(binary_conv()(x)))
        return layers.Dense(5)(rsign_conv()(x))

    # Of five shifts those of the first ReLU's input and of the sign remain.
    assert additions(checked(model_of(network))) == 2


def test_a_sum_with_a_map_of_more_channels_takes_all_shifts():
    def network(x):
        more = layers.Dense(64)(nobn.layers.RPReLU()(binary_conv()(x)))
        x = layers.Add()([ChannelPadding(3, 29)(nobn.layers.RPReLU()(x)), more])
        return layers.Dense(5)(rsign_conv()(x))

    # That of the first ReLU's input remains: the dense layer makes the sum ready.
    assert additions(checked(model_of(network))) == 1


def test_what_is_cut_out_of_a_map_has_to_be_right():
    def network(x):
        x = nobn.layers.RPReLU()(binary_conv()(x))
        return layers.Dense(5)(rsign_conv()(x[..., :16]))

    assert additions(checked(model_of(network))) == 2


def test_two_signs_of_one_map_need_one_addition():
    def network(x):
        x = nobn.layers.RPReLU()(binary_conv()(x))
        return layers.Concatenate()([rsign_conv()(x), rsign_conv()(x)])

    # Three shifts want the map: the ReLU's own has it, each sign adds its rest.
    assert additions(checked(model_of(network))) == 2


def test_signs_without_a_shift_do_not_get_one():
    def network(x):
        x = nobn.layers.RPReLU()(binary_conv()(x))
        return layers.Concatenate()([binary_conv()(x), binary_conv()(x)])

    model = checked(model_of(network))
    assert additions(model) == 1
    signs = [getattr(layer, "input_quantizer", None) for layer in model.layers]
    assert not any(isinstance(sign, ShiftedSign) for sign in signs)


def test_group_norm_hands_on_its_beta():
    norm = layers.GroupNormalization(4)
    rows = [binary_conv(), norm, nobn.layers.RPReLU(), *head()]
    # Its beta and the ReLU's first shift are one addition, the last is none.
    assert additions(checked(chain(*rows))) == 1


def test_a_relu_that_lce_fuses_keeps_an_integer_in_front():
    relu = layers.ReLU()
    model = checked(chain(binary_conv(name="conv"), relu, rsign_conv(), *head()))
    assert model.get_layer("conv").offset is None
    assert additions(model) == 1


def test_an_activation_inside_a_convolution_stays_between():
    model = checked(chain(binary_conv(activation="tanh"), rsign_conv(), *head()))
    assert additions(model) == 1


@pytest.mark.parametrize("blocks", [1, 3])
def test_an_offset_after_a_rectified_convolution_costs_nothing(blocks):
    """Every one stays, as part of its convolution, and does what signs would."""

    def network(x):
        x = layers.Conv2D(32, 1)(x)
        for _ in range(blocks):
            y = layers.BatchNormalization()(rsign_conv(activation="relu")(x))
            x = layers.Add()([y, x])
        return layers.Dense(5)(layers.GlobalAveragePooling2D()(layers.ReLU()(x)))

    model = checked(model_of(network))
    assert additions(model) == blocks
    signs = [x.input_quantizer for x in model.layers if hasattr(x, "input_quantizer")]
    assert [getattr(sign, "shift", None) for sign in signs] == blocks * [None]


def test_one_whose_convolution_is_read_twice_stays_an_addition():
    def network(x):
        y = rsign_conv(activation="relu")(x)
        x = layers.Add()([layers.BatchNormalization(name="norm")(y), y])
        return layers.Dense(5)(layers.GlobalAveragePooling2D()(rsign_conv()(x)))

    model = checked(model_of(network))
    assert model.get_layer("norm").offset is None
    assert additions(model) == 2


def test_one_after_zero_padding_is_an_operation_like_any_other():
    def network(x):
        x = layers.Conv2D(32, 1)(x)
        y = rsign_conv(activation="relu", pad_values=0.0)(x)
        x = layers.Add()([layers.BatchNormalization(name="norm")(y), x])
        return layers.Dense(5)(layers.GlobalAveragePooling2D()(rsign_conv()(x)))

    model = checked(model_of(network))
    assert model.get_layer("norm").offset is None
    assert additions(model) == 1


def test_shared_layers_keep_their_weights():
    def network(x):
        shared = rsign_conv(name="shared")
        first = nobn.layers.RPReLU()(shared(x))
        return shared(first)

    model = model_of(network)
    prepared = checked(model)
    shift = model.get_layer("shared").input_quantizer.shift
    assert_array_equal(prepared.get_layer("shared").input_quantizer.shift, shift)
    assert additions(prepared) == 3


def test_a_convolution_without_bias_stays_so_if_nothing_needs_one():
    conv = layers.Conv2D(32, 3, use_bias=False, name="conv")
    model = checked(chain(conv, binary_conv(), *head()))
    assert not model.get_layer("conv").use_bias


def test_exact_zeros_of_a_gain_do_not_divide():
    affine = nobn.layers.ChannelAffine(name="affine")
    model = chain(binary_conv(), layers.ReLU(), affine, rsign_conv(), *head())
    affine.gamma.assign(np.arange(32) % 3)
    checked(model)


def test_shifts_far_larger_than_the_map_stay_exact():
    act = nobn.layers.RPReLU(name="act")
    model = chain(binary_conv(), act, binary_conv(), *head())
    act.shift_out.assign(np.full(32, 1e4))
    checked(model)
