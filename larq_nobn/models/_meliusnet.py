from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import tensorflow as tf

from .._checks import check_number
from .._errors import InvalidValue
from .._keras import keras
from ._dense import RELU_SCALE, Design, dense_network, grow, rectify
from ._parts import LARGE, Parts
from ._pretrained import opens_weights
from ._variants import like


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


def _meliusnet(
    network: str,
    reductions: tuple[float, ...],
    groups: int = 1,
    *,
    alpha: float,
    **arguments: Any,
) -> keras.Model:
    """Builds a MeliusNet of a name, from channels before and after each transition."""
    check_number("alpha", alpha, "(0, inf)", "Use 0.5.")
    unit = partial(_block, alpha=alpha)
    design = Design(_stem, unit, "block", reductions, groups=groups)
    return dense_network(network, design, **arguments)


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

    For 224x224x3 images, 1000 classes and batch norm, with multiplications (binary and
    float MACs) and the operations (OPs) of the paper in millions:

    | network       | transitions   | weights    | binary | float | OPs | MB    |
    |---------------|---------------|------------|--------|-------|-----|-------|
    | `MeliusNet22` | 160, 224, 256 |  6,944,584 |  4,624 | 136.4 | 208 |  3.88 |
    | `MeliusNet29` | 128, 192, 256 | 11,328,328 |  5,470 | 129.5 | 214 |  5.07 |
    | `MeliusNet42` | 160, 256, 416 | 26,825,544 |  9,693 | 175.1 | 325 | 10.10 |
    | `MeliusNet59` | 192, 320, 544 | 55,555,336 | 18,316 | 247.1 | 532 | 17.39 |
    | `MeliusNetA`  | 160, 256, 288 |  9,238,984 |  4,852 |  87.4 | 163 |  4.05 |
    | `MeliusNetB`  | 160, 224, 320 | 12,239,176 |  5,722 | 107.1 | 196 |  5.00 |
    | `MeliusNetC`  | 128, 192, 288 | 12,240,264 |  4,353 |  82.9 | 150 |  4.46 |

    OPs are the float MACs without the classifier, and a 64th of the binary ones; in MB,
    as in the paper, a binary weight takes a bit and another one four bytes. Weights are
    those that are trained. In `MeliusNetA`, `B` and `C` the transitions have 4, 2 and 4
    groups of channels, which are shuffled before; `width` is then a multiple of twice
    the groups. In files, the kernel of a convolution with g groups is a full one with
    zeros, and has g times its float MACs (in the stem 289 million more), since TFLite
    has no fast kernel for groups.

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
    return _meliusnet("MeliusNet22", (320 / 160, 480 / 224, 480 / 256), **locals())


@opens_weights
@like(MeliusNet22, blocks=(4, 6, 8, 6))
def MeliusNet29(**arguments: Any) -> keras.Model:
    """MeliusNet-29: `MeliusNet22` with more blocks and smaller transitions.

    Arguments:
        **arguments: Those of `MeliusNet22`; `blocks` are (4, 6, 8, 6).

    Example:
        ```python
        import larq_nobn as nobn

        model = nobn.models.MeliusNet29((32, 32, 3), 10, width=16, blocks=(1, 1))
        ```

    References:
        - J. Bethge, C. Bartz, H. Yang, Y. Chen, C. Meinel, "MeliusNet: Can Binary
          Neural Networks Achieve MobileNet-level Accuracy?", 2020, arXiv:2001.05936.
    """
    return _meliusnet("MeliusNet29", (320 / 128, 512 / 192, 704 / 256), **arguments)


@opens_weights
@like(MeliusNet22, blocks=(5, 8, 14, 10))
def MeliusNet42(**arguments: Any) -> keras.Model:
    """MeliusNet-42: `MeliusNet22` with about twice as many blocks.

    Arguments:
        **arguments: Those of `MeliusNet22`; `blocks` are (5, 8, 14, 10).

    Example:
        ```python
        import larq_nobn as nobn

        model = nobn.models.MeliusNet42((32, 32, 3), 10, width=16, blocks=(1, 1))
        ```

    References:
        - J. Bethge, C. Bartz, H. Yang, Y. Chen, C. Meinel, "MeliusNet: Can Binary
          Neural Networks Achieve MobileNet-level Accuracy?", 2020, arXiv:2001.05936.
    """
    return _meliusnet("MeliusNet42", (384 / 160, 672 / 256, 1152 / 416), **arguments)


@opens_weights
@like(MeliusNet22, blocks=(6, 12, 24, 12))
def MeliusNet59(**arguments: Any) -> keras.Model:
    """MeliusNet-59: `MeliusNet22` with about three times as many blocks.

    Arguments:
        **arguments: Those of `MeliusNet22`; `blocks` are (6, 12, 24, 12).

    Example:
        ```python
        import larq_nobn as nobn

        model = nobn.models.MeliusNet59((32, 32, 3), 10, width=16, blocks=(1, 1))
        ```

    References:
        - J. Bethge, C. Bartz, H. Yang, Y. Chen, C. Meinel, "MeliusNet: Can Binary
          Neural Networks Achieve MobileNet-level Accuracy?", 2020, arXiv:2001.05936.
    """
    return _meliusnet("MeliusNet59", (448 / 192, 960 / 320, 1856 / 544), **arguments)


@opens_weights
@like(MeliusNet22, blocks=(4, 5, 5, 6))
def MeliusNetA(**arguments: Any) -> keras.Model:
    """MeliusNet-A: `MeliusNet22` with transitions in 4 groups of channels.

    Arguments:
        **arguments: Those of `MeliusNet22`; `blocks` are (4, 5, 5, 6).

    Example:
        ```python
        import larq_nobn as nobn

        model = nobn.models.MeliusNetA((32, 32, 3), 10, width=16, blocks=(1, 1))
        ```

    References:
        - J. Bethge, C. Bartz, H. Yang, Y. Chen, C. Meinel, "MeliusNet: Can Binary
          Neural Networks Achieve MobileNet-level Accuracy?", 2020, arXiv:2001.05936.
    """
    return _meliusnet("MeliusNetA", (320 / 160, 480 / 256, 576 / 288), 4, **arguments)


@opens_weights
@like(MeliusNet22, blocks=(4, 6, 8, 6))
def MeliusNetB(**arguments: Any) -> keras.Model:
    """MeliusNet-B: `MeliusNet29` with transitions in 2 groups of channels.

    Arguments:
        **arguments: Those of `MeliusNet22`; `blocks` are (4, 6, 8, 6).

    Example:
        ```python
        import larq_nobn as nobn

        model = nobn.models.MeliusNetB((32, 32, 3), 10, width=16, blocks=(1, 1))
        ```

    References:
        - J. Bethge, C. Bartz, H. Yang, Y. Chen, C. Meinel, "MeliusNet: Can Binary
          Neural Networks Achieve MobileNet-level Accuracy?", 2020, arXiv:2001.05936.
    """
    return _meliusnet("MeliusNetB", (320 / 160, 544 / 224, 736 / 320), 2, **arguments)


@opens_weights
@like(MeliusNet22, blocks=(3, 5, 10, 6))
def MeliusNetC(**arguments: Any) -> keras.Model:
    """MeliusNet-C: transitions in 4 groups, and the fewest operations.

    Arguments:
        **arguments: Those of `MeliusNet22`; `blocks` are (3, 5, 10, 6).

    Example:
        ```python
        import larq_nobn as nobn

        model = nobn.models.MeliusNetC((32, 32, 3), 10, width=16, blocks=(1, 1))
        ```

    References:
        - J. Bethge, C. Bartz, H. Yang, Y. Chen, C. Meinel, "MeliusNet: Can Binary
          Neural Networks Achieve MobileNet-level Accuracy?", 2020, arXiv:2001.05936.
    """
    return _meliusnet("MeliusNetC", (256 / 128, 448 / 192, 832 / 288), 4, **arguments)
