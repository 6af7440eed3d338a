"""Networks some of whose signs rounding alone decides, and what is said of them."""

import json
import logging
from functools import partial

import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import binary_conv, chain, head, images
from larq_nobn._keras import keras
from larq_nobn.deploy import convert
from larq_nobn.deploy.lite._converter import IoSpec
from larq_nobn.deploy.operations._emit import form_of
from larq_nobn.deploy.operations._kinds import Kernel, Value
from larq_nobn.deploy.operations._program import Program
from larq_nobn.deploy.trace._trace import Trace
from larq_nobn.deploy.verify import _segments
from larq_nobn.deploy.verify._given import _at_signs
from larq_nobn.deploy.verify._segments import tie_warnings
from larq_nobn.graph._models import call_by_call
from larq_nobn.quantizers import ScaledStdSign
from tie_networks import SHAPE, conv, network

pytestmark = pytest.mark.convert


def part(exact=1.0, top1=1.0, **changes):
    ties = [{"layer": name, "examples": 3, "share": 0.125} for name in "abcde"]
    numbers = {"examples": 8, "exact_share": exact, "top1_agreement": top1}
    return {**numbers, "ties": ties, **changes}


@pytest.mark.parametrize(
    "exact, top1, said",
    [(0.9, 0.99, 0), (0.89, 1.0, 1), (1.0, 0.98, 1), (0.2, 0.5, 1)],
)
def test_below_which_agreement_a_word_is_due(exact, top1, said):
    assert len(tie_warnings(part(), part(exact, top1))) == said
    assert len(tie_warnings(part(exact, top1), part())) == said


def test_signs_that_are_next_to_0_by_chance_are_no_matter():
    few = [{"layer": "a", "examples": 3, "share": 1e-4}]
    assert tie_warnings(part(), part(0.5, ties=few)) == []
    (said,) = tie_warnings(part(), part(0.5, 0.9, ties=few))
    assert said.startswith("Small differences decide outputs: ")


def test_signs_of_kernels_are_not_those_of_examples():
    """A kernel of 9 · 8 rows may be one of four examples, by its shape."""
    start = keras.Input((6, 6, 8))
    model = keras.Model(start, binary_conv(8, kernel_quantizer=ScaledStdSign())(start))
    io = IoSpec([tf.TensorSpec((1, 6, 6, 8), tf.float32, "x")], model.output_names)
    trace = Trace(model, io, partial(call_by_call, model))
    own, read = _at_signs(model, trace, 4)
    assert [sign.layer for sign in own] == [model.layers[1].name]
    x = np.random.default_rng(1).normal(size=(4, 6, 6, 8)).astype(np.float32)
    (signs,) = read([x]).values
    np.testing.assert_array_equal(signs, np.where(x >= 0, 1, -1))


JUMPS = {
    "math.greater": lambda x: tf.cast(x > 0, x.dtype),
    "math.sign": tf.sign,
}


@pytest.mark.parametrize("gate, jump", [*zip([0, 1], JUMPS, strict=True)])
def test_sums_of_both_signs_before_a_jump(jump, gate, tmp_path):
    """As many +c as -c are ±1e-9, in Keras and in a file: above 0 or not by chance."""
    keras.utils.set_random_seed(0)
    keras.backend.clear_session()
    start = keras.Input((6, 6, 8))
    scaled = {"kernel_quantizer": "magnitude_aware_sign", "pad_values": 0.0}
    x = binary_conv(8, **scaled)(start)
    if gate:
        size = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
        x = x * keras.layers.Dense(8, "sigmoid")(size)
    x = JUMPS[jump](x)
    model = keras.Model(start, keras.layers.GlobalAveragePooling2D()(x))
    report = convert(model, tmp_path / "m.tflite", data=images(16, (6, 6, 8)))
    # The file adds whole numbers: its sums are 0 where those of prepared are.
    assert report.verify["exact_share"] == 1.0
    assert report.verify["prepared"]["exact_share"] < 0.5
    (tie,) = report.verify["prepared"]["ties"]
    assert tie["layer"] == f"tf.{jump}"


def test_sums_of_both_signs_before_a_sign(tmp_path, caplog):
    """In Keras, as many +c as -c are ±1e-9, and the file has the sign of 0."""
    scaled = {"kernel_quantizer": "magnitude_aware_sign"}
    rows = [binary_conv(8, name=n, **scaled) for n in ("first", "second", "third")]
    model = chain(*rows, *head(), shape=(4, 4, 3))
    with caplog.at_level(logging.WARNING, "larq_nobn"):
        report = convert(model, tmp_path / "m.tflite", data=images(16, (4, 4, 3)))
    assert report.verify["prepared"]["exact_share"] < 0.5
    assert report.verify["exact_share"] == 1
    (warning,) = report.warnings
    assert warning in caplog.text
    assert "of 16 examples, the optimized form of the model and the given" in warning
    assert "layer 'second' (" in warning
    assert json.loads(report.to_json())["warnings"] == [warning]
    assert "Rounding decides signs" in str(report)


def test_averages_of_sums_that_are_exactly_0_are_ties(tmp_path):
    """Of scaled sums, as they are in a file: what is 0 in Keras is ±1e-9 there."""
    model, before = network(lambda x: keras.layers.AveragePooling2D()(conv()(x)))
    x = images(16, SHAPE)
    assert np.mean(before(x).numpy() == 0) > 0.01
    report = convert(model, tmp_path / "m.tflite", data=x)
    actual = report.verify["ties"] + report.verify["prepared"]["ties"]
    assert {row["layer"] for row in actual} == {model.layers[-1].name}
    assert report.verify["unexplained"] == 0
    assert report.warnings


def convolved(x, kernel, pad):
    """A 3x3 convolution whose sums TensorFlow Lite takes in another order."""
    x = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]) if pad == "same" else x
    size = x.shape[1] - 2
    maps = [x[:, i : i + size, j : j + size] for i in range(3) for j in range(3)]
    weights = kernel.reshape(9, -1).T.astype(np.float32)
    return tf.reduce_sum(tf.stack(maps, -1) * weights, -1)


def test_a_flat_image_under_kernels_of_mean_zero(tmp_path):
    """Sums that should be 0 are noise, and another noise in batches of another size.

    Without padding all of them are, and only other images tell how large they may be.
    """
    shape = (8, 8, 1)
    kernel = np.random.default_rng(0).normal(size=(3, 3, 1, 32))
    centered = kernel - kernel.mean(axis=(0, 1, 2))
    models, data = [], []
    for i, (level, padding) in enumerate(
        [(0.3, "same"), (0.7, "valid"), (1.1, "same")]
    ):
        stem = keras.layers.Lambda(partial(convolved, kernel=centered, pad=padding))
        rows = stem, binary_conv(), keras.layers.GlobalAveragePooling2D()
        models.append(chain(*rows, keras.layers.Dense(5), shape=shape, stem=False))
        x = images(40, shape)
        x[i] = level  # another image of each of the networks, which lie side by side
        data.append(x)
    model = keras.Model([m.input for m in models], [m.output for m in models])
    report = convert(model, tmp_path / "m.tflite", data=data)
    assert report.verify["unexplained"] == 0
    assert report.verify["explained"] == 3


def test_a_binary_convolution_rounds_as_the_number_of_its_weights_does():
    """LCE subtracts twice the bits that differ from all, after both are scaled."""
    shape, factor = (3, 3, 512), 13.9
    count = int(np.prod(shape))
    signs = np.sign(np.random.default_rng(0).normal(size=(*shape, 1)))
    x, y = Value((1, *shape), tf.float32), Value((1, 1, 1, 1), tf.float32)
    node = Kernel("net/a/conv", (x,), (y,), signs, scale=factor, binary=True)
    program = Program([x], [node], [y])
    # Half of the bits differ, so that the sum is 0.
    halves = signs[..., 0].ravel() * np.where(np.arange(count) % 2, -1, 1)
    form = form_of(program)
    given = {form.inputs[0]: np.float32(halves.reshape(1, *shape))}
    sizes = 0.0, _segments.NOISES[0]
    (made,), (walked,) = (form.run(given, form.outputs, size) for size in sizes)
    differing = np.arange(count + 1)
    scaled = np.float32(2 * factor) * differing.astype(np.float32)
    in_lce = np.float32(factor * count) - scaled
    off = np.abs(in_lce - factor * (count - 2.0 * differing)).max()
    assert np.all(made == 0) and off < np.abs(walked).max() < 10 * off


def test_noise_on_equal_constants_rarely_cancels():
    """Or a sum of as many +c as -c would seem to round to nothing."""
    signs = np.resize([1.0, 1, 1, -1, -1, -1], (512, 6)).T[None, None]
    x, y = Value((1, 1, 1, 6), tf.float32), Value((1, 1, 1, 512), tf.float32)
    program = Program([x], [Kernel("net/a/conv", (x,), (y,), signs)], [y])
    form, size = form_of(program), _segments.NOISES[0]
    given = {form.inputs[0]: np.ones((1, 1, 1, 6), np.float32)}
    (walked,) = form.run(given, form.outputs, size)
    # Of three +1 and three -1 at random, 31 % add up to 0.
    assert np.mean(np.abs(walked) < size / 4) < 0.15
