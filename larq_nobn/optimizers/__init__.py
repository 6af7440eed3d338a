"""Optimizer wrappers that change gradients or updates, and an optimizer."""

from ._agc import AdaptiveGradientClipping
from ._bayesian import BayesianLearningRule
from ._boolean import BooleanAccumulation
from ._clipping import adaptive_gradient_clip
from ._groups import ParameterGroups

__all__ = [
    "AdaptiveGradientClipping",
    "BayesianLearningRule",
    "BooleanAccumulation",
    "ParameterGroups",
    "adaptive_gradient_clip",
]
