"""Runs converters and interpreters: a function of tensors becomes a file that runs."""

from __future__ import annotations

import keyword
import logging
import os
import re
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import Any, NamedTuple, cast

import numpy as np
import tensorflow as tf
from tensorflow.lite.python.convert_phase import ConverterError

from ..._checks import check_choice
from ..._keras import keras
from ..._math import unfused
from ..._names import RUNTIMES
from ...graph import _errors, _models, _operation
from ...graph._examples import batch_of
from ...loading._foreign import foreign_of
from .._errors import ConversionError
from ._compiled import compiled, is_c, read_info, runs
from ._described import Steps, steps_in
from ._file import (
    TYPES,
    check_starts,
    open_axes,
    packed,
    parsing,
    read,
    read_file,
    signature,
    unpacked,
    with_half_kernels,
)
from ._lce_faults import add_room
from ._micro import DECODE, micro_error, run_in_micro

# The types that converters and interpreters can take and return.
_TYPES = ("float32", "uint8", "int8", "int16", "int32", "int64", "bool")
# The batch size for models that take any number of examples.
_BATCH = 32

# Takes one array or tensor per input of the Keras model, and returns one per output.
Function = Callable[[Sequence[Any]], Sequence[Any]]


class IoSpec(NamedTuple):
    """The inputs and outputs of a file, in the order of the Keras model.

    Inputs have the shape of a batch, a type and a name; outputs are names.
    """

    inputs: list[tf.TensorSpec]
    outputs: list[str]

    @property
    def batch_size(self) -> int:
        """How many examples the file takes at once."""
        return int(self.inputs[0].shape[0])


def io_spec(model: keras.Model, batch_size: int = 1) -> IoSpec:
    """Returns the inputs and outputs of a model's file.

    A single one is called `input` or `output`. Several have the names that Keras uses:
    the keys of a dict, else the names of their layers.
    """
    for x in (*model.inputs, *(y for y in model.outputs if y.dtype == tf.string)):
        if x.dtype.name not in _TYPES:
            raise ConversionError(
                f"Model {model.name!r} takes or returns {x.name!r}, which is "
                f"{x.dtype.name}, but files have {', '.join(_TYPES)} only. Build the "
                "model with one of them."
            )
    foreign, size = foreign_of(model), model.inputs[0].shape[0]
    if foreign and foreign.scopes is not None and size not in (None, batch_size):
        raise ConversionError(
            f"Function {model.name!r} takes {size} examples, and the file would take "
            f"{batch_size}. Convert it with batch_size={size}, or give it an "
            "input_signature of None examples."
        )
    names: list[str] = []
    for name in _ends("input", model._nested_inputs, model.input_names):
        # It becomes an argument in TensorFlow, so it must differ in small letters, too.
        plain = re.sub(r"\W", "_", name, flags=re.ASCII)
        reserved = keyword.iskeyword(plain) or plain == "self"
        if reserved or not plain[:1].isalpha():
            plain = f"input_{plain}"
        taken = {other.lower() for other in names}
        tries = (f"{plain}_{count}" for count in range(1, len(names) + 2))
        names.append(next(n for n in (plain, *tries) if n.lower() not in taken))
    inputs = [
        tf.TensorSpec((batch_size, *tensor.shape[1:]), tensor.dtype, name)
        for tensor, name in zip(model.inputs, names, strict=True)
    ]
    return IoSpec(inputs, _ends("output", model._nested_outputs, model.output_names))


def _ends(alone: str, nested: Any, layers: Sequence[str]) -> list[str]:
    """Returns the names of all inputs, or of all outputs."""
    if len(layers) == 1:
        return [alone]
    keyed = isinstance(nested, dict) and len(nested) == len(layers)
    return sorted(map(str, nested)) if keyed else list(layers)


# TensorFlow's message about an operation that TensorFlow Lite lacks.
_LACKING = re.compile(
    r"'tf\.(\w+)' op is neither a custom op nor a flex op \([^/()]*/([^/()]+)"
)
_GELU = (
    " GELU has a form without it: lambda x: tf.nn.gelu(x, approximate=True) as the "
    "activation, which differs by less than 0.001."
)


def why_lacking(operation: str, layer: str, kind: str = "") -> str:
    """Returns the message about an operation that TensorFlow Lite lacks."""
    kind = kind and f" that gives {kind}"
    return (
        f"Layer {layer!r} needs the operation {operation!r}{kind}, which TensorFlow "
        "Lite does not have. Write the layer with other functions, in float32."
        f"{_GELU * operation.startswith('Erf')}"
    )


def to_flatbuffer(
    function: Function,
    io: IoSpec,
    int8: bool = False,
    runtime: str = "lce",
    outside: str = "int8",
) -> bytes:
    """Returns the content of the `.tflite` file of a function of tensors.

    With `int8`, inputs and outputs have the type `outside`.
    """
    signed: Any = tf.function(
        lambda *inputs: dict(zip(io.outputs, function(inputs), strict=True)),
        autograph=False,
    )
    lce = runtime == "lce"
    with quiet() as chatter, tempfile.TemporaryDirectory() as folder:
        with unfused():
            concrete = signed.get_concrete_function(*io.inputs)
        # Traced once, not once per layer, and without Keras, from which LCE would
        # silently take another path.
        holder = tf.Module()
        holder.held = concrete.graph.variables
        # Files compute forward only, so no gradient is traced, and without variables
        # nothing saves or restores them.
        options = tf.saved_model.SaveOptions(
            experimental_custom_gradients=False,
            experimental_skip_saver=not concrete.graph.variables,
        )
        tf.saved_model.save(holder, folder, concrete, options)
        written_by = _by_lce if lce else _by_tensorflow
        try:
            content = written_by(folder, outside if int8 else "")
        # Native code raises all of these.
        except (ConverterError, RuntimeError, ValueError) as error:
            said, remedy = cause(error, chatter()), "Replace the layer it names"
            lacking = _LACKING.search(said)
            if lacking is not None:
                raise ConversionError(why_lacking(*lacking.groups())) from error
            if "not immutable" in said:
                remedy += f", or {_operation.UNWRAP}"
            if "while_body" in said:  # a loop's batch size was lost
                remedy = "Build the recurrent layers with unroll=True"
            raise ConversionError(
                f"{'Larq Compute Engine' if lce else 'TensorFlow'} could not convert "
                f"the model: {said}. {remedy}."
            ) from error
    buffer = bytearray(content)
    model = unpacked(buffer)
    graph, (inputs, outputs) = model.subgraphs[0], signature(model)
    # These arrays are views of the buffer, so this edits the file in place. LCE's order
    # of several is random, and not every program reads signatures.
    graph.inputs[:] = [inputs[spec.name] for spec in io.inputs]
    graph.outputs[:] = [outputs[name] for name in io.outputs]
    return bytes(buffer)


def _by_lce(folder: str, outside: str) -> bytes:
    sides = ("inference_input_type", "inference_output_type")
    kinds = dict.fromkeys(sides, tf.as_dtype(outside)) if outside else {}
    return compute_engine().convert_saved_model(folder, **kinds)


def _by_tensorflow(folder: str, outside: str) -> bytes:
    """Converts with TensorFlow's own converter, without binary operations.

    The file is int8 if `outside`, the type of its inputs and outputs, is given.
    """
    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    if not outside:
        return with_half_kernels(converter.convert())
    kind = tf.as_dtype(outside)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = converter.inference_output_type = kind
    # A matrix has one scale, as from LCE's converter and as microcontrollers expect.
    converter._experimental_disable_per_channel_quantization_for_dense_layers = True
    return converter.convert()


def calling(model: keras.Model) -> AbstractContextManager[None]:
    """Names the layer of a model that raises an error for examples."""
    what, advice = "cannot be called on the examples", "Pass data that it takes."
    return _errors.raised_by(model, what, advice, ConversionError)


def in_batches(
    function: Function, examples: Sequence[np.ndarray], size: int
) -> list[np.ndarray]:
    """Applies a function to all examples, in batches of the one size that it takes."""
    batches = []
    for start in range(0, len(examples[0]), size):
        batch = [array[start : start + size] for array in examples]
        missing = size - len(batch[0])
        if missing:
            batch = [np.concatenate([p, p[-1:].repeat(missing, 0)]) for p in batch]
        results = [np.atleast_1d(result) for result in function(batch)]
        # An example may have several rows, if time or windows are folded into them.
        batches.append([r[: len(r) - len(r) * missing // size] for r in results])
    return [np.concatenate(results) for results in zip(*batches, strict=True)]


def run(model: keras.Model, examples: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Applies a model to all examples, in batches of the size that it was built for."""

    def function(inputs: Sequence[Any]) -> Sequence[Any]:
        with calling(model):
            return _models.inference(model, inputs)

    size = batch_of(model, min(_BATCH, len(examples[0])))
    return in_batches(function, examples, size)


# --- files that run


@dataclass(frozen=True)
class TensorInfo:
    """An input or an output of a `.tflite` file.

    Attributes:
        name: Its name in the file.
        shape: Its shape, with the examples first.
        dtype: `"float32"`, `"int8"` or another name of NumPy.
        scale: What one step of an int8 tensor is worth; None for other types.
        zero_point: The int8 value that stands for 0; None for other types.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Returns numbers as the file takes them, rounded to its int8 steps if any."""
        if self.scale is None or self.zero_point is None:
            return values.astype(self.dtype)
        steps = np.rint(values / np.float32(self.scale)) + self.zero_point
        limits = np.iinfo(self.dtype)
        return np.clip(steps, limits.min, limits.max).astype(self.dtype)

    def decode(self, values: np.ndarray) -> np.ndarray:
        """Returns the float32 numbers that values of the file stand for."""
        numbers = values.astype(np.float32)
        if self.scale is None or self.zero_point is None:
            return numbers
        return (numbers - self.zero_point) * np.float32(self.scale)


@dataclass(frozen=True)
class PixelInfo(TensorInfo):
    """An input that takes the pixels of an image, 0 to 255, which the file normalizes.

    Attributes:
        steps: Scale and offset of each channel.
    """

    steps: Steps = ((), ())

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Returns bytes as they are, and normalized images as their pixels."""
        if values.dtype != np.uint8:
            values = pixels_of(values, self.steps)
        return super().encode(values)


def pixels_of(images: np.ndarray, steps: Steps) -> np.ndarray:
    """Returns the pixels that normalized images were computed from."""
    scale, offset = (np.array(numbers, np.float32) for numbers in steps)
    return np.clip(np.rint((images - offset) / scale), 0, 255).astype(np.uint8)


# The limit of numbers in one input: no image has more; each takes 16 bytes when drawn.
_MOST = 1 << 26


def runtime_with(operations: Iterable[str]) -> str:
    """Returns which of `RUNTIMES` operations of these names need."""
    names = {*operations}
    if DECODE in names:
        return "micro"
    return "lce" if any(name.startswith("Lce") for name in names) else "litert"


def _tensors(graph: Any, indices: Any, named: dict[str, int]) -> list[TensorInfo]:
    """Returns the inputs or outputs of a graph, with the names of its signature."""
    left, tensors = dict(named), []  # one tensor may be two outputs
    for index in () if indices is None else indices:
        tensor = graph.tensors[index]
        fitting = (name for name, of in left.items() if of == index)
        name = next(fitting, tensor.name.decode())
        left.pop(name, None)
        shape = () if tensor.shape is None else tuple(map(int, tensor.shape))
        info, steps = TensorInfo(name, shape, TYPES[tensor.type]), tensor.quantization
        if steps is not None and steps.scale is not None and len(steps.scale):
            scale, zero = float(steps.scale[0]), int(steps.zeroPoint[0])
            info = replace(info, scale=scale, zero_point=zero)
        tensors.append(info)
    return tensors


def c_tensors(info: dict[str, Any]) -> tuple[list[TensorInfo], list[TensorInfo]]:
    """Returns the inputs and outputs of a C file, from its own description."""
    inputs, outputs = (
        [TensorInfo(x["name"], tuple(x["shape"]), x["dtype"]) for x in info[side]]
        for side in ("inputs", "outputs")
    )
    if steps := info.get("pixels"):
        inputs = [PixelInfo(**vars(inputs[0]), steps=steps)]
    return inputs, outputs


def _in_litert(content: bytes, num_threads: int) -> Callable[[Any], list[Any]]:
    """Returns a function that runs a batch in TensorFlow's interpreter, or LiteRT's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorFlow warns that LiteRT has moved
        inner = tf.lite.Interpreter(model_content=content, num_threads=num_threads)
    inner.allocate_tensors()
    inputs, outputs = inner.get_input_details(), inner.get_output_details()

    def predict(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        for tensor, array in zip(inputs, arrays, strict=True):
            inner.set_tensor(tensor["index"], array)
        inner.invoke()
        return [inner.get_tensor(tensor["index"]) for tensor in outputs]

    return predict


class Interpreter(NamedTuple):
    """A function that runs one batch, with an array per input, and its tensors."""

    predict: Callable[[Sequence[np.ndarray]], list[np.ndarray]]
    inputs: list[TensorInfo]
    outputs: list[TensorInfo]
    runtime: str


def interpreter_of(
    content: bytes, threads: int, path: str = "", runtime: str | None = None
) -> Interpreter:
    """Opens a file in the interpreter of its runtime, or of another one.

    Unknown sizes are rejected, since the interpreter would take them as 1; sizes of 0,
    too, since native code divides by them, which ends the process.
    """
    what = repr(path) if path else "the file"
    if is_c(content) or runtime == "c":
        info = read_info(content, path or what)
        predict = runs(compiled(content.decode()), info)
        return Interpreter(predict, *c_tensors(info), "c")
    check_starts(content, path or what)
    with parsing(path or what):
        model = unpacked(content)
        graph = model.subgraphs[0]
        pairs = zip((graph.inputs, graph.outputs), signature(model), strict=True)
        inputs, outputs = (_tensors(graph, *pair) for pair in pairs)
        if steps := steps_in(model):
            inputs = [PixelInfo(**vars(inputs[0]), steps=steps)]
        open_sides = [open_axes(graph.tensors[index]) for index in graph.inputs]
        codes = model.operatorCodes or ()
        names = ((code.customCode or b"").decode() for code in codes)
        runtime, roomy = runtime or runtime_with(names), content
        if runtime == "lce":
            add_room(model)
            roomy = packed(model, len(content))
    for tensor, axes in zip(inputs, open_sides, strict=True):
        sides = ["?" if i in axes else f"{n}" for i, n in enumerate(tensor.shape)]
        if axes:
            raise ConversionError(
                f"Input {tensor.name!r} of {what} leaves sizes of an example open: "
                f"{'x'.join(sides[1:])}. Convert the model again at the size of the "
                "examples, with input_shape (--input-shape) or a keras.Input of it."
            )
        if not tensor.shape or not 0 < prod(tensor.shape) <= _MOST:
            raise ConversionError(
                f"The file takes inputs of shape {tensor.shape}, which is not the "
                "shape of an image. Convert the model again."
            )
    name, opened = "TensorFlow", cast(Any, _in_litert)
    if runtime == "lce":
        name, opened = "Larq Compute Engine", compute_engine().testing.Interpreter
    elif runtime == "micro":
        name = "TensorFlow Lite Micro"
        opened = partial(run_in_micro, outputs=len(outputs))
    with quiet() as chatter:
        try:
            interpreter = opened(roomy, num_threads=threads)
        except (RuntimeError, ValueError, MemoryError) as error:
            if runtime == "micro":
                first = read(content, path or what)[0]
                raise micro_error(error, chatter(), first) from error
            raise ConversionError(
                f"{name}'s interpreter cannot run {what}: {cause(error, chatter())}. "
                "Replace what it names."
            ) from error
    # LCE's inner interpreter takes whole batches without further Python.
    predict = interpreter.interpreter.predict if runtime == "lce" else interpreter
    return Interpreter(predict, inputs, outputs, runtime)


class Runner:
    """Runs a `.tflite` file in the interpreter of its runtime, or compiles a `.c` file.

    A file of this package takes inputs and gives outputs in the order of the Keras
    model that it was made from; of other files, the order is that in the file.

    Arguments:
        flatbuffer: The file's content as bytes, or its path. C is compiled and run with
            the rights of this process, so pass only C files that you trust.
        runtime: `"lce"` for LCE's interpreter, `"litert"` for TensorFlow's, which is
            that of LiteRT, `"micro"` for that of TensorFlow Lite Micro. None: the one
            that the file's operations need, else TensorFlow's.

    Attributes:
        input_names, output_names: The names of the file's inputs and outputs, in order.
        input_tensors, output_tensors: Shape, type and, if int8, scale of each.
        runtime: The runtime in which the file runs.

    Raises:
        ConversionError: If the file cannot be read, the interpreter cannot run it, or
            it needs LCE, which is not installed.

    Example:
        ```python
        import numpy as np
        import larq_nobn as nobn

        model = nobn.models.ReActNet18((32, 32, 3), 10, width=16)
        nobn.convert(model, "model.tflite")
        run = nobn.deploy.Runner("model.tflite")
        logits = run(np.zeros((5, 32, 32, 3), np.float32))  # (5, 10)
        ```
    """

    def __init__(
        self, flatbuffer: bytes | str | os.PathLike, runtime: str | None = None
    ):
        path = ""
        if not isinstance(flatbuffer, bytes):
            source = flatbuffer
            flatbuffer, path = read_file(source), os.fspath(source)
        if runtime is not None:
            check_choice("runtime", runtime, RUNTIMES)
        # Threads of LCE that wait keep their cores busy, so that more take longer.
        opened = interpreter_of(flatbuffer, 1, path, runtime)
        self._predict, self.input_tensors, self.output_tensors, self.runtime = opened
        self.input_names = [tensor.name for tensor in self.input_tensors]
        self.output_names = [tensor.name for tensor in self.output_tensors]
        self._lock = threading.Lock()  # calls share one set of inputs and outputs

    @property
    def batch_size(self) -> int:
        """How many examples the file takes at once; calls with more are split."""
        return int(self.input_tensors[0].shape[0])

    def __call__(self, examples: Any) -> np.ndarray | list[np.ndarray]:
        """Returns the outputs for any number of examples.

        Arguments:
            examples: (examples, ...), an array or nested lists of numbers; for several
                inputs, a list with one of these for each. Numbers are converted to the
                input's type, and rounded for an int8 input. A file that takes pixels
                gets uint8 numbers as they are; any other numbers must be normalized
                images, which are converted back to pixels.

        Returns:
            An array, or a list of arrays if the file has several outputs. int8 outputs
            are returned as the float32 numbers that they stand for.

        Raises:
            ConversionError: If the examples do not have the shape of the file's input,
                or are not whole numbers where it takes these.
        """
        first, *others = self.input_tensors
        if not others:
            listed = isinstance(examples, list | tuple) and len(examples) == 1
            alone = listed and _array(examples[0]).ndim == len(first.shape)
            examples = examples if alone else [examples]
        outputs = self.outputs(examples)
        return outputs[0] if len(outputs) == 1 else outputs

    def outputs(self, examples: Sequence[Any]) -> list[np.ndarray]:
        """Returns the outputs for any number of examples, always as a list."""
        if len(examples) != len(self.input_tensors):
            raise ConversionError(
                f"The file takes {len(self.input_tensors)} arrays, one for each of "
                f"{', '.join(self.input_names)}, but got {len(examples)}. Pass an "
                "array of examples for each."
            )
        taken = list(map(_taken, self.input_tensors, examples))
        counts = [len(array) for array in taken]
        if len({*counts}) > 1:
            raise ConversionError(
                f"The inputs have {', '.join(map(str, counts))} examples. Pass equally "
                "many for each."
            )
        with self._lock:
            try:
                results = in_batches(self._predict, taken, self.batch_size)
            except (RuntimeError, ValueError, MemoryError) as error:
                raise ConversionError(
                    f"The file cannot be run on these inputs: {cause(error, '')}. Pass "
                    "arrays of the shapes and types that it takes."
                ) from error
        ends = self.output_tensors
        results = results or [np.empty((0, *x.shape[1:]), x.dtype) for x in ends]
        return [
            array if tensor.scale is None else tensor.decode(array)
            for tensor, array in zip(ends, results, strict=True)
        ]


def _array(numbers: Any) -> np.ndarray:
    """Returns an array; for lists of unequal lengths, one of their types."""
    with suppress(ValueError):
        return np.asarray(numbers)
    return np.asarray(list(map(type, numbers)))


def _taken(tensor: TensorInfo, examples: Any) -> np.ndarray:
    """Returns examples in the type of an input, or raises if they do not fit."""
    array = _array(examples)
    numbers = array.ndim > 0 and array.dtype.kind in "fiub"
    if not numbers or array.shape[1:] != tensor.shape[1:]:
        raise ConversionError(
            f"The file takes examples of shape {tensor.shape[1:]} as {tensor.name}, "
            f"but got {array.dtype} of shape {array.shape}. Pass numbers, with "
            "examples along the first axis; of one, x[np.newaxis]."
        )
    with np.errstate(over="ignore", invalid="ignore"):
        taken = tensor.encode(array)
    rounds = tensor.scale is not None or isinstance(tensor, PixelInfo)
    rounds = rounds and not np.isnan(array).any()
    if not (rounds or taken.dtype.kind == "f" or np.array_equal(taken, array)):
        raise ConversionError(
            f"The file takes {tensor.name} as {tensor.dtype}, but some of the numbers "
            f"between {array.min():g} and {array.max():g} do not fit. Round them, "
            "and scale them to the range of that type."
        )
    return taken


def compute_engine() -> Any:
    """Imports Larq Compute Engine."""
    try:
        with quiet():
            import larq_compute_engine
    except ImportError as error:
        raise ConversionError(
            "Larq Compute Engine is not installed, and binary .tflite files need it. "
            "Install it with: pip install 'larq-nobn[lce]'"
        ) from error
    return larq_compute_engine


# MLIR's message about an operation, after the locations of all calls around it.
_PLACED = re.compile(r'loc\(.*?"(?P<name>[^"@]+)@.*\)(?:: error)?: (?P<said>.+)')


def cause(error: Exception, chatter: str) -> str:
    """Returns the line that says why native code failed, cut to a short one."""
    lines = [*chatter.splitlines(), *str(error).splitlines(), repr(error)]
    lines = [line for line in lines if not line.lstrip().startswith("File ")]
    said = next((line for line in lines if "error" in line.lower()), repr(error))
    said = said.strip().removeprefix("ERROR: ").rstrip(".")
    if placed := _PLACED.search(said):
        said = f"{placed['said']} ({placed['name']})"
    return said[:300].rpartition(". ")[0] or said[:300] if said[300:] else said


def _says_more(record: logging.LogRecord) -> bool:
    """Whether a record is more than the notice that a saved file has no gradients."""
    return "unsaved custom gradients" not in str(record.msg)


@contextmanager
def quiet() -> Iterator[Callable[[], str]]:
    """Hides what TensorFlow and MLIR print; yields a function that returns it."""
    logger, absl = logging.getLogger("tensorflow"), logging.getLogger("absl")
    level, stderr = logger.level, None
    _flush()
    with tempfile.TemporaryFile() as printed:
        # MLIR writes to the process's stderr, past sys.stderr; services may have none.
        with suppress(OSError):
            stderr = os.dup(2)
        os.dup2(printed.fileno(), 2)
        logger.setLevel(logging.ERROR)
        absl.addFilter(_says_more)

        def chatter() -> str:
            _flush()
            os.fsync(printed.fileno())
            printed.seek(0)
            return printed.read().decode(errors="replace")

        try:
            yield chatter
        finally:
            logger.setLevel(level)
            absl.removeFilter(_says_more)
            _flush()
            if stderr is None:
                os.close(2)
            else:
                os.dup2(stderr, 2)
                os.close(stderr)


def _flush() -> None:
    """Flushes stderr, if there is one."""
    if sys.stderr is not None:
        with suppress(OSError, ValueError):  # it is closed
            sys.stderr.flush()
