"""Boolean accumulation: an optimizer that flips weights instead of moving them."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from .._checks import check_number
from .._keras import keras, register
from .._larq import lq


def accumulate_and_flip(
    weight: tf.Tensor,
    gradient: tf.Tensor,
    accumulator: tf.Tensor,
    kept: tf.Tensor,
    learning_rate: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns weights, accumulators and the fraction of unflipped weights after a step.

    Only the signs of the weights count; `kept` is the fraction of the step before.
    """
    weight = lq.math.sign(weight)
    accumulator = kept * accumulator + learning_rate * gradient
    # A gradient of the weight's sign asks for less of the weight, that is, for a flip.
    flips = accumulator * weight >= 1
    return (
        tf.where(flips, -weight, weight),
        tf.where(flips, tf.zeros_like(accumulator), accumulator),
        1 - tf.reduce_mean(tf.cast(flips, accumulator.dtype)),
    )


def checked_gradient(gradient: Any, name: str) -> tf.Tensor:
    """Returns a gradient, after a check that it is finite.

    Where XLA drops the check, elements that are not finite become zero.
    """
    dense = tf.debugging.check_numerics(
        tf.convert_to_tensor(gradient),
        f"The gradient of {name} is not finite, so it was not applied. Lower the "
        "learning rates, or look for a division by zero or the logarithm of zero in "
        "the loss",
    )
    return tf.where(tf.math.is_finite(dense), dense, tf.zeros_like(dense))


def check_learning_rate(rate: Any, advice: str) -> Any:
    """Returns a learning rate, a positive number or a schedule."""
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        return rate
    return check_number("learning_rate", rate, "(0, inf)", advice)


@register()
class BooleanAccumulation(keras.optimizers.legacy.Optimizer):
    r"""Flips a binary weight once its accumulated gradient reaches a threshold.

    Experimental. There are no latent weights. Each weight \(w\) has an accumulator
    \(m\), which starts at 0; \(\rho\) is the fraction of a variable's weights that the
    step before did not flip. With the gradient \(g\) and the learning rate \(\eta\),

    \[ m \leftarrow \rho m + \eta g, \qquad
       w \leftarrow -w,\; m \leftarrow 0 \quad \text{where } m w \ge 1 \]

    With a constant gradient, a weight flips after \(1 / (\eta |g|)\) steps. If many
    weights flip at once, the other accumulators decay, so that fewer flip later.

    Use it like Larq's `Bop`: inside `larq.optimizers.CaseOptimizer`, for the kernels
    that `is_binary_variable` selects, beside an optimizer for all other weights. These
    kernels need a quantizer of precision 1 that does not change -1 and +1, such as
    `larq.quantizers.NoOp(precision=1)`; the first step replaces other values by their
    sign. `AdaptiveGradientClipping` does not clip these kernels, since they have no
    magnitude.

    Arguments:
        learning_rate: Factor of the gradient, in (0, inf), or a Keras learning rate
            schedule; default 1000. The best one depends on the size of the gradients;
            if it is too low, no weight flips. Try steps of a factor of 3.
        name: Name of the optimizer; default `"BooleanAccumulation"`, by which
            `CaseOptimizer` finds the class when it opens a file.

    Raises:
        TypeError: If `learning_rate` is neither a number nor a schedule.
        ValueError: If `learning_rate` is out of its range.
        InvalidArgumentError: At a step whose gradients are not finite. Where XLA drops
            the assertion, such elements count as zero.

    Example:
        ```python
        import larq as lq
        import larq_nobn as nobn
        import tensorflow as tf

        boolean = nobn.optimizers.BooleanAccumulation(learning_rate=300.0)
        optimizer = lq.optimizers.CaseOptimizer(
            (boolean.is_binary_variable, boolean),
            default_optimizer=tf.keras.optimizers.legacy.Adam(0.01),
        )
        ```

    References:
        Nguyen, Ocampo, Askri, Leconte, Tran, "BOLD: Boolean Logic Deep Learning", 2024,
        arXiv:2405.16339.

    Differences from the paper:
        The gradient is that of Larq's quantizers; the paper counts Boolean variations
        and scales them in the backward pass, so its learning rates do not apply.
    """

    _HAS_AGGREGATE_GRAD = True  # Keras sums the gradients over replicas

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule = 1000.0,
        name: str = "BooleanAccumulation",
    ) -> None:
        super().__init__(name)
        advice = "Use 1000, or 300 where training is long."
        self._set_hyper("learning_rate", check_learning_rate(learning_rate, advice))

    @staticmethod
    def is_binary_variable(variable: tf.Variable) -> bool:
        """Returns whether `variable` belongs to a quantizer of precision 1."""
        return lq.optimizers.Bop.is_binary_variable(variable)

    def get_config(self) -> dict[str, Any]:
        rate = self._serialize_hyperparameter("learning_rate")
        if not isinstance(rate, dict):
            rate = float(rate)  # JSON has no NumPy numbers
        return {**super().get_config(), "learning_rate": rate}

    def _create_slots(self, var_list: list[tf.Variable]) -> None:
        for variable in var_list:
            self.add_slot(variable, "accumulator")
            self.add_slot(variable, "kept", shape=[])

    def _resource_apply_dense(self, grad: tf.Tensor, var: tf.Variable) -> tf.Operation:
        accumulator = self.get_slot(var, "accumulator")
        kept = self.get_slot(var, "kept")
        grad = checked_gradient(grad, var.name)
        weights, accumulators, fraction = accumulate_and_flip(
            var, grad, accumulator, kept, self._decayed_lr(accumulator.dtype)
        )
        return tf.group(
            var.assign(weights), accumulator.assign(accumulators), kept.assign(fraction)
        )
