"""Small networks with positive factors, and what preparation leaves of these."""

import larq_nobn as nobn
import numpy as np
from deploy.nets import binary_conv, head, images, scrambled
from larq_nobn._keras import keras
from larq_nobn.deploy.prepare._moves import absorb_factors
from larq_nobn.deploy.prepare._prepare import at_inference, built
from larq_nobn.deploy.prepare._reading import spell_affine
from larq_nobn.graph import to_keras
from larq_nobn.layers._inference import PlainAffine
from larq_nobn.rewrites import once
from numpy.testing import assert_allclose

SHAPE = (8, 8, 32)


def factor(scale=0.25, offset=0.0, name="factor"):
    """Powers of two commute with rounding: no sign near 0 falls the other way."""
    return keras.layers.Rescaling(scale, offset, name=name)


def rsign_conv(**changes):
    arguments = {"use_bias": True, "kernel_quantizer": "magnitude_aware_sign"}
    return binary_conv(input_quantizer=nobn.quantizers.RSign(), **arguments, **changes)


def factors_left(model, x=None):
    """The factors that this pass leaves, once it is seen to keep the function."""
    graph = absorb_factors(at_inference(model))
    absorbed = to_keras(once(graph, (spell_affine,)))
    x = images(shape=model.input_shape[1:]) if x is None else x
    expected = model(x, training=False).numpy()
    atol = 1e-5 * np.abs(expected).max()
    assert_allclose(absorbed(x).numpy(), expected, rtol=0, atol=atol)
    return {
        layer.name: getattr(layer, "gain", getattr(layer, "scale", None))
        for layer in absorbed.layers
        if is_factor(layer) or getattr(layer, "symbol", None) == "math.multiply"
    }


def is_factor(layer):
    """Whether a layer of a prepared model multiplies everything by one number."""
    if isinstance(layer, keras.layers.Rescaling):
        return True
    if not isinstance(layer, PlainAffine) or layer.gain is None:
        return False
    return layer.gain.shape == () and layer.offset is None


def as_written(model):
    """Prepared but for passes over the graph, so that factors are operations."""
    return built(once(at_inference(model), (spell_affine,)))


def network(build, shape=SHAPE):
    """A model of `build(map)`, pooled and classified."""
    inputs = keras.Input(shape)
    x = build(inputs)
    for layer in head():
        x = layer(x)
    return scrambled(keras.Model(inputs, x))
