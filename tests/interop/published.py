"""What the published networks are made of, in PyTorch and from the mathematics.

Parameters have the names and shapes of the published code; sizes are free, and every
value is random, running statistics included. `closest` tells how near to zero the
input of any sign came.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F


class Sign(nn.Module):
    closest = math.inf

    def forward(self, x):
        self.closest = min(self.closest, x.abs().min().item())
        return x.sign()


def closest(network):
    return min(m.closest for m in network.modules() if isinstance(m, Sign))


def per_filter(weight, statistic):
    return statistic(weight.flatten(1)).reshape(-1, 1, 1, 1)


def variance_of(blocks, stage, number, square):
    """Of a block's input; all blocks but the first of a stage add to it."""
    if stage > 0 and number == 0:
        return 1 + square * (blocks[stage - 1] - 1)
    return 1 + square * max(number - 1, 0)


def centered(weight):
    return weight - per_filter(weight, lambda w: w.mean(1))


class Conv(nn.Module):
    """A convolution with a kernel of its own kind; padding keeps odd sizes."""

    def __init__(self, inputs, outputs, size, stride=1):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, size, size))
        self.stride, self.padding = stride, size // 2

    def kernel(self):
        return self.weight

    def forward(self, x):
        return F.conv2d(x, self.kernel(), None, self.stride, self.padding)


class MagnitudeConv(Conv):
    """sign(W) times the mean magnitude of each filter."""

    def kernel(self):
        return per_filter(self.weight, lambda w: w.abs().mean(1)) * self.weight.sign()


class StdConv(Conv):
    """gain·(W - μ) / (sqrt(N)·(σ + 1e-5)), σ of the population."""

    def __init__(self, inputs, outputs, size, stride=1):
        super().__init__(inputs, outputs, size, stride)
        self.gain = nn.Parameter(torch.empty(outputs, 1, 1, 1))

    def standardized(self):
        sigma = per_filter(self.weight, lambda w: w.std(1, correction=0))
        root = math.sqrt(self.weight[0].numel())
        return centered(self.weight) / (root * (sigma + 1e-5))

    def kernel(self):
        return self.gain * self.standardized()


class StdSignConv(StdConv):
    """The sign of the same, times its mean magnitude."""

    def kernel(self):
        w = self.standardized()
        return self.gain * per_filter(w, lambda v: v.abs().mean(1)) * w.sign()


class Shift(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.bias = nn.Parameter(torch.empty(1, channels, 1, 1))

    def forward(self, x):
        return x + self.bias


def randomized(network, seed):
    """Gives every tensor random values of a fair size, and ends training."""
    generator = torch.Generator().manual_seed(seed)

    def normal(tensor, mean, deviation):
        tensor.copy_(mean + deviation * torch.randn(tensor.shape, generator=generator))

    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            kind = name.split(".")[-1]
            if kind == "running_var":
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
            elif kind == "gain":
                normal(tensor, 1.0, 0.3)
            elif kind == "weight" and tensor.ndim > 1:
                normal(tensor, 0.02, 0.3)
            elif kind == "weight":
                normal(tensor, 0.8, 0.4)  # of batch norms and ReLUs
            elif kind in ("bias", "running_mean"):
                normal(tensor, 0.0, 0.4)
    return network.eval()
