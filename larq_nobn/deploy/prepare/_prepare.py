"""Rewrites a trained model into the float32 inference form that converts exactly."""

from __future__ import annotations

from collections.abc import Container, Iterator
from contextlib import contextmanager
from functools import partial

from ..._keras import dtype_policy, keras
from ..._larq import lq
from ...graph import _copies, _errors, _graph
from ...rewrites._rule import GraphRule, everywhere, once
from .._errors import UnreadableError
from .._opening import as_functional
from . import _affine, _at_inference
from ._binary_layers import binary_layer
from ._lift import reshape_after
from ._padding import trim_padding


def rules(in_float: Container[str] = ()) -> tuple[GraphRule, ...]:
    """For each layer the first rule that fits; each keeps its name and function.

    Arguments:
        in_float: The names of binary layers that stay as they are.
    """
    return (
        _at_inference.identity_goes,
        _at_inference.random_crop_resizes,
        _at_inference.sign_is_plain,
        _at_inference.rprelu_is_plain,
        _at_inference.layer_is_affine,
        _at_inference.normalization_is_affine,
        _at_inference.dynamic_tanh_in_parts,
        _at_inference.proxy_norm_in_parts,
        _at_inference.head_is_dense,
        _at_inference.group_norm_is_plain,
        binary_layer(in_float),
        _at_inference.kernel_is_numbers,
    )


# Then, on the graph of such layers; what the first make free is nothing to the next.
PASSES = (
    _affine.merge,
    partial(once, rules=(_affine.clear_opposite,)),
    partial(once, rules=(_affine.spell_affine,)),
)


def prepare(
    model: keras.Model, in_float: Container[str] = (), shared: bool = True
) -> keras.Model:
    """Returns a float32 model of the same function, in its inference form.

    The given model is not touched. Layer names stay, so that a finding about the new
    model names a layer of the old. Binary layers named `in_float` stay as they are, but
    for their kernels.

    Arguments:
        model: A functional model.
        in_float: The names of binary layers that stay as they are.
        shared: As in `graph.to_keras`.
    """
    graph = at_inference(model, in_float)
    for rewrite in PASSES:
        graph = rewrite(graph)
    prepared = built(graph, shared)
    # The short name leaves room: LCE cuts the names of tensors at 50 characters.
    return keras.Model(prepared.inputs, prepared.outputs, name="net")


def at_inference(model: keras.Model, in_float: Container[str] = ()) -> _graph.Graph:
    """Reads a model, and writes each of its layers as it is at inference.

    Arguments:
        model: A functional model.
        in_float: The names of binary layers that stay as they are.
    """
    # What the rules make of halves would be rounded to halves.
    if _is_in_other_type(model):
        model = in_float32(model)
    graph = _graph.Graph(as_functional(model))
    with _readable(model):
        graph = once(graph, rules(in_float))
    return everywhere(everywhere(graph, reshape_after), trim_padding)


def in_float32(model: keras.Model) -> keras.Model:
    """Returns the model with those of its layers again that compute in other floats."""
    return built(_graph.Graph(as_functional(model)), shared=True)


def built(graph: _graph.Graph, shared: bool = False) -> keras.Model:
    """Builds the float32 model of a graph.

    Arguments:
        graph: A graph.
        shared: As in `graph.to_keras`.

    Raises:
        UnreadableError: If that cannot be.
    """
    with _readable(graph.model):
        return _copies.to_keras(graph, float32=True, shared=shared)


def _is_in_other_type(model: keras.Model) -> bool:
    others = ("float16", "bfloat16", "float64")
    return any(layer.compute_dtype in others for layer in model.layers)


def half_precision(model: keras.Model) -> str | None:
    """Returns the policy of a layer that computes in half precision, if any does."""
    policies = (layer.dtype_policy for layer in model.layers)
    halves = (p.name for p in policies if p.compute_dtype in ("float16", "bfloat16"))
    return next(halves, None)


@contextmanager
def _readable(model: keras.Model) -> Iterator[None]:
    # Larq leaves its scope open when a layer fails, and latent weights then read as ±1.
    with dtype_policy("float32"), lq.context.quantized_scope(False):
        try:
            yield
        except _errors.ModelError as error:
            more = ""
            if isinstance(error, _errors.LayerError) and _is_in_other_type(model):
                more = " It computes in float32 there: remove casts to other types."
            raise UnreadableError(f"{error}{more}") from error
