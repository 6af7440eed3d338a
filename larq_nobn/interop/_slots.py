"""Which tensor of a PyTorch module belongs into which variable."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from .._keras import keras
from ..quantizers import ReCU, ScaledStdSign
from ._compare import compare_layers
from ._ties import decided, plain_means, std_means

_SHOWN = 6
_REMEDY = "Only the networks of the published code can be loaded."


class Slot(NamedTuple):
    """A variable and how its PyTorch tensor looks.

    Arguments:
        variable: What takes the values.
        shapes: The shapes that the tensor may have.
        arrange: Brings it into the variable's shape.
    """

    variable: Any
    shapes: tuple[tuple[int, ...], ...]
    arrange: Callable[[np.ndarray], np.ndarray]


Slots = dict[str, Slot]


def _flat(array: np.ndarray) -> np.ndarray:
    return array.reshape(-1)


def _kernel(array: np.ndarray) -> np.ndarray:
    return array.transpose(2, 3, 1, 0)


def _plain_kernel(array: np.ndarray) -> np.ndarray:
    return _kernel(decided(array, plain_means))


def _standardized_kernel(array: np.ndarray) -> np.ndarray:
    return _kernel(decided(array, std_means))


def _first(array: np.ndarray) -> np.ndarray:
    return array.reshape(())


def _vector(variable: Any, before: int = 0, after: int = 0) -> Slot:
    """One value per channel; in PyTorch with axes of size 1 before and after."""
    shape = (1,) * before + tuple(variable.shape) + (1,) * after
    return Slot(variable, (shape,), _flat)


def shift(source: str, variable: Any) -> Slots:
    """A `LearnableBias`."""
    return {f"{source}.bias": _vector(variable, 1, 2)}


def convolution(source: str, layer: keras.layers.Layer) -> Slots:
    """A convolution without bias, with what its kernel quantizer owns."""
    height, width, inputs, outputs = layer.kernel.shape
    shape = (outputs, inputs, height, width)
    quantizer: Any = layer.kernel_quantizer
    arrange = _kernel
    # Only these take signs around a mean, which is rounded.
    if isinstance(quantizer, ReCU):
        arrange = _plain_kernel
    elif isinstance(quantizer, ScaledStdSign):
        arrange = _standardized_kernel
    slots = {f"{source}.weight": Slot(layer.kernel, (shape,), arrange)}
    if hasattr(quantizer, "gain"):
        slots[f"{source}.gain"] = _vector(quantizer.gain, 0, 3)
    if hasattr(quantizer, "alpha"):
        slots[f"{source}.alpha"] = _vector(quantizer.alpha, 0, 2)
    if hasattr(quantizer, "tau"):
        # The published training loop replaces the scalar by a vector of one value.
        slots[f"{source}.tau"] = Slot(quantizer.tau, ((1,), ()), _first)
    return slots


def batch_norm(source: str, layer: keras.layers.Layer) -> Slots:
    """A batch norm with its statistics."""
    return {
        f"{source}.weight": _vector(layer.gamma),
        f"{source}.bias": _vector(layer.beta),
        f"{source}.running_mean": _vector(layer.moving_mean),
        f"{source}.running_var": _vector(layer.moving_variance),
    }


def rprelu(
    source: str, parts: tuple[str, str, str], layer: keras.layers.Layer
) -> Slots:
    """A PReLU between two `LearnableBias`, which are the first and the last part."""
    before, slope, after = (f"{source}.{part}" for part in parts)
    if layer.power_of_two:
        slopes = {f"{slope}.L_alpha": _vector(layer.log2_slope)}
    else:
        slopes = {f"{slope}.weight": _vector(layer.slope)}
    return {
        **shift(before, layer.shift_in),
        **slopes,
        **shift(after, layer.shift_out),
    }


def prelu(source: str, layer: keras.layers.Layer) -> Slots:
    """A PReLU of one slope per channel."""
    shape = tuple(layer.alpha.shape)

    def arrange(array: np.ndarray) -> np.ndarray:
        return array.reshape(shape)

    return {f"{source}.weight": Slot(layer.alpha, (shape[-1:],), arrange)}


def dense(
    source: str, layer: keras.layers.Layer, positions: tuple[int, int] = (1, 1)
) -> Slots:
    """A dense layer; after a map of more than one position that is laid flat.

    PyTorch lays a map flat channel by channel, TensorFlow position by position.
    """
    inputs, outputs = layer.kernel.shape
    height, width = positions

    def arrange(array: np.ndarray) -> np.ndarray:
        maps = array.reshape(outputs, -1, height, width)
        return maps.transpose(2, 3, 1, 0).reshape(inputs, outputs)

    return {
        f"{source}.weight": Slot(layer.kernel, ((outputs, inputs),), arrange),
        f"{source}.bias": _vector(layer.bias),
    }


def fill(
    model: keras.Model,
    slots: Slots,
    state: Mapping[str, np.ndarray],
    turned: bool,
    verify: bool = True,
) -> None:
    """Gives every variable of the model its tensor.

    Arguments:
        model: A built model.
        slots: Where each tensor goes.
        state: The tensors.
        turned: Whether the kernels are turned, as `HalfTurn` turns images.
        verify: Whether each layer is compared with PyTorch's operations.

    Raises:
        ValueError: If a tensor or a variable is left over, a shape differs, two
            tensors set one variable, or a layer computes something else.
    """
    _check_names("misses", slots.keys() - state.keys())
    _check_names("has unknown", state.keys() - slots.keys())
    wrong = [
        f"{name} of shape {state[name].shape} instead of {slot.shapes[0]}"
        for name, slot in slots.items()
        if state[name].shape not in slot.shapes
    ]
    if wrong:
        raise ValueError(
            f"The checkpoint has {_some(wrong)}, so it is that of another network. "
            f"{_REMEDY}"
        )
    empty = {v.name for v in model.weights} - {s.variable.name for s in slots.values()}
    if empty:
        raise ValueError(
            f"Nothing in the checkpoint sets {_some(empty)} of {model.name}. {_REMEDY}"
        )
    # By object: quantizers of several layers have variables of one name.
    given = Counter(id(slot.variable) for slot in slots.values())
    variables = {id(slot.variable): slot.variable.name for slot in slots.values()}
    if twice := [name for key, name in variables.items() if given[key] > 1]:
        raise ValueError(
            f"Several tensors of the checkpoint set {_some(twice)} of {model.name}. "
            f"{_REMEDY}"
        )
    for name, slot in slots.items():
        value = slot.arrange(state[name])
        if turned and value.ndim == 4:
            value = value[::-1, ::-1]
        slot.variable.assign(value)
    if verify:
        compare_layers(model, {n: s.variable for n, s in slots.items()}, state)


def _check_names(problem: str, names: Iterable[str]) -> None:
    found = sorted(names)
    if found:
        raise ValueError(f"The checkpoint {problem} tensors: {_some(found)}. {_REMEDY}")


def _some(names: Iterable[str]) -> str:
    """The first few of a list, and how many more there are."""
    listed = sorted(names)
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return ", ".join(listed[:_SHOWN]) + more
