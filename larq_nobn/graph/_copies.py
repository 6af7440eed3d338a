"""Builds models with new layers, and compares each copy with its layer.

Only a comparison tells whether a layer is fully described by its configuration and
weights: training may have changed a number that is a plain attribute in Python.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import product
from typing import Any

import numpy as np
import tensorflow as tf

from .._keras import alias, dtype_policy, keras
from .._larq import lq, unmeasured
from . import _models, _operation
from ._errors import LayerError, ModelError, raised_by
from ._examples import SIZES, in_range
from ._graph import Call, Graph, inputs_of

_log = logging.getLogger("larq_nobn")

# Bounds of whole numbers, tried until a layer accepts them, and scales of examples.
_WHOLE = (256, 2, 1)
_SCALES = (1.0, 100.0, 10.0, 0.1)
# A copy makes the same calls on the same machine: 16 units in the last place.
_EQUAL = {
    tf.float16: 2.0**-6,
    tf.bfloat16: 2.0**-3,
    tf.float32: 2.0**-19,
    tf.float64: 2.0**-48,
}


# A given layer, its copy, and whether they should be equal.
_Copy = tuple[keras.layers.Layer, keras.layers.Layer, bool]
# The name of a variable in a part of a layer, that part, and the part's copy.
_Use = tuple[str, keras.layers.Layer, keras.layers.Layer | None]


def to_keras(graph: Graph, float32: bool = False, shared: bool = False) -> keras.Model:
    """Builds the model that a graph describes, with the graph's weights.

    Names stay, a layer that is called twice stays one layer, and trainable flags,
    constraints and half precision stay.

    Arguments:
        float32: Whether all layers of the given model compute in float32.
        shared: Whether layers that no edit changed are the given ones, called again.
            Such a model is for internal use, and nothing in it may be changed.
            Otherwise all layers are new, except for those that have neither weights nor
            a configuration.

    Raises:
        ModelError: If a layer cannot be rebuilt, or if a copy of a given layer computes
            something else than that layer.
    """
    built: dict[int, keras.layers.Layer] = {}
    new: list[Call] = []

    def make(call: Call, values: list[Any]) -> Any:
        operation = call.operation
        if id(operation) not in built:
            if shared and _stays(operation, float32):
                layer = alias(operation.base, _name=operation.name)
            else:
                layer = _built(operation, float32)
                new.append(call)
            built[id(operation)] = layer
        with _own_policy(built[id(operation)]):
            return _models.run_call(call, built[id(operation)], values)

    starts = _models.inputs_like(graph.model)
    # Larq leaves its scope open when a layer fails, and latent weights then read as ±1.
    with lq.context.quantized_scope(False):
        ends = _models.rerun(graph, starts, make)
        if not shared:
            bases = [x.operation for x in new if x.operation.base is not None]
            copies = [(x.base, built[id(x)], x.is_given) for x in bases]
            _share(graph.model, copies)
        for call in new:
            _fill(call, built[id(call.operation)], float32)
    return _models.model_like(graph.model, starts, ends)


def _share(model: keras.Model, copies: Sequence[_Copy]) -> None:
    """Lets copies share variables as their layers do, but none with the layers.

    Raises:
        ModelError: If a copy has a variable of the given model.
    """
    theirs = {id(_operation.latent(weight)) for weight in model.weights}
    uses: dict[int, dict[Any, _Use]] = defaultdict(dict)
    for given, copy, same in copies:
        if any(id(_operation.latent(weight)) in theirs for weight in copy.weights):
            raise ModelError(
                f"Layer {copy.name!r} ({type(copy).__name__}) takes variables of the "
                "given model into its copy, and training one would change the other. "
                "Let its get_config return numbers or layers in the place of variables."
            )
        parts = given._flatten_layers(), copy._flatten_layers()
        for part, own in zip(*parts, strict=False):
            for name, variable in _operation.named(part).items():
                use = name, part, own if same else None
                uses[id(variable)].setdefault((given.name, id(part)), use)
    for places in uses.values():
        (name, part, first), *others = places.values()
        one = all(vars(x)[n] is vars(part)[name] for n, x, _ in others)
        if others and one and all(own is not None for *_, own in places.values()):
            for other_name, other, own in others:
                setattr(own, other_name, getattr(first, name))
                _in_order_of(other, own)
        elif others:
            names = dict.fromkeys(repr(name) for name, _ in places)
            _log.warning(
                "Layers %s share one variable, but have one each in the new model: let "
                "them share it again before you train it.",
                " and ".join(names),
            )


def _in_order_of(given: keras.layers.Layer, copy: keras.layers.Layer) -> None:
    """Sorts the variables of a copy as in its layer, after some were replaced."""
    attributes = _operation.named(given).items()
    made = {id(variable): getattr(copy, name) for name, variable in attributes}
    for kind in ("_trainable_weights", "_non_trainable_weights"):
        keys = [id(_operation.latent(weight)) for weight in vars(given)[kind]]
        if made.keys() >= {*keys}:
            vars(copy)[kind][:] = [made[key] for key in keys]


def _stays(operation: _operation.Operation, float32: bool) -> bool:
    """Whether an operation is a given layer in its own precision."""
    return operation.is_given and not (
        float32 and _operation.needs_float32(operation.base)
    )


def _built(operation: _operation.Operation, float32: bool) -> keras.layers.Layer:
    try:
        with _own_policy(None if float32 else operation.base):
            return operation.build(float32)
    except ModelError:
        base = operation.base
        if base is None or not _stays(operation, float32) or base.weights:
            raise
        return alias(base, _name=operation.name)


def _fill(call: Call, layer: keras.layers.Layer, float32: bool) -> None:
    """Sets the state of a new layer, and compares it with the layer it copies."""
    operation = call.operation
    operation.fill(layer)
    base = operation.base
    if base is None:
        return
    if not _stays(operation, float32):
        if not _operation.is_foreign(base):
            return
        # The layer was changed, so an unchanged copy of its base is compared instead.
        with _own_policy(base):
            layer = _operation.rebuild(base)
    check_copy(call, base, layer)


def copied(model: keras.Model) -> keras.Model:
    """Returns a model of new layers; nested models stay nested.

    Raises:
        ModelError: If a layer cannot be rebuilt, or its copy computes something else.
    """
    new: dict[int, keras.layers.Layer] = {}
    copies: list[_Copy] = []

    def copy(layer: keras.layers.Layer) -> keras.layers.Layer:
        if id(layer) not in new and isinstance(layer, keras.Model):
            new[id(layer)] = clone(layer)
        elif id(layer) not in new:
            with _own_policy(layer):
                new[id(layer)] = _operation.rebuild(layer)
            copies.append((layer, new[id(layer)], True))
        return new[id(layer)]

    def clone(model: keras.Model) -> keras.Model:
        made = keras.models.clone_model(model, clone_function=copy)
        made._trainable = model._trainable  # without changing that of its layers
        return made

    foreign = filter(_operation.is_foreign, model._flatten_layers(include_self=False))
    halves = filter(_operation.needs_float32, foreign)
    with lq.context.quantized_scope(False):
        with (
            _own_policy(next(halves, None)),
            raised_by(model, "cannot be rebuilt from its configuration"),
        ):
            copied_model = clone(model)
        _share(model, copies)
        _operation.take_state(copied_model, model)
        for call, _ in _models.all_calls(model):
            check_copy(call, call.node.layer, new[id(call.node.layer)])
    return copied_model


@contextmanager
def _own_policy(layer: keras.layers.Layer | None) -> Iterator[None]:
    """Sets the dtype policy of what a user's layer builds, now or when first called.

    It is the layer's own policy, under which it was most likely made.
    """
    policy = "" if layer is None else layer.dtype_policy.name
    own = "float" in policy and _operation.is_foreign(layer)
    with dtype_policy(policy) if own else nullcontext():
        yield


def check_copy(call: Call, given: keras.layers.Layer, copy: keras.layers.Layer) -> None:
    """Checks that a copy computes what its layer does, on generated inputs.

    If the copy is not built yet, it gets its state here.

    Raises:
        ModelError: If it computes something else, or if the layer has weights and
            cannot be called on any generated inputs.
    """
    if _operation.is_function(given):  # both call the same function
        return
    try:
        inputs, made = _called(call, given)
    except LayerError as error:
        if given.weights:
            raise
        _log.warning("A copy of a layer was not compared with it: %s", error)
        return
    if not copy.built:
        with _own_policy(given):
            _models.run_call(call, copy, inputs)
        _operation.take_state(copy, given)
    # A random layer also differs from itself.
    if _equal(made, _outputs(call, copy, inputs)):
        return
    if _equal(made, _outputs(call, given, inputs)):
        raise ModelError(
            f"Layer {given.name!r} ({type(given).__name__}) depends on more than its "
            "configuration and its weights: a copy of it computes something else. "
            "Keep what its output depends on in a weight, or let get_config return it."
        )


def _called(call: Call, given: keras.layers.Layer) -> tuple[list[Any], list[Any]]:
    """Returns inputs that a layer can be called on, and its outputs for them."""
    reads = inputs_of(call.node)
    is_open = any(None in read.shape[1:] for read in reads)
    for side, whole in product(SIZES if is_open else SIZES[:1], _WHOLE):
        inputs = [_made_up(read, side, whole) for read in reads]
        # Larq leaves its scope open when a layer fails.
        with lq.context.quantized_scope(False):
            try:
                return inputs, _outputs(call, given, inputs)
            except LayerError as error:
                reason = error
    raise LayerError(
        f"{reason} It cannot be compared with its copy unless it takes any numbers of "
        "the shape and type of its inputs."
    ) from reason


def _made_up(tensor: Any, side: int, whole: int) -> tf.Tensor:
    shape = [len(_SCALES), *(size or side for size in tensor.shape[1:])]
    numbers = (np.random.default_rng(0).normal(size=shape).T * _SCALES).T
    if not tensor.dtype.is_floating:
        numbers = in_range(numbers, np.dtype(tensor.dtype.as_numpy_dtype), whole)
    return tf.cast(numbers[: tensor.shape[0]], tensor.dtype)


def _outputs(call: Call, layer: keras.layers.Layer, inputs: list[Any]) -> list[Any]:
    """Returns the outputs of a layer at inference; keeps its state and metrics."""
    with unmeasured(layer):
        made = _models.run_call(call, layer, inputs, False)
    return tf.nest.flatten(made, expand_composites=True)


def _equal(first: list[Any], second: list[Any]) -> bool:
    return len(first) == len(second) and all(map(_is_equal, first, second))


def _is_equal(a: tf.Tensor, b: tf.Tensor) -> bool:
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if not a.dtype.is_floating:
        return np.array_equal(a, b)
    first, second = (np.atleast_1d(np.asarray(x, np.float64)) for x in (a, b))
    finite = np.abs(np.where(np.isfinite(first), first, 0))
    sizes = finite.max(tuple(range(1, first.ndim)), keepdims=True, initial=0)
    with np.errstate(invalid="ignore"):  # inf - inf
        near = np.abs(first - second) <= _EQUAL[a.dtype] * sizes
    return bool(np.all(near | (first == second) | np.isnan(first) & np.isnan(second)))
