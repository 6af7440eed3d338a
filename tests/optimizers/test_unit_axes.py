"""The roles of variables: by name and rank, by pattern, by layer."""

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn._keras import keras
from larq_nobn.optimizers import AdaptiveGradientClipping
from numpy.testing import assert_allclose
from optimizers.networks import clip

layers = keras.layers


def step(weight, gradient, name="kernel", **arguments):
    """The update that one step of plain gradient descent makes."""
    variable = tf.Variable(weight, name=name)
    optimizer = AdaptiveGradientClipping(keras.optimizers.SGD(1.0), **arguments)
    optimizer.apply_gradients([(tf.constant(gradient), variable)])
    return weight - variable.numpy()


def pair(shape, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(2, *shape)).astype("float32")


# The axes of a unit, by name and rank; None where the classifier is left alone.
ROLES = [
    ("layer/bias", (), ()),
    ("layer/bias", (5,), (0,)),
    ("layer/kernel", (4, 5), (0,)),
    ("layer/depthwise_kernel", (3, 3, 4, 2), (0, 1)),
    ("layer/kernel", (2, 2, 2, 3, 4), (0, 1, 2, 3)),
    ("layer/embeddings", (7, 4), (1,)),
    ("layer/alpha", (1, 1, 6), (0, 1, 2)),
    # Default names of transposed convolutions; of another rank it is something else.
    ("conv1d_transpose/kernel", (3, 4, 5), (0, 2)),
    ("net/conv2d_transpose_12/kernel", (3, 3, 2, 5), (0, 1, 3)),
    ("conv2d_transpose/inner/kernel", (3, 3, 2, 5), (0, 1, 2)),
    ("head/kernel", (4, 5), None),
    ("net/head/kernel", (4, 5), None),
    ("overhead/kernel", (4, 5), (0,)),
]


@pytest.mark.parametrize("name, shape, axes", ROLES)
def test_roles_by_name_and_rank(name, shape, axes):
    weight, gradient = pair(shape)
    expected = gradient if axes is None else clip(gradient, weight, axes, 0.01)
    # Differences of weights of size one: a few float32 roundings.
    assert_allclose(step(weight, gradient, name), expected, rtol=1e-5, atol=5e-7)


def test_unknown_roles_are_rejected():
    weight, gradient = pair((3, 4, 5))
    message = (
        r"x/positions:0 of shape \(3, 4, 5\) has no known role.*"
        r"unit_axes=\{pattern: axes\}.*exclude"
    )
    with pytest.raises(ValueError, match=message):
        step(weight, gradient, "x/positions")
    updated = step(weight, gradient, "x/positions", unit_axes={"/pos": (0, 1)})
    assert_allclose(updated, clip(gradient, weight, (0, 1), 0.01), atol=5e-7)
    free = step(weight, gradient, "x/positions", exclude=("positions",))
    assert_allclose(free, gradient, rtol=1e-5, atol=5e-7)
    message = r"axes \(0, 4\) to kernel:0 of shape \(4, 5\)\. Its axes run from 0 to 1"
    with pytest.raises(ValueError, match=message):
        step(*pair((4, 5)), unit_axes={"kernel": (0, 4)})


@pytest.mark.parametrize(
    "name, patterns, axes",
    [
        # The full name before its tails.
        ("a/net/kernel", {"^kernel": (0,), "^net/kernel": (1,), "^net": ()}, (1,)),
        ("kernel", {"kernel": (-1,)}, (1,)),
        ("kernel", {"kernel": ()}, ()),
    ],
)
def test_axes_by_pattern(name, patterns, axes):
    weight, gradient = pair((4, 5))
    updated = step(weight, gradient, name, unit_axes=patterns)
    assert_allclose(updated, clip(gradient, weight, axes, 0.01), atol=5e-7)


IMAGE, LINE = (4, 4, 4), (4, 4)
LAYERS = [
    (layers.Conv2D(3, 2), IMAGE, [(0, 1, 2)]),
    (layers.Conv1DTranspose(3, 2), LINE, [(0, 2)]),
    (layers.TimeDistributed(layers.Conv2DTranspose(3, 2)), (2, *IMAGE), [(0, 1, 3)]),
    (layers.PReLU(shared_axes=(1, 2)), IMAGE, [(0, 1, 2)]),
    (lq.layers.QuantConv2DTranspose(3, 2), IMAGE, [(0, 1, 3)]),
    (lq.layers.QuantSeparableConv2D(3, 2), IMAGE, [(0, 1), (0, 1, 2)]),
]


@pytest.mark.parametrize(
    "layer, shape, axes", LAYERS, ids=lambda value: getattr(value, "name", "")
)
def test_for_model_reads_the_layers(layer, shape, axes):
    inner = keras.Sequential([keras.Input(shape), layer])
    model = keras.Sequential([keras.Input(shape), inner])  # nested
    sgd = keras.optimizers.SGD(1.0)
    optimizer = AdaptiveGradientClipping.for_model(model, sgd, exclude=())
    kernels = [w for w in model.trainable_weights if w.shape.rank > 1]
    before = [w.numpy() for w in kernels]
    gradients = [pair(w.shape, seed)[0] for seed, w in enumerate(kernels)]
    optimizer.apply_gradients(zip(map(tf.constant, gradients), kernels, strict=True))
    for old, new, gradient, of_unit in zip(
        before, kernels, gradients, axes, strict=True
    ):
        expected = clip(gradient, old, of_unit, 0.01)
        assert_allclose(old - new.numpy(), expected, atol=5e-7)


def test_units_of_locally_connected_layers_are_not_known():
    weight, gradient = pair((7, 3, 2))
    with pytest.raises(ValueError, match="1d_2/kernel.* has no known role"):
        step(weight, gradient, "locally_connected1d_2/kernel")
    model = keras.Sequential([keras.Input((5, 2)), layers.LocallyConnected1D(2, 3)])
    with pytest.raises(ValueError, match="kernel.* has no known role"):
        AdaptiveGradientClipping.for_model(model, "sgd", exclude=())


def test_for_model_rejects_what_it_cannot_read():
    with pytest.raises(ValueError, match="The model fresh has no weights yet. Build"):
        fresh = keras.Sequential([layers.Dense(2)], name="fresh")
        AdaptiveGradientClipping.for_model(fresh, "sgd")

    einsum = layers.EinsumDense("ab,bc->ac", 3, name="sums")
    model = keras.Sequential([keras.Input((4,)), einsum])
    with pytest.raises(ValueError, match="sums/kernel.* has no known role"):
        AdaptiveGradientClipping.for_model(model, "sgd", exclude=())
    settled = AdaptiveGradientClipping.for_model(model, "sgd", exclude=("^sums",))
    assert settled.unit_axes == {}


def plain(name):
    return [layers.Dense(5), layers.Dense(3, name=name)]


@pytest.mark.parametrize(
    "made",
    [
        plain("head"),
        [layers.Dense(5), keras.Sequential([keras.Input((5,)), layers.Dense(3)])],
    ],
    ids=["head", "nested"],
)
def test_for_model_leaves_out_the_layer_that_gives_the_output(made, caplog):
    model = keras.Sequential([keras.Input((4,)), *made])
    given = model.get_weights()
    optimizer = AdaptiveGradientClipping.for_model(model, keras.optimizers.SGD(1.0))
    optimizer.apply_gradients([(10 * tf.ones_like(v), v) for v in model.weights])
    moved = [a - b for a, b in zip(given, model.get_weights(), strict=True)]
    first = clip(np.full((4, 5), 10.0), given[0], (0,), 0.01)
    assert_allclose(moved[0], first, atol=5e-7)
    for classifier in moved[2:]:
        assert_allclose(classifier, 10, rtol=1e-6)
    assert not caplog.text


def test_a_step_that_clips_the_classifier_is_said_once(caplog):
    optimizer = AdaptiveGradientClipping(keras.optimizers.SGD(1.0))
    weight = tf.Variable(tf.ones((4, 3)), name="fc/kernel")
    for _ in range(2):
        optimizer.apply_gradients([(tf.ones((4, 3)), weight)])
    assert caplog.text.count("no classifier is named head or predictions") == 1
