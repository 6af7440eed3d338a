"""The published networks of BNN-BN and A&B BNN, from their formulas in float64.

Parameters have the names and shapes of the published code; every value is random,
running statistics included. `closest` tells how near to zero the input of a sign came.
"""

import math

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.testing import assert_allclose

FILTER = (1, 2, 3)
# Mean and standard deviation of random tensors, by the last parts of their names.
DRAWN = {
    "gain": (1.0, 0.3),
    "L_alpha": (-2.5, 1.0),
    "bias": (0.0, 0.4),
    "running_mean": (0.0, 0.4),
}


def windows(x, size, stride, value=0.0):
    """What a kernel meets, (N, height, width, channels, size, size)."""
    around = (size // 2,) * 2
    x = np.pad(x, ((0, 0), around, around, (0, 0)), constant_values=value)
    return sliding_window_view(x, (size, size), (1, 2))[:, ::stride, ::stride]


def halved(x):
    """Means of 2x2, without an odd last row and column."""
    return sliding_window_view(x, (2, 2), (1, 2))[:, ::2, ::2].mean((-2, -1))


class Network:
    """A network whose tensors are drawn when they are first used.

    Arguments:
        form: What stands in place of batch norm: `"nobn"` of BNN-BN, `"ab"` of A&B BNN,
            or `"batch_norm"` itself.
        binary: Whether kernels are, as in the second stage of training.
    """

    def __init__(self, form, width=8, blocks=(3, 2), binary=True, alpha=None, seed=0):
        self.ab, self.has_norm = form == "ab", form == "batch_norm"
        usual = 1.0 if self.has_norm else 0.25 if self.ab else 0.2
        self.alpha, self.square = alpha or usual, (alpha or usual) ** 2
        self.width, self.blocks, self.binary = width, blocks, binary
        self.state, self.closest = {}, math.inf
        self.random = np.random.default_rng(seed)

    def tensor(self, name, *shape):
        if name not in self.state:
            kind = name.rpartition(".")[2]
            usual = (0.02, 0.3) if len(shape) > 1 else (0.8, 0.4)
            drawn = self.random.normal(*DRAWN.get(kind, usual), shape)
            if kind == "running_var":
                drawn = self.random.uniform(0.5, 1.5, shape)
            self.state[name] = drawn.astype(np.float32)
        return self.state[name].astype(np.float64)

    def conv(self, name, x, outputs, size, stride=1, binary=True):
        weight = self.tensor(f"{name}.weight", outputs, x.shape[3], size, size)
        gain = 1.0
        if not self.has_norm:  # gain·(W - μ) / (sqrt(n)·(σ + 1e-5))
            gain = self.tensor(f"{name}.gain", outputs, 1, 1, 1)
            deviation = weight.std(FILTER, keepdims=True) + 1e-5
            weight = weight - weight.mean(FILTER, keepdims=True)
            weight = weight / (math.sqrt(weight[0].size) * deviation)
        if binary and self.binary:  # the mean magnitude times the sign
            weight = abs(weight).mean(FILTER, keepdims=True) * np.sign(weight)
        met = windows(x, size, stride)
        return np.tensordot(met, gain * weight, ((3, 4, 5), FILTER))

    def norm(self, name, x):
        if not self.has_norm:
            return x
        parts = ("weight", "bias", "running_mean", "running_var")
        gamma, beta, mean, variance = (
            self.tensor(f"{name}.{part}", x.shape[3]) for part in parts
        )
        return gamma * (x - mean) / np.sqrt(variance + 1e-5) + beta

    def moved(self, name, x):
        return x + self.tensor(f"{name}.bias", 1, x.shape[3], 1, 1).ravel()

    def sign(self, name, x):
        x = self.moved(name, x)
        self.closest = min(self.closest, abs(x).min())
        return np.sign(x)

    def rprelu(self, before, slope, after, x):
        x = self.moved(before, x)
        if self.ab:
            slopes = 2 ** np.round(self.tensor(f"{slope}.L_alpha", x.shape[3]))
        else:
            slopes = self.tensor(f"{slope}.weight", x.shape[3])
        return self.moved(after, np.where(x > 0, x, slopes * x))

    def scaled(self, variance, x):
        return x if self.has_norm else x / math.sqrt(variance)

    def classified(self, x):
        x = x.mean((1, 2))
        weight = self.tensor("fc.weight", 7, x.shape[1])
        return x @ weight.T + self.tensor("fc.bias", 7)


class ReActNet18(Network):
    def __init__(self, form, width=8, blocks=(3, 2), large=False, **more):
        super().__init__(form, width, blocks, **more)
        self.large = large

    def __call__(self, x):
        stem = (7, 2) if self.large else (3, 1)
        x = self.norm("bn1", self.conv("conv1", x, self.width, *stem, binary=False))
        if self.large:
            x = windows(x, 3, 2, -np.inf).max((-2, -1))
        variance = 1.0
        for stage, count in enumerate(self.blocks, 1):
            for number in range(count):
                widens = stage > 1 and number == 0
                x = self.block(f"layer{stage}.{number}", x, widens, variance)
                # The code counts all blocks but the first of a stage.
                variance = variance + self.square if number else 1.0
        return self.classified(x)

    def block(self, name, x, widens, variance):
        scaled, outputs = self.scaled(variance, x), x.shape[3] * (2 if widens else 1)
        conv = f"{name}.conv1" if self.ab else f"{name}.binary_conv"
        y = self.sign(f"{name}.move0", scaled)
        y = self.norm(f"{name}.bn1", self.conv(conv, y, outputs, 3, 1 + widens))
        if widens:
            x, short = halved(x if self.ab else scaled), f"{name}.downsample"
            x = self.norm(f"{short}.2", self.conv(f"{short}.1", x, outputs, 1))
        parts = (f"{name}.{part}" for part in ("move1", "prelu", "move2"))
        return self.rprelu(*parts, self.alpha * y + x)


class ReActNetA(Network):
    def __init__(self, form, width=4, blocks=(2, 1), **more):
        super().__init__(form, width, blocks, **more)

    def __call__(self, x):
        stem, stride = "feature.0.conv1", 1 if self.ab else 2
        x = self.conv(stem, x, self.width, 3, stride, binary=False)
        x, variance, place = self.norm("feature.0.bn1", x), 1.0, 0
        for stage, count in enumerate(self.blocks):
            for number in range(count):
                place, widens = place + 1, number == 0
                halves = widens and stage > 0
                x = self.block(f"feature.{place}.", x, widens, halves, variance)
                variance = 1.0 if halves else variance + 2 * self.square
        return self.classified(x)

    def block(self, name, x, widens, halves, variance):
        scaled, inputs = self.scaled(variance, x), x.shape[3]
        y = self.sign(f"{name}move11", scaled)
        y = self.conv(f"{name}binary_3x3", y, inputs, 3, 1 + halves)
        if halves:
            x = halved(x if self.ab else scaled)
        x = self.alpha * self.norm(f"{name}bn1", y) + x
        x = self.rprelu(
            *(f"{name}{part}" for part in ("move12", "prelu1", "move13")), x
        )
        signs = self.sign(f"{name}move21", self.scaled(variance + self.square, x))
        convs = [("binary_pw", "bn2")]
        if widens:
            convs = [(f"binary_pw_down{half}", f"bn2_{half}") for half in (1, 2)]
        made = (
            self.norm(f"{name}{norm}", self.conv(f"{name}{conv}", signs, inputs, 1))
            for conv, norm in convs
        )
        y = np.concatenate([self.alpha * each + x for each in made], -1)
        parts = (f"{name}{part}" for part in ("move22", "prelu2", "move23"))
        return self.rprelu(*parts, y)


def images(size, count=3):
    values = np.random.default_rng(0).normal(size=(count, *size, 3))
    return values.astype(np.float32)


def state_of(network, size=(16, 16)):
    """The tensors of a network, which it uses on images of a size."""
    network(images(size, 1).astype(np.float64))
    return {name: torch.tensor(array) for name, array in network.state.items()}


def save(network, path, prefix="", size=(16, 16)):
    """Writes a checkpoint as the published training loops do."""
    state = {prefix + name: value for name, value in state_of(network, size).items()}
    torch.save({"epoch": 3, "state_dict": state, "best_prec1": 12.5}, path)
    return path


def assert_same_function(network, model, size):
    x = images(size)
    network.closest = math.inf
    expected = network(x.astype(np.float64))
    # No sign stands where rounding could turn it: seeds are chosen for that.
    assert network.closest > 1e-6
    assert np.std(expected) > 0.1
    assert_allclose(model(x).numpy(), expected, rtol=1e-4, atol=1e-4)
