from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .._checks import check_blocks, check_number
from .._keras import keras
from ..layers._channel_padding import ChannelPadding
from ._frame import Frame
from ._parts import Parts
from ._pretrained import opens_weights


def clipped_variance(variance: float) -> float:
    """Returns the variance of the hard tanh of normal values of mean 0.

    With a = v^(-1/2): v·P(|z| < a) - 2·sqrt(v)·φ(a) inside, and P(|z| > a) at ±1.
    """
    bound = variance**-0.5
    inside = math.erf(bound / math.sqrt(2))
    density = math.exp(-(bound**2) / 2) / math.sqrt(2 * math.pi)
    return variance * (inside - 2 * bound * density) + 1 - inside


def expected_variances(stages: Sequence[int], alpha: float) -> list[list[float]]:
    """Returns input variances of convolutions by stage, if outputs have variance 1.

    A convolution adds alpha² to the variance, and the hard tanh lowers it. At the start
    of a new stage, half of the shortcut's channels are zero.
    """
    variance = clipped_variance(1.0)
    by_stage = []
    for stage, blocks in enumerate(stages):
        variances = []
        for step in range(2 * blocks):
            variances.append(variance)
            shortcut = variance / 2 if stage > 0 and step == 0 else variance
            variance = clipped_variance(shortcut + alpha**2)
        by_stage.append(variances)
    return by_stage


@opens_weights
def ResNet20(
    input_shape: Sequence[int],
    classes: int,
    normalization: Any = "nobn",
    width: int = 16,
    binary_weights: bool = True,
    blocks: Sequence[int] = (3, 3, 3),
    alpha: float = 0.5,
    estimator: Any = "approx_sign",
    variance_preserving: bool = True,
    balanced: bool = True,
    head: str = "dense",
    name: str = "resnet20",
    kernel_quantizer: Any = None,
    activation: Any = None,
) -> keras.Model:
    r"""ResNet-20 for small images, with a shortcut around every binary convolution.

    Blocks have two 3x3 convolutions; each is a residual step of its own,

    \[ y = \mathrm{hardtanh}\big(\alpha\, \mathrm{conv}(\mathrm{sign}(\beta x)) + b
       + \mathrm{shortcut}(x)\big) . \]

    The shortcut is x itself or, at the start of a new stage, the 2x2 average of x
    between channels of zeros. β is one over the expected standard deviation of x: a
    convolution adds α² to the variance, the hard tanh lowers it as for normal values,
    and zero channels halve it. The first convolution, which has a hard tanh too, and
    the final dense layer, `head`, are real-valued; `head` returns logits in float32.

    Arguments:
        input_shape: (height, width, channels). For 64 pixels or more the first
            convolution is 7x7 with stride 2 and max pooling, below 3x3.
        normalization: Any of `NORMALIZATIONS`, as in `ReActNet18`: `"nobn"` (scaled
            weight standardization with gains, biases, α and β), `"none"`, or a layer
            after every convolution or those of branches; the paper has `"batch_norm"`.
        blocks: Number of blocks, of two convolutions each, per stage.
        classes, width, binary_weights, alpha, estimator, variance_preserving, balanced,
        head, name, kernel_quantizer, activation: As in `ReActNet18`.

    Returns:
        A functional Keras model.

    Raises:
        TypeError, ValueError: For arguments outside the ranges above or an image too
            small for the number of stages.

    Example:
        ```python
        import larq_nobn as nobn

        model = nobn.models.ResNet20((32, 32, 3), classes=10, blocks=(1, 1, 1))
        model.compile("adam", "mse")
        ```

    References:
        - K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image
          Recognition", CVPR 2016, arXiv:1512.03385.
        - Z. Xu, M. Lin, J. Liu, J. Chen, L. Shao, Y. Gao, Y. Tian, R. Ji, "ReCU:
          Reviving the Dead Weights in Binary Neural Networks", ICCV 2021,
          arXiv:2103.12369.
        - T. Chen, Z. Zhang, X. Ouyang, Z. Liu, Z. Shen, Z. Wang, '"BNN - BN = ?":
          Training Binary Neural Networks without Batch Normalization', CVPR Workshops
          2021, arXiv:2104.08215.

    Differences from the paper:
        There is no batch norm before the classifier. The normalizer-free form is an
        addition. Its convolutions have the bias of a batch norm after them, which is
        free on device; a shift of the sign would be an additional operation. Latent
        weights and padding are as in `ReActNet18`.
    """
    stages = check_blocks(blocks)
    check_number("alpha", alpha, "(0, inf)", "Use 0.5.")
    kernels = (binary_weights, estimator, variance_preserving, balanced)
    own = (kernel_quantizer, activation)
    parts = Parts(normalization, *kernels, *own, shift=False, bias=True)
    frame = Frame("ResNet20", input_shape, classes, width, head, name)
    image = frame.image(2 ** (len(stages) - 1))
    x = parts.clip(parts.stem(image, width), "stem")
    for stage, variances in enumerate(expected_variances(stages, alpha)):
        channels = width * 2**stage
        for step, variance in enumerate(variances):
            strides, beta = 2 if stage > 0 and step == 0 else 1, variance**-0.5
            half = "second" if step % 2 else "first"
            place = f"stage{stage + 1}_block{step // 2 + 1}_{half}"
            branch = parts.binary_conv(x, channels, 3, strides, place, alpha, beta)
            if strides == 2:
                shortcut, zeros = f"{place}_shortcut", channels - x.shape[-1]
                pad = ChannelPadding(
                    zeros // 2, zeros - zeros // 2, name=f"{shortcut}_pad"
                )
                x = parts.apply(pad, parts.average(x, shortcut))
            x = parts.clip(parts.add(branch, x, place), place)
    return frame.classifier(image, x)
