"""Copies share nothing with what they are copies of, and names are free ones."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn._keras import keras, register
from larq_nobn.deploy.verify._same import check_same_function
from larq_nobn.graph._copies import copied, to_keras
from larq_nobn.graph._models import from_keras
from larq_nobn.layers import (
    EvoNormS0,
    IndependentComponent,
    ProxyNormalization,
    RPReLU,
)
from numpy.testing import assert_allclose, assert_array_equal

layers = keras.layers

RNG = np.random.default_rng(0)
X = RNG.normal(size=(16, 6)).astype("float32")
IMAGES = RNG.normal(size=(8, 6, 6, 4)).astype("float32")


@register()
class Holding(layers.Layer):
    """Its configuration has what it was made of, as it is."""

    def __init__(self, held, **kwargs):
        super().__init__(**kwargs)
        self.held = held

    def call(self, x):
        return x

    def get_config(self):
        return {**super().get_config(), "held": self.held}


@register()
class Tied(Holding):
    def call(self, x):
        return tf.matmul(x, self.held.kernel, transpose_b=True)


@register()
class Around(Holding):
    def build(self, shape):
        for part in tf.nest.flatten(self.held):
            part.build(shape)
        super().build(shape)

    def call(self, x):
        for part in tf.nest.flatten(self.held):
            x = x + part(x)
        return x


@register()
class Scaling(Holding):
    def call(self, x):
        return x * self.held


def tied(x):
    dense = layers.Dense(4, name="dense")
    return Tied(dense, name="held")(dense(x))


def tied_twice(x):
    dense = layers.Dense(4)
    dense.build((None, 6))
    x = Tied(dense, name="held")(layers.Dense(4, name="dense")(x))
    return Tied(dense, name="again")(layers.Dense(4)(x))


def inner_model():
    inputs = keras.Input((6,))
    return keras.Model(inputs, layers.Dense(6)(inputs))


HELD = {
    "tied": tied,
    "tied twice": tied_twice,
    "list": lambda x: Around([layers.Dense(6), layers.Dense(6)], name="held")(x),
    "model": lambda x: Around(inner_model(), name="held")(x),
    "dictionary": lambda x: Around({"a": layers.Dense(6)}, name="held")(x),
}


def network(held):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    y = layers.BatchNormalization(name="norm")(held(inputs))
    y = layers.LayerNormalization(name="per_example")(y)
    model = keras.Model(inputs, layers.Dense(3, name="head")(y))
    for weight in model.weights:
        weight.assign(RNG.uniform(0.3, 0.9, weight.shape))
    return model


CHANGES = {
    "fold": nobn.fold_batch_norm,
    "remove": nobn.remove_batch_norm,
    "freeze": lambda model: nobn.freeze_statistics(model, X),
    "reestimate": lambda model: nobn.surgery.reestimate_batch_norm(model, X),
    "fake_quantize": lambda model: nobn.deploy.fake_quantize(model, X),
    "copied": copied,
    "float32": lambda model: to_keras(from_keras(model), float32=True),
}
SAME = {"fold", "copied", "float32"}


def variables(model):
    return {id(getattr(w, "latent_variable", w)) for w in model.weights}


@pytest.mark.parametrize("held", HELD)
def test_no_variable_of_the_one_is_in_the_other(held):
    model = network(HELD[held])
    before, expected = model.get_weights(), model(X)
    # All make layers in one way.
    for name in CHANGES if held == "tied twice" else ("copied", "fold"):
        made = CHANGES[name](model)
        assert variables(model).isdisjoint(variables(made)), name
        if name in ("copied", "float32"):  # a kernel of several layers stays one
            assert len(made.weights) == len(model.weights), name
        if name in SAME:
            assert_allclose(made(X), expected, rtol=1e-5, atol=1e-5)
    for one, other in zip(before, model.get_weights(), strict=True):
        assert_array_equal(one, other)


def test_a_variable_in_a_configuration_is_rejected_with_its_layer():
    scale = tf.Variable(2.0)
    model = network(lambda x: Scaling(scale, name="scaling")(x))
    for name, change in CHANGES.items():
        with pytest.raises(ValueError, match=r"Layer 'scaling' \(Scaling\) takes vari"):
            change(model)
            pytest.fail(name)


def two(kind, name, attributes, **options):
    """Two layers of which some variables are one, with another after them."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 4))
    a, b = (kind(name=each, **options) for each in "ab")
    y = layers.ReLU(name="relu")(b(layers.ReLU()(a(inputs))))
    for attribute in attributes:
        setattr(b, attribute, getattr(a, attribute))
    model = keras.Model(inputs, layers.BatchNormalization(name="norm")(y))
    for weight in model.weights:
        getattr(weight, "latent_variable", weight).assign(
            RNG.uniform(0.3, 0.9, weight.shape)
        )
    return model


SHARED = {
    "kernel": (layers.Conv2D, ["kernel"], {"filters": 4, "kernel_size": 1}),
    "kernel and bias": (
        layers.Conv2D,
        ["bias", "kernel"],
        {"filters": 4, "kernel_size": 1, "trainable": False},
    ),
    "binary kernel": (
        lq.layers.QuantConv2D,
        ["kernel"],
        {"filters": 4, "kernel_size": 1, "kernel_quantizer": "ste_sign"},
    ),
    "slope": (layers.PReLU, ["alpha"], {}),
    "moments": (layers.BatchNormalization, ["moving_mean", "gamma"], {}),
}


@pytest.mark.parametrize("name", SHARED)
def test_one_variable_of_two_layers_stays_one(name, caplog):
    kind, attributes, options = SHARED[name]
    model = two(kind, name, attributes, **options)
    expected = model(IMAGES)
    changes = [copied]
    if name != "moments":
        changes.append(nobn.fold_batch_norm)
    for change in changes:
        made = change(model)
        a, b = made.get_layer("a"), made.get_layer("b")
        for attribute in attributes:
            assert getattr(a, attribute) is getattr(b, attribute)
        assert variables(model).isdisjoint(variables(made))
        assert_allclose(made(IMAGES), expected, rtol=1e-4, atol=1e-4)
    assert "share one variable" not in caplog.text


def test_one_variable_that_becomes_two_is_said(caplog):
    """The scale of the norm goes into one kernel and not into the other."""
    inputs = keras.Input((6, 6, 4))
    a, b = (layers.Conv2D(4, 1, use_bias=False, name=name) for name in "ab")
    y = layers.BatchNormalization()(b(layers.ReLU()(a(inputs))))
    b.kernel = a.kernel
    model = keras.Model(inputs, y)
    model.layers[-1].gamma.assign([0.5, 2.0, 3.0, 0.1])
    folded = nobn.fold_batch_norm(model)
    assert "Layers 'a' and 'b' share one variable" in caplog.text
    assert_allclose(folded(IMAGES), model(IMAGES), rtol=1e-4, atol=1e-5)


SIGNS = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign"}


def named(make, *names):
    """A network of layers called by these names, with numbers of its own."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 4), name="image")
    model = keras.Model(inputs, make(inputs, *names))
    rng = np.random.default_rng(3)
    for weight in model.weights:
        latent = getattr(weight, "latent_variable", weight)
        latent.assign(rng.uniform(0.2, 0.9, weight.shape))
    return model


def conv(name):
    return layers.Conv2D(4, 1, name=name)


def residual(x, dense, name):
    """With a batch norm that is removed, and a pool before a shorter sum."""
    binary = lq.layers.QuantConv2D(4, 1, name="binary", **SIGNS)
    x = layers.Add()([layers.BatchNormalization()(binary(x)), x])
    y = lq.layers.QuantConv2D(4, 1, strides=2, name="second", **SIGNS)(x)
    pool = layers.AveragePooling2D(name=dense)(x)
    y = layers.Add()([layers.BatchNormalization()(y), pool])
    return conv(name)(y)


def followed(x, layer, names):
    x = layer(x)
    for name in names:
        x = conv(name)(x)
    return x


def after(kind, *arguments, **options):
    """A layer between others, of which the last ones have the given names."""

    def make(x, name, *others):
        layer = kind(*arguments, **options, name=name)
        return followed(conv("first")(x), layer, others)

    return make


def binary_after_norm(x, name, *others):
    sign = nobn.quantizers.RSign()
    binary = lq.layers.QuantConv2D(
        4, 1, name=name, input_quantizer=sign, kernel_quantizer="ste_sign"
    )
    x = binary(layers.BatchNormalization()(conv("first")(x)))
    return followed(x, layers.BatchNormalization(), others)


TANH = after(layers.Conv2D, 4, 1, activation="tanh")
SIGNED = after(layers.Conv2D, 4, 1, activation=lq.quantizers.SteSign())
NAMES = [
    ("fake_quantize", after(RPReLU), "_shift_in", "_shift_out"),
    ("fake_quantize", TANH, "_activation", "_activation_range"),
    ("fake_quantize", after(nobn.quantizers.RSign), "_shift"),
    ("fake_quantize", after(layers.Conv2D, 4, 1), "_range"),
    ("freeze", after(ProxyNormalization, "relu"), "_affine", "_activation"),
    ("freeze", after(EvoNormS0, groups=2), "_slope", "_swish"),
    ("remove", residual, "_scale"),
    ("remove", after(IndependentComponent, rate=0.1), "_dropout"),
    ("remove", binary_after_norm, "_kernel", "_sign"),
    ("fold", SIGNED, "_sign"),
]
RUNS = {
    "fake_quantize": lambda x: nobn.deploy.fake_quantize(x, IMAGES, verify=False),
    "freeze": lambda x: nobn.freeze_statistics(x, IMAGES, verify=False),
    "remove": nobn.remove_batch_norm,
    "fold": lambda x: nobn.fold_batch_norm(x, verify=False),
}


@pytest.mark.parametrize("run, make, suffixes", [(*row[:2], row[2:]) for row in NAMES])
def test_names_do_not_matter(run, make, suffixes, tmp_path):
    """The same network with names that do not collide is the oracle."""
    names = [f"part{suffix}" for suffix in suffixes]
    expected = RUNS[run](named(make, "part", *["other", "another"][: len(names)]))
    made = RUNS[run](named(make, "part", *names))
    assert all(isinstance(made.get_layer(name), layers.Conv2D) for name in names)
    assert_array_equal(made(IMAGES), expected(IMAGES))
    made.save_weights(tmp_path / "weights.h5")  # which rejects names used twice


@pytest.mark.parametrize("adds", ["Add", "three", "operator", "first"])
def test_sums_with_one_channel_are_taken(adds):
    """Such as those of spatial attention."""
    inputs = keras.Input((6, 6, 4))
    x = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(inputs))
    y = lq.layers.QuantConv2D(4, 3, padding="same", name="wide", **SIGNS)(x)
    one = layers.Conv2D(1, 1)(x)
    maps = {"three": [y, one, y], "first": [one, y]}.get(adds, [y, one])
    total = y + one if adds == "operator" else layers.Add()(maps)
    model = keras.Model(inputs, layers.BatchNormalization()(total))
    free = nobn.remove_batch_norm(model)
    kinds = [type(layer) for layer in free.layers]
    assert layers.BatchNormalization not in kinds
    assert free(IMAGES).shape == model(IMAGES).shape


def test_a_softmax_that_rounding_decides_far_out_is_no_fault():
    """Two classes of almost the same logits, which are huge there."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((64,))
    x = layers.BatchNormalization(name="norm")(layers.Dense(64)(inputs))
    model = keras.Model(inputs, layers.Dense(3, "softmax", name="end")(x))
    for weight in model.get_layer("norm").weights:
        weight.assign(np.random.default_rng(1).uniform(0.5, 1.5, weight.shape))
    kernel, bias = model.get_layer("end").get_weights()
    kernel[:, 1], kernel[:, 2] = kernel[:, 0] * (1 + 1e-6), 0
    model.get_layer("end").set_weights([kernel, bias])
    folded = nobn.fold_batch_norm(model)
    x = np.random.default_rng(2).normal(size=(8, 64)).astype("float32")
    assert_allclose(folded(x), model(x), rtol=1e-4, atol=1e-6)
    # What is wrong there and nowhere else is found: this one clips.
    clipped = keras.Model(inputs, layers.ReLU(3e3)(model.get_layer("norm").output))
    whole = keras.Model(inputs, layers.ReLU()(model.get_layer("norm").output))
    with pytest.raises(ValueError, match="output .* differs"):
        check_same_function(whole, clipped, "Clipping")
