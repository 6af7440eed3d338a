"""The Bayesian learning rule: its steps, its goal, and the optimizer beside it."""

import json

import larq_nobn as nobn
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
    ParameterGroups,
)
from larq_nobn.optimizers._bayesian import natural_gradient_step
from larq_nobn.quantizers._bernoulli_sign import bernoulli_sign
from numpy.testing import assert_allclose, assert_array_equal
from optimizers.bayesian_model import IMAGES, LABELS, build, kernel, natural_of, step

new, legacy = keras.optimizers, keras.optimizers.legacy
schedules = keras.optimizers.schedules
FAMILIES = [new, legacy]
START = np.array([[0.5, -1.0, 0.0], [2.0, -0.1, 0.3]])


def apply(optimizer, *pairs):
    return optimizer.apply_gradients([(tf.convert_to_tensor(g), v) for g, v in pairs])


def apply_alone(optimizer, *pairs):
    """Without the operation that only a graph can return."""
    apply(optimizer, *pairs)


def other(name="other"):
    return tf.Variable([1.0, 2.0], name=name)


def latent(variable):
    return variable.latent_variable.numpy()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_numbers_of_the_method(dtype):
    natural = tf.constant([0.5, -1.0], dtype)
    with tf.GradientTape() as tape:
        tape.watch(natural)
        w = bernoulli_sign(natural, tf.constant([0.7, 0.2], dtype), 0.5, False)
    gradient = tape.gradient(w, natural, tf.constant([1.0, -2.0], dtype))
    found = natural_gradient_step(natural, gradient, 0.1, 0.01, 0.0)
    # g·s for s = (0.2407413, 0.0217558), by the relaxation and the divisor together.
    scaled = gradient / (1 - tf.tanh(natural) ** 2)
    assert_allclose(scaled, [0.2407413, -2 * 0.0217558], rtol=3e-6)
    assert_allclose(found, [0.4754259, -0.9946488], atol=1e-7)


@pytest.mark.parametrize("compiled", [None, False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_several_steps_with_prior_and_schedule(family, compiled):
    rates = schedules.ExponentialDecay(0.5, 1, 0.25)
    rule = BayesianLearningRule(family.SGD(0.1, momentum=0.5), rates, 0.2, prior=0.7)
    inner = family.SGD(0.1, momentum=0.5)
    binary, beside, alone = kernel(START), other(), other()
    expected, rng = START.copy(), np.random.default_rng(0)

    def run(raw, slope):
        apply(rule, (raw, binary), (slope, beside))

    if compiled is not None:
        inner._create_all_weights([alone]) if family is legacy else None
        rule.build([binary, beside]) if family is new else None
        rule._create_all_weights([binary, beside]) if family is legacy else None
        run = tf.function(run, jit_compile=compiled)
    for t in range(3):
        raw, slope = rng.normal(size=START.shape), rng.normal(size=2)
        run(tf.constant(raw, tf.float32), tf.constant(slope, tf.float32))
        apply(inner, (slope.astype("float32"), alone))
        expected = step(expected, raw.astype("float32"), 0.5 * 0.25**t, 0.2, 0.7)
        assert_allclose(latent(binary), expected, rtol=2e-6)
    assert_array_equal(beside, alone)  # bitwise identical what the inner optimizer does
    assert int(rule.iterations) == 3


def test_exact_gradients_lead_to_the_posterior():
    # Of L(w) = a·w the mean is a·tanh(λ), and a·tanh(λ) + ρ KL is least at λ₀ - a/ρ.
    a, weight, prior = np.array([[0.3, -0.2, 0.05]]), 0.25, 0.6
    odds = 0.5 * np.log(prior / (1 - prior))
    binary = kernel(np.zeros((1, 3)))
    rule = BayesianLearningRule(new.SGD(), 0.5, weight, prior)
    for _ in range(150):  # each brings it nearer by 1 - ηρ
        slope = a / np.cosh(latent(binary)) ** 2
        apply(rule, (slope.astype("float32"), binary))
    best = odds - a / weight
    assert_allclose(latent(binary), best, atol=2e-6)  # the guard, and float32

    def free_energy(natural):
        q = (1 + np.tanh(natural)) / 2
        divergence = q * np.log(q / prior) + (1 - q) * np.log((1 - q) / (1 - prior))
        return a * np.tanh(natural) + weight * divergence

    for away in (-0.01, 0.01):
        assert (free_energy(best) < free_energy(best + away)).all()


def test_draws_lead_to_the_posterior():
    # Many weights of one linear loss: their mean forgets the noise of the draws.
    a, weight, count = 0.1, 0.2, 20_000
    binary = kernel(np.zeros((1, count)))
    rule = BayesianLearningRule(new.SGD(), 0.1, weight)
    rng = np.random.default_rng(1)
    uniform = tf.Variable(tf.zeros((1, count)))

    @tf.function
    def learn():
        noise = tf.convert_to_tensor(uniform)
        natural = tf.convert_to_tensor(binary.latent_variable)
        with tf.GradientTape() as tape:
            tape.watch(natural)
            loss = a * tf.reduce_sum(bernoulli_sign(natural, noise, 0.1, False))
        rule.apply_gradients([(tape.gradient(loss, natural), binary)])

    for _ in range(400):
        uniform.assign(rng.uniform(1e-7, 1 - 1e-7, (1, count)))
        learn()
    # At T = 0.1 the relaxed mean differs from the binary one by a few percent.
    assert latent(binary).mean() == pytest.approx(-a / weight, rel=0.05)


def test_the_inner_optimizer_never_sees_the_kernels():
    def inner():
        return new.AdamW(0.1, weight_decay=0.5, global_clipnorm=0.1, use_ema=True)

    rule, plain = BayesianLearningRule(inner(), 1.0, 0.0), inner()
    binary, beside, alone = kernel(START), other(), other()
    raw = np.full_like(START, 100.0, np.float32)
    for _ in range(2):
        apply(rule, (raw * 0, binary), ([0.1, 0.2], beside))
        apply(plain, ([0.1, 0.2], alone))
    assert_array_equal(beside, alone)
    assert_array_equal(latent(binary), START.astype("float32"))  # no decay
    apply(rule, (raw, binary), ([0.1, 0.2], beside))
    apply(plain, ([0.1, 0.2], alone))
    assert_array_equal(beside, alone)  # the norm of all is that of the others
    assert len(rule.variables) == len(plain.variables)
    moved = latent(binary)
    rule.finalize_variable_values([binary, beside])
    plain.finalize_variable_values([alone])
    assert_array_equal(beside, alone)
    assert_array_equal(latent(binary), moved)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_schedule_moves_also_where_every_variable_follows_the_rule(family):
    rates = schedules.PiecewiseConstantDecay([0], [0.5, 0.125])
    rule = BayesianLearningRule(family.SGD(), rates, 0.0)
    binary, expected = kernel(START), START
    for rate in (0.5, 0.125):
        apply(rule, (np.ones(START.shape, np.float32), binary))
        expected = step(expected, 1.0, rate, 0.0)
    assert_allclose(latent(binary), expected, rtol=1e-6)


def test_larqs_case_optimizer_inside_and_around():
    rates = schedules.PiecewiseConstantDecay([0], [0.5, 0.125])

    def case(*first):
        boolean = BooleanAccumulation(1.0)
        pairs = [*first, (lambda v: "flipping" in v.name, boolean)]
        return lq.optimizers.CaseOptimizer(*pairs, default_optimizer=legacy.SGD(0.1))

    belongs = BayesianLearningRule.is_bayesian_variable

    def alone():
        return belongs, BayesianLearningRule(legacy.SGD(), rates, 0.0)

    for optimizer in (
        BayesianLearningRule(case(), rates, 0.0),
        case(alone()),
        AdaptiveGradientClipping(case(alone()), 1e-9, exclude=("^other",)),
        BayesianLearningRule(
            AdaptiveGradientClipping(case(), 1e-9, exclude=("^other",)), rates, 0.0
        ),
    ):
        binary, beside, flipping = kernel(START), other(), other("flipping")
        for _ in range(2):
            pairs = ([1.0, 1.0], beside), ([2.0, 0.0], flipping)
            apply(optimizer, (np.full(START.shape, 0.1, "float32"), binary), *pairs)
        expected = step(step(START, 0.1, 0.5, 0.0), 0.1, 0.125, 0.0)
        assert_allclose(latent(binary), expected, rtol=1e-6)
        assert_allclose(beside, [0.8, 1.8])
        assert_array_equal(flipping, [-1, 1])
    assert belongs(binary) and not belongs(beside)


@pytest.mark.parametrize("family", FAMILIES)
def test_clipping_leaves_natural_parameters_alone_inside_and_around(family):
    ends = []
    for wrap in (
        lambda inner: BayesianLearningRule(clipping(inner), 0.5, 0.1),
        lambda inner: clipping(BayesianLearningRule(inner, 0.5, 0.1)),
    ):
        binary, beside = kernel(START), other()
        raw = 100 * np.ones(START.shape, np.float32)
        apply(wrap(family.SGD(1.0)), (raw, binary), ([300.0, 400.0], beside))
        assert_allclose(latent(binary), step(START, raw, 0.5, 0.1), rtol=1e-6)
        length = np.linalg.norm(beside.numpy() - [1, 2])
        assert length == pytest.approx(0.01 * np.sqrt(5), rel=1e-4)
        ends.append((latent(binary), beside.numpy()))
    for one, two in zip(*ends, strict=True):
        assert_array_equal(one, two)


def clipping(inner):
    return AdaptiveGradientClipping(inner, 0.01)


def test_clipping_sees_natural_parameters_that_another_optimizer_trains():
    binary = kernel(START)
    apply(clipping(new.SGD(1.0)), (np.full(START.shape, 100.0, np.float32), binary))
    moved = np.linalg.norm(latent(binary) - START, axis=0)
    assert_allclose(moved, 0.01 * np.linalg.norm(START, axis=0), rtol=1e-4)


def test_groups_belong_inside():
    rule = BayesianLearningRule(ParameterGroups(new.SGD(0.1), {"other": 4.0}), 0.5, 0.1)
    binary, beside = kernel(START), other()
    apply(rule, (np.ones(START.shape, np.float32), binary), ([1.0, 1.0], beside))
    assert_allclose(beside, [0.6, 1.6], rtol=1e-6)
    assert_allclose(latent(binary), step(START, 1.0, 0.5, 0.1), rtol=1e-6)
    for outer in (rule, AdaptiveGradientClipping(rule)):
        with pytest.raises(TypeError, match=r"Write BayesianLearningRule\(ParameterG"):
            ParameterGroups(outer, {"other": 4.0})


def test_loss_scaling_goes_around_it_and_its_overflow_skips_a_step():
    binary, beside = kernel(START), other()
    scaler = keras.mixed_precision.LossScaleOptimizer(
        BayesianLearningRule(new.SGD(1.0), 0.5, 0.1), initial_scale=1024.0
    )
    scaler.get_scaled_loss(tf.constant(1.0))
    ones = np.full(START.shape, 1024.0, np.float32)
    raw = scaler.get_unscaled_gradients([tf.constant(ones), tf.constant([1024.0, 0])])
    apply(scaler, (raw[0], binary), (raw[1], beside))
    expected = step(START, 1.0, 0.5, 0.1)
    assert_allclose(latent(binary), expected, rtol=1e-6)
    assert_allclose(beside, [0, 2])
    ones[0, 0] = np.inf
    apply(scaler, (ones, binary), ([1.0, 1.0], beside))
    assert_allclose(latent(binary), expected, rtol=1e-6)
    assert_allclose(beside, [0, 2])
    assert float(scaler.loss_scale) == 512.0


def test_accumulated_micro_batches():
    binary, total = kernel(START), tf.Variable(tf.zeros(START.shape))
    rule = BayesianLearningRule(new.SGD(), 0.5, 0.1)
    rule.build([binary])

    def update():
        rule.apply_gradients([(tf.identity(total), binary)])
        total.assign(tf.zeros_like(total))
        return True

    @tf.function
    def learn(gradient, last):
        total.assign_add(gradient)
        tf.cond(last, update, lambda: False)

    part = tf.fill(START.shape, 0.5)
    for last in (False, True):
        learn(part, tf.constant(last))
    assert_allclose(latent(binary), step(START, 1.0, 0.5, 0.1), rtol=1e-6)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_fit_takes_the_step_of_the_draw_and_keeps_the_constraint(policy):
    model = build(BayesianLearningRule(new.SGD(0.1), 1e6, 0.0), policy)
    scaled = isinstance(model.optimizer, keras.mixed_precision.LossScaleOptimizer)
    assert scaled == (policy == "mixed_float16")
    first = model.get_layer("first").get_weights()[0]
    start = natural_of(model)
    for _ in range(6):  # loss scaling skips steps until its scale has come down
        if np.array_equal(natural_of(model), start):
            model.train_on_batch(IMAGES[:4], LABELS[:4])
    found = natural_of(model)
    moved = found != start
    assert moved.mean() > 0.9
    assert_array_equal(np.abs(found[moved & (np.abs(found) > 4)]), 5)  # the constraint
    assert (model.get_layer("first").get_weights()[0] != first).any()


def test_a_quantized_variable_is_read_as_its_natural_parameter():
    binary = kernel(START)
    with lq.context.quantized_scope(True):
        apply(
            BayesianLearningRule(new.SGD(), 0.5, 0.1),
            (np.ones(START.shape, np.float32), binary),
        )
    assert_allclose(latent(binary), step(START, 1.0, 0.5, 0.1), rtol=1e-6)


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_variables_without_a_gradient_stay():
    rule, binary, beside = (
        BayesianLearningRule(new.SGD(1.0), 1.0, 0.1),
        kernel(START),
        other(),
    )
    rule.apply_gradients([(None, binary), (tf.constant([1.0, 1.0]), beside)])
    assert_array_equal(latent(binary), START.astype("float32"))
    assert_allclose(beside, [0, 1])
    with pytest.raises(ValueError, match="No gradients provided for any variable"):
        rule.apply_gradients([(None, binary), (None, beside)])
    assert rule.apply_gradients([]) == 1


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_changes_nothing(family, bad):
    rule = BayesianLearningRule(family.SGD(1.0), 1.0, 0.1)
    good, poor, beside = kernel(START), kernel(START), other()
    raw = np.ones(START.shape, np.float32)
    wrong = np.where(START == 0.5, bad, raw).astype(np.float32)
    pairs = (raw, good), (wrong, poor), ([1.0, 1.0], beside)
    for run in (apply, tf.function(apply_alone, autograph=False)):
        with pytest.raises(
            tf.errors.InvalidArgumentError, match="of kernel:0 is not finite"
        ):
            run(rule, *pairs)
        for variable in (good, poor):
            assert_array_equal(latent(variable), START.astype("float32"))
        assert_array_equal(beside, [1, 2])
        assert int(rule.iterations) == 0


def test_a_gradient_that_is_not_finite_counts_as_zero_under_xla():
    rule, binary = BayesianLearningRule(new.SGD(), 0.5, 0.1), kernel(START)
    rule.build([binary])
    raw = np.where(START == 0.5, np.nan, 1.0).astype(np.float32)
    run = tf.function(apply_alone, jit_compile=True, autograph=False)
    run(rule, (tf.constant(raw), binary))
    expected = step(START, np.nan_to_num(raw), 0.5, 0.1)
    assert_allclose(latent(binary), expected, rtol=1e-5)


def test_rates_are_those_of_both():
    rule = BayesianLearningRule(new.Adam(0.25), 3.0, 0.1)
    for name in ("lr", "learning_rate"):
        keras.backend.set_value(getattr(rule, name), 0.5)
        assert keras.backend.get_value(rule.inner_optimizer.learning_rate) == 0.5
    assert rule.natural_learning_rate == 3.0


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rate", [2.0, schedules.CosineDecay(2.0, 10)])
def test_config_round_trip(family, rate):
    rule = BayesianLearningRule(family.SGD(0.25, momentum=0.5), rate, 0.1, prior=0.25)
    assert isinstance(rule, family.Optimizer)
    config = rule.get_config()
    assert {"learning_rate", "prior_weight", "prior", "optimizer"} < set(config)
    restored = BayesianLearningRule.from_config(json.loads(json.dumps(config)))
    assert restored.get_config() == config
    assert type(restored) is type(rule)
    again = new.deserialize(new.serialize(rule), use_legacy_optimizer=family is legacy)
    assert again.get_config() == config
    assert new.get(rule) is rule


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ((3, 1.0, 0.1), TypeError, "optimizer=3 is not a Keras optimizer. Pass an opt"),
        (("sgd", 0, 0.1), ValueError, r"learning_rate=0 is outside \(0, inf\). Try po"),
        (("sgd", "1", 0.1), TypeError, "learning_rate='1' is not a number; it must"),
        (("sgd", 1.0, -1), ValueError, r"prior_weight=-1 is outside \[0, inf\). Use 0"),
        (("sgd", 1.0, 0.1, 1), ValueError, r"prior=1 is outside \(0, 1\). Use 0.5"),
    ],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        BayesianLearningRule(*arguments)


def test_wrong_nesting():
    scaled = keras.mixed_precision.LossScaleOptimizer(new.Adam())
    message = r"belongs around .* Write LossScaleOptimizer\(BayesianLearningRule"
    with pytest.raises(TypeError, match=message):
        BayesianLearningRule(scaled, 1.0, 0.1)
    rule = BayesianLearningRule("adam", 1.0, 0.1)
    for inner in (rule, AdaptiveGradientClipping(rule)):
        with pytest.raises(TypeError, match="follows a BayesianLearningRule already"):
            BayesianLearningRule(inner, 1.0, 0.1)


def test_a_network_without_random_kernels_is_rejected():
    rule = BayesianLearningRule("sgd", 1.0, 0.1)
    message = "None of the 1 variables, such as other:0, is the kernel of a BernoulliS"
    with pytest.raises(ValueError, match=message):
        apply(rule, ([1.0, 1.0], other()))


@pytest.mark.convert
def test_a_trained_network_converts_to_its_mode(tmp_path):
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(32, 3, padding="same")(image)
    x = lq.layers.QuantConv2D(
        *(32, 3),
        padding="same",
        pad_values=1.0,
        input_quantizer="approx_sign",
        kernel_quantizer="bernoulli_sign",
        name="binary",
    )(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, keras.layers.Dense(3, name="head")(x))
    model.compile(BayesianLearningRule("adam", 10.0, 1e-4), "mse")
    images = np.random.default_rng(0).random((8, 8, 8, 1), "float32")
    model.fit(images, np.eye(8, 3), epochs=2, verbose=0)
    report = nobn.convert(model, tmp_path / "mode.tflite", data=images)
    assert report.lce_bconv2d == report.binary_layers == 1
    assert report.verify["unexplained"] == 0


def test_docstring():
    titles = ["Arguments", "Raises", "Example", "References"]
    titles.append("Differences from the paper")
    arguments = ["optimizer", "learning_rate", "prior_weight", "prior"]
    check_docstring(BayesianLearningRule, titles, arguments)
