"""Class vectors in a plane: their angles, what turns with them, what rejects them."""

import larq_nobn as nobn
import numpy as np
import pytest
from deploy.nets import binary_conv
from larq_nobn._keras import keras
from larq_nobn.layers import SymmetricHead
from numpy.testing import assert_allclose, assert_array_equal

RNG = np.random.default_rng(70)


def built(classes, features, **kwargs):
    keras.utils.set_random_seed(71)
    layer = SymmetricHead(classes, **kwargs)
    layer.build((None, features))
    return layer


def cosines(classes):
    """cos(2π(i-j)/K) as a loop."""
    gram = np.empty((classes, classes))
    for i in range(classes):
        for j in range(classes):
            gram[i, j] = np.cos(2 * np.pi * (i - j) / classes)
    return gram


@pytest.mark.parametrize("classes, features", [(2, 2), (3, 5), (10, 7)])
def test_unit_vectors_at_equal_angles_that_add_up_to_nothing(classes, features):
    layer = built(classes, features, scale=1.0)
    layer.plane.assign(RNG.normal(size=(features, 2)))
    vectors = layer.class_vectors().numpy().astype(float)
    assert vectors.shape == (features, classes)
    assert_allclose(vectors.T @ vectors, cosines(classes), atol=1e-6)
    assert_allclose(vectors.sum(1), np.zeros(features), atol=1e-5)
    assert np.linalg.matrix_rank(vectors, tol=1e-4) == min(2, classes - 1)


def test_a_fixed_plane_is_saved_but_not_trained(tmp_path):
    layer = built(4, 6, trainable_plane=False)
    names = [[w.name for w in ws] for ws in (layer.trainable_weights, layer.weights)]
    assert names == [["scale:0"], ["scale:0", "plane:0"]]
    model = keras.Sequential([keras.Input((6,)), layer])
    model.save(tmp_path / "model.keras")
    x = RNG.normal(size=(3, 6)).astype("float32")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert_array_equal(again(x), model(x))


def classifier():
    """A binary convolution, batch norm, and the head."""
    keras.utils.set_random_seed(72)
    image = keras.Input((2, 2, 4))
    x = binary_conv(8, name="conv")(image)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x))
    x = keras.layers.BatchNormalization(name="norm")(x)
    model = keras.Model(image, SymmetricHead(5, name="head")(x))
    for weight in model.weights:
        moved = weight.numpy() + RNG.uniform(0.01, 0.2, weight.shape)
        weight.assign(moved)
    return model


IMAGES = RNG.normal(size=(6, 2, 2, 4)).astype("float32")


def test_surgery_keeps_it():
    model = classifier()
    folded = nobn.fold_batch_norm(model)
    free = nobn.remove_batch_norm(model)
    assert_allclose(folded(IMAGES), model(IMAGES), rtol=1e-4, atol=1e-4)
    for changed in (folded, free):
        head = changed.get_layer("head")
        assert type(head) is SymmetricHead
        assert_array_equal(
            head.class_vectors(), model.get_layer("head").class_vectors()
        )
