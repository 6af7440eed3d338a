"""Networks in which many pre-activations are exactly 0, and not by chance."""

import larq as lq
import numpy as np
from deploy.nets import binary_conv
from larq_nobn._keras import keras

layers = keras.layers
SHAPE = (8, 8, 9)
# Each gain meets each mean, in a channel of its own.
GAINS = np.repeat([-1.0, 1.0, -0.3, 0.7], 4)
MEANS = np.tile([0.0, 2.0, 3.0, -1.0], 4)


def norm(gain, mean, epsilon, name):
    """gain * (x - mean), as batch norm computes it."""
    numbers = {"gamma": gain, "moving_mean": mean}
    initializers = {
        f"{key}_initializer": keras.initializers.Constant(value)
        for key, value in numbers.items()
    }
    return layers.BatchNormalization(epsilon=epsilon, name=name, **initializers)


def conv(size=3, **options):
    return binary_conv(16, size, padding="valid", **options)


def sign():
    return layers.Activation(lq.quantizers.SteSign())


def dense():
    quantizers = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign"}
    return lq.layers.QuantDense(16, use_bias=False, **quantizers)


# Sums of a binary convolution, and what picks some of them.
WHOLE = {
    "convolution": lambda x: conv()(x),
    "zero padded": lambda x: binary_conv(16, pad_values=0.0)(x),
    "rectified": lambda x: layers.ReLU()(conv()(x)),
    "rectifies": lambda x: conv(activation="relu")(x),
    "maximum": lambda x: layers.MaxPooling2D()(conv()(x)),
    "rectified maximum": lambda x: layers.MaxPooling2D()(layers.ReLU()(conv()(x))),
    "dense": lambda x: layers.ReLU()(dense()(x)),
    "reshaped": lambda x: layers.Reshape((9, 4, 16))(conv()(x)),
}
# Maps of real numbers of which one is as common.
REAL = {
    "bounded": (6.0, lambda x: layers.ReLU(6.0)(20 * layers.Conv2D(16, 1)(x))),
    "zeros": (0.0, lambda x: layers.ReLU()(layers.Conv2D(16, 1)(x))),
}


def network(part, means=MEANS, gains=GAINS, epsilon=1e-3, last=None):
    """A map, a batch norm and a binary convolution; and the model up to the norm."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input(SHAPE)
    x = norm(gains, means, epsilon, "norm")(part(inputs))
    outputs = (conv(1) if last is None else last)(x)
    return keras.Model(inputs, outputs), keras.Model(inputs, x)
