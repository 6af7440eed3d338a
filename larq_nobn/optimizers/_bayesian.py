"""The Bayesian learning rule as a wrapper around any Keras optimizer."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import tensorflow as tf

from .._checks import check_number
from .._keras import PACKAGE, keras, register
from ._arguments import resolve_optimizer
from ._natural import checked, descend, is_natural, others_of, split, steps_of
from ._pairs import Pairs
from ._wrapper import OptimizerWrapper

_schedules = keras.optimizers.schedules


@register()
class BayesianLearningRule(OptimizerWrapper):
    r"""Optimizer wrapper: learns the posterior probabilities of binary weights.

    The kernels of `quantizers.BernoulliSign` hold natural parameters \(\lambda\) of
    independent weights of -1 and +1 with means \(\tanh\lambda\). With the gradient of
    the loss in the relaxed weights, taken back to λ, each step is a natural-gradient
    step, of learning rate \(\eta\), towards the posterior:

    \[ \lambda \leftarrow (1 - \eta\rho)\,\lambda
       - \eta \Big( \frac{\partial L/\partial\lambda}{1 - \tanh^2\lambda + 10^{-10}}
       - \rho\lambda_0 \Big), \qquad
       \lambda_0 = \tfrac12 \ln\frac{p}{1 - p} . \]

    \(\rho\) is the weight of the prior, under which a weight is +1 with probability
    \(p\). Where the loss says nothing, λ goes to \(\lambda_0\). All other variables are
    the wrapped optimizer's, which never sees those kernels: its clipping by norm, its
    weight decay and its averages leave them out.

    State is that of the wrapped optimizer, whose step counter also moves a learning
    rate schedule of the rule; files and checkpoints hold nothing else. `learning_rate`
    of the object is that of the wrapped optimizer, as callbacks expect, and
    `natural_learning_rate` the rule's. Gradients are summed over replicas first. A
    constraint of a kernel follows its step.

    `AdaptiveGradientClipping` may be inside or around it, with the same result: log
    odds have no magnitude that a gradient could be measured by, so these kernels are
    not clipped. `ParameterGroups` and Larq's `CaseOptimizer` belong inside.

    Arguments:
        optimizer: A Keras optimizer, new-style or legacy, as an object, name or config,
            for everything but kernels of `BernoulliSign`. Under mixed precision, loss
            scaling goes around this wrapper, as `compile` does on its own.
        learning_rate: η of those kernels, in (0, inf), or a Keras learning rate
            schedule. The loss is a mean over the batch, so its gradients are small:
            try powers of ten around 1.
        prior_weight: ρ, in [0, inf); 0 for no prior. With a mean loss the prior of the
            papers has the weight 1 over the number of training examples.
        prior: p, in (0, 1); 0.5 prefers neither sign.

    Raises:
        TypeError: If an argument has the wrong type, or if `optimizer` follows the rule
            already or scales the loss.
        ValueError: If an argument is out of its range; at a step, if no variable is the
            kernel of a `BernoulliSign`.
        InvalidArgumentError: At a step in which the gradient of such a kernel is not
            finite; nothing is changed. Compiled by XLA, which drops assertions, such
            elements count as zero.

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
        The loss is a mean, as in BiSNN, where Meng and others multiply it by the number
        of examples. Their momentum is left out. One guard of 1e-10 stands in the
        gradient of the relaxation and one in the divisor, as in their code.
    """

    natural_learning_rate: float | Any
    prior_weight: float
    prior: float

    def __new__(cls, optimizer: Any = None, *_: Any, **__: Any) -> Any:
        if cls is not BayesianLearningRule:  # a copy of an existing wrapper
            return super().__new__(cls)
        inner = resolve_optimizer(optimizer, cls.__name__, "natural steps")
        part = inner
        while isinstance(part, OptimizerWrapper):
            if isinstance(part, BayesianLearningRule):
                raise TypeError(
                    "optimizer follows a BayesianLearningRule already, and each kernel "
                    "has one. Pass its inner_optimizer."
                )
            part = part.inner_optimizer
        legacy = isinstance(inner, keras.optimizers.legacy.Optimizer)
        self = super().__new__(_LegacyRule if legacy else _NewStyleRule)
        self.inner_optimizer = inner
        return self

    def __init__(
        self,
        optimizer: Any,  # taken by __new__, which needs it to choose the class
        learning_rate: float | Any,
        prior_weight: float,
        prior: float = 0.5,
    ) -> None:
        if not isinstance(learning_rate, _schedules.LearningRateSchedule):
            advice = "Try powers of ten around 1."
            learning_rate = check_number(
                "learning_rate", learning_rate, "(0, inf)", advice
            )
        self.natural_learning_rate = learning_rate
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
            # The key of Larq's CaseOptimizer to the class.
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
        config = copy.deepcopy(config)  # Keras changes what it reads
        config.pop("name", None)
        config["optimizer"] = keras.optimizers.deserialize(
            config["optimizer"], custom_objects=custom_objects
        )
        if isinstance(config["learning_rate"], dict):
            config["learning_rate"] = _schedules.deserialize(
                config["learning_rate"], custom_objects=custom_objects
            )
        return BayesianLearningRule(**config)

    def _apply(self, pairs: Pairs, apply_others: Callable[[Pairs], Any]) -> Any:
        """Takes a step of each kind, with gradients that are summed over replicas."""
        natural, others = split(pairs)
        if pairs and not natural:
            raise ValueError(
                f"None of the {len(pairs)} variables, such as {pairs[0][1].name}, is "
                "the kernel of a BernoulliSign. Give layers kernel_quantizer="
                '"bernoulli_sign", or use the inner optimizer alone.'
            )
        natural = checked(natural)
        with tf.init_scope():  # a legacy optimizer makes its counter when asked
            steps = steps_of(self.inner_optimizer)
        with tf.control_dependencies([gradient for gradient, _ in natural]):
            rate = self.natural_learning_rate
            rate = tf.convert_to_tensor(rate(steps) if callable(rate) else rate)
            descend(natural, rate, self.prior_weight, self.prior)
            if natural and all(gradient is None for gradient, _ in others):
                return steps.assign_add(1)
            return apply_others(others)


class _NewStyleRule(BayesianLearningRule, keras.optimizers.Optimizer):
    def build(self, var_list: Sequence[tf.Variable]) -> None:
        """Creates the wrapped optimizer's state."""
        self.inner_optimizer.build(others_of(var_list))

    def finalize_variable_values(self, var_list: Sequence[tf.Variable]) -> None:
        """Puts averages in the place of variables that have them."""
        self.inner_optimizer.finalize_variable_values(others_of(var_list))

    def apply_gradients(
        self,
        grads_and_vars: Iterable[tuple[Any, tf.Variable]],
        name: str | None = None,
        skip_gradients_aggregation: bool = False,
        experimental_aggregate_gradients: bool = True,
    ) -> Any:
        pairs = list(grads_and_vars)
        if experimental_aggregate_gradients and not skip_gradients_aggregation:
            pairs = self.inner_optimizer.aggregate_gradients(pairs)
        return self._apply(
            pairs,
            lambda others: self.inner_optimizer.apply_gradients(
                others, name=name, skip_gradients_aggregation=True
            ),
        )


class _LegacyRule(BayesianLearningRule, keras.optimizers.legacy.Optimizer):
    _HAS_AGGREGATE_GRAD = True

    def _create_slots(self, var_list: Sequence[tf.Variable]) -> None:
        self.inner_optimizer._create_slots(others_of(var_list))

    def _create_all_weights(self, var_list: Sequence[tf.Variable]) -> None:
        self.inner_optimizer._create_all_weights(others_of(var_list))

    def apply_gradients(
        self,
        grads_and_vars: Iterable[tuple[Any, tf.Variable]],
        name: str | None = None,
        experimental_aggregate_gradients: bool = True,
    ) -> Any:
        pairs = list(grads_and_vars)
        if experimental_aggregate_gradients:
            pairs = self.inner_optimizer._aggregate_gradients(pairs)
        return self._apply(
            pairs,
            lambda others: self.inner_optimizer.apply_gradients(
                others, name=name, experimental_aggregate_gradients=False
            ),
        )


# Files name the public class, whose constructor chooses between the two again.
for _family in (_NewStyleRule, _LegacyRule, BayesianLearningRule):
    _family.__name__ = _family.__qualname__ = "BayesianLearningRule"
    keras.utils.register_keras_serializable(PACKAGE)(_family)
