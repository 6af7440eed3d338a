"""The factors of the normalizer-free form, worked out by hand for small graphs."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn._keras import keras
from larq_nobn.layers._channel_padding import ChannelPadding
from numpy.testing import assert_allclose
from surgery.removing import binary, image, noise, norm, scales, stem

layers = keras.layers


def check(inputs, outputs, expected, **arguments):
    given = keras.Model(inputs, outputs)
    free, report = nobn.remove_batch_norm(given, return_report=True, **arguments)
    actual = scales(free)
    assert actual.keys() == expected.keys()
    for name, pair in expected.items():
        for ours, theirs in zip(actual[name], pair, strict=True):
            assert ours == (theirs and pytest.approx(theirs, rel=1e-6)), name
    return free, {change.layer: change for change in report.changes}


def block(x, name, **kwargs):
    return layers.add([norm(binary(x, name, **kwargs), f"{name}_norm"), x])


def test_identity_blocks_add_to_the_variance():
    inputs = image()
    x = stem(inputs)
    for name in ("one", "two", "three"):
        x = block(x, name)
    nf = {
        "stem": (None, 1.0),
        "one": (1.0, 0.5),
        "two": (1.25**-0.5, 0.5),
        "three": (1.5**-0.5, 0.5),
    }
    check(inputs, x, nf, alpha=0.5)
    vita = {**nf, "two": (1.0, 0.5), "three": (1.25**-0.5, 0.5)}
    check(inputs, x, vita, alpha=0.5, variance_rule="vita")


def test_only_the_last_kernel_of_a_branch_is_scaled():
    inputs = image()
    x = stem(inputs)
    y = norm(binary(x, "first"), "first_norm")
    y = layers.PReLU(shared_axes=[1, 2])(norm(binary(y, "second"), "second_norm"))
    x = binary(layers.add([y, x]), "next")
    expected = {
        "stem": (None, 1.0),
        "first": (1.0, 1.0),
        "second": (1.0, 0.2),
        "next": (1.04**-0.5, 1.0),
    }
    check(inputs, x, expected)


def test_a_gate_hides_no_branch():
    inputs = image()
    x = stem(inputs)
    y = binary(x, "branch")
    gate = layers.Dense(4, "sigmoid", name="gate")(layers.GlobalAveragePooling2D()(x))
    y = layers.multiply([y, layers.Reshape((1, 1, 4))(gate)])
    x = binary(layers.add([layers.PReLU(shared_axes=[1, 2])(y), x]), "next")
    expected = {"stem": (None, 1.0), "branch": (1.0, 0.2), "next": (1.04**-0.5, 1.0)}
    free, _ = check(inputs, x, expected)
    assert type(free.get_layer("gate")) is layers.Dense


def test_bounds_take_variance_away():
    """Against moments of clipped normal values by integration."""
    inputs = image()
    x = layers.Activation(lq.activations.hard_tanh)(stem(inputs))
    padded = ChannelPadding(1, 3)(layers.AveragePooling2D(2)(x))
    y = norm(binary(x, "branch", 8, strides=2), "branch_norm")
    x = binary(layers.add([y, padded]), "next")
    z = np.linspace(-8, 8, 160_001)
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    clipped = np.sum(np.clip(z, -1, 1) ** 2 * density) * (z[1] - z[0])
    expected = {
        "stem": (None, 1.0),
        "branch": (clipped**-0.5, 0.2),
        "next": ((clipped / 2 + 0.04) ** -0.5, 1.0),
    }
    check(inputs, x, expected)


def test_the_branch_has_the_promised_scale():
    inputs = image(64, 2)
    x = block(inputs, "conv", channels=64, size=1)
    given = keras.Model(inputs, x)
    free = nobn.remove_batch_norm(given, alpha=0.3)
    x = noise(50, 2, 2, 64)
    kernel = given.get_layer("conv").get_weights()[0][0, 0]
    signs = np.where(kernel >= kernel.mean(axis=0), 1.0, -1.0)
    branch = np.where(x >= 0, 1.0, -1.0) @ signs * 0.3 / 8
    assert_allclose(free(x), x + branch, atol=1e-5)
    assert branch.std() == pytest.approx(0.3, rel=0.05)


@pytest.mark.parametrize(
    "given, scale, estimator",
    [
        (lq.quantizers.ApproxSign(), 1.0, "approx_sign"),
        (lq.quantizers.SteSign(clip_value=1.25), 0.8, "ste_sign"),
        (nobn.quantizers.SigmoidSign(slope=1.5), 0.5, "sigmoid_sign"),
    ],
)
def test_signs_keep_their_estimator(given, scale, estimator):
    x = tf.constant(np.linspace(-2, 2, 81, dtype=np.float32)[:, None])
    inputs = image()
    y = binary(stem(inputs), "conv", input_quantizer=given)
    free = nobn.remove_batch_norm(keras.Model(inputs, norm(y, "norm")))
    sign = free.get_layer("conv").input_quantizer
    assert (sign.scale, sign.estimator, sign.shift) == (scale, estimator, None)
    new = nobn.quantizers.RSign(sign.scale, estimator=sign.estimator, shift=False)
    gradients = []
    for quantizer in (given, new):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = quantizer(x)
        gradients.append(tape.gradient(y, x).numpy())
    # The scale that makes up for a window other than 1 multiplies the gradient as well.
    window = 1.25 if scale == 0.8 else 1.0
    assert_allclose(window * gradients[1], gradients[0], atol=1e-5)
