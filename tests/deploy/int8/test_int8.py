"""int8 files: what they hold, what they take, and that wrong ones are caught."""

import json
from dataclasses import replace
from types import SimpleNamespace

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import OfFunction, binary_conv, chain, images, scrambled
from larq_nobn._keras import keras
from larq_nobn.deploy import (
    ConversionError,
    Runner,
    VerificationError,
    audit,
    convert,
    fake_quantize,
)
from larq_nobn.deploy.int8 import _conversion
from larq_nobn.deploy.operations import _int8
from larq_nobn.deploy.operations._kinds import Kernel, Range
from larq_nobn.deploy.trace._operation_names import layer_of
from larq_nobn.graph._models import flattened
from larq_nobn.layers import FakeQuantization
from numpy.testing import assert_allclose

pytestmark = pytest.mark.convert

X = images(2)


def in_int8(model, data, folder, **options):
    """The report of a file of a model with ranges."""
    quantized = fake_quantize(model, data, verify=False)
    options = {"data": data, "int8": True, **options}
    return convert(quantized, folder / "m.tflite", **options)


@pytest.fixture(scope="module")
def quantized():
    model = nobn.models.ReActNet18((8, 8, 3), 5, width=8, blocks=(1, 1), name="net")
    return fake_quantize(scrambled(model), X, verify=False)


def summed():
    """The smallest network with a stem, a sum and a head."""
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(8, 3, padding="same", name="stem")(inputs)
    y = keras.layers.BatchNormalization()(binary_conv(8)(x))
    x = keras.layers.Add(name="sum")([x, y])
    x = keras.layers.GlobalAveragePooling2D()(x)
    return scrambled(keras.Model(inputs, keras.layers.Dense(5, name="head")(x)))


@pytest.fixture(scope="module")
def small():
    return fake_quantize(summed(), X, verify=False)


@pytest.fixture(scope="module")
def report(quantized, tmp_path_factory):
    path = tmp_path_factory.mktemp("int8") / "model.tflite"
    return convert(quantized, path, data=X, int8=True)


def test_nothing_stays_float_and_every_map_is_within_rounding(report):
    ops = audit(report.path).ops
    assert ops["LceBconv2d"] == 2
    # Of a block: the shift of the sign, the sum, PReLU and the shift after it.
    assert ops["ADD"] == 6
    assert ops["PRELU"] == 2
    assert not {"QUANTIZE", "DEQUANTIZE"} & set(ops)
    assert report.verify["unexplained"] == 0
    assert report.verify["top1_agreement"] == 1
    assert report.verify["worst_rel"] < 0.2
    int8 = report.verify["int8"]
    assert int8["maps"] == 15
    assert 0.4 < int8["worst_steps"] < 1
    assert int8["inputs"][0]["dtype"] == int8["outputs"][0]["dtype"] == "int8"
    json.loads(report.to_json())


def test_scales_are_those_of_the_ranges_and_a_runner_takes_floats(quantized, report):
    for where, layer in (("inputs", "image_range"), ("outputs", "head_range")):
        (tensor,) = report.verify["int8"][where]
        given = quantized.get_layer(layer)
        step = (given.maximum - given.minimum) / 255
        assert_allclose(tensor["scale"], step, rtol=1e-5)
        assert -128 <= tensor["zero_point"] <= 127
    run = Runner(report.path)
    actual = run(X)
    assert actual.dtype == np.float32
    (scale,) = (tensor.scale for tensor in run.output_tensors)
    assert_allclose(actual / scale, np.round(actual / scale), atol=1e-3)
    assert_allclose(actual, quantized(X), atol=0.2 * np.ptp(quantized(X)))


ZEROS = {"padding": "same", "pad_values": 0.0}
# What follows binary convolutions, and the size and strides of these.
AFTER = {
    "nothing": (lambda: [], (3, 1)),
    "a batch norm": (lambda: [keras.layers.BatchNormalization()], (3, 2)),
    "RPReLU": (lambda: [nobn.layers.RPReLU()], (3, 1)),
    "a pool": (lambda: [keras.layers.MaxPooling2D(padding="same")], (1, 2)),
}


def test_binary_convolutions_padded_with_zeros(tmp_path):
    """LCE has no kernel for int8 that pads with zeros: they stay float."""
    inputs, ends = keras.Input((6, 6, 4)), []
    for after, (size, strides) in AFTER.values():
        y = binary_conv(8, size, strides=strides, **ZEROS)(inputs)
        for layer in after():
            y = layer(y)
        ends.append(binary_conv(4, **ZEROS)(y))
    model = scrambled(keras.Model(inputs, ends))
    actual = in_int8(model, images(2, (6, 6, 4)), tmp_path)
    count = 2 * len(AFTER)
    assert audit(actual.path).ops["LceBconv2d"] == actual.lce_bconv2d == count
    assert actual.verify["unexplained"] == 0
    assert actual.verify["int8"]["worst_steps"] < 1


def test_a_batch_norm_alone_is_one_operation(tmp_path):
    """Also with the ReLU after it, or beside another reader."""
    pool, norm = keras.layers.MaxPooling2D(), keras.layers.BatchNormalization
    inputs = keras.Input((8, 8, 3))
    x = pool(binary_conv(8)(inputs))
    x = keras.layers.ReLU()(norm()(x))
    x = pool(binary_conv(8)(x))
    x = keras.layers.Add()([norm()(x), keras.layers.AveragePooling2D(1)(x)])
    actual = in_int8(scrambled(keras.Model(inputs, x)), X, tmp_path)
    ops = audit(actual.path).ops
    assert ops["LceBconv2d"] == ops["DEPTHWISE_CONV_2D"] == 2
    assert not {"DEQUANTIZE", "MUL", "RELU"} & set(ops)
    assert actual.verify["unexplained"] == 0


# Of what shape the output is, and what reads it.
READERS = {
    "a batch norm": ((4, 4, 8), lambda: keras.layers.BatchNormalization()),
    "one of volumes": ((1, 4, 4, 8), lambda: keras.layers.BatchNormalization()),
    "a function": ((4, 4, 8), lambda: keras.layers.ELU()),
    "a dense layer": ((4, 4, 8), lambda: keras.layers.Dense(8, activation="tanh")),
    "a sign": ((4, 4, 8), lambda: binary_conv(8)),
}


def test_outputs_that_the_model_reads_again(tmp_path):
    """LCE loses an output that a float operation or a sign reads, too."""
    inputs, maps, ends = keras.Input((4, 4, 3)), [], []
    for shape, layer in READERS.values():
        seen = keras.layers.ReLU()(binary_conv(8)(inputs))
        maps.append(keras.layers.Reshape(shape)(seen))
        ends.append(layer()(maps[-1]))
    model = scrambled(keras.Model(inputs, [*maps, *ends]))
    signs = np.sign(images(2, (4, 4, 3)))
    actual = in_int8(model, signs, tmp_path)
    assert {end["dtype"] for end in actual.verify["int8"]["outputs"]} == {"int8"}
    made = Runner(actual.path).outputs([signs])[: len(maps)]
    for name, y, expected in zip(READERS, made, model(signs), strict=False):
        atol = 1.5 * np.ptp(expected) / 255
        assert_allclose(y, expected, rtol=0, atol=atol, err_msg=name)


def _conv(filters):
    return keras.layers.Conv2D(filters, 1)


# Each makes numbers of another range than its input has.
MOVES = {
    "a slice": lambda x: x[:, 2:5, :, :3],
    "two ranges": lambda x: tf.concat([_conv(4)(x), keras.layers.ReLU()(x)], -1),
    "a border": lambda x: tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], "CONSTANT", 25),
    "means": lambda x: tf.nn.avg_pool(x, 2, 2, "VALID"),
}


# Each may be cut off, or have no range at all.
SIGNS = {
    "signs beside small numbers": lambda x: keras.layers.Concatenate()(
        [keras.layers.Rescaling(0.01)(x), lq.quantizers.SteSign()(x)]
    ),
    "a comparison": lambda x: x * tf.cast(x > 0.25, "float32"),
}


@pytest.mark.parametrize("kinds", [MOVES, SIGNS], ids=["moves", "signs"])
def test_functions_that_move_numbers(kinds, tmp_path):
    inputs = keras.Input((8, 8, 3))
    stem = binary_conv(8)(inputs)
    ends = [_conv(3)(move(_conv(8)(stem))) for move in kinds.values()]
    quantized = fake_quantize(scrambled(keras.Model(inputs, ends)), X, verify=False)
    ranges = [x for x in quantized.layers if isinstance(x, FakeQuantization)]
    assert {layer.input.dtype for layer in ranges} == {tf.float32}
    actual = convert(quantized, tmp_path / "m.tflite", data=X, int8=True)
    assert actual.verify["unexplained"] == 0
    assert actual.verify["int8"]["worst_steps"] < 1.01
    assert kinds is SIGNS or "DEQUANTIZE" not in audit(actual.path).ops


def _bounded(x):
    return keras.layers.Conv2DTranspose(4, 2, 2, activation=lq.activations.hard_tanh)(x)


def _larger(x):
    return tf.maximum(x[..., :4], 0.25 * x[..., 4:])


# Files have the output of each in one range alone: that of the input, or a fixed one.
OF_ONE_RANGE = {
    "larger by lines": lambda x: keras.layers.Resizing(9, 7)(x),
    "larger by neighbors": lambda x: keras.layers.Resizing(7, 9, "nearest")(x),
    "smaller": lambda x: keras.layers.Resizing(3, 2)(x),
    "lines in a layer": OfFunction(lambda x: tf.image.resize(x, (9, 7))),
    "means in a layer": OfFunction(lambda x: tf.nn.avg_pool(x, 2, 2, "VALID")),
    "largest in a layer": OfFunction(lambda x: tf.reduce_max(x, [1], keepdims=True)),
    "magnitudes": OfFunction(lambda x: tf.maximum(x, -x)),
    "their opposites": OfFunction(lambda x: tf.minimum(-x, x)),
    "the larger of two": OfFunction(_larger),
    "log_softmax": keras.layers.Activation("log_softmax"),
    "log_softmax in a layer": OfFunction(tf.nn.log_softmax),
    "softmax in a layer": OfFunction(tf.nn.softmax),
    "tanh in a layer": OfFunction(tf.tanh),
    "of vectors": lambda x: OfFunction(tf.nn.log_softmax, name="vectors")(
        keras.layers.Dense(5)(keras.layers.GlobalMaxPooling2D()(x))
    ),
    "transposed": lambda x: keras.layers.Conv2DTranspose(4, 3, 2, activation="relu")(x),
    "transposed, bounded": _bounded,
}


@pytest.mark.parametrize("runtime", ["lce", "litert"])
def test_operations_of_one_range(runtime, tmp_path):
    inputs, kinds = keras.Input((6, 6, 3)), dict(OF_ONE_RANGE)
    if runtime == "lce":
        del kinds["transposed, bounded"]  # in float there
    ends = [make(keras.layers.Conv2D(8, 1)(inputs)) for make in kinds.values()]
    model = scrambled(keras.Model(inputs, ends))
    quantized = fake_quantize(model, images(16, (6, 6, 3)), verify=False)
    data, path = images(4, (6, 6, 3)), tmp_path / "m.tflite"
    options = {"runtime": runtime, "allow_float": True, "int8": True}
    report = convert(quantized, path, data=data, **options)
    assert report.verify["int8"]["worst_steps"] < 1.1
    assert audit(path).float_ops == []
    made = zip(kinds, Runner(path)(data), quantized(data), strict=True)
    for name, y, expected in made:
        atol = 6 * float(np.ptp(expected)) / 255
        assert_allclose(y, expected, rtol=0, atol=atol, err_msg=name)


def _ranged(x, high):
    layer = FakeQuantization()
    y = layer(x)
    layer.set_range(-high, high)
    return y


def _two(x):
    """Two maps, of which one is cut off where the other is not."""
    return [_ranged(2 * keras.layers.Conv2D(4, 1)(x), high) for high in (1.0, 3.0)]


def _larger_and_own(x):
    narrow, wide = _two(x)
    larger = _ranged(keras.layers.Maximum()([narrow, wide]), 3.0)
    return keras.layers.Add()([narrow, larger])


# What moves numbers of several ranges, while files have one range for each operation.
OF_TWO_RANGES = {
    "larger": lambda x: keras.layers.Maximum()(_two(x)),
    "smaller": lambda x: keras.layers.Minimum()(_two(x)),
    "joined": lambda x: keras.layers.Concatenate()(_two(x)),
    "with the input": lambda x: tf.concat([x, _two(x)[0]], -1),
    "pooled": lambda x: keras.layers.MaxPooling2D()(keras.layers.Maximum()(_two(x))),
    "pooled before": lambda x: keras.layers.MaxPooling2D()(_two(x)[1]),
    "vectors": lambda x: tf.concat(
        [keras.layers.GlobalMaxPooling2D()(part) for part in _two(x)], -1
    ),
    "read by others": _larger_and_own,
    "rectified": lambda x: keras.layers.ReLU()(tf.maximum(*_two(x))),
    "no range follows": lambda x: keras.layers.Conv2D(4, 1)(tf.maximum(*_two(x))),
    "of binary sums": lambda x: keras.layers.Maximum()(
        [_ranged(0.1 * binary_conv(4)(x), high) for high in (1.0, 3.0)]
    ),
    "in a row": lambda x: _ranged(_two(x)[0], 3.0),
}


@pytest.mark.parametrize("runtime", ["lce", "litert"])
def test_numbers_of_two_ranges(runtime, tmp_path):
    keras.utils.set_random_seed(0)
    inputs, path = keras.Input((6, 6, 3)), tmp_path / "m.tflite"
    x = _ranged(inputs, 4.0)
    ends = [_ranged(make(x), 2.0) for make in OF_TWO_RANGES.values()]
    model, data = keras.Model(inputs, ends), 2 * images(8, (6, 6, 3))
    report = convert(model, path, data=data, runtime=runtime, int8=True)
    assert report.verify["int8"]["worst_steps"] < 1.1
    assert audit(path).float_ops == []
    made = zip(OF_TWO_RANGES, Runner(path)(data), model(data), strict=True)
    for name, y, expected in made:
        # Kernels are rounded, too; where a range is lost, numbers are off by 1.
        assert_allclose(y, expected, rtol=0, atol=5 * 6 / 255, err_msg=name)


def test_a_sign_of_two_ranges_is_right_or_rejected(tmp_path):
    """In steps twice as large, small numbers below 0 would be 0, whose sign is +1."""
    inputs, path = keras.Input((6, 6, 3)), tmp_path / "m.tflite"
    x, options = _ranged(inputs, 4.0), {"data": images(8, (6, 6, 3)), "int8": True}
    narrow, wide = _two(x)

    def signed(*maps):
        joined = keras.layers.Concatenate(name="joined")(maps)
        return keras.Model(inputs, _ranged(binary_conv(8)(joined), 72.0))

    report = convert(signed(x, wide), path, **options)
    assert report.verify["int8"]["worst_steps"] < 1.1
    words = "Layer 'joined' gives a sign numbers of several .* Add a FakeQuantization"
    with pytest.raises(ConversionError, match=words):
        convert(signed(narrow, wide), path, **options)


def _binary_dense(x):
    return lq.layers.QuantDense(
        8, input_quantizer="ste_sign", kernel_quantizer="ste_sign", use_bias=False
    )(x)


def _heads(*befores, size=(4, 3)):
    """A stem, what comes before the sign of each binary head, and the heads."""
    inputs = keras.Input((*size, 3))
    norm = keras.layers.BatchNormalization
    x = norm()(binary_conv(8)(norm()(keras.layers.Conv2D(8, 1)(inputs))))
    return keras.Model(inputs, [norm()(_binary_dense(f(x))) for f in befores])


def test_signs_of_means(tmp_path):
    """Of a mean and a reshape the converter makes an operation that rounds itself."""
    keras.utils.set_random_seed(4)  # rounding decides some of these means
    model = _heads(
        lambda x: tf.reduce_mean(x[:, 2:], [1, 2]),
        lambda x: keras.layers.Reshape((1, 8))(
            keras.layers.GlobalAveragePooling2D()(x[:, :, 1:])
        ),
        size=(3, 11),
    )
    data = np.random.default_rng(4).normal(size=(24, 3, 11, 3)).astype("float32")
    actual = in_int8(model, data, tmp_path)
    assert actual.verify["int8"]["worst_steps"] < 1
    assert audit(actual.path).ops["MEAN"] == actual.lce_bconv2d - 1 == 2
    assert "DEQUANTIZE" not in audit(actual.path).ops


def test_signs_of_functions_whose_range_is_fixed(tmp_path):
    model = _heads(
        lambda x: keras.layers.Flatten()(tf.tanh(x)),
        lambda x: keras.layers.Softmax()(keras.layers.GlobalMaxPooling2D()(x)),
        lambda x: keras.layers.Flatten()(x * keras.layers.Activation("sigmoid")(x)),
        # Of a layer with a kernel, too.
        lambda x: keras.layers.Flatten()(
            keras.layers.Conv2D(4, 3, activation="tanh")(x)
        ),
    )
    data = images(4, (4, 3, 3))
    quantized = fake_quantize(scrambled(model), data, verify=False)
    fixed = [x for x in quantized.layers if not x.trainable]
    ends = {(float(x.minimum), float(x.maximum)) for x in fixed}
    assert ends == {(0.0, 255 / 256), (-1.0, 127 / 128)}
    actual = convert(quantized, tmp_path / "m.tflite", data=data, int8=True)
    assert actual.verify["int8"]["worst_steps"] < 1
    ops = audit(actual.path).ops
    assert (ops["TANH"], ops["SOFTMAX"], ops["LOGISTIC"]) == (2, 1, 1)
    assert actual.float_ops == []
    # The range in the model is that of the file: nothing is rounded twice.
    assert "DEQUANTIZE" not in ops
    assert ops["QUANTIZE"] == len(model.outputs)


def test_a_sum_below_any_of_signs_is_not_cut_off(tmp_path):
    """Where LCE must not look past an operation, that changes no number."""
    inputs = keras.Input((4, 4, 8))
    x = binary_conv(8, **ZEROS)(inputs)
    x = keras.layers.BatchNormalization(epsilon=0.0, name="norm")(x)
    model = keras.Model(inputs, x)
    gain = np.full(8, 1e7, np.float32)
    model.get_layer("norm").set_weights([gain, 0 * gain, 0 * gain, 0 * gain + 1])
    x = np.sign(images(8, (4, 4, 8)))
    path = tmp_path / "m.tflite"
    convert(fake_quantize(model, x, verify=False), path, data=x, int8=True)
    expected = model.predict(x, verbose=0)
    assert expected.min() < -(2**24)
    step = np.ptp(expected) / 255
    assert_allclose(Runner(path.read_bytes())(x), expected, rtol=0, atol=1.01 * step)


@pytest.mark.parametrize("runtime", ["lce", "litert"])
def test_a_bias_of_one_number(runtime, tmp_path):
    """Converters would round it in steps of the first channel's kernel."""
    inputs, options = keras.Input((6, 6, 8)), {"bias_initializer": "ones"}
    x = keras.layers.DepthwiseConv2D(3, **options)(binary_conv(8)(inputs))
    x = keras.layers.Conv2DTranspose(8, 3, **options)(x)
    aware = {"kernel_quantizer": "magnitude_aware_sign", "use_bias": True, **options}
    model = keras.Model(inputs, binary_conv(8, **aware)(x))
    for layer in model.layers[2:]:
        kernel = layer.weights[0]
        axis = kernel.shape.as_list().index(8)  # the channels that have steps
        sizes = np.moveaxis(np.geomspace(1, 100, 8)[:, None, None, None], 0, axis)
        kernel.assign(kernel * sizes)
    actual = in_int8(model, images(8, (6, 6, 8)), tmp_path, runtime=runtime)
    assert actual.verify["int8"]["worst_steps"] < 0.6


@pytest.mark.parametrize(
    "layer, kind, number, factor, actual",
    [
        ("sum_range", Range, "high", 0.9, "sum_range"),
        ("stem", Kernel, "weights", 1.05, "stem_range"),
    ],
)
def test_a_wrong_scale_is_caught(
    small, tmp_path, monkeypatch, layer, kind, number, factor, actual
):
    spelled, changed = _int8.spelled, []

    def distorted(program, runtime):
        program = spelled(program, runtime)
        for node in program.nodes:
            if isinstance(node, kind) and layer_of(node) == layer:
                wrong = replace(node, **{number: factor * getattr(node, number)})
                changed.append(node)
                program = program.with_nodes([node], [wrong])
        return program

    monkeypatch.setattr(_int8, "spelled", distorted)
    message = f"a map of layer '{actual}' that is up to .* quantization steps away"
    with pytest.raises(VerificationError, match=message):
        convert(small, tmp_path / "m.tflite", data=X, int8=True)
    assert len(changed) == 1
    assert not any(tmp_path.iterdir())


def compared():
    """Comparisons at the end of a network: of one map, of two, and what reads them."""
    keras.utils.set_random_seed(2)
    inputs = keras.Input((8, 8, 3))
    x = binary_conv(8)(keras.layers.Conv2D(8, 3, padding="same")(inputs))
    nine = keras.initializers.Constant(9.0)
    x = keras.layers.BatchNormalization(moving_variance_initializer=nine)(x)
    y = keras.layers.Dense(7)(keras.layers.GlobalAveragePooling2D()(x))
    outputs = [
        y > 0.0,
        tf.cast(y > 0.1, tf.uint8),
        (y <= -0.07) | (y > 0.3),
        y[:, :3] > y[:, 3:6],
        tf.reduce_any(y > 0.2, -1),
        tf.logical_not(y >= 0.05),
        tf.argmax(y, -1),
        y,
    ]
    return keras.Model(inputs, outputs)


@pytest.mark.parametrize("runtime", ["lce", "litert"])
def test_comparisons_behind_int8(runtime, tmp_path):
    x, path = images(16), tmp_path / "m.tflite"
    quantized = fake_quantize(compared(), x, verify=False)
    report = convert(quantized, path, data=x, int8=True, runtime=runtime)
    assert report.verify["int8"]["worst_steps"] <= 1.5
    wanted, actual = quantized.predict(x, verbose=0), Runner(path)(x)
    assert [y.dtype for y in actual] == [y.dtype for y in wanted]
    for mine, theirs in zip(wanted[:-1], actual, strict=False):
        assert np.mean(mine == theirs) > 0.8
    assert sum(np.ptp(mine.astype(int)) > 0 for mine in wanted[:-1]) >= 6


@pytest.mark.parametrize("steps, wrong", [(0.4, False), (3, True), (-3, True)])
def test_a_threshold_off_by_more_than_rounding_is_caught(steps, wrong):
    """Of 100 numbers in steps, those next to the threshold may go to either side."""
    held = np.arange(-50, 50).reshape(4, 25) / 10
    form = SimpleNamespace(outputs_of=lambda maps: [maps[0] > 0.25, 2.0 * maps[0]])
    made, theirs = form.outputs_of([held]), [held > 0.25 + 0.1 * steps, 2 * held + 0.3]
    above, doubled = _conversion._past_jumps(
        form.outputs_of, [held], [0.1], made, theirs
    )
    assert np.array_equal(above, theirs[0]) != wrong
    np.testing.assert_array_equal(doubled, made[1])  # which does not jump


def test_another_file_than_the_shipped_one_is_caught(small, tmp_path, monkeypatch):
    outputs = Runner.outputs

    def shifted(self, examples):
        actual = outputs(self, examples)
        return (
            [actual[0] + self.output_tensors[0].scale] if len(actual) == 1 else actual
        )

    monkeypatch.setattr(Runner, "outputs", shifted)
    with pytest.raises(VerificationError, match="feature maps made visible compute"):
        convert(small, tmp_path / "m.tflite", data=X, int8=True)


def ranged(*layers):
    model = chain(FakeQuantization(name="behind"), *layers, name="m")
    start = keras.Input((8, 8, 3))
    y = model(FakeQuantization(name="before")(start))
    return flattened(keras.Model(start, y, name="m"))


def with_ranges(model):
    for layer in model.layers:
        if isinstance(layer, FakeQuantization):
            layer.set_range(-3.0, 3.0)
    return model


def no_input_range():
    return with_ranges(chain(FakeQuantization(), binary_conv(), name="m"))


@pytest.mark.parametrize(
    "model, int8, message",
    [
        (
            lambda: chain(binary_conv(), name="m"),
            True,
            "'m' contains no ranges, .* Pass calibrate=images",
        ),
        (lambda: ranged(binary_conv()), True, "Layer 'before' has no range yet"),
        (no_input_range, True, "Input .* does not go into a FakeQuantization"),
        (lambda: ranged(binary_conv()), False, "'before' is a FakeQuantization.* Pass"),
    ],
)
def test_what_cannot_be_int8_is_rejected(model, int8, message, tmp_path):
    with pytest.raises(ConversionError, match=message):
        convert(model(), tmp_path / "m.tflite", int8=int8)
    assert not any(tmp_path.iterdir())
