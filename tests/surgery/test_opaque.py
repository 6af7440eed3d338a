"""What cannot be read stays as it is, and batch norm goes all the same."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn import layers as own
from larq_nobn._keras import keras
from larq_nobn.graph._copies import to_keras
from larq_nobn.surgery import _fold
from numpy.testing import assert_allclose, assert_array_equal
from surgery.parts import batch_norms, images, norm, settled

layers = keras.layers
SHAPE = (4, 4, 3)


def test_statistics_after_every_output_of_a_layer_are_those_of_its_input():
    """Each half of a split map has the gains and moments of the whole one."""
    image = keras.Input(SHAPE)
    x = norm(layers.Conv2D(4, 3, use_bias=False, name="conv")(image), name="first")
    left, right = layers.Lambda(lambda x: tf.split(x, 2, axis=-1))(x)
    ends = [
        norm(part, name=name, scale=False)
        for part, name in ((left, "left"), (right, "right"))
    ]
    model = settled(keras.Model(image, ends))
    new = nobn.remove_batch_norm(model)
    for name in ("left", "right"):
        # The convolution is standardized, so nothing is left of what was measured.
        assert_allclose(new.get_layer(name).gamma, np.ones(2), rtol=1e-3)
        assert_array_equal(new.get_layer(name).beta, model.get_layer(name).beta)


def test_statistics_are_frozen_around_a_lambda():
    image = keras.Input(SHAPE)
    x = own.FilterResponseNormalization()(layers.Conv2D(4, 3)(image))
    model = keras.Model(image, layers.Lambda(lambda x: 2 * x)(x))
    frozen = nobn.freeze_statistics(model, images(4, SHAPE))
    assert not batch_norms(frozen)
    x = keras.Model(frozen.inputs, frozen.layers[-1].input)(images(4, SHAPE))
    assert_allclose(frozen(images(4, SHAPE)), 2 * x.numpy(), rtol=1e-6)


def test_a_batch_norm_of_whole_numbers_leaves_real_ones():
    """Each of what follows takes its place, and none of them takes whole numbers."""
    image = keras.Input(SHAPE)
    whole = layers.Lambda(lambda x: tf.cast(4 * x, tf.int64))(image)
    signs = {"input_quantizer": "ste_sign", "padding": "same", "pad_values": 1.0}
    ends = [
        layers.ReLU()(layers.BatchNormalization()(whole)),
        layers.Conv2D(2, 3)(layers.BatchNormalization()(whole)),
        lq.layers.QuantConv2D(2, 3, **signs)(layers.BatchNormalization()(whole)),
    ]
    model = settled(keras.Model(image, ends))
    folded, removed = nobn.fold_batch_norm(model), nobn.remove_batch_norm(model)
    given = images(4, SHAPE)
    for was, now in zip(model(given), folded(given), strict=True):
        assert_allclose(now, was, rtol=1e-4, atol=1e-5)
    assert not batch_norms(folded) and not batch_norms(removed)
    assert [y.shape for y in removed(given)] == [y.shape for y in model(given)]


class Rectified(layers.BatchNormalization):
    """A subclass that computes more."""

    def call(self, inputs, training=None):
        return tf.nn.relu(super().call(inputs, training=training))


class Doubled(layers.Dropout):
    """Another one, which no rewrite may leave out."""

    def call(self, inputs, training=None):
        return 2 * super().call(inputs, training=training)


@pytest.mark.parametrize("own", [Rectified, lambda name: Doubled(0.5, name=name)])
def test_a_subclass_of_what_is_known_stays_as_it_is(own):
    image = keras.Input(SHAPE)
    x = norm(layers.Conv2D(4, 3, name="conv")(image), name="plain")
    model = settled(keras.Model(image, layers.Dense(2)(own(name="own")(x))))
    x = images(4, SHAPE)
    folded, removed = nobn.fold_batch_norm(model), nobn.remove_batch_norm(model)
    assert_allclose(folded(x), model(x), rtol=1e-5, atol=1e-6)
    layer = model.get_layer("own")
    for new in (folded, removed):
        assert type(new.get_layer("own")) is type(layer)
        assert not any(type(x) is layers.BatchNormalization for x in new.layers)
    kept = removed.get_layer("own")
    before, after = keras.Model(removed.inputs, [kept.input, kept.output])(x)
    assert_allclose(after, layer(before), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size, wrong", [(3, False), (40, False), (40, True)])
def test_open_sizes_are_compared_at_one_that_the_model_takes(size, wrong, monkeypatch):
    image = keras.Input((None, None, 1))
    x = norm(layers.Conv2D(2, size, name="conv")(image))
    model = keras.Model(image, layers.GlobalAveragePooling2D()(x))
    if wrong:
        monkeypatch.setattr(_fold._copies, "to_keras", _with_other_kernel)
        with pytest.raises(nobn.surgery.ModelError, match="changed what model"):
            nobn.fold_batch_norm(model)
        return
    x = images(2, (50, 50, 1))
    assert_allclose(nobn.fold_batch_norm(model)(x), model(x), rtol=1e-4, atol=1e-5)


def _with_other_kernel(graph):
    model = to_keras(graph)
    model.get_layer("conv").kernel.assign(1.5 * model.get_layer("conv").kernel)
    return model


class Bright(layers.Layer):
    """Takes no values below 100."""

    def call(self, x):
        with tf.control_dependencies([tf.debugging.assert_greater(x, 100.0)]):
            return tf.identity(x)


def test_a_model_that_takes_no_generated_examples_is_folded_on_request():
    x = keras.Input((4,))
    norm_after = layers.BatchNormalization(beta_initializer="ones")
    model = keras.Model(x, norm_after(Bright()(x)))
    said = r"cannot be compared, .* 'bright' .* x > y did not hold.* verify=False"
    with pytest.raises(nobn.surgery.ModelError, match=said):
        nobn.fold_batch_norm(model)
    folded = nobn.fold_batch_norm(model, verify=False)
    x = np.float32([[101, 200, 300, 400]])
    assert_allclose(folded(x), x / np.sqrt(1.001) + 1, rtol=1e-6)
