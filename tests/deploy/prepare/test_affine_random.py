"""Random networks full of gains and offsets keep their function."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
from deploy.nets import binary_conv, head, images
from deploy.prepare.affine_nets import SHAPE
from larq_nobn._keras import keras
from larq_nobn.deploy.prepare._prepare import prepare
from larq_nobn.deploy.verify._verify import verify_prepared

_layers = keras.layers


def norm():
    return _layers.BatchNormalization()


# Each makes a map of one or two.
PARTS = [
    lambda a, b: norm()(a),
    lambda a, b: nobn.layers.ChannelAffine()(norm()(a)),
    lambda a, b: norm()(_layers.MaxPooling2D(3, 1, padding="same")(a)),
    lambda a, b: norm()(_layers.AveragePooling2D(3, 1, padding="same")(a)),
    lambda a, b: nobn.layers.ProxyNormalization("relu")(a),
    lambda a, b: binary_conv(size=1)(a),
    lambda a, b: binary_conv(pad_values=0.0)(a),
    lambda a, b: binary_conv(activation="relu")(a),
    lambda a, b: binary_conv(input_quantizer=nobn.quantizers.RSign())(a),
    lambda a, b: binary_conv(size=1, input_quantizer=None)(lq.quantizers.SteSign()(a)),
    lambda a, b: _layers.Conv2D(32, 3, padding="same")(a),
    lambda a, b: _layers.ReLU()(a),
    lambda a, b: nobn.layers.RPReLU()(a),
    lambda a, b: _layers.Add()([a, b]),
]


def network(random):
    inputs = keras.Input(SHAPE)
    maps = [inputs]
    for _ in range(12):
        first, second = (maps[-min(len(maps), d)] for d in random.geometric(0.6, 2))
        maps.append(PARTS[random.integers(len(PARTS))](first, second))
    x = maps[-1]
    for layer in head():
        x = layer(x)
    model = keras.Model(inputs, x)
    for weight in model.weights:
        if weight.shape.rank == 1:
            noise = random.normal(size=weight.shape)
            noise = np.abs(noise) if "variance" in weight.name else noise
            weight.assign_add(noise * random.choice([0.3, 1.0]))
    return model


@pytest.mark.parametrize("seed", range(3))
def test_prepared_networks_compute_the_same(seed):
    keras.utils.set_random_seed(seed)
    model = network(np.random.default_rng(seed))
    found, _ = verify_prepared(model, model, prepare(model), [images(16, SHAPE)])
    assert found["unexplained"] == 0
