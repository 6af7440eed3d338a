from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from .._keras import keras
from ._frame import Frame, check_supported
from ._normalizations import BEFORE_SIGN
from ._parts import LARGE, Parts
from ._pretrained import opens_weights


def pool3(name: str, padding: str) -> keras.layers.MaxPool2D:
    """Returns a 3x3 max pool of stride 2."""
    return keras.layers.MaxPool2D(3, 2, padding, name=f"{name}_pool")


def alexnet(
    frame: Frame,
    parts: Parts,
    image: tf.Tensor,
    x: tf.Tensor,
    rows: Sequence[tuple[int, int, str | None]],
    units: int,
) -> keras.Model:
    """Adds binary convolutions, two binary fully connected layers and the classifier.

    A row contains channels, kernel size and the padding of the pool, if there is one.
    """
    for number, (channels, size, padding) in enumerate(rows, 2):
        name = f"layer{number}"
        pool = None if padding is None else pool3(name, padding)
        x = parts.binary_conv(x, channels, size, 1, name, pool=pool)
    # As convolutions, the fully connected layers have binary kernels in LCE.
    whole = (x.shape[1], x.shape[2])
    x = parts.binary_conv(x, units, whole, 1, "dense1", padding="valid")
    x = parts.binary_conv(x, units, 1, 1, "dense2", padding="valid")
    return frame.classifier(image, parts.clip(x, "features"), flat=True)


@opens_weights
def BinaryAlexNet(
    input_shape: Sequence[int],
    classes: int,
    normalization: Any = "nobn",
    width: int = 64,
    binary_weights: bool = True,
    estimator: Any = "approx_sign",
    variance_preserving: bool = True,
    balanced: bool = True,
    head: str = "dense",
    name: str = "binaryalexnet",
    kernel_quantizer: Any = None,
    activation: Any = None,
) -> keras.Model:
    r"""Binary AlexNet: five convolutions and two fully connected layers, all binary.

    A 3x3 max pool with stride 2 follows the first, second and fifth layer. Each layer
    computes

    \[ y = \mathrm{norm}\big(\mathrm{pool}(
       \mathrm{conv}(\mathrm{sign}(x)) + b)\big) , \]

    the first one without the sign. The fully connected layers are convolutions whose
    kernel covers the feature map, since LCE has no binary dense layers. The last dense
    layer, `head`, is real-valued, reads the hard tanh of the features and returns
    logits in float32. The normalizer-free form has a bias b instead of a norm; b starts
    at minus the expected maximum of a pool.

    Arguments:
        input_shape: (height, width, channels), of 8 pixels or more. For 64 pixels or
            more the first convolution is 11x11 with stride 4, and pools drop incomplete
            edges; below, it is 3x3 with stride 1, and pools pad edges.
        normalization: `"nobn"` (scaled weight standardization with gains and biases),
            `"none"`, or a layer after every convolution and its pool: `"batch_norm"`
            as in the original, `"kalman"`, `"filter_response"`, `"group"` or
            `"dynamic_tanh"`. `"independent_component"` puts one before every
            convolution but the first.
        width: Channels of the first convolution; the others have 3, 6, 6 and 4 times as
            many, the fully connected layers 64 times.
        classes, binary_weights, estimator, variance_preserving, balanced, head, name,
        kernel_quantizer, activation: As in `ReActNet18`.

    Returns:
        A functional Keras model.

    Raises:
        TypeError, ValueError: For arguments outside the ranges above, an image that is
            too small, or a normalization that has no place before a sign.

    Example:
        ```python
        import larq_nobn as nobn

        model = nobn.models.BinaryAlexNet((32, 32, 3), classes=10, width=8)
        model.compile("adam", "mse")
        ```

    References:
        - I. Hubara, M. Courbariaux, D. Soudry, R. El-Yaniv, Y. Bengio, "Binarized
          Neural Networks", NeurIPS 2016, arXiv:1602.02830.
        - A. Krizhevsky, I. Sutskever, G. E. Hinton, "ImageNet Classification with Deep
          Convolutional Neural Networks", NeurIPS 2012.
        - T. Chen, Z. Zhang, X. Ouyang, Z. Liu, Z. Shen, Z. Wang, '"BNN - BN = ?":
          Training Binary Neural Networks without Batch Normalization', CVPR Workshops
          2021, arXiv:2104.08215.

    Differences from the paper:
        This is the network of Larq Zoo, except that the last layer is real-valued,
        instead of binary with a batch norm, and that batch norms have a γ. The
        normalizer-free form and the stem for small images are additions; latent weights
        and padding are as in `VGGSmall`.
    """
    check_supported("BinaryAlexNet", normalization, BEFORE_SIGN)
    kernels = (binary_weights, estimator, variance_preserving, balanced)
    own = (kernel_quantizer, activation)
    parts = Parts(normalization, *kernels, *own, shift=False, bias=True, quick=False)
    frame = Frame("BinaryAlexNet", input_shape, classes, width, head, name)
    image = frame.image(8)
    large = min(image.shape[1:3]) >= LARGE
    padding = "valid" if large else "same"
    size, strides = (11, 4) if large else (3, 1)
    x = parts.float_conv(image, width, size, strides, "stem", binary=True, pool=3)
    x = parts.normalize(parts.apply(pool3("stem", padding), x), "stem")
    rows = [
        (3 * width, 5, padding),
        (6 * width, 3, None),
        (6 * width, 3, None),
        (4 * width, 3, padding),
    ]
    return alexnet(frame, parts, image, x, rows, 64 * width)
