"""Proxy Norm as group norm, activation and a constant shift."""

import larq_nobn as nobn
import numpy as np
import pytest
from deploy.nets import binary_conv, chain
from deploy.prepare.affine_nets import operations, prepared
from deploy.prepare.factor_nets import as_written
from larq_nobn._keras import keras
from larq_nobn.layers._inference import PlainAffine, PlainGroupNormalization
from numpy.testing import assert_allclose


def proxy(activation, **changes):
    return nobn.layers.ProxyNormalization(activation, name="proxy", **changes)


@pytest.mark.parametrize(
    "activation, groups, num_samples",
    [
        ("linear", 1, None),
        ("linear", 4, 50),
        ("relu", 1, 50),
        ("relu", 4, None),
        ("leaky_relu", 1, None),
        ("leaky_relu", 4, 50),
        ("tanh", 1, 50),
        ("tanh", 4, 50),
    ],
)
def test_three_layers_compute_the_same(activation, groups, num_samples):
    layer = proxy(activation, groups=groups, num_samples=num_samples)
    prepared(chain(binary_conv(), layer, keras.layers.Activation("tanh")))


@pytest.mark.parametrize("activation", ["linear", "relu", "leaky_relu", "tanh"])
def test_a_relu_leaves_a_shift_after_it(activation):
    model = chain(binary_conv(), proxy(activation))
    new = as_written(model)
    kinds = {layer.name: type(layer) for layer in new.layers}
    assert kinds["proxy/norm"] is PlainGroupNormalization
    assert kinds["proxy"] is PlainAffine
    assert ("proxy/activation" in kinds) == (activation != "linear")
    assert (new.get_layer("proxy").gain is None) == (activation != "tanh")


def test_the_constants_are_those_of_the_proxy():
    layer = proxy("tanh", num_samples=1000)
    model = chain(layer)
    new = as_written(model).get_layer("proxy")
    gamma, beta = (w.numpy() for w in (layer.gamma, layer.beta))
    spread = gamma * (1 + layer.proxy_gamma.numpy())
    normal = np.random.default_rng(0).normal(size=(200_000, 1))
    values = np.tanh(gamma * layer.proxy_beta.numpy() + beta + spread * normal)
    rate = 1 / np.sqrt(values.var(0) + 0.03)
    assert_allclose(new.gain, rate, rtol=0.02)
    assert_allclose(new.offset, -values.mean(0) * rate, atol=0.02)


def test_a_shared_layer_stays_shared():
    layer = proxy("relu")
    model = chain(layer, layer)
    assert len(prepared(model).get_layer("proxy").inbound_nodes) >= 2


@pytest.mark.convert
def test_before_a_sign_it_costs_four_operations_less():
    rows = [keras.layers.Activation("tanh"), proxy("tanh"), binary_conv()]
    model = chain(*rows, stem=False, shape=(8, 8, 32))
    # Its formula takes SUB, MUL, ADD, TANH, SUB, MUL on the map.
    assert operations(model) == {
        "TANH": 2,
        "MEAN": 2,
        "SQUARED_DIFFERENCE": 1,
        "SUB": 1,
        "ADD": 3,
        "RSQRT": 1,
        "MUL": 2,
        "LceQuantize": 1,
        "LceBconv2d": 1,
    }


@pytest.mark.convert
def test_what_is_found_in_the_file_is_of_the_layer(tmp_path):
    model = chain(binary_conv(name="conv"), proxy("relu"), binary_conv(name="last"))
    report = nobn.convert(model, tmp_path / "model.tflite")
    layers = {op["op"]: op["layers"] for op in report.float_ops}
    assert set(layers["MEAN"]) == set(layers["RSQRT"]) == {"proxy"}
    assert report.verify["prepared"]["unexplained"] == 0
