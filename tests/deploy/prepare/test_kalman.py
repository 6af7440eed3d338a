"""Networks with batch Kalman normalization leave their state after."""

from functools import cache

import larq_nobn as nobn
import numpy as np
import pytest
from deploy.nets import INPUT, binary_conv, head, images, scrambled
from larq_nobn._keras import dtype_policy, keras
from larq_nobn.deploy._opening import as_functional
from larq_nobn.deploy.prepare._prepare import half_precision, in_float32, prepare
from larq_nobn.graph import calls
from larq_nobn.layers import BatchKalmanNormalization, RPReLU, propagate_moments
from numpy.testing import assert_allclose, assert_array_equal


class Kalman:
    """Normalizes, and carries the moments of the residual stream along."""

    def __init__(self):
        self.state = None

    def normalize(self, x, name):
        norm = BatchKalmanNormalization(name=name)
        conv = x._keras_history.layer
        prior = [] if self.state is None else [propagate_moments(conv, self.state)]
        y, posterior = norm([x, *prior])
        branch = propagate_moments(norm, posterior)
        if self.state is None:
            self.state = branch
        else:
            self.state = [
                keras.layers.Add()([old, new])
                for old, new in zip(self.state, branch, strict=True)
            ]
        return y

    def follow(self, layer):
        self.state = propagate_moments(layer, self.state)


class Batch:
    def normalize(self, x, name):
        return keras.layers.BatchNormalization(epsilon=1e-5, name=name)(x)

    def follow(self, layer):
        pass


@cache
def residual(kind):
    """A stem and two blocks; the weights of both kinds are the same."""
    normalization = kind()
    image = keras.Input(INPUT)
    stem = keras.layers.Conv2D(32, 3, padding="same", use_bias=False, name="stem")
    x = normalization.normalize(stem(image), "stem_norm")
    for block in ("first", "second"):
        conv = binary_conv(
            name=block,
            input_quantizer=nobn.quantizers.RSign(),
            kernel_quantizer=nobn.quantizers.ScaledStdSign(),
        )
        y = normalization.normalize(conv(x), f"{block}_norm")
        act = RPReLU(name=f"{block}_act")
        x = act(keras.layers.Add(name=f"{block}_add")([x, y]))
        normalization.follow(act)
    for layer in head():
        x = layer(x)
    return scrambled(keras.Model(image, x, name=kind.__name__.lower()))


def test_only_the_plain_path_is_called():
    model = as_functional(residual(Kalman))
    kalman = [call.label for call in calls(model)]
    assert kalman == [call.label for call in calls(as_functional(residual(Batch)))]
    assert nobn.deploy.binary_layers(model) == ["first", "second"]


def test_the_prepared_network_is_that_of_batch_norm():
    model = residual(Kalman)
    nodes = [len(layer.inbound_nodes) for layer in model.layers]
    weights = model.get_weights()
    prepared = prepare(model)
    assert [type(layer) for layer in prepared.layers] == [
        type(layer) for layer in prepare(residual(Batch)).layers
    ]
    expected = model(images(), training=False)
    scale = np.abs(expected).max()
    assert_allclose(prepared(images()), expected, rtol=0, atol=2e-6 * scale)
    assert nodes == [len(layer.inbound_nodes) for layer in model.layers]
    for before, after in zip(weights, model.get_weights(), strict=True):
        assert_array_equal(before, after)


def test_mixed_precision_is_rebuilt_in_float32():
    with dtype_policy("mixed_float16"):
        model = residual.__wrapped__(Kalman)
    same = in_float32(model)
    assert half_precision(same) is None
    # Half precision keeps 11 bits; a few signs near 0 fall the other way.
    assert_allclose(same(images()), model(images()).numpy(), rtol=0, atol=0.2)


@pytest.mark.convert
def test_a_file_has_the_operations_of_its_batch_norm_counterpart(tmp_path):
    kalman, batch = (
        nobn.convert(residual(kind), tmp_path / f"{kind.__name__}.tflite")
        for kind in (Kalman, Batch)
    )
    assert kalman.float_ops == batch.float_ops
    assert kalman.lce_bconv2d == batch.lce_bconv2d == 2
    assert kalman.size_bytes == batch.size_bytes
    assert kalman.verify["unexplained"] == 0
