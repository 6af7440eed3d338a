"""Models whose layers cannot be read: converted as they compute, counted, compared."""

import json
import re

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import binary_conv, chain, head, images, scrambled
from larq_nobn._keras import keras
from larq_nobn.deploy import (
    ConversionError,
    Runner,
    VerificationError,
    _convert,
    audit,
    convert,
)
from larq_nobn.deploy.lite import Trace, io_spec
from larq_nobn.deploy.verify import _traced

pytestmark = pytest.mark.convert
layers = keras.layers


class Residual(keras.Model):
    """Two binary convolutions, one of them used twice, with code of its own."""

    def __init__(self, first=None, **kwargs):
        super().__init__(**kwargs)
        self.stem = layers.Conv2D(32, 3, padding="same", name="stem")
        self.first = first or binary_conv(name="first")
        self.norm = layers.BatchNormalization(name="norm")
        self.second = binary_conv(
            name="second",
            input_quantizer=nobn.quantizers.RSign(),
            kernel_quantizer=nobn.quantizers.ScaledStdSign(),
        )
        self.act = nobn.layers.RPReLU(name="act")
        self.last = layers.Dense(5, name="last")

    def call(self, x):
        x = self.norm(self.first(self.stem(x)))
        for _ in range(2):
            x = x + self.act(self.second(x))
        return self.last(tf.reduce_mean(x, axis=(1, 2)))


class Straight(keras.Model):
    """Layers in a row, each called once."""

    def __init__(self, *rows, **kwargs):
        super().__init__(**kwargs)
        self.rows = list(rows)

    def call(self, x):
        for layer in self.rows:
            x = layer(x)
        return x


def called(model, shape=(8, 8, 3)):
    model(np.zeros((2, *shape), np.float32))
    return scrambled(model)


def agrees(path, model, data):
    found, expected = Runner(path.read_bytes())(data), model(data).numpy()
    close = np.isclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
    # Some sums of ±c are 0 in the file and rounding in Keras.
    return close.reshape(len(data), -1).all(axis=1).mean()


def test_a_subclassed_model_converts_as_it_computes(tmp_path):
    model, data, path = called(Residual(name="mine")), images(20), tmp_path / "m.tflite"
    weights = model.get_weights()
    report = convert(model, path, data=data)
    assert (report.lce_bconv2d, report.binary_layers) == (3, 3)
    assert agrees(path, model, data) > 0.9
    assert report.verify["examples"] == 20
    assert report.verify["unexplained"] == report.verify["prepared"]["unexplained"] == 0
    assert "the subclassed or unbuilt model 'mine'" in report.not_prepared
    assert re.search("not optimized .* Model 'mine' cannot be taken apart", str(report))
    assert "traced = file" in str(report)
    assert json.loads(report.to_json())["not_prepared"] == report.not_prepared
    names = [op["layer"] for op in audit(path).operations if op["op"] == "LceBconv2d"]
    assert names == ["norm", "act", "act"]  # the last that was fused into each
    for old, new in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(
    "options",
    [{"input_shape": (8, 8, 3)}, {"data": (images(4), np.zeros(4))}],
)
def test_the_size_of_a_model_that_was_never_called(options, tmp_path):
    model = Straight(binary_conv(), name="fresh")
    report = convert(model, tmp_path / "m.tflite", verify=False, **options)
    assert (report.lce_bconv2d, report.verify) == (1, None)
    assert model.built


def test_a_model_that_was_built_knows_its_size(tmp_path):
    model = Straight(binary_conv())
    model.build((None, 8, 8, 3))
    assert convert(model, tmp_path / "m.tflite", verify=False).lce_bconv2d == 1


def test_a_sequential_model_gets_its_graph(tmp_path):
    model = keras.Sequential([binary_conv(), *head()])
    report = convert(model, tmp_path / "m.tflite", input_shape=(8, 8, 3))
    assert (report.lce_bconv2d, report.not_prepared) == (1, None)


class Pair(keras.Model):
    """Takes and gives a dict."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv = binary_conv(8)

    def call(self, inputs):
        found = self.conv(inputs["left"]) - inputs["right"]
        return {"sum": found, "half": 0.5 * found}


def test_several_inputs_and_outputs_keep_their_names(tmp_path):
    model, path = Pair(), tmp_path / "m.tflite"
    data = {"left": images(20, (8, 8, 8)), "right": images(20, (8, 8, 8), seed=2)}
    expected = model({name: x.astype(np.float32) for name, x in data.items()})
    convert(model, path, data=data)
    run = Runner(path.read_bytes())
    assert run.input_names == ["left", "right"]
    assert run.output_names == ["half", "sum"]
    for name, found in zip(run.output_names, run(list(data.values())), strict=True):
        np.testing.assert_allclose(found, expected[name], rtol=1e-4, atol=1e-4)


class Blind(Pair):
    """Reads only one of its inputs."""

    def call(self, inputs):
        return self.conv(inputs["left"])


def test_an_input_that_is_not_read_stays_one(tmp_path):
    model, path = Blind(), tmp_path / "m.tflite"
    data = {"left": images(20, (8, 8, 8)), "right": images(20, (8, 8, 8), seed=2)}
    expected = model({name: x.astype(np.float32) for name, x in data.items()})
    assert convert(model, path, data=data).lce_bconv2d == 1
    run = Runner(path.read_bytes())
    assert run.input_names == ["left", "right"]
    np.testing.assert_allclose(run(list(data.values())), expected, rtol=1e-4, atol=1e-4)


class Block(layers.Layer):
    """A layer that contains another."""

    def __init__(self, inner, **kwargs):
        super().__init__(**kwargs)
        self.inner = inner

    def call(self, x):
        return self.inner(x)


class NoConfig(layers.Layer):
    """A layer that cannot be made anew."""

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        return self.factor * x

    def get_config(self):
        return {"name": self.name}


OPAQUE = {
    "contains a binary layer": (
        lambda: Block(binary_conv(name="inner"), name="x"),
        r"'x' \(Block\) contains the binary layer 'inner'",
        2,
    ),
    "is a subclassed model": (
        lambda: Straight(binary_conv(), layers.ReLU(), name="x"),
        "the subclassed or unbuilt model 'x'",
        2,
    ),
}


@pytest.mark.parametrize("kind", OPAQUE)
def test_a_layer_that_cannot_be_read(kind, tmp_path):
    make, reason, count = OPAQUE[kind]
    norm = layers.BatchNormalization()
    model = chain(binary_conv(name="plain"), norm, make(), *head())
    path, data = tmp_path / "m.tflite", images(20)
    report = convert(model, path, data=data)
    assert re.search(reason, report.not_prepared)
    assert (report.lce_bconv2d, report.binary_layers) == (count, count)
    assert agrees(path, model, data) > 0.9


def test_a_layer_without_a_configuration_stays_as_it_is(tmp_path):
    model = chain(binary_conv(name="plain"), NoConfig(2.0, name="x"), *head())
    report = convert(model, tmp_path / "m.tflite")
    assert (report.lce_bconv2d, report.not_prepared) == (1, None)


def test_an_open_size_is_closed_around_such_a_layer(tmp_path):
    block = Block(binary_conv(name="inner"))
    model = chain(block, *head(), shape=(None, None, 3))
    path, data = tmp_path / "m.tflite", images(20)
    report = convert(model, path, data=data, input_shape=(8, 8, 3))
    assert report.lce_bconv2d == 1
    assert agrees(path, model, data) > 0.9


class Turned(layers.Layer):
    """A user's layer that decides by what it is given."""

    def call(self, x):
        return x if tf.reduce_sum(x) > 0 else tf.abs(x) - 0.5


def test_what_a_readable_layer_decides_is_converted_too(tmp_path):
    model, path = chain(Turned(), binary_conv(4), stem=False), tmp_path / "m.tflite"
    assert convert(model, path, verify=False).not_prepared is None
    run, x = Runner(path.read_bytes()), np.abs(images(1))
    for given in (x, -x):
        np.testing.assert_allclose(run(given), model(given), rtol=1e-4, atol=1e-4)


def test_batches_of_several(tmp_path):
    model, path = called(Straight(binary_conv(), *head())), tmp_path / "m.tflite"
    report = convert(model, path, batch_size=3, data=images(20))
    assert report.binary_macs == 64 * 9 * 3 * 32
    assert agrees(path, model, images(20)) > 0.9


SIGN = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign"}
DEPTHWISE = {"input_quantizer": "ste_sign", "depthwise_quantizer": "ste_sign"}
# Weights, and how often each is multiplied: on maps of 8x8 with 32 channels, by hand.
FLOAT = {
    "depthwise": (lambda: lq.layers.QuantDepthwiseConv2D(3, **DEPTHWISE), 288, 36),
    "dense": (lambda: lq.layers.QuantDense(4, **SIGN), 128, 64),
    "ternary": (lambda: binary_conv(4, kernel_quantizer="ste_tern"), 1152, 64),
    "minus_one": (lambda: binary_conv(4, pad_values=-1.0), 1152, 64),
    "line": (lambda: lq.layers.QuantConv1D(4, 3, **SIGN), 384, 48),
    "transposed": (lambda: lq.layers.QuantConv2DTranspose(4, 3, **SIGN), 1152, 64),
    "local": (lambda: lq.layers.QuantLocallyConnected2D(2, 7, **SIGN), 12544, 1),
    "separable": (
        lambda: lq.layers.QuantSeparableConv2D(
            4, 3, pointwise_quantizer="ste_sign", **DEPTHWISE
        ),
        288 + 128,
        36,
    ),
}


class Branches(keras.Model):
    """Layers side by side, each on its own."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.fine = binary_conv(name="fine")
        self.branches = []
        for name, (make, _, _) in FLOAT.items():
            layer = make()
            layer._name = name
            self.branches.append(layer)

    def call(self, x):
        return [self.fine(x), *(branch(x) for branch in self.branches)]


def test_few_bits_without_a_kernel_are_found_inside(tmp_path):
    shape = (8, 8, 32)
    model, path = called(Branches(name="mine"), shape), tmp_path / "m.tflite"
    data = images(20, shape)
    message = (
        rf"'mine' has {len(FLOAT)} layers of few bits .*'depthwise' .QuantDepthwise.* "
        r"\(10,368 MACs and 1,152 bytes in float\).*'dense' .*allow_float=True"
    )
    with pytest.raises(ConversionError, match=message):
        convert(model, path)
    assert not any(tmp_path.iterdir())
    report = convert(model, path, data=data, allow_float=True)
    assert (report.lce_bconv2d, report.binary_layers) == (1, 1)
    costs = {row["layer"]: (row["macs"], row["bytes"]) for row in report.in_float}
    assert costs == {n: (w * uses, 4 * w) for n, (_, w, uses) in FLOAT.items()}
    pairs = zip(Runner(path.read_bytes())(data), model(data), strict=True)
    for name, (found, expected) in zip(["fine", *FLOAT], pairs, strict=True):
        assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max(), name


class Grouped(keras.Model):
    """Convolutions in groups, of which a trace has a function that Keras compiles."""

    def __init__(self, sign, padding, **kwargs):
        super().__init__(**kwargs)
        self.sign, self.fine = sign, binary_conv(8, name="fine")
        self.grouped = lq.layers.QuantConv2D(
            6, 3, groups=2, kernel_quantizer="ste_sign", name="grouped", **padding
        )

    def call(self, x):
        return self.grouped(self.sign(self.fine(x)))


@pytest.mark.parametrize("padding", [{}, {"padding": "same", "pad_values": 0.5}])
@pytest.mark.parametrize("kind", ["activation", "layer"])
def test_groups_after_a_sign_are_found_inside(kind, padding, tmp_path):
    layer = nobn.quantizers.RSign(offset=0.5)
    layer = layers.Activation("ste_sign") if kind == "activation" else layer
    model, path = called(Grouped(layer, padding), (6, 6, 8)), tmp_path / "m.tflite"
    with pytest.raises(ConversionError, match=r"1 layer of few bits.*Layer 'grouped'"):
        convert(model, path)
    report = convert(model, path, allow_float=True)
    (row,) = report.in_float
    positions = 36 if padding else 16
    assert (row["layer"], row["macs"]) == ("grouped", positions * 9 * 4 * 6)
    assert report.lce_bconv2d == 1


def several_maps():
    """A wrapper of its layer's name, at work on maps of another shape than LCE's."""
    inner = lq.layers.QuantConv2D(4, 3, name="maps", **SIGN)
    y = nobn.layers.BatchNormalizationPreconditioning(inner, name="maps")
    x = keras.Input((2, 5, 5, 8))
    return keras.Model(x, layers.Flatten()(y(x)))


def open_inside():
    """A transposed convolution of a map whose size is known in the run only."""
    x = keras.Input((6, 6, 8))
    y = layers.Lambda(lambda y: tf.image.resize(y, tf.shape(y)[1:3] - 1))(x)
    layer = lq.layers.QuantConv2DTranspose(4, 3, name="maps", **SIGN)
    return keras.Model(x, tf.reduce_mean(layer(y), (1, 2)))


@pytest.mark.parametrize(
    "make, macs", [(several_maps, 2 * 9 * 9 * 8 * 4), (open_inside, 9 * 8 * 4)]
)
def test_few_bits_on_maps_of_unusual_shapes(make, macs, tmp_path):
    model, path = make(), tmp_path / "m.tflite"
    with pytest.raises(ConversionError, match=r"1 layer of few bits.*Layer 'maps'"):
        convert(model, path)
    (row,) = convert(model, path, allow_float=True).in_float
    assert (row["layer"], row["macs"]) == ("maps", macs)


def test_recurrent_layers_run_as_loops(tmp_path):
    rows = binary_conv(), layers.ReLU(), layers.Reshape((8, -1)), layers.GRU(4)
    model, path = called(Straight(*rows)), tmp_path / "m.tflite"
    assert convert(model, path, data=images(8)).lce_bconv2d == 1
    assert agrees(path, model, images(20)) > 0.9


def nan():
    model = called(Straight(binary_conv(name="a")))
    model.rows[0].kernel.assign(np.full((3, 3, 3, 32), np.nan))
    return model


class Wrong(keras.Model):
    def call(self, x):
        raise ValueError("no such thing")


def half():
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        return called(Straight(binary_conv(name="a"), name="mine"))
    finally:
        keras.mixed_precision.set_global_policy("float32")


@pytest.mark.parametrize(
    "make, options, message",
    [
        (lambda: Straight(name="new"), {}, "'new' .* never called.* input_shape or da"),
        (
            lambda: Wrong(name="w"),
            {"input_shape": (4,)},
            "'w' cannot be called on inputs of .*ValueError: no such thing. Pass",
        ),
        (
            lambda: called(Straight(layers.ReLU(), name="mine")),
            {},
            "'mine' has no binary convolution.*allow_float=True",
        ),
        (
            lambda: called(Straight(binary_conv())),
            {"input_shape": (9, 9, 3)},
            "not fit",
        ),
        (
            lambda: called(Straight(binary_conv(6, groups=3, name="a"))),
            {},
            r"Layer 'a' \(QuantConv2D\) is of few bits, and LCE has no binary kernel",
        ),
        (
            lambda: called(Straight(binary_conv(name="a", input_quantizer="ste_tern"))),
            {},
            r"Layer 'a' \(QuantConv2D\) is of few bits",
        ),
        (
            lambda: called(
                Straight(binary_conv(name="a", input_quantizer="ste_heaviside"))
            ),
            {},
            r"Layer 'a' \(QuantConv2D\) is of few bits",
        ),
        (
            # LCE makes a plain sign of a ternary quantizer.
            lambda: called(
                Straight(lq.layers.QuantConv2D(4, 3, input_quantizer="ste_tern"))
            ),
            {"allow_float": True},
            "Layer .* takes the sign of a sum with a sign",
        ),
        (
            # LCE pools the bits, and forgets the ReLU that it fused before.
            lambda: called(
                Straight(layers.MaxPooling2D(), layers.ReLU(), binary_conv(name="a"))
            ),
            {},
            "'a .sign 1.', whose input there is",
        ),
        (
            lambda: called(
                Straight(
                    layers.AveragePooling2D(4), binary_conv(name="a", pad_values=0.0)
                )
            ),
            {},
            "'a' pads a 2x2 feature map with zeros for a 3x3 kernel",
        ),
        (
            lambda: called(
                Straight(
                    binary_conv(dilation_rate=2, pad_values=0.0),
                    layers.AveragePooling2D(2),
                    binary_conv(name="a", dilation_rate=2, pad_values=0.0),
                )
            ),
            {},
            "'a' pads a 4x4 feature map with zeros for a 5x5 kernel, .*=1.0, or larger",
        ),
        (nan, {}, "of layer 'a' contains NaN"),
        (half, {}, "'mine' cannot be taken apart.*stay in mixed_float16: build"),
        (lambda: called(Straight(binary_conv())), {"int8": True}, "be taken apart"),
    ],
)
def test_what_is_rejected_leaves_no_file(make, options, message, tmp_path):
    with pytest.raises(ConversionError, match=message):
        convert(make(), tmp_path / "m.tflite", **options)
    assert not any(tmp_path.iterdir())


def test_a_model_without_binary_layers_converts_on_request(tmp_path):
    model, path = called(Straight(layers.ReLU(), *head())), tmp_path / "m.tflite"
    report = convert(model, path, data=images(20), allow_float=True)
    assert (report.lce_bconv2d, report.binary_layers) == (0, 0)
    assert agrees(path, model, images(20)) == 1


@pytest.fixture(scope="module")
def simple():
    return called(Straight(binary_conv(name="a"), layers.ReLU(), *head()))


def test_a_binary_layer_that_stays_float_is_named(tmp_path, monkeypatch):
    """A trace whose sign LCE does not recognise."""
    real = Trace.function

    def spoiled(self, more=()):
        function = real(self, more)
        for node in self._folded.graph_def.node:
            if node.op == "PadV2":  # halve the ones that the map is padded with
                for other in self._folded.graph_def.node:
                    if other.name == node.input[2].removesuffix(":0"):
                        value = tf.make_tensor_proto(0.5)
                        other.attr["value"].tensor.CopyFrom(value)
        return function

    monkeypatch.setattr(Trace, "function", spoiled)
    with pytest.raises(ConversionError, match="LCE found 0 .* has 1: layer 'a' stayed"):
        convert(called(Straight(binary_conv(name="a"), *head())), tmp_path / "m.tflite")
    assert not any(tmp_path.iterdir())


def test_a_file_that_computes_something_else_is_found(simple, tmp_path, monkeypatch):
    real = _convert.to_flatbuffer

    def wrong(function, *rest):
        return real(lambda inputs: [1.01 * y for y in function(inputs)], *rest)

    monkeypatch.setattr(_convert, "to_flatbuffer", wrong)
    monkeypatch.setattr(_traced, "to_flatbuffer", wrong)
    message = "file computes .*: 32 of 32 examples .* after that of layer 'a .sign 1.'"
    with pytest.raises(VerificationError, match=message):
        convert(simple, tmp_path / "m.tflite")
    assert not any(tmp_path.iterdir())


def test_a_sign_that_turns_without_reason_is_found(simple, tmp_path, monkeypatch):
    """The probe agrees with the file, which has another shift before its sign."""
    real_file, real_probe = _convert.to_flatbuffer, _traced.to_flatbuffer
    monkeypatch.setattr(_convert, "to_flatbuffer", shifted(real_file))
    monkeypatch.setattr(_traced, "to_flatbuffer", shifted(real_probe))
    with pytest.raises(
        VerificationError, match=r"'a \(sign 1\)', whose input there is"
    ):
        convert(simple, tmp_path / "m.tflite")
    assert not any(tmp_path.iterdir())


def shifted(real):
    return lambda function, *rest: real(
        lambda inputs: function([x + 0.2 for x in inputs]), *rest
    )


def test_a_trace_that_computes_something_else_is_found(simple, tmp_path, monkeypatch):
    real = Trace._imported

    def wrong(self, *arguments):
        first, *rest = real(self, *arguments)
        return [first + 0.01, *rest]

    monkeypatch.setattr(Trace, "_imported", wrong)
    with pytest.raises(VerificationError, match="Tracing the model changed what it co"):
        convert(simple, tmp_path / "m.tflite", verify=False)
    assert not any(tmp_path.iterdir())


def test_what_a_trace_shows_of_its_signs():
    """All three spellings of a sign, and what they are the sign of."""

    class Signs(keras.Model):
        def call(self, x):
            y = lq.math.sign(x - 0.5)
            z = tf.where(x >= 0.25, 1.0, -1.0)
            return y + z + keras.backend.sign(x)

    inputs = keras.Input((3,))
    model = keras.Model(inputs, Signs()(inputs))
    ports = io_spec(model)
    trace = Trace(model, ports)
    x = np.array([[0.1, 0.3, -0.7]], np.float32)
    signs = trace.signs()
    assert len(signs) == 3
    tensors = [x for sign in signs for x in (sign.value, *sign.of)]
    found = iter(_traced._outputs(trace, ports, [x], tensors)[1:])
    rows = []
    for sign in signs:
        value, of = next(found), [next(found) for _ in sign.of]
        difference = of[0] - of[1] if len(of) > 1 else of[0]
        for holds, has in sign.thresholds():
            np.testing.assert_array_equal(holds(difference), has(value))
        rows.append(np.abs(difference))
    for expected in (np.abs(x - s) for s in (0.5, 0.25, 0.0)):
        assert sum(np.allclose(row, expected) for row in rows) == 1


STEPS = {
    "Larq's sign": (lq.math.sign, [-1, 1]),
    "TensorFlow's sign": (tf.sign, [-1, 0, 1]),
    "Heaviside": (lq.math.heaviside, [0, 1]),
    "choice": (lambda x: tf.where(x > 0, 1.0, -1.0), [-1, 1]),
    "choice by a number": (
        lambda x: tf.where(tf.greater_equal(0.0, x), -1.0, 1.0),
        [-1, 1],
    ),
}


@pytest.mark.parametrize("kind", STEPS)
def test_what_a_trace_makes_of_zero(kind):
    function, values = STEPS[kind]

    class Signs(keras.Model):
        def call(self, x):
            return function(x)

    inputs = keras.Input((3,))
    model = keras.Model(inputs, Signs()(inputs))
    (sign,) = Trace(model, io_spec(model)).signs()
    x = np.float32([-1, 0, 1])
    right = function(x).numpy()
    np.testing.assert_array_equal(sign.rounded(right), right)
    difference = -x if kind == "choice by a number" else x
    same = np.array([[has(v) == holds(difference) for holds, has in sign.thresholds()]
                     for v in values])  # fmt: skip
    # Each number has one value that agrees at all thresholds, and it is the right one.
    for i, column in enumerate(same.all(axis=1).T):
        assert [v for v, agree in zip(values, column, strict=True) if agree] == [
            right[i]
        ]


@pytest.mark.parametrize("rectified", [False, True], ids=["real", "rectified"])
@pytest.mark.parametrize("kind", STEPS)
def test_any_step_may_stand_in_a_trace(kind, rectified, tmp_path):
    """Of values other than -1 and +1, too, and with exact zeros before it."""
    step = layers.Lambda(STEPS[kind][0], name="step")
    before = layers.ReLU() if rectified else layers.Activation("linear")
    conv = binary_conv(16, name="conv")
    model = called(Straight(conv, before, step, layers.Flatten(), layers.Dense(4)))
    x = np.rint(images(8))
    report = convert(model, tmp_path / "m.tflite", data=x)
    assert report.verify["segments"]["compared"] == 3
    assert agrees(tmp_path / "m.tflite", model, x) == 1


SUMS_OF_SIGNS = {
    "Larq's ternary sign": lq.quantizers.SteTern(),
    "of two numbers": lambda x: tf.sign(tf.sign(x + 0.3) + tf.sign(x - 0.3)),
    "with something else": lambda x: tf.sign(x[..., ::-1] + tf.sign(x)),
    "with a large number": lambda x: tf.sign(tf.sign(x) + 1.5),
    "with a negative number": lambda x: tf.sign(tf.sign(x) + (-0.1)),
}


@pytest.mark.convert
@pytest.mark.parametrize("kind", SUMS_OF_SIGNS)
def test_signs_that_lce_would_lose_are_rejected_with_the_remedy(kind, tmp_path):
    step = layers.Lambda(SUMS_OF_SIGNS[kind], name="step")
    conv = binary_conv(16, name="conv")
    model = called(Straight(conv, step, layers.Flatten(), layers.Dense(4)))
    with pytest.raises(
        ConversionError,
        match=r"Layer 'step' takes the sign of a sum with a sign, .* drops the outer "
        r"one\. Write the layer with comparisons",
    ):
        convert(model, tmp_path / "m.tflite")
    assert not any(tmp_path.iterdir())


@pytest.mark.convert
def test_the_remedy_for_ternary_signs_converts(tmp_path):
    step = layers.Lambda(
        lambda x: tf.cast(x >= 0.3, x.dtype) - tf.cast(x <= -0.3, x.dtype)
    )
    conv = binary_conv(16, name="conv")
    model = called(Straight(conv, step, layers.Flatten(), layers.Dense(4)))
    x = images(8)
    convert(model, tmp_path / "m.tflite", data=x)
    assert agrees(tmp_path / "m.tflite", model, x) == 1
