"""What quantizers make of a kernel, in NumPy; the last axis holds its filters."""

import numpy as np


def signs(x):
    return np.where(x >= 0, 1.0, -1.0)


def centered(kernel):
    return kernel - kernel.mean(tuple(range(kernel.ndim - 1)))


def turned(kernel):
    """The signs around the mean of a filter."""
    return signs(centered(kernel))


def standardized(kernel):
    columns = centered(kernel).reshape(-1, kernel.shape[-1])
    return centered(kernel) / (len(columns) ** 0.5 * (columns.std(0) + 1e-5))


def mean_magnitude(kernel):
    return abs(kernel).mean(tuple(range(kernel.ndim - 1)))


def scaled_signs(kernel):
    hat = standardized(kernel)
    return mean_magnitude(hat) * signs(hat)


def square_wave(kernel, frequency=20.0):
    """Changes its sign at every multiple of pi / frequency, without a sine."""
    waves = np.floor(np.float64(kernel) * frequency / np.pi)
    return np.where(waves % 2 == 0, 1.0, -1.0)
