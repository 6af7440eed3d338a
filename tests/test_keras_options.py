"""Options of weights as in Keras, second names of weights, positional arguments."""

from __future__ import annotations

import warnings

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn import layers, quantizers
from cases import CASES
from larq_nobn._keras import Configured, keras
from numpy.testing import assert_allclose

# By hand: the weights of each class that have Keras' options.
TUNABLE = {
    layers.FilterResponseNormalization: "gamma beta learned_epsilon",
    layers.ThresholdedLinearUnit: "tau",
    layers.ProxyNormalization: "gamma beta proxy_gamma proxy_beta",
    layers.BatchKalmanNormalization: "gamma beta",
    layers.EvoNormS0: "v gamma beta",
    layers.DynamicTanh: "alpha gamma beta",
    layers.ChannelAffine: "gamma beta",
    layers.RPReLU: "shift_in slope shift_out",
    layers.SkipInit: "gain",
    quantizers.RSign: "shift",
    quantizers.ProgressiveSign: "shift",
    quantizers.ScaledStdSign: "gain",
    quantizers.ScaledStandardization: "gain",
    quantizers.BiPer: "gain",
    quantizers.ReCU: "alpha",
}
OPTIONS = ("regularizer", "constraint")
MORE = {layers.FilterResponseNormalization: {"learned_epsilon": True}}


@pytest.mark.parametrize("cls", TUNABLE, ids=lambda cls: cls.__name__)
def test_weights_have_the_options_of_keras(cls):
    """Each starts at 0.3, has half its square as penalty, and stays below 0.2."""
    names = TUNABLE[cls].split()
    options = {
        **{f"{name}_initializer": keras.initializers.Constant(0.3) for name in names},
        **{f"{name}_regularizer": keras.regularizers.L2(0.5) for name in names},
        **{f"{name}_constraint": lq.constraints.WeightClip(0.2) for name in names},
    }
    given = cls(**options, **MORE.get(cls, {}))
    made = cls.from_config(given.get_config())
    x = tf.random.stateless_normal((3, 3, 4, 5), (1, 2))
    for layer in (given, made):
        layer(x)
        weights = [getattr(layer, name) for name in names]
        for weight in weights:
            assert_allclose(weight, 0.3, rtol=1e-6)
            assert_allclose(weight.constraint(weight), 0.2, rtol=1e-6)
        count = sum(int(tf.size(weight)) for weight in weights)
        assert_allclose(sum(layer.losses), 0.5 * 0.09 * count, rtol=1e-5)
    # Files of earlier versions are as those without options.
    assert not {f"{n}_{o}" for n in names for o in OPTIONS} & cls().get_config().keys()
    for option in OPTIONS:
        with pytest.raises(ValueError, match=f"_{option}='x' is not a {option}"):
            cls(**{f"{names[0]}_{option}": "x"})


def test_every_norm_and_gain_has_them():
    of_rows = {row.cls for row in CASES if getattr(row.cls, "_tunable", "")}
    assert of_rows == {*TUNABLE}
    scales = {"gamma", "beta", "gain", "alpha", "shift", "slope"}
    for row in CASES:
        if issubclass(row.cls, Configured) and scales & {*row.weights}:
            own = row.cls in TUNABLE or "gamma_regularizer" in row.make().get_config()
            others = (quantizers.SignSwish, quantizers.BinaryRegularized)
            assert own or row.cls in others, row.name


def test_a_gain_of_a_kernel_is_regularized_in_its_layer():
    quantizer = quantizers.ScaledStdSign(gain_regularizer="l2")
    layer = lq.layers.QuantDense(3, kernel_quantizer=quantizer)
    layer(tf.ones((2, 4)))
    assert_allclose(sum(layer.losses), 0.01 * 3, rtol=1e-6)


WEIGHTS = {
    "gain": (lambda: quantizers.ScaledStdSign(), True),
    "tau": (lambda: quantizers.ReCU(), 0.85),
    "power": (lambda: quantizers.ReSTE(), 1.0),
    "beta": (lambda: quantizers.SignSwish(trainable_beta=True), 5.0),
    "fraction": (lambda: quantizers.ProgressiveSign(), 0.0),
    "learned_epsilon": (
        lambda: layers.FilterResponseNormalization(learned_epsilon=True),
        True,
    ),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_have_names_of_their_own(name):
    """The argument's name remains that of both."""
    make, argument = WEIGHTS[name]
    layer = make()
    assert getattr(layer, name) == argument
    assert getattr(layer, f"{name}_weight") is None
    layer(tf.ones((3, 3, 4, 5)))
    assert getattr(layer, f"{name}_weight") is getattr(layer, name)
    assert isinstance(getattr(layer, name), tf.Variable)
    assert layer.get_config()[name] == argument


@pytest.mark.parametrize(
    ("cls", "positional", "named"),
    [
        (
            quantizers.RSign,
            (2.0, "ste_sign", False, 1.5, 0.3),
            {"estimator": "ste_sign", "shift": False, "power": 1.5, "offset": 0.3},
        ),
        (
            quantizers.ProgressiveSign,
            (2.0, False, 0.3, 0.5),
            {"shift": False, "offset": 0.3, "fraction": 0.5},
        ),
    ],
)
def test_arguments_after_the_first_are_keywords(cls, positional, named):
    """As before by position, with a warning that names them."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        new = cls(2.0, **named)
    said = rf"{cls.__name__} will take only its first argument by position: write "
    with pytest.warns(FutureWarning, match=said + "=..., ".join(named) + "=... for"):
        old = cls(*positional)
    drop = lambda config: {**config, "name": ""}  # noqa: E731
    assert drop(old.get_config()) == drop(new.get_config())
    with pytest.raises(TypeError), pytest.warns(FutureWarning):
        cls(*positional, 1.0)


@pytest.mark.parametrize(("channels", "groups"), [(16, 16), (48, 16), (64, 32), (5, 1)])
def test_evonorm_finds_groups(channels, groups):
    """The variances of these groups, in float64."""
    x = np.random.default_rng(0).normal(size=(2, 3, 3, channels))
    layer = layers.EvoNormS0(dtype="float64")
    y = layer(x)
    parts = x.reshape(2, 9, groups, -1)
    deviation = np.sqrt(parts.var(axis=(1, 3)) + 1e-5)
    deviation = deviation.repeat(channels // groups, axis=1)[:, None, None]
    assert_allclose(y, x / (1 + np.exp(-x)) / deviation, rtol=1e-6)
    assert layer.groups == groups and layer.get_config()["groups"] is None


KERNELS = [
    quantizers.ScaledStdSign(),
    quantizers.ScaledStdSign(variance_preserving=True, balanced=True),
    quantizers.ReCU(),
    quantizers.BiPer(variance_preserving=True),
    quantizers.ReSTE(),
    quantizers.SignSwish(),
    quantizers.SigmoidSign(),
    quantizers.RSign(),
    quantizers.BinaryRegularized(lq.quantizers.SteSign()),
]


@pytest.mark.parametrize("index", range(len(KERNELS)))
def test_nan_in_latent_weights_stays_visible(index):
    """As in Larq's quantizers; the signs of finite filters are those without it."""
    kernel = np.random.default_rng(0).normal(size=(3, 3, 8, 4)).astype(np.float32)
    before = np.asarray(KERNELS[index](kernel))
    kernel[1, 1, 2, 3] = np.nan
    for call in (KERNELS[index], tf.function(KERNELS[index])):
        value = np.asarray(call(kernel))
        assert np.isnan(value[1, 1, 2, 3])
        np.testing.assert_array_equal(value[..., :3], before[..., :3])
