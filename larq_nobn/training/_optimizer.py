"""The optimizer that a recipe asks for."""

from __future__ import annotations

import re

from .._keras import keras
from .._names import OWN
from ..optimizers import (
    AdaptiveGradientClipping,
    BayesianLearningRule,
    ParameterGroups,
)
from ._network import head_name
from ._settings import RunSettings

# Shifts of signs, the biases of convolutions in their place, and gains of kernels.
_SHIFTS_AND_GAINS = r"(^|/)(shift|gain)(:|$)|_conv/bias(:|$)"
_GAINS = r"(^|/)gain(:|$)"


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
    if multipliers := _multipliers(settings, network):
        optimizer = ParameterGroups(optimizer, multipliers)
    if settings.clip_factor != 0:
        optimizer = _clipped(settings, optimizer, network)
    if not any(map(BayesianLearningRule.is_bayesian_variable, network.weights)):
        return optimizer
    # The same schedule of another height.
    natural = settings.backbone_multiplier * settings.natural_learning_rate
    config = schedule.get_config()
    for name in ("initial_learning_rate", "warmup_target"):
        if config.get(name) is not None:
            config[name] *= natural / settings.learning_rate
    return BayesianLearningRule(
        optimizer, type(schedule).from_config(config), settings.prior_weight
    )


def _multipliers(settings: RunSettings, network: keras.Model) -> dict[str, float]:
    """Learning-rate factors by patterns, of which the first that fits counts."""
    groups = {}
    rest = settings.backbone_multiplier
    if rest != 1:
        head = head_name(network)
        if head is None:
            raise ValueError(
                f"backbone_multiplier={rest} spares the classifier, but the network "
                f"{network.name} ends in no Dense, Conv2D or SymmetricHead. Use 1."
            )
        groups[_below(head)] = 1.0
    if settings.shift_multiplier != 1:
        groups[_SHIFTS_AND_GAINS] = rest * settings.shift_multiplier
    if rest != 1:
        groups["."] = rest
    names = [variable.name for variable in network.trainable_variables]
    return {
        pattern: factor
        for pattern, factor in groups.items()
        if any(re.search(pattern, name) for name in names)
    }


def _clipped(
    settings: RunSettings,
    optimizer: keras.optimizers.Optimizer,
    network: keras.Model,
) -> keras.optimizers.Optimizer:
    """Clips all gradients but those of the classifier."""
    factor = settings.clip_factor
    units: dict[str, tuple[int, ...]] = {_GAINS: ()} if settings.clip_each_gain else {}
    if settings.model != OWN:
        return AdaptiveGradientClipping(optimizer, factor, unit_axes=units)
    # Its layers have any names, which may not tell their roles.
    head = head_name(network)
    return AdaptiveGradientClipping.for_model(
        network,
        optimizer,
        factor,
        exclude=[] if head is None else [_below(head)],
        unit_axes=units,
    )


def _below(layer: str) -> str:
    """The pattern of the weights of a layer."""
    return f"(^|/){re.escape(layer)}/"
