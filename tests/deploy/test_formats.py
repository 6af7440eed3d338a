"""The same network for LiteRT and for LCE, in float and in int8, and in C."""

from dataclasses import replace
from pathlib import Path

import larq_nobn as nobn
import numpy as np
import pytest
from larq_nobn import deploy
from deploy.nets import binary_conv, chain, head
from larq_nobn._keras import keras
from larq_nobn.deploy import _formats, benchmark

pytestmark = pytest.mark.convert
IMAGES = np.random.default_rng(1).normal(size=(8, 8, 8, 3)).astype(np.float32)
LABELS = np.random.default_rng(2).integers(0, 5, 8)


@pytest.fixture(scope="module")
def network():
    return chain(binary_conv(), *head())


def with_files(*arguments, **options):
    """The formats of a network, and the content of each file."""
    files = []

    def convert(model, file, **options):
        nobn.convert(model, file, **options)
        files.append(Path(file).read_bytes())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_formats, "convert", convert)
        return deploy.compare_formats(*arguments, **options), files


@pytest.fixture(scope="module")
def compared(network):
    return with_files(network, (IMAGES, LABELS), runs=2, warmup=0)


@pytest.fixture(scope="module")
def actual(compared):
    return compared[0]


NAMES = ["LiteRT", "LiteRT, int8", "LCE, int8", "LCE", "C", "Micro, int8"]


def test_the_formats_in_one_order(actual):
    assert [each.name for each in actual.formats] == NAMES
    assert [each.lce_bconv2d for each in actual.formats] == [0, 0, 1, 1, 1, 0]
    as_float, stock, as_int8, lce, *_ = actual.formats
    assert stock.float_ops == as_int8.float_ops == 0 < lce.float_ops
    assert lce.float_ops < as_float.float_ops
    fastest = min(actual.formats, key=lambda each: each.ms).name
    assert actual.note.startswith(f"Fastest here: {fastest}. ")
    # 32x32x3x3 weights of 16 bits against 1
    assert as_float.size_bytes - lce.size_bytes > 0.9 * 32 * 32 * 9 * (16 - 1) / 8
    assert [each.ratio for each in actual.formats][0] == 1
    assert all(each.low_ms <= each.ms <= each.high_ms for each in actual.formats)
    assert actual.failed == {}


def test_accuracy_and_agreement_are_those_of_each_file(network, compared):
    actual, files = compared
    logits = network.predict(IMAGES, verbose=0)
    assert actual.keras_accuracy == np.mean(logits.argmax(1) == LABELS)
    for file, each in zip(files, actual.formats, strict=True):
        outputs = deploy.Runner(file)(IMAGES)
        assert each.accuracy == np.mean(outputs.argmax(1) == LABELS)
        assert each.top1_agreement == np.mean(outputs.argmax(1) == logits.argmax(1))
        assert each.largest_difference == pytest.approx(
            np.abs(outputs - logits).max(), rel=1e-3
        )
        assert each.size_bytes == len(file)
    as_float = actual.formats[0]
    assert (as_float.accuracy, as_float.top1_agreement) == (actual.keras_accuracy, 1)


def test_the_table_names_each_format(actual):
    text = str(actual)
    for name in ("Keras", *NAMES, "8 given examples"):
        assert name in text
    assert actual.to_dict()["formats"][3]["name"] == "LCE"


def only(patch, *names):
    """Leaves out the other formats."""
    kinds = {name: _formats._KINDS[name] for name in names}
    patch.setattr(_formats, "_KINDS", kinds)


def test_ranges_of_the_model_stay_and_the_other_files_omit_them(network, monkeypatch):
    only(monkeypatch, "LiteRT", "LCE, int8", "LCE")
    quantized = deploy.fake_quantize(network, IMAGES, verify=False)
    actual, files = with_files(quantized, IMAGES, runs=1, warmup=0)
    as_float, as_int8, lce = actual.formats
    assert [each.accuracy for each in actual.formats] == [None] * 3
    # Without ranges they are the network from which the quantized one was made.
    outputs = network.predict(IMAGES, verbose=0)
    rounded = quantized.predict(IMAGES, verbose=0)
    for each in (as_float, lce):
        assert each.largest_difference == pytest.approx(
            np.abs(outputs - rounded).max(), rel=1e-3
        )
    (given,) = deploy.Runner(files[1]).input_tensors
    layer = quantized.layers[1]
    assert given.scale == pytest.approx(float(layer.maximum - layer.minimum) / 255)
    assert as_int8.float_ops == 0


def test_a_format_that_cannot_be_made_is_reported_with_its_reason(monkeypatch):
    def benchmark_on_phone(first, others, **options):
        times = [
            replace(each, ms=ms, ratio_low=None, ratio_high=None)
            for each, ms in zip(
                benchmark(first, others, **options).timings, (3, 4, 2), strict=True
            )
        ]
        return deploy.Benchmark("a phone", "Repeat it.", times)

    monkeypatch.setattr(_formats, "benchmark_on_phone", benchmark_on_phone)
    network = chain(keras.layers.ELU(name="elu"), binary_conv())  # not in int8
    actual = deploy.compare_formats(network, runs=1, warmup=0, phone=True)
    assert (actual.source, actual.note) == ("a phone", "Fastest here: LCE. Repeat it.")
    assert [each.name for each in actual.formats] == ["LiteRT", "LCE, int8", "LCE"]
    assert "would stay float (ELU), of 'elu'" in actual.failed["LiteRT, int8"]
    assert "C files run in no benchmark program" in actual.failed["C"]
    assert actual.keras_accuracy is None
    assert "27 random and 5 regular inputs" in actual.data
    assert "LiteRT, int8: " in str(actual)


def test_ranges_of_generated_examples_are_usual_ones(network, monkeypatch):
    """With those of examples of 1e5, all else would be 0 in int8."""
    only(monkeypatch, "LiteRT, int8")
    actual = deploy.compare_formats(network, runs=1, warmup=0)
    assert actual.examples == 32
    (each,) = actual.formats
    assert each.top1_agreement > 0.5


@pytest.mark.parametrize(
    "data, runs, error, match",
    [
        ((IMAGES, LABELS + 1), 1, ValueError, "go up to 5"),
        (IMAGES, 0, ValueError, "runs=0 is below 1"),
    ],
)
def test_examples_that_do_not_fit_are_rejected(network, data, runs, error, match):
    with pytest.raises(error, match=match):
        deploy.compare_formats(network, data, runs=runs)
