"""Keras' own normalizers in a residual binary network, as a file."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import binary_conv, chain
from larq_nobn._keras import keras
from larq_nobn.deploy.prepare._prepare import prepare
from larq_nobn.layers._inference import PlainGroupNormalization
from numpy.testing import assert_allclose

layers = keras.layers


def network(norm):
    """The norm before a shifted sign and a shortcut that both need its output."""
    keras.utils.set_random_seed(5)
    image = keras.Input((8, 8, 32))
    x = norm(layers.Conv2D(32, 3, padding="same")(image))
    branch = lq.layers.QuantConv2D(
        32,
        3,
        padding="same",
        pad_values=1.0,
        use_bias=False,
        input_quantizer=nobn.quantizers.RSign(),
        kernel_quantizer=nobn.quantizers.ScaledStdSign(),
    )(x)
    model = keras.Model(image, layers.Add()([branch, x]))
    rng = np.random.default_rng(6)
    for weight in model.weights:
        if weight.shape.rank == 1:
            weight.assign_add(rng.uniform(-0.5, 0.5, weight.shape))
    return model


NORMS = {
    "one group": lambda: layers.GroupNormalization(1),
    "four groups": lambda: layers.GroupNormalization(4, epsilon=1e-5),
    "a group per channel": lambda: layers.GroupNormalization(-1),
    "no affine": lambda: layers.GroupNormalization(4, center=False, scale=False),
    "layer norm": lambda: layers.LayerNormalization(),
    "layer norm over positions": lambda: layers.LayerNormalization(axis=(1, 2, 3)),
    "unit": lambda: layers.UnitNormalization(),
}


# What is group norm becomes one layer of the package, as the next test sees.
@pytest.mark.convert
def test_they_convert_beside_a_shortcut(tmp_path):
    """Side by side in one file, each after an input of its own."""
    names = [n for n in NORMS if n not in ("a group per channel", "no affine")]
    networks = [network(NORMS[name]()) for name in names]
    ends = [n.output for n in networks]
    model = keras.Model([n.input for n in networks], ends)
    images = np.random.default_rng(7).normal(size=(16, 8, 8, 32)).astype(np.float32)
    data = len(names) * [images]
    report = nobn.convert(model, tmp_path / "model.tflite", data=data)
    assert report.lce_bconv2d == len(names)
    assert report.verify["unexplained"] == 0


@pytest.mark.parametrize("name", [n for n in NORMS if "group" in n or n == "no affine"])
def test_group_norm_is_prepared(name):
    model = network(NORMS[name]())
    prepared = prepare(model)
    plain = [x for x in prepared.layers if isinstance(x, PlainGroupNormalization)]
    assert len(plain) == 1
    (given,) = (x for x in model.layers if isinstance(x, layers.GroupNormalization))
    assert plain[0].name == given.name
    x = tf.random.stateless_normal((4, 8, 8, 32), (1, 2))
    assert_allclose(prepared(x), model(x), atol=1e-4)


@pytest.mark.convert
def test_operations_on_a_large_map_name_their_layer(tmp_path):
    # Of a size from which training compiles chains of operations into one.
    norm = nobn.layers.FilterResponseNormalization(name="norm")
    model = chain(binary_conv(name="conv"), norm, shape=(64, 64, 3))
    report = nobn.convert(model, tmp_path / "model.tflite", verify=False)
    layers_of = {op["op"]: op["layers"] for op in report.float_ops}
    assert layers_of["SQUARE"] == ["norm"]
    assert "unknown" not in sum(layers_of.values(), [])
