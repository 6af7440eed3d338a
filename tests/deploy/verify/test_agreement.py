"""The rule that tells rounding from faults, on hand-made numbers."""

import numpy as np
import pytest
from larq_nobn.deploy.verify._agreement import (
    MARGIN,
    Cause,
    SignPair,
    agreement,
    explain,
    top1_agreement,
)

INPUTS = np.array([[4.0, -3.0, 2.0], [4.0, -3.0, 2e-5]])


def pair(label, *, flip=(), inputs=INPUTS):
    """A sign of two examples; `flip` lists the (example, position) that differ."""
    reference = inputs >= 0
    other = reference.copy()
    for place in flip:
        other[place] = ~other[place]
    return SignPair(label, reference, other, np.abs(inputs))


def compare(first, second, signs=(), tolerance=1e-3):
    first, second = np.array(first, np.float32), np.array(second, np.float32)
    return agreement([first], [second], tolerance, lambda which: signs)


def never(which):
    raise AssertionError("signs were read although nothing differs")


def test_equal_outputs_need_no_explanation():
    outputs = np.array([[1.0, 2.0], [4.0, 3.0]], np.float32)
    found = agreement([outputs], [outputs + 1e-4], 1e-3, never)
    assert (found.examples, found.exact_share, found.explained) == (2, 1.0, 0)
    assert found.unexplained == 0
    assert found.top1_agreement == 1.0
    assert found.worst_abs == pytest.approx(1e-4, rel=0.01)
    assert found.worst_rel == pytest.approx(1e-4 / 3, rel=0.01)  # (2 + 4) / 2 = 3


def test_a_difference_without_a_flip_is_unexplained():
    found = compare([[1, 2]], [[1, 2.5]], [pair("a"), pair("b")])
    assert (found.explained, found.unexplained) == (0, 1)
    assert (
        found.finding == "no sign differs, so the fault lies behind that of layer 'b'"
    )


def test_numbers_that_are_not_numbers_differ():
    assert compare([[1, 2]], [[1, np.nan]], [pair("a")]).unexplained == 1


def test_counts_add_up():
    flipped = pair("a", flip=[(1, 2)])
    found = compare([[1, 2], [1, 2], [1, 2]], [[1, 2], [1, 9], [3, 2]], [flipped])
    assert found.examples == 3
    assert found.exact_share == pytest.approx(1 / 3)
    # The first of the two that differ has no flip, the second one within rounding.
    assert (found.explained, found.unexplained) == (1, 1)
    assert found.unexplained_examples == (1,)
    assert found.worst_abs == 7
    assert found.worst_rel == 3.5
    assert found.top1_agreement == pytest.approx(2 / 3)


def test_a_flip_within_rounding_explains():
    tied = Cause("a", 1 / 3, "")
    assert explain(2, [pair("a", flip=[(1, 2)])])[1] == tied


def test_a_flip_outside_rounding_does_not():
    found = explain(2, [pair("a"), pair("b", flip=[(0, 2)])])[0]
    assert found.sign == "b"
    assert (
        "first sign to differ is that of layer 'b', whose input there is 2"
        in found.fault
    )
    assert "lies between layer 'a' and it" in found.fault


def test_every_flip_of_the_layer_must_be_within_rounding():
    assert explain(2, [pair("a", flip=[(1, 2), (1, 0)])])[1].fault


def test_only_the_first_layer_that_parts_is_judged():
    later = pair("b", flip=[(0, 0), (1, 0)])
    causes = explain(2, [pair("a", flip=[(1, 2)]), later])
    assert not causes[1].fault
    assert "layer 'b'" in causes[0].fault


def test_the_margin_is_relative_to_the_example():
    inside = pair("a", flip=[(0, 0)], inputs=np.array([[0.9 * MARGIN * 50, 50.0]]))
    outside = pair("a", flip=[(0, 0)], inputs=np.array([[1.1 * MARGIN * 50, 50.0]]))
    assert not explain(1, [inside])[0].fault
    assert explain(1, [outside])[0].fault


def test_what_is_noise_in_one_example_is_measured_by_all():
    usual = [[3.0, 1.0], [1.0, -5.0]]  # the largest are 3 and 5; of three, 8 / 3
    for share, explained in ((0.9, True), (1.1, False)):
        noise = [[share * MARGIN * 8 / 3, -1e-9]]
        sign = pair("a", flip=[(0, 0)], inputs=np.array([*noise, *usual]))
        assert (not explain(1, [sign])[0].fault) == explained


def test_many_examples_are_explained_in_groups():
    sizes = []

    def signs(which):
        sizes.append(len(which))
        inputs = np.where(which[:, None] % 2, 1.0, [[1e-9, 1.0]])
        yield pair("a", flip=[(i, 0) for i in range(len(which))], inputs=inputs)

    zeros = np.zeros((40, 2), np.float32)
    found = agreement([zeros], [zeros + 1], 1e-3, signs)
    assert sizes == [16, 16, 8]
    assert (found.explained, found.unexplained) == (20, 20)
    # Of the two inputs one is within rounding, in every example that is explained.
    assert found.ties == [{"layer": "a", "examples": 20, "share": 0.5}]


def test_ties_are_those_of_most_examples_first():
    inputs = np.array([[1.0, 1e-9, 1e-9, 1e-9]] * 3)
    first = pair("a", flip=[(1, 1)], inputs=inputs)
    second = pair("b", flip=[(0, 2), (2, 3)], inputs=inputs)
    found = compare([[1, 2]] * 3, [[1, 9]] * 3, [first, second])
    assert found.ties == [
        {"layer": "b", "examples": 2, "share": 0.75},
        {"layer": "a", "examples": 1, "share": 0.75},
    ]


def test_the_scale_of_scores_does_not_matter():
    small = compare([[1e-8, 2e-8]], [[1e-8, 2.1e-8]], [pair("a")])
    assert small.unexplained == 1


def test_of_several_outputs_the_worst_counts():
    first = [np.array([[1.0, 2.0], [4.0, 3.0]]), np.array([[[10.0]], [[20.0]]])]
    second = [first[0], first[1] + [[[0.0]], [[6.0]]]]
    found = agreement(first, second, 1e-3, lambda which: [pair("a")])
    assert found.exact_share == 0.5
    assert found.worst_abs == 6
    assert found.worst_rel == pytest.approx(0.3)
    assert found.top1_agreement == 1  # the map is no score of classes


@pytest.mark.parametrize(
    "others, share",
    [
        ([[[1, 2], [2, 1], [1, 2]]], 2 / 3),
        ([[[1, 2], [2, 1], [1, 2]], [[2, 1], [1, 2], [1, 2]]], 1 / 3),
        ([[[1, 2], [1, 2], [1, 2]], [[7], [8], [9]]], 1),
        ([[[7], [8], [9]]], 1),
        ([[1, 2, 3]], 1),
        ([[[[1, 2], [2, 1]], [[1, 2], [1, 2]], [[1, 2], [1, 2]]]], 5 / 6),
    ],
)
def test_classes_must_agree_in_every_output_that_has_some(others, share):
    others = [np.array(other) for other in others]
    wanted = [np.broadcast_to(np.arange(o.shape[-1]), o.shape) for o in others]
    assert top1_agreement(wanted, others) == pytest.approx(share)
