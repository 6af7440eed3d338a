"""What stays real-valued on the phone, without batch norm and with it."""

import larq_nobn as nobn
import pytest
from larq_nobn._keras import keras
from larq_nobn.models import BiRealNet18, ReActNetA, XNORNet18
from models.networks import NETWORKS, scattered

pytestmark = pytest.mark.convert


def float_ops(builder, normalization, folder):
    """How often each operation is left, and the layers that it is left of."""
    keras.utils.set_random_seed(1)
    (network,) = (n for n in NETWORKS if n.builder is builder)
    model = scattered(network(normalization))
    report = nobn.convert(model, folder / "model.tflite", data=network.images())
    return {op["op"]: (op["count"], op["layers"]) for op in report.float_ops}


def counts(builder, normalization, folder):
    found = float_ops(builder, normalization, folder)
    return {op: count for op, (count, _) in found.items()}


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


def test_batch_norm_before_a_sign_costs_two_operations(tmp_path):
    unpooled = {op: n for op, n in BIREAL.items() if op != "AVERAGE_POOL_2D"}
    assert counts(XNORNet18, "nobn", tmp_path) == unpooled
    normalized = {**unpooled, "MUL": 3, "ADD": 6}
    assert counts(XNORNet18, "batch_norm", tmp_path) == normalized


def test_reactnet_a_has_no_more_than_the_factor_of_an_average(tmp_path):
    twin = float_ops(ReActNetA, "batch_norm", tmp_path)
    for op, (count, layers) in float_ops(ReActNetA, "nobn", tmp_path).items():
        if count > twin.get(op, (0, []))[0]:
            assert layers == ["stage2_block1_3x3_shortcut_scale"]
