"""The optimizer that a recipe asks for."""

from __future__ import annotations

import re

from ..._keras import keras
from ...optimizers import (
    AdaptiveGradientClipping,
    BayesianLearningRule,
    ParameterGroups,
)
from ..settings import RunSettings

# Shifts of signs, the biases of convolutions in their place, and gains of kernels.
_SHIFTS_AND_GAINS = r"(^|/)(shift|gain)(:|$)|_conv/bias(:|$)"


def schedule_for(
    settings: RunSettings, steps: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """The learning rate over a run of so many steps per epoch."""
    schedules = keras.optimizers.schedules
    rate, total = settings.learning_rate, steps * settings.epochs
    if settings.schedule == "linear":
        return schedules.PolynomialDecay(rate, total, end_learning_rate=0.0)
    if not settings.warmup_epochs:
        return schedules.CosineDecay(rate, total)
    warmup = settings.warmup_epochs
    return schedules.CosineDecay(
        rate / (warmup + 1),
        total - warmup * steps,
        warmup_target=rate,
        warmup_steps=warmup * steps,
    )


def optimizer_for(
    settings: RunSettings,
    schedule: keras.optimizers.schedules.LearningRateSchedule,
    network: keras.Model,
) -> keras.optimizers.Optimizer:
    """Adam or SGD, with what the recipe wraps around it."""
    if settings.optimizer == "adam":
        optimizer = keras.optimizers.Adam(schedule, beta_2=settings.beta_2)
    else:
        optimizer = keras.optimizers.SGD(schedule, momentum=settings.momentum)
    names = [variable.name for variable in network.trainable_variables]
    found = any(re.search(_SHIFTS_AND_GAINS, name) for name in names)
    if settings.shift_multiplier != 1 and found:
        optimizer = ParameterGroups(
            optimizer, {_SHIFTS_AND_GAINS: settings.shift_multiplier}
        )
    if settings.clip_factor != 0:
        optimizer = AdaptiveGradientClipping(
            optimizer, clip_factor=settings.clip_factor
        )
    if not any(map(BayesianLearningRule.is_bayesian_variable, network.weights)):
        return optimizer
    ratio = settings.natural_learning_rate / settings.learning_rate
    return BayesianLearningRule(
        optimizer, _multiplied(schedule, ratio), settings.prior_weight
    )


def _multiplied(
    schedule: keras.optimizers.schedules.LearningRateSchedule, factor: float
) -> keras.optimizers.schedules.LearningRateSchedule:
    """The same schedule of another height."""
    config = schedule.get_config()
    for name in ("initial_learning_rate", "warmup_target"):
        if config.get(name) is not None:
            config[name] *= factor
    return type(schedule).from_config(config)
