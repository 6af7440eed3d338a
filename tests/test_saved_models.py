"""SavedModel folders, traces and all, of what is given objects of Keras."""

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn import layers, quantizers
from larq_nobn._keras import keras
from numpy.testing import assert_allclose

CONSTANT, L2 = keras.initializers.Constant(0.3), keras.regularizers.L2(0.01)


@keras.saving.register_keras_serializable("test_saved_models")
class Cubes(keras.regularizers.Regularizer):
    """A user's regularizer."""

    def __call__(self, weight):
        return 0.1 * tf.reduce_sum(tf.abs(weight) ** 3)

    def get_config(self):
        return {}


def convolution(**objects):
    return lq.layers.QuantConv2D(4, 3, padding="same", **objects)


def proxy(regularizer):
    return layers.ProxyNormalization("relu", proxy_regularizer=regularizer)


PARTS = {
    "a name": lambda: proxy("l2"),
    "a user's": lambda: proxy(Cubes()),
    "an initializer": lambda: layers.DynamicTanh(beta_initializer=CONSTANT),
    "in a quantizer": lambda: convolution(
        kernel_quantizer=quantizers.BinaryRegularized("ste_sign", strength=0.1),
        kernel_constraint="weight_clip",
    ),
    "in a wrapper": lambda: layers.BatchNormalizationPreconditioning(
        convolution(kernel_regularizer=L2, bias_constraint="non_neg")
    ),
}


@pytest.mark.slow
def test_objects_of_keras_are_in_a_saved_model(tmp_path):
    start = keras.Input((6, 6, 4))
    model = keras.Model(start, [make()(start) for make in PARTS.values()])
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign_add(rng.uniform(0, 0.1, weight.shape).astype(weight.dtype.name))
    images = rng.normal(size=(2, 6, 6, 4)).astype("float32")
    expected, losses = model(images), [float(loss) for loss in model.losses]
    assert len(losses) == 6 and min(losses) > 0
    model.save(tmp_path / "model")
    again = keras.models.load_model(tmp_path / "model")
    for name, one, other in zip(PARTS, again(images), expected, strict=True):
        assert_allclose(one, other, rtol=1e-5, atol=1e-5, err_msg=name)
    assert_allclose(sorted(map(float, again.losses)), sorted(losses), rtol=1e-5)
