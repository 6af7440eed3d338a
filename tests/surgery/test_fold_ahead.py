"""Batch norm before signs and before layers of weights."""

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


def test_before_signs_with_gains_of_both_signs():
    folded, changes = fold(lambda: after_norms(KERNELS))
    for place, name in enumerate(KERNELS):
        said = f"became the shift of the sign in {name!r}"
        assert changes[f"{name}_norm"].action == said
        assert names_of(folded, place)[1:] == [name]
        assert isinstance(folded.get_layer(name).input_quantizer, RSign)


def test_latent_weights_and_gains_of_zero():
    """The first are turned as well; of the other a sign cannot be the threshold."""
    table = {name: lambda name: [zero_padded(name)] for name in ("latent", "gain")}

    def change(model):
        kernel = model.get_layer("latent").kernel.latent_variable
        kernel.assign(np.where(np.abs(kernel) < 0.5, 0.0, kernel))
        gamma = model.get_layer("gain_norm").gamma
        gamma.assign([0.0, *gamma[1:]])

    _, changes = fold(lambda: after_norms(table), change)
    assert changes["latent_norm"].action == "became the shift of the sign in 'latent'"
    assert "1 of its 4 gains are 0" in changes["gain_norm"].reason


REFUSED = {
    "ones": lambda name: [binary_conv(6, name=name)],
    "standardized": lambda name: [
        zero_padded(name, kernel_quantizer="scaled_std_sign")
    ],
    "maximum": lambda name: [layers.MaxPool2D(), zero_padded(name)],
    "swish": lambda name: [
        zero_padded(name, input_quantizer=lq.quantizers.SwishSign())
    ],
}
REASONS = {
    "ones": "pads with 1",
    "standardized": "the kernel_quantizer of 'standardized' does not",
    "maximum": "are negative, and",
    "swish": "RSign has no estimator like that of S",
}


def test_where_an_affine_layer_is_needed():
    """Of negative gains, and of estimators without a counterpart."""
    _, changes = fold(lambda: after_norms(REFUSED))
    for name, reason in REASONS.items():
        assert changes[f"{name}_norm"].action == AFFINE
        assert reason in changes[f"{name}_norm"].reason
    _, changes = fold(lambda: after_norms(REFUSED), make_positive)
    for name in ("ones", "standardized", "maximum"):
        said = f"became the shift of the sign in {name!r}"
        assert changes[f"{name}_norm"].action == said
    assert changes["swish_norm"].action == AFFINE


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
    fold(lambda: after_norms(table))
    model = random_model(lambda: after_norms(table))
    for name in QUANTIZERS:
        given = model.get_layer(f"{name}_norm")
        given.gamma.assign(np.full(4, 0.7))
        given.moving_variance.assign(np.full(4, 0.9))
    random = np.random.default_rng(4)
    x = [tf.constant(random.normal(size=(4, 8, 8, 4))) for _ in QUANTIZERS]
    gradients = [gradient(m, x) for m in (model, nobn.fold_batch_norm(model))]
    for name, wanted, found in zip(QUANTIZERS, *gradients, strict=True):
        tolerance = 1e-9 * np.abs(wanted).max()
        assert_allclose(found, wanted, atol=tolerance, err_msg=name)


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

    folded, changes = fold(build)
    for name in "ab":
        assert isinstance(folded.get_layer(name), RSign)
        said = f"became the shift of the sign {name!r}"
        assert changes[f"{name}_norm"].action == said


def test_all_readers_take_it_or_none():
    def build():
        inputs, outputs = keras.Input(SHAPE), []
        last = {"all": layers.Conv2D(6, 1, name="real"), "none": layers.ReLU(name="r")}
        for name, other in last.items():
            x = BatchNorm(name=name)(layers.Activation("tanh")(inputs))
            signs = [binary_conv(6, 1, name=f"{name}_{i}") for i in "ab"]
            outputs += [layer(x) for layer in (*signs, other)]
        return keras.Model(inputs, outputs, name="net")

    folded, changes = fold(build)
    assert "all" not in [layer.name for layer in folded.layers]
    words = ["folded into 'real'"]
    words += [f"became the shift of the sign in 'all_{name}'" for name in "ab"]
    assert set(changes["all"].action.split(" and ")) == set(words)
    assert changes["none"].action == AFFINE
    assert "'r' (ReLU) lies after it" in changes["none"].reason


def conv(name, filters=3, size=3, **kwargs):
    return layers.Conv2D(filters, size, name=name, **kwargs)


def dense(name):
    return layers.Dense(3, name=name)


AHEAD = {
    "dense": lambda name: [dense(name)],
    "conv": lambda name: [conv(name, use_bias=False, activation="relu")],
    "depthwise": lambda name: [
        layers.DepthwiseConv2D(3, depth_multiplier=2, name=name)
    ],
    "separable": lambda name: [layers.SeparableConv2D(3, 3, name=name)],
    "flattened": lambda name: [layers.Flatten(), dense(name)],
    "both": lambda name: [layers.AvgPool2D(), layers.Flatten(), dense(name)],
    # Between two layers of weights both sides compose.
    "between": lambda name: [dense(name), BatchNorm(), dense("last")],
}


def test_before_layers_of_weights():
    folded, changes = fold(lambda: after_norms(AHEAD))
    assert not any(isinstance(x, nobn.layers.ChannelAffine) for x in folded.layers)
    for name in AHEAD:
        assert changes[f"{name}_norm"].action == f"folded into {name!r}"


UNEVEN = {
    "zeros_around": lambda name: [conv(name, padding="same")],
    "steps": lambda name: [layers.Conv2DTranspose(3, 3, name=name)],
}


def test_a_bias_does_not_pass_what_sees_it_unevenly():
    _, changes = fold(lambda: after_norms(UNEVEN))
    for name in UNEVEN:
        change = changes[f"{name}_norm"]
        assert change.action == AFFINE
        assert "not see as much of its input everywhere" in change.reason
    folded, _ = fold(lambda: after_norms(UNEVEN), without_bias)
    assert not any(isinstance(x, nobn.layers.ChannelAffine) for x in folded.layers)


def without_bias(model):
    """Leaves every batch norm a gain alone."""
    for weight in model.weights:
        if "beta" in weight.name or "moving_mean" in weight.name:
            weight.assign(np.zeros(weight.shape))


# Layers that pad, by what they pad, and the gain of one of the channels before them.
BORDERS = {
    "Conv2D": ((8, 8, 4), (3, 3), {}, 2.0),
    "Conv2D strided": ((8, 8, 4), (3, 3), {"strides": 2}, -1.0),
    "DepthwiseConv2D": ((8, 8, 4), (3,), {}, 0.0),
    "SeparableConv1D": ((8, 4), (3, 3), {}, 2.0),
}


def bordered(value):
    rows = []
    for place, (kind, (shape, given, options, gain)) in enumerate(BORDERS.items()):
        row = [*norm(f"norm{place}")]
        if gain == 2:
            pool = getattr(layers, f"AveragePooling{len(shape) - 1}D")
            row.append(pool(2, 1, "same"))
        options = {"padding": "same", "pad_values": value, **options}
        layer = getattr(lq.layers, f"Quant{kind.split()[0]}")
        rows.append([*row, layer(*given, name=f"conv{place}", **options)])
    return beside(*rows, shapes=[row[0] for row in BORDERS.values()])


def one_gain(model):
    without_bias(model)
    for place, (shape, *_, gain) in enumerate(BORDERS.values()):
        gains = np.append(np.ones(shape[-1] - 1), gain)
        model.get_layer(f"norm{place}").gamma.assign(gains)


def test_a_gain_passes_a_border_of_zeros_and_not_of_ones():
    _, of_ones = fold(lambda: bordered(1.0), one_gain)
    _, of_zeros = fold(lambda: bordered(0.0), one_gain)
    for place in range(len(BORDERS)):
        change = of_ones[f"norm{place}"]
        assert change.action == AFFINE
        assert f"'conv{place}' pads with 1" in change.reason
        assert of_zeros[f"norm{place}"].action == f"folded into 'conv{place}'"


def test_a_layer_used_twice_is_left_alone():
    def build():
        inputs = keras.Input(SHAPE)
        conv = layers.Conv2D(4, 1, name="conv")
        x = BatchNorm(name="norm")(layers.Activation("tanh")(inputs))
        return keras.Model(inputs, conv(layers.ReLU()(conv(x))), name="net")

    _, changes = fold(build)
    assert "'conv' (Conv2D) is used more than once" in changes["norm"].reason
