"""Opens anything that can be converted, as a model of known sizes in one graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from math import prod
from typing import Any

import numpy as np
import tensorflow as tf

from .._keras import dtype_policy, keras, why_no_model
from .._larq import lq
from .._names import ON_GIVEN_DATA
from .._progress import step
from ..graph import _copies, _errors, _examples, _graph, _models, _signs
from ..loading import open_path
from ..loading._foreign import Foreign, foreign_of, layers_of, source_of
from ..population._batches import batches, model_batches
from ._errors import ConversionError, UnreadableError, conversion_errors


@conversion_errors()
def as_functional(model: Any) -> keras.Model:
    """Returns a plain functional model with the layers of a model, without nesting.

    Raises an UnreadableError for a model that cannot be opened.
    """
    if not isinstance(model, keras.Model):
        raise ConversionError(why_no_model(model))
    if foreign_of(model):
        raise UnreadableError(
            f"Model {model.name!r} is not of legacy Keras: its operations are read."
        )
    if not getattr(model, "_is_graph_network", False):
        raise UnreadableError(
            f"Model {model.name!r} has no layer graph: it is subclassed, or a "
            "Sequential model without a known input shape. Write it with keras.Input "
            "and keras.Model, or call build(input_shape) first."
        )
    if not _models.is_plain(model):
        raise UnreadableError(
            f"Model {model.name!r} is a {type(model).__name__}, whose call is its own "
            "and may do more than its layer graph. Write that as a layer, in a plain "
            "keras.Model or keras.Sequential."
        )
    _models.check_dense_inputs(model)
    for tensor, name in zip(model.inputs, model.input_names, strict=True):
        if None in tensor.shape[1:]:
            raise ConversionError(
                f"Input {name!r} of model {model.name!r} has the shape "
                f"{tuple(tensor.shape)}, which leaves more open than the batch size. "
                "Build the model with a fixed image size, or pass that to convert as "
                "input_shape."
            )
    try:
        signs = map(_signs.sign_of_activation, model.layers)
        if any(isinstance(x, keras.Model) for x in model.layers) or any(signs):
            model = _models.flattened(model)
    except _errors.ModelError as error:
        raise UnreadableError(str(error)) from error
    return keras.Model(model.inputs, model.outputs, name=model.name)


def opened(model: Any) -> tuple[keras.Model, str | None]:
    """Returns a model in one layer graph; or the model itself, and why it has none."""
    try:
        return as_functional(model), None
    except UnreadableError as error:
        return model, str(error)


@conversion_errors()
def with_known_sizes(
    model: Any,
    input_shape: Sequence[int] | None,
    data: Any,
    signature: str | None = None,
) -> keras.Model:
    """Returns a functional model of the same function; usually the given one.

    For Keras 3, functions and SavedModels, it has a single `Foreign` layer. The path of
    a file is opened. `data` gives the size of a subclassed model that was never called.
    """
    shape: tuple[int, ...] | None = None
    if input_shape is not None:
        sides = tuple(input_shape) if np.iterable(input_shape) else ()
        whole = all(isinstance(n, (int, np.integer)) and n > 0 for n in sides)
        if not sides or not whole:
            raise ConversionError(
                f"input_shape={input_shape!r} is not the size of one example, in "
                "positive integers without the batch. Pass it as height, width and "
                "channels, such as (96, 96, 3)."
            )
        shape = tuple(map(int, sides))
    model = open_path(model)
    source = source_of(model, signature)
    if source is not None:
        model, specs, outputs = source
    elif not isinstance(model, keras.Model):
        return model  # later steps reject it
    has_graph = source is None and getattr(model, "_is_graph_network", False)
    if has_graph and shape is None:
        return model
    if source is None:
        specs, outputs = model.inputs if has_graph else _known_specs(model), ()
    if specs is None:
        specs = _specs(model, shape, data)
    first, *others = flat = tf.nest.flatten(specs)
    if shape is not None:
        if others:
            raise ConversionError(
                f"input_shape={shape} is for models of one input, and model "
                f"{model.name!r} has {len(flat)}. Build it with inputs of fixed size."
            )
        if not tf.TensorShape(first.shape[1:]).is_compatible_with(shape):
            raise ConversionError(
                f"input_shape={shape} does not fit the input of model {model.name!r}, "
                f"which takes {tuple(first.shape)}. Keep its numbers, and choose a "
                "size where it has None."
            )
        if has_graph and None not in first.shape[1:]:
            return model
        name = None if has_graph else first.name
        flat = [tf.TensorSpec((first.shape[0], *shape), first.dtype, name)]
    for tensor in flat:
        if None in tensor.shape[1:]:
            raise ConversionError(
                f"Model {model.name!r} takes {tensor.shape}, which leaves more open "
                "than the batch size. Pass the rest as input_shape."
            )
    wrapped = _wrapped(model, tf.nest.pack_sequence_as(specs, flat), outputs)
    # A Sequential model gets its graph in its first call.
    is_open = has_graph or not getattr(model, "_is_graph_network", False)
    return wrapped if is_open else model


def _known_specs(model: keras.Model) -> Any:
    """Returns the specs that a model without a graph was called on or built for."""
    saved = model.save_spec()
    if saved is not None:
        return saved[0][0]
    built: Any = getattr(model, "_build_input_shape", None)
    if isinstance(built, (tuple, tf.TensorShape)):
        return tf.TensorSpec((None, *built[1:]), keras.backend.floatx())
    return None


def _specs(model: Any, shape: tuple[int, ...] | None, data: Any) -> Any:
    """Returns input specs for a model that was never called, in their structure."""
    if shape is not None:
        return tf.TensorSpec((None, *shape), keras.backend.floatx())

    def spec_of(x: Any) -> tf.TensorSpec:
        x = tf.convert_to_tensor(x)
        # Keras casts floats to its own float type.
        kind = keras.backend.floatx() if x.dtype.is_floating else x.dtype
        return tf.TensorSpec((None, *x.shape[1:]), kind)

    if data is not None:
        x = data[0] if isinstance(data, tuple) else data
        # Later steps reject anything that is not data.
        with suppress(StopIteration, ValueError, TypeError):
            first, _ = next(batches(data, 1, isinstance(x, list), most=1))
            return tf.nest.map_structure(spec_of, first)
    raise ConversionError(
        f"Model {model.name!r} has no layer graph and was never called, so the size of "
        "its input is not known. Call it on a batch first, give a function its "
        "input_signature, or pass convert an input_shape or data."
    )


def _wrapped(model: Any, specs: Any, outputs: Sequence[str] = ()) -> keras.Model:
    """Returns a functional model with the given one as its only layer."""
    flat = tf.nest.flatten(specs)
    names = [spec.name for spec in flat] if isinstance(model, Foreign) else [None]
    if len(flat) > 1 and len({*names} - {None}) < len(flat):
        names = [f"input_{i + 1}" for i in range(len(flat))]
    starts = [
        keras.Input(batch_shape=spec.shape, dtype=spec.dtype, name=name)
        for spec, name in zip(flat, names, strict=True)
    ]
    inputs = tf.nest.pack_sequence_as(specs, starts)
    shapes = [tuple(spec.shape[1:]) for spec in flat]
    what = f"cannot be called on inputs of shape {shapes if shapes[1:] else shapes[0]}"
    named, advice = str(model.name), "Pass an input_shape that it takes."
    with _errors.raised_by(named, what, advice):
        made = model(inputs)
    ends = tf.nest.flatten(made)
    if isinstance(made, dict) and len(made) == len(ends):
        outputs = sorted(made)
    wrapped = keras.Model(inputs, ends[0] if len(ends) == 1 else ends, name=model.name)
    if outputs:  # Keras names them after the one layer
        wrapped.output_names = [*outputs]
    return wrapped


def in_float32(model: keras.Model) -> keras.Model:
    """Returns the model in float32; the given one if it is that already."""
    policy = other_precision(model)
    if not policy:
        return model
    if foreign := foreign_of(model):
        return _wrapped(foreign.in_float32(), model._nested_inputs, model.output_names)
    more = f"Without that, it would stay in {policy}: build it in float32."
    # Larq leaves its scope open when a layer fails, and latent weights then read as ±1.
    with dtype_policy("float32"), lq.context.quantized_scope(False):
        try:
            graph = _graph.Graph(as_functional(model))
            return _copies.to_keras(graph, float32=True, shared=True)
        except (_errors.ModelError, UnreadableError) as error:
            if isinstance(error, _errors.LayerError):
                more = "It computes in float32 there: remove casts to other types."
            raise ConversionError(f"{error} {more}") from error


def other_precision(model: keras.Model) -> str:
    """Returns the policy of the first layer of other floats than float32, or ''."""
    policies = (layer.dtype_policy for layer in layers_of(model))
    others = ("float16", "bfloat16", "float64")
    return next((x.name for x in policies if x.compute_dtype in others), "")


# LCE's kernels on a PC are slow, so no more examples are used.
_MOST = 256
# A large input gives each segment thousands of numbers, so few examples suffice.
_RANDOM, _RANDOM_LARGE = 27, 3
_LARGE = 128 * 128 * 3
# The ends of ranges are averaged over batches of this size.
RANGED = 32


def verification_examples(
    data: Any,
    model: keras.Model,
    flat: keras.Model,
    name: str = ON_GIVEN_DATA,
    run: Callable[[list[np.ndarray]], list[np.ndarray]] | None = None,
) -> tuple[list[np.ndarray], str, np.ndarray | None]:
    """Returns examples for every input, a description of them, and their classes.

    Without data, they are seeded noise, some of it far larger than usual inputs, and a
    few regular patterns. `model` is the given model, `flat` the same in one graph, and
    `run` computes its outputs.
    """
    if data is None:
        usual, what = generated_examples(flat)
        usual = _examples.in_vocabulary(usual, run or partial(_examples.called, flat))
        examples = _examples.with_far(flat, usual, run)
        far = len(examples[0]) - len(usual[0])
        return examples, f"{what}, {far} of large numbers, seed 0", None
    batches, labels = zip(*given_batches(model, data, _MOST, _MOST), strict=True)
    arrays = [np.concatenate(each)[:_MOST] for each in zip(*batches, strict=True)]
    classes = None
    if all(getattr(y, "ndim", 0) == 1 for y in labels):
        classes = np.concatenate(labels)[:_MOST]
    return arrays, name, classes


def generated_examples(flat: keras.Model) -> tuple[list[np.ndarray], str]:
    """Returns examples of usual magnitude for every input, and a description."""
    size = sum(prod(tensor.shape[1:]) for tensor in flat.inputs)
    random = _RANDOM if size < _LARGE else _RANDOM_LARGE
    return _examples.made_up(flat, random), f"{random} random and 5 regular inputs"


def range_batches(model: keras.Model, data: Any) -> Iterator[list[np.ndarray]]:
    """Yields batches of inputs for range calibration."""
    done = 0
    for batch, _ in given_batches(model, data, RANGED):
        step("Calibrating ranges", done)
        done += len(batch[0])
        yield [x.numpy() for x in batch]


def given_batches(
    model: keras.Model, data: Any, size: int, most: int | None = None
) -> Iterator[Any]:
    """Yields inputs and labels of a caller's data, in batches."""
    try:
        yield from model_batches(model, data, size, most)
    except ValueError as error:
        raise ConversionError(str(error)) from error
