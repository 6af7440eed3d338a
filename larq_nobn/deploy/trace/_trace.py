"""A model as one graph of operations."""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from ..._keras import keras
from ..._math import unfused
from ...graph import _errors, _models, _operation
from ...loading._foreign import layers_of
from .._errors import ConversionError
from ..lite._converter import Function, IoSpec, quiet
from ._constants import constant, fold_constants
from ._form import Form, Number
from ._inference import LayerCall, as_built, at_inference, noting_calls
from ._operation_names import layer_of
from ._signs import (
    NOTHING,
    RESHAPES,
    TracedSign,
    TracedSum,
    has_examples,
    is_zero_at_zero,
    sign_taken_by,
    signs_of,
)

# The place of the input of operations with a kernel; the other input is the kernel.
INPUTS = {
    "Conv2D": 0,
    "DepthwiseConv2dNative": 0,
    "Conv3D": 0,
    "MatMul": 0,
    "BatchMatMulV2": 0,
    "Conv2DBackpropInput": 2,
    "Conv3DBackpropInputV2": 2,
}
# A sign passes through these on its way into a convolution.
_PADS = ("Pad", "PadV2", "SpaceToBatchND")
_RANDOM = re.compile("Random|Rng|Multinomial|TruncatedNormal|StatefulUniform")
_ASSIGNS = re.compile("Assign.*VariableOp|Resource(Scatter|Apply).*")


class TracedKernel(NamedTuple):
    """An operation that multiplies by a constant kernel.

    `source` makes its input, before pads and reshapes.
    """

    op: Any
    layer: str
    kernel: np.ndarray
    source: Any

    @property
    def signs(self) -> bool:
        """Whether its input consists of signs of ±1."""
        taken = sign_taken_by(self.source)
        return taken is not None and not is_zero_at_zero(self.source)

    @property
    def read(self) -> Any:
        return next(x for x in self.op.inputs[::-1] if constant(x) is None)


class Trace:
    """The operations of a model's inference function, each after those that it reads.

    Whatever depends on no input is computed here, once, such as quantized kernels; LCE
    itself would compute some of it in every run. If there is a `function`, it is traced
    instead of the model. `inputs` and `outputs` are tensors of these operations.
    """

    def __init__(
        self, model: keras.Model, io: IoSpec, function: Function | None = None
    ):
        self.model, self.io = model, io
        traced = as_built(function or partial(_models.inference, model))
        tracing = _errors.raised_by(model, "cannot be traced", kind=ConversionError)
        calls = list[LayerCall]()
        with quiet():
            with unfused(), at_inference(), tracing, noting_calls(calls):
                concrete = traced.get_concrete_function(*io.inputs)
            if function is None:
                _check_inference(concrete.graph.as_graph_def(), model)
            folded = fold_constants(concrete, model, calls)
        self.inputs, self.outputs = folded.inputs, folded.outputs
        self.operations = folded.graph.get_operations()

        def own(tensors: Sequence[Any]) -> list[Any]:
            names = [(folded.names.get(x.op.name), x) for x in tensors]
            known = [f"{n}:{x.value_index}" for n, x in names if n and x.graph is there]
            return [folded.graph.get_tensor_by_name(name) for name in known]

        there = concrete.graph
        self.calls = [
            x._replace(inputs=own(x.inputs), outputs=own(x.outputs)) for x in calls
        ]
        if folded.functions.library.function:  # the bodies of loops, for eager calls
            bodies = partial(tf.graph_util.import_graph_def, folded.functions, name="")
            tf.compat.v1.wrap_function(bodies, [])

    @cached_property
    def ends(self) -> list[str]:
        """The layers that make the outputs; identities after them are left out."""
        ends = []
        for op in (tensor.op for tensor in self.outputs):
            while op.type in NOTHING:
                op = op.inputs[0].op
            ends.append(layer_of(op))
        return ends

    @cached_property
    def form(self) -> Form:
        numbers = dict[Any, Number]()
        for made in (tensor for op in self.operations for tensor in op.outputs[:1]):
            value = constant(made)
            if value is not None:
                numbers[made] = value, value if made.dtype.is_floating else None
        return Form(self.inputs, self.outputs, lambda x: x, numbers)

    def signs(self) -> list[TracedSign]:
        """Lists the signs whose inputs are known, as `signs_of`."""
        return signs_of(self.operations, self.io.batch_size)

    def cuts(self, sums: Container[str]) -> list[TracedSign | TracedSum]:
        """Lists the signs, and the sums of these names, in the order of the trace."""
        places = {op.name: place for place, op in enumerate(self.operations)}
        cuts: list[TracedSign | TracedSum] = [*self.signs()]
        for op in self.operations:
            if op.name in sums and has_examples(op.outputs[0], self.io.batch_size):
                cuts.append(TracedSum(op.outputs[0], tuple(op.inputs), layer_of(op)))
        return sorted(cuts, key=lambda cut: places[cut.value.op.name])

    @cached_property
    def owners(self) -> dict[str, LayerCall]:
        """The innermost layer call that made an operation, by the operation's name."""
        owners: dict[str, LayerCall] = {}
        for call in self.calls:
            ends, left = {x.name for x in call.inputs}, list(call.outputs)
            seen = set[str]()
            while left:
                tensor = left.pop()
                if tensor.name not in ends and tensor.op.name not in seen:
                    seen.add(tensor.op.name)
                    owners.setdefault(tensor.op.name, call)
                    left += tensor.op.inputs
        return owners

    @cached_property
    def kernels(self) -> list[TracedKernel]:
        """The operations with a constant kernel, in their order."""
        kernels = []
        for op in self.operations:
            place = INPUTS.get(op.type)
            if place is None or len(op.inputs) < 2:
                continue
            if place == 0 and constant(op.inputs[0]) is not None:  # kernel @ x
                place = 1
            kernel = constant(op.inputs[1 if place != 1 else 0])
            if kernel is None:
                continue
            source = op.inputs[place].op
            while source.type in NOTHING + _PADS + RESHAPES:
                source = source.inputs[0].op
            kernels.append(TracedKernel(op, layer_of(op), kernel, source))
        return kernels


def _check_inference(graph: Any, model: keras.Model) -> None:
    """Rejects random numbers and assignments, which belong to training."""
    names = {layer.name for layer in layers_of(model)}
    functions = (node for f in graph.library.function for node in f.node_def)
    for node in (*graph.node, *functions):
        random, assigns = _RANDOM.search(node.op), _ASSIGNS.fullmatch(node.op)
        if random or assigns:
            scopes = node.name.split("/")
            layer = next((scope for scope in scopes[::-1] if scope in names), scopes[0])
            effect = "draws random numbers" if random else "changes its variables"
            more = ", or leave it out" if random else f", and {_operation.UNWRAP}"
            raise ConversionError(
                f"Model {model.name!r} {effect} at inference, which a file cannot "
                f"(operation {node.op!r} of layer {layer!r}). Call that layer "
                f"without training=True{more}."
            )
