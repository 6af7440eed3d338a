"""ReActNet-18 and ReActNet-A: the variable of each tensor of the published code."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from .._errors import InvalidValue
from .._keras import keras
from ..models import ReActNet18, ReActNetA
from ..quantizers import ScaledStdSign
from ._half_turn import as_in_pytorch

State = Mapping[str, np.ndarray]
Size = tuple[int, int] | None  # (height, width); None to choose by the stem
_CIFAR, _IMAGENET = (32, 32), (224, 224)  # pixels
_CLASSES = 1000  # of ImageNet
_SHOWN = 6
_CLOSE = 1e-6  # relative to the largest weight of a filter; float32 has 1.2e-7


class Slot(NamedTuple):
    """A variable, with the shape of its PyTorch tensor."""

    variable: Any
    shape: tuple[int, ...]  # of the tensor
    arrange: Callable[[np.ndarray], np.ndarray]  # from the tensor to the variable


Slots = dict[str, Slot]


def _kernel(array: np.ndarray) -> np.ndarray:
    """Moves height and width to the front, and rotates as `HalfTurn` does."""
    return array.transpose(2, 3, 1, 0)[::-1, ::-1]


def _with_signs_of_torch(kernel: np.ndarray) -> np.ndarray:
    """Gives weights close to their filter's mean the sign that they have in PyTorch.

    In a network of ten million weights, about one equals its filter's mean within
    float32's rounding. Its sign depends on the order of the sum in `torch.std_mean`,
    and every output depends on that sign.
    """
    import torch

    weights = torch.from_numpy(kernel)
    _, means = torch.std_mean(weights, (1, 2, 3), correction=0, keepdim=True)
    sides = (weights - means).sign().numpy()
    exact = kernel.astype(np.float64)
    step = _CLOSE * np.abs(exact).max((1, 2, 3), keepdims=True)
    close = np.abs(exact - exact.mean((1, 2, 3), keepdims=True)) <= step
    return np.where(close, exact + sides * step, exact).astype(np.float32)


def _vector(variable: Any, before: int = 0, after: int = 0) -> Slot:
    """Returns the slot of one value per channel, with axes of size 1 around it."""
    shape = (1,) * before + tuple(variable.shape) + (1,) * after
    return Slot(variable, shape, np.ravel)


def _shift(source: str, variable: Any) -> Slots:
    """Returns the slot of a `LearnableBias`."""
    return {f"{source}.bias": _vector(variable, 1, 2)}


def convolution(source: str, layer: keras.layers.Layer) -> Slots:
    """Returns the slots of a convolution and of the gain of its kernel quantizer."""
    height, width, inputs, outputs = layer.kernel.shape
    shape = (outputs, inputs, height, width)
    quantizer: Any = layer.kernel_quantizer
    arrange = _kernel
    if isinstance(quantizer, ScaledStdSign):  # its threshold is a rounded mean

        def arrange(array: np.ndarray) -> np.ndarray:
            return _kernel(_with_signs_of_torch(array))

    slots = {f"{source}.weight": Slot(layer.kernel, shape, arrange)}
    if hasattr(quantizer, "gain"):
        slots[f"{source}.gain"] = _vector(quantizer.gain, 0, 3)
    return slots


def _rprelu(layer: keras.layers.Layer, before: str, slope: str, after: str) -> Slots:
    """Returns the slots of a PReLU between two `LearnableBias`."""
    value = (f"{slope}.weight", "slope")
    if layer.power_of_two:
        value = (f"{slope}.L_alpha", "log2_slope")
    return {
        **_shift(before, layer.shift_in),
        value[0]: _vector(getattr(layer, value[1])),
        **_shift(after, layer.shift_out),
    }


def _dense(source: str, layer: keras.layers.Layer) -> Slots:
    """Returns the slots of a dense layer."""
    inputs, outputs = layer.kernel.shape
    return {
        f"{source}.weight": Slot(layer.kernel, (outputs, inputs), np.transpose),
        f"{source}.bias": _vector(layer.bias),
    }


def shape_of(state: State, name: str, rank: int) -> tuple[int, ...]:
    """Returns the shape of a required tensor."""
    if name not in state or state[name].ndim != rank:
        shape = f"of shape {state[name].shape}" if name in state else "missing"
        raise InvalidValue(
            f"The checkpoint's {name} is {shape}, but in the published code it has "
            f"{rank} axes. Give a checkpoint of that code."
        )
    return state[name].shape


def _with_norm(source: str, norm: str, model: keras.Model, name: str) -> Slots:
    """Returns the slots of a convolution, and of a batch norm after it if any."""
    slots = convolution(source, model.get_layer(f"{name}_conv"))
    if any(layer.name == f"{name}_norm" for layer in model.layers):
        layer = model.get_layer(f"{name}_norm")
        slots[f"{norm}.weight"] = _vector(layer.gamma)
        slots[f"{norm}.bias"] = _vector(layer.beta)
        slots[f"{norm}.running_mean"] = _vector(layer.moving_mean)
        slots[f"{norm}.running_var"] = _vector(layer.moving_variance)
    return slots


def _binary(source: str, parts: str, model: keras.Model, name: str) -> Slots:
    """Returns the slots of a binary convolution, its sign, batch norm and RPReLU."""
    sign, conv, norm, *activation = (f"{source}.{part}" for part in parts.split())
    return {
        **_shift(sign, model.get_layer(f"{name}_conv").input_quantizer.shift),
        **_with_norm(conv, norm, model, name),
        **_rprelu(model.get_layer(f"{name}_act"), *activation),
    }


def reactnet18(
    state: State, image_size: Size, **arguments: Any
) -> tuple[keras.Model, Slots]:
    """Builds a ReActNet with one convolution per block; returns it and its slots."""
    width, channels, kernel, _ = shape_of(state, "conv1.weight", 4)
    # Our builders derive the stem from the image size, so pick a size with this stem.
    shape, size = ((64, 64), _IMAGENET) if kernel == 7 else (_CIFAR, _CIFAR)
    blocks: list[int] = []
    while any(name.startswith(f"layer{len(blocks) + 1}.") for name in state):
        own = f"layer{len(blocks) + 1}."
        names = (name for name in state if name.startswith(own))
        blocks.append(len({name.split(".")[1] for name in names}))
    ours = ReActNet18(
        (*shape, channels),
        width=width,
        blocks=tuple(blocks),
        name=f"reactnet{sum(blocks) + 2}",
        **arguments,
    )
    model = as_in_pytorch(ours, image_size or size)
    slots = _with_norm("conv1", "bn1", model, "stem")
    slots |= _dense("fc", model.get_layer("head"))
    conv = "conv1" if "layer1.0.conv1.weight" in state else "binary_conv"
    parts = f"move0 {conv} bn1 move1 prelu move2"
    for stage, count in enumerate(blocks, 1):
        for block in range(count):
            source, name = f"layer{stage}.{block}", f"stage{stage}_block{block + 1}"
            slots |= _binary(source, parts, model, name)
            if stage > 1 and block == 0:
                conv, norm = f"{source}.downsample.1", f"{source}.downsample.2"
                slots |= _with_norm(conv, norm, model, f"{name}_shortcut")
    return model, slots


def reactnet_a(
    state: State, image_size: Size, **arguments: Any
) -> tuple[keras.Model, Slots]:
    """Builds a ReActNet-A, with arguments as in `reactnet18`."""
    width, channels, _, _ = shape_of(state, "feature.0.conv1.weight", 4)
    shape_of(state, "feature.1.binary_3x3.weight", 4)
    blocks: list[int] = []  # per stage; a block that widens starts a new stage
    while f"feature.{sum(blocks) + 1}.binary_3x3.weight" in state:
        widens = f"feature.{sum(blocks) + 1}.binary_pw_down1.weight" in state
        if widens or not blocks:
            blocks.append(0)
        blocks[-1] += 1
    # BNN-BN's code has this one stem, for small images, too.
    small = arguments["power_of_two"] and arguments["classes"] < _CLASSES
    ours = ReActNetA(
        (*_IMAGENET, channels),
        width=width,
        blocks=tuple(blocks),
        stem_stride=1 if small else 2,
        **arguments,
    )
    model = as_in_pytorch(ours, image_size or (_CIFAR if small else _IMAGENET))
    slots = _with_norm("feature.0.conv1", "feature.0.bn1", model, "stem")
    slots |= _dense("fc", model.get_layer("head"))
    spatial = "move11 binary_3x3 bn1 move12 prelu1 move13"
    pointwise = "move21 binary_pw bn2 move22 prelu2 move23"
    number = 0
    for stage, count in enumerate(blocks, 1):
        for block in range(1, count + 1):
            number += 1
            source, name = f"feature.{number}", f"stage{stage}_block{block}"
            slots |= _binary(source, spatial, model, f"{name}_3x3")
            if block > 1:
                slots |= _binary(source, pointwise, model, f"{name}_1x1")
            else:
                slots |= _widening(source, model, f"{name}_1x1")
    return model, slots


def _widening(source: str, model: keras.Model, name: str) -> Slots:
    """Returns the slots of two pointwise convolutions of one sign."""
    parts = (f"{source}.{part}" for part in ("move22", "prelu2", "move23"))
    slots = _rprelu(model.get_layer(f"{name}_act"), *parts)
    slots |= _shift(f"{source}.move21", model.get_layer(f"{name}_sign").shift)
    for half, letter in enumerate("ab", 1):
        conv, norm = f"{source}.binary_pw_down{half}", f"{source}.bn2_{half}"
        slots |= _with_norm(conv, norm, model, f"{name}{letter}")
    return slots


def fill(slots: Slots, state: Mapping[str, np.ndarray]) -> None:
    """Assigns every tensor to its variable, if names and shapes match exactly."""
    _reject("misses tensors: ", slots.keys() - state.keys())
    _reject("has unknown tensors: ", state.keys() - slots.keys())
    wrong = [
        f"{name} of shape {state[name].shape} instead of {slot.shape}"
        for name, slot in slots.items()
        if state[name].shape != slot.shape
    ]
    _reject("has ", wrong, ", so it belongs to another network")
    for name, slot in slots.items():
        slot.variable.assign(slot.arrange(state[name]))


def _reject(problem: str, found: Iterable[str], so: str = "") -> None:
    """Raises if anything is found, with the first few and the number of others."""
    if listed := sorted(found):
        more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
        raise InvalidValue(
            f"The checkpoint {problem}{', '.join(listed[:_SHOWN])}{more}{so}. "
            "Only the networks of the published code can be loaded."
        )
