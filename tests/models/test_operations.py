"""The table of operations against what can be worked out by hand.

That files are as the table says is for `test_networks.py`, which converts the pairs.
"""

import pytest
from larq_nobn.models import (
    BinaryDenseNet28,
    BiRealNet18,
    QuickNet,
    ReActNet18,
    ReActNetA,
    ResNet20,
    VGGSmall,
    XNORNet18,
)
from models.networks import CONVERTING, NETWORKS
from models.operations import in_float, key, table

NETWORK = {network.builder: network for network in NETWORKS}
ENDS = {"FULLY_CONNECTED": 1}
POOLED = {"MEAN": 1, **ENDS}


def bits(count):
    """Binary convolutions, each after the packing of its signs."""
    return {"LceBconv2d": count, "LceQuantize": count}


# Shifts of signs, of which the stem has the first, and shortcuts; where the stage
# changes, a shortcut is an average and a 1x1 convolution.
REACTNET = {"ADD": 3, "PRELU": 2, "CONV_2D": 2, "AVERAGE_POOL_2D": 1}
# Additions alone, and PReLUs after the stem and before the head.
XNOR = {**bits(3), "ADD": 3, "PRELU": 2, "CONV_2D": 2, **POOLED}
# One sign takes numbers; all between is bits, and pools before signs are of bits.
VGG = {"CONV_2D": 1, **bits(5), "LceQuantize": 1, "LceBMaxPool2d": 2}
RESNET = {"ADD": 4, "CONV_2D": 1, "AVERAGE_POOL_2D": 1, "CONCATENATION": 1}
# A sum for every block; pool, blur and kernel of the transition. Means and shifts
# travel within the stream to where convolutions make them, and a ReLU is part of the
# operation in front of it.
QUICKNET = {"ADD": 3, "CONV_2D": 2, "DEPTHWISE_CONV_2D": 1, "MAX_POOL_2D": 1}
# By hand, as many without batch norm as with it, where the table has both.
BY_HAND = {
    ReActNet18: {**bits(2), **REACTNET, **POOLED},
    BiRealNet18: {**XNOR, "AVERAGE_POOL_2D": 1},
    ResNet20: {**RESNET, **bits(4), **POOLED},  # clips within its sums and its stem
    VGGSmall: {**VGG, "MAX_POOL_2D": 1, **ENDS},
    QuickNet: {**bits(3), **QUICKNET, **POOLED},
}


def known(builder, normalization):
    """The row of the table."""
    return table()[key(NETWORK[builder], normalization)]


def found(builder):
    """The rows of a builder without batch norm and, if the table has it, with it."""
    network, rows = NETWORK[builder], table()
    both = {norm: key(network, norm) for norm in ("nobn", "batch_norm")}
    return {norm: rows[name] for norm, name in both.items() if name in rows}


def test_there_is_a_row_for_every_pair_that_is_converted():
    assert set(table()) == {key(*pair) for pair in CONVERTING}


@pytest.mark.parametrize("builder", BY_HAND, ids=lambda b: b.__name__)
def test_operations_are_those_of_a_count_by_hand(builder):
    rows = found(builder)
    assert rows and all(row == BY_HAND[builder] for row in rows.values())


def test_of_batch_norm_before_signs_one_shift_is_left():
    assert known(XNORNet18, "nobn") == XNOR
    assert known(XNORNet18, "batch_norm") == {**XNOR, "ADD": XNOR["ADD"] + 1}


def test_without_batch_norm_there_are_no_more_float_operations():
    """Of batch norm dense networks keep a shift before each sign, as without."""
    for network in NETWORKS:
        rows = found(network.builder) if network.own else {}
        if len(rows) == 2:
            free, normalized = (sum(in_float(row).values()) for row in rows.values())
            assert free <= normalized
            assert free == normalized or network.builder is XNORNet18
    assert "MUL" not in known(ReActNetA, "nobn")  # for its scaled averages
    assert "MUL" not in known(BinaryDenseNet28, "nobn")
