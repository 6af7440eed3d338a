"""The package's network as a file, of as many channels as LCE packs into a word.

`models/test_networks.py` converts it under every normalization.
"""

import larq_nobn as nobn
import numpy as np
import pytest
from larq_nobn._keras import keras
from models.networks import scattered

pytestmark = pytest.mark.convert


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The conversion of a small network with weights as training leaves them."""
    keras.utils.set_random_seed(1)
    model = nobn.models.ReActNet18((8, 8, 1), 3, width=32, blocks=(1, 1))
    images = np.random.default_rng(0).normal(size=(16, 8, 8, 1)).astype(np.float32)
    path = tmp_path_factory.mktemp("reactnet") / "model.tflite"
    return nobn.convert(scattered(model), path, data=images)


def test_every_binary_layer_is_binary_and_verified(report):
    assert report.lce_bconv2d == report.binary_layers == 2
    assert report.binary_macs == 64 * 9 * 32 * 32 + 16 * 9 * 64 * 32
    assert report.verify["unexplained"] == 0
    assert report.verify["prepared"]["unexplained"] == 0


def test_the_float_operations_are_those_counted_by_hand(report):
    # The shortcut and one PRELU in each of two blocks; the shift of the second sign,
    # as the stem has the first; the stem and the projection; pooling and head.
    assert {op["op"]: op["count"] for op in report.float_ops} == {
        "ADD": 3,
        "PRELU": 2,
        "CONV_2D": 2,
        "AVERAGE_POOL_2D": 1,
        "MEAN": 1,
        "FULLY_CONNECTED": 1,
    }


def test_the_report_prints_as_a_table(report):
    text = str(report)
    assert "2 of 2" in text
    assert "unexplained" in text
