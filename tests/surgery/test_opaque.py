"""What cannot be read stays as it is, and batch norm goes all the same."""

import larq_nobn as nobn
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn._keras import keras
from larq_nobn.graph._copies import to_keras
from larq_nobn.surgery import _fold
from numpy.testing import assert_allclose
from surgery.parts import images, norm, settled

layers = keras.layers
SHAPE = (4, 4, 3)


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


def test_open_sizes_are_compared_at_one_that_the_model_takes(monkeypatch):
    image = keras.Input((None, None, 1))
    x = norm(layers.Conv2D(2, 40, name="conv")(image))
    model = keras.Model(image, layers.GlobalAveragePooling2D()(x))
    x = images(2, (50, 50, 1))
    assert_allclose(nobn.fold_batch_norm(model)(x), model(x), rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(_fold._copies, "to_keras", _with_other_kernel)
    with pytest.raises(nobn.surgery.ModelError, match="changed what model"):
        nobn.fold_batch_norm(model)


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
    said = r"cannot be compared on .* 'bright': .* x > y did not hold.* verify=False"
    with pytest.raises(nobn.surgery.ModelError, match=said):
        nobn.fold_batch_norm(model)
    folded = nobn.fold_batch_norm(model, verify=False)
    x = np.float32([[101, 200, 300, 400]])
    assert_allclose(folded(x), x / np.sqrt(1.001) + 1, rtol=1e-6)


def test_a_model_with_a_table_is_folded_on_request():
    ids = keras.Input((5,), dtype="string")
    x = layers.StringLookup(vocabulary=["0", "1", "2"])(ids)
    x = layers.BatchNormalization()(layers.Embedding(5, 4)(x))
    model = keras.Model(ids, layers.Dense(3)(layers.Flatten()(x)))
    with pytest.raises(nobn.surgery.ModelError, match="a table.*verify=False"):
        nobn.fold_batch_norm(model)
    folded = nobn.fold_batch_norm(model, verify=False)
    x = tf.constant([["0", "1", "2", "3", "x"]])
    assert_allclose(folded(x), model(x), rtol=1e-4, atol=1e-6)
