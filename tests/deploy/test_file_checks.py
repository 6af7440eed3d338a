"""Files that would not run, or run wrongly, and files that only look like it."""

import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import Constant, binary_conv, chain, images, scrambled
from deploy.operations.programs import file_of
from larq_nobn._keras import keras
from larq_nobn.deploy import (
    ConversionError,
    Runner,
    binary_layers,
    convert,
)
from larq_nobn.deploy._checks import check_binary, check_file
from larq_nobn.deploy._opening import output_layers
from larq_nobn.deploy.lite._converter import IoSpec, inference, io_spec, to_flatbuffer
from larq_nobn.deploy.lite._file import read
from larq_nobn.deploy.lite._lce_faults import overwritten

pytestmark = pytest.mark.convert
SHAPE, GROUPS = (1, 4, 4, 16), (1, 4, 4, 2, 8)


def check(flatbuffer, model):
    graph, *_ = read(flatbuffer, "a file", output_layers(model))
    check_file(graph)
    check_binary(graph, binary_layers(model))


def test_operations_that_nothing_can_run_are_named():
    message = (
        "Layer 'odd' needs the operation 'Erfc?' that gives float32, which Tens.*"
        " GELU has a form without it: .*approximate=True"
    )
    odd = keras.layers.Activation(tf.nn.gelu, name="odd")
    model = chain(binary_conv(8), odd, keras.layers.ReLU(), stem=False)
    with pytest.raises(ConversionError, match=message):
        check(file_of(model), model)


def test_recurrent_layers_convert(tmp_path):
    """LCE's converter loses the batch size in a second loop; unrolled it converts.

    Its one operation for an LSTM keeps a state from one run to the next.
    """

    def in_a_row(unroll):
        first = keras.layers.SimpleRNN(4, return_sequences=True, unroll=unroll)
        second = keras.layers.GRU(4, return_sequences=True, unroll=unroll)
        return lambda x: second(first(x))

    def net(*ways):
        inputs = keras.Input((3, 3, 3))
        rows = keras.layers.Reshape((3, -1))(binary_conv(4)(inputs))
        maps = [keras.layers.Reshape((3, -1, 1))(layer(rows)) for layer in ways]
        ends = [binary_conv(4, name=f"behind{i}")(x) for i, x in enumerate(maps)]
        return scrambled(keras.Model(inputs, ends))

    x, path = images(2, (3, 3, 3)), tmp_path / "m.tflite"
    with pytest.raises(ConversionError, match="recurrent layers with unroll=True"):
        convert(net(in_a_row(False)), path, data=x)
    both = keras.layers.Bidirectional(keras.layers.LSTM(4, return_sequences=True))
    report = convert(net(both, in_a_row(True)), path, data=x)
    assert report.lce_bconv2d == 3
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
    for i, (found, after) in enumerate(pairs):
        expected = np.reshape(after(before[i]), (8, -1))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4, err_msg=str(i))


def test_a_file_that_the_interpreter_rejects():
    model = chain(binary_conv(64, groups=2), stem=False, shape=(8, 8, 64))
    flatbuffer = to_flatbuffer(inference(model), model.variables, io_spec(model))
    with pytest.raises(ConversionError, match="cannot run the file: .*bconv2d"):
        Runner(flatbuffer, "lce")


def shortcut(between=lambda x: x):
    """A map that is reshaped, shifted, and still needed for a shortcut."""
    layers = keras.layers
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="tanh")(inputs)
    x = Constant((8,), True, name="gain")(x)
    y = layers.Reshape((4, 4, 2, 4))(between(x))
    y = layers.Reshape((4, 4, 8))(Constant((2, 4), name="shift")(y))
    y = binary_conv(8, name="conv")(y)
    return scrambled(keras.Model(inputs, layers.Add(name="sum")([y, x])))


def differs(flatbuffer, model):
    x = images(shape=model.input_shape[1:])
    expected = model(x).numpy()
    off = np.abs(Runner(flatbuffer, "lce")(x) - expected).max()
    return off > 1e-3 * np.abs(expected).max()


def test_a_map_that_is_overwritten_before_its_last_use_is_named():
    model = shortcut()
    flatbuffer = file_of(model)
    message = "layer 'shift' would overwrite what layer 'gain' gives before layer 'sum'"
    with pytest.raises(ConversionError, match=message):
        check(flatbuffer, model)
    assert differs(flatbuffer, model)
    # A map with memory of its own is safe.
    model = shortcut(keras.layers.ReLU())
    flatbuffer = file_of(model)
    check(flatbuffer, model)
    assert not differs(flatbuffer, model)


def test_such_a_file_is_not_written(tmp_path):
    """Even without verification."""
    with pytest.raises(ConversionError, match="layer 'shift' would overwrite"):
        convert(shortcut(), tmp_path / "m.tflite", verify=False)
    assert not any(tmp_path.iterdir())


def test_either_input_may_be_overwritten():
    """The other one is an input of the file, which nothing overwrites."""
    random = np.random.default_rng(0)
    gain = random.uniform(0.5, 1.5, 16).astype(np.float32)
    arrays = [random.uniform(0.5, 1.5, shape).astype(np.float32)
              for shape in (SHAPE, GROUPS)]  # fmt: skip
    operations = (tf.add, tf.subtract, tf.multiply, tf.divide)

    def both(inputs):
        ends = []
        for i, operation in enumerate(2 * operations):
            kept = tf.tanh((1 + i) * inputs[0]) * gain  # in place, too
            pair = tf.reshape(kept, GROUPS), inputs[1]
            found = operation(*pair[:: 1 if i < 4 else -1])
            ends.append(tf.reshape(found, SHAPE) + kept)
        return ends

    specs = [tf.TensorSpec(x.shape, name=f"in{i}") for i, x in enumerate(arrays)]
    ports = IoSpec(specs, [f"out{i}" for i in range(8)])
    flatbuffer = to_flatbuffer(both, [], ports)
    assert len([*overwritten(read(flatbuffer, "both")[0])]) == 8
    for found, wanted in zip(
        Runner(flatbuffer, "lce")(arrays), both(arrays), strict=True
    ):
        assert not np.allclose(found, wanted, rtol=1e-3, atol=1e-3)
