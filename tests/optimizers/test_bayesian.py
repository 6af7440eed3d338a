"""The Bayesian learning rule: its steps, its goal, and the optimizer beside it."""

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from contract_docstring import check_docstring
from larq_nobn._keras import keras
from larq_nobn.optimizers import (
    AdaptiveGradientClipping,
    BayesianLearningRule,
    BooleanAccumulation,
)
from numpy.testing import assert_allclose, assert_array_equal
from optimizers.networks import START, apply, random_kernel
from optimizers.networks import bayesian_step as step

new, legacy = keras.optimizers, keras.optimizers.legacy
schedules = keras.optimizers.schedules
ONES = np.ones(START.shape, np.float32)


def other(name="other"):
    return tf.Variable([1.0, 2.0], name=name)


def latent(variable):
    return variable.latent_variable.numpy()


def built(rule, weights):
    if isinstance(rule, legacy.Optimizer):
        rule._create_all_weights(weights)
    else:
        rule.build(weights)


@pytest.mark.parametrize("family", [new, legacy])
def test_several_steps_with_prior_and_schedule(family):
    rates = schedules.ExponentialDecay(0.5, 1, 0.25)
    rule = BayesianLearningRule(family.SGD(0.1, momentum=0.5), rates, 0.2, prior=0.7)
    inner = family.SGD(0.1, momentum=0.5)
    binary, beside, alone = random_kernel(), other(), other()
    built(rule, [binary, beside])

    @tf.function(autograph=False)
    def run(raw, slope):
        apply(rule, [raw, slope], [binary, beside])

    expected, rng = START.copy(), np.random.default_rng(0)
    for t in range(3):
        raw = rng.normal(size=START.shape).astype("float32")
        slope = rng.normal(size=2).astype("float32")
        run(tf.constant(raw), tf.constant(slope))
        apply(inner, [slope], [alone])
        expected = step(expected, raw, 0.5 * 0.25**t, 0.2, 0.7)
        assert_allclose(latent(binary), expected, rtol=2e-6)
    assert_array_equal(beside, alone)  # bitwise identical what the inner optimizer does
    assert int(rule.iterations) == 3


def test_exact_gradients_lead_to_the_posterior():
    # Of L(w) = a·w the mean is a·tanh(λ), and a·tanh(λ) + ρ KL is least at λ₀ - a/ρ.
    a, weight, prior = np.array([[0.3, -0.2, 0.05]]), 0.25, 0.6
    odds = 0.5 * np.log(prior / (1 - prior))
    binary = random_kernel(np.zeros((1, 3)))
    rule = BayesianLearningRule(new.SGD(), 0.5, weight, prior)
    for _ in range(150):  # each brings it nearer by 1 - ηρ
        slope = a / np.cosh(latent(binary)) ** 2
        apply(rule, [slope.astype("float32")], [binary])
    best = odds - a / weight
    assert_allclose(latent(binary), best, atol=2e-6)  # the guard, and float32

    def free_energy(natural):
        q = (1 + np.tanh(natural)) / 2
        divergence = q * np.log(q / prior) + (1 - q) * np.log((1 - q) / (1 - prior))
        return a * np.tanh(natural) + weight * divergence

    for away in (-0.01, 0.01):
        assert (free_energy(best) < free_energy(best + away)).all()


def test_the_inner_optimizer_never_sees_the_kernels():
    def inner():
        return new.AdamW(0.1, weight_decay=0.5, global_clipnorm=0.1, use_ema=True)

    rule, plain = BayesianLearningRule(inner(), 1.0, 0.0), inner()
    binary, beside, alone = random_kernel(), other(), other()
    for raw in (0 * ONES, 0 * ONES, 100 * ONES):
        assert_array_equal(latent(binary), START.astype("float32"))  # no decay
        apply(rule, [raw, [0.1, 0.2]], [binary, beside])
        apply(plain, [[0.1, 0.2]], [alone])
        assert_array_equal(beside, alone)  # the norm of all is that of the others
    assert len(rule.variables) == len(plain.variables)
    moved = latent(binary)
    rule.finalize_variable_values([binary, beside])
    plain.finalize_variable_values([alone])
    assert_array_equal(beside, alone)
    assert_array_equal(latent(binary), moved)


def test_larqs_case_optimizer_inside_and_around():
    rates = schedules.PiecewiseConstantDecay([0], [0.5, 0.125])

    def case(*first):
        boolean = BooleanAccumulation(1.0)
        pairs = [*first, (lambda v: "flipping" in v.name, boolean)]
        return lq.optimizers.CaseOptimizer(*pairs, default_optimizer=legacy.SGD(0.1))

    def clipping(inner):
        return AdaptiveGradientClipping(inner, 1e-9, exclude=("^other",))

    belongs = BayesianLearningRule.is_bayesian_variable

    def alone():
        return belongs, BayesianLearningRule(legacy.SGD(), rates, 0.0)

    for optimizer in (
        BayesianLearningRule(case(), rates, 0.0),
        case(alone()),
        clipping(case(alone())),
        BayesianLearningRule(clipping(case()), rates, 0.0),
    ):
        weights = binary, beside, flipping = random_kernel(), other(), other("flipping")
        for _ in range(2):
            apply(optimizer, [0.1 * ONES, [1.0, 1.0], [2.0, 0.0]], weights)
        expected = step(step(START, 0.1, 0.5, 0.0), 0.1, 0.125, 0.0)
        assert_allclose(latent(binary), expected, rtol=1e-6)
        assert_allclose(beside, [0.8, 1.8])
        assert_array_equal(flipping, [-1, 1])
    assert belongs(binary) and not belongs(beside)


@pytest.mark.parametrize("family, bad", [(new, np.nan), (legacy, np.inf)])
def test_a_gradient_that_is_not_finite_changes_nothing(family, bad):
    rule = BayesianLearningRule(family.SGD(1.0), 1.0, 0.1)
    weights = good, poor, beside = random_kernel(), random_kernel(), other()
    wrong = np.where(START == 0.5, bad, ONES).astype(np.float32)
    for run in (apply, tf.function(apply, autograph=False)):
        with pytest.raises(
            tf.errors.InvalidArgumentError, match="of kernel:0 is not finite"
        ):
            run(rule, [ONES, wrong, np.ones(2, "float32")], weights)
        for variable in (good, poor):
            assert_array_equal(latent(variable), START.astype("float32"))
        assert_array_equal(beside, [1, 2])
        assert int(rule.iterations) == 0


def test_the_natural_rate_is_its_own():
    rule = BayesianLearningRule(new.Adam(0.25), schedules.CosineDecay(3.0, 10), 0.1)
    assert rule.get_config()["learning_rate"]["class_name"] == "CosineDecay"
    assert BayesianLearningRule(new.Adam(0.25), 3.0, 0.1).natural_learning_rate == 3.0


def test_natural_parameters_keep_their_constraint():
    binary = random_kernel(limit=5.0)
    apply(BayesianLearningRule("adam", 1e6, 0.0), [ONES], [binary])
    assert_array_equal(np.abs(latent(binary)), 5)


@pytest.mark.parametrize(
    "optimizer, arguments",
    [
        (BayesianLearningRule, ["optimizer", "learning_rate", "prior_weight", "prior"]),
        (BooleanAccumulation, ["learning_rate", "name"]),
    ],
)
def test_docstring(optimizer, arguments):
    titles = ["Arguments", "Raises", "Example", "References"]
    check_docstring(optimizer, [*titles, "Differences from the paper"], arguments)
