"""Normalizations train on real images, on usual batches and on two images."""

import numpy as np
import pytest
import tensorflow as tf
from larq_nobn import data
from larq_nobn._keras import keras
from larq_nobn.models import ReActNet18


@pytest.fixture(scope="module")
def batches():
    """Two epochs of usual batches, five of two images, and all test images."""
    loaded = (
        data.load("digits", "train", 64).repeat(2),
        data.load("digits", "train", 2, limit=10),
        data.load("digits", "test", 355),
    )
    return [list(each) for each in loaded]


# The networks of `tests/models` take a step under all.
TRAINED = ["batch_norm", "nobn"]


@pytest.mark.slow
@pytest.mark.parametrize("normalization", TRAINED)
def test_digits_are_learned_and_two_images_a_batch_survived(normalization, batches):
    keras.utils.set_random_seed(0)
    model = ReActNet18((8, 8, 1), 10, normalization, width=8, blocks=(1,))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss)
    model.optimizer.build(model.trainable_variables)  # or it is traced once more
    # One graph for batches of any size: it takes longer than all that it computes.
    images = tf.TensorSpec((None, 8, 8, 1), tf.float32)
    labels = tf.TensorSpec((None,), tf.int64)

    @tf.function(input_signature=[images, labels], autograph=False)
    def step(x, y):
        return model.train_step((x, y))["loss"]

    def trained_on(few):
        assert np.isfinite([step(x, y) for x, y in few]).all()
        assert all(np.isfinite(weight).all() for weight in model.get_weights())

    usual, of_two, ((x, y),) = batches
    begin = model.get_weights()
    trained_on(usual)
    # Twice what guessing gives; 44 steps of one block do not make a classifier.
    assert np.mean(np.argmax(model(x), 1) == y) > 0.2
    model.set_weights(begin)
    trained_on(of_two)
