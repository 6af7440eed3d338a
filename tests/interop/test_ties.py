"""Weights beside the mean of their filter fall where PyTorch has them."""

import numpy as np
import torch
from larq_nobn.interop._ties import decided
from larq_nobn.quantizers import ReCU, ScaledStdSign
from numpy.testing import assert_array_equal

KINDS = (ReCU, ScaledStdSign)


def kernel_of_ties():
    """A tenth of the weights are within a few digits of the mean in float32."""
    random = np.random.default_rng(0)
    kernel = random.normal(0.02, 0.3, (32, 512, 3, 3)).astype(np.float32)
    tied = random.random(kernel.shape) < 0.1
    digits = random.integers(-20, 21, kernel.shape).astype(np.float32)
    for _ in range(12):  # every weight put there moves the mean a tenth as far
        mean = kernel.mean((1, 2, 3), keepdims=True)
        kernel = np.where(tied, mean + digits * np.spacing(mean), kernel)
    return kernel, tied


def sides_here(kernel, kind):
    quantizer = kind()
    values = quantizer(np.ascontiguousarray(kernel.transpose(2, 3, 1, 0)))
    return np.sign(values).transpose(3, 2, 0, 1)


def test_signs_are_those_of_pytorch():
    kernel, tied = kernel_of_ties()
    weights = torch.from_numpy(kernel)
    there = (weights - weights.mean((1, 2, 3), keepdim=True)).sign().numpy()
    moved = decided(kernel)
    for kind in KINDS:
        assert (sides_here(kernel, kind) != there)[there != 0].any()
        assert_array_equal(sides_here(moved, kind)[there != 0], there[there != 0])
    assert_array_equal(moved[~tied], kernel[~tied])
    assert np.abs(moved - kernel).max() <= 2e-6 * np.abs(kernel).max()
