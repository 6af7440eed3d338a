"""The threshold of an affine before a sign, against exact fractions."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from larq_nobn.graph._thresholds import between_steps, threshold_of_affine

# Small numbers, of which ties are common, and any others.
_SMALL = st.integers(-8, 8).map(lambda n: n / 4)
_ANY = st.floats(-(2.0**40), 2.0**40, width=32).filter(
    lambda x: x == 0 or abs(x) > 2.0**-40
)
NUMBERS = st.one_of(_SMALL, _ANY)
F32 = np.float32


def wanted(gain, offset, x):
    """sign(gain * x + offset) with sign(0) = +1."""
    total = Fraction(float(gain)) * Fraction(float(x)) + Fraction(float(offset))
    return 1 if total >= 0 else -1


def signs_by(threshold, x, edge=None):
    edge = threshold.edge()[0] if edge is None else edge
    sign = 1 if x >= edge else -1
    return -sign if threshold.negated[0] else sign


def around(x):
    """Numbers in float32 next to one."""
    near = [F32(x)]
    for end in (-np.inf, np.inf):
        near += [np.nextafter(F32(x), F32(end))]
        near += [np.nextafter(near[-1], F32(end))]
    # What is closer to 0 than the least threshold above it is left out.
    return [x for x in near if x == 0 or abs(x) > 1e-30]


@given(NUMBERS, NUMBERS, NUMBERS)
@example(0.0, -0.0, 1.0)
@example(-1.0, 0.0, 0.0)
@example(-1.0, 2.0, 2.0)
def test_it_decides_as_exact_fractions_do(gain, offset, x):
    threshold = threshold_of_affine(F32(gain), F32(offset))
    inputs = around(x)
    if gain:
        inputs += around(-offset / gain)
    for value in inputs:
        assert signs_by(threshold, value) == wanted(gain, offset, value), value


@given(
    st.integers(-40, 40),
    st.sampled_from([0.0, 0.0, 2.0**-22, -(2.0**-22), 0.1, -0.1, 0.7, 1e-4, -1e-4]),
    st.sampled_from([1.0, 2.0, 0.25, 3.0, 0.7]),
    st.booleans(),
)
def test_between_steps_it_decides_every_whole_multiple_alike(n, aside, step, turned):
    """What is a multiple but for rounding counts as one."""
    given = n + aside * max(abs(n), 1) if abs(aside) < 1e-6 else n + aside
    moved = between_steps(np.array([given * step]), step, turned)[0]
    value = n if n and abs(aside) < 1e-6 else Fraction(given)
    exact = Fraction(float(moved)) / Fraction(float(step))
    assert abs(exact - np.floor(float(exact)) - Fraction(1, 2)) < Fraction(1, 2**40)
    for whole in range(n - 3, n + 4):
        above = whole > value if turned else whole >= value
        assert (whole > exact) == above


def test_what_float32_does_not_tell_half_a_step_of_stays():
    given = np.array([np.inf, -np.inf, 2.0**20 + 1, 3.0])
    np.testing.assert_array_equal(between_steps(given, 1.0), [*given[:3], 2.5])


@pytest.mark.parametrize("gain", [0.7, -0.3, -1e-3])
@pytest.mark.parametrize("mean", [0.0, -5.0, 0.1])
def test_a_tie_in_a_batch_norm_is_a_tie(gain, mean):
    # As batch norms are turned into a gain and an offset, in float64.
    gain = np.float64(F32(gain)) / np.sqrt(np.float64(F32(1.3)) + 1e-3)
    threshold = threshold_of_affine(gain, 0 - gain * np.float64(F32(mean)))
    assert signs_by(threshold, F32(mean)) == 1
    assert signs_by(threshold, F32(mean + np.sign(gain))) == 1
    assert signs_by(threshold, F32(mean - np.sign(gain))) == -1


@given(
    NUMBERS.filter(bool), st.integers(-50, 50), st.floats(2.0**-10, 2.0**10, width=32)
)
@example(-1.0, 0, 1.0)
def test_an_rsign_takes_it_at_any_scale(gain, tie, scale):
    offset = np.float64(F32(-gain)) * tie
    threshold = threshold_of_affine(F32(gain), offset)
    shift = threshold.shift(scale)
    edge = -shift[0] / F32(scale)  # as RSign computes it
    assert signs_by(threshold, F32(tie), edge) == 1
    for x, sign in ((tie + 1, np.sign(gain)), (tie - 1, -np.sign(gain))):
        assert signs_by(threshold, F32(x), edge) == sign
    if scale == 1:
        assert edge == threshold.edge()[0]


def test_a_gain_of_0_leaves_the_sign_of_the_offset():
    threshold = threshold_of_affine(np.zeros(4), [1.0, 0.0, -0.0, -1e-9])
    np.testing.assert_array_equal(threshold.edge(), [-np.inf, -np.inf, -np.inf, np.inf])
    assert not threshold.negated.any()
