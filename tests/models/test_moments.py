"""The priors that batch Kalman normalization finds after layers without a kernel."""

import numpy as np
import pytest
import tensorflow as tf
from larq.activations import hard_tanh
from larq_nobn._keras import dtype_policy, keras
from larq_nobn.layers._channel_padding import ChannelPadding
from larq_nobn.models._moments import PropagatedMoments
from numpy.testing import assert_allclose

RNG = np.random.default_rng(5)
BETA, GAMMA = RNG.normal(size=(2, 2, 3)).astype(np.float32)
# Moving variances are 1 as long as nothing trains.
MEANS, VARIANCES = BETA, GAMMA**2 / (1 + 1e-5)


def priors(layer, count):
    """What a normalization after `layer` is given, when known maps go into it."""
    moments = PropagatedMoments()
    image = keras.Input((4, 4, 3))
    maps = []
    for index in range(count):
        maps.append(moments.normalize(image, f"norm{index}"))
        norm = maps[-1]._keras_history.layer
        norm.gamma.assign(GAMMA[index])
        norm.beta.assign(BETA[index])
    y = moments.normalize(moments.apply(layer, maps if count > 1 else maps[0]), "last")
    (node,) = y._keras_history.layer.inbound_nodes
    _, mean, variance = tf.nest.flatten(node.input_tensors)
    return keras.Model(image, [mean, variance])(np.zeros((1, 4, 4, 3)))


@pytest.mark.parametrize(
    "layer, count, mean, variance",
    [
        (keras.layers.Add, 2, MEANS.sum(0), VARIANCES.sum(0)),
        (keras.layers.Concatenate, 2, MEANS.ravel(), VARIANCES.ravel()),
        (lambda: keras.layers.Rescaling(0.5), 1, MEANS[0] / 2, VARIANCES[0] / 4),
        (keras.layers.AveragePooling2D, 1, MEANS[0], VARIANCES[0]),
        (lambda: keras.layers.Activation(hard_tanh), 1, MEANS[0], VARIANCES[0]),
        (
            lambda: ChannelPadding(1, 2),
            1,
            np.pad(MEANS[0], (1, 2)),
            np.pad(VARIANCES[0], (1, 2)),
        ),
    ],
    ids=["add", "concatenate", "rescaling", "average", "clip", "pad"],
)
def test_moments_go_the_way_of_the_features(layer, count, mean, variance):
    with dtype_policy("mixed_float16"):
        actual = priors(layer(), count)
    assert all(moment.dtype == "float32" for moment in actual)
    assert_allclose(actual[0], mean, rtol=1e-6)
    assert_allclose(actual[1], variance, rtol=1e-6)
