"""What is known of the tensors that go into a file and come out of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TensorInfo:
    """What goes into a `.tflite` file, or comes out of it.

    Attributes:
        name: Its name in the file.
        shape: Its shape, with the examples first.
        dtype: `"float32"`, `"int8"` or another name of NumPy.
        scale: What one step of an int8 tensor is worth; None for other types.
        zero_point: The int8 value that stands for 0; None for other types.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Returns numbers as the file takes them: rounded to int8 where it does."""
        if self.scale is None or self.zero_point is None:
            return values.astype(self.dtype)
        steps = np.rint(values / np.float32(self.scale)) + self.zero_point
        limits = np.iinfo(self.dtype)
        return np.clip(steps, limits.min, limits.max).astype(self.dtype)

    def decode(self, values: np.ndarray) -> np.ndarray:
        """Returns the float32 numbers that values of the file stand for."""
        numbers = values.astype(np.float32)
        if self.scale is None or self.zero_point is None:
            return numbers
        return (numbers - self.zero_point) * np.float32(self.scale)
