"""The threshold of an affine before a sign, against exact fractions."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from larq_nobn.graph._steps import Steps
from larq_nobn.graph._thresholds import threshold_of_affine
from larq_nobn.quantizers import RSign

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


def found(threshold, x, edge=None):
    edge = threshold.edge()[0] if edge is None else edge
    sign = 1 if x >= edge else -1
    return -sign if threshold.turned[0] else sign


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
        assert found(threshold, value) == wanted(gain, offset, value), value


@given(
    st.one_of(_SMALL, st.floats(-4, 4, width=32).filter(lambda g: abs(g) > 1e-3)),
    st.integers(-40, 40),
    st.sampled_from([0.0, 0.0, 0.5, 0.1, -0.1, 0.3, 1e-4, -1e-4]),
    st.sampled_from([1.0, 2.0, 0.25, 3.0]),
)
def test_in_steps_it_lies_between_two_values(gain, count, aside, step):
    steps = Steps(np.array([step]), 1000.0)
    center = (count + aside) * step
    # Worked out of float32 numbers, as batch norm's are: t is off by a few roundings.
    offset = -F32(gain) * F32(center)
    threshold = threshold_of_affine(F32(gain), offset, steps)
    exact = Fraction(float(center)) / Fraction(step)
    nearest = round(exact)
    tie = abs(exact - nearest) <= Fraction(2) ** -22 * abs(nearest)
    for n in range(count - 3, count + 4):
        away = n - nearest if tie else Fraction(n) - exact
        total = away * Fraction(float(F32(gain)))
        if gain == 0:
            total = Fraction(float(offset))
        assert found(threshold, F32(n * step)) == (1 if total >= 0 else -1), n
    if gain and abs(aside) < 0.125:
        off = threshold.value[0] / step
        assert off - np.floor(off) == 0.5


@pytest.mark.parametrize("gain", [0.7, -0.3, -1e-3])
@pytest.mark.parametrize("mean", [0.0, -5.0, 0.1])
def test_a_tie_in_a_batch_norm_is_a_tie(gain, mean):
    # As batch norms are turned into a gain and an offset, in float64.
    gain = np.float64(F32(gain)) / np.sqrt(np.float64(F32(1.3)) + 1e-3)
    threshold = threshold_of_affine(gain, 0 - gain * np.float64(F32(mean)))
    assert found(threshold, F32(mean)) == 1
    assert found(threshold, F32(mean + np.sign(gain))) == 1
    assert found(threshold, F32(mean - np.sign(gain))) == -1


@given(
    NUMBERS.filter(bool), st.integers(-50, 50), st.floats(2.0**-10, 2.0**10, width=32)
)
@example(-1.0, 0, 1.0)
def test_an_rsign_takes_it_at_any_scale(gain, tie, scale):
    offset = np.float64(F32(-gain)) * tie
    threshold = threshold_of_affine(F32(gain), offset)
    shift = threshold.shift(scale)
    edge = -shift[0] / F32(scale)  # as RSign computes it
    assert found(threshold, F32(tie), edge) == 1
    for x, sign in ((tie + 1, np.sign(gain)), (tie - 1, -np.sign(gain))):
        assert found(threshold, F32(x), edge) == sign
    if scale == 1:
        assert edge == threshold.edge()[0]


def test_rsign_itself():
    gains, ties = np.array([1.0, -1.0, 0.7, -0.7]), np.array([0.0, 0.0, 3.0, 3.0])
    threshold = threshold_of_affine(gains, -gains * ties)
    sign = RSign(scale=0.3)
    sign.build((None, 4))
    sign.shift.assign(threshold.shift(0.3))
    signs = sign(np.float32([ties - 1, ties, ties + 1])).numpy()
    signs = np.where(threshold.turned, -signs, signs)
    rising = np.sign(gains)
    np.testing.assert_array_equal(signs, [-rising, np.ones(4), rising])


def test_a_gain_of_0_leaves_the_sign_of_the_offset():
    threshold = threshold_of_affine(np.zeros(4), [1.0, 0.0, -0.0, -1e-9])
    np.testing.assert_array_equal(threshold.edge(), [-np.inf, -np.inf, -np.inf, np.inf])
    assert not threshold.turned.any()
