"""Signs of sums that are exactly 0: alike in the given model and in the file."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import binary_conv, images
from deploy.operations.programs import check_together
from larq_nobn._keras import keras
from numpy.testing import assert_equal
from tie_networks import (
    GAINS,
    MEANS,
    REAL,
    SHAPE,
    WHOLE,
    network,
    norm,
)

layers = keras.layers
X = images(4, SHAPE)


def rescaled(x):
    """Whole numbers times 0.7, rectified."""
    return norm(0.7, 0.0, 1e-3, "first")(layers.ReLU()(binary_conv(16)(x)))


def own_means():
    """Means as the norm of `rescaled` makes them: they round as its map does."""
    whole = tf.constant(MEANS.reshape(1, 1, 1, 16), tf.float32)
    return norm(0.7, 0.0, 1e-3, "first")(whole).numpy().ravel()


# What tie_networks has, and what is a number of its own here.
CASES = {
    **{kind: (part, {}) for kind, part in WHOLE.items()},
    **{kind: (part, {"means": mean}) for kind, (mean, part) in REAL.items()},
    "without an epsilon": (WHOLE["rectified"], {"epsilon": 0.0}),
    "rescaled": (rescaled, {"means": own_means(), "epsilon": 0.0}),
    "some gains are 0": (WHOLE["rectified"], {"gains": GAINS * (np.arange(16) % 5)}),
}


@pytest.mark.convert
def test_files_give_the_signs_of_the_given_model():
    models = {}
    for kind, (part, options) in CASES.items():
        models[kind], before = network(part, **options)
        assert np.mean(before(X).numpy() == 0) > 0.01, kind
    actual = [layer for model in models.values() for layer in model.layers]
    binary = [layer for layer in actual if getattr(layer, "kernel_quantizer", None)]
    audit = check_together(models, X)
    assert audit.ops["LceBconv2d"] == len(binary)


def bordered(quantizer, kernel, pad, gain):
    """A map that is padded with what LCE does not pad with, and read by a sign."""
    start = keras.Input((6, 6, 4))
    options = {"input_quantizer": quantizer, "kernel_quantizer": kernel}
    x = binary_conv(16, pad_values=pad, name="first", **options)(start)
    if gain is not None:
        x = norm(gain, 0.0, 1e-3, "norm")(x)
    x = layers.GlobalAveragePooling2D()(binary_conv(8)(x))
    return keras.Model(start, x)


@pytest.mark.convert
def test_sums_beside_a_border_have_no_scale_before_a_sign():
    models, wanted, x = {}, {}, images(4, (6, 6, 4))
    for quantizer, pad, kernel, gain in (
        ("ste_heaviside", 1.0, "magnitude_aware_sign", 0.7),
        ("ste_sign", -1.0, "scaled_std_sign", None),
        ("ste_sign", 0.5, "scaled_std_sign", -0.7),
    ):
        models[quantizer, pad] = given = bordered(quantizer, kernel, pad, gain)
        # In steps of the scale, Keras' own sums are noise where they should be 0.
        whole = bordered(quantizer, "ste_sign", pad, gain)
        for layer, other in zip(whole.layers, given.layers, strict=True):
            if hasattr(layer, "kernel"):
                with lq.context.quantized_scope(True):
                    layer.kernel.assign(tf.sign(other.kernel))
            else:
                layer.set_weights(other.get_weights())
        sums = keras.Model(whole.inputs, whole.get_layer("first").output)(x)
        assert np.mean(sums.numpy() == 0) > 0.01
        wanted[quantizer, pad] = whole(x)
    audit = check_together(models, x, 1e-4, wanted)
    assert audit.ops["LceBconv2d"] == 2 * len(models)


def scaled(x, size=3, shift=0.0, **options):
    """Sums of signs, beside zeros unless it is said otherwise, times a number."""
    gains = np.random.default_rng(0).uniform(0.3, 2.0, 8)
    y = binary_conv(8, size, **{"pad_values": 0.0, **options})(x)
    return norm(gains, shift, 1e-3, None)(y)


def padded(x):
    """A pad of its own beside the convolution's."""
    signs = layers.ZeroPadding2D()(layers.Activation("ste_sign")(x))
    apart = scaled(signs, padding="valid", pad_values=0.0, input_quantizer=None)
    return layers.Add()([apart, scaled(x)])


def gated(x):
    y = scaled(x, pad_values=-1.0)
    gate = layers.Dense(8, "sigmoid")(layers.GlobalAveragePooling2D()(y))
    return layers.Multiply()([y, layers.Reshape((1, 1, 8))(gate)])


STEPS = {"input_quantizer": "ste_heaviside"}
# Sums of scaled signs, of which many are 0 to Keras as well.
AROUND_0 = {
    "a pad": padded,
    "0 and 1": lambda x: scaled(x, **STEPS),
    "0 and 1 without zeros": lambda x: x + scaled(x, pad_values=1.0, **STEPS),
    "0 and 1 of size 1": lambda x: scaled(x, 1, **STEPS),
    "a kernel of 0 and 1": lambda x: scaled(x, kernel_quantizer="ste_heaviside"),
    "some shifts": lambda x: x + scaled(x, shift=np.where(np.arange(8) % 3, 0.0, 0.37)),
    "a maximum": lambda x: layers.Maximum()([scaled(x), x]),
    "a factor": lambda x: layers.DepthwiseConv2D(1)(scaled(x)),
    "a gate": gated,
    "groups": lambda x: scaled(scaled(x, pad_values=0.5), groups=2),
}


@pytest.mark.convert
@pytest.mark.parametrize("runtime", ["lce", "litert"])
def test_sums_are_0_whatever_makes_and_reads_them(runtime):
    models, x = {}, images(4, (6, 5, 4))
    for kind, made in AROUND_0.items():
        keras.utils.set_random_seed(0)
        start = keras.Input((6, 5, 4))
        seen = made(scaled(layers.Conv2D(8, 3, padding="same")(start)))
        assert np.mean(keras.Model(start, seen)(x).numpy() == 0) > 0.01, kind
        models[kind] = keras.Model(start, scaled(seen))
    check_together(models, x, 1e-5, runtime=runtime)


def mean(x, axes=(1, 2)):
    return tf.reduce_mean(x, axes, keepdims=True)


# What a sign reads of sums and of means of them, which cancel.
OF_MEANS = {
    "less": lambda y: layers.Subtract()([y, mean(y)]),
    "beside": lambda y: layers.Add()([layers.GlobalAveragePooling2D()(y), y]),
    "of rows": lambda y: y - mean(y, 1),
    "rectified": lambda y: layers.ReLU()(y) - mean(layers.ReLU()(y)),
    "alone": lambda y: mean(y, 2),
    "of means": lambda y: mean(layers.AveragePooling2D(2)(y)) - mean(y, 1),
}


@pytest.mark.convert
@pytest.mark.parametrize("runtime", ["lce", "litert"])
def test_means_of_scaled_sums_are_those_of_whole_numbers(runtime):
    models, wanted, x = {}, {}, images(8, (8, 4, 4))
    start, gains = keras.Input((8, 4, 4)), np.random.default_rng(0).uniform(0.3, 2, 8)
    options = {"pad_values": 0.0, "kernel_quantizer": "magnitude_aware_sign"}
    keras.utils.set_random_seed(0)
    for kind, made in OF_MEANS.items():
        first, last = binary_conv(8, **options), binary_conv(8)
        seen = made(norm(gains, 0.0, 1e-3, None)(first(start)))
        models[kind] = keras.Model(start, last(seen))
        whole = binary_conv(8, pad_values=0.0)
        exact = made(whole(start))
        wanted[kind] = keras.Model(start, last(exact))
        whole.set_weights(first.get_weights())
        at_0 = keras.Model(start, exact)(x).numpy() == 0
        assert np.any(keras.Model(start, seen)(x).numpy()[at_0]), kind  # noise
        wanted[kind] = wanted[kind](x).numpy()
        prepared = nobn.deploy.prepared(models[kind], verify=False)
        assert_equal(prepared.predict(x, verbose=0), wanted[kind], kind)
        (weight,) = prepared.trainable_weights  # once, wherever it is needed
        assert weight.name.endswith("/scale:0")
    check_together(models, x, 0.0, wanted, runtime)


@pytest.mark.convert
def test_thresholds_stay_between_the_sums_beside_a_border():
    """Half a step is no place for a threshold where sums are halves."""
    start = keras.Input((6, 6, 3))
    options = {"pad_values": 0.5, "use_bias": True, "bias_initializer": "ones"}
    x = binary_conv(16, name="first", **options)(start)
    x = keras.layers.Rescaling(1.0, 0.25)(x)
    model = keras.Model(start, layers.GlobalAveragePooling2D()(binary_conv(8)(x)))
    check_together({"halves": model}, images(4, (6, 6, 3)), 1e-5)


@pytest.mark.convert
def test_a_negative_factor_before_a_sign_turns_the_side_of_a_tie():
    """A border keeps the factor from the kernel after the sign, which would undo it.

    Beside sums of two weights, nothing rounds what is off by little.
    """
    numbers = {"gamma": -1.0, "moving_mean": 2.0, "moving_variance": 0.999}
    constants = {
        f"{name}_initializer": keras.initializers.Constant(value)
        for name, value in numbers.items()
    }
    x = start = keras.Input((6, 6, 2))
    x = layers.MaxPooling2D(2, 1)(binary_conv(16, 1, name="first")(x))
    x = before = layers.BatchNormalization(**constants)(x)
    model = keras.Model(start, layers.GlobalAveragePooling2D()(binary_conv(8)(x)))
    x = images(4, (6, 6, 2))
    assert np.mean(keras.Model(start, before)(x).numpy() == 0) > 0.01
    check_together({"negative": model}, x, 1e-5)


@pytest.mark.convert
def test_sums_stay_whole_beside_a_sign_that_is_shifted():
    """The shift would become a bias, after which no sum is quite 0 to other signs."""
    quantizer = nobn.quantizers.RSign()
    start, data = keras.Input((6, 6, 4)), images(4, (6, 6, 4))
    x = binary_conv(16)(start)
    zeros = layers.Activation(tf.sign)(layers.ReLU()(x))
    ends = [zeros, binary_conv(8, input_quantizer=quantizer)(x)]
    quantizer.shift.assign(np.random.default_rng(0).normal(size=16))
    model = keras.Model(start, [layers.GlobalAveragePooling2D()(end) for end in ends])
    assert np.mean(keras.Model(start, x)(data).numpy() == 0) > 0.01
    check_together({"both": model}, data, 1e-6)
