"""Wraps models of Keras 3, TensorFlow functions and SavedModels for conversion.

Each becomes the only layer of a functional model of legacy Keras, which is traced,
compared and written like any other. Only the inputs, outputs and operations of this
layer are known, and for Keras 3 the layers inside.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from .._keras import keras, keras_3, of_keras_3
from .._messages import first_line
from ..graph import _errors
from ._open import is_saved_model

# Compute types that are changed to float32; quantized Keras 3 layers stay quantized.
_HALVES = ("float16", "bfloat16", "float64")
_SIGNATURE = "serving_default"
# Stateful operations that a SavedModel may contain. Others could read or write files,
# run Python, print, or keep a state.
_ALLOWED = re.compile(
    "(Stateful)?PartitionedCall|VarHandleOp|ReadVariableOp|Assign.*VariableOp|NoOp"
    "|VarIsInitializedOp|(Stateless)?(If|While)|.*HashTable.*|LookupTable.*"
    "|InitializeTable|Assert|Placeholder"
)
_FILES = re.compile(".*(File|Python|PyFunc).*")
# This runs in another Python, where Keras 3 has TensorFlow as its backend.
_EXPORT = """
import importlib, os, sys
file, folder, path, *modules = sys.argv[1:]
sys.path = path.split(os.pathsep)
import keras
try:
    for module in modules: importlib.import_module(module)
    model = keras.models.load_model(file, compile=False)
    model.export(folder, format="tf_saved_model", verbose=False)
except Exception as error:
    print(error)
"""


class Foreign(keras.layers.Layer):
    """A layer that calls something other than a model of legacy Keras.

    Arguments:
        name: The name of the layer.
        function: Computes its outputs from tensors in the structure of its inputs.
        layers: The layers of a Keras 3 model, whose names reports use.
        scopes: For a function, the names of layers within its operations' names.
    """

    def __init__(
        self,
        name: str,
        function: Callable[[Any], Any],
        layers: Sequence[Any] = (),
        scopes: Sequence[str] | None = None,
    ) -> None:
        super().__init__(name=name, dtype="float32", autocast=False)
        self.function, self.scopes = function, scopes
        # A lambda hides the layers from legacy Keras, which searches attributes.
        self._own = lambda: layers

    @property
    def layers(self) -> Sequence[Any]:
        return self._own()

    def in_float32(self) -> Foreign:
        """Returns the same layer, without any computation in half precision."""
        function = _in_float32(self.layers)(self.function)
        return Foreign(self.name, function, self.layers, self.scopes)

    def call(self, inputs: Any) -> Any:
        made = self.function(inputs)
        if any(x is None for x in tf.nest.flatten(made) or [None]):
            raise _errors.ModelError(
                f"{self.name!r} returns {made}, and a file has outputs. Return tensors."
            )
        return made


class Source(NamedTuple):
    """Something to trace: its layer, the specs of its inputs, and its output names."""

    layer: Foreign
    specs: Any
    outputs: Sequence[str] = ()

    @property
    def shape(self) -> Any:
        """The shape of a batch, or a list of shapes for several inputs, or None."""
        shapes = [tuple(x.shape) for x in tf.nest.flatten(self.specs) if x is not None]
        return shapes[0] if len(shapes) == 1 else shapes or None


def foreign_of(model: keras.Model) -> Foreign | None:
    """Returns the `Foreign` layer of a model; None if it has none."""
    found = (x for x in getattr(model, "layers", ()) if isinstance(x, Foreign))
    return next(found, None)


def layers_of(model: keras.Model) -> Iterator[Any]:
    """Yields all layers inside a model, including those of Keras 3."""
    yield from model._flatten_layers(include_self=False)
    yield from getattr(foreign_of(model), "layers", ())


@contextmanager
def _in_float32(layers: Sequence[Any]) -> Iterator[None]:
    """Makes layers of Keras 3 compute in float32, whatever their policies say."""
    policies = [layer._dtype_policy for layer in layers]
    get = keras_3().dtype_policies.get
    for layer, policy in zip(layers, policies, strict=True):
        if layer.compute_dtype in _HALVES:
            mode = getattr(policy, "quantization_mode", None)
            layer._dtype_policy = get(f"{mode}_from_float32" if mode else "float32")
    try:
        yield
    finally:
        for layer, policy in zip(layers, policies, strict=True):
            layer._dtype_policy = policy


def source_of(given: Any, signature: str | None = None) -> Source | None:
    """Returns what to trace; None for models of legacy Keras.

    The specs are None if they are unknown.

    Arguments:
        given: A model of Keras 3, a function of TensorFlow, or the folder of a
            SavedModel.
        signature: The name of a signature of the SavedModel.
    """
    if isinstance(given, (str, os.PathLike)) and is_saved_model(Path(given)):
        folder = Path(given)
        return _of_concrete(_loaded(folder, signature), folder.resolve().name)
    if signature is not None:
        raise _errors.ModelError(
            f"signature={signature!r} is for the folder of a SavedModel. Leave it out."
        )
    if isinstance(given, tf.types.experimental.ConcreteFunction):
        return _of_concrete(given, str(given.graph.name))
    if isinstance(given, tf.types.experimental.GenericFunction):
        return _of_function(given)
    if of_keras_3(given) and isinstance(given, keras_3().Model):
        return _of_keras_3(given)
    return None


def _plain(name: str) -> str:
    """Returns a name that operations can have."""
    return re.sub(r"[^\w.-]", "_", name, flags=re.ASCII).lstrip("_.-") or "model"


def _of_keras_3(model: Any) -> Source:
    backend = keras_3().backend.backend()
    if backend != "tensorflow":
        return _rebuilt(model, backend)
    inner = getattr(model, "_functional", None) or model
    layers = model._flatten_layers(include_self=False)
    layer = Foreign(_plain(model.name), partial(model, training=False), layers)
    nested = getattr(inner, "_inputs_struct", None)
    if nested is not None:
        spec_of = lambda x: tf.TensorSpec(x.shape, x.dtype, x.name)  # noqa: E731
        return Source(layer, tf.nest.map_structure(spec_of, nested), inner.output_names)
    shapes = list((getattr(model, "_build_shapes_dict", None) or {}).values())
    return Source(layer, _specs_of(shapes[0]) if len(shapes) == 1 else None)


def _specs_of(shapes: Any) -> Any:
    """Returns specs for the shapes that a subclassed model was built for."""
    if isinstance(shapes, dict):
        return {name: _specs_of(shape) for name, shape in shapes.items()}
    if all(size is None or isinstance(size, int) for size in shapes):
        return tf.TensorSpec((None, *shapes[1:]), keras.backend.floatx())
    return [_specs_of(shape) for shape in shapes]


def _rebuilt(model: Any, backend: str) -> Source:
    """Rebuilds a model of another backend as a SavedModel, in another Python."""
    modules = {type(x).__module__ for x in (model, *model._flatten_layers())}
    own = sorted(x for x in modules if x.split(".")[0] not in ("keras", "__main__"))
    with tempfile.TemporaryDirectory() as folder:
        file, made = Path(folder, "model.keras"), Path(folder, "model")
        what = "cannot be saved to be rebuilt with TensorFlow"
        with _errors.raised_by(model.name, what):
            model.save(file)
        path = os.pathsep.join(sys.path)
        more = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
        log = subprocess.run(
            [sys.executable, "-c", _EXPORT, file, made, path, *own],
            env={**os.environ, **more},
            capture_output=True,
            text=True,
            check=False,
        ).stdout.strip()
        if made.is_dir():
            source = _of_concrete(_loaded(made, None), model.name)
            if _same(model, source):
                return source._replace(outputs=getattr(model, "output_names", ()))
            log = "it computes something else there, so a get_config lacks something"
    why = first_line(ValueError(log or "its process failed")).rstrip(".")
    raise _errors.ModelError(
        f"Model {model.name!r} is of Keras 3 with the backend {backend!r}, and cannot "
        f"be rebuilt with TensorFlow: {why}. Build it in a process that has "
        "KERAS_BACKEND=tensorflow, and load its weights there."
    )


def _same(model: Any, source: Source) -> bool:
    """Whether a model of another backend computes the same with TensorFlow."""
    random, to_numpy = np.random.default_rng(0), keras_3().ops.convert_to_numpy
    shapes = ([size or 2 for size in x.shape] for x in tf.nest.flatten(source.specs))
    given = [random.integers(0, 2, shape).astype(np.float32) for shape in shapes]
    nested = getattr(model, "_inputs_struct", given)
    own = model(tf.nest.pack_sequence_as(nested, given), training=False)
    wanted = [to_numpy(x) for x in tf.nest.flatten(own)]
    packed = tf.nest.pack_sequence_as(source.specs, [*map(tf.constant, given)])
    pairs = zip(tf.nest.flatten(source.layer.function(packed)), wanted, strict=True)
    return all(np.allclose(*pair, 1e-3, 1e-3) for pair in pairs)


def _of_function(function: Any) -> Source:
    """Returns a `tf.function`, traced for its `input_signature` if it has one."""
    name = _plain(getattr(function, "__name__", "function"))
    if function.input_signature is None:
        return Source(Foreign(name, function, scopes=()), None)
    with _errors.raised_by(name, "cannot be traced"):
        concrete = function.get_concrete_function()
    return _of_concrete(concrete, name)


def _of_concrete(function: Any, name: str) -> Source:
    """Returns a function of tensors; its other arguments are as in its trace."""
    signature = function.structured_input_signature
    parts = tf.nest.flatten(signature)
    specs = [x for x in parts if isinstance(x, tf.TensorSpec) and x.shape.rank != 0]
    if not 0 < len(specs) == sum(isinstance(x, tf.TypeSpec) for x in parts):
        raise _errors.ModelError(
            f"Function {name!r} takes {parts or 'nothing'}, and a file takes batches "
            "of tensors. Pass a function of these alone."
        )

    def whole(x: Any) -> Any:
        tensors = iter(tf.nest.flatten(x))
        given = [
            tf.cast(next(tensors), x.dtype) if isinstance(x, tf.TypeSpec) else x
            for x in parts
        ]
        positional, named = tf.nest.pack_sequence_as(signature, given)
        return function(*positional, **named)

    nested: Any = specs if len(specs) > 1 else specs[0]
    if len(parts) > 1 and not signature[0]:
        named = signature[1].items()
        nested = {key: x for key, x in named if isinstance(x, tf.TypeSpec)}
    known = all(x.shape.rank for x in specs)
    layer = Foreign(_plain(name), whole, scopes=_scopes(function))
    return Source(layer, nested if known else None)


def _scopes(function: Any) -> list[str]:
    """Returns the layer names that a function's variables have in their names."""
    paths = (x.name.rpartition("/")[0] for x in function.variables)
    return [path.rpartition("/")[2] for path in paths if path]


def _loaded(folder: Path, signature: str | None) -> Any:
    """Opens a signature of a SavedModel, after checking its operations."""
    from tensorflow.python.saved_model import loader_impl

    opening = partial(_errors.raised_by, folder.name, "cannot be opened")
    with opening():
        graph = loader_impl.parse_saved_model(str(folder)).meta_graphs[0]
    check_operations(graph, folder)
    with opening():
        loaded = tf.saved_model.load(str(folder))
    known = getattr(loaded, "signatures", {})
    name = signature or (_SIGNATURE if len(known) != 1 else next(iter(known)))
    if name not in known:
        has = ", ".join(map(repr, known)) or "none"
        raise _errors.ModelError(
            f"SavedModel {str(folder)!r} has no signature {name!r}; it has {has}. "
            "Pass one of them as signature, or export the model with one."
        )
    function = known[name]
    function._loaded = loaded  # keeps the variables alive
    return function


def check_operations(meta_graph: Any, folder: Path) -> None:
    """Rejects a SavedModel whose functions do more than compute.

    Functions that save and restore its variables are left out: only saving calls them.
    """
    from tensorflow.python.framework import op_def_registry

    saver = meta_graph.saver_def
    ends = {saver.save_tensor_name, saver.restore_op_name, saver.filename_tensor_name}
    starts = {name.partition(":")[0] for name in ends}
    graph = meta_graph.graph_def
    saving = {n.attr["f"].func.name for n in graph.node if n.name in starts}
    nodes = [n for n in graph.node if n.name not in starts]
    for function in graph.library.function:
        if function.signature.name not in saving:
            nodes += function.node_def
    for node in nodes:
        known = op_def_registry.get(node.op)
        pure = known is not None and not known.is_stateful
        if _FILES.match(node.op) or not (pure or _ALLOWED.fullmatch(node.op)):
            raise _errors.ModelError(
                f"SavedModel {str(folder)!r} contains the operation {node.op!r}, which "
                "does more than compute, and is not opened. If it is your own, pass "
                f"tf.saved_model.load({str(folder)!r}).signatures[...] instead."
            )
