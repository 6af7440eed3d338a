"""A preconditioned layer converts to what the layer inside converts to."""

import larq_nobn as nobn
import pytest
from deploy.nets import binary_conv, chain, head, images, scrambled
from larq_nobn._keras import keras
from larq_nobn.deploy import binary_layers
from larq_nobn.deploy.prepare._prepare import in_float32, prepare
from larq_nobn.layers import BatchNormalizationPreconditioning
from larq_nobn.layers._inference import BinaryConvolution
from numpy.testing import assert_allclose, assert_array_equal


def network(wrap):
    """Two binary convolutions with a bias, a real-valued one and a head."""
    conv = {"use_bias": True, "kernel_quantizer": "scaled_std_sign"}
    return chain(
        wrap(binary_conv(name="first", **conv)),
        keras.layers.Dropout(0.5),
        wrap(binary_conv(name="second", activation="relu", **conv)),
        wrap(keras.layers.Conv2D(8, 1, name="float")),
        *head(),
        scramble=False,
    )


def renamed(layer):
    return BatchNormalizationPreconditioning(layer, name=f"{layer.name}_wrapper")


def twins():
    """The same function with and without wrappers."""
    plain = scrambled(network(lambda layer: layer))
    wrapped = network(BatchNormalizationPreconditioning)
    for layer, twin in zip(plain.layers, wrapped.layers, strict=True):
        getattr(twin, "layer", twin).set_weights(layer.get_weights())
    return plain, wrapped


@pytest.mark.parametrize("wrap", [BatchNormalizationPreconditioning, renamed])
def test_preparation_sees_the_layers_inside(wrap):
    model = scrambled(network(wrap))
    before, weights = model.get_config(), model.get_weights()
    names = [layer.name for layer in model.layers]
    assert binary_layers(model) == names[2:5:2]
    prepared = prepare(model)
    kept = [name for name in names if "dropout" not in name]
    assert [layer.name for layer in prepared.layers] == kept
    kinds = [type(prepared.get_layer(name)) for name in binary_layers(model)]
    assert kinds == [BinaryConvolution] * 2
    for form in (prepared, in_float32(model)):
        assert not any(
            isinstance(layer, BatchNormalizationPreconditioning)
            for layer in form.layers
        )
        assert_allclose(form(images()), model(images()), rtol=1e-5, atol=1e-5)
    assert model.get_config() == before
    for now, then in zip(model.get_weights(), weights, strict=True):
        assert_array_equal(now, then)


@pytest.mark.convert
def test_the_file_has_nothing_more_than_that_of_the_layers_alone(tmp_path):
    one, other = (
        nobn.convert(model, tmp_path / f"{place}.tflite")
        for place, model in enumerate(twins())
    )
    assert other.binary_layers == other.lce_bconv2d == 2
    assert other.float_ops == one.float_ops
    assert other.size_bytes == one.size_bytes
    assert other.verify["unexplained"] == 0
    assert {"ADD", "MUL"}.isdisjoint(op["op"] for op in other.float_ops)
