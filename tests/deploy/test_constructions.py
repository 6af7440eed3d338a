"""What people build with Larq: all that is binary stays so."""

import larq as lq
import numpy as np
import pytest
from deploy.nets import binary_conv, chain, scrambled
from deploy.sides import beside, examples
from larq_nobn._keras import keras
from larq_nobn.deploy import Runner, convert

pytestmark = pytest.mark.convert
layers = keras.layers
MAP = (4, 4, 8)
CLIPPED = {
    "input_quantizer": "ste_sign",
    "kernel_quantizer": "ste_sign",
    "kernel_constraint": "weight_clip",
    "use_bias": False,
}
FIRST = {name: CLIPPED[name] for name in CLIPPED if name != "input_quantizer"}


def norm():
    return layers.BatchNormalization(momentum=0.999, scale=False)


def quantized(kind, *arguments, **options):
    return getattr(lq.layers, f"Quant{kind}")(*arguments, **{**CLIPPED, **options})


def built(function):
    inputs = keras.Input(MAP)
    return scrambled(keras.Model(inputs, function(inputs)))


def in_a_row(*rows, shape=MAP):
    return chain(*rows, shape=shape, stem=False, name=f"after_{rows[0].name}")


def tutorial():
    """Larq's BinaryNet on CIFAR-10, with fewer filters and smaller images."""
    rows = [lq.layers.QuantConv2D(8, 3, input_shape=(8, 8, 3), **FIRST), norm()]
    for pools in (True, False):
        rows.append(quantized("Conv2D", 8, 3, padding="same"))
        rows += [layers.MaxPooling2D((2, 2), (2, 2))] if pools else []
        rows.append(norm())
    rows.append(layers.Flatten())
    for units in (16, 10):
        rows += [quantized("Dense", units), norm()]
    return scrambled(keras.Sequential([*rows, layers.Activation("softmax")]))


def u_net(x):
    down = norm()(binary_conv(8)(x))
    middle = norm()(binary_conv(8)(layers.MaxPooling2D()(down)))
    up = layers.UpSampling2D()(middle)
    return norm()(binary_conv(4)(layers.Concatenate()([up, down])))


def squeeze_and_excite(x):
    y = norm()(binary_conv(8)(x))
    gate = layers.Dense(2, activation="relu")(layers.GlobalAveragePooling2D()(y))
    gate = layers.Dense(8, activation="sigmoid")(gate)
    return layers.Multiply()([y, layers.Reshape((1, 1, 8))(gate)])


def augmented():
    own = layers.Lambda(lambda x: x - 0.5)
    rows = layers.RandomCrop(3, 3), binary_conv(8), norm(), own, layers.UpSampling2D(2)
    return in_a_row(*rows, binary_conv(4))


# How many binary convolutions their files hold: all that are binary.
TABLE = {
    "tutorial": (tutorial, 4),
    "U-Net": (lambda: built(u_net), 3),
    "squeeze and excite": (lambda: built(squeeze_and_excite), 1),
    "crops, functions, up-sampling": (augmented, 2),
}


def test_all_that_is_binary_stays_binary_and_computes_the_same(tmp_path):
    """Of one file, side by side."""
    model, path = (
        beside([build() for build, _ in TABLE.values()]),
        tmp_path / "m.tflite",
    )
    x = examples(model, 16)
    report = convert(model, path, data=x)
    binary = sum(count for _, count in TABLE.values())
    assert report.lce_bconv2d == report.binary_layers == binary
    assert report.in_float == report.merged == []
    pairs = zip(Runner(path.read_bytes())(x), model(x, training=False), strict=True)
    for name, (found, expected) in zip(TABLE, pairs, strict=True):
        off = np.abs(found - expected).reshape(16, -1).max(axis=1)
        # But for signs within rounding of 0.
        assert (off <= 1e-3 * np.abs(expected).max()).sum() >= 15, name
