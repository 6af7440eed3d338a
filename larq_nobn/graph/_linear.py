"""The linear form of a layer of weights: where its channels are, and what they take.

Of every kind whose kernels are known, up to an activation that follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .._errors import InvalidValue
from .._keras import keras
from ._kinds import DEPTHWISE, PLAIN, SEPARABLE, TRANSPOSED, Kernels, traits
from ._operation import Operation


def border_of(operation: Operation) -> float | None:
    """Returns the number that pads a layer's input; None where nothing does."""
    valid = operation.argument("padding", "valid") == "valid"
    if valid or np.max(operation.argument("kernel_size", 1)) == 1:
        return None
    return border_value(operation.name, operation.argument("pad_values", 0.0))


def border_value(name: str, value: Any) -> float:
    """Returns the `pad_values` of a layer as a number.

    Raises:
        ValueError: If it is none.
    """
    number = np.asarray(keras.backend.get_value(value))
    if number.ndim or number.dtype.kind not in "biuf":
        raise InvalidValue(
            f"Layer {name} has pad_values={number.tolist()!r:.40}, which is not a "
            "number. Build it with one number, such as pad_values=1.0."
        )
    return float(number)


@dataclass(frozen=True)
class Linear:
    """Latent kernel (..., input channels of a group, output channels), and the bias.

    Arguments:
        operation: Of a layer whose kernels are known.
        where: Where they are.
    """

    operation: Operation
    where: Kernels

    @property
    def first(self) -> str:
        """The name of the kernel that meets the input."""
        return self.where.first

    @property
    def last(self) -> str:
        """The name of the kernel that makes the output."""
        return self.where.last

    @property
    def kernels(self) -> dict[str, np.ndarray]:
        """The latent kernels by name, in float64."""
        return {name: self.kernel(name) for name in dict.fromkeys(self.where[:2])}

    def kernel(self, name: str) -> np.ndarray:
        return self.operation.arrays[name].astype(np.float64)

    @property
    def bias(self) -> np.ndarray | None:
        """(C,), in float64; None for none."""
        if not self.operation.argument("use_bias"):
            return None
        return self.operation.arrays["bias"].astype(np.float64)

    def quantizer(self, name: str) -> Any:
        """Returns the quantizer of a kernel; None for none."""
        return self.operation.quantizer(name)

    @property
    def is_activated(self) -> bool:
        activation = self.operation.argument("activation")
        return activation not in (None, keras.activations.linear)

    @property
    def border(self) -> float:
        """The number that pads its input; 0 where nothing does."""
        return border_of(self.operation) or 0.0

    @property
    def is_uniform(self) -> bool:
        """Whether all of the kernel meets the input at every position."""
        return border_of(self.operation) is None

    def scaled_outputs(self, scale: np.ndarray, bias: np.ndarray) -> Operation:
        """Returns what computes scale * y + bias where this computes y."""
        kernel = self.kernel(self.last) * self.by_output(scale)
        total = bias + (0.0 if self.bias is None else self.bias * scale)
        return self._with({self.last: kernel}, total)

    def scaled_inputs(self, scale: np.ndarray, bias: np.ndarray) -> Operation:
        """Returns what computes of x what this computes of scale * x + bias.

        Exact if it is uniform, or if the bias is 0 and zeros are all that pads it.
        """
        total = self.bias
        if np.any(bias):
            total = self.response(bias) + (0.0 if total is None else total)
        kernel = self.kernel(self.first) * self.by_input(scale)
        return self._with({self.first: kernel}, total)

    def _with(self, kernels: dict[str, np.ndarray], bias: Any) -> Operation:
        values = kernels if bias is None else {**kernels, "bias": bias}
        return self.operation.replaced(values, {"use_bias": bias is not None})

    def by_output(self, values: np.ndarray) -> np.ndarray:
        """Values per output channel, in a shape that goes with the last kernel."""
        return values

    def by_input(self, values: np.ndarray) -> np.ndarray:
        """Values per input channel, in a shape that goes with the first kernel."""
        groups = self.operation.argument("groups", 1)
        outputs = self.operation.arrays["kernel"].shape[-1]
        return np.repeat(values.reshape(groups, -1).T, outputs // groups, axis=1)

    def response(self, values: np.ndarray) -> np.ndarray:
        """The output, without bias, for an input that is constant in each channel.

        Only that of a uniform layer is the same at every position.
        """
        weighted = self.kernel("kernel") * self.by_input(values)
        return weighted.reshape(-1, weighted.shape[-1]).sum(axis=0)


class _Depthwise(Linear):
    """(..., input channels, outputs of each)."""

    def by_output(self, values: np.ndarray) -> np.ndarray:
        return values.reshape(self.kernel(self.last).shape[-2:])

    def by_input(self, values: np.ndarray) -> np.ndarray:
        return values[:, None]

    def response(self, values: np.ndarray) -> np.ndarray:
        weighted = self.kernel(self.first) * self.by_input(values)
        return weighted.reshape(-1, *weighted.shape[-2:]).sum(axis=0).reshape(-1)


class _Separable(_Depthwise):
    """A depthwise kernel, and one of a single position after it."""

    def by_output(self, values: np.ndarray) -> np.ndarray:
        return values

    def response(self, values: np.ndarray) -> np.ndarray:
        pointwise = self.kernel(self.last)
        return super().response(values) @ pointwise.reshape(-1, pointwise.shape[-1])


class _Transposed(Linear):
    """(..., output channels, input channels)."""

    def by_output(self, values: np.ndarray) -> np.ndarray:
        return values[:, None]

    def by_input(self, values: np.ndarray) -> np.ndarray:
        return values

    @property
    def is_uniform(self) -> bool:
        return False  # near the border fewer inputs reach an output


_FORMS: dict[Kernels, type[Linear]] = {
    PLAIN: Linear,
    DEPTHWISE: _Depthwise,
    SEPARABLE: _Separable,
    TRANSPOSED: _Transposed,
}


def linear_of(operation: Operation) -> Linear | None:
    """Returns the linear form of an operation; None if it is not known to have one."""
    kernels = traits(operation.kind).kernels
    last = operation.argument("data_format", "channels_last") == "channels_last"
    return _FORMS[kernels](operation, kernels) if kernels is not None and last else None
