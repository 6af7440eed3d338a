"""How far two forms agree from end to end, on hand-made numbers."""

import numpy as np
import pytest
from larq_nobn.deploy.verify._segments import Segments, agreement, top1_agreement


def segments(turned=()):
    actual = Segments(2)
    actual.result("output", "head")
    place = actual.result("sign", "a")
    place.count, place.near, place.flipped_examples = 8, 1, set(turned)
    return actual


def compare(first, second, tolerance=1e-3, turned=()):
    first, second = np.array(first, np.float32), np.array(second, np.float32)
    return agreement([first], [second], tolerance, segments(turned))


def test_counts_add_up():
    actual = compare([[1, 2], [1, 2], [1, 2]], [[1, 2], [1, 9], [3, 2]], turned={1, 2})
    assert actual["examples"] == 3
    assert actual["exact_share"] == pytest.approx(1 / 3)
    assert (actual["explained"], actual["unexplained"]) == (2, 0)
    assert actual["worst_abs"] == 7
    assert actual["worst_rel"] == 3.5
    assert actual["top1_agreement"] == pytest.approx(2 / 3)
    assert actual["ties"] == [{"layer": "a", "examples": 2, "share": 0.125}]
    assert actual["segments"]["compared"] == 2
    assert actual["segments"]["within_rounding"] == 0.125


def test_neither_nan_nor_the_scale_of_scores_matters():
    assert compare([[1, 2]], [[1, np.nan]])["exact_share"] == 0
    assert compare([[1e-8, 2e-8]], [[1e-8, 2.1e-8]])["exact_share"] == 0


@pytest.mark.parametrize(
    "others, share",
    [
        ([[[1, 2], [2, 1], [1, 2]]], 2 / 3),
        ([[[1, 2], [2, 1], [1, 2]], [[2, 1], [1, 2], [1, 2]]], 1 / 3),
        ([[[1, 2], [1, 2], [1, 2]], [[7], [8], [9]]], 1),
        ([[1, 2, 3]], 1),
        ([[[[1, 2], [2, 1]], [[1, 2], [1, 2]], [[1, 2], [1, 2]]]], 5 / 6),
    ],
)
def test_classes_must_agree_in_every_output_that_has_some(others, share):
    others = [np.array(other) for other in others]
    wanted = [np.broadcast_to(np.arange(o.shape[-1]), o.shape) for o in others]
    assert top1_agreement(wanted, others) == pytest.approx(share)
