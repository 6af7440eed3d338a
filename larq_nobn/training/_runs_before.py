"""The runs that a run needs first: those of its teacher and of its first stage."""

from __future__ import annotations

from dataclasses import asdict

from .._names import CONSECUTIVE, FLOAT_MODEL, TRAINED
from ..config._recipe import Recipe
from ._run_settings import RunSettings

# The common recipe for a residual network with batch norm.
_TEACHER = Recipe(
    optimizer="sgd",
    learning_rate=0.1,
    schedule="cosine",
    weight_decay=5e-4,
    clip_factor=0.0,
)
# Settings of its recipe that the teacher takes from the student.
_LIKE_STUDENT = ("epochs", "batch_size", "accumulate", "reflect")


def runs_before(settings: RunSettings) -> dict[str, RunSettings]:
    """Returns the settings of the runs that a run needs first, in order, by folder.

    Each may use the networks of the ones before it, as a first stage uses the teacher.
    """
    runs: dict[str, RunSettings] = {}
    if settings.teacher in (TRAINED, CONSECUTIVE):
        runs["teacher"] = teacher_settings(settings)
    if settings.stages == 2:
        runs["stage1"] = first_stage(settings)
    return runs


def first_stage(settings: RunSettings) -> RunSettings:
    """Returns the settings of stage one: the same network with real-valued kernels."""
    return settings.but(
        stages=1,
        teacher=TRAINED if settings.teacher == CONSECUTIVE else settings.teacher,
        kernel=None,
        weight_decay=settings.stage_one_decay,
        network={**settings.network, "binary_weights": False},
    )


def teacher_settings(settings: RunSettings) -> RunSettings:
    """Returns the settings of the float ResNet that teaches the given student.

    The teacher has the student's width and number of stages, and half as many blocks,
    because its blocks have two convolutions and the student's have one.
    """
    recipe = asdict(_TEACHER) | {n: getattr(settings, n) for n in _LIKE_STUDENT}
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
