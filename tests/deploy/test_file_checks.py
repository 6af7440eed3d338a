"""Files that would not run, or run wrongly, and files that only look like it."""

import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import (
    Constant,
    OfFunction,
    as_traced,
    binary_conv,
    chain,
    head,
    images,
    scrambled,
)
from larq_nobn._keras import keras
from larq_nobn.deploy import ConversionError, Runner, VerificationError, convert
from larq_nobn.deploy.lite._converter import io_spec, to_flatbuffer

pytestmark = pytest.mark.convert


def doubled(x):
    return tf.cast(2 * tf.cast(x, tf.float64), tf.float32)


@pytest.mark.parametrize(
    "function, op, dtype",
    [
        (tf.nn.gelu, "Erfc?", "float32"),
        (doubled, "Mul", "float64"),
    ],
)
def test_operations_that_nothing_can_run_are_named(function, op, dtype, tmp_path):
    behind = [] if function is doubled else [keras.layers.ReLU(), *head()]
    message = f"Layer 'odd' needs the operation '{op}' that gives {dtype}, which Tens"
    if op.startswith("Erf"):
        message += ".* GELU has a form without it: .*approximate=True"
    model = chain(binary_conv(8), OfFunction(function, name="odd"), *behind)
    with pytest.raises(ConversionError, match=message):
        convert(model, tmp_path / "m.tflite", verify=False)


def test_recurrent_layers_convert(tmp_path):
    """LCE's converter loses the batch size in a second loop; unrolled it converts.

    Its one operation for an LSTM keeps a state from one run to the next.
    """

    def in_a_row(unroll):
        first = keras.layers.SimpleRNN(4, return_sequences=True, unroll=unroll)
        second = keras.layers.GRU(4, return_sequences=True, unroll=unroll)
        return lambda x: second(first(x))

    def net(*ways):
        inputs = keras.Input((4, 4, 3))
        rows = keras.layers.Reshape((4, -1))(binary_conv(4)(inputs))
        maps = [keras.layers.Reshape((4, -1, 1))(layer(rows)) for layer in ways]
        ends = [binary_conv(4, name=f"behind{i}")(x) for i, x in enumerate(maps)]
        return scrambled(keras.Model(inputs, ends))

    x, path = images(shape=(4, 4, 3)), tmp_path / "m.tflite"
    with pytest.raises(ConversionError, match="recurrent layers with unroll=True"):
        convert(net(in_a_row(False)), path, data=x)
    ways = (
        keras.layers.LSTM(4, return_sequences=True),
        keras.layers.Bidirectional(keras.layers.LSTM(4, return_sequences=True)),
        keras.layers.RNN(keras.layers.LSTMCell(4), return_sequences=True),
        in_a_row(True),
    )
    report = convert(net(*ways), path, data=x)
    assert report.lce_bconv2d == 5
    assert report.verify["unexplained"] == 0
    assert not any("LSTM" in op["op"] for op in report.float_ops)


def upsampled(x, rows, name="up", **options):
    layers = keras.layers
    if rows:
        up = layers.Conv1DTranspose(6, 2, strides=2, name=name, **options)
        return up(layers.Reshape((16, 8))(x))
    return layers.Conv2DTranspose(6, 2, strides=2, name=name, **options)(x)


NUMBERS = np.linspace(-1, 1, 6, dtype=np.float32)
ADDED = {
    "difference": lambda x: x - 0.3,
    "turned difference": lambda x: 0.3 - x,
    "differences": lambda x: x - NUMBERS,
    "of rank 3": lambda x: tf.subtract(x, NUMBERS.reshape(1, 1, 6)),
    "cut off": lambda x: tf.nn.relu(x - NUMBERS),
    "hard sigmoid": keras.activations.hard_sigmoid,
}


def test_constants_beside_a_transposed_convolution(tmp_path):
    """TensorFlow Lite makes them its bias: a single one, or one with a wrong sign."""
    start, layers = keras.Input((4, 4, 8)), keras.layers
    signs, maps, ends, wanted = binary_conv(8)(start), [], [], []
    for i, after in enumerate(2 * [*ADDED.values()]):
        maps.append(upsampled(signs, i % 2, f"up{i}", use_bias=False))
        ends.append(layers.Flatten()(after(maps[-1])))
        wanted.append(after)
    shared = layers.Conv2DTranspose(8, 1, use_bias=False)
    twice = shared(shared(signs) - 0.3) - 0.3
    model = scrambled(keras.Model(start, [*ends, layers.Flatten()(twice)]))
    x, path = images(8, (4, 4, 8)), tmp_path / "m.tflite"
    assert convert(model, path, data=x).verify["exact_share"] == 1
    before = keras.Model(start, maps)(x)
    pairs = zip(Runner(path.read_bytes(), "lce").outputs([x])[:-1], wanted, strict=True)
    for i, (actual, after) in enumerate(pairs):
        expected = np.reshape(after(before[i]), (8, -1))
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4, err_msg=str(i))


def test_a_file_that_the_interpreter_rejects():
    model = chain(binary_conv(64, groups=2), stem=False, shape=(8, 8, 64))
    io = io_spec(model)
    flatbuffer = to_flatbuffer(as_traced(model, io), io)
    with pytest.raises(ConversionError, match="cannot run the file: .*bconv2d"):
        Runner(flatbuffer, "lce")


def test_a_map_that_is_overwritten_before_its_last_use_is_found(tmp_path):
    """TensorFlow Lite reshapes without copying, and then computes in place."""
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(8, 3, 2, padding="same", activation="tanh")(inputs)
    x = Constant((8,), True, name="gain")(x)
    y = keras.layers.Reshape((4, 4, 2, 4))(x)
    y = keras.layers.Reshape((4, 4, 8))(Constant((2, 4), name="shift")(y))
    y = binary_conv(8, name="conv")(y)
    model = scrambled(keras.Model(inputs, keras.layers.Add(name="sum")([y, x])))
    with pytest.raises(VerificationError, match="file computes something else"):
        convert(model, tmp_path / "m.tflite", verify=False)
    assert not any(tmp_path.iterdir())
