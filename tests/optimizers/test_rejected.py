"""Arguments and nestings that optimizers reject, each with a remedy."""

import numpy as np
import pytest
import tensorflow as tf
from larq_nobn._keras import keras
from larq_nobn.optimizers import (
    AdaptiveGradientClipping,
    BayesianLearningRule,
    BooleanAccumulation,
    ParameterGroups,
)
from optimizers.networks import apply, gradients, variables

new, legacy = keras.optimizers, keras.optimizers.legacy
scaled = keras.mixed_precision.LossScaleOptimizer
clipping, rule = AdaptiveGradientClipping, BayesianLearningRule
# One of each argument with a sentence of its own; `test_wrong_kinds.py` has the rest.
ARGUMENTS = [
    (clipping, (3,), "optimizer=3 is not a Keras optimizer. Pass an optimizer"),
    (clipping, ("sgd", 0.0), r"clip_factor=0.0 is outside \(0, inf\)"),
    (clipping, ("sgd", 0.1, 0.1, "^a"), r"Write exclude=\('\^a',\)"),
    (clipping, ("sgd", 0.1, 0.1, ("[",)), r"'\[' in exclude is not a reg"),
    (clipping, ("sgd", 0.1, 0.1, (), {"a": 1}), r"\{'a': 1\} gives no tuple"),
    (ParameterGroups, ("sgd", 4.0), "multipliers is of type float, but .* such as {"),
    (ParameterGroups, ("sgd", {"a": -1}), r"\['a'\]=-1 is outside .* Use 0 to freeze"),
    (ParameterGroups, (legacy.Adam(), {}), "Adam.* is a legacy .* Use the optim"),
    (rule, ("sgd", 1.0, -1), r"prior_weight=-1 is outside \[0, inf\). Use 0"),
    (rule, ("sgd", 1.0, 0.1, 1), r"prior=1 is outside \(0, 1\). Use 0.5"),
    (BooleanAccumulation, (0,), r"rate=0 is outside \(0, inf\). Use 1000, or 300 "),
]


@pytest.mark.parametrize("optimizer, arguments, message", ARGUMENTS)
def test_arguments(optimizer, arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        optimizer(*arguments)


def adam_in_rule():
    return rule("adam", 1.0, 0.1)


CLIPS = "already clips by an AdaptiveGradientClipping.*inner_op"
ROUND = r"Write LossScaleOptimizer\(AdaptiveGradientClipping\(...\)\)"
NESTINGS = [
    (lambda: clipping(ParameterGroups(clipping("adam"), {"a": 2.0})), CLIPS),
    (lambda: clipping(scaled(new.Adam())), ROUND),
    (
        lambda: ParameterGroups(clipping(ParameterGroups(new.Adam(), {})), {}),
        "has ParameterGroups already.* into one",
    ),
    (
        lambda: rule(clipping(adam_in_rule()), 1.0, 0.1),
        "is already a BayesianLearningRule",
    ),
    (
        lambda: ParameterGroups(clipping(adam_in_rule()), {}),
        r"Write BayesianLearningRule\(ParameterG",
    ),
]


@pytest.mark.parametrize("make, message", NESTINGS)
def test_nestings(make, message):
    with pytest.raises(TypeError, match=message):
        make()


def test_a_pattern_that_matches_nothing_is_named_with_some_variables():
    groups = ParameterGroups("adam", {"^head/": 2.0, "^shift:0$": 4.0})
    message = (
        r"The pattern '\^shift:0\$' in multipliers matches none of the 3 variables, "
        "such as conv/kernel:0, conv/gain:0, head/kernel:0. Correct the pattern"
    )
    with pytest.raises(ValueError, match=message):
        groups.build(variables())
    with pytest.raises(ValueError, match=message):
        apply(groups, gradients(), variables())


def test_a_network_without_random_kernels():
    message = "None of the 3 variables, such as conv/kernel:0.* is the kernel of a Bern"
    with pytest.raises(ValueError, match=message):
        apply(adam_in_rule(), gradients(), variables())


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite(bad):
    weight = tf.Variable([1.0, -1.0], name="kernel")
    with pytest.raises(tf.errors.InvalidArgumentError, match="of kernel:0 is not fin"):
        apply(BooleanAccumulation(), [[bad, 0.0]], [weight])
    np.testing.assert_array_equal(weight, [1, -1])
