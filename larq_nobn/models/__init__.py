"""Networks, functional models that end in a layer called `head`, and summaries."""

from collections.abc import Callable

from .._keras import keras
from .._names import MODELS, NORMALIZATIONS
from ._alexnet import BinaryAlexNet
from ._birealnet import BiRealNet18
from ._densenet import BinaryDenseNet28, BinaryDenseNet37, BinaryDenseNet45
from ._dorefanet import DoReFaNet
from ._frame import HEADS
from ._meliusnet import (
    MeliusNet22,
    MeliusNet29,
    MeliusNet42,
    MeliusNet59,
    MeliusNetA,
    MeliusNetB,
    MeliusNetC,
)
from ._normalizations import BATCH_STATISTICS
from ._pretrained import PretrainedNetwork, open_pretrained, pretrained
from ._quicknet import QuickNet, QuickNetLarge, QuickNetSmall
from ._reactnet import ReActNet18, ReActNet34
from ._reactnet_a import ReActNetA
from ._recu_resnet import ReCUResNet18, ReCUResNet34
from ._resnet20 import ResNet20
from ._sizes import FileSize, file_sizes
from ._summary import ModelProfile, summary
from ._vgg import VGGSmall
from ._xnornet import XNORNet18

# In the order of `MODELS`, which is importable without TensorFlow.
BUILDERS: dict[str, Callable[..., keras.Model]] = {
    name: globals()[name] for name in MODELS
}

__all__ = [
    "BATCH_STATISTICS",
    "BUILDERS",
    "HEADS",
    "NORMALIZATIONS",
    "ModelProfile",
    "FileSize",
    "PretrainedNetwork",
    "ReActNet18",
    "ReActNet34",
    "ReActNetA",
    "ReCUResNet18",
    "ReCUResNet34",
    "BiRealNet18",
    "XNORNet18",
    "ResNet20",
    "VGGSmall",
    "BinaryAlexNet",
    "DoReFaNet",
    "BinaryDenseNet28",
    "BinaryDenseNet37",
    "BinaryDenseNet45",
    "MeliusNet22",
    "MeliusNet29",
    "MeliusNet42",
    "MeliusNet59",
    "MeliusNetA",
    "MeliusNetB",
    "MeliusNetC",
    "QuickNetSmall",
    "QuickNet",
    "QuickNetLarge",
    "file_sizes",
    "open_pretrained",
    "pretrained",
    "summary",
]
