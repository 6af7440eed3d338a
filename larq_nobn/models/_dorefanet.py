from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .._keras import keras
from ._alexnet import alexnet
from ._frame import Frame, check_supported
from ._normalizations import BEFORE_SIGN
from ._parts import LARGE, Parts
from ._pretrained import opens_weights


@opens_weights
def DoReFaNet(
    input_shape: Sequence[int],
    classes: int,
    normalization: Any = "nobn",
    width: int = 96,
    binary_weights: bool = True,
    estimator: Any = "sign_swish",
    variance_preserving: bool = True,
    balanced: bool = True,
    head: str = "dense",
    name: str = "dorefanet",
    kernel_quantizer: Any = None,
    activation: Any = None,
) -> keras.Model:
    r"""DoReFa-Net, an AlexNet with a real-valued first layer, with bits as in BNN+.

    A convolution with a bias, four binary convolutions and two binary fully connected
    layers follow each other. A 3x3 max pool with stride 2 follows the second, third and
    fifth layer. Each layer but the first computes

    \[ y = \mathrm{norm}\big(\mathrm{pool}(
       \mathrm{conv}(\mathrm{sign}(x)) + b)\big) . \]

    The last dense layer, `head`, is real-valued, reads the hard tanh of the features
    and returns logits in float32. The form without norms has a bias b, as in
    `BinaryAlexNet`. The penalty of BNN+ on latent weights is part of the recipe
    `bnn_plus`, as in `larq-nobn train --model DoReFaNet --recipe bnn_plus`.

    For 224x224x3 images and 1000 classes it has 2,925 million binary and 125 million
    float MACs. With batch norm 62,394,440 weights are trained: the 62,403,912 of Larq
    Zoo, whose batch norms have no γ, but count two moving statistics, are 9,472 more.

    Arguments:
        input_shape: (height, width, channels), of 8 pixels or more. For 64 pixels or
            more the first convolution is 12x12 with stride 4 and drops incomplete
            edges, as the last pool does; below, it is 3x3 with stride 1.
        normalization: As in `BinaryAlexNet`; the published code has `"batch_norm"`.
        width: Channels of the first convolution; the others have 8/3, 4, 4 and 8/3
            times as many, the fully connected layers 128/3.
        estimator: Gradient estimator of the sign, as in `quantizers.RSign`; that of
            BNN+ is `"sign_swish"`.
        classes, binary_weights, variance_preserving, balanced, head, name,
        kernel_quantizer, activation: As in `ReActNet18`.

    Returns:
        A functional Keras model.

    Raises:
        TypeError, ValueError: For arguments outside the ranges above, an image that is
            too small, or a normalization that has no place before a sign.

    Example:
        ```python
        import larq_nobn as nobn

        model = nobn.models.DoReFaNet((32, 32, 3), classes=10, width=6)
        model.compile("adam", "mse")
        ```

    References:
        - S. Zhou, Y. Wu, Z. Ni, X. Zhou, H. Wen, Y. Zou, "DoReFa-Net: Training Low
          Bitwidth Convolutional Neural Networks with Low Bitwidth Gradients", 2016,
          arXiv:1606.06160.
        - S. Darabi, M. Belbahri, M. Courbariaux, V. P. Nia, "Regularized Binary Network
          Training" (first called "BNN+: Improved Binary Network Training"), 2018,
          arXiv:1812.11800.

    Differences from the paper:
        This is the network of Larq Zoo, without the groups of the first code, with
        signs as activations: bits of 0 and 1 would be no input of a binary convolution,
        so the features are clipped to [-1, 1], not [0, 1]. Gradients are not quantized.
        A pool is before its norm, not after it, and norms have a γ. Binary kernels are
        multiplied by the mean magnitude of each filter, not of the layer. The form
        without norms and the first layer for small images are additions; latent weights
        and padding are as in `VGGSmall`.
    """
    check_supported("DoReFaNet", normalization, BEFORE_SIGN)
    kernels = (binary_weights, estimator, variance_preserving, balanced)
    own = (kernel_quantizer, activation)
    parts = Parts(normalization, *kernels, *own, shift=False, bias=True, quick=False)
    frame = Frame("DoReFaNet", input_shape, classes, width, head, name)
    image = frame.image(8)
    large = min(image.shape[1:3]) >= LARGE
    size, strides, edge = (12, 4, "valid") if large else (3, 1, "same")
    x = parts.float_conv(image, width, size, strides, "stem", padding=edge, bias=True)
    narrow, wide = 8 * width // 3, 4 * width
    rows = [(narrow, 5, "same"), (wide, 3, "same"), (wide, 3, None), (narrow, 3, edge)]
    return alexnet(frame, parts, image, x, rows, 128 * width // 3)
