"""Networks in their normalizer-free form: branches, biases, pools, joined channels."""

import larq_nobn as nobn
import numpy as np
import pytest
from calibration.oracle import deviation, mean, sign_inputs, signs, tensors
from larq_nobn._keras import keras
from larq_nobn.graph._graph import Graph
from larq_nobn.graph._signs import has_sign_input
from models.networks import NETWORKS

# How many signs of the small forms have a shift, or read a bias directly.
CENTERED = {"ReActNetA": 4, "VGGSmall": 5, "BinaryDenseNet28": 3, "QuickNet": 3}
DESIGNS = [n for n in NETWORKS if n.builder.__name__ in CENTERED]


def ends_of(graph, call):
    """Where the statistics of a convolution are taken: after pools if it is biased."""
    tensor = call.first_output
    while call.layer.use_bias:
        reader = graph.sole_consumer(tensor)
        if not isinstance(reader.layer, keras.layers.MaxPool2D):
            break
        tensor = reader.first_output
    return tensor


def linear(model, images, call):
    """What a convolution makes, before its ReLU."""
    (value,) = tensors(model, images, [call.first_input])
    call.layer.activation = keras.activations.linear
    made = call.layer(value).numpy()
    call.layer.activation = keras.activations.relu
    return made


@pytest.mark.parametrize("network", DESIGNS, ids=lambda n: n.builder.__name__)
def test_calibrated(network):
    keras.utils.set_random_seed(0)
    model, images = network(), network.images(64)
    nobn.calibrate(model, images)
    graph = Graph(model)
    convs = [c for c in graph.calls if hasattr(c.layer, "kernel_quantizer")]
    ends = [ends_of(graph, call) for call in convs]
    biased = {id(e) for e, c in zip(ends, convs, strict=True) if c.layer.use_bias}
    pairs = signs(model)
    seen = sign_inputs(model, images)
    centered = [
        value
        for value, (tensor, sign) in zip(seen, pairs, strict=True)
        if sign.shift is not None or id(tensor) in biased
    ]
    assert len(centered) == CENTERED[network.builder.__name__]
    for value in centered:
        assert np.abs(mean(value)).max() < 1e-5 * deviation(value).max()
    for call, value in zip(convs, tensors(model, images, ends), strict=True):
        of_signs = has_sign_input(call)
        if call.layer.activation is keras.activations.relu:
            value = linear(model, images, call)
        target = call.layer.kernel_quantizer.scale if of_signs else 1.0
        np.testing.assert_allclose(deviation(value), target, rtol=1e-5)
        if call.layer.use_bias:
            assert np.abs(mean(value)).max() < 1e-5
