"""Opens models as graphs, runs and rebuilds their calls, and checks their mode."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from .._keras import alias, keras, why_no_model
from .._larq import lq, unmeasured
from ..layers import BatchKalmanNormalization
from ._errors import ModelError, raised_by
from ._graph import Call, Graph, calls_of, free_name, inputs_of
from ._signs import sign_of_activation
from ._traits import function_traits, inherited, traits

# A layer, or a function that calls several layers in a row.
Layers = Callable[..., Any]
Make = Callable[[Call, list[Any]], Any]
_log = logging.getLogger("larq_nobn")
UNCALLED = "cannot be called"


def rerun(graph: Graph, starts: Sequence[Any], make: Make) -> list[Any]:
    """Repeats the calls of a graph on other values, and returns the outputs.

    Arguments:
        starts: Values in the place of the inputs.
        make: Function of a call and of the values of the tensors that it reads; returns
            the values of the tensors that it makes.
    """
    tensors = dict(zip(map(id, graph.model.inputs), starts, strict=True))
    ends = [id(end) for end in graph.outputs]
    last = {id(edge): call for call in graph.calls for edge in call.reads}
    for call in graph.calls:
        made = tf.nest.flatten(make(call, [tensors[id(edge)] for edge in call.reads]))
        for key in {*map(id, call.reads)} - {*ends}:
            if last[key] is call:
                del tensors[key]
        # A state of training that inference does not compute may be missing at the end.
        pairs = zip(tf.nest.flatten(call.outputs), made, strict=False)
        tensors.update((id(edge), tensor) for edge, tensor in pairs)
    return [tensors[end] for end in ends]


def inference(model: keras.Model, inputs: Sequence[Any]) -> list[Any]:
    """Computes the outputs by the model's own call; takes and returns flat lists."""
    packed = tf.nest.pack_sequence_as(model._nested_inputs, list(inputs))
    with unmeasured(model):
        return tf.nest.flatten(model(packed, training=False))


def call_by_call(model: keras.Model, inputs: Sequence[Any]) -> list[Any]:
    """Computes the outputs by the calls of inference alone, one after another.

    Unlike the model's own call, this keeps the uses of a layer in the order in which
    they were made, and skips calls that no output depends on.
    """

    def make(call: Call, values: list[Any]) -> Any:
        return run_call(call, call.layer, values, False)

    return rerun(Graph(model), inputs, make)


def replace_layers(
    model: keras.Model, replacement: Callable[[Call], Layers]
) -> keras.Model:
    """Builds a model from the calls of inference, with other layers.

    Keras' `clone_model` would also replace layers that only training needs, and call
    them on all inputs. `replacement` returns a layer for the first call of each layer,
    or a function that calls several.
    """
    layers: dict[str, Layers] = {}

    def make(call: Call, values: list[Any]) -> Any:
        if call.name not in layers:
            layers[call.name] = replacement(call)
        return run_call(call, layers[call.name], values)

    starts = inputs_like(model)
    return model_like(model, starts, rerun(Graph(model), starts, make))


def inputs_like(model: keras.Model) -> list[Any]:
    """Returns new inputs with the shapes, types and names of a model's."""
    return [
        keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=name)
        for tensor, name in zip(model.inputs, model.input_names, strict=True)
    ]


def model_like(model: keras.Model, starts: list[Any], ends: list[Any]) -> keras.Model:
    """Returns a model between tensors, nested as the inputs and outputs of another."""
    inputs = tf.nest.pack_sequence_as(model._nested_inputs, starts)
    outputs = tf.nest.pack_sequence_as(model._nested_outputs, ends)
    return keras.Model(inputs, outputs, name=model.name)


def run_call(
    call: Call, layer: Layers, values: Sequence[Any], training: Any = None
) -> Any:
    """Repeats a call with another layer, on other values.

    `training` is the mode if the call fixes none; None leaves it open.
    """
    own: Any = layer if call.node is None else call.node.layer
    named = layer if isinstance(layer, keras.layers.Layer) else own
    # The call is of a new operation, or its state is left out.
    if call.node is None or isinstance(own, BatchKalmanNormalization):
        with raised_by(named, UNCALLED):
            return layer(values if len(values) > 1 else values[0])
    args, kwargs = tf.nest.map_structure(
        partial(_as_wide, call, values), call.arguments(values)
    )
    if type(layer) is not type(own):
        # Another class need not take a fixed `training`.
        kwargs.pop("training", None)
        kwargs.pop("mask", None)  # batch norm, say, reads it in training
        args = args[:1]
    expects = getattr(layer, "_expects_training_arg", False)
    if training is not None and expects and training_argument(call) is None:
        args, kwargs = own._call_spec.set_arg_value(
            "training", training, args, kwargs, inputs_in_args=True
        )
    with raised_by(named, UNCALLED):
        return layer(*args, **kwargs)


def _as_wide(call: Call, values: Sequence[Any], argument: Any) -> Any:
    """Returns a half-precision constant in the type that the tensors have now."""
    for old, new in zip(inputs_of(call.node), values, strict=True):
        constant = argument is not new and isinstance(argument, tf.Tensor | np.ndarray)
        half = old.dtype in (tf.float16, tf.bfloat16)
        if constant and half and old.dtype == argument.dtype:
            return tf.cast(argument, new.dtype)
    return argument


# The `call` of Sequential and functional models, which runs only the layer graph.
_PLAIN = {kind.call for kind in keras.Sequential.__mro__[:2]}


def flattened(model: Any) -> keras.Model:
    """Returns a functional model of the same inference function and the same layers.

    Each layer is an `alias` of one in the model, with the same variables. Models inside
    the model are opened, so that all layers are in one graph; if two layers would share
    a name, the later one gets the name of its model in front. A sign that is the
    activation of a layer becomes a layer after it. Inputs that only training needs are
    left out: the states of Kalman normalizations, and preconditioning.

    Raises:
        ModelError: If it is, or contains, a subclassed model; it names all of these.
    """
    check_readable(model)
    starts = inputs_like(model)
    with lq.context.quantized_scope(False):
        ends = _Opener(model).run(model, starts, None)
    return model_like(model, starts, ends)


def flat(model: Any) -> keras.Model:
    """Returns `flattened(model)`, and warns if losses or metrics are lost.

    These are the ones that were added to a model itself instead of a layer.
    """
    made = flattened(model)
    added = any(
        type(layer).__name__ in ("AddLoss", "AddMetric")
        or (isinstance(layer, keras.Model) and layer._callable_losses)
        for layer in model._flatten_layers()
    )
    if added:
        _log.warning(
            "Model %r has losses or metrics of its add_loss or add_metric, and the "
            "new model lacks them: add them there again before you train it.",
            model.name,
        )
    return made


def from_keras(model: Any) -> Graph:
    """Returns the graph of a functional or Sequential model, nested models opened."""
    return Graph(flat(model))


class _Opener:
    """Repeats the calls of a model and of its nested models, with aliases of layers."""

    def __init__(self, model: keras.Model) -> None:
        self._layers: dict[int, Layers] = {}
        self._names = set(model.input_names)
        self._given = {layer.name for layer in model._flatten_layers()}

    def run(self, model: keras.Model, starts: list[Any], training: Any) -> list[Any]:
        """Repeats a model's calls, in a mode of training if one is fixed."""

        def make(call: Call, values: list[Any]) -> Any:
            if isinstance(call.layer, keras.Model):
                (first, *_), _ = call.arguments(values)
                flat = call.layer._flatten_to_reference_inputs(first)
                inner = list(map(_as_own_input, call.layer.inputs, flat))
                fixed = training_argument(call)
                return self.run(call.layer, inner, training if fixed is None else fixed)
            # Layers that replace a batch norm later take only floats.
            if is_batch_norm(call.layer) and not values[0].dtype.is_floating:
                values[0] = tf.cast(values[0], call.first_output.dtype)
            return run_call(call, self._layer(model, call), values, training)

        return rerun(Graph(model), starts, make)

    def _layer(self, model: keras.Model, call: Call) -> Layers:
        layer = call.layer
        if id(layer) not in self._layers:
            name, sign = self._name(call.name, model), sign_of_activation(layer)
            if sign is None:
                self._layers[id(layer)] = alias(layer, _name=name)
            else:
                self._layers[id(layer)] = self._split(call, name, sign, model)
        return self._layers[id(layer)]

    def _name(self, name: str, model: keras.Model) -> str:
        own = name
        while name in self._names or (name != own and name in self._given):
            name = f"{model.name}_{name}"
        self._names.add(name)
        return name

    def _split(self, call: Call, name: str, sign: Any, model: keras.Model) -> Layers:
        """Returns a function that calls a layer, then the sign of its activation."""
        layer = call.layer
        own = [x for x in layer._self_tracked_trackables if x is not sign]
        linear = keras.activations.linear
        first = alias(
            layer, _name=name, activation=linear, _self_tracked_trackables=own
        )
        name = free_name(f"{name}_sign", self._names | self._given)
        self._names.add(name)
        # A mask passes through activations, but not through quantizers of Larq.
        masked = getattr(call.first_output, "_keras_mask", None) is not None
        if isinstance(sign, keras.layers.Layer) and not masked:
            last = alias(sign, _name=name)
        elif (kind := function_traits(sign).sign) and not masked:
            last = kind(name=name)
        else:
            last = keras.layers.Activation(sign, name=name)
        return lambda x: last(first(x))


def _as_own_input(own: Any, tensor: Any) -> Any:
    """Casts and reshapes a tensor to the type and rank of an input of a model."""
    # Keras does the same, but not on symbolic tensors.
    longer = own.shape.rank - tensor.shape.rank
    if longer == 1 and own.shape[-1] == 1:
        tensor = tf.expand_dims(tensor, -1)
    elif longer == -1 and tensor.shape[-1] == 1:
        tensor = tf.squeeze(tensor, -1)
    return tensor if tensor.dtype == own.dtype else tf.cast(tensor, own.dtype)


def check_readable(model: Any) -> None:
    """Rejects anything but a model, and models with parts that show no layers.

    Raises:
        ModelError: Naming all such parts.
    """
    if not isinstance(model, keras.Model):
        raise ModelError(why_no_model(model))
    check_dense_inputs(model)
    opaque = list(_opaque(model))
    if opaque:
        raise ModelError(
            f"Model {model.name!r} cannot be taken apart because of "
            f"{', '.join(opaque)}. Write these parts as layers, or as functional or "
            "Sequential models with a known input shape."
        )


def check_dense_inputs(model: keras.Model) -> None:
    """Raises a ModelError for a model that takes ragged or sparse tensors."""
    for tensor in model.inputs or ():
        spec = tensor.type_spec
        if not isinstance(spec, tf.TensorSpec):
            kind = type(spec).__name__.removesuffix("Spec")
            raise ModelError(
                f"Input {tensor.name!r} of model {model.name!r} is a {kind}, and only "
                "dense inputs are known here. Build the model with an input of padded "
                "sequences, which Embedding(mask_zero=True) or Masking leaves out."
            )


def is_plain(model: keras.Model) -> bool:
    """Whether a model has a layer graph, and computes nothing else."""
    has_graph = getattr(model, "_is_graph_network", False)
    return has_graph and type(model).call in _PLAIN


def _opaque(model: keras.Model) -> list[str]:
    if not is_plain(model):
        return [f"the subclassed or unbuilt model {model.name!r}"]
    inner = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    return [name for layer in inner for name in _opaque(layer)]


def is_batch_norm(layer: keras.layers.Layer) -> bool:
    """Whether a layer is a known batch norm; a subclass may do more."""
    return traits(type(layer)).norm == "batch"


def has_batch_statistics(layer: keras.layers.Layer) -> bool:
    """Whether a layer, or its base class, takes statistics of the batch."""
    return any(traits(kind).norm == "batch" for kind in type(layer).__mro__)


def training_argument(call: Call) -> Any:
    """Returns the `training` that a call was given, by name or by position.

    It is None if the call follows the mode of the model around it.
    """
    arguments = call.node.call_args, call.node.call_kwargs
    spec, where = call.node.layer._call_spec, {"inputs_in_args": True}
    passed = spec.arg_was_passed("training", *arguments, **where)
    return spec.get_arg_value("training", *arguments, **where) if passed else None


def check_inference(model: keras.Model, batch_norms: bool = True) -> None:
    """Rejects calls that behave at inference as they do in training.

    Calls of batch norms are ignored if `batch_norms` is False.

    Raises:
        ModelError: Naming all of them.
    """
    faults = [
        f"Layer {call.label!r} ({type(call.node.layer).__name__}) is called with "
        f"training=True, so that {_effect(call.node.layer)} at inference too. Call it, "
        "and the models that contain it, without that argument"
        for call, mode in all_calls(model)
        if call.node.layer._expects_training_arg
        if mode is not None and not tf.is_tensor(mode) and bool(mode)
        if batch_norms or not has_batch_statistics(call.layer)
    ]
    if faults:
        raise ModelError("; ".join(dict.fromkeys(faults)) + ".")


def all_calls(model: keras.Model, outer: Any = None) -> Iterator[tuple[Call, Any]]:
    """Yields all calls of a model and of nested models, with the `training` of each.

    That is None if no call fixes it.
    """
    for call in calls_of(model):
        own = training_argument(call)
        mode = outer if own is None else own
        if getattr(call.layer, "_is_graph_network", False):
            yield from all_calls(call.layer, mode)
        else:
            yield call, mode


def _effect(layer: keras.layers.Layer) -> str:
    if has_batch_statistics(layer):
        return "its output depends on the batch"
    if inherited(type(layer)).idle:
        return "its output is random"
    return "it computes as in training"
