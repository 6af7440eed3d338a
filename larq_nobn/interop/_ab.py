from __future__ import annotations

import os

from .._checks import check_flag, check_number
from .._keras import keras
from ..models._parts import LARGE
from ..models._reactnet_a import check_stem_stride
from ._checkpoint import read_checkpoint
from ._reactnets import reactnet18, reactnet_a
from ._residual18 import BIREAL, XNOR, residual18
from ._shapes import CIFAR, IMAGENET, State, check_image_size, shape_of
from ._slots import fill

_IMAGENET_CLASSES = 1000
_REACTNET18, _REACTNET_A = "ReActNet-18", "ReActNet-A"


def _network(path: str | os.PathLike, state: State) -> str:
    """Which network has tensors of these names."""
    if "layer1.0.prelu.L_alpha" in state:
        return _REACTNET18
    if "feature.1.prelu1.L_alpha" in state:
        return _REACTNET_A
    for shortcut in (XNOR, BIREAL):
        if f"layer2.0.{shortcut}.weight" in state and "prelu2.weight" in state:
            return shortcut
    raise ValueError(
        f"{path} is not a checkpoint of A&B BNN: it has neither "
        "layer1.0.prelu.L_alpha, as ReActNet-18 has, nor feature.1.prelu1.L_alpha, as "
        "ReActNet-A has, nor prelu2.weight and layer2.0.downsample, as XNOR-Net and "
        "Bi-Real Net have. Give one of these."
    )


def _check_stem_stride(stem_stride: int | None, network: str) -> None:
    check_stem_stride(stem_stride)
    if stem_stride is not None and network != _REACTNET_A:
        raise ValueError(
            f"stem_stride={stem_stride} is for ReActNet-A only, and this network's "
            "kernels tell its stem. Leave it out."
        )


def _images_of_reactnet_a(
    image_size: tuple[int, int] | None, stem_stride: int | None, classes: int
) -> tuple[tuple[int, int], int]:
    """The image size and the stride of the stem, as far as one follows from another."""
    if image_size is None and stem_stride is None:
        stem_stride = 2 if classes == _IMAGENET_CLASSES else 1
    size = check_image_size(image_size, IMAGENET if stem_stride == 2 else CIFAR)
    return size, stem_stride or (2 if min(size) >= LARGE else 1)


def load_ab(
    path: str | os.PathLike,
    image_size: tuple[int, int] | None = None,
    binary_weights: bool = True,
    alpha: float = 0.25,
    stem_stride: int | None = None,
    *,
    verify: bool = True,
) -> keras.Model:
    r"""Opens a checkpoint of A&B BNN's PyTorch code as a model of this package.

    The names in the checkpoint tell the network: `ReActNet18` or `ReActNetA`, whose
    slopes are powers of two, `XNORNet18` or `BiRealNet18`, all without batch norm. Its
    shapes tell width, blocks, classes and, but for `ReActNetA`, the stem. Tensors are
    taken by name, and each has its variable. The model computes what PyTorch computes
    in evaluation mode, at every size that PyTorch can compute: it pads with zeros, and
    its first layer turns the image by 180 degrees, with all kernels turned alike, for
    TensorFlow to pad where PyTorch does.

    Every import checks that the names are those of the network, no more and no fewer,
    that each tensor has its shape, that each variable gets one tensor, and that each
    layer computes what PyTorch's operations make of its tensors. A checkpoint contains
    no network to compare the whole with. The tests of this package compare each network
    with the published one.

    Arguments:
        path: A file of the published training, of suffix `.h5` though `torch.save`
            wrote it, or any that contains a `state_dict`; no code from it runs.
        image_size: (height, width), 8 or more; None for 32x32 if the stem is that for
            CIFAR, else 224x224.
        binary_weights: False for a checkpoint of the first step, whose kernels are
            real-valued: names and shapes are the same in both.
        alpha: Positive factor on the residual branches, which no checkpoint contains.
        stem_stride: Stride of ReActNet-A's stem, which no tensor tells: 1 for CIFAR, 2
            for ImageNet. None for 2 from 64 pixels on; without a size either, 2 for
            1000 classes, else 1. For ReActNet-A only.
        verify: Whether each layer is compared with PyTorch's operations.

    Returns:
        A functional Keras model, which can be trained and converted like any other.

    Raises:
        ImportError: If PyTorch is not installed.
        FileNotFoundError: If there is no such file.
        TypeError, ValueError: If it is no such checkpoint, or carries code, or for
            arguments outside the ranges above.

    Example:
        ```python
        model = nobn.interop.load_ab("cifar10_reactnet18_step2.h5")
        nobn.convert(model, "reactnet18.tflite")
        ```

    References:
        - R. Ma, G. Qiao, Y. Liu, L. Meng, N. Ning, Y. Liu, S. Hu, "A&B BNN: Add&Bit-
          Operation-Only Hardware-Friendly Binary Neural Network", CVPR 2024,
          arXiv:2403.03739, with the code github.com/Ruichen0424/AB-BNN.

    Differences from the paper:
        PyTorch's sign(0) = 0 becomes +1. The mask, division by β after the first shift
        and multiplication by β before the sign, is one scale of `RSign`.
    """
    check_flag("binary_weights", binary_weights)
    check_flag("verify", verify)
    check_number("alpha", alpha, "(0, inf)", "The published code uses 0.25.")
    state = read_checkpoint(path)
    network = _network(path, state)
    _check_stem_stride(stem_stride, network)
    classes, _ = shape_of(state, "fc.weight", 2)
    arguments = {
        "classes": classes,
        "binary_weights": binary_weights,
        "alpha": alpha,
        "estimator": "sigmoid_sign",
    }
    quantized = {**arguments, "scaled_shortcut": False, "power_of_two": True}
    if network == _REACTNET18:
        model, slots = reactnet18(state, image_size, "conv1", quantized)
    elif network == _REACTNET_A:
        images = _images_of_reactnet_a(image_size, stem_stride, classes)
        model, slots = reactnet_a(state, *images, quantized)
    else:
        model, slots = residual18(state, image_size, network, arguments)
    fill(model, slots, state, turned=True, verify=verify)
    return model
