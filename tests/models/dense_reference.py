"""The parts of networks of concatenated features in NumPy float64."""

import larq as lq
import numpy as np
from models.reference import binary_kernel, classified, conv, real_kernel, sign

# Of a ReLU: what keeps the variance of a standard normal through it, and then the mean.
SCALE, MEAN = 1.7128585504496627, 0.6833316961214809


def normalized_channels(model):
    """Those that batch norm sees: what convolutions read, the stem made, or is last."""
    convs = [x for x in model.layers if isinstance(x, lq.layers.QuantConv2D)]
    stems = [conv.filters for conv in convs if conv.name.startswith("stem")]
    read = [conv.input_shape[-1] for conv in convs[len(stems) :]]
    return sum(stems) + sum(read) + model.get_layer("pool").output_shape[-1]


def relu(x):
    return np.maximum(x, 0)


def halved(x):
    """The maximum over 2x2; a last row and column of an odd size are lost."""
    n, h, w, c = x.shape
    x = x[:, : h // 2 * 2, : w // 2 * 2]
    return x.reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))


def stem_pooled(x):
    """The maximum over 3x3 with stride 2 of a map of even size, and less the mean."""
    x = np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)), constant_values=-np.inf)
    size = x.shape[1] // 2
    rows = [x[:, i : i + 2 * size - 1 : 2] for i in range(3)]
    x = np.maximum.reduce(rows)
    return (
        np.maximum.reduce([x[:, :, i : i + 2 * size - 1 : 2] for i in range(3)]) - MEAN
    )


def binary(model, name, x):
    """The variance-preserving binary convolution of sign(x + shift), at scale 1."""
    layer = model.get_layer(f"{name}_conv")
    kernel = binary_kernel(model, f"{name}_conv")
    gain = np.abs(layer.kernel_quantizer.gain.numpy().astype(np.float64))
    kernel = gain * kernel[..., 0].size ** -0.5 * np.sign(kernel)
    return conv(sign(x + layer.input_quantizer.shift.numpy()), kernel, 1, 1)


def transition(model, name, x):
    return conv(relu(halved(x)), SCALE * real_kernel(model, f"{name}_conv"), 0, 1)


def finished(model, x):
    return classified(model, relu(x))
