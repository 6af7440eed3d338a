"""A reason is raised by name; what nobody expected is a fault of the package."""

import pytest
import tensorflow as tf
from deploy.nets import binary_conv, chain, head
from larq_nobn._keras import keras
from larq_nobn.deploy import ConversionError, convert, prepared
from larq_nobn.deploy.operations import _rules

layers = keras.layers


class OnceOnly(layers.Layer):
    """A user's layer that is called in the type that it was built for, and no other."""

    def call(self, x):
        return tf.add(x, tf.ones(x.shape[-1:], tf.float16))


def test_an_error_in_a_rule_is_no_reason(tmp_path, monkeypatch):
    def failing(program, node):
        raise KeyError(140360990134480)

    monkeypatch.setattr(_rules, "RULES", (failing,))
    with pytest.raises(KeyError, match="140360990134480"):
        convert(chain(binary_conv(8), *head(), stem=False), tmp_path / "net.tflite")
    assert list(tmp_path.iterdir()) == []


def test_a_layer_that_cannot_be_called_in_float32_is_named():
    inputs = keras.Input((8, 8, 3))
    x = OnceOnly(name="mine", dtype="mixed_float16")(inputs)
    x = binary_conv(4, dtype="float32")(x)
    with pytest.raises(ConversionError) as caught:
        prepared(keras.Model(inputs, x))
    said = str(caught.value)
    assert "Layer 'mine' (OnceOnly) cannot be called: it raised " in said
    assert said.endswith("It computes in float32 there: remove casts to other types.")
