"""Rules that change gradients before an optimizer sees them."""

from ._agc import AdaptiveGradientClipping
from ._clipping import adaptive_gradient_clip

__all__ = ["AdaptiveGradientClipping", "adaptive_gradient_clip"]
