"""Softplus of large numbers, which files compute by way of exp(x)."""

import numpy as np
import tensorflow as tf
from deploy.nets import chain, head, images
from larq_nobn._keras import keras
from larq_nobn.deploy import fake_quantize
from larq_nobn.deploy.prepare import prepare
from larq_nobn.deploy.prepare._prepare import bounded_softplus
from numpy.testing import assert_allclose

layers = keras.layers


def test_it_is_softplus():
    x = np.array([-500, -90, -30, -1, 0, 1, 20, 79, 81, 90, 1e30], np.float32)
    wanted = np.logaddexp(x.astype(np.float64), 0)
    assert_allclose(bounded_softplus(x), wanted, rtol=1e-6, atol=1e-30)


def inputs_of_softplus(model):
    """What kinds of operations stand before it, wherever in the model it is."""
    spec = tf.TensorSpec((1, 8, 8, 3))
    graph = tf.function(model).get_concrete_function(spec).graph
    found = [op for op in graph.get_operations() if op.type == "Softplus"]
    return [op.inputs[0].op.type for op in found]


def test_every_one_of_a_network_is_bounded():
    """That of a cell inside a recurrent layer, too."""
    rows = layers.Conv2D(4, 3, activation="softplus"), layers.Activation("softplus")
    sequence = layers.Reshape((-1, 4)), layers.SimpleRNN(4, "softplus", unroll=True)
    model = chain(*rows, layers.MaxPooling2D(3), *sequence)
    assert inputs_of_softplus(prepare(model)) == ["Minimum"] * (2 + 4)


def test_none_is_where_ranges_are_noted():
    model = fake_quantize(chain(layers.Activation("softplus"), *head()), images(4))
    (before,) = inputs_of_softplus(prepare(model))
    assert before != "Minimum"
