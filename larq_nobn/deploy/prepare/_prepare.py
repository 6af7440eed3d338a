"""Rewrites a trained model into the float32 inference form that converts exactly."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from functools import partial
from typing import Any, NamedTuple

import larq as lq
import numpy as np

from ..._keras import dtype_policy, keras
from ...graph import (
    Call,
    ModelError,
    as_quantizer,
    is_identity,
    kernel_value,
    rebuild,
    replace_layers,
    to_keras,
)
from ...layers import RPReLU
from ...quantizers import RSign
from ...rewrites import everywhere
from .._errors import ConversionError, UnreadableError
from .._normal import given_name
from .._opening import as_functional
from ._affine import (
    bias_into_relu,
    clear_thresholds,
    drop_scale,
    merge,
    scale_into_readers,
)
from ._factors import absorb_factors
from ._inference import PlainGroupNormalization, PlainRPReLU
from ._plain import plain_affine, plain_head, plain_proxy_norm
from ._quantizers import copy_quantizer, nothing, plain_sign, plain_ternary
from ._reading import read, spell_affines
from ._shifts import move_shifts
from ._softplus import bound_softplus
from ._trimming import trim_padding
from .rewrites import binary_layer, lift_to_maps

# The kernels that a Larq layer may quantize, and the argument that says how.
_KERNELS = {
    "kernel": "kernel_quantizer",
    "depthwise_kernel": "depthwise_quantizer",
    "pointwise_kernel": "pointwise_quantizer",
}


class Replacement(NamedTuple):
    """A new layer, or several in a row, or none; and what fills the weights once built.

    A function stands for several layers, and None for none.
    """

    layer: Callable[..., Any] | None
    fill: Callable[[], None] = nothing


def drop_nothing(call: Call) -> Replacement | None:
    """What at inference does nothing is left out: dropout, noise and their kin."""
    return Replacement(None) if is_identity(call.node) else None


def plain_sign_layer(call: Call) -> Replacement | None:
    """What quantizes as a layer of its own: an RSign loses its scale, a ternary
    quantizer is spelled for the converter. So is a function that is a known sign.
    """
    layer = call.layer
    given = layer.activation if type(layer) is keras.layers.Activation else layer
    if isinstance(given, RSign):
        return Replacement(plain_sign(given, call.name))
    if type(given) is lq.quantizers.SteTern:
        return Replacement(plain_ternary(given, call.name))
    new = as_quantizer(given, name=call.name)
    return None if new is given else Replacement(new)


def plain_rprelu(call: Call) -> Replacement | None:
    """An RPReLU is spelled for the converter; training spells it for speed."""
    if not isinstance(call.layer, RPReLU):
        return None
    layer = call.layer
    weights = (layer.shift_in, layer.effective_slope(), layer.shift_out)
    values = [weight.numpy() for weight in weights]
    return Replacement(PlainRPReLU(*values, name=layer.name))


def plain_layers(call: Call) -> Replacement | None:
    """Batch norm and its kin become a gain and an offset; Proxy Norm group norm,
    activation and a constant shift; a symmetric head a dense layer.
    """
    found = plain_affine(call) or plain_proxy_norm(call) or plain_head(call)
    return None if found is None else Replacement(found)


def plain_group_norm(call: Call) -> Replacement | None:
    """Keras' group norm over the last axis, in the form that runs as it should."""
    layer = call.layer
    kind = keras.layers.GroupNormalization
    if type(layer) is not kind or layer.axis not in (-1, call.inputs.shape.rank - 1):
        return None
    channels = call.inputs.shape[-1]
    new = PlainGroupNormalization(
        layer.groups,
        layer.epsilon,
        gamma=layer.gamma.numpy() if layer.scale else np.ones(channels),
        beta=layer.beta.numpy() if layer.center else np.zeros(channels),
        name=layer.name,
    )
    return Replacement(new)


def fold_binary_layer(call: Call) -> Replacement | None:
    """A binary layer becomes a binary convolution, or several.

    They have ±1 in their kernels, and the scale after.
    """
    found = binary_layer(call)
    return None if found is None else Replacement(*found)


def fold_kernels(call: Call) -> Replacement | None:
    """Any other quantized kernel becomes the float values that it stands for."""
    layer = call.layer
    folded = [name for name, of in _KERNELS.items() if getattr(layer, of, None)]
    if not folded and getattr(layer, "input_quantizer", None) is None:
        return None
    plain = {_KERNELS[name]: None for name in folded}
    new = rebuild(layer, float32=True, name=call.name, **plain, input_quantizer=None)
    new.input_quantizer, fill_quantizer = copy_quantizer(layer.input_quantizer)

    def fill() -> None:
        fill_quantizer()
        for name in (*_KERNELS, "bias"):
            variable = getattr(layer, name, None)
            if variable is not None:
                getattr(new, name).assign(kernel_value(variable))

    return Replacement(new, fill)


def copy(call: Call) -> Replacement:
    """The same layer again, in float32."""
    new = rebuild(call.layer, float32=True, name=call.name)
    return Replacement(new, lambda: new.set_weights(call.layer.get_weights()))


# For each layer the first rule that fits; each keeps the layer's name and function.
RULES = (
    drop_nothing,
    plain_sign_layer,
    plain_rprelu,
    plain_layers,
    plain_group_norm,
    fold_binary_layer,
    fold_kernels,
    copy,
)

# Then, on layers in a row, whose shapes differ.
_ROWS = (lift_to_maps, trim_padding)

# Then, on the graph; what the first make free is nothing to the next.
PASSES = (
    merge,
    partial(everywhere, rule=scale_into_readers),
    absorb_factors,
    partial(everywhere, rule=bias_into_relu),
    move_shifts,
    partial(everywhere, rule=drop_scale),
    clear_thresholds,
    spell_affines,
)


def prepare(model: keras.Model, in_float: Container[str] = ()) -> keras.Model:
    """Returns a new float32 model of the same function, in its inference form.

    The given model is not touched. Layer names stay, so that a finding about the new
    model names a layer of the old. Binary layers named `in_float` stay as they are, but
    for their kernels.
    """
    # What the rules make of weights that are halves would be rounded to halves.
    if any(weight.dtype.size == 2 for weight in model.weights):
        model = in_float32(model)

    def fold_unless_float(call: Call) -> Replacement | None:
        named = given_name(call.name) in in_float
        return None if named else fold_binary_layer(call)

    other = {fold_binary_layer: fold_unless_float}
    prepared = _clone(model, [other.get(rule, rule) for rule in RULES])
    for change in _ROWS:
        prepared = change(prepared)
    graph = read(prepared)
    for rewrite in PASSES:
        graph = rewrite(graph)
    prepared = bound_softplus(to_keras(graph))
    # The short name leaves room: LCE cuts the names of tensors at 50 characters.
    return keras.Model(prepared.inputs, prepared.outputs, name="net")


def in_float32(model: keras.Model) -> keras.Model:
    """Returns the same layers and weights again, computing in float32."""
    return _clone(model, (copy,))


def half_precision(model: keras.Model) -> str | None:
    """Returns the policy of a layer that computes in half precision, if any does."""
    policies = (layer.dtype_policy for layer in model.layers)
    halves = (p.name for p in policies if p.compute_dtype in ("float16", "bfloat16"))
    return next(halves, None)


def _clone(
    model: keras.Model, rules: Sequence[Callable[[Call], Replacement | None]]
) -> keras.Model:
    given = as_functional(model)
    fills = []

    def replace(call: Call) -> Callable[..., Any] | None:
        found = next(filter(None, (rule(call) for rule in rules)))
        fills.append(found.fill)
        return found.layer

    # Larq leaves its scope open when a layer fails, and latent weights then read as ±1.
    with dtype_policy("float32"), lq.context.quantized_scope(False):
        try:
            cloned = replace_layers(given, replace)
        except ConversionError:
            raise
        except ModelError as error:
            raise UnreadableError(str(error)) from error
        except Exception as error:  # whatever a user's layer raises when called
            raise UnreadableError(
                f"Model {model.name!r} cannot be rebuilt in float32: {error}. Remove "
                "casts to other types from its layers."
            ) from error
        for fill in fills:
            fill()
    return cloned
