"""What all wrappers of optimizers share: attributes, configurations, odd gradients."""

import json

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn._keras import keras
from larq_nobn.optimizers import (
    AdaptiveGradientClipping,
    BayesianLearningRule,
    ParameterGroups,
)
from numpy.testing import assert_array_equal
from optimizers.networks import (
    apply,
    assert_close,
    gradients,
    numpy,
    random_kernel,
    variables,
)

new, legacy = keras.optimizers, keras.optimizers.legacy
WRAPPERS = {
    "clipping": lambda inner: AdaptiveGradientClipping(
        inner, 0.02, 0.01, ("^last/",), {"conv/kernel": (0, 1)}, 0.01
    ),
    "groups": lambda inner: ParameterGroups(inner, {"^gain:0$": 4, "^head/": 0.5}),
    "bayesian": lambda inner: BayesianLearningRule(inner, 0.5, 0.1, prior=0.7),
}
CONFIGS = {
    "clipping": {
        "clip_factor": 0.02,
        "epsilon": 0.01,
        "exclude": ["^last/"],
        "unit_axes": {"conv/kernel": [0, 1]},
        "lower_factor": 0.01,
        "silent_decay": 0.0,
    },
    "groups": {"multipliers": {"^gain:0$": 4.0, "^head/": 0.5}},
    "bayesian": {"learning_rate": 0.5, "prior_weight": 0.1, "prior": 0.7},
}
FAMILIES = [
    *(("clipping", new), ("clipping", legacy), ("groups", new)),
    *(("bayesian", new), ("bayesian", legacy)),
]
every_wrapper = pytest.mark.parametrize("name", WRAPPERS)
every_family = pytest.mark.parametrize("name, family", FAMILIES)


def everything():
    """A random kernel, two plain variables and one of the head, with gradients."""
    return [random_kernel(), *variables()], [np.ones((2, 3), "float32"), *gradients()]


@every_family
def test_configurations(name, family):
    wrapper = WRAPPERS[name](family.SGD(0.25, momentum=0.5))
    assert isinstance(wrapper, family.Optimizer)
    assert isinstance(wrapper.inner_optimizer, family.SGD)
    config = wrapper.get_config()
    assert CONFIGS[name].items() <= config.items()
    restored = type(wrapper).from_config(json.loads(json.dumps(config)))
    assert restored.get_config() == config
    assert isinstance(restored.inner_optimizer, family.SGD)
    serialized = new.serialize(wrapper)
    kind = serialized["class_name"]
    assert serialized["registered_name"] == f"larq_nobn>{kind}"
    again = new.deserialize(serialized, use_legacy_optimizer=family is legacy)
    assert again.get_config() == config
    assert new.get(wrapper) is wrapper
    weights, raw = everything()
    apply(wrapper, raw, weights)
    later = wrapper.get_config()
    later.pop("variables", None)  # the names of those that groups have seen
    assert later.items() <= config.items()


@every_family
def test_hyperparameters_are_those_of_the_wrapped_optimizer(name, family):
    wrapper = WRAPPERS[name](family.Adam(0.1))
    for rate in ("lr", "learning_rate"):
        setattr(wrapper, rate, 0.25)
        assert keras.backend.get_value(wrapper.inner_optimizer.learning_rate) == 0.25
        keras.backend.set_value(getattr(wrapper, rate), 0.5)  # as the callbacks do
        assert keras.backend.get_value(wrapper.inner_optimizer.learning_rate) == 0.5
    assert wrapper.beta_1 == wrapper.inner_optimizer.beta_1
    with pytest.raises(AttributeError, match="no attribute 'momemtum'"):
        _ = wrapper.momemtum


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
@every_family
def test_variables_without_a_gradient_stay_and_may_get_one_later(name, family):
    wrapper = WRAPPERS[name](family.SGD(1.0, momentum=0.5))
    weights, raw = everything()
    start = numpy(weights)
    pairs = [*zip([None, None, *raw[2:]], weights, strict=True)]
    wrapper.apply_gradients(pairs)
    seen = numpy(weights)
    moved = [np.any(a != b) for a, b in zip(seen, start, strict=True)]
    assert moved == [False, False, True, True]
    apply(wrapper, raw, weights)
    assert all(np.any(a != b) for a, b in zip(numpy(weights), seen, strict=True))


@every_family
def test_loss_scaling_goes_around_and_its_overflow_skips_a_step(name, family):
    alone, expected_weights = WRAPPERS[name](family.SGD(1.0)), everything()[0]
    weights, raw = everything()
    apply(alone, raw, expected_weights)
    scaler = keras.mixed_precision.LossScaleOptimizer(
        WRAPPERS[name](family.SGD(1.0)), initial_scale=1024.0
    )
    scaler.get_scaled_loss(tf.constant(1.0))
    scaled = [tf.constant(1024 * g) for g in raw]
    apply(scaler, scaler.get_unscaled_gradients(scaled), weights)
    assert_close(numpy(weights), numpy(expected_weights), rtol=1e-6)
    raw[1][0, 0] = np.inf
    apply(scaler, raw, weights)
    assert_close(numpy(weights), numpy(expected_weights), rtol=1e-6)
    assert float(scaler.loss_scale) == 512.0


@every_wrapper
def test_accumulated_micro_batches_are_one_step(name):
    weights, raw = everything()
    expected, _ = everything()
    apply(WRAPPERS[name](new.SGD(1.0)), [3 * g for g in raw], expected)
    wrapper = WRAPPERS[name](new.SGD(1.0))
    wrapper.build(weights)
    totals = [tf.Variable(tf.zeros(g.shape)) for g in raw]

    def update():
        apply(wrapper, [tf.identity(total) for total in totals], weights)
        return True

    @tf.function
    def learn(parts, last):
        for total, part in zip(totals, parts, strict=True):
            total.assign_add(part)
        tf.cond(last, update, lambda: False)

    learn([tf.constant(2 * g) for g in raw], tf.constant(False))
    learn([tf.constant(g) for g in raw], tf.constant(True))
    assert_close(numpy(weights), numpy(expected), rtol=1e-5, atol=1e-6)


@every_wrapper
def test_quantized_variables_are_read_as_their_latent_weights(name):
    ends = []
    for quantized in (False, True):
        layer = lq.layers.QuantDense(3, kernel_quantizer=tf.sign, name="head")
        layer(tf.zeros((1, 4)))  # which names its kernel, as groups match it
        layer.kernel.assign(np.full((4, 3), 0.07, np.float32))
        weights = [layer.kernel, *variables()[1:]]
        raw = [np.ones((4, 3), "float32"), *gradients()[1:]]
        if name == "bayesian":
            weights, raw = [*weights, random_kernel()], [*raw, np.ones((2, 3), "f4")]
        with lq.context.quantized_scope(quantized):
            apply(WRAPPERS[name](new.SGD(0.1)), raw, weights)
        ends.append(numpy(weights))
    assert np.any(ends[0][0] != np.float32(0.07))
    for one, other in zip(*ends, strict=True):
        assert_array_equal(one, other)
