"""The networks of ReCU in PyTorch, at any width and depth."""

from interop.published import Conv, ReCUConv, Shift
from torch import nn
from torch.nn import functional as F


class Zeros(nn.Module):
    """As many channels of zeros before and after those of a map."""

    def __init__(self, count):
        super().__init__()
        self.count = count

    def forward(self, x):
        return F.pad(x, (0, 0, 0, 0, self.count, self.count))


class PairBlock(nn.Module):
    """Two binary convolutions, with a shortcut around each or around both."""

    def __init__(self, inputs, outputs, stride, each, padded):
        super().__init__()
        self.each = each
        self.conv1, self.bn1 = ReCUConv(inputs, outputs, 3, stride), norm(outputs)
        self.conv2, self.bn2 = ReCUConv(outputs, outputs, 3), norm(outputs)
        if stride == 2:
            self.downsample = (
                nn.Sequential(nn.AvgPool2d(2), Zeros((outputs - inputs) // 2))
                if padded
                else nn.Sequential(Conv(inputs, outputs, 1, 2), norm(outputs))
            )

    def forward(self, x):
        shortcut = self.downsample(x) if hasattr(self, "downsample") else x
        y = self.bn1(self.conv1(x))
        if self.each:
            y = shortcut = F.hardtanh(y + shortcut)
        y = self.bn2(self.conv2(F.hardtanh(y)))
        return F.hardtanh(y + shortcut)


class ShiftedBlock(nn.Module):
    """The block of ReActNet with the binary convolution of ReCU."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.move0, self.conv = Shift(inputs), ReCUConv(inputs, outputs, 3, stride)
        self.bn, self.nonlinear = norm(outputs), nn.PReLU(outputs)
        self.move1, self.move2 = Shift(outputs), Shift(outputs)
        if stride == 2:
            conv = Conv(inputs, outputs, 1)
            self.downsample = nn.Sequential(nn.AvgPool2d(2), conv, norm(outputs))

    def forward(self, x):
        shortcut = self.downsample(x) if hasattr(self, "downsample") else x
        y = self.bn(self.conv(self.move0(x))) + shortcut
        return self.move2(self.nonlinear(self.move1(y)))


def norm(channels):
    return nn.BatchNorm2d(channels)


class Residual(nn.Module):
    """What the four residual networks have in common."""

    stem, head, clipped, large, last_norm = ("conv1", "bn1"), "fc", True, True, True

    def __init__(self, width=8, blocks=(2, 1, 1)):
        super().__init__()
        size, stride = (7, 2) if self.large else (3, 1)
        self.add_module(self.stem[0], Conv(3, width, size, stride))
        self.add_module(self.stem[1], norm(width))
        self.stages, inputs = len(blocks), width
        for stage, count in enumerate(blocks):
            made = []
            for number in range(count):
                stride = 2 if stage > 0 and number == 0 else 1
                made.append(self.block(inputs, width * 2**stage, stride))
                inputs = width * 2**stage
            self.add_module(f"layer{stage + 1}", nn.Sequential(*made))
        if self.last_norm:
            self.bn2 = nn.BatchNorm1d(inputs)
        self.add_module(self.head, nn.Linear(inputs, 7))

    def forward(self, x):
        for name in self.stem:
            x = getattr(self, name)(x)
        if self.clipped:
            x = F.hardtanh(x)
        if self.large:
            x = F.max_pool2d(x, 3, 2, 1)
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        x = x.mean((2, 3))
        if self.last_norm:
            x = self.bn2(x)
        return getattr(self, self.head)(x)


class ResNet20(Residual):
    head, large = "linear", False

    def block(self, inputs, outputs, stride):
        return PairBlock(inputs, outputs, stride, each=True, padded=True)


class ResNet18(Residual):
    head, large, clipped = "linear", False, False

    def block(self, inputs, outputs, stride):
        return PairBlock(inputs, outputs, stride, each=False, padded=True)


class ImageNet(Residual):
    def block(self, inputs, outputs, stride):
        return PairBlock(inputs, outputs, stride, each=True, padded=False)


class ReActNet(Residual):
    stem, clipped, last_norm = ("conv", "bn"), False, False

    def block(self, inputs, outputs, stride):
        return ShiftedBlock(inputs, outputs, stride)


class VGGSmall(nn.Module):
    def __init__(self, width=8, side=2):
        super().__init__()
        self.conv0, self.bn0 = Conv(3, width, 3), norm(width)
        channels = [width, width, 2 * width, 2 * width, 4 * width, 4 * width]
        for n in range(1, 6):
            self.add_module(f"conv{n}", ReCUConv(channels[n - 1], channels[n], 3))
            self.add_module(f"bn{n}", norm(channels[n]))
        self.fc = nn.Linear(channels[5] * side**2, 7)

    def forward(self, x):
        x = F.hardtanh(self.bn0(self.conv0(x)))
        for n in range(1, 6):
            x = getattr(self, f"conv{n}")(x)
            if n in (1, 3, 5):
                x = F.max_pool2d(x, 2)
            x = F.hardtanh(getattr(self, f"bn{n}")(x))
        return self.fc(x.flatten(1))
