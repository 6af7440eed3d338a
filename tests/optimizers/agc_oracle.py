"""Adaptive gradient clipping written as a loop over units, in float64 NumPy."""

import numpy as np


def clip(gradient, weight, axes, clip_factor, epsilon=1e-3):
    gradient = np.asarray(gradient, np.float64)
    weight = np.asarray(weight, np.float64)
    kept = [axis for axis in range(gradient.ndim) if axis not in axes]
    result = gradient.copy()
    for unit in np.ndindex(*[gradient.shape[axis] for axis in kept]):
        index = [slice(None)] * gradient.ndim
        for axis, position in zip(kept, unit, strict=True):
            index[axis] = position
        index = tuple(index)
        norm = np.sqrt(np.sum(gradient[index] ** 2))
        limit = clip_factor * max(np.sqrt(np.sum(weight[index] ** 2)), epsilon)
        if norm > limit:
            result[index] = gradient[index] * limit / max(norm, 1e-6)
    return result
