"""Decides what becomes of every kernel, sign and batch norm of a network."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from ..._keras import keras
from ...graph import Call, Graph, has_sign_input, inputs_of, is_batch_norm, is_binary
from ...rewrites import as_rsign
from ._biases import place_biases
from ._moments import (
    Moments,
    activated,
    channels_of,
    is_sum,
    resized,
    through,
    total,
    unit,
)
from ._norms import affine_plan, factors, sign_shift, signs_behind
from ._plan import KernelPlan, NormPlan, Plan, SignPlan
from ._signs import quantizer_of
from ._sums import is_first_sum, scale_setter, stream_of
from ._walks import argument_of, has_kernel, kernel_before, to_standardize


class Planner:
    """Walks through a network in the order of its graph.

    Arguments:
        graph: Of a functional model.
        alpha: Factor on the residual branches.
        rule: `"nf"` or `"vita"`.
    """

    def __init__(self, graph: Graph, alpha: float, rule: str):
        self.graph, self.alpha, self.rule = graph, alpha, rule
        self.plan = Plan()
        self._moments: dict[int, Moments] = {}

    def run(self) -> Plan:
        for call in self.graph.calls:
            if name := to_standardize(self.graph, call):
                quantizer = getattr(call.layer, argument_of(name, "quantizer"), None)
                self.plan.kernels[call.name] = KernelPlan(name, is_binary(quantizer))
            if equal := as_rsign(quantizer_of(call.layer)):
                self.plan.signs[call.name] = SignPlan(*equal)
        for call in self.graph.calls:
            inputs = [self._of(tensor) for tensor in inputs_of(call.node)]
            found = self._step(call, inputs)
            for tensor in tf.nest.flatten(call.outputs):
                self._moments[id(tensor)] = resized(found, channels_of(tensor))
        place_biases(self.graph, self.plan)
        return self.plan

    def _of(self, tensor: Any) -> Moments:
        return self._moments.get(id(tensor)) or unit(channels_of(tensor), given=True)

    def _step(self, call: Call, inputs: list[Moments]) -> Moments:
        layer, channels = call.layer, channels_of(call.first_output)
        if call.name in self.plan.signs:
            self._scale_sign(call, inputs[0])
        if is_batch_norm(layer):
            return self._norm(call, inputs[0])
        if has_kernel(layer):
            return activated(layer, self._kernel(call, inputs[0], channels))
        if is_sum(call):
            return self._sum(call, inputs)
        if quantizer_of(layer) is not None:
            return unit(channels)
        return through(call, inputs, channels)

    def _scale_sign(self, call: Call, x: Moments) -> None:
        plan = self.plan.signs[call.name]
        if call is self.graph.uses(call.name)[0]:
            plan.scale *= x.rate

    def _kernel(self, call: Call, x: Moments, channels: int) -> Moments:
        plan = self.plan.kernels.get(call.name)
        if plan is None:
            return unit(channels, given=True)
        if not has_sign_input(call) and call is self.graph.uses(call.name)[0]:
            plan.scale = x.rate
        return unit(channels)

    def _norm(self, call: Call, x: Moments) -> Moments:
        if call.name not in self.plan.norms:
            self.plan.norms[call.name] = self._plan_norm(call, x)
        kind = self.plan.norms[call.name].kind
        if kind in ("identity", "shift"):
            return x
        return unit(len(x.mean), given=kind == "affine" and x.given)

    def _plan_norm(self, call: Call, x: Moments) -> NormPlan:
        gamma, beta = factors(call.layer, len(x.mean))
        kernel = kernel_before(self.graph, call, positive=bool(np.all(gamma >= 0)))
        if kernel is not None and kernel.name in self.plan.kernels:
            plan = self.plan.kernels[kernel.name]
            plan.norm, plan.gain = call.name, gamma
            return NormPlan("kernel", (kernel.name,), beta)
        signs = signs_behind(self.graph, call, self.plan.signs, gamma)
        if signs is None:
            return affine_plan(call.layer, gamma, beta, x, self._why(call))
        for sign, kernels in signs:
            rsign = self.plan.signs[sign.name]
            rsign.shift = sign_shift(rsign, gamma, beta, x)
            for name in kernels:
                self.plan.flips[name] = np.where(gamma < 0, -1.0, 1.0)
        return NormPlan("shift", tuple(sign.name for sign, _ in signs), beta)

    def _why(self, call: Call) -> str:
        """Why a batch norm is neither the gain of a kernel nor the shift of a sign."""
        if len(self.graph.uses(call.name)) > 1:
            return "it is used more than once"
        readers = self.graph.consumers(call.first_output)
        if self.graph.is_output(call.first_output) or len(readers) > 1:
            return "more than a sign reads it"
        return "no kernel before it and no sign behind it can hold it"

    def _sum(self, call: Call, inputs: list[Moments]) -> Moments:
        tensors = inputs_of(call.node)
        place = stream_of(self.graph, call)
        if place is None:
            self.plan.unresolved[call.name] = "no input is the residual shortcut"
            return total(inputs)
        branches = []
        for n, (tensor, x) in enumerate(zip(tensors, inputs, strict=True)):
            if n != place:
                branches.append(x.times(self._scale_branch(call, tensor)))
        stream = self._average(tensors[place], inputs[place])
        counts = self.rule == "nf" or not is_first_sum(self.graph, tensors[place])
        return total([stream, *branches]) if counts else stream

    def _scale_branch(self, call: Call, tensor: Any) -> float:
        plans: dict[str, KernelPlan | NormPlan] = {
            **{n: p for n, p in self.plan.norms.items() if p.kind == "affine"},
            **self.plan.kernels,
        }
        setter = scale_setter(self.graph, tensor, set(plans))
        if setter is None:
            self.plan.unresolved[call.name] = "no layer can scale a branch on its own"
            return 1.0
        plans[setter].alpha = self.alpha
        return self.alpha

    def _average(self, tensor: Any, x: Moments) -> Moments:
        """A shortcut that averages on the way to a new stage starts at 1 again."""
        call = self.graph.producer(tensor)
        if (
            call is None
            or not isinstance(call.layer, keras.layers.AveragePooling2D)
            or max(call.layer.strides) == 1
            or len(self.graph.uses(call.name)) > 1
            or self.graph.sole_consumer(tensor) is None
            or np.isclose(x.rate, 1)
        ):
            return x
        self.plan.pools[call.name] = x.rate
        return x.times(x.rate)
