"""Larq's metrics on every quantizer, against Larq's own on the same signs."""

import json

import larq as lq
import numpy as np
import pytest
from cases import CASES
from larq_nobn._keras import keras

KERNELS = [case for case in CASES if case.role == "kernel"]
ACTIVATIONS = [case for case in CASES if case.role == "activation"]


def made(case, **changes):
    kwargs = case.kwargs() if callable(case.kwargs) else case.kwargs
    return case.cls(**kwargs, **changes)


def measured(quantizer):
    """What a dense layer's quantizer measures of four kernels."""
    host = lq.layers.QuantDense(5, kernel_quantizer=quantizer, use_bias=False)
    model = keras.Sequential([keras.Input((6,)), host])
    for seed in range(4):
        kernel = np.random.default_rng(seed).normal(size=(6, 5)).astype("f4")
        kernel -= kernel.mean(0)  # around which some of them take the sign
        kernel *= 0.1  # nearer to 0 than the signs of BiPer repeat
        host.kernel.latent_variable.assign(kernel)
        model(np.ones((2, 6), np.float32))
    return float(quantizer.flip_ratio.result())


def test_flips_are_those_that_larq_counts():
    expected = measured(lq.quantizers.SteSign(metrics=["flip_ratio"]))
    assert 0.2 < expected < 0.8
    for case in KERNELS:
        actual = measured(made(case, metrics=["flip_ratio"]))
        assert actual == pytest.approx(expected, rel=1e-6), case.name


def test_the_history_of_a_training_has_them():
    """A layer for each row, all trained side by side with one loss."""
    x = keras.Input((6,))
    with lq.context.metrics_scope(["flip_ratio"]):
        hosts = [lq.layers.QuantDense(5, kernel_quantizer=made(c)) for c in KERNELS]
    model = keras.Model(x, keras.layers.add([host(x) for host in hosts]))
    model.compile(keras.optimizers.SGD(1.0), "mse", run_eagerly=True)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(16, 6)), 9 * rng.normal(size=(16, 5))
    history = model.fit(x, y, batch_size=4, epochs=2, verbose=0).history
    for case, host in zip(KERNELS, hosts, strict=True):
        actual = history[f"flip_ratio/{host.kernel_quantizer.name}"]
        assert len(actual) == 2
        assert all(0 < ratio < 1 for ratio in actual), case.name
        # It is not part of the layer's state.
        names = [*case.weights, *case.state, "kernel", "bias"]
        assert len(host.weights) == len(names)


def test_signs_of_a_fixed_batch_are_measured():
    for case in ACTIVATIONS:
        with lq.context.metrics_scope(["flip_ratio"]):
            fixed, free = made(case), made(case)
        for value in (1, 1, -1):
            fixed(np.full((2, 3), value, np.float32))
        # Of two comparisons the second found everything turned.
        assert float(fixed.flip_ratio.result()) == 0.5, case.name
        keras.Sequential([keras.Input((3,)), free])  # no batch size, and no failure
        assert free.flip_ratio is None, case.name


def test_the_configuration_contains_them():
    for case in KERNELS + ACTIVATIONS:
        given = made(case, metrics=["flip_ratio"])
        config = json.loads(json.dumps(given.get_config()))
        assert config["metrics"] == ["flip_ratio"]
        assert case.cls.from_config(config).get_config() == config
    with pytest.raises(ValueError, match="must be one of flip_ratio; got 'acc"):
        made(case, metrics=["accuracy"])
