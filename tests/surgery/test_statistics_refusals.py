"""Models, data and arguments of which there are no statistics to keep."""

import numpy as np
import pytest
import tensorflow as tf
from larq_nobn._keras import keras
from larq_nobn.surgery import ModelError, freeze_statistics, reestimate_batch_norm

BatchNorm = keras.layers.BatchNormalization
GroupNorm, LayerNorm = keras.layers.GroupNormalization, keras.layers.LayerNormalization


def draw(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def alone(norm, *shape):
    inputs = keras.Input(shape)
    return keras.Model(inputs, norm(inputs), name="net")


def refused(model, data, message, error=ValueError):
    with pytest.raises(error, match=message):
        reestimate_batch_norm(model, data)


class Twice(keras.Model):
    def call(self, inputs):
        return 2 * inputs


def test_reestimation_rejects_models_that_it_cannot_copy_or_need_not():
    inputs = keras.Input((3,))
    x = draw(4, 3)
    refused("m.keras", x, "'m.keras' is not a Keras model", ModelError)
    subclassed = keras.Model(inputs, Twice(name="twice")(inputs), name="net")
    refused(subclassed, x, "'net' .* subclassed or unbuilt model 'twice'", ModelError)
    plain = keras.Model(inputs, keras.layers.Dense(2)(inputs), name="plain")
    refused(plain, x, "Model 'plain' has no batch norm", ModelError)
    norm = BatchNorm(name="again")
    loop = keras.Model(inputs, norm(keras.layers.ReLU()(norm(inputs))))
    refused(loop, x, "input of layer 'again' depends on its own", ModelError)


def test_reestimation_rejects_data_that_does_not_fit():
    model = alone(BatchNorm(name="norm"), 3)
    slices = tf.data.Dataset.from_tensor_slices
    message = r"examples of shape \(4,\), but the model 'net' takes \(3,\)"
    refused(model, draw(5, 4), message)
    refused(model, draw(0, 3), "data contains no example")
    refused(
        model, slices(draw(1, 3)).batch(1).repeat(), "is an endless tf.data.Dataset"
    )
    refused(model, (draw(5, 3), draw(4)), r"arrays of \[5, 4\] examples")
    refused(model, {"x": draw(5, 3)}, r"inputs named \['x'\], but .* takes \['input_")
    bad = draw(5, 3)
    bad[2, 1] = np.nan
    refused(model, bad, "input of layer 'norm' is not finite")


def test_freezing_rejects_what_is_no_gain_and_bias_per_channel():
    inputs = keras.Input((6, 8, 4))
    x = GroupNorm(2, axis=1, name="rows")(inputs)
    x = LayerNorm(axis=(1, 2, 3), name="places")(x)
    x = keras.layers.TimeDistributed(LayerNorm(), name="wrapped")(x)
    model = keras.Model(inputs, x, name="net")
    names = (
        r"'rows' \(GroupNormalization\), 'places' \(LayerNormalization\), "
        r"'wrapped' \(TimeDistributed\) cannot become"
    )
    with pytest.raises(ModelError, match=names):
        freeze_statistics(model, draw(2, 6, 8, 4))


def test_freezing_rejects_models_with_nothing_to_freeze_or_a_loop():
    inputs = keras.Input((6, 4))
    plain = keras.Model(inputs, keras.layers.Dense(2)(inputs), name="plain")
    with pytest.raises(ModelError, match="Model 'plain' has no layer that takes"):
        freeze_statistics(plain, draw(2, 6, 4))
    norm = LayerNorm(name="again")
    loop = keras.Model(inputs, norm(2 * norm(inputs)))
    with pytest.raises(ModelError, match="input of layer 'again' depends on its own"):
        freeze_statistics(loop, draw(2, 6, 4))
