"""The plan of a training: the runs that come before a run, and what each is."""

from __future__ import annotations

from dataclasses import asdict

from .._names import FLOAT_MODEL
from ..config._recipe import Recipe
from ._settings import RunSettings

# What a residual network with batch norm is commonly trained with.
_TEACHER = Recipe(
    optimizer="sgd",
    learning_rate=0.1,
    schedule="cosine",
    weight_decay=5e-4,
    clip_factor=0.0,
)
# As the student's, like all that is not part of a recipe.
_SHARED = ("epochs", "batch_size", "accumulate", "reflect")


def runs_before(settings: RunSettings) -> dict[str, RunSettings]:
    """Returns the runs that come before a run, in order, by the name of their folder.

    Each may use the networks of those before it, as a first stage uses the teacher.
    """
    runs: dict[str, RunSettings] = {}
    if settings.teacher == "train":
        runs["teacher"] = teacher_settings(settings)
    if settings.stages == 2:
        runs["stage1"] = first_stage(settings)
    return runs


def first_stage(settings: RunSettings) -> RunSettings:
    """The first of two stages: the same network with real-valued kernels."""
    return settings.but(
        stages=1,
        kernel=None,
        weight_decay=settings.stage_one_decay,
        network={**settings.network, "binary_weights": False},
    )


def teacher_settings(settings: RunSettings) -> RunSettings:
    """The run of a float ResNet that teaches the network of these settings.

    It has as many channels in its first stage, as many stages, and blocks of two
    convolutions where the student has blocks of one.
    """
    recipe = asdict(_TEACHER) | {name: getattr(settings, name) for name in _SHARED}
    blocks = settings.blocks and tuple(max(1, count // 2) for count in settings.blocks)
    return settings.but(
        **recipe,
        model=FLOAT_MODEL,
        normalization="batch_norm",
        blocks=blocks,
        recipe="plain",
        init=None,
        init_sha256=None,
    )
