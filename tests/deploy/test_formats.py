"""The same network as float TFLite, int8 and LCE."""

import larq_nobn as nobn
import numpy as np
import pytest
from larq_nobn import deploy
from deploy.nets import binary_conv, chain, head
from larq_nobn._keras import keras
from larq_nobn._progress import step, watched
from larq_nobn.deploy import ConversionError

pytestmark = pytest.mark.convert
IMAGES = np.random.default_rng(1).normal(size=(40, 8, 8, 3)).astype(np.float32)
LABELS = np.random.default_rng(2).integers(0, 5, 40)


@pytest.fixture(scope="module")
def network():
    return chain(binary_conv(), *head())


@pytest.fixture(scope="module")
def quantized(network):
    return deploy.fake_quantize(network, IMAGES, verify=False)


@pytest.fixture(scope="module")
def steps():
    return []


@pytest.fixture(scope="module")
def found(network, steps):
    with watched(lambda *said: steps.append(said)):
        return deploy.compare_formats(network, (IMAGES, LABELS), runs=2, warmup=0)


def test_three_formats_in_one_order(found):
    names = [each.name for each in found.formats]
    assert names == ["float TFLite", "LCE, int8", "LCE"]
    assert [each.lce_bconv2d for each in found.formats] == [0, 1, 1]
    as_float, as_int8, lce = found.formats
    assert as_int8.float_ops == 0 < lce.float_ops < as_float.float_ops
    # 32x32x3x3 weights of 16 bits against 1
    assert as_float.size_bytes - lce.size_bytes > 0.9 * 32 * 32 * 9 * (16 - 1) / 8
    assert [each.ratio for each in found.formats][0] == 1
    assert all(each.low_ms <= each.ms <= each.high_ms for each in found.formats)
    assert found.failed == {}


def test_accuracy_and_agreement_are_those_of_each_file(
    network, quantized, found, tmp_path
):
    logits = network.predict(IMAGES, verbose=0)
    assert found.keras_accuracy == np.mean(logits.argmax(1) == LABELS)
    for name, model, each in (
        ("int8", quantized, found.formats[1]),
        ("lce", network, found.formats[2]),
    ):
        file = tmp_path / f"{name}.tflite"
        nobn.convert(model, file, int8=name == "int8", verify=False)
        outputs = deploy.Runner(file)(IMAGES)
        assert each.accuracy == np.mean(outputs.argmax(1) == LABELS)
        assert each.top1_agreement == np.mean(outputs.argmax(1) == logits.argmax(1))
        assert each.largest_difference == pytest.approx(
            np.abs(outputs - logits).max(), rel=1e-3
        )
        assert each.size_bytes == file.stat().st_size
    as_float = found.formats[0]
    assert (as_float.accuracy, as_float.top1_agreement) == (found.keras_accuracy, 1)


def test_the_table_and_the_steps_name_each_format(found, steps):
    text, names = str(found), ["float TFLite", "LCE, int8", "LCE"]
    for name in ("Keras", *names, "40 given examples"):
        assert name in text
    assert found.to_dict()["formats"][2]["name"] == "LCE"
    texts = list(dict.fromkeys(text for text, _, _ in steps))
    made = [text for text in texts if text.startswith("Converting to")]
    assert made == [f"Converting to {name}" for name in names]
    measured = [s[1:] for s in steps if s[0] == "Measuring latency"]
    assert measured == [(done, 6) for done in range(1, 7)]
    assert ("Running LCE on examples", 32, 40) in steps
    # None is said after the block.
    before = list(steps)
    step("two")
    assert steps == before


def test_ranges_of_the_model_stay_and_the_other_files_omit_them(
    network, quantized, tmp_path
):
    found = deploy.compare_formats(quantized, IMAGES, runs=1, warmup=0)
    nobn.convert(quantized, tmp_path / "m.tflite", int8=True, verify=False)
    as_float, as_int8, lce = found.formats
    assert as_int8.size_bytes == (tmp_path / "m.tflite").stat().st_size
    assert [each.accuracy for each in found.formats] == [None] * 3
    # Without ranges they are the network from which the quantized one was made.
    outputs = network.predict(IMAGES, verbose=0)
    rounded = quantized.predict(IMAGES, verbose=0)
    for each in (as_float, lce):
        assert each.largest_difference == pytest.approx(
            np.abs(outputs - rounded).max(), rel=1e-3
        )


def test_a_format_that_cannot_be_made_is_reported_with_its_reason():
    hidden = keras.layers.Lambda(lambda x: 2 * x)  # has maps whose ranges int8 needs
    found = deploy.compare_formats(chain(hidden, binary_conv()), runs=1, warmup=0)
    assert [each.name for each in found.formats] == ["float TFLite", "LCE"]
    assert "hides feature maps" in found.failed["LCE, int8"]
    assert found.keras_accuracy is None
    assert "27 random and 5 regular inputs" in found.data
    assert "LCE, int8: " in str(found)


@pytest.mark.parametrize(
    "data, runs, error, match",
    [
        ((IMAGES, LABELS + 1), 1, ValueError, "go up to 5"),
        ((IMAGES, np.zeros((40, 2), int)), 1, ValueError, r"int64 of shape \(40, 2\)"),
        (IMAGES[:, :4], 1, ConversionError, r"examples of shape \(4, 8, 3\)"),
        (IMAGES, 0, ValueError, "runs=0 is below 1"),
    ],
)
def test_examples_that_do_not_fit_are_rejected(network, data, runs, error, match):
    with pytest.raises(error, match=match):
        deploy.compare_formats(network, data, runs=runs)
