"""The package's network as a file, of as many channels as LCE packs into a word.

`models/test_networks.py` converts it under every normalization with fewer channels.
"""

import larq_nobn as nobn
import numpy as np
import pytest
from larq_nobn._keras import keras

# Group norm and EvoNorm have several groups only of so many channels.
NORMALIZATIONS = ("nobn", "batch_norm", "none", "group", "evonorm")
pytestmark = pytest.mark.convert


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """Conversions of small networks with weights as training leaves them."""
    folder = tmp_path_factory.mktemp("reactnet")
    images = np.random.default_rng(0).normal(size=(16, 8, 8, 1)).astype(np.float32)
    found = {}
    for normalization in NORMALIZATIONS:
        keras.utils.set_random_seed(1)
        model = nobn.models.ReActNet18(
            (8, 8, 1), 3, normalization, width=32, blocks=(1, 1)
        )
        rng = np.random.default_rng(2)
        for weight in model.weights:
            if weight.shape.rank == 1:  # gains, shifts, slopes, statistics
                weight.assign(weight + rng.uniform(0.05, 0.2, weight.shape))
        path = folder / f"{normalization}.tflite"
        found[normalization] = nobn.convert(model, path, data=images)
    return found


def counts(report):
    return {op["op"]: op["count"] for op in report.float_ops}


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_every_binary_layer_is_binary_and_verified(reports, normalization):
    report = reports[normalization]
    assert report.lce_bconv2d == report.binary_layers == 2
    assert report.binary_macs == 64 * 9 * 32 * 32 + 16 * 9 * 64 * 32
    assert report.verify["unexplained"] == 0
    assert report.verify["prepared"]["unexplained"] == 0


def test_without_batch_norm_there_are_no_more_float_operations(reports):
    assert counts(reports["nobn"]) == counts(reports["batch_norm"])
    assert counts(reports["nobn"]) == counts(reports["none"])
    # The shortcut and one PRELU in each of two blocks; the shift of the second sign,
    # as the stem has the first; the stem and the projection; pooling and head.
    assert counts(reports["nobn"]) == {
        "ADD": 3,
        "PRELU": 2,
        "CONV_2D": 2,
        "AVERAGE_POOL_2D": 1,
        "MEAN": 1,
        "FULLY_CONNECTED": 1,
    }


def test_the_report_prints_as_a_table(reports):
    text = str(reports["nobn"])
    assert "2 of 2" in text
    assert "unexplained" in text
