"""The common parts of networks whose layers concatenate features."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from .._errors import InvalidValue
from .._keras import keras
from ..layers import ProxyNormalization, ThresholdedLinearUnit
from ._frame import Frame, check_supported
from ._normalizations import CONCATENATED, evonorm, normalization_of
from ._own import is_own
from ._parts import LARGE, Parts

# This factor times the ReLU of a standard normal has variance 1, and the mean below.
RELU_SCALE = (0.5 - 0.5 / math.pi) ** -0.5
RELU_MEAN = RELU_SCALE / math.sqrt(2 * math.pi)

# Normalizers that include an activation and replace a ReLU too.
RELU_REPLACED: dict[str, Callable[[tf.Tensor, str], tf.Tensor]] = {
    "evonorm": lambda x, name: evonorm(x, name, True, "zeros"),
    "proxy": lambda x, name: ProxyNormalization("relu", num_samples=None, name=name)(x),
}


@dataclass(frozen=True)
class Design:
    """The differences between these networks.

    Arguments:
        stem: Function that adds the stem of images of 64 pixels or more, up to its
            pool.
        unit: Function that adds a layer, given its dilation and its name.
        unit_name: Word for such a layer, as part of its name.
        reductions: Ratio of the channels before and after each transition.
        dilations: Dilation of each stage; a dilated stage keeps the size of the map.
        groups: Groups of channels of the transitions, which are shuffled before.
    """

    stem: Callable[[Parts, tf.Tensor, int], tf.Tensor]
    unit: Callable[[Parts, tf.Tensor, int, int, str], tf.Tensor]
    unit_name: str
    reductions: tuple[float, ...]
    dilations: tuple[int, ...] = (1, 1, 1, 1)
    groups: int = 1


def grow(x: tf.Tensor, new: tf.Tensor, name: str) -> tf.Tensor:
    """Concatenates the features `x` and new ones."""
    return keras.layers.Concatenate(name=f"{name}_concat")([x, new])


def relu_of(parts: Parts) -> Callable[[tf.Tensor, str], tf.Tensor] | None:
    """Returns the normalizer that replaces ReLUs; None if none or if one was given."""
    chosen = parts.activation is not None or is_own(parts.normalization)
    return None if chosen else RELU_REPLACED.get(parts.normalization)


def rectify(
    parts: Parts, x: tf.Tensor, name: str, pool: keras.layers.Layer | None = None
) -> tf.Tensor:
    """Computes ReLU(pool(norm(x))); a norm with an activation replaces the ReLU.

    The ReLU of filter response normalization learns its threshold.
    """
    own = relu_of(parts)
    x = own(x, f"{name}_norm") if own else parts.normalize(x, name, start="zeros")
    if pool is not None:
        x = pool(x)
    learned = parts.normalization == "filter_response"
    relu = ThresholdedLinearUnit if learned else keras.layers.ReLU
    return x if own else parts.activate(x, relu(name=f"{name}_act"))


def _transition(
    parts: Parts,
    x: tf.Tensor,
    width: int,
    reduction: float,
    pooled: bool,
    groups: int,
    name: str,
) -> tf.Tensor:
    """Adds a transition, to a number of channels that is a multiple of width / 2."""
    if width % (2 * groups) and groups > 1:
        raise InvalidValue(
            f"width={width} is not a multiple of {2 * groups}, as the groups in the "
            f"transitions require. Use {2 * groups}, 16, 32 or 64."
        )
    channels = max(1, round(2 * x.shape[-1] / (width * reduction))) * width // 2
    pool = keras.layers.MaxPool2D(2, name=f"{name}_pool") if pooled else None
    x = parts.components(rectify(parts, x, name, pool), name)
    return parts.float_conv(x, channels, 1, 1, name, RELU_SCALE, groups=groups)


def _stem(parts: Parts, x: tf.Tensor, width: int, design: Design) -> tf.Tensor:
    """Adds the stem, whose features the next layer binarizes.

    The stem of large images ends with a ReLU and a pool, after which all signs would be
    +1. If no normalization subtracts the mean, a constant is subtracted: the mean of a
    rectified normal, 0.68 (after the pool 0.6 to 0.8, measured on two images).
    """
    if min(x.shape[1:3]) < LARGE:
        return parts.float_conv(x, width, 3, 1, "stem")
    x = design.stem(parts, x, width)
    x = keras.layers.MaxPool2D(3, 2, padding="same", name="stem_pool")(x)
    if not normalization_of(parts.normalization).centered:
        x = keras.layers.Rescaling(1.0, -RELU_MEAN, name="stem_center")(x)
    return x


def dense_network(
    network: str,
    design: Design,
    *,
    input_shape: Sequence[int],
    classes: int,
    normalization: Any,
    width: int,
    blocks: Sequence[int],
    head: str,
    name: str,
    **kernels: Any,
) -> keras.Model:
    """Builds stem, stages with transitions between them, ReLU and classifier.

    The normalization is before the sign, or is the sign's shift. `kernels` are
    arguments of `Parts`.
    """
    frame = Frame(network, input_shape, classes, width, head, name)
    check_supported(network, normalization, CONCATENATED)
    shift = normalization == "nobn"
    parts = Parts(normalization, **kernels, shift=shift, norm_first=True)
    stages = frame.stages(blocks, len(design.dilations))
    halvings = design.dilations[1 : len(stages)].count(1)
    image = frame.image(2**halvings)
    x = _stem(parts, image, width, design)
    for stage, count in enumerate(stages):
        dilation = design.dilations[stage]
        if stage > 0:
            reduction, transition = design.reductions[stage - 1], f"transition{stage}"
            x = _transition(
                parts, x, width, reduction, dilation == 1, design.groups, transition
            )
        for unit in range(count):
            unit_name = f"stage{stage + 1}_{design.unit_name}{unit + 1}"
            x = design.unit(parts, x, width, dilation, unit_name)
    return frame.classifier(image, rectify(parts, x, "final"))
