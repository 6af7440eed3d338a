"""Signs and jumps of what is exactly 0: alike given, prepared and in the file."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import binary_conv, images
from deploy.prepare.preparing import check_together, equal, file_of
from larq_nobn._keras import keras
from larq_nobn.deploy import VerificationError
from larq_nobn.deploy.lite._converter import Runner
from larq_nobn.deploy.prepare._prepare import prepare
from larq_nobn.graph._graph import calls
from larq_nobn.graph._segments import sign_in
from larq_nobn.quantizers import RSign
from numpy.testing import assert_array_equal
from tie_networks import (
    GAINS,
    JUMPS,
    MEANS,
    REAL,
    SHAPE,
    WHOLE,
    conv,
    network,
    norm,
    sign,
)

layers = keras.layers
X = images(4, SHAPE)


def check_ties(networks, tolerance=0.0, share=0.01):
    """Checks networks, each with what it is before the sign, in one file."""
    for name, (_, before) in networks.items():
        assert np.mean(before(X).numpy() == 0) > share, name
    models = {name: model for name, (model, _) in networks.items()}
    return check_together(models, X, tolerance)


def binary_layers_of(networks):
    found = [layer for model, _ in networks.values() for layer in model.layers]
    return sum(bool(getattr(layer, "kernel_quantizer", None)) for layer in found)


def rescaled(x):
    """Whole numbers times 0.7, rectified."""
    return norm(0.7, 0.0, 1e-3, "first")(layers.ReLU()(binary_conv(16)(x)))


# What tie_networks has, and what is a number of its own here.
CASES = {
    **{kind: (part, {}) for kind, part in WHOLE.items()},
    **{kind: (part, {"means": mean}) for kind, (mean, part) in REAL.items()},
    "without an epsilon": (WHOLE["rectified"], {"epsilon": 0.0}),
    "maximum without an epsilon": (WHOLE["maximum"], {"epsilon": 0.0}),
    "rescaled": (rescaled, {"means": MEANS * 0.7 / np.sqrt(1.001), "epsilon": 0.0}),
    "some gains are 0": (WHOLE["rectified"], {"gains": GAINS * (np.arange(16) % 5)}),
    "few channels": (lambda x: layers.ReLU()(binary_conv(16, 1)(x[..., :5])), {}),
}


@pytest.mark.convert
def test_prepared_models_and_files_give_the_signs_of_the_given_model():
    nets = {kind: network(part, **options) for kind, (part, options) in CASES.items()}
    assert check_ties(nets).ops["LceBconv2d"] == binary_layers_of(nets)


# What reads a map as it is, beside signs of its values.
OTHERS = {
    "an output": lambda x: [conv(1)(x), x],
    "a sum": lambda x: [layers.Add()([conv(1)(x), x])],
    "a function": lambda x: [sign()(x), layers.Activation("tanh")(x)],
    "a pool": lambda x: [conv(1)(layers.MaxPooling2D()(x)), x],
    "groups": lambda x: [conv(1, groups=2)(x), x],
    "groups alone": lambda x: [conv(1, groups=2)(x)],
    "two signs": lambda x: [conv(1)(x), conv(1, input_quantizer="approx_sign")(x), x],
    "other channels": lambda x: [conv(1)(joined(x)), x],
}


def joined(x):
    return layers.Concatenate()([layers.Conv2D(3, 1)(x), x, layers.Conv2D(1, 1)(x)])


def in_steps(x):
    step = layers.Activation("ste_heaviside")(x)
    return layers.GlobalAveragePooling2D()(step)


@pytest.mark.convert
def test_signs_beside_another_reader():
    """It needs the bias: of sums that should be 0 that makes rounding."""
    pairs = [("zero padded", other) for other in OTHERS]
    pairs += [("average", "an output"), ("average", "groups")]
    pairs += [("dense", "a function"), ("dense", "two signs")]
    nets = {f"{k}, {o}": network(WHOLE[k], last=OTHERS[o]) for k, o in pairs}
    for kind in ("rectified", "average"):
        nets[f"{kind}, a step"] = network(WHOLE[kind], last=in_steps)
    check_ties(nets, tolerance=1e-4)


@pytest.mark.convert
def test_signs_of_scaled_sums_beside_zeros_and_another_reader():
    """LCE takes a border of zeros from sums that have their scale, which rounds."""

    def net(other, kernel):
        keras.utils.set_random_seed(0)
        start = keras.Input(SHAPE)
        first = binary_conv(16, pad_values=0.0, kernel_quantizer=kernel)(start)
        return keras.Model(start, OTHERS[other](first)[0]), keras.Model(start, first)

    others = ("an output", "a function", "a pool", "groups")
    scaled = {other: net(other, "magnitude_aware_sign")[0] for other in others}
    whole = {other: net(other, "ste_sign") for other in others}
    assert np.mean(whole["groups"][1](X).numpy() == 0) > 0.01
    check_together(scaled, X, wanted={name: m(X) for name, (m, _) in whole.items()})


# What is made of a map and of a branch that reads it, before signs.
SUMMED = {
    "sum": lambda x, y: layers.Add()([y, x]),
    "operator": lambda x, y: x + y,
    "difference": lambda x, y: layers.Subtract()([x, y]),
    "largest": lambda x, y: layers.MaxPooling2D()(layers.Add()([y, x])),
    "two in a row": lambda x, y: layers.Add()([layers.Add()([x, y]), y]),
    "negative": lambda x, y: norm(GAINS, 0.0, 1e-3, "negative")(y - x),
}


@pytest.mark.convert
def test_signs_of_sums_with_a_branch_beside_zeros():
    """Where both are 0, so is the sum: not of what LCE takes borders of zeros from."""

    def branch(x, name):
        gain = np.linspace(0.3, 1.7, 16)
        return norm(gain, 0.0, 1e-3, name)(binary_conv(16, pad_values=0.0)(x))

    nets = {}
    for kind, joining in SUMMED.items():
        keras.utils.set_random_seed(0)
        start = keras.Input(SHAPE)
        x = branch(start, "first")
        total = joining(x, branch(x, "second"))
        ends = [conv(1)(total), total]
        nets[kind] = keras.Model(start, ends), keras.Model(start, total)
    check_ties(nets, tolerance=1e-5, share=0.003)


def mean(x):
    return layers.AveragePooling2D()(x)


# A sign, and what needs scale and bias of the map beside it.
BESIDE = {
    "a real kernel": lambda sign, x: (sign(x), layers.Conv2D(8, 1)(x)),
    "an average": lambda sign, x: (sign(mean(x)), layers.Conv2D(8, 1)(mean(x))),
}


@pytest.mark.parametrize(
    "kind, offset", [("a real kernel", None), ("an average", -0.5)]
)
def test_a_bias_that_stays_is_part_of_the_steps(kind, offset):
    """The signs are of whole numbers plus a bias that is none, of any size."""
    start, mean_of_channel = keras.Input(SHAPE), np.arange(16) + np.linspace(0, 1, 16)
    x = norm(0.25, mean_of_channel, 1e-3, "norm")(conv(1, activation="relu")(start))
    sign = conv(1) if offset is None else conv(1, input_quantizer=RSign(offset=offset))
    model = keras.Model(start, BESIDE[kind](sign, x))
    equal(prepare(model), model, images(8, SHAPE), 1e-5)


def test_what_is_close_to_a_sum_needs_no_shift():
    """Only of sums that are exactly 0 it matters what rounding makes of them."""
    for away, wanted in ((0.0, 1), (1e-3, 0)):
        model, _ = network(
            WHOLE["convolution"], means=MEANS + away, last=OTHERS["an output"]
        )
        signs = map(sign_in, calls(prepare(model)))
        shifts = [s for s in signs if getattr(s, "shift", None) is not None]
        assert len(shifts) == wanted


@pytest.mark.parametrize("rows", [6, 16])
def test_a_batch_norm_over_rows_is_not_one_over_channels(rows):
    """Its gains are not steps of channels, as many as there may be of both."""
    keras.utils.set_random_seed(0)
    start = keras.Input((rows, 5, 16))
    gains = np.linspace(0.5, 2.0, rows).astype(np.float32)
    over_rows = layers.BatchNormalization(axis=1, epsilon=0.0, center=False)
    x = norm(0.7, 1.05 * np.resize(gains, 16), 0.0, "norm")(over_rows(sign()(start)))
    model = keras.Model(start, conv(1)(x))
    over_rows.set_weights([gains, np.zeros(rows), np.ones(rows)])
    x = images(4, (rows, 5, 16))
    assert_array_equal(prepare(model)(x), model(x))


def bordered(quantizer, kernel, pad, gain):
    """A map that is padded with what LCE does not pad with, and read by a sign."""
    start = keras.Input((6, 6, 4))
    options = {"input_quantizer": quantizer, "kernel_quantizer": kernel}
    x = binary_conv(16, pad_values=pad, name="first", **options)(start)
    if gain is not None:
        x = norm(gain, 0.0, 1e-3, "norm")(x)
    x = layers.GlobalAveragePooling2D()(binary_conv(8)(x))
    return keras.Model(start, x)


@pytest.mark.convert
def test_sums_beside_a_border_have_no_scale_before_a_sign():
    models, wanted, x = {}, {}, images(4, (6, 6, 4))
    for quantizer, pad in (
        ("ste_heaviside", 1.0),
        ("ste_sign", -1.0),
        ("ste_sign", 0.5),
    ):
        for kernel, gain in (
            ("magnitude_aware_sign", 0.7),
            ("scaled_std_sign", None),
            ("scaled_std_sign", -0.7),
        ):
            name = f"{quantizer}, {pad}, {kernel}, {gain}"
            models[name] = given = bordered(quantizer, kernel, pad, gain)
            # In steps of the scale, Keras' own sums are noise where they should be 0.
            whole = bordered(quantizer, "ste_sign", pad, gain)
            for layer, other in zip(whole.layers, given.layers, strict=True):
                if hasattr(layer, "kernel"):
                    with lq.context.quantized_scope(True):
                        layer.kernel.assign(tf.sign(other.kernel))
                else:
                    layer.set_weights(other.get_weights())
            sums = keras.Model(whole.inputs, whole.get_layer("first").output)(x)
            assert np.mean(sums.numpy() == 0) > 0.01
            wanted[name] = whole(x)
    audit = check_together(models, x, 1e-4, wanted)
    assert audit.ops["LceBconv2d"] == 2 * len(models)


@pytest.mark.convert
@pytest.mark.parametrize("kind, pad", [("gate", -1.0), ("tanh", 0.5), ("groups", 0.5)])
def test_sums_beside_a_border_are_0_whatever_reads_them(kind, pad):
    """What reads them takes no scale: they are whole numbers all the same."""
    keras.utils.set_random_seed(0)
    start = keras.Input((6, 6, 4))
    x = binary_conv(16, pad_values=pad, kernel_quantizer="magnitude_aware_sign")(start)
    if kind == "gate":
        gate = layers.Dense(16, "sigmoid")(layers.GlobalAveragePooling2D()(x))
        x = layers.Multiply()([x, layers.Reshape((1, 1, 16))(gate)])
    if kind == "tanh":
        x = layers.Activation("tanh")(x)
    before = keras.Model(start, x)
    x = binary_conv(8, groups=2 if kind == "groups" else 1)(x)
    model = keras.Model(start, [x, before.output])
    x, new = images(4, (6, 6, 4)), prepare(model)
    signs, sums = new(x)
    assert np.mean(sums.numpy() == 0) > 0.01
    np.testing.assert_allclose(sums, before(x), atol=1e-5)
    file = Runner(file_of(new)).outputs([x])
    assert_array_equal(file[1] == 0, sums.numpy() == 0)
    np.testing.assert_allclose(file[0], signs, rtol=1e-5)


# --- Functions that jump at 0.


@pytest.mark.convert
def test_what_is_exactly_0_is_0_before_a_function():
    """Compares models, prepared ones and a file with what float64 gives."""
    kinds = ("convolution", "rectified", "maximum", "average", "dense", "joined")
    pairs = [("zero padded", step) for step in JUMPS]
    pairs += [(kind, "sign") for kind in kinds]
    nets, wanted = {}, {}
    for kind, step in pairs:
        name, (function, exact) = f"{kind}, {step}", JUMPS[step]
        nets[name] = model, _ = network(WHOLE[kind], last=function)
        whole = keras.Model(model.inputs, model.get_layer("norm").input)(X).numpy()
        assert_array_equal(whole * 4, np.round(whole * 4))  # of an average too
        known = (whole.astype(float) - MEANS) * GAINS
        assert np.mean(known == 0) > 0.01
        wanted[name] = exact(known)
        assert_array_equal(model(X), wanted[name], err_msg=name)
    models = {name: model for name, (model, _) in nets.items()}
    audit = check_together(models, X, wanted=wanted)
    assert audit.ops["LceBconv2d"] == binary_layers_of(nets)


BETWEEN = {
    "maximum": layers.MaxPooling2D(),
    "functions": lambda x: 2.0 * -x,
    "rectified": lambda x: layers.ReLU()(x),
    "two readers": lambda x: layers.Concatenate()([x, -x]),
    "shape": layers.Reshape((36, 16)),
}


@pytest.mark.convert
def test_with_layers_between():
    models = {}
    for kind, middle in BETWEEN.items():
        part = WHOLE["convolution" if kind == "shape" else "zero padded"]
        models[kind], _ = network(part, last=lambda x, f=middle: tf.sign(f(x)))
    start = keras.Input(SHAPE)
    gain = GAINS.astype(np.float32) / np.float32(3)
    affine = nobn.layers.ChannelAffine()
    ends = tf.sign(affine(WHOLE["zero padded"](start)))
    models["scale and bias"] = keras.Model(start, ends)
    affine.set_weights([gain, -gain * MEANS.astype(np.float32)])
    assert all(np.mean(model(X).numpy() == 0) > 0.01 for model in models.values())
    check_together(models, X)


@pytest.mark.convert
@pytest.mark.parametrize("away", [2.0**-22, -(2.0**-22)])
def test_what_is_close_to_0_is_as_close(away, tmp_path):
    # Where moving averages of a constant sum end: the next number to it.
    means = np.full(16, 3 + away)
    model, _ = network(WHOLE["zero padded"], means=means, last=tf.sign)
    whole = keras.Model(model.inputs, model.get_layer("norm").input)(X).numpy()
    assert np.any(whole == 3)
    wanted = np.sign((whole.astype(float) - means) * GAINS)
    report = nobn.convert(model, tmp_path / "net.tflite", data=X)
    assert_array_equal(model(X), wanted)
    assert_array_equal(Runner((tmp_path / "net.tflite").read_bytes())(X), wanted)
    assert report.verify["exact_share"] == 1


@pytest.mark.convert
def test_where_rounding_makes_it_another_number_it_is_said(tmp_path):
    """Of 3 less the mean, times the gain, the bias is not quite the opposite."""
    model, _ = network(WHOLE["convolution"], means=0.1, gains=1.0, last=tf.sign)
    gains = np.linspace(0.5, 0.9, 16).astype(np.float32)
    bias = -(3 - 0.1) * gains.astype(float) / np.sqrt(1.001)
    model.get_layer("norm").set_weights([gains, bias, np.full(16, 0.1), np.ones(16)])
    whole = keras.Model(model.inputs, model.get_layer("norm").input)(X).numpy()
    assert np.any((whole == 3) & (model(X).numpy() != 0))
    report = nobn.convert(model, tmp_path / "net.tflite", data=X)
    assert report.verify["prepared"]["exact_share"] < 1
    assert "tf.math.sign" in report.verify["prepared"]["ties"][0]["layer"]
    found = Runner((tmp_path / "net.tflite").read_bytes())(X)
    assert_array_equal(found, np.where(whole == 3, 0, model(X)))


@pytest.mark.convert
def test_a_function_inside_of_an_activation_is_read(tmp_path):
    model, _ = network(WHOLE["zero padded"], last=layers.Activation(tf.sign))
    report = nobn.convert(model, tmp_path / "net.tflite", data=X)
    assert report.verify["exact_share"] == 1


@pytest.mark.convert
def test_sums_of_few_bits_are_rejected_and_the_remedy_converts(tmp_path):
    """LCE's converter puts the 1/7 of DoReFa into the kernel of a float layer."""

    def net(**options):
        keras.utils.set_random_seed(0)
        start = keras.Input((4, 4, 16))
        few = lq.layers.QuantDense(
            32,
            use_bias=False,
            input_quantizer=lq.quantizers.DoReFa(3),
            kernel_quantizer="ste_sign",
        )
        x = layers.MaxPooling2D()(binary_conv(16)(start))
        x = binary_conv(8, **options)(few(x))
        return keras.Model(start, layers.GlobalAveragePooling2D()(x))

    path, x = tmp_path / "net.tflite", images(6, (4, 4, 16))
    with pytest.raises(VerificationError, match="exactly 0, .* Give that sign a shift"):
        nobn.convert(net(), path, data=x, allow_float=True)
    shift = nobn.quantizers.RSign(offset=0.05)
    report = nobn.convert(net(input_quantizer=shift), path, data=x, allow_float=True)
    assert report.verify["unexplained"] == 0 and report.lce_bconv2d == 2


def apart(last):
    """How many layers keep what jumps apart, in a model that ends so."""
    start = keras.Input((4, 4, 8))
    x = norm(0.7, 0.0, 1e-3, "norm")(binary_conv(8)(start))
    new = prepare(keras.Model(start, tf.sign(last(x))))
    return [type(layer).__name__ for layer in new.layers].count("AffineApart")


def test_what_jumps_is_found_in_a_web_of_sums_and_the_rest_costs_nothing():
    def web(x):
        for _ in range(25):  # 2^25 ways
            x = layers.Concatenate()([x, x])[..., :8]
        return x

    assert apart(web) == 1
    assert apart(layers.Conv2D(4, 1)) == 0
