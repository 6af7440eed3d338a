"""The table of operations against what can be worked out by hand.

That files are as the table says is for `test_networks.py`, which converts the pairs.
"""

import pytest
from larq_nobn.models import (
    BinaryDenseNet28,
    BiRealNet18,
    MeliusNet22,
    ReActNet18,
    VGGSmall,
)
from models.networks import CONVERTING, NETWORKS
from models.operations import in_float, key, row, table


def test_there_is_a_row_for_every_pair_that_is_converted():
    assert set(table()) == {key(*pair) for pair in CONVERTING}


@pytest.mark.parametrize(
    "network",
    [n for n in NETWORKS if n.tried is None],
    ids=lambda n: n.builder.__name__,
)
def test_without_batch_norm_there_are_no_more_float_operations(network):
    rows = [table()[key(network, norm)] for norm in ("nobn", "batch_norm")]
    free, normalized = (sum(in_float(row).values()) for row in rows)
    assert free <= normalized


def network(builder):
    (found,) = (n for n in NETWORKS if n.builder is builder)
    return found


def known(builder, normalization):
    """The row of the table."""
    return table()[key(network(builder), normalization)]


@pytest.mark.parametrize(
    "builder",
    [BinaryDenseNet28, MeliusNet22],
    ids=lambda b: b.__name__,
)
def test_dense_networks_need_as_many_as_with_batch_norm(builder):
    """Of batch norm a shift before each sign is left, and one within each ReLU."""
    free, normalized = (known(builder, norm) for norm in ("nobn", "batch_norm"))
    assert sum(in_float(free).values()) == sum(in_float(normalized).values())


def blocks_of_reactnet(blocks):
    """The shift of a sign, the shortcut and the PReLU; the stem contains the first
    shift.

    Where the stage changes, the shortcut is an average and a 1x1 convolution.
    """
    count, changes = sum(blocks), len(blocks) - 1
    operations = {
        "ADD": 2 * count - 1,
        "AVERAGE_POOL_2D": changes,
        "CONV_2D": 1 + changes,
        "FULLY_CONNECTED": 1,
        "LceBconv2d": count,
        "LceQuantize": count,
        "MEAN": 1,
        "PRELU": count,
    }
    return {op: number for op, number in operations.items() if number}


@pytest.mark.parametrize("normalization", ["nobn", "batch_norm"])
def test_a_block_of_reactnet_needs_three(normalization):
    assert known(ReActNet18, normalization) == blocks_of_reactnet((1, 1))


@pytest.mark.convert
@pytest.mark.parametrize(
    "blocks, normalization",
    [((1,), "batch_norm"), ((1, 2, 1), "nobn")],
)
def test_so_it_does_in_networks_of_other_sizes(blocks, normalization):
    found = row(network(ReActNet18), normalization, blocks=blocks)
    assert found == blocks_of_reactnet(blocks)


@pytest.mark.convert
def test_a_block_of_bireal_net_needs_its_shortcut():
    blocks = (1, 2, 1)
    # An addition for each, and PReLUs after the stem and before the head alone.
    expected = {**blocks_of_reactnet(blocks), "ADD": sum(blocks), "PRELU": 2}
    assert row(network(BiRealNet18), "nobn", blocks=blocks) == expected


def test_vgg_is_bits_from_its_first_sign_to_its_last_pool():
    """One sign takes numbers; of the three pools two stand before a sign."""
    assert known(VGGSmall, "nobn") == {
        "CONV_2D": 1,
        "FULLY_CONNECTED": 1,
        "LceBMaxPool2d": 2,
        "LceBconv2d": 5,
        "LceQuantize": 1,
        "MAX_POOL_2D": 1,
    }
