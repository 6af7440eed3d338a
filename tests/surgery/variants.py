"""Models put together as those of papers are not: what users also bring."""

from __future__ import annotations

import larq as lq
from larq_nobn._keras import keras
from surgery.parts import binary, conv, head, image_input, norm, settled

layers = keras.layers
SIGNS = {
    "input_quantizer": "ste_sign",
    "kernel_quantizer": "ste_sign",
    "kernel_constraint": "weight_clip",
}
INNER = (8, 8, 8)


def _block(name="block"):
    inputs = image_input(INNER)
    x = norm(binary(norm(inputs), 8), name="norm")
    return keras.Model(inputs, layers.add([x, inputs]), name=name)


def sequential():
    rows = [
        image_input(),
        layers.Conv2D(8, 3, 2, padding="same"),
        layers.BatchNormalization(),
        layers.PReLU(shared_axes=[1, 2]),
        lq.layers.QuantConv2D(8, 3, padding="same", pad_values=1.0, **SIGNS),
        layers.BatchNormalization(scale=False),
        layers.Dropout(0.1),
        layers.AvgPool2D(2),
        layers.BatchNormalization(center=False),
        layers.Flatten(),
        layers.Dense(6),
        layers.BatchNormalization(),
        layers.Dense(5),
    ]
    return keras.Sequential(rows, name="sequential")


def nested():
    """A model in a model in a model, whose layers share a name across models."""
    image = image_input()
    x = conv(image, 8, strides=2)
    tail = [layers.BatchNormalization(name="norm"), layers.GlobalAveragePooling2D()]
    middle = keras.Sequential([image_input(INNER), _block("inner"), *tail], name="tail")
    x = layers.Dense(5)(middle(_block()(norm(x, name="norm"))))
    return keras.Model(image, norm(x), name="nested")


def shared_model():
    """One backbone on two images, and two outputs."""
    left, right = image_input(name="left"), image_input(name="right")
    image = image_input()
    backbone = keras.Model(
        image, _block()(norm(conv(image, 8, strides=2))), name="both"
    )
    x, y = backbone(left), backbone(right)
    total = head(norm(layers.add([x, y])))
    return keras.Model([left, right], [total, head(layers.concatenate([x, y]))])


def shared_convolution():
    """One convolution read through two batch norms, another by two branches."""
    image = image_input()
    shared = layers.Conv2D(8, 3, padding="same")
    x = layers.add([norm(shared(image)), norm(shared(-image))])
    quantized = lq.layers.QuantConv2D(8, 3, 2, "same", **SIGNS)
    y = quantized(norm(x))
    return keras.Model(image, head(layers.add([norm(y), layers.ReLU()(y)])))


def shared_batch_norm():
    """One batch norm after two convolutions, another before two of them."""
    image = image_input()
    behind = layers.BatchNormalization()
    x = conv(image, 8, strides=2)
    x = layers.add([behind(x), behind(binary(x, 8))])
    y = norm(x)
    y = layers.add([binary(y, 8), binary(y, 8, pad_values=1.0)])
    return keras.Model(image, head(y))


def batch_norm_as_output():
    """What a batch norm makes is an output, and the input of a sign."""
    image = image_input()
    x = norm(conv(image, 8, strides=2), name="features")
    y = norm(binary(x, 8, strides=2))
    return keras.Model(image, {"x": x, "y": y, "head": head(y)})


def sign_layers():
    """Signs that stand as layers of their own, before convolutions, pools and sums."""
    image = image_input()
    plain = {"input_quantizer": None}
    x = norm(conv(image, 8, strides=2))
    sign = lq.quantizers.SteSign()(x)
    y = norm(binary(sign, 8, **plain), scale=False)
    y = lq.quantizers.ApproxSign()(layers.MaxPool2D(2)(y))
    y = norm(binary(y, 8, **plain))
    return keras.Model(image, head(layers.add([y, layers.AvgPool2D(2)(sign)])))


def batch_norms_in_a_row():
    """Batch norm of the input, twice in a row, before a dense and a depthwise layer."""
    image = image_input()
    x = norm(image)
    x = layers.DepthwiseConv2D(3, 2, depth_multiplier=2, padding="valid")(norm(x))
    x = layers.SeparableConv2D(8, 3, padding="same")(norm(norm(x)))
    x = layers.Conv2DTranspose(6, 3, 2, padding="same")(norm(x))
    x = layers.Conv2D(8, 3, activation="relu")(norm(x))
    x = layers.Flatten()(layers.AvgPool2D(4)(norm(x)))
    return keras.Model(image, layers.Dense(5)(norm(layers.Dense(8)(norm(x)))))


def frozen():
    """A backbone that does not train, run in inference mode."""
    image = image_input()
    inner = keras.Model(image, norm(conv(image, 8, strides=2)), name="backbone")
    inner.trainable = False
    inner(image_input())  # a use that is not part of the model
    given = image_input()
    x = norm(binary(inner(given, training=False), 8))
    return keras.Model(given, head(x))


VARIANTS = (
    sequential,
    nested,
    shared_model,
    shared_convolution,
    shared_batch_norm,
    batch_norm_as_output,
    sign_layers,
    batch_norms_in_a_row,
    frozen,
)


def variant(build, seed: int = 0) -> keras.Model:
    """One of the variants, with weights as training may leave them."""
    keras.utils.set_random_seed(seed)
    return settled(build(), seed)
