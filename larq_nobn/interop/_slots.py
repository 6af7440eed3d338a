"""Which tensor of a PyTorch module belongs into which variable."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from .._errors import InvalidValue
from .._keras import keras
from ..quantizers import ScaledStdSign

_SHOWN = 6
_CLOSE = 1e-6  # relative to the largest weight of a filter; float32 has 1.2e-7


class Slot(NamedTuple):
    """A variable and how its PyTorch tensor looks."""

    variable: Any
    shape: tuple[int, ...]  # of the tensor
    arrange: Callable[[np.ndarray], np.ndarray]  # into that of the variable


Slots = dict[str, Slot]


def _kernel(array: np.ndarray) -> np.ndarray:
    """Height and width first, and rotated as `HalfTurn` rotates images."""
    return array.transpose(2, 3, 1, 0)[::-1, ::-1]


def _decided(kernel: np.ndarray) -> np.ndarray:
    """Moves weights beside the mean of their filter to the side where PyTorch has them.

    A network of ten million weights has about one that lies within float32's rounding
    of its filter's mean. Its sign depends on the order in which `torch.std_mean` sums
    the mean, and every output on its sign.
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
    """One value per channel; in PyTorch with axes of size 1 before and after."""
    shape = (1,) * before + tuple(variable.shape) + (1,) * after
    return Slot(variable, shape, np.ravel)


def shift(source: str, variable: Any) -> Slots:
    """A `LearnableBias`."""
    return {f"{source}.bias": _vector(variable, 1, 2)}


def convolution(source: str, layer: keras.layers.Layer) -> Slots:
    """A convolution without bias, with the gain of its kernel quantizer."""
    height, width, inputs, outputs = layer.kernel.shape
    shape = (outputs, inputs, height, width)
    quantizer: Any = layer.kernel_quantizer
    # Only this one takes signs around a mean, which is rounded.
    standardized = isinstance(quantizer, ScaledStdSign)
    arrange = (lambda array: _kernel(_decided(array))) if standardized else _kernel
    slots = {f"{source}.weight": Slot(layer.kernel, shape, arrange)}
    if hasattr(quantizer, "gain"):
        slots[f"{source}.gain"] = _vector(quantizer.gain, 0, 3)
    return slots


def batch_norm(source: str, layer: keras.layers.Layer) -> Slots:
    """A batch norm with its statistics."""
    return {
        f"{source}.weight": _vector(layer.gamma),
        f"{source}.bias": _vector(layer.beta),
        f"{source}.running_mean": _vector(layer.moving_mean),
        f"{source}.running_var": _vector(layer.moving_variance),
    }


def rprelu(layer: keras.layers.Layer, before: str, slope: str, after: str) -> Slots:
    """A PReLU between two `LearnableBias`."""
    return {
        **shift(before, layer.shift_in),
        f"{slope}.weight": _vector(layer.slope),
        **shift(after, layer.shift_out),
    }


def dense(source: str, layer: keras.layers.Layer) -> Slots:
    """A dense layer."""
    inputs, outputs = layer.kernel.shape
    return {
        f"{source}.weight": Slot(layer.kernel, (outputs, inputs), np.transpose),
        f"{source}.bias": _vector(layer.bias),
    }


def fill(slots: Slots, state: Mapping[str, np.ndarray]) -> None:
    """Gives every variable its tensor, if there is one for each and of its shape."""
    _reject("misses tensors: ", slots.keys() - state.keys())
    _reject("has unknown tensors: ", state.keys() - slots.keys())
    wrong = [
        f"{name} of shape {state[name].shape} instead of {slot.shape}"
        for name, slot in slots.items()
        if state[name].shape != slot.shape
    ]
    _reject("has ", wrong, ", so it is that of another network")
    for name, slot in slots.items():
        slot.variable.assign(slot.arrange(state[name]))


def _reject(problem: str, found: Iterable[str], so: str = "") -> None:
    """Raises if anything is found; names the first few, and how many more there are."""
    if listed := sorted(found):
        more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
        raise InvalidValue(
            f"The checkpoint {problem}{', '.join(listed[:_SHOWN])}{more}{so}. "
            "Only the networks of the published code can be loaded."
        )
