"""What people build with Larq: all that is binary stays so.

Layers that have no binary kernel are in `test_allow_float.py`, those that are binary
convolutions in other words in `prepare/rewrites/`, models of open size or without a
layer graph in `test_open_sizes.py` and `test_traced.py`.
"""

import larq as lq
import numpy as np
import pytest
from deploy.nets import binary_conv, chain, images, scrambled
from larq_nobn._keras import keras
from larq_nobn.deploy import Runner, convert

pytestmark = pytest.mark.convert
layers = keras.layers
MAP = (4, 4, 8)
SIGNS = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign"}
CLIPPED = {**SIGNS, "kernel_constraint": "weight_clip", "use_bias": False}
FIRST = {name: CLIPPED[name] for name in CLIPPED if name != "input_quantizer"}


def norm():
    return layers.BatchNormalization(momentum=0.999, scale=False)


def quantized(kind, *arguments, **options):
    return getattr(lq.layers, f"Quant{kind}")(*arguments, **{**CLIPPED, **options})


def built(function):
    inputs = keras.Input(MAP)
    return scrambled(keras.Model(inputs, function(inputs)))


def in_a_row(*rows):
    return chain(*rows, shape=MAP, stem=False)


def mnist_tutorial():
    """Larq's introduction, with fewer filters: binary but for its first layer."""
    rows = [
        lq.layers.QuantConv2D(8, 3, input_shape=(28, 28, 1), **FIRST),
        *(layers.MaxPooling2D((2, 2)), norm()),
        *(quantized("Conv2D", 16, 3), layers.MaxPooling2D((2, 2)), norm()),
        *(quantized("Conv2D", 16, 3), norm(), layers.Flatten()),
        *(quantized("Dense", 16), norm()),
        *(quantized("Dense", 10), norm(), layers.Activation("softmax")),
    ]
    return scrambled(keras.Sequential(rows))


def cifar_tutorial():
    """BinaryNet on CIFAR-10, with fewer filters and smaller images."""
    rows = [lq.layers.QuantConv2D(8, 3, input_shape=(16, 16, 3), **FIRST), norm()]
    for filters, pools in ((8, True), (16, False), (16, True), (32, False)):
        rows.append(quantized("Conv2D", filters, 3, padding="same"))
        rows += [layers.MaxPooling2D((2, 2), (2, 2))] if pools else []
        rows.append(norm())
    rows.append(layers.Flatten())
    for units in (64, 64, 10):
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


# How to build it, and how many binary convolutions its file holds.
TABLE = {
    "MNIST tutorial": (mnist_tutorial, 4),
    "CIFAR-10 tutorial": (cifar_tutorial, 7),
    "up-sampling": (
        lambda: in_a_row(
            binary_conv(8), norm(), layers.UpSampling2D(2), binary_conv(4)
        ),
        2,
    ),
    "U-Net": (lambda: built(u_net), 3),
    "squeeze and excite": (lambda: built(squeeze_and_excite), 1),
    "Lambda": (
        lambda: in_a_row(
            binary_conv(8), norm(), layers.Lambda(lambda x: x - 0.5), binary_conv(4)
        ),
        2,
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_all_that_is_binary_stays_binary_and_computes_the_same(name, tmp_path):
    build, binary = TABLE[name]
    model, path = build(), tmp_path / "m.tflite"
    x = images(32, model.input_shape[1:])
    report = convert(model, path, data=x)
    assert report.lce_bconv2d == report.binary_layers == binary
    assert report.in_float == []
    found, expected = Runner(path.read_bytes())(x), np.asarray(model(x))
    off = np.abs(found - expected).reshape(32, -1).max(axis=1)
    # But for signs within rounding of 0.
    assert (off <= 1e-3 * np.abs(expected).max()).sum() >= 30
