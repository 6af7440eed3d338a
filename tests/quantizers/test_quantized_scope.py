"""What Larq's `quantized_scope` reads, saves and sets back, quantizer by quantizer.

Larq's own quantizers leave their values as they are, so that a model computes the same
from a file of signs. Where ours do not, such a file would hold another model.
"""

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn._keras import keras
from larq_nobn.quantizers import ReCU, ScaledStdSign
from numpy.testing import assert_allclose, assert_array_equal
from quantizers.oracles import scaled_signs, signs, turned

RNG = np.random.default_rng(3)
KERNEL = RNG.normal(0.1, 1.0, size=(6, 4)).astype("f4")
X = np.where(RNG.normal(size=(8, 6)) > 0, 1.0, -1.0).astype("f4")
UP, DOWN = np.float32([0.5, 1.5, 0.25, 1.0]), np.float32([0.5, -1.5, 0.25, 1.0])


def halves(kernel):
    return signs(kernel - np.median(kernel, 0))


# The values of a kernel, from what the gain (alpha, ...) multiplies.
CHANGED = [
    # The mean standard deviation of values ±c is larger, next to their standard
    # deviation.
    (ScaledStdSign, UP, scaled_signs),
    # A negative factor turned signs around, and does so again.
    (ReCU, DOWN, turned),
]


def network(kind, factor, **arguments):
    """A model of one layer, whose output channels have these factors."""
    layer = lq.layers.QuantDense(
        4, kernel_quantizer=kind(**arguments), kernel_constraint="weight_clip"
    )
    model = keras.Sequential([keras.Input((6,)), layer])
    layer.kernel.latent_variable.assign(KERNEL)
    if factor is not None:
        (per_channel,) = (w for w in layer.kernel_quantizer.weights if w.shape == (4,))
        per_channel.assign(factor)
    return model


@pytest.fixture(autouse=True)
def _closed():
    """An error in Larq's scope leaves it open; this one puts it back."""
    with lq.context.quantized_scope(False):
        yield


def set_back(model, other):
    with lq.context.quantized_scope(True):
        stored = model.get_weights()
    other.set_weights(stored)
    return other


def by_weights(name):
    def way(model, other, folder):
        with lq.context.quantized_scope(True):
            model.save_weights(folder / name)
        other.load_weights(folder / name)
        return other

    return way


def by_model(name):
    def way(model, other, folder):
        with lq.context.quantized_scope(True):
            model.save(folder / name)
        return keras.models.load_model(folder / name)

    return way


WAYS = {
    ".weights.h5": by_weights("w.weights.h5"),
    ".keras": by_model("m.keras"),
}


def latent(model):
    return model.layers[0].kernel.latent_variable.numpy()


def test_values_that_a_quantizer_keeps_stand_for_the_weights():
    balanced = {"variance_preserving": True, "balanced": True}
    model = network(ScaledStdSign, UP, **balanced)
    other = set_back(model, network(ScaledStdSign, None, **balanced))
    expected = halves(KERNEL.astype("f8")) / 6**0.5 * UP
    assert_allclose(latent(other), expected, rtol=1e-6)
    assert_allclose(other(X), X @ expected, rtol=1e-5, atol=1e-5)
    # Outside of the scope there are the latent weights.
    assert_array_equal(model.get_weights()[0], KERNEL)


@pytest.mark.parametrize("way", WAYS)
def test_every_file_of_them_computes_the_same(way, tmp_path):
    model = network(ReCU, UP)
    other = WAYS[way](model, network(ReCU, None), tmp_path)
    assert_allclose(latent(other), turned(KERNEL) * UP, rtol=1e-6)
    assert_array_equal(other(X), model(X))


@pytest.mark.parametrize("kind, factor, oracle", CHANGED)
def test_values_that_a_quantizer_changes_are_for_looking_only(kind, factor, oracle):
    model = network(kind, factor)
    message = f"^{kind.__name__} quantizes its own values"
    scope = lq.context.quantized_scope
    with pytest.raises(ValueError, match=message), scope(True):
        model.get_weights()
    expected = oracle(KERNEL.astype("f8")) * factor
    with scope(True):
        seen = tf.convert_to_tensor(model.layers[0].kernel)
    assert_allclose(seen, expected, rtol=1e-5)
    assert_allclose(model(X), X @ expected, rtol=1e-5, atol=1e-5)
    with scope(True):  # where layers compute what they do outside
        assert_allclose(model(X), X @ expected, rtol=1e-5, atol=1e-5)
    # They are not what computes as the model does.
    again = oracle(expected) * factor
    assert np.max(abs(again - expected)) > 1e-5 * np.max(abs(expected))


def test_no_file_of_them_is_written(tmp_path):
    model = network(ScaledStdSign, UP)
    message = r"quantizes its own.* where the largest is 0\..*quantized_scope\(Fa"
    with pytest.raises(ValueError, match=message):
        WAYS[".keras"](model, None, tmp_path)
    assert lq.context.should_quantize()  # Larq's scope outlives the error
    with lq.context.quantized_scope(False):  # and this is what the message says to do
        model.save_weights(tmp_path / "latent.weights.h5")
    other = network(ScaledStdSign, None)
    other.load_weights(tmp_path / "latent.weights.h5")
    assert_array_equal(latent(other), KERNEL)
    assert_array_equal(other(X), model(X))


def test_checkpoints_hold_latent_weights_as_in_larq(tmp_path):
    model, other = network(ScaledStdSign, UP), network(ScaledStdSign, None)
    with lq.context.quantized_scope(True):
        model.save_weights(tmp_path / "checkpoint")
    other.load_weights(tmp_path / "checkpoint").expect_partial()
    assert_array_equal(latent(other), KERNEL)
    assert_array_equal(other(X), model(X))
