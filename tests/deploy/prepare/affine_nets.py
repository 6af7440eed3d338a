"""How the tests of gains and offsets set them, prepare, compare and count."""

import numpy as np
from deploy.nets import chain, images
from larq_nobn._keras import keras
from larq_nobn.deploy.inspection._audit import audit_bytes
from larq_nobn.deploy.lite import Runner, inference, io_spec, to_flatbuffer
from larq_nobn.deploy.prepare._prepare import prepare
from larq_nobn.layers._inference import PlainAffine
from numpy.testing import assert_allclose

SHAPE = (8, 8, 32)
BOTH_SIGNS = np.linspace(-1.55, 1.55, 32)
POSITIVE = np.linspace(0.1, 3.2, 32)


def affine(gain, name="affine", seed=0):
    """A batch norm of given gains and of random other numbers, 8 in 32 of them 0."""
    random = np.random.default_rng(seed)
    beta, mean = random.normal(size=(2, len(gain)))
    beta[:8] = mean[:8] = 0

    def constant(values):
        return keras.initializers.Constant(values)

    return keras.layers.BatchNormalization(
        epsilon=1e-3,
        gamma_initializer=constant(gain * np.sqrt(1.001)),
        beta_initializer=constant(beta),
        moving_mean_initializer=constant(mean),
        name=name,
    )


def row(*layers, **changes):
    """A model of these layers in a row, with the numbers that they start with."""
    keras.utils.set_random_seed(3)
    return chain(*layers, stem=False, shape=SHAPE, scramble=False, **changes)


def prepared(model):
    """The prepared model, once it is seen to compute the same."""
    found = prepare(model)
    x = images(shape=model.input_shape[1:])
    expected = model(x, training=False).numpy()
    atol = 1e-5 * np.abs(expected).max()
    assert_allclose(found(x).numpy(), expected, rtol=0, atol=atol)
    return found


def affines(model):
    """The names of the layers with a gain that preparation leaves."""
    return [
        layer.name
        for layer in prepared(model).layers
        if isinstance(layer, PlainAffine) and layer.gain is not None
    ]


def operations(model):
    """The operations of the converted file, once it is seen to compute the same."""
    found = prepared(model)
    content = to_flatbuffer(inference(found), found.variables, io_spec(found))
    x = images(4, model.input_shape[1:])
    expected = model(x, training=False).numpy()
    atol = 1e-4 * np.abs(expected).max()
    assert_allclose(Runner(content)(x), expected, rtol=0, atol=atol)
    return audit_bytes(content, "net").ops
