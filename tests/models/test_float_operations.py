"""What stays real-valued on the device, without batch norm and with it.

By hand against the table of operations; that files are as the table says is for
`test_networks.py`, which converts the pairs.
"""

import pytest
from larq_nobn.models import (
    BinaryAlexNet,
    BiRealNet18,
    ReActNetA,
    ResNet20,
    VGGSmall,
    XNORNet18,
)
from models.networks import NETWORKS
from models.operations import in_float, key, table


def counts(builder, normalization):
    """How often each operation is left."""
    (network,) = (n for n in NETWORKS if n.builder is builder)
    return in_float(table()[key(network, normalization)])


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
def test_bireal_net(normalization):
    assert counts(BiRealNet18, normalization) == BIREAL


def test_of_batch_norm_before_signs_one_shift_is_left():
    unpooled = {op: n for op, n in BIREAL.items() if op != "AVERAGE_POOL_2D"}
    assert counts(XNORNet18, "nobn") == unpooled
    normalized = {**unpooled, "ADD": unpooled["ADD"] + 1}
    assert counts(XNORNet18, "batch_norm") == normalized


@pytest.mark.parametrize("normalization", ["nobn", "batch_norm"])
def test_resnet20_clips_within_its_sums_and_its_stem(normalization):
    assert counts(ResNet20, normalization) == {
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
def test_without_sums_all_between_is_bits(builder, last, normalization):
    free = {"CONV_2D": 1, **last, "FULLY_CONNECTED": 1}
    assert counts(builder, normalization) == free


def test_reactnet_a_needs_nothing_for_its_scaled_averages():
    found = counts(ReActNetA, "nobn")
    assert found == counts(ReActNetA, "batch_norm")
    assert "MUL" not in found
