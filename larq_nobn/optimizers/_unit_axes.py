"""The axes of one unit of a weight, found by layer, by name or by rank."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from .._checks import check_integer, check_kind, check_list
from .._errors import InvalidType, InvalidValue
from .._keras import check_model, keras
from ._clipping import Axes
from ._variable_names import Names, exactly, first_match, key_of, paths_of

# The first matching row counts. Transposed kernels are (..., out, in). None means that
# the axes depend on the arguments of the layer.
_LAYERS: tuple[tuple[Any, str, Axes | None], ...] = (
    (keras.layers.LocallyConnected1D, "kernel", None),
    (keras.layers.LocallyConnected2D, "kernel", None),
    (keras.layers.EinsumDense, "kernel", None),
    (keras.layers.Conv1DTranspose, "kernel", (0, 2)),
    (keras.layers.Conv2DTranspose, "kernel", (0, 1, 3)),
    (keras.layers.Conv3DTranspose, "kernel", (0, 1, 2, 4)),
    (keras.layers.DepthwiseConv1D, "depthwise_kernel", (0,)),
    (keras.layers.DepthwiseConv2D, "depthwise_kernel", (0, 1)),
    (keras.layers.SeparableConv1D, "depthwise_kernel", (0,)),
    (keras.layers.SeparableConv1D, "pointwise_kernel", (0, 1)),
    (keras.layers.SeparableConv2D, "depthwise_kernel", (0, 1)),
    (keras.layers.SeparableConv2D, "pointwise_kernel", (0, 1, 2)),
    (keras.layers.Conv1D, "kernel", (0, 1)),
    (keras.layers.Conv2D, "kernel", (0, 1, 2)),
    (keras.layers.Conv3D, "kernel", (0, 1, 2, 3)),
    (keras.layers.Dense, "kernel", (0,)),
    (keras.layers.Embedding, "embeddings", (1,)),
)
_KERNEL_NAME = re.compile(r"(^|_)(kernel|weights?|w|variable)$", re.IGNORECASE)
# Default names of layers in Keras and Larq.
_LOCAL = re.compile(r"(^|_)locally_connected[12]d(_\d+)?$")
_TRANSPOSED = re.compile(r"(^|_)conv([123])d_transpose(_\d+)?$")


@functools.lru_cache(maxsize=8192)
def axes_of(
    names: Names,
    shape: tuple[int, ...],
    exclude: tuple[str, ...],
    unit_axes: tuple[tuple[str, Axes], ...],
) -> Axes | None:
    """Returns the axes of one unit of a variable; None if it is excluded."""
    if first_match(exclude, names) is not None:
        return None
    by_pattern, name = dict(unit_axes), names[0].lstrip("/")
    pattern = first_match(by_pattern, names)
    if pattern is None:
        return axes_by_name(name, shape)
    axes, rank = by_pattern[pattern], len(shape)
    if any(not -rank <= axis < rank for axis in axes):
        raise InvalidValue(
            f"unit_axes gives the axes {axes} to {name} of shape {shape}. "
            f"Its axes run from 0 to {rank - 1}."
        )
    return tuple(sorted({axis % rank for axis in axes}))


def axes_by_name(name: str, shape: Sequence[int]) -> Axes:
    """Returns the axes of one unit, from the name and the rank of a variable."""
    path, _, last = name.rpartition("/")
    leaf = re.sub(r"(_\d+)?(:\d+)?$", "", last)
    rank = len(shape)
    owner = path.rpartition("/")[2]
    if leaf == "kernel" and _LOCAL.search(owner):
        raise InvalidValue(_unknown_role(name, shape))
    transposed = _TRANSPOSED.search(owner)
    if leaf == "kernel" and transposed and rank == int(transposed[2]) + 2:
        return (*range(rank - 2), rank - 1)
    if leaf == "depthwise_kernel" and rank in (3, 4):
        return tuple(range(rank - 2))
    if leaf == "embeddings" and rank == 2:
        return (1,)
    if _KERNEL_NAME.search(leaf) and 2 <= rank <= 5:
        return tuple(range(rank - 1))
    if leaf == "plane" and rank == 2:  # of a SymmetricHead: each column is a unit
        return (0,)
    # Biases, gains and thresholds, also of shape (1, 1, C), and the slopes of a PReLU
    # are one unit.
    if leaf == "alpha" or sum(size != 1 for size in shape) <= 1:
        return tuple(range(rank))
    raise InvalidValue(_unknown_role(name, shape))


def axes_by_layer(
    model: keras.Model, is_settled: Callable[[Names], bool]
) -> dict[str, Axes]:
    """Returns `{pattern of its path: axes}` for the kernels of the layers in `model`.

    Variables that `is_settled` are skipped: the caller excludes them or has their axes.
    """
    check_model(model)
    if not model.built:
        raise InvalidValue(
            f"The model {model.name} has no weights yet. Build it or call it on data "
            "before reading the roles of its weights."
        )
    found: dict[str, Axes] = {}
    paths = paths_of(model)
    layer: Any
    for layer in model.submodules:
        for kind, attribute, axes in _LAYERS:
            variable = getattr(layer, attribute, None)
            if not isinstance(layer, kind) or variable is None:
                continue
            path = paths.get(key_of(variable), variable.name)
            if is_settled((path, variable.name)):
                break
            name = path.lstrip("/")
            if axes is None:
                raise InvalidValue(_unknown_role(name, variable.shape))
            if found.setdefault(exactly(path), axes) != axes:
                raise InvalidValue(
                    f"Two weights named {name} have different roles, in the "
                    f"layer {layer.name} and in another. Rename one of the layers."
                )
            if attribute == "kernel":
                break  # later rows are base classes of the same layer
    return found


def classifier_patterns(model: keras.Model) -> list[str]:
    """Returns patterns of the paths of the weights of the last layers with a kernel.

    The list is empty for a subclassed model, whose last layer is unknown.
    """
    if not getattr(model, "_is_graph_network", False):
        return []
    layers = [last_with_kernel(output) for output in model.outputs]
    weights = [v for layer in layers if layer for v in layer.trainable_weights]
    paths = paths_of(model)
    return list(dict.fromkeys(exactly(paths[key_of(v)]) for v in weights))


def last_with_kernel(tensor: Any) -> Any:
    """Returns the last layer with a kernel before a tensor; None if several are."""
    while True:
        layer, index, place = tensor._keras_history
        if getattr(layer, "_is_graph_network", False):
            return last_with_kernel(layer.outputs[place])
        if any(v.shape.rank > 1 for v in layer.trainable_weights):
            return layer
        inputs = layer.inbound_nodes[index].keras_inputs
        if len(inputs) != 1 or inputs[0] is tensor:
            return None
        tensor = inputs[0]


def check_patterns(name: str, patterns: Iterable[str]) -> tuple[str, ...]:
    """Returns `patterns` as a tuple if each is a regular expression."""
    if isinstance(patterns, str):
        raise InvalidType(
            f"{name}={patterns!r} is one string, not a tuple of regular expressions. "
            f"Write {name}=({patterns!r},)."
        )
    patterns = check_list(name, patterns)
    for pattern in patterns:
        try:
            re.compile(pattern)
        except (TypeError, re.error) as error:
            raise InvalidValue(
                f"{pattern!r} in {name} is not a regular expression ({error}). "
                'Use patterns such as "^head/".'
            ) from None
    return patterns


def check_unit_axes(unit_axes: Mapping[str, Any] | None) -> dict[str, Axes]:
    """Returns `unit_axes` as a dictionary if it maps patterns to axes."""
    if unit_axes is None:
        return {}
    wanted = 'a dictionary of axes by pattern, such as {"^head/": (0,)}'
    check_kind("unit_axes", unit_axes, Mapping, wanted)
    check_patterns("unit_axes", list(unit_axes))
    for pattern, axes in unit_axes.items():
        if isinstance(axes, str) or not isinstance(axes, Sequence):
            raise InvalidType(
                f"unit_axes={{{pattern!r}: {axes!r}}} gives no tuple of axes. Write "
                "(0, 1, 2) for a kernel, (0,) for a vector, () for single elements."
            )
        for axis in axes:
            advice = "Use axes such as (0, 1, 2)."
            check_integer("an axis in unit_axes", axis, -8, advice)
    return {pattern: tuple(map(int, axes)) for pattern, axes in unit_axes.items()}


def _unknown_role(name: str, shape: Sequence[int]) -> str:
    return (
        f"{name} of shape {tuple(shape)} has no known role, so its units are unknown. "
        "Give the axes of one unit in unit_axes={pattern: axes}, such as {'down': "
        "(0,)} for a matrix (inputs, outputs), exclude the variable from clipping by "
        "exclude, or train without AdaptiveGradientClipping (--clip-factor 0)."
    )
