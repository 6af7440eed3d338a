from __future__ import annotations

import os
from typing import Any

from .._checks import check_flag, check_number
from .._keras import keras
from ..models import ReActNet18, ReActNetA
from ._checkpoint import read_checkpoint
from ._shapes import State, check_image_size, count_blocks, shape_of
from ._slots import Slots, batch_norm, convolution, dense, fill, rprelu, shift
from ._zero_padded import as_in_pytorch

_CIFAR, _IMAGENET = 32, 224  # pixels


def _normalization(state: State) -> str:
    """The form of the network, which the names give away."""
    if any(name.endswith(".running_mean") for name in state):
        return "batch_norm"
    return "nobn" if any(name.endswith(".gain") for name in state) else "none"


def _convolution(source: str, norm: str, model: keras.Model, name: str) -> Slots:
    """A convolution, and the batch norm behind it if there is one."""
    slots = convolution(source, model.get_layer(f"{name}_conv"))
    if any(layer.name == f"{name}_norm" for layer in model.layers):
        slots |= batch_norm(norm, model.get_layer(f"{name}_norm"))
    return slots


def _reactnet18(
    state: State, image_size: tuple[int, int] | None, arguments: dict[str, Any]
) -> tuple[keras.Model, Slots]:
    width, channels, kernel, _ = shape_of(state, "conv1.weight", 4)
    large = kernel == 7
    blocks = count_blocks(state, "layer{}.{}.binary_conv.weight")
    size = check_image_size(image_size, _IMAGENET if large else _CIFAR)
    # The builder chooses the stem by the size of the image, the checkpoint by itself.
    shape = (64, 64, channels) if large else (_CIFAR, _CIFAR, channels)
    ours = ReActNet18(shape, width=width, blocks=blocks, **arguments)
    model = as_in_pytorch(ours, size)
    slots = _convolution("conv1", "bn1", model, "stem")
    slots |= dense("fc", model.get_layer("head"))
    for stage, count in enumerate(blocks, 1):
        for block in range(count):
            source, name = f"layer{stage}.{block}", f"stage{stage}_block{block + 1}"
            sign = model.get_layer(f"{name}_conv").input_quantizer
            slots |= shift(f"{source}.move0", sign.shift)
            slots |= _convolution(f"{source}.binary_conv", f"{source}.bn1", model, name)
            parts = ("move1", "prelu", "move2")
            slots |= rprelu(source, parts, model.get_layer(f"{name}_act"))
            if stage > 1 and block == 0:
                down = f"{source}.downsample"
                slots |= _convolution(
                    f"{down}.1", f"{down}.2", model, f"{name}_shortcut"
                )
    return model, slots


def _stages(state: State) -> tuple[int, ...]:
    """Blocks per stage of ReActNet-A: a stage begins where a block widens."""
    blocks: list[int] = []
    while f"feature.{sum(blocks) + 1}.binary_3x3.weight" in state:
        widens = f"feature.{sum(blocks) + 1}.binary_pw_down1.weight" in state
        if widens or not blocks:
            blocks.append(0)
        blocks[-1] += 1
    return tuple(blocks)


def _reactnet_a(
    state: State, image_size: tuple[int, int] | None, arguments: dict[str, Any]
) -> tuple[keras.Model, Slots]:
    width, channels, _, _ = shape_of(state, "feature.0.conv1.weight", 4)
    blocks = _stages(state)
    size = check_image_size(image_size, _IMAGENET)
    shape = (_IMAGENET, _IMAGENET, channels)
    ours = ReActNetA(shape, width=width, blocks=blocks, stem_stride=2, **arguments)
    model = as_in_pytorch(ours, size)
    slots = _convolution("feature.0.conv1", "feature.0.bn1", model, "stem")
    slots |= dense("fc", model.get_layer("head"))
    number = 0
    for stage, count in enumerate(blocks, 1):
        for block in range(1, count + 1):
            number += 1
            source, name = f"feature.{number}", f"stage{stage}_block{block}"
            slots |= _spatial(source, model, f"{name}_3x3")
            slots |= _pointwise(source, model, f"{name}_1x1", widens=block == 1)
    return model, slots


def _spatial(source: str, model: keras.Model, name: str) -> Slots:
    sign = model.get_layer(f"{name}_conv").input_quantizer
    parts = ("move12", "prelu1", "move13")
    return {
        **shift(f"{source}.move11", sign.shift),
        **_convolution(f"{source}.binary_3x3", f"{source}.bn1", model, name),
        **rprelu(source, parts, model.get_layer(f"{name}_act")),
    }


def _pointwise(source: str, model: keras.Model, name: str, widens: bool) -> Slots:
    parts = ("move22", "prelu2", "move23")
    slots = rprelu(source, parts, model.get_layer(f"{name}_act"))
    if not widens:
        sign = model.get_layer(f"{name}_conv").input_quantizer
        slots |= _convolution(f"{source}.binary_pw", f"{source}.bn2", model, name)
    else:
        sign = model.get_layer(f"{name}_sign")
        for half, letter in enumerate("ab", 1):
            conv, norm = f"{source}.binary_pw_down{half}", f"{source}.bn2_{half}"
            slots |= _convolution(conv, norm, model, f"{name}{letter}")
    return {**slots, **shift(f"{source}.move21", sign.shift)}


def load_bnn_nobn(
    path: str | os.PathLike,
    image_size: tuple[int, int] | None = None,
    binary_weights: bool = True,
    alpha: float = 0.2,
) -> keras.Model:
    r"""Opens a checkpoint of BNN-BN's PyTorch code as a model of this package.

    The names and shapes in the checkpoint tell the network, `ReActNet18` or
    `ReActNetA`, its width, blocks, classes and stem, and its form: without batch norm
    (`"nobn"`), with it, or with nothing in its place (`"none"`). Tensors are taken by
    name, and each has its variable. The model computes what PyTorch computes in
    evaluation mode, at every size that PyTorch can compute: it pads with zeros, and its
    first layer turns the image by 180 degrees, with all kernels turned alike, for
    TensorFlow to pad where PyTorch does.

    Arguments:
        path: A `.pth.tar` file, or any that holds a `state_dict`; no code from it runs.
        image_size: (height, width), 8 or more; None for 32x32 if the stem is that for
            CIFAR, else 224x224.
        binary_weights: False for a checkpoint of the first stage, whose kernels are
            real-valued: names and shapes are the same in both.
        alpha: Positive factor on the residual branches of the normalizer-free form,
            which no checkpoint holds.

    Returns:
        A functional Keras model, which can be trained and converted like any other.

    Raises:
        ImportError: If PyTorch is not installed.
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such checkpoint, or carries code.

    Example:
        ```python
        model = nobn.interop.load_bnn_nobn("model_best.pth.tar")
        nobn.convert(model, "reactnet_a.tflite")
        ```

    References:
        - T. Chen, Z. Zhang, X. Ouyang, Z. Liu, Z. Shen, Z. Wang, '"BNN - BN = ?":
          Training Binary Neural Networks without Batch Normalization', CVPR Workshops
          2021, arXiv:2104.08215, with the code github.com/VITA-Group/BNN_NoBN.

    Differences from the paper:
        PyTorch's sign(0) = 0 becomes +1.
    """
    check_flag("binary_weights", binary_weights)
    check_number("alpha", alpha, "(0, inf)", "The published code uses 0.2.")
    state = read_checkpoint(path)
    arguments = {
        "classes": shape_of(state, "fc.weight", 2)[0],
        "normalization": _normalization(state),
        "binary_weights": binary_weights,
        "alpha": alpha,
    }
    if "layer1.0.binary_conv.weight" in state:
        model, slots = _reactnet18(state, image_size, arguments)
    elif "feature.1.binary_3x3.weight" in state:
        model, slots = _reactnet_a(state, image_size, arguments)
    else:
        raise ValueError(
            f"{path} is no checkpoint of BNN-BN: it has neither "
            "layer1.0.binary_conv.weight, as ReActNet-18 has, nor "
            "feature.1.binary_3x3.weight, as ReActNet-A has. Give one of these."
        )
    fill(model, slots, state, turned=True)
    return model
