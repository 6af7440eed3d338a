"""The table of operations against what can be worked out by hand.

That files are as the table says is for `test_networks.py`, which converts the pairs.
"""

import pytest
from larq_nobn.models import (
    BinaryAlexNet,
    BinaryDenseNet28,
    BiRealNet18,
    MeliusNet22,
    QuickNet,
    ReActNet18,
    ReActNetA,
    ResNet20,
    VGGSmall,
    XNORNet18,
)
from models.networks import CONVERTING, NETWORKS
from models.operations import in_float, key, row, table

NETWORK = {network.builder: network for network in NETWORKS}
ENDS = {"FULLY_CONNECTED": 1}
POOLED = {"MEAN": 1, **ENDS}


def bits(count):
    """Binary convolutions, each after the packing of its signs."""
    return {"LceBconv2d": count, "LceQuantize": count}


def blocks_of_reactnet(blocks):
    """The shift of a sign, the shortcut and the PReLU; the stem has the first shift.

    Where the stage changes, the shortcut is an average and a 1x1 convolution.
    """
    count, changes = sum(blocks), len(blocks) - 1
    average = {"AVERAGE_POOL_2D": changes} if changes else {}
    block = {"ADD": 2 * count - 1, "PRELU": count, "CONV_2D": 1 + changes}
    return {**bits(count), **block, **average, **POOLED}


def blocks_of_bireal_net(blocks):
    """The addition alone, and PReLUs after the stem and before the head."""
    return {**blocks_of_reactnet(blocks), "ADD": sum(blocks), "PRELU": 2}


def blocks_of_quicknet(blocks):
    """A sum for every block; a pool, a blur and a kernel for every transition.

    Means and shifts travel within the stream to where convolutions make them, and a
    ReLU is part of the operation in front of it.
    """
    changes = len(blocks) - 1
    transition = {"DEPTHWISE_CONV_2D": changes, "MAX_POOL_2D": changes}
    sums = {"ADD": sum(blocks), "CONV_2D": 1 + changes}
    return {**bits(sum(blocks)), **sums, **transition, **POOLED}


XNOR = {k: n for k, n in blocks_of_bireal_net((1, 2)).items() if k[:3] != "AVE"}
# One sign takes numbers; all between is bits, and pools before signs are of bits.
VGG = {"CONV_2D": 1, **bits(5), "LceQuantize": 1, "LceBMaxPool2d": 2}
ALEX = {"CONV_2D": 1, **bits(6), "LceQuantize": 1, "LceBMaxPool2d": 3}
RESNET = {"ADD": 4, "CONV_2D": 1, "AVERAGE_POOL_2D": 1, "CONCATENATION": 1}
# By hand, as many without batch norm as with it.
BY_HAND = {
    ReActNet18: blocks_of_reactnet((1, 1)),
    BiRealNet18: blocks_of_bireal_net((1, 2)),
    ResNet20: {**RESNET, **bits(4), **POOLED},  # clips within its sums and its stem
    VGGSmall: {**VGG, "MAX_POOL_2D": 1, **ENDS},
    BinaryAlexNet: {**ALEX, "RELU_N1_TO_1": 1, **ENDS},
    QuickNet: blocks_of_quicknet((1, 2)),
}


def known(builder, normalization):
    """The row of the table."""
    return table()[key(NETWORK[builder], normalization)]


def test_there_is_a_row_for_every_pair_that_is_converted():
    assert set(table()) == {key(*pair) for pair in CONVERTING}


@pytest.mark.parametrize("builder", BY_HAND, ids=lambda b: b.__name__)
def test_operations_are_those_of_a_count_by_hand(builder):
    for normalization in ("nobn", "batch_norm"):
        assert known(builder, normalization) == BY_HAND[builder]


def test_of_batch_norm_before_signs_one_shift_is_left():
    assert known(XNORNet18, "nobn") == XNOR
    assert known(XNORNet18, "batch_norm") == {**XNOR, "ADD": XNOR["ADD"] + 1}


def test_without_batch_norm_there_are_no_more_float_operations():
    """Of batch norm dense networks keep a shift before each sign, as without."""
    for network in NETWORKS:
        if network.own:
            rows = (known(network.builder, norm) for norm in ("nobn", "batch_norm"))
            free, normalized = (sum(in_float(row).values()) for row in rows)
            assert free <= normalized
            assert free == normalized or network.builder is XNORNet18
    assert "MUL" not in known(ReActNetA, "nobn")  # for its scaled averages
    assert "MUL" not in {
        **known(BinaryDenseNet28, "nobn"),
        **known(MeliusNet22, "nobn"),
    }


@pytest.mark.convert
@pytest.mark.parametrize(
    "builder, blocks, by_hand",
    [
        (ReActNet18, (1, 2, 1), blocks_of_reactnet),
        (BiRealNet18, (1, 2, 1), blocks_of_bireal_net),
    ],
)
def test_so_it_does_in_networks_of_other_sizes(builder, blocks, by_hand):
    assert row(NETWORK[builder], "nobn", blocks=blocks) == by_hand(blocks)
