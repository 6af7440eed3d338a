"""Learning rates by group: the rule, every optimizer of Keras, and what is rejected."""

import json

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn._keras import keras
from larq_nobn.callbacks._clipping import clipping_in
from larq_nobn.optimizers import AdaptiveGradientClipping, ParameterGroups
from larq_nobn.optimizers._groups import factors_by_name, names_in_full
from numpy.testing import assert_allclose, assert_array_equal
from optimizers.agc_model import IMAGES, LABELS, build, eager, fit
from optimizers.groups_model import (
    FACTORS,
    MULTIPLIERS,
    OPTIMIZERS,
    apply,
    apply_by_hand,
    gradients,
    new,
    variables,
)
from replicas import assert_replicas_agree

legacy = new.legacy
# A step is rounded before it is multiplied: up to 2.5 units in the last place for 4.
CLOSE = {"rtol": 1e-5, "atol": 2e-6}


def numpy(weights):
    return [weight.numpy() for weight in weights]


def assert_close(first, second, **tolerance):
    for a, b in zip(first, second, strict=True):
        assert_allclose(a, b, **(tolerance or CLOSE))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_movements_are_multiplied_whatever_the_optimizer(name):
    ours, theirs = variables(), variables()
    groups = ParameterGroups(OPTIMIZERS[name](), MULTIPLIERS)
    plain = OPTIMIZERS[name]()
    for seed in range(3):
        apply(groups, gradients(seed), ours)
        apply_by_hand(plain, gradients(seed), theirs, FACTORS)
        assert_close(numpy(ours), numpy(theirs))
    assert_array_equal(ours[0], theirs[0])  # in no group
    assert int(groups.iterations) == 3


@pytest.mark.parametrize("compiled", [False, True])
def test_adam_with_decay_equals_the_closed_form_in_a_graph(compiled):
    # Betas that float32 can represent exactly, as 1 - beta ** t would lose digits.
    rate, decay, beta_1, beta_2, epsilon = 0.1, 0.2, 0.5, 0.75, 1e-7
    weights = variables()
    expected = [w.astype("float64") for w in numpy(weights)]
    first = [np.zeros_like(w) for w in expected]
    second = [np.zeros_like(w) for w in expected]
    inner = new.AdamW(rate, decay, beta_1, beta_2, epsilon)
    groups = ParameterGroups(inner, MULTIPLIERS)
    groups.build(weights)
    step = tf.function(lambda raw: apply(groups, raw, weights), jit_compile=compiled)
    for t in range(1, 4):
        raw = gradients(t)
        step([tf.constant(g) for g in raw])
        for i, (g, factor) in enumerate(zip(raw, FACTORS, strict=True)):
            own = rate * factor
            first[i] = beta_1 * first[i] + (1 - beta_1) * g
            second[i] = beta_2 * second[i] + (1 - beta_2) * np.square(g)
            slope = own * np.sqrt(1 - beta_2**t) / (1 - beta_1**t)
            expected[i] *= 1 - own * decay
            expected[i] -= slope * first[i] / (np.sqrt(second[i]) + epsilon)
        assert_close(numpy(weights), expected)


def test_a_factor_of_zero_freezes():
    weights = variables()
    start = numpy(weights)
    groups = ParameterGroups(new.AdamW(0.1, weight_decay=0.2), {"^conv/": 0})
    raw = gradients()
    raw[1][:] = np.nan
    apply(groups, raw, weights)
    assert_array_equal(weights[0], start[0])
    assert_array_equal(weights[1], start[1])
    assert np.all(weights[2].numpy() != start[2])


def test_the_first_pattern_counts_and_only_the_last_part_need_match():
    names = ["conv/gain:0", "net/head/kernel:0", "gain:0", "again:0", "conv/bias:0"]
    multipliers = {"^gain:0$": 4.0, "^head/": 0.5, "^conv/": 2.0, "gain|head": 3.0}
    assert factors_by_name(multipliers, names) == [4.0, 0.5, 4.0, 3.0, 2.0]
    assert factors_by_name({}, names) == [1.0] * 5


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


def test_names_that_a_file_knows_in_full():
    full = ["a/kernel:0", "b/gain:0"]
    assert names_in_full(["a/kernel:0", "gain:0"], full) == full
    for other in (["a/kernel:0", "ain:0"], ["kernel:0"], ["kernel:0", "c/gain:0"]):
        assert names_in_full(other, full) == other


@pytest.mark.parametrize("name", ["sgd", "momentum", "rmsprop", "Adagrad", "Adam"])
def test_sparse_gradients(name):
    def table():
        return tf.Variable(np.ones((5, 2), np.float32), name="table/embeddings")

    values = tf.constant([[3.0, 0.0], [3.0, 8.0], [1.0, 1.0]])
    rows = tf.IndexedSlices(values, tf.constant([1, 1, 4]), tf.constant([5, 2]))
    ours, theirs = table(), table()
    groups = ParameterGroups(OPTIMIZERS[name](), {"^embeddings:0$": 4.0})
    plain = OPTIMIZERS[name]()
    for _ in range(2):
        tf.function(lambda: apply(groups, [rows], [ours]))()
        apply_by_hand(plain, [rows], [theirs], [4.0])
        assert_allclose(ours, theirs, **CLOSE)
    assert_array_equal(ours[0], [1.0, 1.0])


def test_constraints_come_after_the_scaling():
    weight = tf.Variable([0.9, -0.9], name="w", constraint=lq.constraints.WeightClip(1))
    groups = ParameterGroups(new.SGD(1.0), {"w": 0.5})
    groups.apply_gradients([(tf.constant([-0.4, 0.1]), weight)])
    assert_allclose(weight, [1.0, -0.95])  # 0.95 if it came before


def test_moving_averages_are_those_of_the_scaled_steps():
    weight = tf.Variable([1.0, 2.0], name="w")
    inner = new.SGD(1.0, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=None)
    groups = ParameterGroups(inner, {"w": 3.0})
    for _ in range(2):
        groups.apply_gradients([(tf.constant([0.5, 0.25]), weight)])
    assert_allclose(weight, [-2.0, 0.5])
    groups.finalize_variable_values([weight])
    # Halfway from 1 to -0.5 to -2, and from 2 to 1.25 to 0.5.
    assert_allclose(weight, [-0.875, 1.0625])


def clipped(inner):
    return AdaptiveGradientClipping(inner, 0.02, exclude=())


NESTINGS = {
    "outside": lambda inner: ParameterGroups(clipped(inner), MULTIPLIERS),
    "inside": lambda inner: clipped(ParameterGroups(inner, MULTIPLIERS)),
}


@pytest.mark.parametrize("nesting", NESTINGS)
@pytest.mark.parametrize("name", ["sgd", "decay"])
def test_clipping_sees_gradients_that_are_not_scaled(nesting, name):
    ours, theirs = variables(), variables()
    optimizer = NESTINGS[nesting](OPTIMIZERS[name]())
    plain = clipped(OPTIMIZERS[name]())
    for seed in range(2):
        apply(optimizer, gradients(seed), ours)
        apply_by_hand(plain, gradients(seed), theirs, FACTORS)
        assert_close(numpy(ours), numpy(theirs))
    assert [type(each) for each in clipping_in(optimizer)] == [type(plain)]
    assert isinstance(optimizer, new.Optimizer)
    restored = new.deserialize(new.serialize(optimizer))
    assert restored.get_config() == optimizer.get_config()


@pytest.mark.parametrize(
    "policy, compiled",
    [("float32", True), ("mixed_bfloat16", False), ("mixed_float16", False)],
)
def test_fit_moves_as_the_plain_optimizer_times_the_factors(policy, compiled):
    multipliers = {"^bias:0$": 4.0, "^binary/": 0.5}
    moves = []
    for optimizer in (new.SGD(0.1), ParameterGroups(new.SGD(0.1), multipliers)):
        how = {"jit_compile": True} if compiled else {"run_eagerly": True}
        model = build(optimizer, policy=policy, **how)
        scaled = isinstance(model.optimizer, keras.mixed_precision.LossScaleOptimizer)
        assert scaled == (policy == "mixed_float16")
        start = end = model.get_weights()
        for _ in range(4):  # loss scaling skips steps until its scale has come down
            if np.array_equal(start[0], end[0]):
                model.train_on_batch(IMAGES[:4], LABELS[:4])
                end = model.get_weights()
        moves.append([b - a for a, b in zip(start, end, strict=True)])
    factors = factors_by_name(multipliers, [v.name for v in model.trainable_variables])
    assert sorted(factors) == [0.5, 1.0, 1.0, 1.0, 4.0, 4.0, 4.0]
    for plain, ours, factor in zip(*moves, factors, strict=True):
        assert np.any(plain != 0)
        assert_allclose(ours, factor * plain, **CLOSE)


def test_an_optimizer_that_compiles_its_update():
    results = []
    for compiled in (False, True):
        inner = new.Adam(0.1)
        inner.jit_compile = compiled  # the constructor ignores it without a GPU
        weights = variables()
        groups = ParameterGroups(inner, MULTIPLIERS)
        for seed in range(2):
            apply(groups, [tf.constant(g) for g in gradients(seed)], weights)
        results.append(numpy(weights))
    assert_close(*results)


def test_loss_scaling_goes_around_it_and_its_overflow_skips_a_step():
    weight = tf.Variable([1.0, 2.0], name="w")
    scaler = keras.mixed_precision.LossScaleOptimizer(
        ParameterGroups(new.SGD(1.0), {"w": 4.0}), initial_scale=1024.0
    )
    scaler.get_scaled_loss(tf.constant(1.0))
    raw = scaler.get_unscaled_gradients([tf.constant([0.25, 0.5]) * 1024])
    scaler.apply_gradients([(raw[0], weight)])
    assert_allclose(weight, [0.0, 0.0])
    scaler.apply_gradients([(tf.constant([np.inf, 0.0]), weight)])
    assert_allclose(weight, [0.0, 0.0])
    assert float(scaler.loss_scale) == 512.0


def test_accumulated_micro_batches():
    weight = tf.Variable([1.0, 2.0], name="w")
    total = tf.Variable([0.0, 0.0])
    groups = ParameterGroups(new.SGD(1.0, momentum=0.5), {"w": 4.0})
    groups.build([weight])

    def update():
        groups.apply_gradients([(tf.identity(total), weight)])
        total.assign([0.0, 0.0])
        return True

    @tf.function
    def step(gradient, last):
        total.assign_add(gradient)
        tf.cond(last, update, lambda: False)

    for _ in range(2):
        step(tf.constant([0.25, 0.0]), tf.constant(False))
        step(tf.constant([0.0, 0.5]), tf.constant(True))
    # Movements of 1 and then of 1.5 gradients, four times.
    assert_allclose(weight, [1 - 4 * 2.5 * 0.25, 2 - 4 * 2.5 * 0.5])


START = np.array([[0.1, -0.2], [0.3, 0.4], [-0.5, 0.6]])


def test_a_quantized_variable_is_read_as_its_latent_weight():
    results = []
    for quantized in (False, True):
        layer = lq.layers.QuantDense(2, kernel_quantizer="ste_sign", use_bias=False)
        layer.build((None, 3))
        layer.kernel.assign(START)
        groups = ParameterGroups(new.SGD(0.1), {"kernel": 4.0})
        with lq.context.quantized_scope(quantized):
            groups.apply_gradients([(tf.ones((3, 2)), layer.kernel)])
        results.append(layer.get_weights()[0])
    assert_allclose(results[0], START - 0.4, **CLOSE)
    assert_array_equal(*results)


def test_minimize_and_nothing_to_do():
    weight = tf.Variable([3.0, 4.0], name="w")
    groups = ParameterGroups(new.SGD(0.5), {"w": 2.0})
    assert groups.apply_gradients([]) == 0
    groups.minimize(lambda: tf.reduce_sum(weight * [1.0, 2.0]), [weight])
    assert_allclose(weight, [2.0, 2.0])


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_variables_without_a_gradient_stay_and_may_get_one_later():
    weights = variables()
    start, raw = numpy(weights), gradients()
    groups = ParameterGroups(new.SGD(1.0), MULTIPLIERS)
    apply(groups, [raw[0], None, None], weights)
    assert_array_equal(weights[1], start[1])
    apply(groups, raw, weights)
    assert_allclose(weights[1], start[1] - 4 * raw[1], **CLOSE)
    with pytest.raises(ValueError, match="No gradients provided for any variable"):
        apply(groups, [None, None, None], weights)


def test_hyperparameters_are_those_of_the_wrapped_optimizer():
    groups = ParameterGroups(new.Adam(0.1), MULTIPLIERS)
    for name in ("lr", "learning_rate"):
        setattr(groups, name, 0.25)
        assert keras.backend.get_value(groups.inner_optimizer.learning_rate) == 0.25
        keras.backend.set_value(getattr(groups, name), 0.5)  # as the callbacks do
        assert keras.backend.get_value(groups.inner_optimizer.learning_rate) == 0.5
    model = eager(ParameterGroups(new.SGD(0.1), {"^head/": 2.0}))
    halve = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    assert_allclose(fit(model, 2, halve)["lr"], [0.05, 0.025])


def test_the_wrapped_optimizer_alone_is_as_before_also_after_an_error():
    inner = new.SGD(1.0, weight_decay=0.5)
    weight = tf.Variable([4.0], name="w")
    groups = ParameterGroups(inner, {"w": 0.25})
    groups.apply_gradients([(tf.constant([1.0]), weight)])
    assert_allclose(weight, [4 - 0.25 * 2 - 0.25])
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
        groups.apply_gradients([(tf.constant([1.0, 2.0]), weight)])
    weight.assign([4.0])
    inner.apply_gradients([(tf.constant([1.0]), weight)])
    assert_allclose(weight, [4 - 2 - 1])
    assert inner.weight_decay == 0.5


def test_config_round_trip():
    groups = ParameterGroups(new.SGD(0.25, momentum=0.5), {"^b": 2, "^a": 0.5})
    config = groups.get_config()
    assert list(config["multipliers"].items()) == [("^b", 2.0), ("^a", 0.5)]
    restored = ParameterGroups.from_config(json.loads(json.dumps(config)))
    assert restored.get_config() == config
    assert isinstance(restored.inner_optimizer, new.SGD)
    serialized = new.serialize(groups)
    assert serialized["registered_name"] == "larq_nobn>ParameterGroups"
    assert new.deserialize(serialized).get_config() == config
    assert new.get(groups) is groups
    by_config = ParameterGroups(config["optimizer"], config["multipliers"])
    assert by_config.get_config() == config


class Elsewhere(new.Optimizer):
    """Updates its variables, but not in `update_step`."""

    def __init__(self):
        super().__init__("elsewhere")

    def build(self, var_list):
        self._build_index_dict(var_list)

    def apply_gradients(self, grads_and_vars, **_):
        for gradient, variable in grads_and_vars:
            variable.assign_sub(gradient)


def test_an_optimizer_whose_updates_are_out_of_reach():
    message = "Elsewhere updates variables without calling update_step.*wrap it before"
    with pytest.raises(TypeError, match=message):
        apply(ParameterGroups(Elsewhere(), MULTIPLIERS), gradients(), variables())


ADVICE = r"Use 0 to freeze, 1 for no change"


@pytest.mark.parametrize(
    "optimizer, multipliers, error, message",
    [
        (3, {}, TypeError, "optimizer=3 is not a Keras optimizer. Pass an optimizer"),
        (
            "sgd",
            4.0,
            TypeError,
            "multipliers=4.0 is not a mapping .* Write one, such as",
        ),
        ("sgd", {"a": -1}, ValueError, rf"\['a'\]=-1 is outside \[0, inf\). {ADVICE}"),
        (
            "sgd",
            {"a": float("inf")},
            ValueError,
            rf"\['a'\]=inf is outside .* {ADVICE}",
        ),
        ("sgd", {"a": "x"}, TypeError, rf"\['a'\]='x' is not a number; .* {ADVICE}"),
        ("sgd", {"[": 1.0}, ValueError, r"'\[' in multipliers is not a regular exp"),
        ("sgd", {1: 1.0}, ValueError, "1 in multipliers is not a regular expression"),
    ],
)
def test_wrong_arguments(optimizer, multipliers, error, message):
    with pytest.raises(error, match=message):
        ParameterGroups(optimizer, multipliers)


def test_wrong_nesting():
    with pytest.raises(TypeError, match="Adam.* is a legacy .* Use its namesake in"):
        ParameterGroups(legacy.Adam(), {})
    scaled = keras.mixed_precision.LossScaleOptimizer(new.Adam())
    message = r"belongs around .* Write LossScaleOptimizer\(ParameterGroups\(...\)\)"
    with pytest.raises(TypeError, match=message):
        ParameterGroups(scaled, {})
    groups = ParameterGroups(new.Adam(), {})
    for inner in (groups, AdaptiveGradientClipping(groups)):
        with pytest.raises(TypeError, match="has ParameterGroups already.* into one"):
            ParameterGroups(inner, {})


def test_the_example_of_the_docstring_on_a_network_and_its_clone():
    model = nobn.models.ReActNet18((8, 8, 3), 2, width=4, blocks=(1,))
    for network in (model, keras.models.clone_model(model)):
        optimizer = nobn.optimizers.ParameterGroups(
            "adam", {"^(shift|gain):0$": 4.0, "^head/": 0.5}
        )
        network.compile(optimizer, "sparse_categorical_crossentropy")
        optimizer.build(network.trainable_variables)
        factors = list(optimizer._factors.values())
        # Gains of two kernels, the shift of a sign; kernel and bias of the head.
        assert [factors.count(factor) for factor in (4.0, 0.5)] == [3, 2]
        for variable, factor in zip(network.trainable_variables, factors, strict=True):
            last = variable.name.rpartition("/")[2]
            assert (factor == 4) == (last in ("shift:0", "gain:0"))
            assert (factor == 0.5) == variable.name.startswith("head/")


REPLICAS = """
from larq_nobn._keras import keras
import numpy as np
from optimizers.groups_model import MULTIPLIERS, gradients, apply, new, variables
from optimizers.test_groups import NESTINGS, numpy
from larq_nobn.optimizers import ParameterGroups

parts = [gradients(seed) for seed in range(2)]
NESTINGS["alone"] = lambda inner: ParameterGroups(inner, MULTIPLIERS)
rows = []
for name, wrap in NESTINGS.items():
    for scaled in (False, True):
        def make():
            optimizer = wrap(new.AdamW(0.1, weight_decay=0.2, use_ema=True))
            if scaled:
                optimizer = keras.mixed_precision.LossScaleOptimizer(
                    optimizer, dynamic=False, initial_scale=1.0)
                optimizer.get_scaled_loss(tf.constant(1.0))
                optimizer.get_unscaled_gradients([])
            return optimizer, variables()

        optimizer, alone = make()
        for _ in range(2):
            apply(optimizer, [a + b for a, b in zip(*parts)], alone)
        with strategy.scope():
            optimizer, weights = make()
            optimizer.build(weights)  # or the step is traced once more
            rows.append(((name, scaled), numpy(alone), optimizer, weights))

@tf.function(autograph=False)
def step():
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    raw = [tf.gather(np.stack(each), replica) for each in zip(*parts)]
    for *_, optimizer, weights in rows:
        apply(optimizer, raw, weights)

for _ in range(2):
    strategy.run(step)
for row, expected, _, weights in rows:
    for weight, value in zip(weights, expected):
        for copy in strategy.experimental_local_results(weight):
            np.testing.assert_allclose(copy, value, 1e-5, 1e-5, err_msg=str(row))
"""


@pytest.mark.slow
def test_replicas():
    assert_replicas_agree(REPLICAS)
