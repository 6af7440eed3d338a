"""What the tests of rewrites share: networks around one batch norm, and the proof."""

from collections.abc import Callable

import larq as lq
import numpy as np
import tensorflow as tf
from larq_nobn._keras import dtype_policy, keras
from larq_nobn.graph._copies import to_keras
from larq_nobn.graph._graph import Graph
from larq_nobn.graph._kinds import commutation
from larq_nobn.graph._models import from_keras
from larq_nobn.quantizers import RSign
from larq_nobn.rewrites._batch_norm import batch_norm_to_affine
from larq_nobn.rewrites._merge import merge_affines
from larq_nobn.rewrites._rule import everywhere
from surgery.folding import floatx

layers = keras.layers
SHAPE = (8, 8, 4)


def conv(filters=4, size=3, **kwargs):
    return layers.Conv2D(filters, size, **kwargs)


def binary(filters=4, **kwargs):
    kwargs = {"kernel_quantizer": "ste_sign", "use_bias": False, **kwargs}
    return lq.layers.QuantConv2D(filters, 3, **kwargs)


# What makes the input of the batch norm, one or several in a row.
BEFORE: dict[str, Callable[[], list[keras.layers.Layer]]] = {
    "nothing": lambda: [],
    "conv": lambda: [conv(padding="same")],
    "depthwise": lambda: [layers.DepthwiseConv2D(3, depth_multiplier=2)],
    "separable": lambda: [layers.SeparableConv2D(4, 3)],
    "transposed": lambda: [layers.Conv2DTranspose(4, 3, use_bias=False)],
    "rectified": lambda: [conv(activation="relu")],
    "binary": lambda: [binary(input_quantizer="ste_sign")],
    "binary, rectified": lambda: [
        binary(input_quantizer="ste_sign", activation="relu")
    ],
    "magnitude": lambda: [
        binary(input_quantizer="ste_sign", kernel_quantizer="magnitude_aware_sign")
    ],
    "pool": lambda: [conv(), layers.MaxPooling2D(2)],
    "binary pool": lambda: [
        binary(input_quantizer="ste_sign"),
        layers.AveragePooling2D(2),
    ],
    "relu": lambda: [conv(), layers.ReLU()],
}
# What reads it, one row for each reader.
AFTER: dict[str, Callable[[], list[keras.layers.Layer]]] = {
    "output": lambda: [],
    "valid": lambda: [conv()],
    "same": lambda: [conv(padding="same")],
    "grouped": lambda: [conv(groups=2, use_bias=False)],
    "depthwise": lambda: [layers.DepthwiseConv2D(3)],
    "pool": lambda: [layers.MaxPooling2D(2), conv()],
    "dense": lambda: [layers.GlobalAveragePooling2D(), layers.Dense(3)],
    "flat": lambda: [layers.AveragePooling2D(2), layers.Flatten(), layers.Dense(3)],
    "sign": lambda: [lq.quantizers.SteSign(), binary(padding="same")],
    "ones": lambda: [lq.quantizers.ApproxSign(), binary(padding="same", pad_values=1)],
    "sign inside": lambda: [binary(input_quantizer=lq.quantizers.SteSign(2.0))],
    "shifted": lambda: [binary(input_quantizer=RSign(0.5), padding="same")],
    "dropout": lambda: [RSign(), layers.Dropout(0.5), binary()],
    "noise": lambda: [RSign(), layers.SpatialDropout2D(0.5), binary()],
    "kernel of its own": lambda: [binary(input_quantizer=None)],
    "norm": lambda: [layers.BatchNormalization()],
    "relu": lambda: [layers.ReLU(), conv()],
    "padding": lambda: [layers.ZeroPadding2D(), conv()],
}
SCALES = {
    "positive": lambda random, n: random.uniform(0.5, 1.5, n),
    "negative": lambda random, n: -random.uniform(0.5, 1.5, n),
    "mixed": lambda random, n: random.choice([-1.5, -0.5, 0.5, 1.5], n),
    "one 0": lambda random, n: np.where(np.arange(n) == 1, 0.0, 0.75),
}


def network(before, after, scales, shared=False, whole=False, seed=0, policy="float64"):
    """A network around a batch norm, whose function float64 computes exactly enough.

    Arguments:
        before: What makes its input, a name in `BEFORE`.
        after: What reads it, names in `AFTER`.
        scales: What its factors are, a name in `SCALES`.
        shared: Whether all but the readers is called on a second input, too.
        whole: Whether weights and statistics are such that ties are common.
        seed: Of all weights.
        policy: What it computes in.
    """
    with dtype_policy(policy), floatx(policy):
        norm = layers.BatchNormalization(name="norm")
        row = [*BEFORE[before](), norm]
        inputs = [keras.Input(SHAPE) for _ in range(1 + shared)]
        ends = []
        for x in inputs:
            for layer in row:
                x = layer(x)
            ends.append(x)
        outputs = ends[1:]
        for name in after:
            y = ends[0]
            for layer in AFTER[name]():
                y = layer(y)
            outputs.append(y)
        model = keras.Model(inputs, outputs)
    return randomized(model, scales, whole, seed)


def randomized(model, scales, whole=False, seed=0):
    """Gives every weight of a model a random value, and each batch norm its scales."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        value = random.normal(size=weight.shape)
        weight.assign(np.rint(2 * value) if whole else value)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            channels = layer.moving_mean.shape[0]
            layer.gamma.assign(SCALES[scales](random, channels))
            layer.epsilon = 0.0
            variance = random.uniform(0.5, 2, channels)
            layer.moving_variance.assign(np.ones(channels) if whole else variance)
    return model


def affine_in(graph):
    """The affine operation that was the first batch norm."""
    return next(call for call in graph.calls if call.label.startswith("norm"))


def graph_of(model, merged=False) -> Graph:
    """The graph of a model, with affine operations in the place of batch norms."""
    graph = from_keras(model)
    graph = everywhere(graph, batch_norm_to_affine)
    return everywhere(graph, merge_affines) if merged else graph


def _is_read_by_signs(graph, edge) -> bool:
    """Whether signs are all that reads an edge, which may then move between ties."""
    readers = graph.consumers(edge)
    if graph.is_output(edge) or not readers:
        return False
    return all(
        isinstance(call.layer, lq.quantizers.Quantizer)
        or getattr(call.layer, "input_quantizer", None) is not None
        or (commutation(call).shift and _is_read_by_signs(graph, call.first_output))
        for call in readers
    )


def check_edges(given: Graph, edited: Graph, whole=False, tolerance=1e-9) -> int:
    """Checks that two graphs agree at the edges that both have, and counts those."""
    edges = {}
    for graph in (given, edited):
        made = [x for call in graph.calls for x in tf.nest.flatten(call.outputs)]
        edges[id(graph)] = {id(edge): edge for edge in made}
    mine, other = (edges[id(graph)] for graph in (given, edited))
    common = [
        edge
        for key, edge in mine.items()
        if key in other and not _is_read_by_signs(given, edge)
    ]
    assert {id(end) for end in edited.outputs} <= {*other, *map(id, given.model.inputs)}
    random = np.random.default_rng(1)
    x = [random.normal(size=(6, *SHAPE)) for _ in given.model.inputs]
    if whole:
        x = [np.rint(array) for array in x]
    values = [to_keras(graph, common)(x) for graph in (given, edited)]
    for edge, was, now in zip(common, *map(tf.nest.flatten, values), strict=True):
        magnitude = 1e-12 + np.abs(was).max()
        where = edge.name if hasattr(edge, "name") else "a new edge"
        assert np.abs(was - now).max() <= tolerance * magnitude, where
    return len(common)
