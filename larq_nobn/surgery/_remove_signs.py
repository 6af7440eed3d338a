"""The signs of a network, as signs of a scale and a shift."""

from __future__ import annotations

from typing import Any

import larq as lq

from .._keras import keras
from ..graph import TRAINING_ONLY, Call, Graph, is_binary, sign_of
from ..quantizers import RSign, SigmoidSign
from ._remove_plan import SignPlan
from ._remove_walks import QUANTIZED, has_kernel, kernel_name, output_of


def quantizer_of(layer: keras.layers.Layer) -> Any:
    """The sign that a layer begins with or is; None where there is none."""
    inner = getattr(layer, "input_quantizer", None)
    return inner if is_binary(inner) else sign_of(layer)


def plan_sign(quantizer: Any) -> SignPlan | None:
    """The `RSign` of the same estimator, if there is one.

    That of `SteSign` passes gradients between -1 and 1 of the scaled input; for another
    window the scale makes up, which also divides the gradients by it.
    """
    if type(quantizer) is RSign:
        shift = None if quantizer.shift is None else quantizer.shift.numpy()
        return SignPlan(quantizer.estimator, quantizer.scale, shift)
    if type(quantizer) is SigmoidSign:
        return SignPlan("sigmoid_sign", quantizer.slope / 3)
    if type(quantizer) is lq.quantizers.ApproxSign:
        return SignPlan("approx_sign", 1.0)
    if type(quantizer) is lq.quantizers.SteSign and quantizer.clip_value:
        return SignPlan("ste_sign", 1 / quantizer.clip_value)
    return None


def flippable(graph: Graph, sign: Call) -> list[str] | None:
    """The layers whose kernels can turn the signs of a call around, channel by channel.

    None if something else reads them too, or a kernel does that has other inputs.
    """
    readers = [sign]
    if not has_kernel(sign.layer):
        if graph.is_output(output_of(sign)):
            return None
        readers = graph.consumers(output_of(sign))
    found: list[str] = []
    for reader in readers:
        layer = reader.layer
        if isinstance(layer, TRAINING_ONLY):
            further = flippable(graph, reader)
            if further is None:
                return None
            found += further
        elif (
            type(layer) in (*QUANTIZED, *QUANTIZED.values())
            and kernel_name(layer) == "kernel"
            and getattr(layer, "groups", 1) == 1
            and len(graph.uses(reader.name)) == 1
        ):
            found.append(reader.name)
        else:
            return None
    return found
