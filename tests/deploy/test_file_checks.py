"""Files that would not run, or run wrongly, and files that only look like it."""

import re

import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import Constant, binary_conv, chain, head, images, scrambled
from larq_nobn._keras import keras
from larq_nobn.deploy import (
    ConversionError,
    Runner,
    VerificationError,
    _convert,
    binary_layers,
    convert,
)
from larq_nobn.deploy._checks import check_file
from larq_nobn.deploy._opening import output_layers
from larq_nobn.deploy.lite import (
    IoSpec,
    inference,
    io_spec,
    overwritten,
    read,
    to_flatbuffer,
)
from larq_nobn.deploy.prepare._prepare import prepare

pytestmark = pytest.mark.convert
SHAPE, GROUPS = (1, 4, 4, 16), (1, 4, 4, 2, 8)


def file_of(model):
    prepared = prepare(model)
    ports = io_spec(prepared)
    return to_flatbuffer(inference(prepared), prepared.variables, ports), prepared


def check(flatbuffer, prepared):
    (graph,) = read(flatbuffer, "a file", output_layers(prepared))
    check_file(graph, prepared, binary_layers(prepared))


class Own(keras.layers.Layer):
    """A user's layer, of any function."""

    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function

    def call(self, inputs):
        return self.function(inputs)

    def get_config(self):
        return {**super().get_config(), "function": self.function}


def spectrum(x):
    return tf.math.real(tf.signal.fft2d(tf.cast(x, tf.complex64)))


def doubled(x):
    return tf.cast(2 * tf.cast(x, tf.float64), tf.float32)


@pytest.mark.parametrize(
    "function, op, dtype",
    [
        (tf.math.erf, "Erf", "float32"),
        (tf.nn.gelu, "Erfc?", "float32"),
        (spectrum, "FFT2D", "complex64"),
        (doubled, "Mul", "float64"),
    ],
)
def test_operations_that_nothing_can_run_are_named(function, op, dtype):
    odd = Own(function, name="odd")
    message = f"Layer 'odd' needs the operation '{op}' that gives {dtype}, which Tens"
    if op.startswith("Erf"):
        message += ".* GELU has a form without it: .*approximate=True"
    with pytest.raises(ConversionError, match=message):
        check(*file_of(chain(binary_conv(), odd, keras.layers.ReLU(), *head())))


@pytest.mark.parametrize("wrap", [lambda x: x, keras.layers.Bidirectional])
def test_an_lstm_that_would_become_one_operation_is_rejected(wrap):
    lstm = wrap(keras.layers.LSTM(4, return_sequences=True, name="lstm"))
    model = chain(binary_conv(4), keras.layers.Reshape((8, -1)), lstm, stem=False)
    flatbuffer, prepared = file_of(model)
    name = re.escape(f"{lstm.name!r} ({type(lstm).__name__})")
    message = f"layer {name} becomes UNIDIRECTIONAL_SEQUENCE_LSTM.*unroll=True"
    with pytest.raises(ConversionError, match=message):
        check(flatbuffer, prepared)
    assert differs(flatbuffer, prepared)


def test_other_recurrent_layers_convert(tmp_path):
    layers = (
        keras.layers.LSTM(4, return_sequences=True, unroll=True),
        keras.layers.RNN(keras.layers.LSTMCell(4), return_sequences=True),
        keras.layers.GRU(4, return_sequences=True),
    )
    inputs = keras.Input((4, 4, 3))
    rows = keras.layers.Reshape((4, -1))(binary_conv(4)(inputs))
    maps = [keras.layers.Reshape((4, 4, 1))(layer(rows)) for layer in layers]
    ends = [binary_conv(4, name=f"behind{i}")(x) for i, x in enumerate(maps)]
    model = scrambled(keras.Model(inputs, ends))
    report = convert(model, tmp_path / "m.tflite", data=images(shape=(4, 4, 3)))
    assert report.lce_bconv2d == 4
    assert report.verify["unexplained"] == 0


@pytest.mark.parametrize("first, second", [("SimpleRNN", "GRU"), ("GRU", "SimpleRNN")])
def test_recurrent_layers_in_a_row(first, second, tmp_path):
    """LCE's converter loses the size of the batch in a loop; unrolled it converts."""

    def net(unroll):
        inputs = keras.Input((4, 4, 3))
        x = keras.layers.Reshape((4, -1))(binary_conv(4)(inputs))
        for kind in (first, second):
            layer = getattr(keras.layers, kind)
            x = layer(4, return_sequences=True, unroll=unroll)(x)
        return scrambled(keras.Model(inputs, x))

    x, path = images(8, (4, 4, 3)), tmp_path / "m.tflite"
    with pytest.raises(ConversionError, match="recurrent layers with unroll=True"):
        convert(net(False), path, data=x)
    assert convert(net(True), path, data=x).verify["unexplained"] == 0


def test_the_last_layer_has_a_name_too():
    with pytest.raises(ConversionError, match="Layer 'odd' needs"):
        check(*file_of(chain(binary_conv(), Own(tf.math.erf, name="odd"))))


def upsampled(rows, after=lambda x: x, **options):
    layers = keras.layers
    keras.utils.set_random_seed(0)
    start = keras.Input((4, 4, 8))
    x = binary_conv(8)(start)
    if rows:
        up = layers.Conv1DTranspose(6, 2, strides=2, name="up", **options)
        x = up(layers.Reshape((16, 8))(x))
    else:
        x = layers.Conv2DTranspose(6, 2, strides=2, name="up", **options)(x)
    return keras.Model(start, layers.Flatten()(after(x)))


@pytest.mark.parametrize("rows", [False, True])
def test_a_number_beside_a_transposed_convolution(rows, tmp_path):
    """With a bias of 0 it is rejected; the remedy converts."""
    x, path = images(8, (4, 4, 8)), tmp_path / "m.tflite"
    options = {"activation": "hard_sigmoid"}
    with pytest.raises(ConversionError, match="one number to all channels of a trans"):
        convert(upsampled(rows, **options), path, data=x)
    assert not [*tmp_path.iterdir()]
    model = upsampled(rows, bias_initializer="ones", **options)
    assert convert(model, path, data=x).verify["exact_share"] == 1


NUMBERS = np.linspace(-1, 1, 6, dtype=np.float32)
ADDED = {
    "difference": lambda x: x - 0.3,
    "sum": lambda x: 0.3 + x,
    "turned difference": lambda x: 0.3 - x,
    "differences": lambda x: x - NUMBERS,
    "sums": lambda x: NUMBERS + x,
    "turned differences": lambda x: NUMBERS - x,
    "of rank 3": lambda x: tf.subtract(x, NUMBERS.reshape(1, 1, 6)),
    "a tensor": lambda x: tf.subtract(x, tf.constant(NUMBERS), name="less"),
    "by position": lambda x: x - np.arange(x.shape[-2], dtype=np.float32)[:, None],
    "cut off": lambda x: tf.nn.relu(x - NUMBERS),
    "again": lambda x: (x - NUMBERS) - 0.3,
}


@pytest.mark.parametrize("kind", ADDED)
@pytest.mark.parametrize("rows", [False, True])
def test_constants_beside_a_transposed_convolution(kind, rows, tmp_path):
    """TensorFlow Lite makes them its bias: a single one, or one with a wrong sign."""
    after, x = ADDED[kind], images(8, (4, 4, 8))
    model = upsampled(rows, use_bias=False)
    maps = keras.Model(model.input, model.get_layer("up").output)
    expected = np.asarray(after(tf.constant(maps.predict(x, verbose=0))))
    net = upsampled(rows, after, use_bias=False)
    assert convert(net, tmp_path / "m.tflite", data=x).verify["exact_share"] == 1
    found = Runner((tmp_path / "m.tflite").read_bytes())(x)
    np.testing.assert_allclose(found, expected.reshape(8, -1), rtol=0, atol=1e-4)


def test_constants_of_a_layer_that_is_called_twice(tmp_path):
    inner = keras.Input((4, 4, 8))
    up = keras.layers.Conv2DTranspose(8, 1, use_bias=False)
    part = keras.Model(inner, up(inner) - 0.3)
    start = keras.Input((4, 4, 8))
    model = keras.Model(start, part(part(binary_conv(8)(start))))
    report = convert(model, tmp_path / "m.tflite", data=images(8, (4, 4, 8)))
    assert report.verify["exact_share"] == 1


def test_a_file_that_the_interpreter_rejects():
    model = chain(binary_conv(64, groups=2), stem=False, shape=(8, 8, 64))
    flatbuffer = to_flatbuffer(inference(model), model.variables, io_spec(model))
    with pytest.raises(ConversionError, match="cannot run the file: .*bconv2d"):
        Runner(flatbuffer)


def shortcut(between=lambda x: x):
    """A map that is reshaped, shifted, and still needed for a shortcut."""
    layers = keras.layers
    inputs = keras.Input((8, 8, 3))
    x = layers.AveragePooling2D(name="pool")(
        layers.Conv2D(32, 3, padding="same")(inputs)
    )
    x = Constant((32,), True, name="gain")(x)
    y = layers.Reshape((4, 4, 2, 16))(between(x))
    y = layers.Reshape((4, 4, 32))(Constant((2, 16), name="shift")(y))
    y = binary_conv(name="conv")(y)
    return scrambled(keras.Model(inputs, layers.Add(name="sum")([y, x])))


def differs(flatbuffer, prepared):
    x = images()
    expected = prepared(x).numpy()
    return (
        np.abs(Runner(flatbuffer)(x) - expected).max() > 1e-3 * np.abs(expected).max()
    )


def test_a_map_that_is_overwritten_before_its_last_use_is_named():
    flatbuffer, prepared = file_of(shortcut())
    message = "layer 'shift' would overwrite what layer 'gain' gives before layer 'sum'"
    with pytest.raises(ConversionError, match=message):
        check(flatbuffer, prepared)
    assert differs(flatbuffer, prepared)


def test_such_a_file_is_not_written_even_without_verification(tmp_path):
    with pytest.raises(ConversionError, match="layer 'shift' would overwrite"):
        convert(shortcut(), tmp_path / "m.tflite", verify=False)
    assert not any(tmp_path.iterdir())


def test_without_that_check_verification_finds_the_layer(tmp_path, monkeypatch):
    monkeypatch.setattr(_convert, "check_file", lambda *arguments: None)
    with pytest.raises(VerificationError, match="something else.* '(shift|sum)' "):
        convert(shortcut(), tmp_path / "m.tflite")
    assert not any(tmp_path.iterdir())


def test_a_map_with_memory_of_its_own_is_safe():
    flatbuffer, prepared = file_of(shortcut(keras.layers.ReLU()))
    check(flatbuffer, prepared)
    assert not differs(flatbuffer, prepared)


def test_dense_heads_are_safe():
    layers = keras.layers
    inputs = keras.Input((8, 8, 3))
    x = binary_conv()(layers.Conv2D(32, 3)(inputs))
    flat = layers.Flatten()(x)
    scores = layers.Softmax()(layers.Dense(5)(layers.BatchNormalization()(flat)))
    outputs = [scores, layers.Dense(3)(flat)]
    check(*file_of(scrambled(keras.Model(inputs, outputs))))


def random_graph(seed):
    """A function that computes in place, reshapes, and uses its maps again."""
    random = np.random.default_rng(seed)
    gain = random.uniform(0.5, 1.5, 16).astype(np.float32)
    plan = random.integers([5, 4, 4], size=(8, 3))

    def reshaped(x):
        return tf.reshape(x, GROUPS if len(x.shape) == 4 else SHAPE)

    def function(inputs):
        maps = [inputs[0] * gain]
        for kind, first, second in plan:
            x, other = (maps[-1 - min(i, len(maps) - 1)] for i in (first // 2, second))
            constant = gain if len(x.shape) == 4 else gain.reshape(2, 8)
            if kind < 2:
                maps.append(reshaped(x))
            elif kind == 2:
                maps.append(x + constant)
            elif kind == 3:
                maps.append(x * tf.reshape(other, x.shape))
            else:
                maps.append(tf.tanh(x))
        return [tf.reshape(maps[-1], SHAPE) + tf.reshape(maps[1], SHAPE)]

    return function


def test_what_is_rejected_is_what_goes_wrong():
    x = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    ports = IoSpec([tf.TensorSpec(SHAPE, name="input")], ["output"])
    wrong, refused = [], []
    for seed in range(25, 31):  # of which number 28 goes wrong
        function = random_graph(seed)
        flatbuffer = to_flatbuffer(function, [], ports)
        found = Runner(flatbuffer)(x)
        wrong.append(not np.allclose(found, function([x])[0], rtol=1e-3, atol=1e-3))
        refused.append(any(overwritten(read(flatbuffer, "random")[0])))
    assert wrong == refused
    assert 0 < sum(wrong) < 6


@pytest.mark.parametrize(
    "function", [tf.add, tf.subtract, tf.multiply, tf.divide], ids=lambda f: f.__name__
)
@pytest.mark.parametrize("place", [0, 1])
def test_either_input_may_be_overwritten(function, place):
    """The other one is an input of the file, which nothing overwrites."""
    random = np.random.default_rng(0)
    gain, x, other = (
        random.uniform(0.5, 1.5, shape).astype(np.float32)
        for shape in ((16,), SHAPE, GROUPS)
    )

    def both(inputs):
        kept = tf.tanh(inputs[0]) * gain  # in place, too
        pair = tf.reshape(kept, GROUPS), inputs[1]
        return [tf.reshape(function(*pair[:: 1 - 2 * place]), SHAPE) + kept]

    specs = [tf.TensorSpec(a.shape, name=n) for a, n in ((x, "x"), (other, "other"))]
    flatbuffer = to_flatbuffer(both, [], IoSpec(specs, ["output"]))
    assert any(overwritten(read(flatbuffer, "both")[0]))
    found = Runner(flatbuffer)([x, other])
    assert not np.allclose(found, both([x, other])[0], rtol=1e-3, atol=1e-3)


def test_a_file_that_takes_more_memory_than_it_gets_is_not_run(tmp_path):
    """The interpreter ends the process where it gets none."""
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.UpSampling2D(30_000)(inputs)
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))
    with pytest.raises(ConversionError, match="The file takes 230,400,000,2.. bytes"):
        convert(model, tmp_path / "m.tflite", verify=False, allow_float=True)
    assert not list(tmp_path.iterdir())
