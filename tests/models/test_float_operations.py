"""What stays real-valued on the phone, without batch norm and with it."""

import larq_nobn as nobn
import pytest
from larq_nobn._keras import keras
from larq_nobn.models import (
    BinaryAlexNet,
    BiRealNet18,
    ReActNetA,
    ResNet20,
    VGGSmall,
    XNORNet18,
)
from models.networks import NETWORKS, scattered

pytestmark = pytest.mark.convert


def counts(builder, normalization, folder):
    """How often each operation is left."""
    keras.utils.set_random_seed(1)
    (network,) = (n for n in NETWORKS if n.builder is builder)
    model = scattered(network(normalization))
    report = nobn.convert(model, folder / "model.tflite", data=network.images())
    return {op["op"]: op["count"] for op in report.float_ops}


# Of a block the addition alone; of the leaks one operation each.
BIREAL = {
    "ADD": 3,
    "PRELU": 2,
    "CONV_2D": 2,
    "AVERAGE_POOL_2D": 1,
    "MEAN": 1,
    "FULLY_CONNECTED": 1,
}


@pytest.mark.parametrize("normalization", ["nobn", "batch_norm"])
def test_bireal_net(normalization, tmp_path):
    assert counts(BiRealNet18, normalization, tmp_path) == BIREAL


def test_of_batch_norm_before_signs_one_shift_is_left(tmp_path):
    unpooled = {op: n for op, n in BIREAL.items() if op != "AVERAGE_POOL_2D"}
    assert counts(XNORNet18, "nobn", tmp_path) == unpooled
    normalized = {**unpooled, "ADD": unpooled["ADD"] + 1}
    assert counts(XNORNet18, "batch_norm", tmp_path) == normalized


@pytest.mark.parametrize("normalization", ["nobn", "batch_norm"])
def test_resnet20_clips_within_its_sums_and_its_stem(normalization, tmp_path):
    assert counts(ResNet20, normalization, tmp_path) == {
        "ADD": 4,
        "CONV_2D": 1,
        "AVERAGE_POOL_2D": 1,
        "CONCATENATION": 1,
        "MEAN": 1,
        "FULLY_CONNECTED": 1,
    }


@pytest.mark.parametrize("normalization", ["nobn", "batch_norm"])
@pytest.mark.parametrize(
    "builder, last",
    [(VGGSmall, {"MAX_POOL_2D": 1}), (BinaryAlexNet, {"RELU_N1_TO_1": 1})],
)
def test_without_sums_all_between_is_bits(builder, last, normalization, tmp_path):
    free = {"CONV_2D": 1, **last, "FULLY_CONNECTED": 1}
    assert counts(builder, normalization, tmp_path) == free


def test_reactnet_a_needs_nothing_for_its_scaled_averages(tmp_path):
    found = counts(ReActNetA, "nobn", tmp_path)
    assert found == counts(ReActNetA, "batch_norm", tmp_path)
    assert "MUL" not in found
