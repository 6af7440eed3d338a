"""The networks of A&B BNN in PyTorch, at any width and depth.

Their convolutions are those of BNN-BN; no sign but that of a branch is taken, so that a
shortcut's binary kernel meets real values, and no shortcut is scaled.
"""

import torch
from interop.published import Shift, Sign, StdConv, StdSignConv, variance_of
from torch import nn
from torch.nn import functional as F

CLASSES = 7


class PowerOfTwo(nn.Module):
    """A ReLU whose slopes are 2 to the rounded power L."""

    def __init__(self, channels):
        super().__init__()
        self.L_alpha = nn.Parameter(torch.empty(channels))

    def forward(self, x):
        slopes = 2 ** torch.round(self.L_alpha).reshape(1, -1, 1, 1)
        return torch.where(x > 0, x, slopes * x)


class Masked(nn.Module):
    """The sign of beta·(x + b / beta)."""

    def __init__(self, variance):
        super().__init__()
        self.beta, self.sign = variance**-0.5, Sign()

    def forward(self, x, shift=None):
        if shift is not None:
            x = x + shift.bias / self.beta
        return self.sign(x * self.beta)


class Quantized(nn.Module):
    """The block of ReActNet-18."""

    def __init__(self, conv, inputs, outputs, stride, variance, alpha):
        super().__init__()
        self.alpha, self.mask = alpha, Masked(variance)
        self.move0, self.conv1 = Shift(inputs), conv(inputs, outputs, 3, stride)
        self.move1, self.move2 = Shift(outputs), Shift(outputs)
        self.prelu = PowerOfTwo(outputs)
        if stride == 2:
            self.downsample = nn.Sequential(nn.AvgPool2d(2), conv(inputs, outputs, 1))

    def forward(self, x):
        branch = self.conv1(self.mask(x, self.move0))
        shortcut = self.downsample(x) if hasattr(self, "downsample") else x
        return self.move2(self.prelu(self.move1(self.alpha * branch + shortcut)))


class Plain(nn.Module):
    """The block of Bi-Real Net: no ReLU, and a real-valued projection."""

    def __init__(self, conv, inputs, outputs, stride, variance, alpha):
        super().__init__()
        self.alpha, self.mask = alpha, Masked(variance)
        self.conv1 = conv(inputs, outputs, 3, stride)
        if stride == 2:
            self.downsample = self.projection(conv, inputs, outputs)

    def projection(self, conv, inputs, outputs):
        return nn.Sequential(nn.AvgPool2d(2), StdConv(inputs, outputs, 1))

    def forward(self, x):
        shortcut = self.downsample(x) if hasattr(self, "downsample") else x
        return self.alpha * self.conv1(self.mask(x)) + shortcut


class Strided(Plain):
    """The block of XNOR-Net, whose projection has the stride itself."""

    def projection(self, conv, inputs, outputs):
        return nn.Sequential(conv(inputs, outputs, 1, 2))


class ReActNet18(nn.Module):
    block, rectified = Quantized, False

    def __init__(self, binary=True, alpha=0.25, width=8, blocks=(3, 2), large=False):
        super().__init__()
        conv = StdSignConv if binary else StdConv
        self.conv1 = StdConv(3, width, *((7, 2) if large else (3, 1)))
        self.pool = nn.MaxPool2d(3, 2, 1) if large else nn.Identity()
        self.stages, inputs = len(blocks), width
        for stage, count in enumerate(blocks):
            made = []
            for number in range(count):
                variance = variance_of(blocks, stage, number, alpha**2)
                stride = 2 if stage > 0 and number == 0 else 1
                outputs = width * 2**stage
                made.append(self.block(conv, inputs, outputs, stride, variance, alpha))
                inputs = outputs
            self.add_module(f"layer{stage + 1}", nn.Sequential(*made))
        if self.rectified:
            self.prelu1, self.prelu2 = nn.PReLU(width), nn.PReLU(inputs)
        self.fc = nn.Linear(inputs, CLASSES)

    def forward(self, x):
        x = self.conv1(x)
        x = self.pool(self.prelu1(x) if self.rectified else x)
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        if self.rectified:
            x = self.prelu2(x)
        return self.fc(x.mean((2, 3)))


class BiRealNet18(ReActNet18):
    block, rectified = Plain, True


class XNORNet18(ReActNet18):
    block, rectified = Strided, True


class Pair(nn.Module):
    """The block of ReActNet-A: a spatial and a pointwise half."""

    def __init__(self, conv, inputs, widens, stride, variance, alpha):
        super().__init__()
        outputs = 2 * inputs if widens else inputs
        self.alpha, self.stride = alpha, stride
        self.mask1, self.mask2 = Masked(variance), Masked(variance + alpha**2)
        self.move11, self.move12, self.move13 = (Shift(inputs) for _ in range(3))
        self.binary_3x3 = conv(inputs, inputs, 3, stride)
        self.prelu1 = PowerOfTwo(inputs)
        self.move21 = Shift(inputs)
        self.names = ["binary_pw_down1", "binary_pw_down2"] if widens else ["binary_pw"]
        for name in self.names:
            self.add_module(name, conv(inputs, inputs, 1))
        self.move22, self.prelu2 = Shift(outputs), PowerOfTwo(outputs)
        self.move23 = Shift(outputs)

    def forward(self, x):
        branch = self.alpha * self.binary_3x3(self.mask1(x, self.move11))
        if self.stride == 2:
            x = F.avg_pool2d(x, 2)
        x = self.move13(self.prelu1(self.move12(branch + x)))
        signs = self.mask2(x, self.move21)
        parts = [self.alpha * getattr(self, n)(signs) + x for n in self.names]
        return self.move23(self.prelu2(self.move22(torch.cat(parts, 1))))


class Stem(nn.Module):
    def __init__(self, width, stride):
        super().__init__()
        self.conv1 = StdConv(3, width, 3, stride)

    def forward(self, x):
        return self.conv1(x)


class ReActNetA(nn.Module):
    def __init__(
        self,
        binary=True,
        alpha=0.25,
        width=4,
        blocks=(2, 1),
        stem_stride=1,
        classes=CLASSES,
    ):
        super().__init__()
        conv = StdSignConv if binary else StdConv
        made, inputs, variance = [Stem(width, stem_stride)], width, 1.0
        for stage, count in enumerate(blocks):
            for number in range(count):
                widens = number == 0
                stride = 2 if stage > 0 and widens else 1
                made.append(Pair(conv, inputs, widens, stride, variance, alpha))
                inputs *= 2 if widens else 1
                variance = 1.0 if stride == 2 else variance + 2 * alpha**2
        self.feature = nn.ModuleList(made)
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x):
        for block in self.feature:
            x = block(x)
        return self.fc(x.mean((2, 3)))
