"""The wrapper: one step by hand, both optimizer families, and what it rejects."""

import json

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn._keras import keras
from larq_nobn.optimizers import AdaptiveGradientClipping, ParameterGroups
from numpy.testing import assert_allclose, assert_array_equal
from optimizers.agc_oracle import clip

new, legacy = keras.optimizers, keras.optimizers.legacy
FAMILIES = [new, legacy]
SHAPES = {"conv/kernel": (3, 3, 2, 4), "conv/bias": (4,), "head/kernel": (4, 3)}
AXES = {"conv/kernel": (0, 1, 2), "conv/bias": (0,)}


def variables(constraint=None):
    rng = np.random.default_rng(1)
    return [
        tf.Variable(rng.normal(size=shape).astype("float32"), True, None, None, name,
                    constraint=constraint)
        for name, shape in SHAPES.items()
    ]  # fmt: skip


def gradients(seed=2):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype("float32") for shape in SHAPES.values()]


def clipped(raw, weights, clip_factor=0.01):
    return [
        clip(g, w, AXES[name], clip_factor).astype("float32") if name in AXES else g
        for name, g, w in zip(SHAPES, raw, weights, strict=True)
    ]


def apply(optimizer, raw, weights, **arguments):
    pairs = [(tf.convert_to_tensor(g), w) for g, w in zip(raw, weights, strict=True)]
    optimizer.apply_gradients(pairs, **arguments)


def numpy(weights):
    return [w.numpy() for w in weights]


def assert_equal(first, second, **tolerance):
    for a, b in zip(first, second, strict=True):
        assert_allclose(a, b, **tolerance)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("graph", [False, True])
def test_steps_equal_clipping_by_hand_and_then_the_optimizer(family, graph):
    ours, theirs = variables(), variables()
    wrapper = AdaptiveGradientClipping(family.Adam(0.1))
    plain = family.Adam(0.1)
    step = tf.function(apply) if graph else apply
    for seed in range(3):
        raw = gradients(seed)
        step(wrapper, raw, ours)
        apply(plain, clipped(raw, numpy(theirs)), theirs)
        assert_equal(numpy(ours), numpy(theirs), rtol=1e-5, atol=1e-6)
    assert int(wrapper.iterations) == 3


@pytest.mark.parametrize(
    "optimizer, family, other",
    [
        ("adam", new, legacy),
        (new.serialize(new.SGD(0.5)), new, legacy),
        (new.serialize(legacy.SGD(0.5)), legacy, new),
        (new.Adam(), new, legacy),
        (legacy.Adam(), legacy, new),
        (lq.optimizers.Bop(), legacy, new),
    ],
)
def test_the_result_is_of_the_family_of_the_wrapped_optimizer(optimizer, family, other):
    wrapper = AdaptiveGradientClipping(optimizer)
    assert isinstance(wrapper, AdaptiveGradientClipping)
    assert isinstance(wrapper, family.Optimizer)
    assert not isinstance(wrapper, other.Optimizer)
    assert isinstance(wrapper.inner_optimizer, family.Optimizer)
    assert new.get(wrapper) is wrapper


@pytest.mark.parametrize("family", FAMILIES)
def test_config_round_trip(family):
    patterns = {"conv/kernel": (0, 1)}
    inner = family.SGD(0.25, momentum=0.5)
    wrapper = AdaptiveGradientClipping(inner, 0.02, 0.01, ("^last/",), patterns)
    config = wrapper.get_config()
    assert (config["clip_factor"], config["epsilon"]) == (0.02, 0.01)
    assert config["exclude"] == ["^last/"]
    assert config["unit_axes"] == {"conv/kernel": [0, 1]}
    restored = AdaptiveGradientClipping.from_config(json.loads(json.dumps(config)))
    assert restored.get_config() == config
    assert isinstance(restored.inner_optimizer, family.SGD)

    serialized = new.serialize(wrapper)
    assert serialized["registered_name"] == "larq_nobn>AdaptiveGradientClipping"
    assert serialized["class_name"] == "AdaptiveGradientClipping"
    assert new.deserialize(serialized).get_config() == config
    apply(wrapper, gradients(), variables())
    assert wrapper.get_config() == config


def test_infinity_switches_the_clipping_off_and_survives_the_config():
    wrapper = AdaptiveGradientClipping(new.SGD(1.0), clip_factor=float("inf"))
    config = json.loads(json.dumps(wrapper.get_config()))
    wrapper = AdaptiveGradientClipping.from_config(config)
    ours, theirs = variables(), variables()
    apply(wrapper, gradients(), ours)
    apply(new.SGD(1.0), gradients(), theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert_array_equal(a, b)


@pytest.mark.parametrize("family", FAMILIES)
def test_hyperparameters_are_those_of_the_wrapped_optimizer(family):
    wrapper = AdaptiveGradientClipping(family.Adam(0.1), epsilon=0.01)
    for name in ("lr", "learning_rate"):
        setattr(wrapper, name, 0.25)
        assert keras.backend.get_value(wrapper.inner_optimizer.learning_rate) == 0.25
        keras.backend.set_value(getattr(wrapper, name), 0.5)  # as the callbacks do
        assert keras.backend.get_value(wrapper.inner_optimizer.learning_rate) == 0.5
    assert wrapper.beta_1 == wrapper.inner_optimizer.beta_1
    assert wrapper.epsilon == 0.01
    with pytest.raises(AttributeError, match="no attribute 'momemtum'"):
        _ = wrapper.momemtum


@pytest.mark.parametrize("family", FAMILIES)
def test_a_schedule_moves_with_the_steps(family):
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0], [1.0, 0.0])
    wrapper = AdaptiveGradientClipping(family.SGD(schedule))
    weights = variables()
    apply(wrapper, gradients(), weights)
    after_one = numpy(weights)
    assert not np.array_equal(after_one[0], variables()[0])
    apply(wrapper, gradients(), weights)  # learning rate 0
    assert_equal(numpy(weights), after_one, rtol=0)


def test_clipping_comes_before_weight_decay_and_constraint():
    halve = lambda w: w * 0.5  # noqa: E731  (a constraint that shows its place)
    weights = variables(halve)
    start = numpy(weights)
    inner = new.SGD(1.0, weight_decay=0.1)
    wrapper = AdaptiveGradientClipping(inner)
    wrapper.exclude_from_weight_decay(var_names=["bias"])
    raw = gradients()
    apply(wrapper, raw, weights)
    kernel, bias, head = start
    decayed = [kernel * 0.9, bias, head * 0.9]
    updates = clipped(raw, start)
    expected = [(w - g) * 0.5 for w, g in zip(decayed, updates, strict=True)]
    assert_equal(numpy(weights), expected, rtol=1e-5, atol=1e-6)


def test_the_moving_average_of_the_weights_works_through_the_wrapper():
    results = []
    for wrap in (lambda inner: inner, AdaptiveGradientClipping):
        optimizer = wrap(new.AdamW(0.1, use_ema=True, ema_momentum=0.5))
        weights = variables()
        for seed in range(2):
            raw = gradients(seed)
            if optimizer.__class__ is new.AdamW:
                raw = clipped(raw, numpy(weights))
            apply(optimizer, raw, weights)
        optimizer.finalize_variable_values(weights)
        results.append(numpy(weights))
    assert_equal(*results, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_accumulated_micro_batches_are_clipped_once(family):
    weights = variables()
    start = numpy(weights)
    parts = [gradients(seed) for seed in range(4)]
    total = [np.sum(each, 0) for each in zip(*parts, strict=True)]
    apply(AdaptiveGradientClipping(family.SGD(1.0)), total, weights)
    expected = [w - g for w, g in zip(start, clipped(total, start), strict=True)]
    assert_equal(numpy(weights), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_minimize_clips(family):
    weight = tf.Variable([[3.0], [4.0]], name="kernel")
    wrapper = AdaptiveGradientClipping(family.SGD(1.0))
    wrapper.minimize(lambda: tf.reduce_sum(weight * [[6.0], [8.0]]), [weight])
    assert_allclose(weight, [[2.97], [3.96]], rtol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_variables_without_a_gradient_stay_and_may_get_one_later(family):
    weights = variables()
    start = numpy(weights)
    wrapper = AdaptiveGradientClipping(family.SGD(1.0, momentum=0.5))
    raw = gradients()
    pairs = [(tf.constant(raw[0]), weights[0]), (None, weights[1]), (None, weights[2])]
    wrapper.apply_gradients(pairs)
    assert_array_equal(weights[1], start[1])
    after = numpy(weights)
    apply(wrapper, raw, weights)
    assert_allclose(weights[1], start[1] - clipped(raw, after)[1], rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("exclude", [(), ("table",)])
def test_sparse_gradients(family, exclude):
    table = tf.Variable(np.ones((4, 2), np.float32), name="table/embeddings")
    values = tf.constant([[3.0, 0.0], [3.0, 8.0]])
    rows = tf.IndexedSlices(values, tf.constant([1, 1]), tf.constant([4, 2]))
    wrapper = AdaptiveGradientClipping(family.SGD(1.0), 0.1, exclude=exclude)
    wrapper.apply_gradients([(rows, table)])
    summed = np.array([[0, 0], [6, 8], [0, 0], [0, 0]])  # the same row twice
    expected = summed if exclude else clip(summed, np.ones((4, 2)), (1,), 0.1)
    assert_allclose(table, 1 - expected, rtol=1e-6)


def test_nothing_to_do():
    assert AdaptiveGradientClipping(new.SGD()).apply_gradients([]) == 0
    with pytest.raises(ValueError, match="No gradients provided for any variable"):
        AdaptiveGradientClipping(new.SGD()).apply_gradients([(None, variables()[0])])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("which", range(3))
def test_a_gradient_that_is_not_finite_stops_before_any_update(family, which):
    weights = variables()
    wrapper = AdaptiveGradientClipping(family.Adam(0.1))
    if family is new:  # with its state there, the step is traced once and not twice
        wrapper.build(weights)
    else:
        wrapper._create_all_weights(weights)
    step = tf.function(apply, autograph=False)
    step(wrapper, gradients(), weights)
    before = numpy(weights) + numpy(wrapper.inner_optimizer.variables())
    raw = gradients()
    raw[which][0] = np.nan
    name = list(SHAPES)[which]
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"{name}:0 contains NaN"):
        step(wrapper, raw, weights)
    after = numpy(weights) + numpy(wrapper.inner_optimizer.variables())
    assert_equal(before, after, rtol=0)


def test_the_latent_weights_count_inside_a_quantized_scope():
    layer = lq.layers.QuantDense(3, kernel_quantizer=tf.sign)
    layer.build((None, 4))
    latent = np.full((4, 3), 0.05, np.float32)
    layer.kernel.assign(latent)
    raw = np.ones((4, 3), np.float32)
    with lq.context.quantized_scope(True):
        wrapper = AdaptiveGradientClipping(new.SGD(1.0))
        wrapper.apply_gradients([(tf.constant(raw), layer.kernel)])
    expected = latent - clip(raw, latent, (0,), 0.01)
    assert_allclose(layer.kernel.latent_variable, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ((3,), TypeError, "optimizer=3 is not a Keras optimizer. Pass an optimizer"),
        ((None,), TypeError, "optimizer=None is not a Keras optimizer"),
        ((new.Adam(), 0.0), ValueError, r"clip_factor=0.0 is outside \(0, inf\)"),
        ((new.Adam(), "a"), TypeError, "clip_factor='a' is not a number"),
        ((new.Adam(), 0.1, 0.0), ValueError, r"epsilon=0.0 is outside \(0, inf\)"),
        ((new.Adam(), 0.1, 0.1, "^a"), TypeError, r"Write exclude=\('\^a',\)"),
        ((new.Adam(), 0.1, 0.1, ("[",)), ValueError, r"'\[' in exclude is not a reg"),
        ((new.Adam(), 0.1, 0.1, (1,)), ValueError, "1 in exclude is not a regular"),
        ((new.Adam(), 0.1, 0.1, (), {"(": (0,)}), ValueError, r"'\(' in unit_axes is"),
        ((new.Adam(), 0.1, 0.1, (), {"a": 1}), TypeError, r"\{'a': 1\} gives no tuple"),
        ((new.Adam(), 0.1, 0.1, (), {"a": (0.5,)}), TypeError, "axis in unit_axes=0.5"),
    ],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        AdaptiveGradientClipping(*arguments)


@pytest.mark.parametrize("family", FAMILIES)
def test_wrong_nesting(family):
    wrapper = AdaptiveGradientClipping(family.Adam())
    with pytest.raises(
        TypeError, match="already clips by an AdaptiveGradientClipping.*inner_op"
    ):
        AdaptiveGradientClipping(wrapper)
    scaled = keras.mixed_precision.LossScaleOptimizer(family.Adam())
    message = r"Write LossScaleOptimizer\(AdaptiveGradientClipping\(...\)\)"
    with pytest.raises(TypeError, match=message):
        AdaptiveGradientClipping(scaled)


def test_clipping_twice_is_rejected_through_other_wrappers():
    inner = AdaptiveGradientClipping("adam")
    groups = ParameterGroups(inner, {"kernel": 2.0})
    with pytest.raises(TypeError, match="already clips by"):
        AdaptiveGradientClipping(groups)


def test_the_examples_of_the_docstrings():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="dense")])
    optimizer = nobn.optimizers.AdaptiveGradientClipping("adam", clip_factor=0.02)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    assert model.optimizer is optimizer
    wrapper = nobn.optimizers.AdaptiveGradientClipping
    optimizer = wrapper.for_model(model, "adam", clip_factor=0.02)
    assert "^dense/kernel:0$" in optimizer.exclude
