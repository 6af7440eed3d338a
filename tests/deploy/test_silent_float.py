"""Nothing of two values is float without a word, however its signs are written."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import scrambled
from larq_nobn._keras import keras
from larq_nobn.deploy.lite._file import edited, read

pytestmark = [pytest.mark.slow, pytest.mark.convert]
layers, held = keras.layers, tf.stop_gradient


class Above(layers.Layer):
    """A sign with one threshold per channel."""

    def build(self, shape):
        self.threshold = self.add_weight("threshold", shape[-1:])

    def call(self, x):
        return tf.where(x >= self.threshold, 1.0, -1.0)


def function(made):
    return lambda: layers.Lambda(made)


def q(x):
    return tf.where(x >= 0, 1.0, -1.0)


def step(x):
    return tf.cast(x >= 0, x.dtype)


SIGNS = {
    "ste_sign": lambda: layers.Activation("ste_sign"),
    "zero, one": lambda: layers.Activation("ste_heaviside"),
    "RSign": lambda: nobn.quantizers.RSign(),
    "tf.sign": function(tf.sign),
    "larq": function(lambda x: lq.math.sign(x)),
    "estimator": function(lambda x: x + held(q(x) - x)),
    "of tanh": function(lambda x: tf.tanh(x) + held(q(x)) - held(tf.tanh(x))),
    "estimator of 0, 1": function(lambda x: held(step(x) - x) + x),
    "thresholds": Above,
    "below": function(lambda x: tf.where(x < 0.25, -1.0, 1.0)),
    "cast": function(lambda x: 2 * tf.cast(x > 0.1, x.dtype) - 1),
    "rounded": function(lambda x: tf.round(tf.clip_by_value(x, 0.0, 1.0))),
    "scaled": function(lambda x: 0.3 * q(x)),
    "by product": function(lambda x: q(x) * q(x + 0.5)),
    "maximum": function(lambda x: tf.maximum(q(x), q(x - 0.5))),
    "ternary": lambda: layers.Activation("ste_tern"),
    "constant": function(lambda x: q(-1 - x * x)),
}


def shuffled(x):
    parts = tf.reshape(x, (-1, *x.shape[1:3], 2, x.shape[3] // 2))
    return tf.reshape(tf.transpose(parts, (0, 1, 2, 4, 3)), (-1, *x.shape[1:]))


def joined(x):
    return layers.Concatenate()([x, layers.Activation("ste_sign")(x - 0.5)])


BETWEEN = {
    "nothing": lambda x: x,
    "maxima": layers.MaxPooling2D(2, name="maxima"),
    "means": layers.AveragePooling2D(2, name="means"),
    "pad": layers.ZeroPadding2D(1, name="pad"),
    "pads": lambda x: layers.ZeroPadding2D(1)(layers.ZeroPadding2D((0, 1))(x)),
    "flatten": layers.Flatten(name="flatten"),
    "reshape": layers.Reshape((2, 8, 8), name="reshape"),
    "shuffle": layers.Lambda(shuffled, name="shuffle"),
    "concat": layers.Lambda(joined, name="concat"),
    "dropout": layers.Dropout(0.5, name="dropout"),
    "Identity": layers.Identity(name="Identity"),
    "time": layers.Reshape((2, 2, 4, 8), name="time"),
    "turned": layers.Permute((2, 1, 3), name="turned"),
    "check": layers.Lambda(
        lambda x: tf.debugging.check_numerics(x, "signs"), name="check"
    ),
    "gather": layers.Lambda(
        lambda x: tf.gather(x, [3, 1, 2, 0], axis=3), name="gather"
    ),
}


def kernel_of(kind, name, pad):
    options = {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}
    if kind == "flatten":
        return lq.layers.QuantDense(6, name=name, **options)
    if kind == "time":
        conv = lq.layers.QuantConv2D(6, 2, name=name, **options)
        return layers.TimeDistributed(conv)
    padding = {"padding": "same", "pad_values": 1.0} if pad else {}
    return lq.layers.QuantConv2D(6, 2, name=name, **padding, **options)


def model_of(pairs):
    inputs, ends = keras.Input((4, 4, 3)), []
    for place, (sign, between) in enumerate(pairs):
        x = layers.Conv2D(8, 1, name=f"stem{place}")(inputs)
        x = BETWEEN[between](SIGNS[sign]()(x))
        ends.append(kernel_of(between, f"meant{place}", place % 3 == 0)(x))
    return scrambled(keras.Model(inputs, ends))


IMAGES = np.random.default_rng(0).normal(size=(32, 4, 4, 3)).astype("float32")


def names_of(op):
    """The layers in the names of what an operation writes, and of its filters."""
    named = (*op.outputs, op.inputs[1])
    return {part for t in named for part in t.name.replace(";", "/").split("/")}


def of_two_values(path, runtime):
    """The layers of float convolutions of two-valued kernels and inputs in a file.

    Of LiteRT's, where -1, +1 and a border of 0 meet ±c, these are binary.
    """
    content = path.read_bytes()
    (graph,) = read(content, "file")
    halves = {op.outputs[0]: op.input(0) for op in graph.operations if op.inputs}
    found = []
    for op in graph.operations:
        if op.op in ("CONV_2D", "FULLY_CONNECTED", "DEPTHWISE_CONV_2D"):
            filters = halves.get(op.input(1), op.input(1))
            if filters.constant and filters.dtype.startswith("float"):
                weights = np.moveaxis(filters.values.astype(float), 0, -1)
                if op.op.startswith("D"):
                    weights = filters.values.astype(float)
                found.append((op, weights.reshape(-1, weights.shape[-1])))
    found = [(op, w) for op, w in found if len(w) > 1 and values_of(w) <= 2]
    shown = [op.input(0).index for op, _ in found if op.input(0) not in graph.inputs]

    def show(model):
        model.subgraphs[0].outputs = list(dict.fromkeys(shown))

    made = {}
    if shown:
        outputs = nobn.deploy.Runner(edited(content, show), runtime).outputs([IMAGES])
        made = dict(zip(dict.fromkeys(shown), outputs, strict=True))
    silent = set()
    for op, weights in found:
        x = made.get(op.input(0).index)
        if x is not None and len(np.unique(np.round(x, 5))) <= 2:
            signs = abs(x.min()) == 1 and np.isin(x, (-1, 0, 1)).all()
            plain = signs and not np.any(np.ptp(np.abs(weights), axis=0))
            if runtime == "lce" or not plain:
                silent |= names_of(op)
    return silent


def values_of(weights):
    return max(len(np.unique(np.round(column, 6))) for column in weights.T)


def judged(pairs, runtime, folder):
    model, path = model_of(pairs), folder / "m.tflite"
    report = nobn.convert(model, path, runtime=runtime, allow_float=True, data=IMAGES)
    listed = {row["layer"] for row in report.in_float}
    names = {f"meant{place}" for place in range(len(pairs))}
    # Not everything is listed, or that would be no test.
    assert report.binary_layers + len(listed) <= len(pairs)
    assert of_two_values(path, runtime) & names <= listed, listed
    outputs = nobn.deploy.Runner(path)(IMAGES)
    for pair, actual, expected in zip(
        pairs, outputs, model.predict(IMAGES, verbose=0), strict=True
    ):
        off = np.abs(actual - expected).reshape(len(IMAGES), -1).max(axis=1)
        assert np.sum(off > 1e-3) <= 1, pair
    return report.binary_layers, {row["layer"]: row for row in report.in_float}


# Each sign once, and all that stands between; the fuzzer draws the others.
PAIRS = [*zip(SIGNS, 2 * [*BETWEEN], strict=False)]


@pytest.mark.parametrize("runtime", ["lce", "litert"])
def test_all_is_binary_or_named(runtime, tmp_path):
    binary, listed = judged(PAIRS, runtime, tmp_path)
    assert binary >= len(PAIRS) // 3
    # No remedy is what is done already.
    assert not any("Use a QuantConv2D," in row["remedy"] for row in listed.values())
