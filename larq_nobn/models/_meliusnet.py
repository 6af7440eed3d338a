from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import tensorflow as tf

from .._checks import check_number
from .._errors import InvalidValue
from .._keras import keras
from ._dense import RELU_SCALE, Design, dense_network, grow, rectify
from ._frame import Frame
from ._parts import LARGE, Parts
from ._pretrained import opens_weights

# Channels before a transition over those after it, as published.
_REDUCTIONS_22 = (320 / 160, 480 / 224, 480 / 256)
_REDUCTIONS_29 = (320 / 128, 512 / 192, 704 / 256)


def _stem(parts: Parts, x: tf.Tensor, width: int) -> tf.Tensor:
    """Adds the stem for ImageNet: three 3x3 convolutions, two of them with groups."""
    if width % 16:
        raise InvalidValue(
            f"width={width} is not a multiple of 16, as the groups in the stem for "
            f"images of {LARGE} pixels or more require. Use 16, 32, 48 or 64."
        )
    rows = ((width // 2, 2, 1), (width // 2, 1, 4), (width, 1, 8))
    for number, (channels, strides, groups) in enumerate(rows, 1):
        name = f"stem{number}"
        if number > 1:
            x = parts.components(x, name)
        x = parts.float_conv(x, channels, 3, strides, name, RELU_SCALE, groups=groups)
        x = rectify(parts, x, name)
    return x


def _block(
    parts: Parts, x: tf.Tensor, width: int, dilation: int, name: str, alpha: float
) -> tf.Tensor:
    """Adds new features, and improves them by a convolution of old and new ones."""
    new = parts.binary_conv(x, width, 3, 1, f"{name}_dense", dilation=dilation)
    both = grow(x, new, f"{name}_dense")
    change = parts.binary_conv(
        both, width, 3, 1, f"{name}_improve", alpha, dilation=dilation
    )
    # Added only to the new features, since the change of the others is zero.
    new = keras.layers.Add(name=f"{name}_improve_add")([change, new])
    return grow(x, new, f"{name}_improve")


def _design(alpha: float, reductions: tuple[float, ...]) -> Design:
    check_number("alpha", alpha, "(0, inf)", "Use 0.5.")
    unit = partial(_block, alpha=alpha)
    return Design(_stem, unit, "block", reductions)


@opens_weights
def MeliusNet22(
    input_shape: Sequence[int],
    classes: int,
    normalization: Any = "nobn",
    width: int = 64,
    binary_weights: bool = True,
    blocks: Sequence[int] = (4, 5, 4, 4),
    alpha: float = 0.5,
    estimator: Any = "approx_sign",
    variance_preserving: bool = True,
    balanced: bool = True,
    head: str = "dense",
    name: str = "meliusnet22",
    kernel_quantizer: Any = None,
    activation: Any = None,
) -> keras.Model:
    r"""MeliusNet-22: every block adds features, and then improves the new ones.

    A block computes `width` new features n from all features x of its stage, and then
    their change m from both,

    \[ n = \mathrm{conv}(\mathrm{sign}(x + b)), \qquad
       m = \alpha\, \mathrm{conv}(\mathrm{sign}(\mathrm{concat}(x, n) + c)), \qquad
       y = \mathrm{concat}(x, n + m) . \]

    A transition (max pool, ReLU and a real-valued 1x1 convolution) starts the next
    stage. With batch norm, α is 1, and a norm replaces the shifts b and c before each
    sign and precedes each ReLU. The stem, the transitions and the final dense layer,
    `head`, are real-valued; `head` returns logits in float32.

    Arguments:
        input_shape: (height, width, channels). For 64 pixels or more the stem is that
            for ImageNet (three 3x3 convolutions, the second in 4 groups, the third in
            8, and max pooling), below a 3x3 convolution.
        normalization: As in `BinaryDenseNet28`.
        width: Channels of the stem, and the number that each block adds; a multiple of
            16 for images of 64 pixels or more. Transitions have the published multiples
            of half the width.
        blocks: Number of blocks in each of up to four stages.
        alpha: Positive factor of the improvements; `"nobn"` only.
        classes, binary_weights, estimator, variance_preserving, balanced, head, name,
        kernel_quantizer, activation: As in `ReActNet18`.

    Returns:
        A functional Keras model.

    Raises:
        TypeError, ValueError: For arguments outside the ranges above or an image too
            small for the number of stages.

    Example:
        ```python
        import larq_nobn as nobn

        model = nobn.models.MeliusNet22((32, 32, 3), classes=10, width=16)
        model.compile("adam", "mse")
        ```

    References:
        - J. Bethge, C. Bartz, H. Yang, Y. Chen, C. Meinel, "MeliusNet: Can Binary
          Neural Networks Achieve MobileNet-level Accuracy?", 2020, arXiv:2001.05936.

    Differences from the paper:
        `"nobn"` is new: α is 1 in the paper, and real-valued convolutions have
        standardized kernels, times 1.71 in the transitions and in the stem for
        ImageNet, where a ReLU reduces the variance. Binary kernels are multiplied by
        the mean magnitude of their weights, and binary convolutions are padded with +1
        instead of 0. The features after the stem for ImageNet are not negative, so
        their signs would be constant: `"nobn"`, `"none"`, `"filter_response"` and
        `"dynamic_tanh"` subtract 0.68.
    """
    design = _design(alpha, _REDUCTIONS_22)
    kernels = (binary_weights, estimator, variance_preserving, balanced)
    own = (kernel_quantizer, activation)
    frame = Frame("MeliusNet22", input_shape, classes, width, head, name)
    return dense_network(design, frame, normalization, (*kernels, *own), blocks)


@opens_weights
def MeliusNet29(
    input_shape: Sequence[int],
    classes: int,
    normalization: Any = "nobn",
    width: int = 64,
    binary_weights: bool = True,
    blocks: Sequence[int] = (4, 6, 8, 6),
    alpha: float = 0.5,
    estimator: Any = "approx_sign",
    variance_preserving: bool = True,
    balanced: bool = True,
    head: str = "dense",
    name: str = "meliusnet29",
    kernel_quantizer: Any = None,
    activation: Any = None,
) -> keras.Model:
    """MeliusNet-29: `MeliusNet22` with more blocks and smaller transitions.

    Result, errors and differences from the paper are those of `MeliusNet22`.

    Arguments:
        input_shape, classes, normalization, width, binary_weights, blocks, alpha,
        estimator, variance_preserving, balanced, head, name, kernel_quantizer,
        activation: As in `MeliusNet22`.

    Example:
        ```python
        import larq_nobn as nobn

        model = nobn.models.MeliusNet29((32, 32, 3), classes=10, width=16)
        ```

    References:
        - J. Bethge, C. Bartz, H. Yang, Y. Chen, C. Meinel, "MeliusNet: Can Binary
          Neural Networks Achieve MobileNet-level Accuracy?", 2020, arXiv:2001.05936.
    """
    design = _design(alpha, _REDUCTIONS_29)
    kernels = (binary_weights, estimator, variance_preserving, balanced)
    own = (kernel_quantizer, activation)
    frame = Frame("MeliusNet29", input_shape, classes, width, head, name)
    return dense_network(design, frame, normalization, (*kernels, *own), blocks)
