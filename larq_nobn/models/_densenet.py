from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import tensorflow as tf

from .._checks import check_flag
from .._keras import keras
from ._dense import RELU_SCALE, Design, dense_network, grow, rectify
from ._parts import Parts
from ._pretrained import opens_weights
from ._variants import like


def _stem(parts: Parts, x: tf.Tensor, width: int) -> tf.Tensor:
    x = parts.float_conv(x, width, 7, 2, "stem", RELU_SCALE)
    return rectify(parts, x, "stem")


def _layer(
    parts: Parts, x: tf.Tensor, width: int, dilation: int, name: str
) -> tf.Tensor:
    """Computes concat(x, conv(sign(x)))."""
    new = parts.binary_conv(x, width, 3, 1, name, dilation=dilation)
    return grow(x, new, name)


_DESIGN_28 = Design(_stem, _layer, "layer", (2.7, 2.7, 2.2))
_DESIGN_37 = Design(_stem, _layer, "layer", (3.3, 3.3, 4.0))
_DESIGN_45 = Design(_stem, _layer, "layer", (2.7, 3.3, 4.0))


@opens_weights
def BinaryDenseNet28(
    input_shape: Sequence[int],
    classes: int,
    normalization: Any = "nobn",
    width: int = 64,
    binary_weights: bool = True,
    blocks: Sequence[int] = (6, 6, 6, 5),
    estimator: Any = "approx_sign",
    variance_preserving: bool = True,
    balanced: bool = True,
    head: str = "dense",
    name: str = "binarydensenet28",
    kernel_quantizer: Any = None,
    activation: Any = None,
) -> keras.Model:
    r"""BinaryDenseNet-28: every layer reads all earlier features of its stage.

    A layer adds `width` channels to those that it reads,

    \[ y = \mathrm{concat}\big(x, \mathrm{conv}(\mathrm{sign}(x + b))\big) , \]

    and a transition (max pool, ReLU and a real-valued 1x1 convolution) starts the next
    stage. A batch norm, if any, replaces the shift b before each sign, and is in each
    transition and before the last ReLU. The stem, the transitions and the final dense
    layer, `head`, are real-valued; `head` returns logits in float32.

    Arguments:
        input_shape: (height, width, channels). For 64 pixels or more the stem is that
            for ImageNet (7x7, stride 2, ReLU, max pooling), below a 3x3 convolution.
        normalization: `"nobn"` (scaled weight standardization with gains, and shifts),
            `"none"` (the original without normalization), `"batch_norm"` as published,
            or in its place `"filter_response"` (with thresholded linear units instead
            of ReLUs), `"group"` (16 channels per group), `"dynamic_tanh"`, `"proxy"`
            (layer norm, including a ReLU if one follows), `"evonorm"` (group norm, or
            EvoNorm instead of norm and ReLU) or `"independent_component"` (before every
            convolution but the first). Only `"batch_norm"` and
            `"independent_component"` depend on the batch in training.
        width: Channels of the stem, and the number that each layer adds. Transitions
            have the published multiples of half the width.
        blocks: Number of layers in each of up to four stages.
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

        model = nobn.models.BinaryDenseNet28((32, 32, 3), classes=10, width=16)
        model.compile("adam", "mse")
        ```

    References:
        - J. Bethge, H. Yang, M. Bornstein, C. Meinel, "Back to Simplicity: How to Train
          Accurate BNNs from Scratch?", 2019, arXiv:1906.08637.

    Differences from the paper:
        `"nobn"` is new: real-valued convolutions have standardized kernels, times 1.71
        in the transitions and in the stem for ImageNet, where a ReLU reduces the
        variance. Binary kernels are multiplied by the mean magnitude of their weights,
        clipped to [-1, 1], and the default estimator of signs differs; the paper has
        plain signs and clips both at 1.3. Binary convolutions are padded with +1
        instead of 0. The features after the stem for ImageNet are not negative, so
        their signs would be constant: `"nobn"`, `"none"`, `"filter_response"` and
        `"dynamic_tanh"` subtract 0.68.
    """
    return dense_network("BinaryDenseNet28", _DESIGN_28, **locals())


@opens_weights
def BinaryDenseNet37(
    input_shape: Sequence[int],
    classes: int,
    normalization: Any = "nobn",
    width: int = 64,
    binary_weights: bool = True,
    blocks: Sequence[int] = (6, 8, 12, 6),
    dilated: bool = False,
    estimator: Any = "approx_sign",
    variance_preserving: bool = True,
    balanced: bool = True,
    head: str = "dense",
    name: str = "binarydensenet37",
    kernel_quantizer: Any = None,
    activation: Any = None,
) -> keras.Model:
    """BinaryDenseNet-37: `BinaryDenseNet28` with more layers and smaller transitions.

    Result, errors and differences from the paper are those of `BinaryDenseNet28`.

    Arguments:
        input_shape, classes, normalization, width, binary_weights, blocks, estimator,
        variance_preserving, balanced, head, name, kernel_quantizer, activation: As in
        `BinaryDenseNet28`.
        dilated: Whether to build the paper's second form: the third and fourth stage
            keep the size of the map and dilate their kernels instead, by 2 and by 4.

    Example:
        ```python
        import larq_nobn as nobn

        model = nobn.models.BinaryDenseNet37((32, 32, 3), classes=10, width=16)
        ```

    References:
        - J. Bethge, H. Yang, M. Bornstein, C. Meinel, "Back to Simplicity: How to Train
          Accurate BNNs from Scratch?", 2019, arXiv:1906.08637.
    """
    arguments = locals()
    dilated = check_flag("dilated", arguments.pop("dilated"))
    dilations = (1, 1, 2, 4) if dilated else _DESIGN_37.dilations
    design = replace(_DESIGN_37, dilations=dilations)
    return dense_network("BinaryDenseNet37", design, **arguments)


@opens_weights
@like(BinaryDenseNet28, blocks=(6, 12, 14, 8))
def BinaryDenseNet45(**arguments: Any) -> keras.Model:
    """BinaryDenseNet-45: `BinaryDenseNet28` with more layers and smaller transitions.

    Arguments:
        **arguments: Those of `BinaryDenseNet28`; `blocks` are (6, 12, 14, 8).

    Example:
        ```python
        import larq_nobn as nobn

        model = nobn.models.BinaryDenseNet45((32, 32, 3), 10, width=16, blocks=(1, 1))
        ```

    References:
        - J. Bethge, H. Yang, M. Bornstein, C. Meinel, "Back to Simplicity: How to Train
          Accurate BNNs from Scratch?", 2019, arXiv:1906.08637.
    """
    return dense_network("BinaryDenseNet45", _DESIGN_45, **arguments)
