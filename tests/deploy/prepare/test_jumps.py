"""Functions that jump at 0, of what is exactly 0: the same number in all forms."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import binary_conv, images
from larq_nobn._keras import keras
from larq_nobn.deploy import VerificationError
from larq_nobn.deploy.inspection._audit import audit_bytes
from larq_nobn.deploy.lite import Runner, inference, io_spec, to_flatbuffer
from larq_nobn.deploy.prepare._prepare import prepare
from numpy.testing import assert_array_equal
from tie_networks import GAINS, JUMPS, MEANS, SHAPE, WHOLE, network, norm

layers = keras.layers

FRONTS = ("convolution", "zero padded", "maximum", "dense")


def checked(part, step):
    """Compares model, prepared model and file with what float64 gives."""
    function, exact = JUMPS[step]
    model, _ = network(part, last=function)
    x = images(4, SHAPE)
    whole = keras.Model(model.inputs, model.get_layer("norm").input)(x).numpy()
    assert_array_equal(whole * 4, np.round(whole * 4))  # of an average too
    known = (whole.astype(float) - MEANS) * GAINS
    assert np.mean(known == 0) > 0.01
    wanted = exact(known)
    prepared = prepare(model)
    content = to_flatbuffer(inference(prepared), prepared.variables, io_spec(prepared))
    binary = [x for x in model.layers if getattr(x, "kernel_quantizer", None)]
    assert audit_bytes(content, "net").ops["LceBconv2d"] == len(binary)
    assert_array_equal(model(x), wanted)
    assert_array_equal(prepared(x), wanted)
    assert_array_equal(Runner(content)(x), wanted)


@pytest.mark.convert
@pytest.mark.parametrize("step", JUMPS)
@pytest.mark.parametrize("kind", FRONTS)
def test_what_is_exactly_0_is_0_before_a_function(kind, step):
    checked(WHOLE[kind], step)


@pytest.mark.convert
@pytest.mark.parametrize("kind", sorted({*WHOLE} - {*FRONTS, "signs", "shifted sign"}))
def test_so_it_is_on_every_map_of_whole_numbers(kind):
    checked(WHOLE[kind], "sign")


def followed(part, middle, **options):
    """A batch norm, something between, and a sign that is a function."""
    return network(part, last=lambda x: tf.sign(middle(x)), **options)[0]


BETWEEN = {
    "maximum": layers.MaxPooling2D(),
    "shape": layers.Reshape((36, 16)),
    "functions": lambda x: 2.0 * -x,
    "rectified": lambda x: layers.ReLU()(x),
    "two readers": lambda x: layers.Concatenate()([x, -x]),
}


@pytest.mark.convert
@pytest.mark.parametrize("kind", BETWEEN)
def test_with_layers_between(kind):
    part = WHOLE["convolution" if kind == "shape" else "zero padded"]
    model, x = followed(part, BETWEEN[kind]), images(4, SHAPE)
    prepared = prepare(model)
    content = to_flatbuffer(inference(prepared), prepared.variables, io_spec(prepared))
    assert np.mean(model(x).numpy() == 0) > 0.01
    assert_array_equal(prepared(x), model(x))
    assert_array_equal(Runner(content)(x), model(x))


@pytest.mark.convert
def test_a_scale_and_a_bias_in_place_of_a_batch_norm():
    start = keras.Input(SHAPE)
    gain = GAINS.astype(np.float32) / np.float32(3)
    affine = nobn.layers.ChannelAffine(name="affine")
    model = keras.Model(start, tf.sign(affine(WHOLE["zero padded"](start))))
    affine.set_weights([gain, -gain * MEANS.astype(np.float32)])
    x = images(4, SHAPE)
    prepared = prepare(model)
    content = to_flatbuffer(inference(prepared), prepared.variables, io_spec(prepared))
    assert np.mean(model(x).numpy() == 0) > 0.01
    assert_array_equal(prepared(x), model(x))
    assert_array_equal(Runner(content)(x), model(x))


@pytest.mark.convert
@pytest.mark.parametrize("away", [2.0**-22, -(2.0**-22)])
def test_what_is_close_to_0_is_as_close(away, tmp_path):
    # Where moving averages of a constant sum end: the next number to it.
    means = np.full(16, 3 + away)
    model = followed(WHOLE["zero padded"], lambda x: x, means=means)
    x = images(4, SHAPE)
    whole = keras.Model(model.inputs, model.get_layer("norm").input)(x).numpy()
    assert np.any(whole == 3)
    wanted = np.sign((whole.astype(float) - means) * GAINS)
    report = nobn.convert(model, tmp_path / "net.tflite", data=x)
    assert_array_equal(model(x), wanted)
    assert_array_equal(Runner((tmp_path / "net.tflite").read_bytes())(x), wanted)
    assert report.verify["exact_share"] == 1


@pytest.mark.convert
def test_where_rounding_makes_it_another_number_it_is_said(tmp_path):
    """Of 3 less the mean, times the gain, the bias is not quite the opposite."""
    model = followed(WHOLE["convolution"], lambda x: x, means=0.1, gains=1.0)
    gains = np.linspace(0.5, 0.9, 16).astype(np.float32)
    bias = -(3 - 0.1) * gains.astype(float) / np.sqrt(1.001)
    model.get_layer("norm").set_weights([gains, bias, np.full(16, 0.1), np.ones(16)])
    x = images(4, SHAPE)
    whole = keras.Model(model.inputs, model.get_layer("norm").input)(x).numpy()
    assert np.any((whole == 3) & (model(x).numpy() != 0))
    report = nobn.convert(model, tmp_path / "net.tflite", data=x)
    assert report.verify["prepared"]["exact_share"] < 1
    assert "tf.math.sign" in report.verify["prepared"]["ties"][0]["layer"]
    found = Runner((tmp_path / "net.tflite").read_bytes())(x)
    assert_array_equal(found, np.where(whole == 3, 0, model(x)))


@pytest.mark.convert
def test_a_function_inside_of_an_activation_is_read(tmp_path):
    path, x = tmp_path / "net.tflite", images(4, SHAPE)
    for last in (layers.Activation(tf.sign), tf.sign):
        model = network(WHOLE["zero padded"], last=last)[0]
        assert nobn.convert(model, path, data=x).verify["exact_share"] == 1


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

    path, x = tmp_path / "net.tflite", images(16, (4, 4, 16))
    with pytest.raises(VerificationError, match="exactly 0, .* Give that sign a shift"):
        nobn.convert(net(), path, data=x, allow_float=True)
    shift = nobn.quantizers.RSign(offset=0.05)
    report = nobn.convert(net(input_quantizer=shift), path, data=x, allow_float=True)
    assert report.verify["unexplained"] == 0 and report.lce_bconv2d == 2


def test_what_jumps_is_found_in_a_web_of_sums():
    start = keras.Input((4, 4, 8))
    x = norm(0.7, 0.0, 1e-3, "norm")(binary_conv(8)(start))
    for _ in range(25):  # 2^25 ways
        x = layers.Concatenate()([x, x])[..., :8]
    given = prepare(keras.Model(start, tf.sign(x)))
    kinds = [type(layer).__name__ for layer in given.layers]
    assert kinds.count("AffineApart") == 1


def test_what_does_not_jump_costs_nothing():
    start = keras.Input((4, 4, 8))
    x = norm(0.7, 0.0, 1e-3, "norm")(binary_conv(8)(start))
    x = tf.sign(layers.Conv2D(4, 1)(x))
    kinds = [type(layer).__name__ for layer in prepare(keras.Model(start, x)).layers]
    assert "AffineApart" not in kinds
