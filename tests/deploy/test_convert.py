"""Conversion from end to end: what is written, what is rejected, what is left alone."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import binary_conv, chain, head, images, scrambled, small
from deploy.verify.planting import numbers, with_fault
from larq_nobn._keras import dtype_policy, keras
from larq_nobn.deploy import (
    ConversionError,
    VerificationError,
    _convert,
    _prepared,
    convert,
)
from larq_nobn.deploy.operations._kinds import Affine
from numpy.testing import assert_array_equal
from rich.console import Console

pytestmark = pytest.mark.convert

KEYS = "path size_bytes runtime binary_layers lce_bconv2d float_ops binary_macs "
KEYS += "float_macs int8_ops int8_macs verify merged in_float not_prepared "
KEYS += "warnings flash_bytes arena_bytes unpacked_bytes resolver feed"
NUMBERS = "examples exact_share explained unexplained segments worst_abs worst_rel "
NUMBERS += "top1_agreement ties"


@pytest.fixture(scope="module")
def model():
    return small()


def text(table):
    shown = io.StringIO()
    Console(width=200, file=shown).print(table)
    return shown.getvalue()


def test_the_report(model, tmp_path, capfd):
    path = tmp_path / "m.tflite"
    path.write_text("old")
    report = convert(model, path)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""
    assert path.read_bytes()[4:8] == b"TFL3"
    assert [p.name for p in tmp_path.iterdir()] == ["m.tflite"]
    actual = json.loads(report.to_json(tmp_path / "report.json"))
    assert actual == json.loads((tmp_path / "report.json").read_text())
    assert set(actual) == set(KEYS.split())
    prepared, numbers = actual["verify"].pop("prepared"), set(NUMBERS.split())
    assert set(actual["verify"]) == numbers | {"data"}
    assert set(prepared) == numbers | {"reference"}
    for part in (actual["verify"], prepared):
        named = {"compared", "signs", "worst", "within_rounding"}
        assert set(part["segments"]) == named
        assert set(part["segments"]["worst"]) == {"layer", "difference"}
        assert (part["examples"], part["unexplained"]) == (34, 0)
        assert part["exact_share"] == 1 - part["explained"] / 34
    assert prepared["reference"] == "the given model"
    assert report.binary_layers == report.lce_bconv2d == 1
    assert report.size_bytes == path.stat().st_size
    shown = text(report.table())
    for said in ("1 of 1", "0 unexplained", "27 random and 5 regular inputs"):
        assert said in shown
    assert "the given model" not in shown


def test_a_mixed_precision_model_converts(tmp_path):
    with dtype_policy("mixed_bfloat16"):
        model = small()
    report = convert(model, tmp_path / "m.tflite")
    reference = report.verify["prepared"]["reference"]
    assert reference.startswith("the given model in float32; in its mixed_bfloat16")
    assert reference in text(report.table())


class Forward(keras.layers.Layer):
    """Something whose gradient nobody may ask for."""

    def call(self, inputs):
        @tf.custom_gradient
        def double(x):
            def gradient(upstream):
                raise AssertionError("a gradient was traced for a file")

            return 2 * x, gradient

        return double(inputs)


def test_bytes_stay_bytes_and_no_gradient_is_asked_for(tmp_path):
    inputs = keras.Input((8, 8, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.Add()([x, keras.layers.BatchNormalization()(inputs)])
    x = Forward()(binary_conv(8)(keras.layers.Conv2D(8, 3)(x)))
    report = convert(scrambled(keras.Model(inputs, x)), tmp_path / "m.tflite")
    assert (report.lce_bconv2d, report.verify["examples"]) == (1, 32)


X, Y = images(40), np.zeros(40)
SLICES = tf.data.Dataset.from_tensor_slices


@pytest.mark.parametrize(
    "data, examples",
    [((X.astype("float64"), Y), 40), (SLICES(X).batch(16).repeat(), 256)],
)
def test_data_may_be_given_in_several_forms(model, tmp_path, data, examples):
    verify = convert(model, tmp_path / "m.tflite", data=data).verify
    assert verify["examples"] == verify["prepared"]["examples"] == examples
    assert verify["data"] == "the given data"


def overflowing():
    model = small()
    kernel = model.get_layer("head").kernel
    kernel.assign(np.full(kernel.shape, 1e38))
    return model


class Unknown(keras.layers.Layer):
    """Something that no phone can run."""

    def call(self, inputs):
        outputs = tf.numpy_function(lambda x: x, [inputs], tf.float32)
        outputs.set_shape(inputs.shape)
        return outputs


@pytest.mark.parametrize(
    "make, options, message",
    [
        (small, {"data": images(4, (8, 8, 1))}, r"examples of shape \(8, 8, 1\)"),
        (small, {"data": SLICES(X)}, r"of shape \(8, 3.*for one example, x"),
        (small, {"verify": 1}, "verify=1 is neither True nor False"),
        (small, {"path": "m.keras"}, "'m.keras' is not a name for a TFLite model"),
        (overflowing, {}, "Model 'small' gives outputs that are"),
        (
            lambda: chain(binary_conv(8), Unknown(name="odd"), *head()),
            {},
            "Layer .odd. needs the operation .PyFunc.",
        ),
    ],
)
def test_what_does_not_fit_is_rejected(make, options, message, tmp_path):
    with pytest.raises((ConversionError, TypeError, ValueError), match=message):
        convert(make(), **{"path": tmp_path / "m.tflite", **options})
    assert not any(tmp_path.iterdir())


def test_the_given_model_can_continue_training(tmp_path):
    model = small()
    model.compile("adam", "mse", metrics=["mae"], run_eagerly=True)
    model.fit(X, np.zeros((40, 5)), verbose=0)
    variables = [*model.weights, *model.optimizer.variables]
    before = [v.numpy() for v in variables]
    names = [v.name for v in variables]
    convert(model, tmp_path / "m.tflite", verify=False)
    assert [v.name for v in variables] == names
    for old, new in zip(before, variables, strict=True):
        assert_array_equal(old, new.numpy())
    model.fit(X, np.zeros((40, 5)), verbose=0)


# --- whatever fails, and wherever: no file is left, and an old one stays as it was

FULL = OSError(28, os.strerror(28))


@pytest.fixture(params=[None, "old"])
def path(request, tmp_path):
    """Where a file goes; at the end there must be what was there before."""
    file = tmp_path / "m.tflite"
    if request.param:
        file.write_text(request.param)
    yield file
    actual = {p.name: p.read_text() for p in tmp_path.iterdir()}
    assert actual == ({file.name: request.param} if request.param else {})


def failing(error):
    def fail(*args, **kwargs):
        raise error

    return fail


def test_a_conversion_that_is_interrupted(model, path, monkeypatch):
    monkeypatch.setattr(_convert, "verify_file", failing(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        convert(model, path, verify=False)


@pytest.mark.parametrize("path", [None], indirect=True)
def test_equality_with_the_given_model_does_not_depend_on_verify(
    model, path, monkeypatch
):
    fault = Affine, numbers("b", lambda b: np.add(b, 1e-3, out=b))

    def wrong(*arguments):
        return with_fault(right(*arguments), fault, "head")

    right = _prepared.stages_of
    monkeypatch.setattr(_prepared, "stages_of", wrong)
    with pytest.raises(VerificationError, match=r"8 of 8 .* tolerance=1e-05"):
        convert(model, path, verify=False, tolerance=1.0)


@pytest.mark.parametrize(
    "of, method", [(Path, "write_bytes"), (os, "open"), (os, "replace")]
)
def test_a_disk_that_is_full(of, method, model, path, monkeypatch):
    usual, full = getattr(of, method), failing(FULL)

    def written(where, *arguments):
        ours = Path(where).name.startswith(".partial-")
        return (full if ours else usual)(where, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(of, method, written)
        with pytest.raises(OSError, match="cannot be written: No space left"):
            convert(model, path, verify=False)
