"""The natural-gradient step of the Bayesian learning rule, and whose step it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import larq as lq
import tensorflow as tf

from .._math import at_least_float32, tanh_slope
from ._wrapper import OptimizerWrapper, Pairs


def natural_gradient_step(
    natural: tf.Tensor,
    gradient: tf.Tensor,
    learning_rate: tf.Tensor | float,
    prior_weight: float,
    prior_natural: float,
) -> tf.Tensor:
    """The natural parameters behind one step, in float32 or better.

    Arguments:
        natural: λ.
        gradient: ∂L/∂λ of the relaxed weights.
        learning_rate: η.
        prior_weight: ρ.
        prior_natural: λ₀, the natural parameter of the prior.
    """
    here = at_least_float32(natural)
    rate = tf.cast(learning_rate, here.dtype)
    # dλ of the mean tanh(λ) is 1 - tanh²(λ): divided by it, the gradient is that in
    # the mean, which is the natural gradient in λ.
    toward = at_least_float32(gradient) / tanh_slope(here)
    return (1 - rate * prior_weight) * here - rate * (
        toward - prior_weight * prior_natural
    )


def is_natural(variable: tf.Variable) -> bool:
    """Tells whether `variable` is the kernel of a `BernoulliSign`."""
    quantizer = getattr(variable, "quantizer", None)
    return getattr(quantizer, "natural_parameters", False)


def others_of(variables: Sequence[tf.Variable]) -> list[tf.Variable]:
    """The variables that are no natural parameters."""
    return [variable for variable in variables if not is_natural(variable)]


def split(pairs: Pairs) -> tuple[Pairs, Pairs]:
    """The pairs of natural parameters, and the others."""
    return [p for p in pairs if is_natural(p[1])], [
        p for p in pairs if not is_natural(p[1])
    ]


def steps_of(optimizer: Any) -> tf.Variable:
    """The variable in which an optimizer counts its steps.

    That of Larq's `CaseOptimizer` stays at 0: its parts count, and the first of them,
    which is never without a variable, takes every step.
    """
    while isinstance(optimizer, (OptimizerWrapper, lq.optimizers.CaseOptimizer)):
        if isinstance(optimizer, OptimizerWrapper):
            optimizer = optimizer.inner_optimizer
        else:
            optimizer = optimizer.optimizers[0]
    return optimizer.iterations


def checked(pairs: Pairs) -> Pairs:
    """The same gradients behind a check that they are finite.

    Compiled by XLA, which drops the check, elements that are not finite count as zero.
    """
    found = []
    for gradient, variable in pairs:
        if gradient is not None:
            dense = tf.convert_to_tensor(gradient)
            safe = tf.debugging.check_numerics(dense, _message(variable.name))
            safe = tf.where(tf.math.is_finite(safe), safe, tf.zeros_like(safe))
            found.append((safe, variable))
    return found


def descend(
    pairs: Pairs, learning_rate: tf.Tensor, prior_weight: float, prior: float
) -> None:
    """Takes the step of natural parameters, in every replica.

    Arguments:
        pairs: Gradients that all replicas agree on, and the variables.
        learning_rate: η.
        prior_weight: ρ.
        prior: The probability of +1 under the prior.
    """
    prior_natural = math.log(prior / (1 - prior)) / 2

    def step(variable: tf.Variable, gradient: tf.Tensor, rate: tf.Tensor) -> None:
        # A quantized variable would read as ±1 inside a quantized scope.
        latent = getattr(variable, "latent_variable", variable)
        new = natural_gradient_step(
            tf.convert_to_tensor(latent), gradient, rate, prior_weight, prior_natural
        )
        new = tf.cast(new, latent.dtype)
        kept = variable.constraint
        latent.assign(new if kept is None else kept(new))

    def step_all(strategy: tf.distribute.Strategy, pairs: Pairs, rate: Any) -> None:
        for gradient, variable in pairs:
            strategy.extended.update(variable, step, args=(gradient, rate), group=False)

    tf.__internal__.distribute.interim.maybe_merge_call(
        step_all, tf.distribute.get_strategy(), pairs, learning_rate
    )


def _message(name: str) -> str:
    return (
        f"The gradient of {name} is not finite, so the step was not applied. Lower the "
        "learning rates, or look for a division by zero or the logarithm of zero in "
        "the loss"
    )
