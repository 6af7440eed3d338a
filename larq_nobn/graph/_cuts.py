"""Where a network is cut: at signs, ternary signs, and comparisons."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from .._keras import keras
from .._larq import lq
from ..quantizers._rsign import ThresholdSign
from ._graph import Call
from ._kinds import constants_of, symbol_of
from ._signs import sign_of_call


class Sign(NamedTuple):
    """A pre-activation of the reference, and the sign that it takes of it."""

    label: str
    quantizer: Any
    values: np.ndarray

    def positive(self, values: np.ndarray) -> np.ndarray:
        """Returns where the sign of such pre-activations is +1.

        Ternary signs give -1, 0 or +1 instead.
        """
        return self.each_positive(values)[0]

    def each_positive(self, *values: np.ndarray) -> list[np.ndarray]:
        """Returns where the signs of several arrays of pre-activations are +1."""
        made = self.made_of(*values)
        return [x.astype(np.int32) if self.has_levels else x > 0 for x in made]

    def made_of(self, *values: np.ndarray) -> list[np.ndarray]:
        """Returns what the quantizer makes of several arrays."""
        return [np.asarray(self.quantizer(tf.constant(x))) for x in values]

    @property
    def has_levels(self) -> bool:
        """Whether it may be more than two numbers."""
        return isinstance(self.quantizer, Ternary)

    def shifted(self, values: np.ndarray) -> np.ndarray:
        """Returns the numbers whose sign it is."""
        if isinstance(self.quantizer, ThresholdSign):
            shift = self.quantizer.whole_shift()
            scale = np.float32(self.quantizer.scale)
            return values if shift is None else values - -shift / scale
        shifted = getattr(self.quantizer, "shifted", None)
        return values if shifted is None else np.asarray(shifted(values))


class ThresholdOp(NamedTuple):
    """Where numbers are above a threshold, as a sign of them.

    Attributes:
        threshold: A number, or an array of them.
        reached: Whether the threshold itself is above, too.
    """

    threshold: Any
    reached: bool

    def __call__(self, x: Any) -> np.ndarray:
        x = np.asarray(x)
        above = x >= self.threshold if self.reached else x > self.threshold
        return np.where(above, 1.0, -1.0)

    def shifted(self, x: Any) -> np.ndarray:
        """Returns the numbers whose sign it is."""
        return np.asarray(x) - np.float32(self.threshold)


class Ternary(NamedTuple):
    """A function of each number that is -1, 0 or +1."""

    function: Any

    def __call__(self, x: Any) -> Any:
        return self.function(x)


# Functions of TensorFlow, and whether their result changes just above a number.
_COMPARISONS = {
    "math.greater": True,
    "math.less_equal": True,
    "math.greater_equal": False,
    "math.less": False,
}


def _threshold_op_in(call: Call) -> ThresholdOp | None:
    """The comparison of a map with constants that a call is; None for other calls."""
    beyond, constants = _COMPARISONS.get(symbol_of(call.layer)), constants_of(call)
    if beyond is None or len(constants) != 1:
        return None
    first = dict(zip("xy", call.node.call_args, strict=False), **call.node.call_kwargs)
    given = call.first_input
    if first["x"] is not given or not given.dtype.is_floating or given.shape.rank < 2:
        return None
    return ThresholdOp(np.asarray(constants[0]), not beyond)


def _ternary_in(call: Call) -> Ternary | None:
    """Returns the ternary sign that a call is or starts with; None for other calls."""
    layer = call.layer
    if not call.first_input.dtype.is_floating:
        return None
    if symbol_of(layer) == "math.sign":
        return Ternary(layer.function)
    given = getattr(layer, "input_quantizer", None) or layer
    if type(layer) is keras.layers.Activation:
        given = layer.activation
    known = type(given) is lq.quantizers.SteTern
    return Ternary(given) if known and not given.ternary_weight_networks else None


def cut_at(call: Call) -> Any:
    """The sign or the comparison at which a network is cut; None for other calls."""
    return sign_of_call(call) or _ternary_in(call) or _threshold_op_in(call)
