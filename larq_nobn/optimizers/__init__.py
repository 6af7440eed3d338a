"""Rules that change gradients before an optimizer sees them, and an optimizer."""

from ._agc import AdaptiveGradientClipping
from ._boolean import BooleanAccumulation
from ._clipping import adaptive_gradient_clip

__all__ = [
    "AdaptiveGradientClipping",
    "BooleanAccumulation",
    "adaptive_gradient_clip",
]
