"""The algebra of shifts that are partly open: against sums worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from larq_nobn.deploy.prepare._moves import (
    Unknowns,
    constant,
    is_close,
    joined,
    weighted_sum,
)
from numpy.testing import assert_allclose, assert_array_equal

V = np.array([1.0, 2.0])
W = np.array([10.0, -5.0])
ONES = np.ones((2, 2))


def test_what_is_never_settled_is_zero():
    unknowns = Unknowns()
    assert_array_equal(unknowns.value(unknowns.new(2)), [0, 0])


def test_an_open_shift_becomes_what_is_first_wanted():
    unknowns = Unknowns()
    shift = unknowns.new(2)
    unknowns.solve(shift, V)
    unknowns.solve(shift, W)
    assert_array_equal(unknowns.value(shift), V)


def test_of_a_sum_the_newest_part_gives_way():
    unknowns = Unknowns()
    old, new = unknowns.new(2), unknowns.new(2)
    total = weighted_sum([old, new], ONES)
    unknowns.solve(total, V)
    assert_array_equal(unknowns.value(new), V)
    unknowns.solve(old, W)
    assert_array_equal(unknowns.value(old), W)
    assert_array_equal(unknowns.value(new), V - W)
    assert_array_equal(unknowns.value(total), V)


def test_weights_and_constants_count():
    unknowns = Unknowns()
    shift = unknowns.new(2)
    total = weighted_sum([constant(V), shift], np.array([[3, 3], [-1, 2]]))
    unknowns.solve(total, W)
    assert_array_equal(unknowns.value(shift), [-7, -5.5])


def test_a_sum_that_cancels_is_not_free():
    unknowns = Unknowns()
    shift = unknowns.new(2)
    nothing = weighted_sum([shift, shift], np.array([[1, 1], [-1, -1]]))
    unknowns.solve(nothing, V)
    assert_array_equal(unknowns.value(nothing), [0, 0])
    unknowns.solve(shift, W)
    assert_array_equal(unknowns.value(shift), W)


def test_a_channel_times_zero_frees_nothing():
    unknowns = Unknowns()
    shift = unknowns.new(2)
    total = weighted_sum([shift], np.array([[1, 0]]))
    unknowns.solve(total, V)
    assert_array_equal(unknowns.value(shift), [0, 0])


def test_zero_is_settled_where_a_channel_is_not_zero_in_any_case():
    unknowns = Unknowns()
    shift = unknowns.new(2)
    total = weighted_sum([shift], np.array([[1, 0]]))
    unknowns.solve(total, np.zeros(2))
    unknowns.solve(shift, V)
    assert_array_equal(unknowns.value(total), [0, 0])
    assert_array_equal(unknowns.value(shift), [0, 0])
    unknowns.solve(shift, np.array([0.0, 2]))
    assert_array_equal(unknowns.value(shift), [0, 2])


def test_each_channel_of_a_sum_has_its_own_part_that_gives_way():
    unknowns = Unknowns()
    old, new = unknowns.new(2), unknowns.new(2)
    total = weighted_sum([old, new], np.array([[0, 2], [1, 0]]))
    unknowns.solve(total, W)
    assert_array_equal(unknowns.value(new), [10, 0])
    assert_array_equal(unknowns.value(old), [0, -2.5])


def test_what_a_gain_close_to_zero_would_blow_up_is_not_granted():
    unknowns = Unknowns()
    shift = unknowns.new(3)
    total = weighted_sum([shift], np.array([[1e-6, 1, 1]]))
    unknowns.solve(total, np.ones(3))
    assert_array_equal(unknowns.value(shift), [0, 0, 0])
    unknowns.solve(total, np.zeros(3))
    unknowns.solve(shift, np.ones(3))
    assert_array_equal(unknowns.value(shift), [0, 0, 0])


def test_stretches_are_settled_together_or_not_at_all():
    unknowns = Unknowns()
    free = unknowns.new(1)
    unknowns.solve(joined([free, constant(V)]), np.array([7.0, 1, 3]))
    assert_array_equal(unknowns.value(free), [0])
    unknowns.solve(joined([free, constant(V)]), np.array([7.0, 1, 2]))
    assert_array_equal(unknowns.value(free), [7])


def test_the_same_shift_twice_in_a_row_of_stretches():
    unknowns = Unknowns()
    twice = joined([unknowns.new(2)] * 2)
    unknowns.solve(twice, np.concatenate([V, W]))
    assert_array_equal(unknowns.value(twice), np.concatenate([V, V]))


def test_sums_of_joined_shifts_stay_open_where_cuts_agree():
    unknowns = Unknowns()
    left, right = unknowns.new(1), unknowns.new(1)
    total = weighted_sum([joined([left, right]), constant(V)], ONES)
    unknowns.solve(total, W)
    assert_array_equal(unknowns.value(left), [9])
    assert_array_equal(unknowns.value(right), [-7])


def test_a_cut_leaves_an_open_shift_open():
    unknowns = Unknowns()
    whole, left, right = unknowns.new(2), unknowns.new(1), unknowns.new(1)
    total = weighted_sum([whole, joined([left, right])], ONES)
    unknowns.solve(whole, V)
    unknowns.solve(total, W)
    assert_array_equal(unknowns.value(whole), V)
    assert_array_equal(unknowns.value(joined([left, right])), W - V)


@given(st.data())
@settings(max_examples=25)
def test_every_wish_that_is_granted_stays_granted(data):
    """Random sums and wishes: what held once contains in the end, and sums are sums."""
    unknowns = Unknowns()
    number = st.integers(-3, 3).map(float)
    shifts = [unknowns.new(2) for _ in range(3)] + [constant(V)]
    sums = []
    for _ in range(data.draw(st.integers(1, 6))):
        parts = data.draw(st.lists(st.sampled_from(range(len(shifts))), min_size=1))
        rows = np.array([[data.draw(number) for _ in range(2)] for _ in parts])
        sums.append((len(shifts), parts, rows))
        shifts.append(weighted_sum([shifts[i] for i in parts], rows))
    held = []
    for _ in range(8):
        shift = shifts[data.draw(st.sampled_from(range(len(shifts))))]
        wanted = np.array([data.draw(number) for _ in range(2)])
        unknowns.solve(shift, wanted)
        # An open shift is 0 for now only: it may seem to grant a wish for 0.
        if is_close(unknowns.value(shift), wanted) and np.any(wanted):
            held.append((shift, wanted))
    for shift, wanted in held:
        assert_allclose(unknowns.value(shift), wanted, atol=1e-6)
    for total, parts, rows in sums:
        expected = sum(
            row * unknowns.value(shifts[i]) for i, row in zip(parts, rows, strict=True)
        )
        assert_allclose(unknowns.value(shifts[total]), expected, atol=1e-6)


@pytest.mark.parametrize(
    "shift, other, close",
    [(1.0, 1.0 + 1e-8, True), (1.0, 1.0 + 1e-6, False), (0.0, 1e-13, True)],
)
def test_closer_than_float32_tells(shift, other, close):
    assert is_close(np.array([5.0 * shift]), np.array([5.0 * other])) == close
