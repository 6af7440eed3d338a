"""The Bayesian learning rule as a wrapper around any Keras optimizer."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from .._checks import check_number
from .._errors import InvalidValue
from .._keras import keras
from .._larq import lq
from .._math import at_least_float32, tanh_slope
from ._boolean import check_learning_rate, checked_gradient
from ._wrapper import OptimizerWrapper, Pairs, in_both_families

_schedules = keras.optimizers.schedules


def natural_gradient_step(
    natural: tf.Tensor,
    gradient: tf.Tensor,
    learning_rate: tf.Tensor | float,
    prior_weight: float,
    prior_natural: float,
) -> tf.Tensor:
    """Returns the natural parameters λ after one step, in float32 or better.

    The gradient is ∂L/∂λ of the relaxed weights; `prior_natural` is λ₀.
    """
    wide = at_least_float32(natural)
    rate = tf.cast(learning_rate, wide.dtype)
    # The gradient divided by dtanh(λ)/dλ = 1 - tanh²(λ) is the gradient in the mean
    # tanh(λ), which is the natural gradient in λ.
    natural_gradient = at_least_float32(gradient) / tanh_slope(wide)
    return (1 - rate * prior_weight) * wide - rate * (
        natural_gradient - prior_weight * prior_natural
    )


def is_natural(variable: tf.Variable) -> bool:
    """Tells whether `variable` is the kernel of a `BernoulliSign`."""
    quantizer = getattr(variable, "quantizer", None)
    return getattr(quantizer, "natural_parameters", False)


def split(pairs: Pairs) -> tuple[Pairs, Pairs]:
    """Returns the pairs of natural parameters, and the others."""
    return [p for p in pairs if is_natural(p[1])], [
        p for p in pairs if not is_natural(p[1])
    ]


def steps_of(optimizer: Any) -> tf.Variable:
    """Returns the variable in which an optimizer counts its steps.

    The counter of Larq's `CaseOptimizer` is always 0. Its optimizers count, and the
    first of them, which always has a variable, takes every step.
    """
    while isinstance(optimizer, (OptimizerWrapper, lq.optimizers.CaseOptimizer)):
        wraps = isinstance(optimizer, OptimizerWrapper)
        optimizer = optimizer.inner_optimizer if wraps else optimizer.optimizers[0]
    return optimizer.iterations


def descend(
    pairs: Pairs, learning_rate: tf.Tensor, prior_weight: float, prior: float
) -> None:
    """Updates natural parameters, in every replica.

    All replicas have the same gradients; `prior` is the probability of +1.
    """
    prior_natural = math.log(prior / (1 - prior)) / 2

    def step(variable: tf.Variable, gradient: tf.Tensor, rate: tf.Tensor) -> None:
        # A quantized variable would read as ±1 inside a quantized scope.
        latent = getattr(variable, "latent_variable", variable)
        new = natural_gradient_step(
            tf.convert_to_tensor(latent), gradient, rate, prior_weight, prior_natural
        )
        new = tf.cast(new, latent.dtype)
        constraint = variable.constraint
        latent.assign(new if constraint is None else constraint(new))

    def step_all(strategy: tf.distribute.Strategy, pairs: Pairs, rate: Any) -> None:
        for gradient, variable in pairs:
            strategy.extended.update(variable, step, args=(gradient, rate), group=False)

    tf.__internal__.distribute.interim.maybe_merge_call(
        step_all, tf.distribute.get_strategy(), pairs, learning_rate
    )


@in_both_families
class BayesianLearningRule(OptimizerWrapper):
    r"""Optimizer wrapper: learns the posterior probabilities of binary weights.

    The kernels of `quantizers.BernoulliSign` contain natural parameters \(\lambda\) of
    independent weights of -1 and +1 with means \(\tanh\lambda\). Each step is a
    natural-gradient step towards the posterior, with learning rate \(\eta\) and the
    gradient of the relaxed weights in λ:

    \[ \lambda \leftarrow (1 - \eta\rho)\,\lambda
       - \eta \Big( \frac{\partial L/\partial\lambda}{1 - \tanh^2\lambda + 10^{-10}}
       - \rho\lambda_0 \Big), \qquad
       \lambda_0 = \tfrac12 \ln\frac{p}{1 - p} . \]

    \(\rho\) is the weight of the prior, in which a weight is +1 with probability
    \(p\). Where the loss has no gradient, λ converges to \(\lambda_0\). The wrapped
    optimizer updates all other variables. Its clipping by norm, weight decay and
    averages ignore these kernels.

    The state is that of the wrapped optimizer: files and checkpoints contain nothing
    else. Its step counter also drives a learning rate schedule of the rule. The
    attribute `learning_rate` is that of the wrapped optimizer, as callbacks expect, and
    `natural_learning_rate` that of the rule. Gradients are summed over replicas first.
    The constraint of a kernel is applied after its step.

    `AdaptiveGradientClipping` may be inside or around this wrapper, with the same
    result: it does not clip these kernels, since log odds have no magnitude to compare
    gradients with. Put `ParameterGroups` and Larq's `CaseOptimizer` inside.

    Arguments:
        optimizer: A Keras optimizer, new-style or legacy, as an object, name or config,
            for everything but kernels of `BernoulliSign`. In mixed precision, wrap this
            optimizer in the loss scaling, which `compile` does for you.
        learning_rate: η of those kernels, in (0, inf), or a Keras learning rate
            schedule. The loss is a mean over the batch, so its gradients are small:
            try powers of ten around 1.
        prior_weight: ρ, in [0, inf); 0 for no prior. The papers' prior, for a mean
            loss, has the weight 1 / (number of training examples).
        prior: p, in (0, 1); 0.5 prefers neither sign.

    Raises:
        TypeError: If an argument has the wrong type, or if `optimizer` already is such
            a wrapper or scales the loss.
        ValueError: If an argument is out of its range; at a step, if no variable is the
            kernel of a `BernoulliSign`.
        InvalidArgumentError: At a step in which the gradient of such a kernel is not
            finite; nothing is changed. Where XLA drops the assertion, such elements
            count as zero.

    Example:
        ```python
        import larq as lq
        import larq_nobn as nobn
        import tensorflow as tf

        model = tf.keras.Sequential([
            tf.keras.Input((8,)),
            lq.layers.QuantDense(16, kernel_quantizer="bernoulli_sign"),
            tf.keras.layers.Dense(4, name="head"),
        ])
        optimizer = nobn.optimizers.BayesianLearningRule(
            "adam", learning_rate=1.0, prior_weight=1e-3
        )
        model.compile(optimizer, "mse")
        ```

    References:
        - X. Meng, R. Bachmann, M. E. Khan, "Training Binary Neural Networks using the
          Bayesian Learning Rule", ICML 2020, arXiv:2002.10778.
        - H. Jang, N. Skatchkovsky, O. Simeone, "BiSNN: Training Spiking Neural Networks
          with Binary Weights via Bayesian Learning", 2020, arXiv:2012.08300.

    Differences from the paper:
        The loss is a mean, as in BiSNN; Meng and others multiply it by the number of
        examples. Their momentum is absent. As in their code, 1e-10 is added to the
        gradient of the relaxation and to the divisor.
    """

    natural_learning_rate: float | Any
    prior_weight: float
    prior: float

    _not_twice = (
        "optimizer is already a BayesianLearningRule, and each kernel can have only "
        "one. Pass its inner_optimizer."
    )

    def __init__(
        self,
        optimizer: Any,  # taken by __new__, which needs it to choose the class
        learning_rate: float | Any,
        prior_weight: float,
        prior: float = 0.5,
    ) -> None:
        advice = "Try powers of ten around 1."
        self.natural_learning_rate = check_learning_rate(learning_rate, advice)
        advice = "Use 0 for no prior, or 1 over the number of examples."
        self.prior_weight = check_number(
            "prior_weight", prior_weight, "[0, inf)", advice
        )
        self.prior = check_number("prior", prior, "(0, 1)", "Use 0.5 for either sign.")

    @staticmethod
    def is_bayesian_variable(variable: tf.Variable) -> bool:
        """Returns whether `variable` is the kernel of a `BernoulliSign`."""
        return is_natural(variable)

    def get_config(self) -> dict[str, Any]:
        rate = self.natural_learning_rate
        scheduled = isinstance(rate, _schedules.LearningRateSchedule)
        return {
            # Larq's CaseOptimizer finds the class by this name.
            "name": BayesianLearningRule.__name__,
            "optimizer": keras.optimizers.serialize(self.inner_optimizer),
            "learning_rate": _schedules.serialize(rate) if scheduled else rate,
            "prior_weight": self.prior_weight,
            "prior": self.prior,
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> BayesianLearningRule:
        rate = config["learning_rate"]
        if isinstance(rate, dict):
            rate = _schedules.deserialize(copy.deepcopy(rate), custom_objects)
        return super().from_config({**config, "learning_rate": rate}, custom_objects)

    def _of_inner(self, variables: Sequence[tf.Variable]) -> Sequence[tf.Variable]:
        return [variable for variable in variables if not is_natural(variable)]

    def _step(self, pairs: Pairs, apply: Callable[[Pairs], Any]) -> Any:
        natural, others = split(pairs)
        if pairs and not natural:
            raise InvalidValue(
                f"None of the {len(pairs)} variables, such as {pairs[0][1].name}, is "
                "the kernel of a BernoulliSign. Give layers kernel_quantizer="
                '"bernoulli_sign", or use the inner optimizer alone.'
            )
        natural = [
            (checked_gradient(g, v.name), v) for g, v in natural if g is not None
        ]
        with tf.init_scope():  # a legacy optimizer creates its counter here
            steps = steps_of(self.inner_optimizer)
        with tf.control_dependencies([gradient for gradient, _ in natural]):
            rate = self.natural_learning_rate
            rate = tf.convert_to_tensor(rate(steps) if callable(rate) else rate)
            descend(natural, rate, self.prior_weight, self.prior)
            if natural and all(gradient is None for gradient, _ in others):
                return steps.assign_add(1)
            return apply(others)
