"""Models of an unusual batch, time or call: converted rightly, or refused by name."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import SIGNS, binary_conv, chain, head, images, scrambled, small
from deploy.sides import beside, examples, outputs
from larq_nobn._keras import dtype_policy, keras
from larq_nobn.deploy import (
    ConversionError,
    Runner,
    VerificationError,
    convert,
    fake_quantize,
)
from larq_nobn.deploy.lite._converter import io_spec
from larq_nobn.deploy.trace import _inference
from larq_nobn.deploy.trace._trace import Trace
from larq_nobn.deploy.verify._given import compare_given
from larq_nobn.graph._examples import made_up

pytestmark = pytest.mark.convert
layers = keras.layers


def differs(model, path, x):
    """How far a file is from the model, relative to the largest output."""
    wanted = model.predict(x, verbose=0)
    return np.abs(Runner(path)(x) - wanted).max() / np.abs(wanted).max()


# --- numbers without examples in front, of as many channels as a batch has examples

VECTOR = np.linspace(-0.7, 0.6, 8).astype(np.float32)
GATES = {
    "vector": lambda x: tf.where(x > VECTOR, x, 0.1 * x),
    "of_a_map": lambda x: tf.where(x < VECTOR[None, None], 0.3 * x, x),
    "one_example": lambda x: tf.where(x >= VECTOR.reshape(1, 1, 1, 8), x, -x),
    "rows": lambda x: tf.where(x <= VECTOR[:4].reshape(4, 1, 1), x, x - 1.0),
    "cast": lambda x: x * tf.cast(x < VECTOR, tf.float32),
    "ends": lambda x: tf.where(x > 0.2, np.sign(VECTOR), -np.sign(VECTOR)),
}


@pytest.mark.parametrize("size", [4, 8])
def test_vectors_are_compared_with_maps_of_any_batch(size, tmp_path):
    rows = [layers.Lambda(function, name=name) for name, function in GATES.items()]
    inputs = keras.Input((4, 4, 8))
    made = [binary_conv(4, name=f"conv_{row.name}")(row(inputs)) for row in rows]
    model = scrambled(keras.Model(inputs, layers.Concatenate()(made)))
    path = tmp_path / "m.tflite"
    report = convert(model, path, batch_size=size, allow_float=True)
    assert report.verify["segments"]["signs"] > 0
    assert differs(model, path, images(size + 1, (4, 4, 8))) < 1e-5


# --- time and windows that are folded into the batch


def network(shape=(4, 4, 8)):
    inputs = keras.Input(shape)
    x = binary_conv(8, name="first")(inputs)
    x = layers.BatchNormalization()(x)
    x = binary_conv(8, name="second")(x)
    return scrambled(keras.Model(inputs, layers.GlobalAveragePooling2D()(x)))


def windows(x):
    """Four windows of a map, each an example of its own."""
    x = tf.reshape(x, (-1, 2, 4, 2, 4, 8))
    return tf.reshape(tf.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, 4, 4, 8))


def of_windows():
    inputs = keras.Input((8, 8, 8))
    x = network()(layers.Lambda(windows)(inputs))
    return keras.Model(inputs, layers.Lambda(lambda x: tf.reshape(x, (-1, 4 * 8)))(x))


def of_frames(depth=1):
    inputs = keras.Input((*(3, 2)[:depth], 4, 4, 8))
    inner = network()
    for _ in range(depth):
        inner = layers.TimeDistributed(inner)
    return keras.Model(inputs, inner(inputs))


def of_steps():
    inputs = keras.Input((5, 8))
    dense = lq.layers.QuantDense(8, name="dense", use_bias=False, **SIGNS)
    x = layers.TimeDistributed(keras.Sequential([keras.Input((8,)), dense]))(inputs)
    return scrambled(keras.Model(inputs, layers.LSTM(4, unroll=True)(x)))


def time_first():
    inputs = keras.Input((3, 4, 4, 8))
    x = layers.Lambda(lambda x: tf.transpose(x, (1, 0, 2, 3, 4)))(inputs)
    x = network()(layers.Lambda(lambda x: tf.reshape(x, (-1, 4, 4, 8)))(x))
    x = layers.Lambda(lambda x: tf.reshape(x, (3, -1, 8)))(x)
    return keras.Model(inputs, layers.Lambda(lambda x: tf.transpose(x, (1, 0, 2)))(x))


# Models and how many signs their examples have, by the batch of a file.
FOLDED = {
    1: {
        of_frames: 3 * 2 * 128,
        (lambda: of_frames(2)): 6 * 2 * 128,
        of_windows: 4 * 2 * 128,
        of_steps: 5 * 8,
    },
    2: {of_frames: 3 * 2 * 128, time_first: 3 * 2 * 128},
}


@pytest.mark.parametrize("size", FOLDED)
def test_signs_of_folded_examples_are_cut(size, tmp_path):
    model, path = beside([make() for make in FOLDED[size]]), tmp_path / "m.tflite"
    verified = convert(model, path, batch_size=size).verify
    for part in (verified, verified["prepared"]):
        signs = sum(FOLDED[size].values())
        assert part["segments"]["signs"] == signs * verified["examples"]
    x = examples(model, 3)
    for actual, wanted in zip(Runner(path)(x), outputs(model, x), strict=True):
        assert np.abs(actual - wanted).max() < 1e-4 * np.abs(wanted).max()


# --- examples that depend on others

DEPENDENT = {
    "mean": lambda x: x - tf.reduce_mean(x, 0, keepdims=True),
    "largest": lambda x: x / tf.reduce_max(tf.abs(x), axis=0),
    "turned": lambda x: x + x[::-1],
    "one before": lambda x: x - tf.roll(x, 1, 0),
    "running sum": lambda x: tf.cumsum(x, 0),
    "sum of those after": lambda x: tf.cumsum(x, 0, reverse=True),
    "softmax": lambda x: tf.nn.softmax(x, 0),
    "place": lambda x: tf.cast(tf.argsort(x, 0), tf.float32),
    "folded": lambda x: tf.reshape(tf.transpose(x, (3, 1, 2, 0)), tf.shape(x)),
}


@pytest.mark.parametrize(
    "kind, batch", [*zip(DEPENDENT, 9 * [4], strict=True), ("mean", 1), ("turned", 1)]
)
def test_an_example_that_depends_on_others_is_refused_by_name(kind, batch):
    row = layers.Lambda(DEPENDENT[kind], name=kind.replace(" ", "_"))
    model = chain(row, *head(), stem=False)
    trace = Trace(model, io_spec(model, batch))
    with pytest.raises(ConversionError, match=f"depends on the oth.*'{row.name}'"):
        compare_given(model, trace, [images(7)])


def test_a_batch_that_decides_is_refused(tmp_path):
    """Also of the one example that is given; a model of one at once has no others."""
    rows = [layers.Lambda(DEPENDENT["mean"], name="mean"), binary_conv(4), *head()]
    path = tmp_path / "m.tflite"
    with pytest.raises(ConversionError, match="depends on the others .*'mean'"):
        convert(chain(*rows, stem=False), path, data=images(1))
    assert not path.exists()
    inputs = keras.Input(batch_shape=(1, 8, 8, 3))
    x = inputs
    for row in rows:
        x = row(x)
    convert(keras.Model(inputs, x), path, data=images(2))


# --- what Keras calls


class Softmax(keras.Model):
    def call(self, x, training=None, mask=None):
        return tf.nn.softmax(super().call(x, training=training, mask=mask))


class Scaled(keras.Model):
    def call(self, x, training=None, mask=None):
        return super().call(3.0 * x - 1.0, training=training, mask=mask)


class Twice(keras.Sequential):
    def call(self, x, training=None, mask=None):
        first = super().call(x, training=training, mask=mask)
        return first + super().call(-x, training=training, mask=mask)


def inside(model):
    return keras.Sequential([keras.Input((8, 8, 3)), model])


CALLS = {
    "after": lambda x, y: Softmax(x, y),
    "before": lambda x, y: Scaled(x, y),
    "several times": lambda x, y: Twice([x, keras.Model(x, y)]),
    "inside another": lambda x, y: inside(Softmax(x, y)),
}


@pytest.mark.parametrize("kind", CALLS)
def test_a_call_that_does_more_is_converted(kind, tmp_path):
    plain, path = small(), tmp_path / "m.tflite"
    model = CALLS[kind](plain.input, plain.output)
    assert convert(model, path).lce_bconv2d == 1 + (kind == "several times")
    x = images(6)
    assert np.abs(np.subtract(plain(x), model(x))).max() > 0.1
    assert differs(model, path, x) < 1e-5


class Predicting(keras.Model):
    def predict_step(self, data):
        return tf.nn.softmax(super().predict_step(data))


def test_what_predict_does_more_is_refused(tmp_path):
    plain = small()
    with pytest.raises(VerificationError, match="Tracing the model changed"):
        convert(Predicting(plain.input, plain.output), tmp_path / "m.tflite")


def test_the_model_is_compared_as_keras_runs_it(monkeypatch):
    """Not as it is traced, in a form that files can have."""
    model = chain(layers.GroupNormalization(4), binary_conv(4), *head())
    x = made_up(model, 3)

    def finding():
        return compare_given(model, Trace(model, io_spec(model)), x).finding

    assert not finding()
    right = _inference.group_moments
    monkeypatch.setattr(_inference, "group_moments", lambda x, _: right(x, 2))
    assert "first sign to differ" in finding()


class OnTheEdge(layers.Layer):
    """Rounds otherwise when it is called without a graph."""

    def call(self, x):
        x = tf.round(4 * x) / 4 + 1e-7
        return x - 1.5e-7 if tf.executing_eagerly() else x


@pytest.mark.parametrize("after", [0.0, 0.1])
def test_signs_that_rounding_decides_are_no_difference(after):
    rows = OnTheEdge(), binary_conv(4), *head()
    rows = *rows, layers.Lambda(lambda x: x + after * tf.executing_eagerly())
    model = chain(*rows, stem=False)
    trace, x = Trace(model, io_spec(model)), [images(8)]
    assert np.abs(trace.form.outputs_of(x)[0] - model(x[0])).max() > 0.01
    assert compare_given(model, trace, x).finding == ""


# --- half precision, in which numbers overflow that are no more than large


@pytest.mark.parametrize(
    "policy, int8", [("mixed_float16", True), ("mixed_bfloat16", False)]
)
def test_models_of_half_precision(policy, int8, tmp_path):
    with dtype_policy(policy):
        rows = layers.Rescaling(300.0), binary_conv(4, name="only"), *head()
        model = chain(*rows, layers.Rescaling(100.0), stem=False)
    x = images(8)
    if int8:
        model = fake_quantize(model, x)
    report = convert(model, tmp_path / "m.tflite", int8=int8)
    assert report.lce_bconv2d == 1
    basis = report.verify["prepared"]["reference"]
    assert int8 or policy in basis
    assert np.isfinite(np.float32(model.predict(x, verbose=0))).all()
    assert nobn.deploy.audit(tmp_path / "m.tflite").lce_bconv2d == 1
