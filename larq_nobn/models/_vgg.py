from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .._keras import keras
from ._frame import Frame, check_supported
from ._normalizations import BEFORE_SIGN
from ._parts import Parts
from ._pretrained import opens_weights


@opens_weights
def VGGSmall(
    input_shape: Sequence[int],
    classes: int,
    normalization: Any = "nobn",
    width: int = 128,
    binary_weights: bool = True,
    estimator: Any = "approx_sign",
    variance_preserving: bool = True,
    balanced: bool = True,
    head: str = "dense",
    name: str = "vggsmall",
    kernel_quantizer: Any = None,
    activation: Any = None,
) -> keras.Model:
    r"""VGG-small: six 3x3 convolutions in a row, all but the first binary.

    A 2x2 max pool follows the second, fourth and sixth layer. Each layer computes

    \[ y = \mathrm{norm}\big(\mathrm{pool}(
       \mathrm{conv}(\mathrm{sign}(x)) + b)\big) . \]

    The hard tanh of the last map is flattened for the dense layer `head`, which returns
    logits in float32, so the image size is fixed. The first convolution and `head` are
    real-valued. The normalizer-free form has a bias b instead of a norm; b starts at
    minus the expected maximum of a pool. Without shortcuts, its features are bits from
    the second layer to the fifth, including pools.

    Arguments:
        input_shape: (height, width, channels), of 8 pixels or more. For 64 pixels or
            more the first convolution is 7x7 with stride 2 and max pooling, below 3x3.
        normalization: `"nobn"` (scaled weight standardization with gains and biases),
            `"none"`, or a layer after every convolution and its pool: `"batch_norm"`
            as published, `"kalman"`, `"filter_response"`, `"group"` or
            `"dynamic_tanh"`. `"independent_component"` puts one before every
            convolution but the first.
        width: Channels of the first two convolutions; the next pair has twice as many,
            the last four times.
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

        model = nobn.models.VGGSmall((32, 32, 3), classes=10, width=16)
        model.compile("adam", "mse")
        ```

    References:
        - Z. Xu, M. Lin, J. Liu, J. Chen, L. Shao, Y. Gao, Y. Tian, R. Ji, "ReCU:
          Reviving the Dead Weights in Binary Neural Networks", ICCV 2021,
          arXiv:2103.12369.
        - K. Simonyan, A. Zisserman, "Very Deep Convolutional Networks for Large-Scale
          Image Recognition", ICLR 2015, arXiv:1409.1556.
        - T. Chen, Z. Zhang, X. Ouyang, Z. Liu, Z. Shen, Z. Wang, '"BNN - BN = ?":
          Training Binary Neural Networks without Batch Normalization', CVPR Workshops
          2021, arXiv:2104.08215.

    Differences from the paper:
        There is no hard tanh before signs, which it would not change; the estimator
        limits gradients. The normalizer-free form is an addition. Its latent weights
        start from Glorot's: with those of BNN-BN, whose signs change within a few
        steps, this network does not train. Without shortcuts there are no α and β.
        Padding is as in `ReActNet18`.
    """
    check_supported("VGGSmall", normalization, BEFORE_SIGN)
    kernels = (binary_weights, estimator, variance_preserving, balanced)
    own = (kernel_quantizer, activation)
    parts = Parts(normalization, *kernels, *own, shift=False, bias=True, quick=False)
    frame = Frame("VGGSmall", input_shape, classes, width, head, name)
    image = frame.image(8)
    x = parts.stem(image, width, added=False)
    for stage in (1, 2, 3):
        channels = width * 2 ** (stage - 1)
        if stage > 1:
            x = parts.binary_conv(x, channels, 3, 1, f"stage{stage}_layer1")
        pool = keras.layers.MaxPool2D(2, name=f"stage{stage}_pool")
        x = parts.binary_conv(x, channels, 3, 1, f"stage{stage}_layer2", pool=pool)
    return frame.classifier(image, parts.clip(x, "features"), flat=True)
