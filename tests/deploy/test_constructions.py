"""What people build with Larq: all that is binary stays so, or is rejected in words."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import larq as lq
import numpy as np
import pytest
from deploy.nets import binary_conv, chain, images, scrambled
from larq_nobn._keras import keras
from larq_nobn.deploy import ConversionError, Runner, convert

pytestmark = pytest.mark.convert
layers = keras.layers
MAP = (4, 4, 8)
SIGNS = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign"}
TWO = {"input_quantizer": "ste_sign", "depthwise_quantizer": "ste_sign"}
CLIPPED = {**SIGNS, "kernel_constraint": "weight_clip", "use_bias": False}
FIRST = {name: CLIPPED[name] for name in CLIPPED if name != "input_quantizer"}


def norm():
    return layers.BatchNormalization(momentum=0.999, scale=False)


def quantized(kind, *arguments, **options):
    return getattr(lq.layers, f"Quant{kind}")(*arguments, **{**CLIPPED, **options})


def built(function, shape=MAP):
    inputs = keras.Input(shape)
    return scrambled(keras.Model(inputs, function(inputs)))


def in_a_row(*rows, shape=MAP):
    return chain(*rows, shape=shape, stem=False)


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


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.convs = [binary_conv(8), binary_conv(8)]
        self.norms = [norm(), norm()]

    def call(self, x):
        for conv, after in zip(self.convs, self.norms, strict=True):
            x = x + after(conv(x))
        return x


def subclassed():
    model = Subclassed()
    model(images(1, MAP))
    return scrambled(model)


def dynamic():
    """Of a size that only the conversion sets."""
    shape = (None, None, 8)
    return chain(binary_conv(), norm(), binary_conv(), shape=shape, stem=False)


@dataclass(frozen=True)
class Construction:
    """One way to build with Larq.

    Arguments:
        build: Makes a model.
        binary: How many binary convolutions its file holds: all that are binary.
        in_float: Classes of layers that have no binary kernel.
        options: Of `convert`.
    """

    build: Callable[[], keras.Model]
    binary: int
    in_float: Sequence[str] = ()
    options: dict[str, Any] = field(default_factory=dict)


def without_kernel(layer, before=()):
    """A layer that has no binary kernel, after one that has."""
    rows = [binary_conv(8), norm(), *before, layer]
    return Construction(lambda: in_a_row(*rows), 1, (type(layer).__name__,))


TABLE = {
    "MNIST tutorial": Construction(mnist_tutorial, 4),
    "CIFAR-10 tutorial": Construction(cifar_tutorial, 7),
    "1D": Construction(
        lambda: in_a_row(
            quantized("Conv1D", 8, 3, padding="causal"),
            norm(),
            quantized("Conv1D", 4, 3),
            shape=(9, 8),
        ),
        2,
    ),
    "groups": Construction(lambda: in_a_row(binary_conv(8, groups=4)), 4),
    "inputs of 0 and 1": Construction(
        lambda: in_a_row(binary_conv(8, input_quantizer="ste_heaviside")), 1
    ),
    "dense layers alone": Construction(
        lambda: in_a_row(
            quantized("Dense", 32), norm(), quantized("Dense", 4), shape=(20,)
        ),
        2,
    ),
    "zeros around small maps": Construction(
        lambda: in_a_row(layers.MaxPooling2D(4), binary_conv(8, pad_values=0.0)), 1
    ),
    "up-sampling": Construction(
        lambda: in_a_row(
            binary_conv(8), norm(), layers.UpSampling2D(2), binary_conv(4)
        ),
        2,
    ),
    "random crop": Construction(
        lambda: in_a_row(layers.RandomCrop(6, 6), binary_conv(8)), 1
    ),
    "U-Net": Construction(lambda: built(u_net), 3),
    "squeeze and excite": Construction(lambda: built(squeeze_and_excite), 1),
    "Lambda": Construction(
        lambda: in_a_row(
            binary_conv(8), norm(), layers.Lambda(lambda x: x - 0.5), binary_conv(4)
        ),
        2,
    ),
    "dynamic size": Construction(dynamic, 2, options={"input_shape": MAP}),
    "subclassed": Construction(subclassed, 2),
    "ternary": without_kernel(binary_conv(8, kernel_quantizer="ste_tern")),
    "DoReFa": without_kernel(binary_conv(8, input_quantizer=lq.quantizers.DoReFa(2))),
    "depthwise": without_kernel(lq.layers.QuantDepthwiseConv2D(3, **TWO)),
    "separable": without_kernel(
        lq.layers.QuantSeparableConv2D(8, 3, pointwise_quantizer="ste_sign", **TWO)
    ),
    "transposed": without_kernel(quantized("Conv2DTranspose", 8, 3)),
    "3D": without_kernel(
        quantized("Conv3D", 2, 3), before=[layers.Reshape((4, 4, 8, 1))]
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_all_that_is_binary_stays_binary_and_computes_the_same(name, tmp_path):
    row = TABLE[name]
    model, path, options = row.build(), tmp_path / "m.tflite", dict(row.options)
    if row.in_float:
        with pytest.raises(ConversionError, match=f"{row.in_float[0]}|'ste_sign'"):
            convert(model, path)
        assert not any(tmp_path.iterdir())
        options["allow_float"] = True
    size = options.get("input_shape") or getattr(model, "input_shape", (0, *MAP))[1:]
    x = images(32, size)
    report = convert(model, path, data=x, **options)
    assert report.lce_bconv2d == report.binary_layers == row.binary
    assert [layer["kind"] for layer in report.in_float] == list(row.in_float)
    found, expected = Runner(path.read_bytes())(x), np.asarray(model(x))
    off = np.abs(found - expected).reshape(32, -1).max(axis=1)
    # But for signs within rounding of 0.
    assert (off <= 1e-3 * np.abs(expected).max()).sum() >= 30
