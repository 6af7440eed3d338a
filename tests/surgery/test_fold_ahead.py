"""Batch norm before signs."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import tensorflow as tf
from deploy.nets import binary_conv
from larq_nobn._keras import keras
from larq_nobn.quantizers import RSign
from numpy.testing import assert_allclose
from surgery.folding import (
    AFFINE,
    SHAPE,
    BatchNorm,
    beside,
    fold,
    make_positive,
    names_of,
    random_model,
)

layers = keras.layers
SIGNS = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign"}


def norm(name="norm"):
    # After an activation, where nothing else can take its gain and bias.
    return [layers.Activation("tanh"), BatchNorm(name=name)]


def zero_padded(name="conv", **kwargs):
    return binary_conv(6, name=name, pad_values=0.0, **kwargs)


def after_norms(table):
    """A batch norm and what a table has in a row, for each of it."""
    rows = [[*norm(f"{name}_norm"), *make(name)] for name, make in table.items()]
    return beside(*rows)


KERNELS = {
    "zero_padding": lambda name: [zero_padded(name)],
    "one_position": lambda name: [binary_conv(6, 1, name=name, strides=2)],
    "magnitudes": lambda name: [
        zero_padded(name, kernel_quantizer="magnitude_aware_sign")
    ],
    "with_bias": lambda name: [zero_padded(name, use_bias=True, activation="relu")],
    "grouped": lambda name: [zero_padded(name, groups=2)],
    "dense": lambda name: [lq.layers.QuantDense(6, name=name, **SIGNS)],
}


def check_shifts(folded, changes, rows):
    """Each batch norm became the shift of the sign in the layer after it."""
    for place, name in enumerate(rows):
        said = f"became the shift of the sign in {name!r}"
        assert changes[f"{name}_norm"].action == said
        assert names_of(folded, place)[1:] == [name]
        assert isinstance(folded.get_layer(name).input_quantizer, RSign)


def test_before_signs():
    check_shifts(*fold(lambda: after_norms(KERNELS), make_positive), KERNELS)


REFUSED = {
    "negative": lambda name: [zero_padded(name)],
    "zero": lambda name: [zero_padded(name)],
    "pool": lambda name: [layers.MaxPool2D(), zero_padded(name)],
    "swish": lambda name: [
        zero_padded(name, input_quantizer=lq.quantizers.SwishSign())
    ],
    "real": lambda name: [layers.Conv2D(3, 3, name=name)],
}
REASONS = {
    "negative": "1 of its 4 gains are 0 or negative",
    "zero": "1 of its 4 gains are 0 or negative",
    "pool": "(MaxPooling2D) lies after it",
    "swish": "RSign has no estimator like that of S",
    "real": "'real' (Conv2D) lies after it",
}


def test_where_an_affine_layer_is_needed():
    def change(model):
        make_positive(model)
        for name, gain in (("negative", -0.5), ("zero", 0.0)):
            gamma = model.get_layer(f"{name}_norm").gamma
            gamma.assign([gain, *gamma[1:]])

    _, changes = fold(lambda: after_norms(REFUSED), change)
    for name, reason in REASONS.items():
        assert changes[f"{name}_norm"].action == AFFINE
        assert reason in changes[f"{name}_norm"].reason


QUANTIZERS = {
    "approx": lq.quantizers.ApproxSign,
    "straight_through": lq.quantizers.SteSign,
    "shifted": lambda: RSign(scale=1.5, estimator="ste_sign"),
}


def test_values_and_gradients_of_signs():
    """With gains all alike, the gradient is exactly the one before, too."""
    table = {
        name: lambda name: [zero_padded(name, input_quantizer=QUANTIZERS[name]())]
        for name in QUANTIZERS
    }
    check_shifts(*fold(lambda: after_norms(table), make_positive), table)
    model = random_model(lambda: after_norms(table))
    for name in QUANTIZERS:
        given = model.get_layer(f"{name}_norm")
        given.gamma.assign(np.full(4, 0.7))
        given.moving_variance.assign(np.full(4, 0.9))
    random = np.random.default_rng(4)
    x = [tf.constant(random.normal(size=(4, 8, 8, 4))) for _ in QUANTIZERS]
    gradients = [gradient(m, x) for m in (model, nobn.fold_batch_norm(model))]
    for name, wanted, actual in zip(QUANTIZERS, *gradients, strict=True):
        tolerance = 1e-9 * np.abs(wanted).max()
        assert_allclose(actual, wanted, atol=tolerance, err_msg=name)


def gradient(model, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = sum(tf.reduce_sum(tf.square(y)) for y in model(x))
    return tape.gradient(loss, x)


def test_signs_that_are_layers():
    def row(name, sign):
        conv = zero_padded(f"{name}_conv", input_quantizer=None)
        return [*norm(f"{name}_norm"), sign, nobn.layers.SignFlipDropout(), conv]

    def build():
        sign = layers.Activation(lq.quantizers.SteSign(), name="a")
        return beside(row("a", sign), row("b", lq.quantizers.ApproxSign(name="b")))

    folded, changes = fold(build, make_positive)
    for name in "ab":
        assert isinstance(folded.get_layer(name), RSign)
        said = f"became the shift of the sign {name!r}"
        assert changes[f"{name}_norm"].action == said


def test_all_readers_take_it_or_none():
    def build():
        inputs, outputs = keras.Input(SHAPE), []
        for name in ("all", "none"):
            x = BatchNorm(name=name)(layers.Activation("tanh")(inputs))
            signs = [binary_conv(6, 1, name=f"{name}_{i}") for i in "ab"]
            more = [layers.ReLU(name="r")] if name == "none" else []
            outputs += [layer(x) for layer in (*signs, *more)]
        return keras.Model(inputs, outputs, name="net")

    folded, changes = fold(build, make_positive)
    assert "all" not in [layer.name for layer in folded.layers]
    words = [f"became the shift of the sign in 'all_{name}'" for name in "ab"]
    assert set(changes["all"].action.split(" and ")) == set(words)
    assert changes["none"].action == AFFINE
    assert "'r' (ReLU) lies after it" in changes["none"].reason


def test_a_layer_used_twice_is_left_alone():
    def build():
        inputs = keras.Input(SHAPE)
        conv = binary_conv(4, 1, name="conv")
        x = BatchNorm(name="norm")(layers.Activation("tanh")(inputs))
        return keras.Model(inputs, conv(layers.ReLU()(conv(x))), name="net")

    _, changes = fold(build)
    assert "'conv' (QuantConv2D) is used more than once" in changes["norm"].reason
