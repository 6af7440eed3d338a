"""What the QuickNets share: all but their sizes."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from .._checks import check_blocks
from .._errors import InvalidValue
from .._keras import keras
from ._blur_pool import blur_pool
from ._dense import RELU_MEAN, RELU_REPLACED, RELU_SCALE, rectify
from ._frame import Frame, check_supported
from ._normalizers import BATCH_NORM, CONCATENATED
from ._parts import LARGE, Parts
from ._variance import check_variance, expected_variances


def _depthwise(parts: Parts, x: tf.Tensor, name: str) -> tf.Tensor:
    """A 3x3 convolution of stride 2 of each channel, normalized without a gain."""
    start = "glorot_uniform"
    if parts.is_free:
        # The sum of nine random weights' squares is 1, as in a standardized filter;
        # but of a filter of mean 0 nothing but the edges of its channel would be left.
        start = keras.initializers.RandomNormal(stddev=1 / 3)
    x = keras.layers.DepthwiseConv2D(
        3,
        2,
        padding="same",
        use_bias=False,
        depthwise_initializer=start,
        name=f"{name}_conv",
    )(parts.components(x, name))
    if parts.normalization == "batch_norm":
        # The next kernel contains what gain and bias would.
        plain = keras.layers.BatchNormalization(
            center=False, scale=False, name=f"{name}_norm", **BATCH_NORM
        )
        return plain(x)
    return parts.normalize(x, name)


def _stem(parts: Parts, x: tf.Tensor, width: int) -> tf.Tensor:
    """The first features; large images are quartered by few real-valued channels."""
    if min(x.shape[1:3]) < LARGE:
        return parts.float_conv(x, width, 3, 1, "stem")
    if width % 4:
        raise InvalidValue(
            f"width={width} is not a multiple of 4, which images from {LARGE} pixels "
            "on need for their stem. Use 16, 32, 64 or so."
        )
    # After the ReLU the mean square is 1.
    x = parts.float_conv(x, width // 4, 3, 2, "stem1", 2**0.5, normalized=False)
    x = rectify(parts, x, "stem1")
    x = parts.components(_depthwise(parts, x, "stem2"), "stem3")
    return parts.float_conv(x, width, 1, 1, "stem3")


def _block(
    parts: Parts, x: tf.Tensor, name: str, alpha: float, beta: float
) -> tf.Tensor:
    """x + norm(ReLU(conv(sign(beta·x)))), with alpha in the kernel's scale."""
    # A normalizer that is an activation too takes the place of both.
    relu = None if parts.normalization in RELU_REPLACED else "relu"
    branch = parts.binary_conv(
        x, x.shape[-1], 3, 1, name, alpha * RELU_SCALE, beta, activation=relu
    )
    if parts.is_free:
        center = -alpha * RELU_MEAN
        branch = keras.layers.Rescaling(1.0, center, name=f"{name}_center")(branch)
    return keras.layers.Add(name=f"{name}_add")([branch, x])


def _transition(
    parts: Parts, x: tf.Tensor, channels: int, name: str, beta: float
) -> tf.Tensor:
    """Leads to the next stage, of half the size."""
    x = keras.layers.ReLU(name=f"{name}_act")(x)
    x = keras.layers.MaxPool2D(2, 1, name=f"{name}_pool")(x)
    x = parts.components(blur_pool(f"{name}_blur")(x), name)
    return parts.float_conv(x, channels, 1, 1, name, beta * RELU_SCALE)


def quick_net(
    frame: Frame,
    multiples: Sequence[int],
    normalization: str,
    kernels: tuple[bool, str, bool, bool],
    blocks: Sequence[int],
    alpha: float,
    variance_rule: str,
) -> keras.Model:
    """Stem, stages with transitions between them, ReLU and classifier.

    Arguments:
        frame: Its ends.
        multiples: Channels of each stage, in widths.
        kernels: `binary_weights`, `estimator`, `variance_preserving` and `balanced`.
        normalization, blocks, alpha, variance_rule: As in `QuickNet`.
    """
    check_supported(frame.network, normalization, CONCATENATED)
    # Signs learn a shift where no normalization has one.
    parts = Parts(normalization, *kernels, shift=normalization == "nobn")
    stages = check_blocks(blocks)
    if len(stages) > len(multiples):
        raise InvalidValue(
            f"blocks={blocks!r} has {len(stages)} stages, but {frame.network} knows "
            f"the channels of {len(multiples)}. Give so many whole numbers, or fewer."
        )
    image = frame.image(2 ** (len(stages) - 1))
    check_variance(alpha, variance_rule)
    x = _stem(parts, image, frame.width)
    after = 1.0
    for stage, count in enumerate(stages):
        if stage > 0:
            channels = frame.width * multiples[stage]
            x = _transition(parts, x, channels, f"transition{stage}", after**-0.5)
        # A transition resets the variance, and so every stage starts like the first.
        *variances, after = expected_variances([count + 1], alpha, variance_rule)[0]
        for block, variance in enumerate(variances):
            block_name = f"stage{stage + 1}_block{block + 1}"
            x = _block(parts, x, block_name, alpha, variance**-0.5)
    x = keras.layers.ReLU(name="final_act")(x)
    return frame.classifier(image, x)
