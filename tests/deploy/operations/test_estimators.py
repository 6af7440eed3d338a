"""Straight-through estimators that are written as a sum are what they estimate."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import scrambled
from larq_nobn._keras import keras
from larq_nobn.deploy import Runner
from larq_nobn.deploy.lite._converter import io_spec
from larq_nobn.deploy.operations import stages_of
from larq_nobn.deploy.operations._kinds import Sum
from larq_nobn.deploy.trace._trace import Trace

held = tf.stop_gradient


def q(x):
    return tf.where(x >= 0, 1.0, -1.0)


def clipped(x):
    return tf.clip_by_value(x, -1.0, 1.0)


def hard_tanh(x):
    return 2 * keras.activations.hard_sigmoid(x) - 1


def ones(x):
    return tf.cast(x >= 0, x.dtype)


def larger(x):
    return tf.cast(x > 0.25, x.dtype)


def unit(x):
    return tf.clip_by_value(x, 0.0, 1.0)


def sign(x):
    return np.where(x >= 0, 1.0, -1.0)


CHANNELS = np.linspace(-0.4, 0.4, 8, dtype=np.float32)
# Each with what it is, in NumPy.
BINARY = {
    "plain": (lambda x: x + held(q(x) - x), sign),
    "other order": (lambda x: held(q(x) - x) + x, sign),
    "three terms": (lambda x: held(q(x)) + x - held(x), sign),
    "taken off": (lambda x: x - held(x - q(x)), sign),
    "listed": (lambda x: tf.add_n([x, held(q(x)), -held(x)]), sign),
    "negated": (lambda x: x + held(-x + q(x)), sign),
    "of a clip": (lambda x: clipped(x) + held(q(x) - clipped(x)), sign),
    "of tanh": (lambda x: tf.tanh(x) + held(q(x) - tf.tanh(x)), sign),
    "of hard tanh": (lambda x: hard_tanh(x) + held(q(x) - hard_tanh(x)), sign),
    "half": (lambda x: 0.5 * x + held(q(x) - 0.5 * x), sign),
    "scaled": (lambda x: x + held(0.3 * q(x) - x), lambda x: 0.3 * sign(x)),
    "shifted": (lambda x: x + 1.5 + held(q(x) - x - 1.5), sign),
    "twice": (lambda x: (x + held(q(x) - x)) + held(2 * x - 2 * x), sign),
    "larq": (lambda x: x + held(lq.math.sign(x) - x), sign),
    "qkeras": (
        lambda x: x + held(tf.sign(x) + (1 - tf.abs(tf.sign(x))) - x),
        sign,
    ),
    "selected": (
        lambda x: x + held(tf.where(x < 0, -tf.ones_like(x), tf.ones_like(x)) - x),
        sign,
    ),
    "cast": (lambda x: x + held(2 * tf.cast(x >= 0.1, x.dtype) - 1 - x), None),
    "above": (lambda x: x + held(tf.where(x > 0.2, 1.0, -1.0) - x), None),
    "zero, one": (lambda x: x + held(ones(x) - x), lambda x: np.float64(x >= 0)),
    "larger": (lambda x: unit(x) + held(larger(x) - unit(x)), None),
}
NUMBERS = {
    "cast": lambda x: np.where(x >= np.float32(0.1), 1.0, -1.0),
    "above": lambda x: np.where(x > np.float32(0.2), 1.0, -1.0),
    "larger": lambda x: np.float64(x > 0.25),
}
IMAGES = np.random.default_rng(0).normal(size=(8, 4, 4, 8)).astype("float32")


def model_of(functions, kernels=True):
    inputs = keras.Input((4, 4, 8))
    ends = [
        lq.layers.QuantConv2D(
            4,
            2,
            input_quantizer=function,
            kernel_quantizer=function if kernels else "ste_sign",
            use_bias=False,
            name=f"own{place}",
        )(inputs)
        for place, function in enumerate(functions)
    ]
    return scrambled(keras.Model(inputs, ends))


def convolved(x, kernel):
    windows = np.lib.stride_tricks.sliding_window_view(x, (2, 2), axis=(1, 2))
    return np.einsum("nhwcij,ijco->nhwo", windows, kernel.astype(float))


@pytest.mark.slow
@pytest.mark.convert
def test_they_are_binary_and_right(tmp_path):
    """Of inputs and kernels, in every order and with every surrogate."""
    model = model_of([function for function, _ in BINARY.values()])
    report = nobn.convert(model, tmp_path / "m.tflite", verify=False)
    assert report.lce_bconv2d == len(BINARY)
    outputs = Runner(tmp_path / "m.tflite")(IMAGES)
    for place, (name, (_, numbers)) in enumerate(BINARY.items()):
        numbers = numbers or NUMBERS[name]
        kernel = numbers(model.get_layer(f"own{place}").kernel.numpy())
        wanted = convolved(numbers(IMAGES), kernel)
        np.testing.assert_allclose(outputs[place], wanted, atol=1e-5, err_msg=name)


def steps(x):
    return tf.quantization.fake_quant_with_min_max_args(x, -1.0, 1.0, 4)


def ternary(x):
    return tf.sign(x) * tf.cast(tf.abs(x) > 0.3, x.dtype)


def two_bits(x):
    return tf.round(3 * unit(x)) / 3


FEW = {
    "fake quantization": lambda x: x + held(steps(x) - x),
    "ternary": lambda x: held(ternary(x)) + x - held(x),
    "DoReFa": lambda x: unit(x) + held(two_bits(x) - unit(x)),
    "sign": BINARY["three terms"][0],
}


def stages(model):
    return stages_of(Trace(model, io_spec(model)), "litert")


@pytest.mark.slow
@pytest.mark.convert
def test_numbers_far_from_0_round_as_they_do_in_the_given_model(tmp_path):
    """x + (q - x) has no digits of q left where x is large, and nothing is wrong."""
    model = model_of(FEW.values(), kernels=False)
    far = np.concatenate([IMAGES * size for size in (1, 1e2, 1e4, 1e6)])
    report = nobn.convert(model, tmp_path / "m.tflite", data=far, runtime="litert")
    assert report.verify["unexplained"] == 0
    program = stages(model).spelled
    assert not any(node.is_a(Sum, "Sub") for node in program.nodes)


@pytest.mark.parametrize("seed", range(3))
def test_sums_of_all_kinds_are_what_they_were(seed):
    """In NumPy, with numbers per channel, and terms that cancel in part."""
    random = np.random.default_rng(seed)
    numbers = [np.float32(x) for x in (1.0, -1.0, 0.5, -2.0)] + [CHANNELS]

    def drawn(leaves, depth):
        if not depth:
            return random.choice(len(leaves)), random.choice(len(numbers))
        return [drawn(leaves, depth - 1) for _ in range(random.integers(2, 4))]

    def summed(tree, leaves, add):
        if isinstance(tree, tuple):
            return numbers[tree[1]] * leaves[tree[0]]
        return add([summed(part, leaves, add) for part in tree])

    trees = [drawn(range(3), 2) for _ in range(8)]

    def made(x, add):
        leaves = [x, x * x, x + 0.5]
        sums = [summed(tree, leaves, add) for tree in trees]
        return [*sums, *(y - 0.5 * leaves[0] for y in sums), sums[0] - sums[0] + x]

    inputs = keras.Input((4, 4, 8))
    model = keras.Model(inputs, made(inputs, tf.add_n))
    made_of = stages(model)
    outputs = made_of.exact.outputs_of([IMAGES])
    wanted = made(IMAGES.astype(float), lambda parts: np.sum(parts, axis=0))
    assert made_of.cuts
    for actual, expected in zip(outputs, wanted, strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-4)
