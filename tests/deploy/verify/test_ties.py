"""What is said where rounding decides so many signs that model and file part."""

import json
import logging

import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import binary_conv, chain, head, images
from larq_nobn._keras import keras
from larq_nobn.deploy import convert
from larq_nobn.deploy.verify import tie_warnings


def part(exact=1.0, top1=1.0, **changes):
    ties = [{"layer": name, "examples": 3, "share": 0.125} for name in "abcde"]
    numbers = {"examples": 8, "exact_share": exact, "top1_agreement": top1}
    return {**numbers, "ties": ties, **changes}


@pytest.mark.parametrize(
    "exact, top1, said",
    [(0.9, 0.99, 0), (0.89, 1.0, 1), (1.0, 0.98, 1), (0.2, 0.5, 1)],
)
def test_below_which_agreement_a_word_is_due(exact, top1, said):
    assert len(tie_warnings("prepared", part(), part(exact, top1))) == said
    assert len(tie_warnings("prepared", part(exact, top1), None)) == said


def test_what_is_said():
    first, second = tie_warnings(
        "traced", part(0.25, 0.5), part(0.5, 1.0, ties=part()["ties"][:1])
    )
    assert first.startswith(
        "Rounding decides signs: of 8 examples, the traced form of the model and the "
        "given one compute the same in 25.0%, and have the same top class in 50.0%."
    )
    assert (
        "the sign of layer 'a' (12.50% of them), layer 'b' (12.50% of them), layer "
        "'c' (12.50% of them) and 2 more. Give these signs a shift"
    ) in first
    assert "the file and the traced form of the model compute" in second
    assert "of layer 'a' (12.50% of them). Give" in second
    assert "deploy.prepared(model)" in second


JUMPS = {
    "math.greater": lambda x: tf.cast(x > 0, x.dtype),
    "math.sign": tf.sign,
    "math.sign_1": lambda x: tf.sign(tf.sign(tf.nn.relu(x)) - 0.5),
}


@pytest.mark.convert
@pytest.mark.parametrize("gate", [False, True])
@pytest.mark.parametrize("jump", JUMPS)
def test_sums_of_both_signs_before_a_jump(jump, gate, tmp_path):
    """As many +c as -c are ±1e-9 in Keras, which is above 0 or not by chance."""
    keras.utils.set_random_seed(0)
    keras.backend.clear_session()
    start = keras.Input((6, 6, 8))
    scaled = {"kernel_quantizer": "magnitude_aware_sign", "pad_values": 0.0}
    x = binary_conv(8, **scaled)(start)
    if gate:
        size = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
        x = x * keras.layers.Dense(8, "sigmoid")(size)
    x = JUMPS[jump](x)
    model = keras.Model(start, keras.layers.GlobalAveragePooling2D()(x))
    report = convert(model, tmp_path / "m.tflite", data=images(32, (6, 6, 8)))
    assert report.verify["prepared"]["exact_share"] < 0.5
    assert report.verify["exact_share"] == 1
    (tie,) = report.verify["prepared"]["ties"]
    assert tie["layer"] == f"tf.{jump.removesuffix('_1')}"


@pytest.mark.convert
def test_sums_of_both_signs_before_a_sign(tmp_path, caplog):
    """In Keras, as many +c as -c are ±1e-9, and the file has the sign of 0."""
    scaled = {"kernel_quantizer": "magnitude_aware_sign"}
    rows = [binary_conv(name=n, **scaled) for n in ("first", "second", "third")]
    model = chain(*rows, *head())
    with caplog.at_level(logging.WARNING, "larq_nobn"):
        report = convert(model, tmp_path / "m.tflite", data=images(32))
    assert report.verify["prepared"]["exact_share"] < 0.5
    assert report.verify["exact_share"] == 1
    (warning,) = report.warnings
    assert warning in caplog.text
    assert "of 32 examples, the prepared form of the model and the given" in warning
    assert "layer 'second' (" in warning
    assert json.loads(report.to_json())["warnings"] == [warning]
    assert "Rounding decides signs" in str(report)


@pytest.mark.convert
def test_nothing_is_said_of_others(tmp_path, caplog):
    norm = keras.layers.BatchNormalization(beta_initializer="normal")
    model = chain(binary_conv(), norm, binary_conv(), *head())
    assert convert(model, tmp_path / "m.tflite", data=images(32)).warnings == []
    assert "Rounding" not in caplog.text
    assert np.isfinite(model(images(1))).all()
