"""A dense layer that starts at class vectors in a plane."""

import inspect

import larq_nobn as nobn
import numpy as np
import pytest
import tensorflow as tf
from contract_docstring import check_docstring
from larq_nobn._keras import keras
from larq_nobn.initializers import SymmetricClasses
from numpy.testing import assert_allclose, assert_array_equal


def test_angles_and_length():
    kernel = SymmetricClasses(scale=3.0)((20, 6)).numpy().astype(float)
    angles = 2 * np.pi * np.subtract.outer(np.arange(6), np.arange(6)) / 6
    assert_allclose(kernel.T @ kernel, 9 * np.cos(angles), atol=1e-5)


def test_the_seed_decides():
    one, again = (SymmetricClasses(seed=1)((5, 3)) for _ in range(2))
    assert_array_equal(one, again)
    assert np.abs(one - SymmetricClasses(seed=2)((5, 3))).max() > 0.01
    keras.utils.set_random_seed(3)
    first = SymmetricClasses()((5, 3))
    keras.utils.set_random_seed(3)
    assert_array_equal(SymmetricClasses()((5, 3)), first)
    assert np.abs(SymmetricClasses()((5, 3)) - first).max() > 0.01


def test_a_dense_layer_in_a_file(tmp_path):
    layer = keras.layers.Dense(3, kernel_initializer=SymmetricClasses(2.0, seed=4))
    model = keras.Sequential([keras.Input((5,)), layer])
    assert_allclose(tf.norm(layer.kernel, axis=0), [2, 2, 2], rtol=1e-6)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras").layers[-1]
    assert again.get_config() == layer.get_config()
    assert again.kernel_initializer.get_config() == {"scale": 2.0, "seed": 4}
    assert keras.initializers.get("SymmetricClasses").scale == 1


def test_rejects():
    with pytest.raises(ValueError, match=r"scale=-1 is outside \(0, inf\)"):
        SymmetricClasses(scale=-1)
    with pytest.raises(TypeError, match="seed='a' is not a whole number"):
        SymmetricClasses(seed="a")
    with pytest.raises(ValueError, match=r"SymmetricClasses got a kernel of shape \("):
        SymmetricClasses()((3, 3, 4, 8))


def test_docstring():
    titles = ["Arguments", "Raises", "Example", "References"]
    arguments = list(inspect.signature(SymmetricClasses).parameters)
    check_docstring(
        SymmetricClasses, [*titles, "Differences from the paper"], arguments
    )
    assert nobn.initializers.__all__ == ["SymmetricClasses"]
