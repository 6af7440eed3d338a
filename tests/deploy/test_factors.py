"""Positive factors: which vanish, which stay, and that the function stays."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import binary_conv, chain, head, images, scrambled
from larq_nobn._keras import keras
from larq_nobn.deploy._audit import audit_bytes
from larq_nobn.deploy._factors import absorb_factors
from larq_nobn.deploy._flatbuffer import input_spec, to_flatbuffer
from larq_nobn.deploy._prepare import RULES, _clone, prepare
from larq_nobn.deploy._verify import inference
from numpy.testing import assert_allclose, assert_array_equal

_layers, _nobn = keras.layers, nobn.layers
SHAPE = (8, 8, 32)


def factor(scale=0.25, offset=0.0, name="factor"):
    """Powers of two commute with rounding: no sign near 0 falls the other way."""
    return _layers.Rescaling(scale, offset, name=name)


def rsign_conv(**changes):
    arguments = {"use_bias": True, "kernel_quantizer": "magnitude_aware_sign"}
    return binary_conv(input_quantizer=nobn.quantizers.RSign(), **arguments, **changes)


def factors_left(model, x=None):
    """The scales that preparation leaves, once it is seen to keep the function."""
    prepared = prepare(model)
    x = images(shape=model.input_shape[1:]) if x is None else x
    expected = model(x, training=False).numpy()
    atol = 1e-5 * np.abs(expected).max()
    assert_allclose(prepared(x).numpy(), expected, rtol=0, atol=atol)
    return {
        layer.name: getattr(layer, "scale", None)
        for layer in prepared.layers
        if type(layer) is _layers.Rescaling
        or getattr(layer, "symbol", None) == "math.multiply"
    }


def operations(model):
    content = to_flatbuffer(inference(model), model.variables, input_spec(model))
    return audit_bytes(content, "net").ops


def as_written(model):
    """Prepared but for this pass, so that its factors are operations."""
    return _clone(model, RULES)


def network(build, shape=SHAPE):
    """A model of `build(map)`, pooled and classified."""
    inputs = keras.Input(shape)
    x = build(inputs)
    for layer in head():
        x = layer(x)
    return scrambled(keras.Model(inputs, x))


HOLDS = {
    "binary convolution": lambda: binary_conv(),
    "binary convolution of a shifted sign": rsign_conv,
    "convolution": lambda: _layers.Conv2D(8, 3, padding="same"),
    "rectified convolution": lambda: _layers.Conv2D(8, 3, activation="relu"),
    "binary kernel": lambda: lq.layers.QuantConv2D(
        8, 1, kernel_quantizer=nobn.quantizers.ScaledStdSign()
    ),
    "real kernel of signs": lambda: lq.layers.QuantConv2D(
        8, 3, padding="same", pad_values=1.0, input_quantizer=nobn.quantizers.RSign()
    ),
    "depthwise": lambda: _layers.DepthwiseConv2D(3, padding="same"),
    "dense": lambda: _layers.Dense(8),
    "batch norm": lambda: _layers.BatchNormalization(),
    "batch norm without center": lambda: _layers.BatchNormalization(center=False),
    "affine": lambda: _nobn.ChannelAffine(),
    "skip init": lambda: _nobn.SkipInit(),
    "rescaling": lambda: _layers.Rescaling([-1.0] * 32, 0.5, name="other"),
}
TAKES = {
    "shifted sign": lambda: nobn.quantizers.RSign(2.0),
    "sign": lambda: _layers.Activation(lq.quantizers.ApproxSign()),
    "sign of the package": lambda: nobn.quantizers.SignSwish(),
    "binary convolution with tanh": lambda: rsign_conv(activation="tanh"),
    "convolution with tanh": lambda: _layers.Conv2D(8, 3, activation="tanh"),
}
PASSES = {
    "rprelu": lambda: _nobn.RPReLU(),
    "threshold": lambda: _nobn.ThresholdedLinearUnit(),
    "relu": lambda: _layers.ReLU(),
    "activation": lambda: _layers.Activation("relu"),
    "leaky relu": lambda: _layers.LeakyReLU(0.25),
    "prelu": lambda: _layers.PReLU(),
    "average": lambda: _layers.AveragePooling2D(3, 2, padding="same"),
    "maximum": lambda: _layers.MaxPooling2D(3, 2, padding="same"),
    "padding": lambda: _layers.ZeroPadding2D(),
    "dropout": lambda: _layers.Dropout(0.5),
    "flat": lambda: _layers.Flatten(),
}
STOPS = {
    "tanh": lambda: _layers.Activation("tanh"),
    "bounded relu": lambda: _layers.ReLU(6.0),
    "shifted relu": lambda: _layers.ReLU(threshold=0.5),
    "padding with ones": lambda: lq.layers.QuantConv2D(
        8, 3, padding="same", pad_values=1.0
    ),
    "levels": lambda: lq.layers.QuantConv2D(8, 3, input_quantizer="dorefa_quantizer"),
    "layer norm": lambda: _layers.LayerNormalization(),
    "batch norm without a gain": lambda: _layers.BatchNormalization(scale=False),
    "sum with a number": lambda: lambda x: x + 1.0,
    "product": lambda: lambda x: _layers.Multiply()([x, x]),
}


def before_tanh(*rows):
    tanh = _layers.Activation("tanh", name="tanh")
    return chain(*rows, tanh, stem=False, shape=SHAPE)


@pytest.mark.parametrize("name", HOLDS)
def test_these_hold_a_factor_on_either_side(name):
    for rows in ((factor(), HOLDS[name]()), (HOLDS[name](), factor())):
        assert "factor" not in factors_left(before_tanh(*rows))


@pytest.mark.parametrize("name", TAKES)
def test_these_hold_a_factor_before_them_only(name):
    assert factors_left(before_tanh(factor(), TAKES[name]())) == {}
    assert factors_left(before_tanh(TAKES[name](), factor())) == {"factor": 0.25}


@pytest.mark.parametrize("name", PASSES)
def test_these_pass_a_factor_on(name):
    dense = _layers.Dense(5)
    model = chain(factor(), PASSES[name](), dense, stem=False, shape=SHAPE)
    assert factors_left(model) == {}


@pytest.mark.parametrize("name", STOPS)
def test_before_these_a_factor_stays(name):
    model = chain(factor(), STOPS[name](), *head(), stem=False, shape=SHAPE)
    assert factors_left(model) == {"factor": 0.25}
    assert prepare(model).get_layer("factor").offset == 0


@pytest.mark.parametrize(
    "given",
    [
        factor(0.0),
        factor(-0.5),
        factor([0.5] * 32),
        factor(0.5, 0.5),
        factor(float("inf")),
        factor(1e-13),
    ],
)
def test_what_is_no_positive_number_stays(given):
    model = chain(given, *head(), stem=False, shape=SHAPE)
    prepared = as_written(model)
    assert absorb_factors(prepared) is prepared


@pytest.mark.parametrize(
    "multiply",
    [
        lambda x: 0.25 * x,
        lambda x: x * 0.25,
        lambda x: tf.multiply(x, 0.25),
        lambda x: tf.multiply(x=0.25, y=x),
    ],
)
def test_products_written_as_such_count_too(multiply):
    assert factors_left(network(multiply)) == {}
    assert len(factors_left(network(lambda x: tf.tanh(multiply(x))))) == 1


@pytest.mark.parametrize("number", [-0.25, np.ones(32, np.float32)])
def test_other_products_written_as_such_stay(number):
    assert len(factors_left(network(lambda x: x * number))) == 1


def test_pixels_become_floats_all_the_same():
    inputs = keras.Input((8, 8, 3), dtype="uint8")
    x = _layers.Conv2D(8, 3)(factor(1 / 256)(inputs))
    model = scrambled(keras.Model(inputs, x))
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
    assert factors_left(model, pixels) == {"factor": 1 / 256}


def test_pixels_in_floats_are_left_as_they_are():
    conv = _layers.Conv2D(8, 3, padding="same")
    model = chain(factor(1 / 255), conv, stem=False, shape=(8, 8, 3))
    assert factors_left(model) == {}


def test_a_factor_of_the_output_stays():
    model = chain(factor(), _layers.ReLU(), stem=False, shape=SHAPE)
    assert factors_left(model) == {"factor": 0.25}


def test_of_several_factors_that_cannot_vanish_the_last_holds_all():
    rows = factor(0.5, name="first"), _layers.ReLU(), factor(0.25, name="last")
    assert factors_left(chain(*rows, stem=False, shape=SHAPE)) == {"last": 0.125}


def test_factors_do_not_leave_the_range_of_floats():
    rows = [factor(2.0**-30, name=f"factor{i}") for i in range(4)]
    rows[1:1] = [_nobn.RPReLU()]
    model = chain(*rows, rsign_conv(), *head(), stem=False, shape=SHAPE)
    left = factors_left(model)
    assert 0 < len(left) < 4


BRANCHES = {
    "binary convolution": lambda x: binary_conv()(x),
    "batch norm": lambda x: _layers.BatchNormalization()(binary_conv()(x)),
    "convolution": lambda x: _layers.Conv2D(32, 1)(x),
    "rprelu": lambda x: _nobn.RPReLU()(rsign_conv()(x)),
    "the same factor": lambda x: _layers.ReLU()(factor(name="same")(x)),
}
JOINS = {
    "sum": lambda *maps: _layers.Add()(maps),
    "difference": lambda *maps: _layers.Subtract()(maps),
    "maximum": lambda *maps: _layers.Maximum()(maps),
    "concatenation": lambda *maps: _layers.Concatenate()(maps),
    "sum as written": lambda first, second: first + second,
    "difference as written": lambda first, second: tf.subtract(first, second),
}


def joined(branch, join):
    def build(x):
        return _nobn.RPReLU()(join(branch(x), factor()(x)))

    return network(build)


@pytest.mark.parametrize("name", BRANCHES)
def test_these_branches_come_to_the_factor_of_the_shortcut(name):
    assert factors_left(joined(BRANCHES[name], JOINS["sum"])) == {}


@pytest.mark.parametrize("name", JOINS)
def test_at_these_joins_one_factor_passes(name):
    assert factors_left(joined(rsign_conv(), JOINS[name])) == {}


@pytest.mark.parametrize("scale", [2.0, 0.5])
def test_two_factors_that_meet_leave_one_multiplication(scale):
    def build(x):
        second = _layers.ReLU()(factor(scale, name="second")(x))
        return _layers.Add()([_layers.ReLU()(factor()(x)), second])

    assert factors_left(network(build)) == {"factor": 0.25 / scale}


def test_a_branch_without_weights_keeps_the_factor_of_the_other():
    def build(x):
        return _layers.Add()([_layers.ReLU()(x), factor()(x)])

    assert factors_left(network(build)) == {"factor": 0.25}


def test_a_convolution_that_ends_in_tanh_cannot_meet_a_factor():
    def build(x):
        return _layers.Add()([rsign_conv(activation="tanh")(x), factor()(x)])

    assert factors_left(network(build)) == {"factor": 0.25}


def test_a_convolution_may_be_read_by_signs_besides():
    def build(x):
        y = rsign_conv()(x)
        total = _layers.Add()([y, factor()(x)])
        return _layers.Concatenate()([total, rsign_conv()(y)])

    assert factors_left(network(build)) == {}


def test_a_convolution_that_is_read_as_it_is_cannot_meet_a_factor():
    def build(x):
        y = rsign_conv()(x)
        total = _layers.Add()([y, factor()(x)])
        return _layers.Concatenate()([total, _layers.Activation("tanh")(y)])

    assert factors_left(network(build)) == {"factor": 0.25}


@pytest.mark.parametrize(
    "layer",
    [_nobn.RPReLU(), _layers.Conv2D(32, 1), rsign_conv(), nobn.quantizers.RSign()],
)
def test_a_shared_layer_is_changed_once_and_for_all_its_uses(layer):
    def alike(x):
        y = factor()(x)
        return _layers.Concatenate()([layer(y), layer(_layers.ReLU()(y))])

    def apart(x):
        return _layers.Concatenate()([layer(x), layer(factor()(x))])

    assert factors_left(network(alike)) == {}
    assert factors_left(network(apart)) == {"factor": 0.25}


def test_a_shared_layer_without_weights_may_see_several_factors():
    pool = _layers.MaxPooling2D()

    def build(x):
        first, second = rsign_conv()(pool(x)), rsign_conv()(pool(factor()(x)))
        return _layers.Add()([first, second])

    assert factors_left(network(build)) == {}


def test_a_shared_factor_vanishes_everywhere_or_nowhere():
    def build(x, last):
        shared = factor()
        other = _layers.Activation(last)(shared(_layers.ReLU()(x)))
        return _layers.Concatenate()([rsign_conv()(shared(x)), other])

    assert factors_left(network(lambda x: build(x, "relu"))) == {}
    assert factors_left(network(lambda x: build(x, "tanh"))) == {"factor": 0.25}


def test_chains_of_products_written_as_such_vanish_together():
    assert factors_left(network(lambda x: 0.5 * (0.5 * factor()(x)))) == {}


def test_kernels_stay_signs_and_only_what_must_change_does():
    def build(x):
        return _layers.Add()([binary_conv(name="conv")(x), factor()(x)])

    model = network(build)
    before, after = as_written(model), prepare(model)
    first, second = (m.get_layer("conv") for m in (before, after))
    assert_array_equal(first.kernel, second.kernel)
    assert first.scale is None
    assert_array_equal(second.scale, np.full(32, 4.0))
    head_before, head_after = (m.get_layer("head") for m in (before, after))
    assert_array_equal(head_before.bias, head_after.bias)
    assert_array_equal(head_before.kernel * 0.25, head_after.kernel)


def test_the_given_model_keeps_its_factors_and_weights():
    model = chain(factor(), rsign_conv(), *head(), stem=False, shape=SHAPE)
    before = model.get_weights()
    prepare(model)
    assert model.get_layer("factor").scale == 0.25
    for old, new in zip(before, model.get_weights(), strict=True):
        assert_array_equal(old, new)


def test_a_model_without_factors_is_left_alone():
    prepared = as_written(chain(rsign_conv(), _nobn.RPReLU(), *head()))
    assert absorb_factors(prepared) is prepared


BRICKS = [
    lambda a, b, name: factor(2.0, name=name)(a),
    lambda a, b, name: factor(0.5, name=name)(a),
    lambda a, b, name: rsign_conv(name=name)(a),
    lambda a, b, name: _nobn.RPReLU(name=name)(a),
    lambda a, b, name: _layers.BatchNormalization(name=name)(a),
    lambda a, b, name: _layers.Conv2D(32, 1, name=name)(a),
    lambda a, b, name: _layers.MaxPooling2D(3, 1, padding="same", name=name)(a),
    lambda a, b, name: _layers.Add(name=name)([a, b]),
    lambda a, b, name: _layers.Maximum(name=name)([a, b]),
    lambda a, b, name: _layers.Activation("tanh", name=name)(a),
]


@pytest.mark.parametrize("seed", range(6))
def test_random_networks_keep_their_function(seed):
    random = np.random.default_rng(seed)

    def build(x):
        maps = [x]
        for index in range(25):
            first, second = (maps[-min(len(maps), d)] for d in random.integers(1, 5, 2))
            maps.append(random.choice(BRICKS)(first, second, f"brick{index}"))
        return maps[-1]

    model = network(build)
    written = sum(type(x) is _layers.Rescaling for x in as_written(model).layers)
    assert len(factors_left(model)) <= written


@pytest.mark.convert
def test_a_rectifier_stays_part_of_its_convolution():
    def build(x):
        return _layers.Add()([_layers.ReLU()(binary_conv()(x)), factor()(x)])

    model = network(build)
    assert factors_left(model) == {"factor": 0.25}
    assert operations(prepare(model)) == operations(as_written(model))


def reactnet_a(scaled):
    """Two blocks, of stride 2 and twice as wide, behind a stem and before a head."""
    inputs = keras.Input((16, 16, 3))
    x = _layers.Conv2D(32, 3, padding="same", name="stem")(inputs)
    for i, beta in enumerate((0.96, 0.93)):
        channels = x.shape[-1]
        sign, kernel = nobn.quantizers.RSign, nobn.quantizers.ScaledStdSign
        conv = binary_conv(
            channels,
            strides=2,
            input_quantizer=sign(beta),
            kernel_quantizer=kernel(scale=0.2),
        )
        shortcut = _layers.AveragePooling2D()(
            factor(beta, name=f"beta{i}")(x) if scaled else x
        )
        h = _nobn.RPReLU()(_layers.Add()([conv(x), shortcut]))
        t = sign(0.95)(h)
        halves = [
            _layers.Add()([half(t), h])
            for half in (
                binary_conv(channels, 1, input_quantizer=None, kernel_quantizer=k)
                for k in (kernel(scale=0.2), kernel(scale=0.2))
            )
        ]
        x = _nobn.RPReLU()(_layers.Concatenate()(halves))
    for layer in head():
        x = layer(x)
    return scrambled(keras.Model(inputs, x))


@pytest.mark.convert
def test_scaled_shortcuts_cost_nothing(tmp_path):
    model = reactnet_a(scaled=True)
    assert operations(as_written(model))["MUL"] == 2
    x = images(16, (16, 16, 3))
    report = nobn.convert(model, tmp_path / "model.tflite", data=x)
    counts = {op["op"]: op["count"] for op in report.float_ops}
    assert "MUL" not in counts
    assert operations(prepare(model)) == operations(prepare(reactnet_a(scaled=False)))
    assert report.lce_bconv2d == 6
    assert report.verify["unexplained"] == 0
    assert report.verify["prepared"]["unexplained"] == 0
