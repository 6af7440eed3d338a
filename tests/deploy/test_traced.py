"""Models whose layers cannot be read: converted as they compute, counted, compared."""

import json
import re

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import (
    DEPTHWISE,
    SIGNS,
    Block,
    Subclassed,
    binary_conv,
    chain,
    head,
    images,
    scrambled,
)
from larq_nobn._keras import dtype_policy, keras
from larq_nobn.deploy import (
    ConversionError,
    Runner,
    audit,
    convert,
)

pytestmark = pytest.mark.convert
layers = keras.layers
SHAPE = (8, 8, 3)


class Residual(keras.Model):
    """Two binary convolutions, one of them used twice, with code of its own."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.stem = layers.Conv2D(8, 3, padding="same", name="stem")
        self.first = binary_conv(8, name="first")
        self.norm = layers.BatchNormalization(name="norm")
        self.second = binary_conv(
            8,
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


class Branches(keras.Model):
    """Rows of layers side by side."""

    def __init__(self, branches, **kwargs):
        super().__init__(**kwargs)
        self.branches = [Straight(*rows) for rows in branches]

    def call(self, x):
        return [branch(x) for branch in self.branches]


def called(model, shape=SHAPE):
    model(np.zeros((2, *shape), np.float32))
    return scrambled(model)


def agrees(path, model, data):
    """The fraction of examples of which all outputs agree."""
    actual, expected = Runner(path).outputs([data]), tf.nest.flatten(model(data))
    agree = np.ones(len(data), bool)
    for y, wanted in zip(actual, expected, strict=True):
        size = np.abs(wanted).max()
        close = np.isclose(y, wanted, rtol=1e-3, atol=1e-3 * size)
        agree &= close.reshape(len(data), -1).all(axis=1)
    return agree.mean()


def test_a_subclassed_model_converts_as_it_computes(tmp_path):
    model, data, path = called(Residual(name="mine")), images(6), tmp_path / "m.tflite"
    weights = model.get_weights()
    report = convert(model, path, data=data)
    assert (report.lce_bconv2d, report.binary_layers) == (3, 3)
    assert agrees(path, model, data) > 0.8
    assert report.verify["examples"] == 6
    assert report.verify["unexplained"] == report.verify["prepared"]["unexplained"] == 0
    assert "the subclassed or unbuilt model 'mine'" in report.not_prepared
    assert re.search("layers .* Model 'mine' cannot be taken", str(report))
    assert "optimized = file" in str(report)
    assert json.loads(report.to_json())["not_prepared"] == report.not_prepared
    names = [op["layer"] for op in audit(path).operations if op["op"] == "LceBconv2d"]
    assert names == ["first", "second", "second"]
    for old, new in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(
    "make, options, prepared",
    [
        (lambda: Straight(binary_conv(4)), {"input_shape": SHAPE}, False),
        (lambda: keras.Sequential([binary_conv(4)]), {"input_shape": SHAPE}, True),
    ],
)
def test_the_size_of_a_model_that_was_never_called(make, options, prepared, tmp_path):
    model = make()
    report = convert(model, tmp_path / "m.tflite", verify=False, **options)
    assert (report.lce_bconv2d, report.verify) == (1, None)
    assert (report.not_prepared is None) == prepared
    assert model.built


class Named(keras.Model):
    """Takes and gives a dict, and reads only two of its inputs."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv = binary_conv(8)

    def call(self, inputs):
        actual = self.conv(inputs["left"]) - inputs["right"]
        return {"sum": actual, "half": 0.5 * actual}


def test_several_inputs_and_outputs_keep_their_names(tmp_path):
    model, path, names = Named(), tmp_path / "m.tflite", ["left", "right", "unread"]
    data = {name: images(4, (8, 8, 8), seed=i) for i, name in enumerate(names)}
    expected = model(data)
    assert convert(model, path, data=data).lce_bconv2d == 1
    run = Runner(path.read_bytes())
    assert run.input_names == names
    assert run.output_names == ["half", "sum"]
    for name, actual in zip(run.output_names, run(list(data.values())), strict=True):
        np.testing.assert_allclose(actual, expected[name], rtol=1e-4, atol=1e-4)


def test_a_layer_that_cannot_be_read(tmp_path):
    """The shape is closed around such a layer, too."""
    block = Block(binary_conv(8, name="inner"), name="x")
    rows = binary_conv(8, name="plain"), layers.BatchNormalization(), block
    model, data = chain(*rows, *head(), shape=(None, None, 3)), images(6)
    path = tmp_path / "m.tflite"
    report = convert(model, path, data=data, input_shape=SHAPE)
    assert report.not_prepared is None
    assert (report.lce_bconv2d, report.binary_layers) == (2, 2)
    assert agrees(path, model, data) > 0.8


class NoConfig(layers.Layer):
    """A layer that cannot be made anew."""

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        return self.factor * x

    def get_config(self):
        return {"name": self.name}


class Turned(layers.Layer):
    """A user's layer that decides by what it is given."""

    def call(self, x):
        return x if tf.reduce_sum(x) > 0 else tf.abs(x) - 0.5


def test_layers_of_the_user_that_can_be_read(tmp_path):
    rows = Turned(), binary_conv(4), NoConfig(2.0, name="x")
    model, path = chain(*rows, stem=False), tmp_path / "m.tflite"
    assert convert(model, path, verify=False).not_prepared is None
    run, x = Runner(path.read_bytes()), np.abs(images(1))
    for given in (x, -x):
        np.testing.assert_allclose(run(given), model(given), rtol=1e-4, atol=1e-4)


def test_batches_of_several_and_recurrent_layers(tmp_path):
    rows = binary_conv(8), layers.ReLU(), layers.Reshape((8, -1)), layers.GRU(4)
    model, path = called(Straight(*rows)), tmp_path / "m.tflite"
    report = convert(model, path, data=images(9), batch_size=3)
    assert (report.lce_bconv2d, report.binary_macs) == (1, 64 * 9 * 3 * 8)
    assert agrees(path, model, images(18)) > 0.9


def wrapped():
    """A wrapper that has the name of its layer."""
    inner = lq.layers.QuantConv2D(4, 3, name="wrapped", **SIGNS)
    return nobn.layers.BatchNormalizationPreconditioning(inner)


def grouped(**padding):
    return lq.layers.QuantConv2D(6, 3, groups=2, kernel_quantizer="ste_sign", **padding)


# Weights, and how often each is multiplied: on maps of 8x8 with 8 channels, by hand.
FLOAT = {
    "depthwise": ([lq.layers.QuantDepthwiseConv2D(3, **DEPTHWISE)], 72, 36),
    "ternary": ([binary_conv(4, kernel_quantizer="ste_tern")], 288, 64),
    "separable": (
        [
            lq.layers.QuantSeparableConv2D(
                4, 3, pointwise_quantizer="ste_sign", **DEPTHWISE
            )
        ],
        72 + 32,
        36,
    ),
}


def test_few_bits_without_a_kernel_are_found_inside(tmp_path):
    shape, path = (8, 8, 8), tmp_path / "m.tflite"
    for name, (rows, _, _) in FLOAT.items():
        rows[-1]._name = name
    groups = grouped(padding="same", pad_values=0.5)
    fine = [
        [binary_conv(8, name="fine")],
        [layers.Reshape((2, 4, 8, 8)), wrapped()],
        [nobn.quantizers.RSign(offset=0.5), groups],
    ]
    model = Branches([*fine, *(rows for rows, _, _ in FLOAT.values())], name="mine")
    called(model, shape)
    message = (
        rf"'mine' has {len(FLOAT)} layers of few bits .*'depthwise' is a binary "
        r"QuantDepthwiseConv2D.* \(2,592 MACs and 288 bytes .*allow_float=True"
    )
    with pytest.raises(ConversionError, match=message):
        convert(model, path)
    assert not any(tmp_path.iterdir())
    data = images(4, shape)
    report = convert(model, path, data=data, allow_float=True)
    assert (report.lce_bconv2d, report.binary_layers) == (4, 4)
    costs = {row["layer"]: (row["macs"], row["bytes"]) for row in report.in_float}
    assert costs == {n: (w * uses, 4 * w) for n, (_, w, uses) in FLOAT.items()}
    assert agrees(path, model, data) == 1


def nan():
    model = called(Straight(binary_conv(4, name="a")))
    model.rows[0].kernel.assign(np.full((3, 3, 3, 4), np.nan))
    return model


def half():
    with dtype_policy("mixed_float16"):
        return called(Straight(binary_conv(4, name="a"), name="mine"))


def row(*rows):
    return lambda: called(Straight(*rows, name="mine"))


@pytest.mark.parametrize(
    "make, options, message",
    [
        (lambda: Straight(name="new"), {}, "'new' .* never called.* input_shape or da"),
        (row(binary_conv(4)), {"int8": True}, "no ranges.*Pass calibrate=images"),
        (
            # LCE pools the bits, and forgets the ReLU that it fused before.
            row(layers.MaxPooling2D(), layers.ReLU(), binary_conv(4, name="a")),
            {},
            "'a', whose input there is",
        ),
        (nan, {}, "of layer 'a' contains NaN"),
        (half, {}, "'mine' cannot be taken apart.*stay in float16: build"),
    ],
)
def test_what_is_rejected_leaves_no_file(make, options, message, tmp_path):
    with pytest.raises(ConversionError, match=message):
        convert(make(), tmp_path / "m.tflite", **options)
    assert not any(tmp_path.iterdir())


def by_comparison(x):
    """What stands in for a ternary sign."""
    return tf.cast(x >= 0.3, x.dtype) - tf.cast(x <= -0.3, x.dtype)


# Functions of sums of signs, which are rectified before some of them.
STEPS = (
    (lq.math.sign, "linear"),
    (tf.sign, "relu"),
    (tf.sign, "linear"),
    (lq.math.heaviside, "relu"),
    (lambda x: tf.where(tf.greater_equal(0.0, x), -1.0, 1.0), "relu"),
    (lambda x: tf.where(tf.greater_equal(0.0, x), -1.0, 1.0), "linear"),
    (by_comparison, "linear"),
    (lq.quantizers.SteTern(), "linear"),
)


def test_any_step_may_stand_in_a_trace(tmp_path):
    """Of values other than -1 and +1, too, and with exact zeros before it."""
    rows = []
    for step, before in STEPS:
        step = layers.Lambda(step, name="step")
        rows.append([binary_conv(8, activation=before), step, layers.Dense(4)])
    model, x = called(Branches(rows), (4, 4, 3)), np.rint(images(8, (4, 4, 3)))
    report = convert(model, tmp_path / "m.tflite", data=x)
    assert report.verify["segments"]["compared"] >= 2 * len(rows)
    assert agrees(tmp_path / "m.tflite", model, x) == 1


def test_a_subclassed_model_has_the_operations_of_a_functional_one(tmp_path):
    model = nobn.models.ReActNet18((8, 8, 3), 4, width=8, blocks=(1,))
    around, x, operations = Subclassed(scrambled(model)), images(2), []
    around(x)
    for given in (model, around):
        path = tmp_path / f"{len(operations)}.tflite"
        report = convert(given, path, data=x)
        counts = report.binary_layers, report.binary_macs, report.float_macs
        operations.append((dict(audit(path).ops), *counts))
    assert operations[0] == operations[1]
