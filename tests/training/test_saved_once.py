"""Layers that two parts of a model share: a file opens, or is not written."""

import numpy as np
import pytest
from larq_nobn import training
from larq_nobn._keras import keras, register

layers = keras.layers
X = np.random.default_rng(0).normal(size=(4, 3, 3)).astype("float32")


def dense(name="shared"):
    return layers.Dense(3, name=name)


def part(name, *inside):
    start = keras.Input((3, 3))
    x = start
    for layer in inside:
        x = layer(x)
    return keras.Model(start, x, name=name)


def joined(*parts):
    start = keras.Input((3, 3))
    return keras.Model(start, layers.Add()([each(start) for each in parts]))


def beside_model():
    layer = dense()
    return joined(layer, part("a", layer))


def two_models():
    layer = dense()
    return joined(part("a", layer), part("b", layer, layers.ReLU()))


def model_of_models():
    inner = part("shared", dense("inside"))
    return joined(part("a", inner), part("b", inner, layers.ReLU()))


def wrapped():
    layer = dense()
    return joined(layer, layers.TimeDistributed(layer, name="timed"))


def sequential():
    layer = dense()
    return joined(*(keras.Sequential([keras.Input((3, 3)), layer]) for _ in range(2)))


@register()
class SavedOnceParts(layers.Layer):
    """Shares a layer inside, and makes it so again when it is opened."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first = layers.Dense(3)
        self.second = layers.TimeDistributed(self.first)

    def build(self, shape):
        self.second.build(shape)
        super().build(shape)

    def call(self, x):
        return self.first(x) + self.second(x)


REJECTED = [beside_model, two_models, model_of_models, wrapped, sequential]
WRITTEN = {
    "layer used twice": lambda: joined(*[dense()] * 2),
    "model used twice": lambda: joined(*[part("a", dense())] * 2),
    "no weights": lambda: joined(
        *(part(name, rectify, dense(f"of_{name}")) for name in "ab")
    ),
    "inside a layer": lambda: joined(SavedOnceParts(), dense()),
}
rectify = layers.ReLU()


@pytest.mark.parametrize("make", REJECTED)
def test_a_shared_layer_is_rejected_by_its_name(make, tmp_path):
    with pytest.raises(ValueError, match="Layer 'shared' is in .* and in .* of "):
        training.save_model(make(), tmp_path / "model.keras")
    assert not (tmp_path / "model.keras").exists()
    make().save(tmp_path / "of_keras.keras")
    with pytest.raises(ValueError, match="expected|Unable|found"):
        keras.models.load_model(tmp_path / "of_keras.keras")


@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_written_opens(name, tmp_path):
    model = WRITTEN[name]()
    training.save_model(model, tmp_path / "model.keras")
    again = training.open_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(X), model(X))
