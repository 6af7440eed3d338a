"""DynamicTanh: its start, and what becomes of it before a sign."""

import larq as lq
import numpy as np
import pytest
from larq_nobn._keras import keras
from larq_nobn.deploy import Runner, convert
from larq_nobn.layers import DynamicTanh
from numpy.testing import assert_allclose


def test_the_published_start():
    layer = DynamicTanh()
    layer.build((None, 3))
    alpha, gamma, beta = layer.get_weights()
    assert alpha.shape == () and alpha == 0.5
    assert gamma.tolist() == [1, 1, 1] and beta.tolist() == [0, 0, 0]


POSITIVE = np.float32([2.0, 1.5, 0.5, 1.0, 1.0, 0.1])
BETA = np.float32([0.5, 0.3, -0.7, -0.9, 0, 0.9])


@pytest.mark.convert
def test_before_a_sign_it_is_a_threshold(tmp_path):
    """A positive scale leaves nothing of it, whatever the others."""
    inputs = keras.Input((6,))
    dense = lq.layers.QuantDense(
        5,
        input_quantizer="ste_sign",
        kernel_quantizer="ste_sign",
        kernel_constraint="weight_clip",
    )
    layer = DynamicTanh()
    layer.build((None, 6))
    layer.set_weights([0.4, POSITIVE, BETA])
    model = keras.Model(inputs, dense(layer(inputs)))
    data = np.random.default_rng(1).normal(0, 3, (64, 6)).astype(np.float32)
    report = convert(model, tmp_path / "model.tflite", data=data)
    (actual,) = Runner((tmp_path / "model.tflite").read_bytes()).outputs([data])
    latent, bias = dense.get_weights()
    signs = np.where(layer(data).numpy() >= 0, 1.0, -1.0)
    assert_allclose(actual, signs @ np.where(latent >= 0, 1.0, -1.0) + bias, atol=1e-5)
    assert "TANH" not in {op["op"] for op in report.float_ops}
