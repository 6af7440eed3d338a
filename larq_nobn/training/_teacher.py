"""Where a teacher comes from, and what a network learns from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

import tensorflow as tf

from .._keras import keras
from ..config import Recipe
from ._network import ends_in_softmax
from ._settings import RunSettings
from ._training_model import Probabilities

# What a residual network with batch norm is commonly trained with.
_RECIPE = Recipe(
    optimizer="sgd",
    learning_rate=0.1,
    schedule="cosine",
    weight_decay=5e-4,
    clip_factor=0.0,
)
# As the student's, like all that is no part of a recipe.
_SHARED = ("epochs", "batch_size", "accumulate", "reflect")


def teacher_settings(settings: RunSettings) -> RunSettings:
    """The run of a float ResNet that teaches the network of these settings.

    It has as many channels in its first stage, as many stages, and blocks of two
    convolutions where the student has blocks of one.
    """
    recipe = {each.name: getattr(_RECIPE, each.name) for each in fields(Recipe)}
    recipe |= {name: getattr(settings, name) for name in _SHARED}
    blocks = settings.blocks and tuple(max(1, count // 2) for count in settings.blocks)
    return replace(
        settings,
        **recipe,
        model="FloatResNet",
        normalization="batch_norm",
        blocks=blocks,
        recipe="plain",
        init=None,
        init_sha256=None,
    )


def probabilities_of(
    teacher: keras.Model, name: str, image_shape: Sequence[int], classes: int
) -> Probabilities:
    """What a classifier, in inference, takes for the probabilities of the classes.

    It may end in logits or in a softmax, but has to take the student's images, and tell
    its classes apart.
    """
    wanted = ([None, *image_shape], [None, classes])
    found = (teacher.input_shape, teacher.output_shape)
    if isinstance(found[0], (list, dict)) or not all(
        tf.TensorShape(its).is_compatible_with(ours)
        for its, ours in zip(found, wanted, strict=True)
    ):
        raise ValueError(
            f"The teacher {name} maps {found[0]} to {found[1]}, but it has to map "
            f"images of {tuple(image_shape)} to {classes} classes. Choose one that was "
            "trained on this data set."
        )
    in_logits = not ends_in_softmax(teacher, image_shape)

    def probabilities(images: tf.Tensor) -> tf.Tensor:
        outputs = tf.cast(teacher(images, training=False), tf.float32)
        return tf.nn.softmax(outputs) if in_logits else outputs

    return probabilities
