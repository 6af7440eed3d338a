"""Weights beside the mean of their filter fall where PyTorch has them."""

import larq as lq
import numpy as np
import pytest
import torch
from larq_nobn.interop._slots import convolution
from larq_nobn.quantizers import ReCU, ScaledStdSign
from numpy.testing import assert_array_equal

# As the published code of each takes the mean.
MEANS = {
    ReCU: lambda w: w.mean([1, 2, 3], keepdim=True),
    ScaledStdSign: lambda w: torch.std_mean(
        w, dim=[1, 2, 3], keepdim=True, unbiased=False
    )[1],
}


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


@pytest.fixture(scope="module")
def ties():
    return kernel_of_ties()


def moved_by(kind, kernel):
    """The kernel as an import with that quantizer sets it."""
    layer = lq.layers.QuantConv2D(32, 3, kernel_quantizer=kind(), name="conv")
    layer(np.zeros((1, 3, 3, 512), np.float32))
    return convolution("conv", layer)["conv.weight"].arrange(kernel)


@pytest.mark.parametrize("kind", MEANS)
def test_signs_are_those_of_pytorch(kind, ties):
    kernel, tied = ties
    weights = torch.from_numpy(kernel)
    there = (weights - MEANS[kind](weights)).sign().numpy()
    moved = moved_by(kind, kernel).transpose(3, 2, 0, 1)
    assert (sides_here(kernel, kind) != there)[there != 0].any()
    assert_array_equal(sides_here(moved, kind)[there != 0], there[there != 0])
    assert_array_equal(moved[~tied], kernel[~tied])
    assert np.abs(moved - kernel).max() <= 2e-6 * np.abs(kernel).max()


def test_the_published_means_are_rounded_apart(ties):
    weights = torch.from_numpy(ties[0])
    sides = [(weights - mean(weights)).sign().numpy() for mean in MEANS.values()]
    assert (sides[0] != sides[1]).any()
