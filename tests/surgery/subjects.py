"""Small networks for surgery to be tried on, of shapes that users bring.

The package's own networks have those of the published ones; here is what they do not
have: gates, layers and models that are shared, signs as layers, batch norms in a row,
and layers that nothing can look into.
"""

from __future__ import annotations

import larq as lq
import numpy as np
import tensorflow as tf
from larq_nobn._keras import keras
from models.networks import NETWORKS, scattered
from surgery.parts import SIGNS, binary, conv, head, image_input, norm, settled

layers = keras.layers
INNER = (8, 8, 8)


@lq.utils.register_keras_custom_object
@lq.utils.set_precision(1)
def magnitude_times_sign(x):
    """A kernel quantizer that is not a class: sign times magnitude, as in XNOR-Net."""
    x = tf.clip_by_value(x, -1.0, 1.0)
    return tf.reduce_mean(tf.abs(x), axis=(0, 1, 2)) * lq.quantizers.ste_sign(x)


@lq.utils.register_keras_custom_object
class ChannelRescale(layers.Layer):
    """A layer that only its author knows: a learned factor per channel."""

    def build(self, input_shape):
        self.factor = self.add_weight("factor", (input_shape[-1],), initializer="ones")

    def call(self, inputs):
        return inputs * self.factor


def gate(x, filters):
    """Squeeze and excite: a factor per channel, made from the whole map."""
    y = layers.Dense(4, activation="relu")(layers.GlobalAveragePooling2D()(x))
    return layers.Reshape((1, 1, filters))(layers.Dense(filters, "sigmoid")(y))


def gated():
    """Blocks with a gate, a projection, and a batch norm before signs and gate."""
    image = image_input()
    x = layers.MaxPool2D(3, 2, padding="same")(layers.ReLU()(norm(conv(image, 8))))
    for filters, strides in ((8, 1), (16, 2)):
        y = norm(x)
        kernel = {"kernel_quantizer": magnitude_times_sign} if strides == 2 else {}
        z = binary(y, filters, strides=strides, **kernel)
        z = layers.PReLU(shared_axes=[1, 2])(
            layers.multiply([z, gate(y, filters)]) if strides == 1 else norm(z)
        )
        if strides == 2:
            x = norm(conv(layers.AvgPool2D(2, 2)(x), filters, 1), momentum=0.8)
        x = layers.add([z, x])
    return keras.Model(image, head(x), name="gated")


def _block(name="block"):
    inputs = image_input(INNER)
    x = norm(binary(norm(inputs), 8), name="norm")
    return keras.Model(inputs, layers.add([x, inputs]), name=name)


def nested():
    """Models in models, whose layers share names; a frozen one, at inference."""
    image = image_input()
    stem = keras.Model(image, norm(conv(image, 8, strides=2)), name="backbone")
    stem.trainable = False
    stem(image_input())  # a use that is not part of the model
    tail = [layers.BatchNormalization(name="norm"), layers.GlobalAveragePooling2D()]
    middle = keras.Sequential([image_input(INNER), _block("inner"), *tail], name="tail")
    given = image_input()
    x = _block()(norm(stem(given, training=False), name="norm"))
    return keras.Model(given, norm(layers.Dense(5)(middle(x))), name="nested")


def shared():
    """A model on two images, a convolution with two norms, and a norm of two."""
    left, right = image_input(name="left"), image_input(name="right")
    image = image_input()
    backbone = keras.Model(
        image, _block()(norm(conv(image, 8, strides=2))), name="both"
    )
    x, y = backbone(left), backbone(right)
    convolution = lq.layers.QuantConv2D(8, 3, padding="same", **SIGNS)
    z = layers.add([norm(convolution(x)), layers.ReLU()(convolution(y))])
    both = layers.BatchNormalization()
    z = layers.add([both(conv(z, 8)), both(binary(z, 8))])
    ends = [head(norm(layers.add([x, y]))), head(layers.concatenate([z, y]))]
    return keras.Model([left, right], ends, name="shared")


def opaque():
    """Lambdas, operators for layers, a blurring pool, and a layer of a user."""
    image = image_input()
    x = layers.ReLU()(norm(conv(image, 8, strides=2)))
    parts = layers.Lambda(lambda x: tf.split(x, 2, axis=-1), name="split")(x)
    parts = [conv(part, 4, name=f"group_{i}") for i, part in enumerate(parts)]
    x = layers.Lambda(lambda x: tf.concat(x, axis=-1), name="join")(parts)
    x = tf.nn.relu(norm(x, name="behind_join"))
    y = binary(norm(x), 8, pad_values=1.0, activation="relu", dilation_rate=2)
    x = norm(y, name="behind_binary") + x
    blur = keras.initializers.Constant(1 / 9)
    pool = {"use_bias": False, "trainable": False, "padding": "same"}
    x = layers.DepthwiseConv2D(3, 2, depthwise_initializer=blur, **pool)(x)
    left, right = tf.split(value=norm(x), num_or_size_splits=2, axis=-1)
    x = tf.concat([2.0 * right, left[..., ::-1]], axis=-1)
    x = ChannelRescale(name="own")(x)
    x = norm(x, name="behind_own")
    merge = layers.Lambda(lambda x: x[0] + tf.pad(x[1], BEHIND), name="merge")
    x = merge([x, binary(x, 4)])
    return keras.Model(image, head(norm(x, name="behind_merge")), name="opaque")


BEHIND = [[0, 0], [0, 0], [0, 0], [4, 0]]
# What the Lambdas compute.
ORACLES = {
    "split": lambda x: np.split(x, 2, axis=-1),
    "join": lambda x: np.concatenate(x, axis=-1),
    "merge": lambda x: x[0] + np.pad(x[1], BEHIND),
}
# Of the package's networks those whose statistics of batches are no plain batch norm.
OWN = {"ReActNet18": "kalman"}
HAND_MADE = (gated, nested, shared, opaque)
SUBJECTS = (*(build.__name__ for build in HAND_MADE), *OWN)


def subject(name: str) -> keras.Model:
    """A network, with weights as training may leave them."""
    keras.utils.set_random_seed(0)
    for build in HAND_MADE:
        if build.__name__ == name:
            return settled(build(), zero=name == "gated")
    (network,) = (n for n in NETWORKS if n.builder.__name__ == name)
    # Of residual blocks one with a projection is enough here, and one without.
    small = {"blocks": (1, 1)} if "blocks" in network.small else {}
    return settled(scattered(network(OWN[name], **small)))
