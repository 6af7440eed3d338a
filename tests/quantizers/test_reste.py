"""The power function between two clips: its slope, and who carries the power on."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from gradients import finite_differences, value_and_gradients
from larq_nobn.quantizers import ReSTE, RSign
from numpy.testing import assert_allclose, assert_array_equal

POWERS = (1.0, 1.7, 3.0)


def slope_of(power, x):
    layer = ReSTE(power, dtype="float64")
    return value_and_gradients(layer, x, np.ones_like(x))[1]


@pytest.mark.parametrize("power", POWERS)
def test_between_the_clips_it_is_the_derivative_of_a_root(power):
    x = np.concatenate([np.linspace(-1.49, -0.11, 40), np.linspace(0.11, 1.49, 40)])
    slopes = finite_differences(
        lambda z: np.sum(np.sign(z) * np.abs(z) ** (1 / power)), x
    )
    assert_allclose(slope_of(power, x), slopes, rtol=1e-8)


@pytest.mark.parametrize("power", POWERS)
def test_it_adds_up_to_the_height_of_the_root(power):
    # Near zero a straight line leads as high as the root does.
    edges = np.linspace(-2, 2, 400_001)
    middles = (edges[1:] + edges[:-1]) / 2
    total = slope_of(power, middles).sum() * (edges[1] - edges[0])
    assert total == pytest.approx(2 * 1.5 ** (1 / power), rel=1e-4)


def test_power_1_is_the_straight_through_estimator():
    x = np.array([-1.6, -1.5, -0.1, 0.0, 0.05, 1.5, 1.51])
    assert_array_equal(slope_of(1.0, x), [0, 1, 1, 1, 1, 1, 0])


@pytest.mark.parametrize("power", POWERS)
def test_at_zero_and_far_out_everything_is_finite(power):
    x = np.array([0.0, -0.0, 1e-30, 1e30, -1e30])
    value, d_x, _ = value_and_gradients(ReSTE(power), x.astype("float32"), x * 0 + 1)
    assert_array_equal(value, [1, 1, 1, 1, -1])
    assert_allclose(d_x, [0.1 ** (1 / power - 1)] * 3 + [0, 0], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(dtype):
    x = tf.cast(np.random.default_rng(80).normal(size=(50, 4)), dtype)
    found = value_and_gradients(ReSTE(3.0), x, np.ones(x.shape))[1]
    wide = np.asarray(x, np.float64)
    # Rounded to 8 bits once, after the formula.
    assert_allclose(found, slope_of(3.0, wide), rtol=5e-3)


def test_it_makes_kernels_and_the_power_changes_gradients_only():
    layer = lq.layers.QuantDense(5, kernel_quantizer=ReSTE(1.0))
    x = np.random.default_rng(81).normal(size=(8, 6)).astype("float32")

    def run():
        with tf.GradientTape() as tape:
            y = layer(x)
        return y, tape.gradient(y, layer.trainable_weights[0])

    before, first = run()
    latent = layer.kernel.latent_variable.numpy()
    assert_allclose(before, x @ np.where(latent < 0, -1, 1), rtol=1e-5, atol=1e-5)
    layer.kernel_quantizer.power.assign(3.0)
    after, second = run()
    assert_array_equal(after, before)
    assert_allclose(second, first * slope_of(3.0, latent.astype(float)), rtol=1e-5)


def test_one_object_may_serve_several_layers():
    shared = ReSTE(2.0)
    for shape in ((3, 4), (2, 5, 5, 7)):
        assert shared(tf.ones(shape)).shape == shape
    assert len(shared.weights) == 1


def test_surgery_carries_the_power_on():
    image = tf.keras.Input((4, 4, 32))
    x = tf.keras.layers.BatchNormalization()(image)
    x = lq.layers.QuantConv2D(
        32, 3, padding="same", pad_values=1.0, name="conv",
        input_quantizer=RSign(estimator="reste"), kernel_quantizer="reste",
        kernel_constraint="weight_clip",
    )(x)  # fmt: skip
    x = tf.keras.layers.BatchNormalization()(x)
    x = lq.layers.QuantConv2D(
        8, 1, name="last", input_quantizer=ReSTE(), kernel_quantizer="reste",
        kernel_constraint="weight_clip",
    )(x)  # fmt: skip
    model = tf.keras.Model(image, x)
    for name in ("conv", "last"):
        model.get_layer(name).input_quantizer.power.assign(2.5)
    images = np.random.default_rng(82).normal(size=(3, 4, 4, 32)).astype("float32")
    # Folded into the first sign, and after the first kernel; removed from both signs.
    kinds = {nobn.fold_batch_norm: ReSTE, nobn.remove_batch_norm: RSign}
    for change, of_last in kinds.items():
        changed = change(model)
        signs = [changed.get_layer(n).input_quantizer for n in ("conv", "last")]
        assert [type(sign) for sign in signs] == [RSign, of_last]
        assert [float(sign.power) for sign in signs] == [2.5, 2.5]
        assert signs[0].estimator == getattr(signs[1], "estimator", "reste") == "reste"
    assert_allclose(nobn.fold_batch_norm(model)(images), model(images), atol=1e-3)


@pytest.mark.convert
def test_signs_and_kernels_are_binary_in_the_file(tmp_path):
    image = tf.keras.Input((4, 4, 32))
    x = lq.layers.QuantConv2D(
        32, 3, padding="same", pad_values=1.0, input_quantizer="reste",
        kernel_quantizer="reste", kernel_constraint="weight_clip",
    )(image)  # fmt: skip
    report = nobn.convert(tf.keras.Model(image, x), tmp_path / "model.tflite")
    assert report.lce_bconv2d == 1 and report.verify["unexplained"] == 0


@pytest.mark.parametrize("cls", [ReSTE, RSign])
@pytest.mark.parametrize(
    "power, error, message",
    [
        (0.9, ValueError, r"power=0.9 is outside \[1, inf\). Start with 1, which is"),
        ("3", TypeError, "power='3' is not a number"),
    ],
)
def test_rejects(cls, power, error, message):
    with pytest.raises(error, match=message):
        cls(power=power)
