"""Conversion from end to end: what is written, what is rejected, what is left alone."""

import io
import json
import resource
import sys
from pathlib import Path

import larq_compute_engine
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import (
    Constant,
    binary_conv,
    chain,
    head,
    images,
    scrambled,
    small,
    three_convs,
)
from larq_nobn._keras import keras
from larq_nobn.deploy import ConversionError, convert
from larq_nobn.deploy.verify import _verify
from numpy.testing import assert_array_equal
from rich.console import Console

pytestmark = pytest.mark.convert

KEYS = {
    "path",
    "size_bytes",
    "binary_layers",
    "lce_bconv2d",
    "float_ops",
    "binary_macs",
    "float_macs",
    "int8_ops",
    "int8_macs",
    "verify",
    "rewritten",
    "merged",
    "in_float",
    "not_prepared",
    "warnings",
}
NUMBERS = {
    "examples",
    "exact_share",
    "explained",
    "unexplained",
    "segments",
    "worst_abs",
    "worst_rel",
    "top1_agreement",
    "ties",
}


@pytest.fixture(scope="module")
def model():
    return small()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return convert(three_convs(), tmp_path_factory.mktemp("convert") / "model.tflite")


def text(table):
    shown = io.StringIO()
    Console(width=200, file=shown).print(table)
    return shown.getvalue()


def test_the_report_has_the_promised_keys(report, tmp_path):
    found = json.loads(report.to_json(tmp_path / "report.json"))
    assert found == json.loads((tmp_path / "report.json").read_text())
    assert set(found) == KEYS
    assert set(found["verify"]) == NUMBERS | {"data", "prepared"}
    assert set(found["verify"]["prepared"]) == NUMBERS | {"reference"}
    for part in (found["verify"], found["verify"]["prepared"]):
        named = {"compared", "signs", "worst", "within_rounding"}
        assert set(part["segments"]) == named
        assert set(part["segments"]["worst"]) == {"layer", "difference"}


def test_every_binary_layer_is_found_and_every_example_accounted_for(report):
    assert report.binary_layers == report.lce_bconv2d == 3
    for part in (report.verify, report.verify["prepared"]):
        assert part["examples"] == 34
        assert part["unexplained"] == 0
        assert part["exact_share"] == 1 - part["explained"] / 34
    assert report.verify["prepared"]["reference"] == "the given model"
    assert "the given model" not in text(report.table())
    assert report.size_bytes == Path(report.path).stat().st_size


def test_the_table_shows_the_numbers(report):
    shown = text(report.table())
    assert "3 of 3" in shown
    assert "0 unexplained" in shown
    assert "27 random and 5 regular inputs" in shown


def test_without_verification_there_is_none(model, tmp_path):
    report = convert(model, tmp_path / "m.tflite", verify=False)
    assert report.verify is None
    assert "unexplained" not in text(report.table())


@pytest.mark.parametrize("verify, count", [(True, 34), (False, 8)])
def test_some_examples_are_compared_all_the_same(
    verify, count, model, tmp_path, monkeypatch
):
    """Given and prepared model, prepared model and file."""
    compared, real = [], _verify.compare

    def counted(reference, other, examples, *arguments, **options):
        compared.append(len(examples[0]))
        return real(reference, other, examples, *arguments, **options)

    monkeypatch.setattr(_verify, "compare", counted)
    convert(model, tmp_path / "m.tflite", verify=verify)
    assert compared == [count, count]


def test_a_sequential_model_converts(tmp_path):
    rows = [keras.Input((8, 8, 32)), binary_conv(), *head()]
    report = convert(scrambled(keras.Sequential(rows)), tmp_path / "m.tflite")
    assert report.lce_bconv2d == 1


def test_a_mixed_precision_model_converts(tmp_path):
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = small()
    finally:
        keras.mixed_precision.set_global_policy("float32")
    report = convert(model, tmp_path / "m.tflite")
    reference = report.verify["prepared"]["reference"]
    assert reference.startswith("the given model in float32; in its mixed_bfloat16")
    assert reference in text(report.table())


def test_bytes_as_input_stay_bytes(tmp_path):
    inputs = keras.Input((8, 8, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = binary_conv(8)(keras.layers.Conv2D(8, 3)(x))
    report = convert(scrambled(keras.Model(inputs, x)), tmp_path / "m.tflite")
    assert report.verify["examples"] == 32


X, Y = images(40), np.zeros(40)


@pytest.mark.parametrize(
    "data, examples",
    [
        ((X, Y), 40),
        (X.astype("float64"), 40),
        (tf.data.Dataset.from_tensor_slices((X, Y)).batch(16), 40),
        (tf.data.Dataset.from_tensor_slices(X).batch(16).repeat(), 256),
    ],
)
def test_data_may_be_given_in_several_forms(model, tmp_path, data, examples):
    verify = convert(model, tmp_path / "m.tflite", data=data).verify
    assert verify["examples"] == verify["prepared"]["examples"] == examples
    assert verify["data"] == "the given data"


@pytest.mark.parametrize(
    "data, message",
    [
        (images(4, (8, 8, 1)), r"data contains examples of shape \(8, 8, 1\)"),
        (images(0), "data contains no example"),
        ("images.npy", r"data contains examples of shape \(\), but the model 'small'"),
        (
            tf.data.Dataset.from_tensor_slices(X),
            r"data contains examples of shape \(8, 3",
        ),
        (tf.data.Dataset.from_tensor_slices(X).take(0), "data contains no example"),
    ],
)
def test_data_that_does_not_fit_is_rejected(model, tmp_path, data, message):
    with pytest.raises(ConversionError, match=message):
        convert(model, tmp_path / "m.tflite", data=data)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"verify": 1}, "verify=1 is neither True nor False"),
        ({"tolerance": 0}, r"tolerance=0 is outside \(0, 1e6\]"),
    ],
)
def test_arguments_are_checked(model, tmp_path, changes, message):
    with pytest.raises((TypeError, ValueError), match=message):
        convert(model, tmp_path / "m.tflite", **changes)


def test_the_given_model_can_continue_training(tmp_path):
    model = small()
    model.compile("adam", "mse", metrics=["mae"], run_eagerly=True)
    model.fit(X, np.zeros((40, 5)), verbose=0)
    variables = [*model.weights, *model.optimizer.variables]
    before = [v.numpy() for v in variables]
    names = [v.name for v in variables]
    convert(model, tmp_path / "m.tflite", data=X)
    assert [v.name for v in variables] == names
    for old, new in zip(before, variables, strict=True):
        assert_array_equal(old, new.numpy())
    model.fit(X, np.zeros((40, 5)), verbose=0)


def test_a_missing_compute_engine_is_one_sentence(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "larq_compute_engine", None)
    with pytest.raises(ConversionError, match=r"pip install 'larq-nobn\[lce\]'"):
        convert(model, tmp_path / "m.tflite")


def test_a_folder_that_is_not_there(model, tmp_path):
    with pytest.raises(OSError, match="cannot be written: No such file"):
        convert(model, tmp_path / "nowhere" / "m.tflite")


def test_no_room_for_the_weights_on_the_way(tmp_path):
    """TensorFlow writes them to a temporary folder, which may have a limit."""
    model = keras.Sequential([keras.Input((400,)), keras.layers.Dense(400)])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 18, hard))
    try:
        with pytest.raises(OSError, match=r"^Converting needs room.* TMPDIR\.$"):
            convert(model, tmp_path / "m.tflite", allow_float=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_success_replaces_the_old_file(model, tmp_path):
    path = tmp_path / "m.tflite"
    path.write_text("old")
    convert(model, path, verify=False)
    assert path.read_bytes()[4:8] == b"TFL3"
    assert [p.name for p in tmp_path.iterdir()] == ["m.tflite"]


def test_outputs_that_are_not_finite_are_rejected(tmp_path):
    model = small()
    kernel = model.get_layer("head").kernel
    kernel.assign(np.full(kernel.shape, 1e38))
    with pytest.raises(ConversionError, match="Model 'small' gives outputs that are"):
        convert(model, tmp_path / "m.tflite")
    assert not any(tmp_path.iterdir())


def test_a_constant_that_lce_fuses_wrongly_is_rejected(tmp_path):
    model = chain(binary_conv(), Constant((1, 1, 1, 32), name="wide"), *head())
    with pytest.raises(ConversionError, match="'wide' computes with a constant of sh"):
        convert(model, tmp_path / "m.tflite", verify=False)
    assert not any(tmp_path.iterdir())


class Forward(keras.layers.Layer):
    """Something whose gradient nobody may ask for."""

    def call(self, inputs):
        @tf.custom_gradient
        def double(x):
            def gradient(upstream):
                raise AssertionError("a gradient was traced for a file")

            return 2 * x, gradient

        return double(inputs)


def test_no_gradient_is_asked_for(tmp_path):
    model = chain(binary_conv(8), Forward(), stem=False)
    assert convert(model, tmp_path / "m.tflite").lce_bconv2d == 1


class Unknown(keras.layers.Layer):
    """Something that no phone can run."""

    def call(self, inputs):
        outputs = tf.numpy_function(lambda x: x, [inputs], tf.float32)
        outputs.set_shape(inputs.shape)
        return outputs


def test_an_operation_that_lce_does_not_know_is_named(tmp_path):
    model = chain(binary_conv(), Unknown(name="odd"), *head())
    with pytest.raises(
        ConversionError, match="Layer .odd. needs the operation .PyFunc."
    ):
        convert(model, tmp_path / "m.tflite")
    assert not any(tmp_path.iterdir())


def test_a_converter_that_fails_gives_its_reason(model, tmp_path, monkeypatch):
    def broken(folder):
        raise RuntimeError("first line\nerror: 'tf.Odd' op is not known.\nthird line")

    monkeypatch.setattr(larq_compute_engine, "convert_saved_model", broken)
    message = r"not convert the model: error: 'tf\.Odd' op is not known\. Replace"
    with pytest.raises(ConversionError, match=message):
        convert(model, tmp_path / "m.tflite")
    assert not any(tmp_path.iterdir())


def test_conversion_is_silent(model, tmp_path, capfd):
    convert(model, tmp_path / "m.tflite")
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""
