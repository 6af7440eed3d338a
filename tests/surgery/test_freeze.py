"""Constants in the place of the statistics of each example."""

from functools import partial

import numpy as np
import pytest
from larq_nobn import layers
from deploy.nets import binary_conv, head, images, scrambled
from larq_nobn._keras import keras
from larq_nobn.surgery import freeze_statistics
from larq_nobn.surgery._freeze import DYNAMIC
from numpy.testing import assert_allclose, assert_array_equal
from surgery.properties import untouched

GroupNorm, LayerNorm = keras.layers.GroupNormalization, keras.layers.LayerNormalization
NORMS = {
    "frn": layers.FilterResponseNormalization,
    "frn, learned": partial(
        layers.FilterResponseNormalization, learned_epsilon=True, center=False
    ),
    "group": partial(GroupNorm, 2),
    "layer": LayerNorm,
    "proxy": partial(layers.ProxyNormalization, "leaky_relu", 2, None),
    "sampled proxy": partial(layers.ProxyNormalization, "tanh"),
    "evonorm": partial(layers.EvoNormS0, 2),
}


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(1.0, 2.0, shape).astype("float32")


def alone(norm, *shape):
    inputs = keras.Input(shape)
    return scrambled(keras.Model(inputs, norm(inputs), name="net"))


def alike(count, *shape):
    """Examples with the same statistics: one, and others that permute its positions."""
    random, one = np.random.default_rng(1), draw(*shape).reshape(-1, shape[-1])
    actual = [random.permutation(one).reshape(shape) for _ in range(count)]
    return np.stack(actual)


def check_frozen(model):
    assert not any(isinstance(layer, DYNAMIC) for layer in model.submodules)


def side_by_side(x, names, batch_size):
    """A model of one output per norm, itself frozen, and what is said of every norm."""
    inputs = keras.Input(x.shape[1:])
    norms = [NORMS[name](name=f"norm{place}") for place, name in enumerate(names)]
    model = scrambled(keras.Model(inputs, [norm(inputs) for norm in norms], name="net"))
    for norm in norms:  # every other channel falls where its input rises
        norm.gamma.assign(norm.gamma * np.resize([1.0, -1.0], x.shape[-1]))
    frozen, report = freeze_statistics(
        model, x, batch_size=batch_size, return_report=True
    )
    check_frozen(frozen)
    assert frozen.output_names == model.output_names
    return model, frozen, {change.layer: change for change in report.changes}


def test_nothing_changes_where_all_examples_have_the_same_statistics():
    x = alike(9, 5, 3, 8)
    names = ["frn, learned", "group", "sampled proxy", "evonorm"]
    model, frozen, changes = side_by_side(x, names, batch_size=4)
    assert frozen.output_names == [f"norm{place}" for place in range(len(names))]
    for place, (actual, wanted) in enumerate(zip(frozen(x), model(x), strict=True)):
        assert_allclose(actual, wanted, rtol=1e-5, atol=1e-5, err_msg=names[place])
        assert changes[f"norm{place}"].distance < 1e-5


@pytest.fixture(scope="module")
def various():
    """Examples of various statistics, and every norm side by side."""
    x = draw(16, 4, 3, 8)
    x *= np.linspace(0.5, 2, 16).reshape(-1, 1, 1, 1)
    return x, *side_by_side(x, NORMS, batch_size=7)


def test_channels_keep_their_mean_and_standard_deviation(various):
    x, model, frozen, changes = various
    for place, name in enumerate(NORMS):
        wanted, given = normalized(model, frozen, x, place)
        axes = (0, 1, 2)
        assert_allclose(given.mean(axes), wanted.mean(axes), atol=1e-5, err_msg=name)
        assert_allclose(given.std(axes), wanted.std(axes), rtol=1e-5, err_msg=name)
        power = np.square(wanted - wanted.mean(axes)).sum()
        distance = np.sqrt(np.square(given - wanted).sum() / power)
        assert 0.01 < distance < 1
        assert_allclose(changes[f"norm{place}"].distance, distance, rtol=1e-4)


def normalized(model, frozen, x, place):
    """What is normalized, in float64: before the activation of a proxy norm."""
    norm, names = model.get_layer(f"norm{place}"), [x.name for x in frozen.layers]
    if f"norm{place}_affine" not in names or not isinstance(
        norm, layers.ProxyNormalization
    ):
        return tuple(y(x)[place].numpy().astype(float) for y in (model, frozen))
    grouped = x.reshape(len(x), -1, norm.groups, 8 // norm.groups).astype(float)
    mean, variance = (
        moment(axis=(1, 3), keepdims=True) for moment in (grouped.mean, grouped.var)
    )
    plain = ((grouped - mean) / np.sqrt(variance + 1e-5)).reshape(x.shape)
    affine = frozen.get_layer(f"norm{place}_affine")
    return (
        plain * norm.gamma.numpy() + norm.beta.numpy(),
        x.astype(float) * affine.gamma.numpy() + affine.beta.numpy(),
    )


def test_a_layer_is_calibrated_on_frozen_predecessors():
    inputs = keras.Input((6, 6, 3))
    x = GroupNorm(1, name="first")(inputs)
    x = keras.layers.Conv2D(4, 3, activation="relu", name="conv")(x)
    model = scrambled(keras.Model(inputs, NORMS["frn"](name="norm")(x)))
    x = draw(30, 6, 6, 3) * np.linspace(0.3, 3, 30, dtype="float32").reshape(
        -1, 1, 1, 1
    )
    frozen = freeze_statistics(model, x, batch_size=8)
    hidden = keras.Model(frozen.inputs, frozen.get_layer("conv").output)(x)
    wanted, given = model.get_layer("norm")(hidden), frozen(x)
    assert_allclose(np.std(given, (0, 1, 2)), np.std(wanted, (0, 1, 2)), rtol=1e-5)
    assert_allclose(np.mean(given, (0, 1, 2)), np.mean(wanted, (0, 1, 2)), atol=1e-5)


def test_channels_that_never_vary_become_constants():
    x = draw(10, 4, 4, 3)
    x[..., 1] = 5.0
    model = alone(NORMS["frn"](name="norm"), 4, 4, 3)
    affine = freeze_statistics(model, x).get_layer("norm")
    assert affine.gamma.numpy()[1] == 0
    assert_allclose(affine.beta[1], model(x)[0, 0, 0, 1], rtol=1e-5)


def network():
    """A branch, a model inside, a shared norm, labels, and a frozen layer."""
    inputs = keras.Input((8, 8, 3), name="image")
    rows = [binary_conv(8, name="conv"), GroupNorm(2, name="norm")]
    inner = keras.Sequential([keras.Input((8, 8, 3)), *rows], name="inner")
    x = inner(inputs)
    shared = layers.FilterResponseNormalization(name="shared")
    rectified = keras.layers.ReLU(name="relu")(x)
    x = keras.layers.Add(name="sum")([shared(x), shared(rectified)])
    x = keras.layers.Dropout(0.5, name="drop")(x)
    for layer in head():
        x = layer(x)
    return scrambled(keras.Model(inputs, x, name="net"))


def test_models_inside_and_shared_layers():
    model, x = network(), images(20)
    model.get_layer("shared").trainable = False
    with untouched(model):
        frozen, report = freeze_statistics(model, x, return_report=True)
    check_frozen(frozen)
    names = ["image", "conv", "norm", "relu", "shared", "sum", "drop", "pool", "head"]
    assert [layer.name for layer in frozen.layers] == names
    assert [change.layer for change in report.changes] == ["norm", "shared"]
    assert isinstance(frozen.get_layer("shared"), layers.ChannelAffine)
    assert not frozen.get_layer("shared").trainable
    assert frozen.get_layer("norm").trainable
    assert frozen.name == "net" and frozen.input_names == ["image"]


def test_half_precision_stays_and_files_open_in_safe_mode(tmp_path):
    names = ("proxy", "sampled proxy", "evonorm")
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        inputs = keras.Input((4, 4, 8))
        norms = [NORMS[name](name=f"norm{place}") for place, name in enumerate(names)]
        model = scrambled(keras.Model(inputs, [norm(inputs) for norm in norms]))
    finally:
        keras.mixed_precision.set_global_policy("float32")
    x = alike(5, 4, 4, 8)
    frozen, report = freeze_statistics(model, x, return_report=True)
    assert all(layer.compute_dtype == "float16" for layer in frozen.layers[1:])
    (change,) = (change for change in report.changes if change.layer == "norm0")
    assert change.kind == "ProxyNormalization"
    start = (
        "'norm0_affine', 'norm0_activation', 'norm0', with gain and bias per channel"
    )
    assert (
        change.action == f"{start}, {change.distance:.1%} of a standard deviation off"
    )
    frozen.save(tmp_path / "frozen.keras")
    opened = keras.models.load_model(tmp_path / "frozen.keras", safe_mode=True)
    for given, wanted, again in zip(frozen(x), model(x), opened(x), strict=True):
        assert_allclose(given, wanted, atol=0.02)
        assert_array_equal(given, again)
