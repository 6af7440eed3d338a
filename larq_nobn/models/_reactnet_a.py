from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from .._checks import check_blocks, check_flag
from .._errors import InvalidValue
from .._keras import keras
from ..layers import RPReLU
from ._frame import Frame
from ._parts import LARGE, Parts
from ._pretrained import opens_weights
from ._variance import check_variance, paired_variances


def _average(parts: Parts, x: tf.Tensor, name: str, beta: float) -> tf.Tensor:
    """Adds the 2x2 average of beta·x; the factor is for `"nobn"` only."""
    x = parts.average(x, name)
    if not parts.is_free or beta == 1:
        return x
    # Scaled after the average, which leaves a quarter of the values.
    return parts.apply(keras.layers.Rescaling(beta, name=f"{name}_scale"), x)


def _pointwise(
    parts: Parts, x: tf.Tensor, widened: bool, name: str, alpha: float, beta: float
) -> tf.Tensor:
    """Adds alpha·conv1x1(sign(beta·x)) + x, or concatenates two of it to widen x."""
    width = x.shape[-1]
    if not widened:
        branch = parts.binary_conv(x, width, 1, 1, name, alpha, beta)
        return parts.add(branch, x, name)
    signs = parts.signs(x, name, beta)
    halves = []
    for half in (f"{name}a", f"{name}b"):
        branch = parts.binary_conv(signs, width, 1, 1, half, alpha, signed=True)
        halves.append(parts.add(branch, x, half))
    return parts.apply(keras.layers.Concatenate(name=f"{name}_concat"), halves)


@opens_weights
def ReActNetA(
    input_shape: Sequence[int],
    classes: int,
    normalization: Any = "nobn",
    width: int = 32,
    binary_weights: bool = True,
    blocks: Sequence[int] = (1, 2, 2, 6, 2),
    stem_stride: int | None = None,
    alpha: float = 0.5,
    variance_rule: str = "nf",
    estimator: Any = "approx_sign",
    variance_preserving: bool = True,
    balanced: bool = True,
    head: str = "dense",
    scaled_shortcut: bool = True,
    power_of_two: bool = False,
    name: str = "reactnet_a",
    kernel_quantizer: Any = None,
    activation: Any = None,
) -> keras.Model:
    r"""ReActNet-A: like MobileNet v1, with binary 3x3 and 1x1 convolutions.

    Every block computes, with learned shifts \(b_1, b_2\),

    \[ h = \mathrm{RPReLU}\big(\alpha\, \mathrm{conv}_{3\times3}(\mathrm{sign}(
       \beta_1 x + b_1)) + \mathrm{shortcut}(x)\big), \quad
       t = \mathrm{sign}(\beta_2 h + b_2), \]

    \[ y = \mathrm{RPReLU}\big(\alpha\, \mathrm{conv}_{1\times1}(t) + h\big)
       \quad\text{or}\quad y = \mathrm{RPReLU}\big(\big[\alpha\,
       \mathrm{conv}^a_{1\times1}(t) + h,\; \alpha\, \mathrm{conv}^b_{1\times1}(t) + h
       \big]\big) . \]

    The second form doubles the channels, in the first block of every stage. In all
    stages but the first this block has stride 2, and its shortcut is the 2x2 average of
    \(\beta_1 x\); other shortcuts are x itself. β is one over the expected standard
    deviation of the map that it multiplies. The stem, a 3x3 convolution, and the final
    dense layer, `head`, are real-valued; `head` returns logits in float32.

    Arguments:
        input_shape: (height, width, channels).
        normalization: Any of `NORMALIZATIONS`, as in `ReActNet18`: `"nobn"` (scaled
            weight standardization with gains, α and β), `"none"`, or a layer after
            every convolution or those of branches; the paper has `"batch_norm"`.
        width: Channels of the stem; each stage doubles them.
        blocks: Number of blocks, of two or three convolutions each, per stage.
        stem_stride: 1 or 2; None for 2 with 64 pixels or more, and 1 below.
        variance_rule: `"vita"`, as in the published code, or `"nf"`, in which the
            average of a block with stride 2 resets the variance within the block;
            `"nobn"` only.
        classes, binary_weights, alpha, estimator, variance_preserving, balanced, head,
        scaled_shortcut, power_of_two, name, kernel_quantizer, activation: As in
        `ReActNet18`.

    Returns:
        A functional Keras model.

    Raises:
        TypeError, ValueError: For arguments outside the ranges above or an image too
            small for the number of stages.

    Example:
        ```python
        import larq_nobn as nobn

        model = nobn.models.ReActNetA((32, 32, 3), classes=10, width=8)
        model.compile("adam", "mse")
        ```

    References:
        - Z. Liu, Z. Shen, M. Savvides, K.-T. Cheng, "ReActNet: Towards Precise Binary
          Neural Network with Generalized Activation Functions", ECCV 2020,
          arXiv:2003.03488.
        - T. Chen, Z. Zhang, X. Ouyang, Z. Liu, Z. Shen, Z. Wang, '"BNN - BN = ?":
          Training Binary Neural Networks without Batch Normalization', CVPR Workshops
          2021, arXiv:2104.08215.
        - R. Ma, G. Qiao, Y. Liu, L. Meng, N. Ning, Y. Liu, S. Hu, "A&B BNN: Add&Bit-
          Operation-Only Hardware-Friendly Binary Neural Network", CVPR 2024,
          arXiv:2403.03739 (`scaled_shortcut=False`, `power_of_two=True`, α = 0.25 and
          the estimator `"sigmoid_sign"`).

    Differences from the paper:
        The published normalizer-free code has a stem of stride 2 for small images too,
        whose last maps are then single pixels; `stem_stride=2` reproduces that. Padding
        and initial weights differ as in `ReActNet18`.
    """
    stages = check_blocks(blocks)
    if stem_stride not in (None, 1, 2):
        raise InvalidValue(
            "stem_stride must be 1, 2, or None to choose by the image (2 with "
            f"{LARGE} pixels or more); got {stem_stride!r}."
        )
    check_variance(alpha, variance_rule)
    check_flag("scaled_shortcut", scaled_shortcut)
    kernels = (binary_weights, estimator, variance_preserving, balanced)
    own = (kernel_quantizer, activation)
    parts = Parts(normalization, *kernels, *own)
    frame = Frame("ReActNetA", input_shape, classes, width, head, name)
    halvings = 2 ** (len(stages) - 1)
    large = min(frame.image(halvings).shape[1:3]) >= LARGE
    stem_stride = stem_stride or (2 if large else 1)
    image = frame.image(stem_stride * halvings)
    x = parts.float_conv(image, width, 3, stem_stride, "stem")
    x = parts.beside(x, "stem")
    for stage, pairs in enumerate(paired_variances(stages, alpha, variance_rule)):
        for block, (first, second) in enumerate(pairs):
            strides, beta = 2 if stage > 0 and block == 0 else 1, first**-0.5
            place = f"stage{stage + 1}_block{block + 1}_3x3"
            branch = parts.binary_conv(x, x.shape[-1], 3, strides, place, alpha, beta)
            if strides == 2:
                scale = beta if scaled_shortcut else 1.0
                x = _average(parts, x, f"{place}_shortcut", scale)
            x = parts.add(branch, x, place)
            x = parts.activate(x, RPReLU(power_of_two, name=f"{place}_act"))
            place = f"stage{stage + 1}_block{block + 1}_1x1"
            x = _pointwise(parts, x, block == 0, place, alpha, second**-0.5)
            x = parts.activate(x, RPReLU(power_of_two, name=f"{place}_act"))
    return frame.classifier(image, x)
