"""What a row of the contract's table says; the rows stand in `rows/`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from larq_nobn._keras import keras

Shape = tuple[int, ...]
Arrays = np.ndarray | list[np.ndarray]

ROLES = ("kernel", "activation", "layer")
PENALTY = "regularizer"
# The float operations that a row may add to a converted file, by outcome at inference.
OUTCOMES: dict[str, Callable[[set[str]], bool]] = {
    "removed": lambda ops: ops <= {"CONV_2D"},  # the host of a real-valued kernel
    "folded": lambda ops: ops <= {"ADD", "SUB", "MUL"},
    "kept": lambda ops: bool(ops),
}


def normal(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    return rng.normal(size=shape)


@dataclass(frozen=True)
class Case:
    """What a public class promises.

    Arguments:
        cls: The class.
        role: `"kernel"`, `"activation"` (both quantizers), `"layer"` or `PENALTY`.
        alias: The string that stands for it; None says that it has none.
        shapes: One entry per rank it is checked at: a kernel shape, an input shape with
            its batch axis, or a list of input shapes for a layer with several inputs.
            Two are enough for what sees channels alone; what takes statistics has more.
        weights: Names of the trainable weights, in order.
        smooth: Whether finite differences must confirm the gradient too.
        oracle: NumPy float64 function of (x, weights, upstream) that returns the
            gradients by name, that of the input as `"x"`. For a layer with several
            inputs or outputs, x, upstream and `"x"` are lists.
        inference: What becomes of it in a converted file, one of `OUTCOMES`.
        float_ops: Every float operation of the converted network around the row.
        lce_bconv2d: How many binary convolutions that network has.
        kwargs: The arguments, or a function that makes them, for arguments that belong
            to one object, such as a wrapped layer.
        state: Names of the other weights.
        training: In which mode the gradient is checked. None says that the two modes
            agree, which is checked.
        sees_batch: Whether in training an example sees the rest of its batch.
        drops_mask: Whether a mask of the input ends in it.
        same_value: Whether the modes agree in value, and differ in gradient only.
        output_dtypes: One per output, None for the policy's compute dtype; None says
            that all outputs have that.
        draw: Draws an input from (rng, shape).
    """

    cls: type
    shapes: tuple[Shape | list[Shape], ...]
    oracle: Callable[[Arrays, dict[str, np.ndarray], Arrays], dict[str, Arrays]]
    inference: str
    role: str = "layer"
    smooth: bool = False
    alias: str | None = None
    weights: tuple[str, ...] = ()
    float_ops: Mapping[str, int] = field(default_factory=dict)
    lce_bconv2d: int = 1
    kwargs: Mapping[str, Any] | Callable[[], Mapping[str, Any]] = field(
        default_factory=dict
    )
    state: tuple[str, ...] = ()
    training: bool | None = None
    sees_batch: bool = False
    drops_mask: bool = False
    same_value: bool = False
    output_dtypes: tuple[str | None, ...] | None = None
    draw: Callable[[np.random.Generator, Shape], np.ndarray] = normal

    def __post_init__(self) -> None:
        if self.role not in (*ROLES, PENALTY) or self.inference not in OUTCOMES:
            raise ValueError(
                f"{self.name}: role {self.role!r} or inference {self.inference!r} is "
                f"not known. Choose from {ROLES} and {tuple(OUTCOMES)}."
            )
        if not OUTCOMES[self.inference](set(self.float_ops)):
            raise ValueError(
                f"{self.name}: the float operations {dict(self.float_ops)} contradict "
                f"inference={self.inference!r}."
            )

    @property
    def name(self) -> str:
        return self.cls.__name__

    def make(self) -> keras.layers.Layer:
        """A fresh object."""
        kwargs = self.kwargs() if callable(self.kwargs) else self.kwargs
        return self.cls(**kwargs)
