"""Builds the layers that a plan asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..._keras import keras
from ..._larq import without_starvation_warning
from ...graph import Call, latent, rebuild, sign_of
from ...quantizers import ScaledStandardization, ScaledStdSign
from ._norms import norm_layers
from ._plan import KernelPlan, Plan
from ._walks import KERNELS, QUANTIZED, argument_of, has_kernel

# A gain of 0 would never be binary again, and could not be learned.
_LEAST_GAIN = 1e-4


class Builder:
    """Makes the new layers of a network, and fills them once the graph is built.

    Arguments:
        plan: What becomes of the layers.
        variance_preserving, balanced: As in `ScaledStdSign`.
    """

    def __init__(self, plan: Plan, variance_preserving: bool, balanced: bool):
        self._plan = plan
        self._binary = {
            "variance_preserving": variance_preserving,
            "balanced": balanced,
        }
        self._fills: list[Callable[[], None]] = []

    def fill(self) -> None:
        """Gives every new layer its weights."""
        for fill in self._fills:
            fill()

    def layer(self, call: Call) -> Callable[..., Any] | None:
        """What stands in the place of a call."""
        name, plan = call.name, self._plan
        if name in plan.norms:
            return self._norm(call)
        if sign_of(call.layer) and name in plan.signs:
            return self._sign(call)
        if has_kernel(call.layer) and (
            name in plan.kernels or name in plan.signs or name in plan.flips
        ):
            return self._kernel(call)
        return self._copy(call)

    def _norm(self, call: Call) -> Callable[..., Any] | None:
        plan = self._plan.norms[call.name]
        found = norm_layers(call, plan)
        if plan.gain is not None and plan.bias is not None:
            weights = [plan.alpha * plan.gain, plan.alpha * plan.bias]
            affine = found[0]
            self._fills.append(lambda: affine.set_weights(weights))
        return _in_a_row(found)

    def _sign(self, call: Call) -> keras.layers.Layer:
        plan = self._plan.signs[call.name]
        new = plan.layer(name=call.name, dtype=call.layer.dtype_policy.name)
        if plan.shift is not None:
            self._fills.append(lambda: new.shift.assign(plan.shift))
        return new

    def _copy(self, call: Call) -> Callable[..., Any] | None:
        new = rebuild(call.layer, name=call.name)
        self._fills.append(lambda: new.set_weights(call.layer.get_weights()))
        if call.name in self._plan.pools:
            factor = self._plan.pools[call.name]
            name, dtype = f"{call.name}_scale", call.layer.dtype_policy.name
            scale = keras.layers.Rescaling(factor, name=name, dtype=dtype)
            return _in_a_row([scale, new])
        if call.name in self._plan.activations:
            bias = self._plan.activations[call.name]
            self._fills.append(lambda: new.shift_in.assign_add(bias))
        return new

    def _kernel(self, call: Call) -> keras.layers.Layer:
        layer, name, dtype = call.layer, call.name, call.layer.dtype_policy.name
        plan, sign = self._plan.kernels.get(name), self._plan.signs.get(name)
        changes: dict[str, Any] = {}
        if plan is not None:
            changes |= {
                argument_of(plan.name, "quantizer"): self._quantizer(plan, name, dtype),
                argument_of(plan.name, "constraint"): None,
            }
            if plan.norm:
                changes["use_bias"] = plan.bias is not None
        if sign is not None:
            changes["input_quantizer"] = sign.layer(name=f"{name}_sign", dtype=dtype)
        if type(layer) in QUANTIZED:
            config = {**layer.get_config(), **changes, "name": name}
            with without_starvation_warning():
                new = QUANTIZED[type(layer)].from_config(config)
        else:
            new = rebuild(layer, name=name, **changes)
        self._fills.append(lambda: self._fill_kernel(call, new))
        return new

    def _quantizer(self, plan: KernelPlan, name: str, dtype: str) -> keras.layers.Layer:
        options: dict[str, Any] = {"name": f"{name}_kernel", "dtype": dtype}
        scale = plan.scale * plan.alpha
        if plan.binary:
            return ScaledStdSign(scale=scale, **self._binary, **options)
        return ScaledStandardization(scale=scale, **options)

    def _fill_kernel(self, call: Call, new: keras.layers.Layer) -> None:
        layer = call.layer
        plan, sign = self._plan.kernels.get(call.name), self._plan.signs.get(call.name)
        for kernel in KERNELS:
            if getattr(layer, kernel, None) is not None:
                value = latent(getattr(layer, kernel)).numpy()
                if kernel == "kernel" and call.name in self._plan.flips:
                    value = value * self._plan.flips[call.name][:, None]
                getattr(new, kernel).assign(value)
        if new.use_bias:
            alpha = 1.0 if plan is None else plan.alpha
            own = None if plan is None else plan.bias
            new.bias.assign(alpha * layer.bias.numpy() if own is None else own)
        if plan is not None and plan.gain is not None:
            sign_of_gain = np.where(plan.gain < 0, -1.0, 1.0)
            gain = sign_of_gain * np.maximum(np.abs(plan.gain), _LEAST_GAIN)
            getattr(new, argument_of(plan.name, "quantizer")).gain.assign(gain)
        if sign is not None and sign.shift is not None:
            new.input_quantizer.shift.assign(sign.shift)
        changed = set() if sign is None else {"input"}
        changed |= set() if plan is None else {argument_of(plan.name, "")[:-1]}
        for prefix in {"input", "kernel", "depthwise", "pointwise"} - changed:
            old = getattr(layer, f"{prefix}_quantizer", None)
            if isinstance(old, keras.layers.Layer):
                getattr(new, f"{prefix}_quantizer").set_weights(old.get_weights())


def _in_a_row(layers: list[keras.layers.Layer]) -> Callable[..., Any] | None:
    if not layers:
        return None

    def run(x: Any) -> Any:
        for layer in layers:
            x = layer(x)
        return x

    return run
