"""What kinds of operations say of themselves, tried in numbers."""

import numpy as np
import pytest
import tensorflow as tf
from larq_nobn.deploy.operations import _kinds
from larq_nobn.deploy.operations._emit import form_of
from larq_nobn.deploy.operations._kinds import (
    Affine,
    Clip,
    Constant,
    Copy,
    Joined,
    Kernel,
    Magnitude,
    Other,
    Pad,
    Part,
    PReLU,
    Range,
    Reshape,
    Sign,
    Sum,
    Through,
    Value,
)
from larq_nobn.deploy.operations._program import Program
from numpy.testing import assert_allclose

SHAPE = (2, 6, 6, 4)
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=SHAPE).astype(np.float32)
MORE = RANDOM.normal(size=SHAPE).astype(np.float32)
ZEROS, ONES = np.zeros(4), np.ones(4)
# What stands before or after a node: k x + b.
MOVES = {
    "a factor": (np.array([0.5, 2.0, 3.0, 1.5]), ZEROS),
    "a factor of any sign": (np.array([-0.5, 2.0, -3.0, 1.5]), ZEROS),
    "a shift": (ONES, np.array([0.5, -1.0, 0.0, 2.0])),
}
SLOPES = np.array([0.1, 0.5, 1.5, 0.0])


def weights(*shape):
    return RANDOM.normal(size=shape)


def made(kind, *fields, shape=SHAPE, count=1, **named):
    reads = tuple(Value(SHAPE, tf.float32) for _ in range(count))
    return kind("node", reads, (Value(shape, tf.float32),), *fields, **named)


def run(node, *arrays):
    """What a node makes of its maps, beside the constants that it reads."""
    given = getattr(node, "constants", {})
    maps = [x for x in dict.fromkeys(node.reads) if x not in given]
    nodes = [Constant("given", (), (x,), number) for x, number in given.items()]
    form = form_of(Program(maps, [*nodes, node], [node.y]))
    (y,) = form.run(dict(zip(form.inputs, arrays, strict=True)), form.outputs)
    return y.reshape(node.y.shape)


def other(function):
    """A TensorFlow operation as it is."""
    with tf.Graph().as_default():
        x = tf.compat.v1.placeholder(tf.float32, SHAPE)
        op = function(x).op
    values = {t.ref(): Value(t.shape.as_list(), t.dtype) for t in op.inputs}
    reads = tuple(values[t.ref()] for t in op.inputs)
    made_of = tuple(Value(t.shape.as_list(), t.dtype) for t in op.outputs)
    node, known = Other("node", reads, made_of, op), {}
    for tensor in op.inputs:
        if tensor is not x:
            known[values[tensor.ref()]] = tf.get_static_value(tensor)
    object.__setattr__(node, "constants", known)
    return node


NODES = {
    "affine": lambda: made(Affine, SLOPES - 0.4, ONES),
    "convolution": lambda: made(Kernel, weights(3, 3, 4, 4), shape=(2, 4, 4, 4)),
    "with a bias": lambda: made(
        Kernel, weights(3, 3, 4, 4), bias=SLOPES, shape=(2, 4, 4, 4)
    ),
    "same": lambda: made(Kernel, weights(3, 3, 4, 4), padding="SAME"),
    "1x1": lambda: made(Kernel, weights(1, 1, 4, 4), padding="SAME"),
    "groups": lambda: made(Kernel, weights(1, 1, 2, 4), groups=2),
    "depthwise": lambda: made(
        Kernel, weights(3, 3, 4, 1), "DepthwiseConv2dNative", shape=(2, 4, 4, 4)
    ),
    "binary": lambda: made(
        Kernel, np.sign(weights(1, 1, 4, 4)), scale=SLOPES + 1, binary=True
    ),
    "sign": lambda: made(Sign, SLOPES),
    "PReLU": lambda: made(PReLU, SLOPES),
    "magnitude": lambda: made(Magnitude),
    "sum": lambda: made(Sum, count=2),
    "joined": lambda: made(Joined, count=2, shape=(2, 6, 6, 8)),
    "reshape": lambda: made(Reshape, shape=(2, 36, 4)),
    "flatten": lambda: made(Reshape, shape=(2, 144)),
    "pad": lambda: made(Pad, [(0, 0), (1, 1), (1, 1), (0, 0)], 1.0, shape=(2, 8, 8, 4)),
    "part": lambda: made(Part, (..., slice(1, 3)), shape=(2, 6, 6, 2)),
    "clip": lambda: made(Clip, -0.5, 1.0),
    "range": lambda: made(Range, -3.0, 3.0),
    "copy": lambda: made(Copy),
}
OTHERS = {
    "Relu": tf.nn.relu,
    "LeakyRelu": tf.nn.leaky_relu,
    "MaxPool": lambda x: tf.nn.max_pool2d(x, 3, 2, "SAME"),
    "AvgPool": lambda x: tf.nn.avg_pool2d(x, 3, 2, "SAME"),
    "Mean": lambda x: tf.reduce_mean(x, [1, 2]),
    "mean of channels": lambda x: tf.reduce_mean(x, -1),
    "Max": lambda x: tf.reduce_max(x, [1, -2]),
    "maximum of channels": lambda x: tf.reduce_max(x, [1, 3]),
    "Min": lambda x: tf.reduce_min(x, [1, 2]),
    "Reshape": lambda x: tf.reshape(x, (2, 36, 4)),
    "in other channels": lambda x: tf.reshape(x, (2, 72, 2)),
    "ExpandDims": lambda x: tf.expand_dims(x, 1),
    "ExpandDims at the end": lambda x: tf.expand_dims(x, -1),
    "Maximum": lambda x: tf.maximum(x, x),
    "Minimum": lambda x: tf.minimum(x, x),
    "ConcatV2": lambda x: tf.concat([x, x], 1),
    "Pack": lambda x: tf.stack([x, x], 1),
    "Transpose": lambda x: tf.transpose(x, (0, 3, 1, 2)),
    "StridedSlice": lambda x: x[:, ::2, :, 1:],
    "Slice": lambda x: tf.slice(x, (0, 1, 1, 1), (2, 4, 4, 3)),
    "GatherV2": lambda x: tf.gather(x, [3, 0, 1, 1], axis=3),
    "DepthToSpace": lambda x: tf.nn.depth_to_space(x, 2),
    "SpaceToDepth": lambda x: tf.nn.space_to_depth(x, 2),
    "Tile": lambda x: tf.tile(x, (1, 2, 1, 1)),
    "Roll": lambda x: tf.roll(x, 1, 3),
    "Unpack": lambda x: tf.unstack(x, axis=1)[0],
    "SplitV": lambda x: tf.split(x, [1, 3], 3)[0],
    "Split": lambda x: tf.split(x, 2, 3)[0],
    "Tanh": tf.tanh,
    "Softmax": tf.nn.softmax,
}
ALL = {**NODES, **{name: (lambda f=f: other(f)) for name, f in OTHERS.items()}}


def close(actual, wanted):
    assert_allclose(actual, wanted, rtol=1e-5, atol=1e-5)


def test_all_types_of_the_table_are_tried():
    tried = {other(function).type for function in OTHERS.values()}
    assert {*_kinds._THROUGH} - tried == {"Squeeze"}  # the opposite of ExpandDims


@pytest.mark.parametrize("name", ALL)
def test_what_goes_through_and_what_is_contained(name):
    node = ALL[name]()
    maps = [X, MORE][: 2 if name in ("sum", "joined") else 1]
    y = run(node, *maps)
    once = node.reads.count(node.x) == 1  # rules leave what is read twice
    for k, b in MOVES.values() if once else ():
        moved = np.float32(k * X + b)
        if node.lets_through(k, b):
            factor = node.spread(node.x, k, 1.0)
            shift = node.spread(node.x, b, 0.0)
            close(run(node, moved, *maps[1:]), factor * y + shift)
        inside = node.absorb_input(k, b)
        if inside is not None:
            close(run(inside, X, *maps[1:]), run(node, moved, *maps[1:]))
        after = node.absorb_output(k, b)
        if after is not None:
            close(run(after, X, *maps[1:]), k * y + b)
    if Through.NUMBERS in node.through:
        assert np.isin(y, [0.0, *np.ravel(maps)]).all()


# Which of a factor, one of any sign and a shift go through, or are contained.
YES = {
    "affine": "aaa",
    "convolution": "aaa",
    "same": "aa-",
    "1x1": "aaa",
    "depthwise": "aaa",
    "binary": "---",
    "sign": "a-a",
    "PReLU": "t--",
    "sum": "--t",
    "joined": "t-t",
    "reshape": "ttt",
    "flatten": "---",
    "clip": "---",
    "magnitude": "---",
    "Relu": "t--",
    "MaxPool": "t-t",
    "AvgPool": "ttt",
    "Mean": "ttt",
    "mean of channels": "---",
    "Max": "t-t",
    "maximum of channels": "---",
    "Reshape": "ttt",
    "in other channels": "---",
    "ExpandDims": "ttt",
    "ExpandDims at the end": "---",
    "Tanh": "---",
}


@pytest.mark.parametrize("name", YES)
def test_which_moves_a_kind_takes(name):
    node = ALL[name]()
    actual = "".join(
        "a" if node.absorb_input(*move) else "t" if node.lets_through(*move) else "-"
        for move in MOVES.values()
    )
    assert actual == YES[name]
