from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from .._errors import InvalidValue
from .._keras import keras
from ._blur_pool import blur_pool
from ._dense import RELU_MEAN, RELU_SCALE, rectify, relu_of
from ._frame import Frame, check_supported
from ._normalizations import BATCH_NORM, CONCATENATED
from ._parts import LARGE, Parts
from ._pretrained import opens_weights
from ._variance import check_variance, expected_variances
from ._variants import like

# Channels of the stages, as multiples of the width.
_DOUBLING, _SMALL = (1, 2, 4, 8), (1, 2, 8, 16)


def _depthwise(parts: Parts, x: tf.Tensor, name: str) -> tf.Tensor:
    """Adds a depthwise 3x3 convolution of stride 2, normalized without a scale."""
    start = "glorot_uniform"
    if parts.is_free:
        # The squares of nine such weights add up to about 1, as in a standardized
        # filter. But a filter of mean 0 would keep only the edges of its channel.
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
        # No scale and bias, since the next convolution can learn them.
        plain = keras.layers.BatchNormalization(
            center=False, scale=False, name=f"{name}_norm", **BATCH_NORM
        )
        return plain(x)
    return parts.normalize(x, name)


def _stem(parts: Parts, x: tf.Tensor, width: int) -> tf.Tensor:
    """Adds the stem, which reduces large images to a quarter of height and width."""
    if min(x.shape[1:3]) < LARGE:
        return parts.normalize(parts.float_conv(x, width, 3, 1, "stem"), "stem")
    if width % 4:
        raise InvalidValue(
            f"width={width} is not a multiple of 4, as the stem for images of {LARGE} "
            "pixels or more requires. Use 16, 32 or 64."
        )
    # The scale makes the mean square after the ReLU 1.
    x = parts.float_conv(x, width // 4, 3, 2, "stem1", 2**0.5)
    x = rectify(parts, x, "stem1")
    x = parts.components(_depthwise(parts, x, "stem2"), "stem3")
    return parts.normalize(parts.float_conv(x, width, 1, 1, "stem3"), "stem3")


def _block(
    parts: Parts, x: tf.Tensor, name: str, alpha: float, beta: float
) -> tf.Tensor:
    """Adds x + norm(ReLU(conv(sign(beta·x)))), with alpha in the kernel's scale."""
    # A normalizer with an activation replaces the ReLU, too.
    relu = None if relu_of(parts) else "relu"
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
    """Adds a transition to the next stage, of half the size."""
    x = parts.activate(x, keras.layers.ReLU(name=f"{name}_act"))
    x = keras.layers.MaxPool2D(2, 1, name=f"{name}_pool")(x)
    x = parts.components(blur_pool(f"{name}_blur")(x), name)
    x = parts.float_conv(x, channels, 1, 1, name, beta * RELU_SCALE)
    return parts.normalize(x, name)


def _quick_net(
    network: str,
    multiples: Sequence[int],
    *,
    input_shape: Sequence[int],
    classes: int,
    normalization: Any,
    width: int,
    blocks: Sequence[int],
    alpha: float,
    variance_rule: str,
    head: str,
    name: str,
    **kernels: Any,
) -> keras.Model:
    """Builds stem, stages with transitions between them, ReLU and classifier.

    `multiples` are the channels of each stage, as multiples of the width; `kernels` are
    arguments of `Parts`.
    """
    frame = Frame(network, input_shape, classes, width, head, name)
    check_supported(network, normalization, CONCATENATED)
    # Signs learn a shift if no normalization has a bias.
    parts = Parts(normalization, **kernels, shift=normalization == "nobn")
    stages = frame.stages(blocks, len(multiples))
    image = frame.image(2 ** (len(stages) - 1))
    check_variance(alpha, variance_rule)
    x = _stem(parts, image, width)
    after = 1.0
    for stage, count in enumerate(stages):
        if stage > 0:
            channels = width * multiples[stage]
            x = _transition(parts, x, channels, f"transition{stage}", after**-0.5)
        # A transition resets the variance, so every stage starts like the first.
        *variances, after = expected_variances([count + 1], alpha, variance_rule)[0]
        for block, variance in enumerate(variances):
            block_name = f"stage{stage + 1}_block{block + 1}"
            x = _block(parts, x, block_name, alpha, variance**-0.5)
    x = parts.activate(x, keras.layers.ReLU(name="final_act"))
    return frame.classifier(image, x)


@opens_weights
def QuickNet(
    input_shape: Sequence[int],
    classes: int,
    normalization: Any = "nobn",
    width: int = 64,
    binary_weights: bool = True,
    blocks: Sequence[int] = (4, 4, 4, 4),
    alpha: float = 0.5,
    variance_rule: str = "nf",
    estimator: Any = "approx_sign",
    variance_preserving: bool = True,
    balanced: bool = True,
    head: str = "dense",
    name: str = "quicknet",
    kernel_quantizer: Any = None,
    activation: Any = None,
) -> keras.Model:
    r"""QuickNet: designed for low latency, with few float operations.

    Every block keeps size and channels and computes

    \[ y = x + \mathrm{norm}\big(\mathrm{ReLU}(\alpha'\,
       \mathrm{conv}(\mathrm{sign}(\beta x + b)))\big) . \]

    A transition starts the next stage: ReLU, a 2x2 max pool with stride 1, a fixed
    depthwise blur of stride 2 and a real-valued 1x1 convolution, normalized. With
    `"nobn"`, norm subtracts 0.68 α, the mean after the ReLU, and α' = 1.71 α
    compensates the variance that the ReLU removes. β is one over the expected standard
    deviation of x; the kernels of transitions have that factor, too. Other
    normalizations have no α', β and shift b. The stem, the transitions and the final
    dense layer, `head`, are real-valued; `head` returns logits in float32.

    Number of weights for 224x224x3 images and 1000 classes:

    | network         | `"batch_norm"`, trained | not trained | `"nobn"`, trained |
    |-----------------|-------------------------|-------------|-------------------|
    | `QuickNetSmall` | 12,652,504              | 11,840      | 12,651,632        |
    | `QuickNet`      | 13,230,024              | 13,696      | 13,229,048        |
    | `QuickNetLarge` | 23,338,184              | 21,120      | 23,337,208        |

    Arguments:
        input_shape: (height, width, channels). For 64 pixels or more the stem is that
            for ImageNet (a 3x3 and a depthwise 3x3 convolution, both of stride 2 and
            with a quarter of the width, and a 1x1 convolution), below a 3x3
            convolution.
        normalization: Any of `NORMALIZATIONS` but `"kalman"`, as in `ReActNet18`:
            `"nobn"`, `"none"`, or a layer after the ReLU of every block and after every
            other convolution; the paper has `"batch_norm"`. `"proxy"` and `"evonorm"`
            have an activation instead of that ReLU. `"independent_component"` is before
            every convolution but the first.
        width: Channels of the first stage, a multiple of 4 for images of 64 pixels or
            more; every further stage doubles them.
        blocks: Number of blocks, of one convolution each, in each of up to four stages.
        classes, binary_weights, alpha, variance_rule, estimator, variance_preserving,
        balanced, head, name, kernel_quantizer, activation: As in `ReActNet18`.

    Returns:
        A functional Keras model.

    Raises:
        TypeError, ValueError: For arguments outside the ranges above or an image too
            small for the number of stages.

    Example:
        ```python
        import larq_nobn as nobn

        model = nobn.models.QuickNet((32, 32, 3), classes=10, width=16)
        model.compile("adam", "mse")
        ```

    References:
        - T. Bannink, A. Hillier, L. Geiger, T. de Bruin, L. Overweel, J. Neeven,
          K. Helwegen, "Larq Compute Engine: Design, Benchmark, and Deploy
          State-of-the-Art Binarized Neural Networks", MLSys 2021, arXiv:2011.09398.
        - R. Zhang, "Making Convolutional Networks Shift-Invariant Again", ICML 2019,
          arXiv:1904.11486 (the blur).

    Differences from the paper:
        `"nobn"` is new; its depthwise kernel is not standardized. Binary kernels are
        multiplied by the mean magnitude of their weights and clipped at 1, and signs
        have the estimator `"approx_sign"`; the paper clips both at 1.25. Every batch
        norm has momentum 0.9 and ε 1e-5. `head` returns logits.
    """
    return _quick_net("QuickNet", _DOUBLING, **locals())


@opens_weights
@like(QuickNet, width=32, name="quicknet_small")
def QuickNetSmall(**arguments: Any) -> keras.Model:
    """`QuickNet` with fewer channels in the first stages.

    Arguments:
        **arguments: Those of `QuickNet`. `width` is 32, the channels of the first
            stage; the others have 2, 8 and 16 times as many.

    Example:
        ```python
        import larq_nobn as nobn

        model = nobn.models.QuickNetSmall((32, 32, 3), 10, width=16, blocks=(1, 1))
        ```

    References:
        - T. Bannink, A. Hillier, L. Geiger, T. de Bruin, L. Overweel, J. Neeven,
          K. Helwegen, "Larq Compute Engine: Design, Benchmark, and Deploy
          State-of-the-Art Binarized Neural Networks", MLSys 2021, arXiv:2011.09398.
    """
    return _quick_net("QuickNetSmall", _SMALL, **arguments)


@opens_weights
@like(QuickNet, blocks=(6, 8, 12, 6), name="quicknet_large")
def QuickNetLarge(**arguments: Any) -> keras.Model:
    """`QuickNet` with more blocks.

    Arguments:
        **arguments: Those of `QuickNet`; `blocks` are (6, 8, 12, 6).

    Example:
        ```python
        import larq_nobn as nobn

        model = nobn.models.QuickNetLarge((32, 32, 3), 10, width=16, blocks=(1, 1))
        ```

    References:
        - T. Bannink, A. Hillier, L. Geiger, T. de Bruin, L. Overweel, J. Neeven,
          K. Helwegen, "Larq Compute Engine: Design, Benchmark, and Deploy
          State-of-the-Art Binarized Neural Networks", MLSys 2021, arXiv:2011.09398.
    """
    return _quick_net("QuickNetLarge", _DOUBLING, **arguments)
