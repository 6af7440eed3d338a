"""Weights beside the mean of their filter fall where PyTorch has them."""

import larq as lq
import numpy as np
import torch
from larq_nobn.interop._slots import convolution
from larq_nobn.quantizers import ScaledStdSign
from numpy.testing import assert_array_equal


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


def sides_here(kernel):
    values = ScaledStdSign()(np.ascontiguousarray(kernel.transpose(2, 3, 1, 0)))
    return np.sign(values).transpose(3, 2, 0, 1)


def test_signs_are_those_of_pytorch():
    kernel, tied = kernel_of_ties()
    weights = torch.from_numpy(kernel)
    # As the published code takes the mean.
    _, mean = torch.std_mean(weights, dim=[1, 2, 3], keepdim=True, unbiased=False)
    there = (weights - mean).sign().numpy()
    layer = lq.layers.QuantConv2D(32, 3, kernel_quantizer=ScaledStdSign(), name="conv")
    layer(np.zeros((1, 3, 3, 512), np.float32))
    set_here = convolution("conv", layer)["conv.weight"].arrange(kernel)
    moved = set_here[::-1, ::-1].transpose(3, 2, 0, 1)
    assert (sides_here(kernel) != there)[there != 0].any()
    assert_array_equal(sides_here(moved)[there != 0], there[there != 0])
    assert_array_equal(moved[~tied], kernel[~tied])
    assert np.abs(moved - kernel).max() <= 2e-6 * np.abs(kernel).max()
