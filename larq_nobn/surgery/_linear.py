"""Layers that multiply by a kernel, as arrays that gains and biases go into."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._keras import keras
from ..graph import (
    DEPTHWISE,
    PLAIN,
    SEPARABLE,
    TRANSPOSED,
    Kernels,
    is_channels_last,
    kernels_of,
)


class Linear:
    """Latent kernel (..., input channels of a group, output channels), and the bias.

    Both in float64.

    Arguments:
        layer: A built layer.
        kernels: Where its kernels are.

    Attributes:
        first: The name of the kernel that meets the input.
        last: The name of that which makes the output.
        kernels: The latent kernels, by name.
        bias: Of shape (output channels,), or None.
        changed: Whether they are no longer those of the layer.
    """

    def __init__(self, layer: keras.layers.Layer, kernels: Kernels):
        self.layer = layer
        self.first, self.last = kernels.first, kernels.last
        self._kernels = kernels
        self.kernels = {
            name: latent(getattr(layer, name)).numpy().astype(np.float64)
            for name in dict.fromkeys((self.first, self.last))
        }
        has_bias = layer.use_bias
        self.bias = layer.bias.numpy().astype(np.float64) if has_bias else None
        self.changed = False

    def given(self) -> Linear:
        """That of the layer as it is."""
        return type(self)(self.layer, self._kernels)

    def values(self) -> dict[str, np.ndarray]:
        """Kernels and bias, by name."""
        return (
            self.kernels if self.bias is None else {**self.kernels, "bias": self.bias}
        )

    def variable(self, name: str) -> Any:
        return getattr(self.layer, name)

    def is_quantized(self, name: str) -> bool:
        return getattr(self.variable(name), "quantizer", None) is not None

    @property
    def is_activated(self) -> bool:
        return self.layer.activation not in (None, keras.activations.linear)

    @property
    def pads(self) -> bool:
        """Whether the kernel meets values that are not of the input."""
        sizes = getattr(self.layer, "kernel_size", (1,))
        return getattr(self.layer, "padding", "valid") != "valid" and max(sizes) > 1

    @property
    def border(self) -> float:
        """The number that pads its input; 0 where nothing does."""
        values = getattr(self.layer, "pad_values", 0.0) if self.pads else 0.0
        return float(keras.backend.get_value(values))

    @property
    def is_uniform(self) -> bool:
        """Whether all of the kernel meets the input at every position."""
        return not self.pads

    def assign(self, name: str, value: np.ndarray) -> None:
        self.kernels[name] = value
        self.changed = True

    def scale_outputs(self, gain: np.ndarray, bias: np.ndarray) -> None:
        """Makes the layer compute gain * y + bias where it was y."""
        self.kernels[self.last] = self.kernels[self.last] * self.by_output(gain)
        self.bias = bias + (0.0 if self.bias is None else self.bias * gain)
        self.changed = True

    def scale_inputs(self, gain: np.ndarray, bias: np.ndarray) -> None:
        """Makes the layer take x where it took gain * x + bias.

        Exact if it is uniform, or if the bias is 0 and zeros are all that pads it.
        """
        if np.any(bias):
            extra = self.response(bias)
            self.bias = extra if self.bias is None else self.bias + extra
        self.kernels[self.first] = self.kernels[self.first] * self.by_input(gain)
        self.changed = True

    def by_output(self, values: np.ndarray) -> np.ndarray:
        """Values per output channel, in a shape that goes with the last kernel."""
        return values

    def by_input(self, values: np.ndarray) -> np.ndarray:
        """Values per input channel, in a shape that goes with the first kernel."""
        groups = getattr(self.layer, "groups", 1)
        outputs = self.kernels["kernel"].shape[-1]
        return np.repeat(values.reshape(groups, -1).T, outputs // groups, axis=1)

    def response(self, values: np.ndarray) -> np.ndarray:
        """The output, without bias, for an input that is constant in each channel.

        Only that of a uniform layer is the same at every position.
        """
        weighted = self.kernels["kernel"] * self.by_input(values)
        return weighted.reshape(-1, weighted.shape[-1]).sum(axis=0)


class Depthwise(Linear):
    """(..., input channels, outputs of each)."""

    def by_output(self, values: np.ndarray) -> np.ndarray:
        return values.reshape(self.kernels[self.last].shape[-2:])

    def by_input(self, values: np.ndarray) -> np.ndarray:
        return values[:, None]

    def response(self, values: np.ndarray) -> np.ndarray:
        weighted = self.kernels[self.first] * self.by_input(values)
        return weighted.reshape(-1, *weighted.shape[-2:]).sum(axis=0).reshape(-1)


class Separable(Depthwise):
    """A depthwise kernel, and one of a single position behind it."""

    def by_output(self, values: np.ndarray) -> np.ndarray:
        return values

    def response(self, values: np.ndarray) -> np.ndarray:
        pointwise = self.kernels[self.last]
        return super().response(values) @ pointwise.reshape(-1, pointwise.shape[-1])


class Transposed(Linear):
    """(..., output channels, input channels)."""

    def by_output(self, values: np.ndarray) -> np.ndarray:
        return values[:, None]

    def by_input(self, values: np.ndarray) -> np.ndarray:
        return values

    @property
    def pads(self) -> bool:
        return False

    @property
    def is_uniform(self) -> bool:
        return False  # near the border fewer inputs reach an output


_FORMS: dict[Kernels, type[Linear]] = {
    PLAIN: Linear,
    DEPTHWISE: Depthwise,
    SEPARABLE: Separable,
    TRANSPOSED: Transposed,
}


def linear_of(layer: keras.layers.Layer) -> Linear | None:
    """The kernel and bias of a layer that is linear up to an activation behind it."""
    kernels = kernels_of(layer)
    if kernels is None or not is_channels_last(layer):
        return None
    return _FORMS[kernels](layer, kernels)


def latent(variable: Any) -> Any:
    """The variable that is trained: of a quantized kernel the one before that."""
    return getattr(variable, "latent_variable", variable)
