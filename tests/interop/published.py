"""The published networks of BNN-BN in PyTorch and from the mathematics, at any size.

Parameters have the names and shapes of the published code; every value is random,
running statistics included. `closest` tells how near to zero the input of a sign came.
"""

import math

import numpy as np
import torch
from numpy.testing import assert_allclose
from torch import cat, nn
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


FLOAT = {"nobn": StdConv, "batch_norm": Conv}
BINARY = {"nobn": StdSignConv, "batch_norm": MagnitudeConv}


class PowerPReLU(nn.Module):
    """max(x, 0) + 2^round(L) min(x, 0), of A&B BNN."""

    def __init__(self, channels):
        super().__init__()
        self.L_alpha = nn.Parameter(torch.empty(channels))

    def forward(self, x):
        return F.prelu(x, 2 ** self.L_alpha.round())


class Form:
    """What a network does in place of batch norm; `ab` is A&B BNN."""

    def __init__(self, name, binary=True, alpha=None):
        self.ab = name == "ab"
        name = "nobn" if self.ab else name
        alpha = alpha or (0.25 if self.ab else 0.2)
        self.prelu = PowerPReLU if self.ab else nn.PReLU
        self.is_free, self.has_norm = name == "nobn", name == "batch_norm"
        self.alpha = alpha if self.is_free else 1.0
        self.float, self.conv = FLOAT[name], (BINARY if binary else FLOAT)[name]

    def beta(self, variance):
        return variance**-0.5 if self.is_free else 1.0

    def add_norm(self, module, name, channels):
        if self.has_norm:
            module.add_module(name, nn.BatchNorm2d(channels))


def normed(module, name, x):
    return getattr(module, name)(x) if hasattr(module, name) else x


class Block18(nn.Module):
    def __init__(self, form, inputs, outputs, stride, variance):
        super().__init__()
        self.alpha, self.beta = form.alpha, form.beta(variance)
        self.sign, self.move0 = Sign(), Shift(inputs)
        self.conv = "conv1" if form.ab else "binary_conv"
        self.add_module(self.conv, form.conv(inputs, outputs, 3, stride))
        form.add_norm(self, "bn1", outputs)
        self.move1, self.move2 = Shift(outputs), Shift(outputs)
        self.prelu, self.ab = form.prelu(outputs), form.ab
        if stride == 2:
            conv = form.conv(inputs, outputs, 1)
            self.downsample = nn.Sequential(nn.AvgPool2d(2), conv)
            form.add_norm(self.downsample, "2", outputs)

    def forward(self, x):
        scaled = self.beta * x
        branch = getattr(self, self.conv)(self.sign(self.move0(scaled)))
        branch = self.alpha * normed(self, "bn1", branch)
        if hasattr(self, "downsample"):
            x = self.downsample(x if self.ab else scaled)
        return self.move2(self.prelu(self.move1(branch + x)))


class ReActNet18(nn.Module):
    def __init__(self, form, width=8, blocks=(3, 2), large=False):
        super().__init__()
        size, stride = (7, 2) if large else (3, 1)
        self.conv1 = form.float(3, width, size, stride)
        form.add_norm(self, "bn1", width)
        self.pool = nn.MaxPool2d(3, 2, 1) if large else nn.Identity()
        self.stages, square, inputs = len(blocks), form.alpha**2, width
        for stage, count in enumerate(blocks):
            made = []
            for number in range(count):
                variance = variance_of(blocks, stage, number, square)
                stride = 2 if stage > 0 and number == 0 else 1
                outputs = width * 2**stage
                made.append(Block18(form, inputs, outputs, stride, variance))
                inputs = outputs
            self.add_module(f"layer{stage + 1}", nn.Sequential(*made))
        self.fc = nn.Linear(inputs, 7)

    def forward(self, x):
        x = self.pool(normed(self, "bn1", self.conv1(x)))
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return self.fc(x.mean((2, 3)))


class BlockA(nn.Module):
    def __init__(self, form, inputs, widens, stride, variance):
        super().__init__()
        outputs = 2 * inputs if widens else inputs
        self.alpha, self.stride, self.ab = form.alpha, stride, form.ab
        self.beta1 = form.beta(variance)
        self.beta2 = form.beta(variance + form.alpha**2)
        self.sign1, self.sign2 = Sign(), Sign()
        self.move11, self.move12, self.move13 = (Shift(inputs) for _ in range(3))
        self.binary_3x3 = form.conv(inputs, inputs, 3, stride)
        form.add_norm(self, "bn1", inputs)
        self.prelu1, self.prelu2 = form.prelu(inputs), form.prelu(outputs)
        self.move21 = Shift(inputs)
        if widens:
            self.binary_pw_down1 = form.conv(inputs, inputs, 1)
            self.binary_pw_down2 = form.conv(inputs, inputs, 1)
            form.add_norm(self, "bn2_1", inputs)
            form.add_norm(self, "bn2_2", inputs)
        else:
            self.binary_pw = form.conv(inputs, inputs, 1)
            form.add_norm(self, "bn2", inputs)
        self.move22, self.move23 = Shift(outputs), Shift(outputs)

    def pointwise(self, signs, x, conv, norm):
        return self.alpha * normed(self, norm, getattr(self, conv)(signs)) + x

    def forward(self, x):
        scaled = self.beta1 * x
        branch = self.binary_3x3(self.sign1(self.move11(scaled)))
        if self.stride == 2:
            x = nn.functional.avg_pool2d(x if self.ab else scaled, 2)
        x = self.alpha * normed(self, "bn1", branch) + x
        x = self.move13(self.prelu1(self.move12(x)))
        signs = self.sign2(self.move21(self.beta2 * x))
        if hasattr(self, "binary_pw"):
            y = self.pointwise(signs, x, "binary_pw", "bn2")
        else:
            halves = (("binary_pw_down1", "bn2_1"), ("binary_pw_down2", "bn2_2"))
            y = cat([self.pointwise(signs, x, *half) for half in halves], 1)
        return self.move23(self.prelu2(self.move22(y)))


class Stem(nn.Module):
    def __init__(self, form, width):
        super().__init__()
        self.conv1 = form.float(3, width, 3, 1 if form.ab else 2)
        form.add_norm(self, "bn1", width)

    def forward(self, x):
        return normed(self, "bn1", self.conv1(x))


class ReActNetA(nn.Module):
    def __init__(self, form, width=4, blocks=(2, 1)):
        super().__init__()
        self.feature, inputs, variance = [Stem(form, width)], width, 1.0
        for stage, count in enumerate(blocks):
            for number in range(count):
                stride = 2 if stage > 0 and number == 0 else 1
                widens = number == 0
                self.feature.append(BlockA(form, inputs, widens, stride, variance))
                inputs *= 2 if widens else 1
                variance = 1.0 if stride == 2 else variance + 2 * form.alpha**2
        self.feature = nn.ModuleList(self.feature)
        self.fc = nn.Linear(inputs, 7)

    def forward(self, x):
        for block in self.feature:
            x = block(x)
        return self.fc(x.mean((2, 3)))


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
            elif kind == "L_alpha":
                normal(tensor, -2.5, 1.0)
            elif kind in ("bias", "running_mean"):
                normal(tensor, 0.0, 0.4)
    return network.eval()


def save(network, path, prefix=""):
    """Writes a checkpoint as the published training loops do."""
    state = {prefix + name: value for name, value in network.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state, "best_prec1": 12.5}, path)
    return path


def images(size, count=3):
    values = np.random.default_rng(0).normal(size=(count, *size, 3))
    return values.astype(np.float32)


def outputs_of(network, x):
    with torch.no_grad():
        return network(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()


def assert_same_function(network, model, size):
    x = images(size)
    expected = outputs_of(network, x)
    # No sign stands where rounding could turn it: seeds are chosen for that.
    assert closest(network) > 1e-6
    assert np.std(expected) > 0.1
    assert_allclose(model(x).numpy(), expected, rtol=1e-4, atol=1e-4)
