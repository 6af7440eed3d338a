from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import tensorflow as tf

from .._checks import check_choice, check_flag, check_number
from .._errors import InvalidValue
from .._keras import register
from .._math import at_least_float32, fused
from ._channelwise import SameShape

# Half the width of the surrogate gradient, a boxcar around the threshold.
_REACH = 0.5


@cache
def make_step(decay: float, threshold: float, soft: bool) -> Callable:
    """Returns the step (current, membrane) -> (spike, membrane) of a neuron."""

    @fused
    def forward(
        current: tf.Tensor, membrane: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        before = decay * membrane + at_least_float32(current)
        spike = tf.cast(before >= threshold, before.dtype)
        after = before - threshold * spike if soft else before * (1 - spike)
        return tf.cast(spike, current.dtype), after, before

    @fused
    def backward(
        before: tf.Tensor, d_spike: tf.Tensor, d_after: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        near = tf.cast(tf.abs(before - threshold) <= _REACH, before.dtype)
        # The gradient of the reset treats the spike as a constant.
        d_reset = 1.0 if soft else tf.cast(before < threshold, before.dtype)
        d_before = near * at_least_float32(d_spike) + d_reset * d_after
        return tf.cast(d_before, d_spike.dtype), decay * d_before

    @tf.custom_gradient
    def step(
        current: tf.Tensor, membrane: tf.Tensor
    ) -> tuple[tuple[tf.Tensor, tf.Tensor], Callable]:
        spike, after, before = forward(current, membrane)
        return (spike, after), lambda *upstream: backward(before, *upstream)

    return step


def over_time(step: Callable, currents: tf.Tensor, mask: Any = None) -> tf.Tensor:
    """Returns the spikes of (batch, time, ...) currents.

    A known number of steps is unrolled. Where a mask of (batch, time) is false, the
    neuron does not fire, and its membrane is unchanged.
    """
    rank = currents.shape.rank
    sequences = [currents]
    if mask is not None:
        active = tf.cast(mask, tf.bool)
        sequences.append(active[(..., *[tf.newaxis] * (rank - active.shape.rank))])

    def advance(membrane: tf.Tensor, current: tf.Tensor, *active: tf.Tensor) -> Any:
        spike, after = step(current, membrane)
        for each in active:
            spike = tf.where(each, spike, tf.zeros_like(spike))
            after = tf.where(each, after, membrane)
        return spike, after

    if currents.shape[1] is None:
        swap = [1, 0, *range(2, rank)]
        by_time = tuple(tf.transpose(each, swap) for each in sequences)
        start = tf.zeros_like(by_time[0][0])
        spikes, _ = tf.scan(
            lambda last, now: advance(last[1], *now),
            by_time,
            (start, at_least_float32(start)),
        )
        return tf.transpose(spikes, swap)
    slices = [tf.unstack(each, axis=1) for each in sequences]
    # Conversion folds this fill into a constant, but would keep a tf.zeros_like.
    membrane = at_least_float32(tf.zeros(tf.shape(slices[0][0]), currents.dtype))
    spikes = []
    for now in zip(*slices, strict=True):
        spike, membrane = advance(membrane, *now)
        spikes.append(spike)
    return tf.stack(spikes, axis=1)


@register()
class LeakyIntegrateAndFire(SameShape):
    r"""Spiking neuron: sums its input currents over time and fires at a threshold.

    With current \(x_t\), membrane \(u_0 = 0\), decay \(d\) and threshold \(\theta\),

    \[ v_t = d\, u_{t-1} + x_t, \qquad s_t = 1[v_t \ge \theta], \qquad
       u_t = v_t - \theta s_t \;\text{(soft)}, \quad
       u_t = v_t (1 - s_t) \;\text{(hard reset)} . \]

    The output is \(s_t\), or \(2 s_t - 1\) with `signed`. Gradients run back through
    time. The spike's surrogate gradient is a boxcar, \(\partial s_t/\partial v_t =
    1[|v_t - \theta| \le \tfrac12]\), and in the reset the spike counts as a constant:
    with upstream gradient \(g_t\),
    \(\partial L/\partial v_t = g_t\, \partial s_t/\partial v_t + k_t\, d\,
    \partial L/\partial v_{t+1}\), where \(k_t = 1\) (soft) or \(1 - s_t\) (hard), and
    \(\partial L/\partial x_t = \partial L/\partial v_t\); signed spikes have twice the
    first term. Without decay and with a soft reset, a constant current makes the neuron
    fire in a fraction \(\operatorname{clip}(x/\theta, 0, 1)\) of the steps, up to one
    spike. The membrane is float32. At inference: **kept**, as a few operations per time
    step. {0, 1} is not binary for Larq Compute Engine: before a binary convolution use
    `signed`, give the convolution `input_quantizer="ste_sign"`, which changes no value,
    and `Reshape` the time axis into its batch or rows.

    Arguments:
        decay: Fraction d of the membrane left after a time step, in (0, 1]; 1 does not
            leak. A time constant of τ steps is d = exp(-1/τ).
        threshold: Positive θ, in units of the current.
        reset: After a spike, `"soft"` subtracts the threshold, `"hard"` sets 0.
        signed: Whether the output is -1 or +1 instead of 0 or 1.
        **kwargs: Keras layer arguments, such as `name`.

    Input shape:
        (batch, time, ...), of rank 3 or more. A known number of time steps is unrolled,
        an unknown one is a loop. Masked steps are skipped, as in Keras' recurrent
        layers: there is no spike, and the membrane is unchanged.

    Output shape:
        The input shape.

    Raises:
        TypeError, ValueError: For arguments outside the ranges above, or rank-2 input,
            which has no time axis.

    Example:
        ```python
        import larq_nobn as nobn
        import tensorflow as tf

        currents = tf.fill((1, 8, 1), 0.4)
        spikes = nobn.layers.LeakyIntegrateAndFire()(currents)  # in steps 3 and 6
        ```

    References:
        - H. Jang, N. Skatchkovsky, O. Simeone, "BiSNN: Training Spiking Neural Networks
          with Binary Weights via Bayesian Learning", 2020, arXiv:2012.08300.

    Differences from the paper:
        The paper filters input and feedback with separate exponential kernels and
        trains by local losses, without gradients through time; here one leaky membrane
        is reset, and gradients run through it. In the paper's code the boxcar excludes
        its lower edge. Signed spikes are an addition.
    """

    _in_config = "decay threshold reset signed"

    def __init__(
        self,
        decay: float = 0.9,
        threshold: float = 1.0,
        reset: str = "soft",
        signed: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.decay = check_number("decay", decay, "(0, 1]", "1 does not leak.")
        self.threshold = check_number(
            "threshold", threshold, "(0, inf)", "It is in units of the current; use 1."
        )
        self.reset = check_choice("reset", reset, ("soft", "hard"))
        self.signed = check_flag("signed", signed)

    def build(self, input_shape: tf.TensorShape) -> None:
        if len(input_shape) < 3:
            raise InvalidValue(
                f"LeakyIntegrateAndFire got a rank-{len(input_shape)} input of shape "
                f"{tuple(input_shape)}, but it needs a time axis: (batch, time, ...). "
                "Pass a sequence; RepeatVector makes one of a vector."
            )
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, mask: Any = None) -> tf.Tensor:
        step = make_step(self.decay, self.threshold, self.reset == "soft")
        spikes = over_time(step, inputs, mask)
        return 2 * spikes - 1 if self.signed else spikes
