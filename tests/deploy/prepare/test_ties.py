"""Signs of sums that are exactly 0: alike given, prepared and in the file."""

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import binary_conv, images
from deploy.prepare.preparing import check_together
from larq_nobn._keras import keras
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


# What tie_networks has, and what is a number of its own here.
CASES = {
    **{kind: (part, {}) for kind, part in WHOLE.items()},
    **{kind: (part, {"means": mean}) for kind, (mean, part) in REAL.items()},
    "without an epsilon": (WHOLE["rectified"], {"epsilon": 0.0}),
    "rescaled": (rescaled, {"means": MEANS * 0.7 / np.sqrt(1.001), "epsilon": 0.0}),
    "some gains are 0": (WHOLE["rectified"], {"gains": GAINS * (np.arange(16) % 5)}),
}


@pytest.mark.convert
def test_prepared_models_and_files_give_the_signs_of_the_given_model():
    models = {}
    for kind, (part, options) in CASES.items():
        models[kind], before = network(part, **options)
        assert np.mean(before(X).numpy() == 0) > 0.01, kind
    found = [layer for model in models.values() for layer in model.layers]
    binary = [layer for layer in found if getattr(layer, "kernel_quantizer", None)]
    assert check_together(models, X, 0.0).ops["LceBconv2d"] == len(binary)


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
    for quantizer, pad in (
        ("ste_heaviside", 1.0),
        ("ste_sign", -1.0),
        ("ste_sign", 0.5),
    ):
        for kernel, gain in (
            ("magnitude_aware_sign", 0.7),
            ("scaled_std_sign", None),
            ("scaled_std_sign", -0.7),
        ):
            name = f"{quantizer}, {pad}, {kernel}, {gain}"
            models[name] = given = bordered(quantizer, kernel, pad, gain)
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
            wanted[name] = whole(x)
    audit = check_together(models, x, 1e-4, wanted)
    assert audit.ops["LceBconv2d"] == 2 * len(models)
