"""Runs converted files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from .._errors import ConversionError
from ._converter import in_batches
from ._engine import cause, compute_engine, quiet
from ._file import edited, read_file, signature
from ._lce_faults import with_room


@dataclass(frozen=True)
class TensorInfo:
    """What goes into a `.tflite` file, or comes out of it.

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
        """Returns numbers as the file takes them: rounded to int8 where it does."""
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


# Values of one input: more than any image has, and eight bytes each when drawn.
_MOST = 1 << 28


def check_inputs(shapes: Sequence[Sequence[int]]) -> None:
    """Raises ConversionError if a file wants inputs that nobody has.

    Operations of the interpreter divide by the sides of their inputs, and a side of 0
    ends the process.
    """
    for shape in shapes:
        if not 0 < prod(map(int, shape)) <= _MOST:
            raise ConversionError(
                f"The file takes inputs of shape {tuple(map(int, shape))}, which is no "
                "shape of an image. Convert the model again."
            )


class Runner:
    """Runs a `.tflite` file in LCE's interpreter.

    A file of this package takes inputs and gives outputs in the order of the Keras
    model that it was made from; of other files, the order is that in the file.

    Arguments:
        flatbuffer: The file's content as bytes, or its path.

    Attributes:
        input_names: What the file calls its inputs, in their order.
        output_names: The same for its outputs.
        input_tensors: Shape, type and, where they are int8, scale of the inputs.
        output_tensors: The same for its outputs.

    Raises:
        ConversionError: If the file cannot be read, the interpreter cannot run it, or
            LCE is not installed.

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

    def __init__(self, flatbuffer: bytes | str | os.PathLike):
        if not isinstance(flatbuffer, bytes):
            flatbuffer = read_file(flatbuffer)
        engine = compute_engine()
        with quiet() as chatter:
            try:
                self._interpreter = engine.testing.Interpreter(
                    with_room(flatbuffer), num_threads=os.cpu_count() or 1
                )
            except Exception as error:  # the wrapper raises RuntimeError and others
                raise ConversionError(
                    "Larq Compute Engine's interpreter cannot run the file: "
                    f"{cause(error, chatter())}. Replace what it names."
                ) from error
        check_inputs(self._interpreter.input_shapes)
        self.input_names, self.output_names = io_names(flatbuffer)
        inner = self._interpreter
        self.input_tensors = _tensors(
            self.input_names,
            inner.input_shapes,
            inner.input_types,
            inner.input_scales,
            inner.input_zero_points,
        )
        self.output_tensors = _tensors(
            self.output_names,
            inner.output_shapes,
            inner.output_types,
            inner.output_scales,
            inner.output_zero_points,
        )

    @property
    def batch_size(self) -> int:
        """How many examples the file takes at once; others it gets in batches."""
        sizes = {shape[0] if shape else 0 for shape in self._interpreter.input_shapes}
        if len(sizes) != 1 or 0 in sizes:
            raise ConversionError(
                f"The file takes inputs of shapes {self._interpreter.input_shapes}, "
                "which have no batch axis in common. Convert a model whose inputs "
                "contain examples along the first axis."
            )
        return int(sizes.pop())

    def __call__(
        self, examples: np.ndarray | Sequence[np.ndarray]
    ) -> np.ndarray | list[np.ndarray]:
        """Returns the outputs for any number of examples.

        Arguments:
            examples: (examples, ...), or a list of such arrays, one for each input.
                An int8 file gets them rounded.

        Returns:
            An array, or a list of arrays if the file has several outputs. What is int8
            in the file comes as the float32 numbers that it stands for.
        """
        if not isinstance(examples, (list, tuple)):
            examples = [np.asarray(examples)]
        found = self.outputs(examples)
        return found[0] if len(found) == 1 else found

    def outputs(self, examples: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Returns the same, as lists even where there is only one array."""
        if len(examples) != len(self.input_tensors):
            raise ConversionError(
                f"The file takes {len(self.input_tensors)} arrays, one for each of "
                f"{', '.join(self.input_names)}, but got {len(examples)}. Pass an "
                "array of examples for each."
            )
        predict = self._interpreter.interpreter.predict
        taken = [
            array if tensor.scale is None else tensor.encode(array)
            for tensor, array in zip(self.input_tensors, examples, strict=True)
        ]
        size = self.batch_size
        try:
            found = in_batches(predict, taken, size)
        except (RuntimeError, ValueError, MemoryError) as error:
            raise ConversionError(
                f"The file cannot be run on these inputs: {cause(error, '')}. Pass "
                "arrays of the shapes and types that it takes."
            ) from error
        return [
            array if tensor.scale is None else tensor.decode(array)
            for tensor, array in zip(self.output_tensors, found, strict=True)
        ]


def _tensors(*columns: Sequence[Any]) -> list[TensorInfo]:
    rows = zip(*columns, strict=True)
    return [
        TensorInfo(name, tuple(shape), np.dtype(kind).name, scale, zero_point)
        for name, shape, kind, scale, zero_point in rows
    ]


def io_names(content: bytes) -> tuple[list[str], list[str]]:
    """Returns the names of a file's inputs and outputs, in its order.

    They are those of its signature, or of its tensors where it has none.
    """
    graph, inputs, outputs = signature(content)
    return _names(graph, graph.inputs, inputs), _names(graph, graph.outputs, outputs)


def _names(graph: Any, indices: Any, named: dict[str, int]) -> list[str]:
    left = dict(named)  # one tensor may be two outputs
    names = []
    for index in () if indices is None else indices:
        fitting = (name for name, of in left.items() if of == index)
        name = next(fitting, graph.tensors[index].name.decode())
        left.pop(name, None)
        names.append(name)
    return names


def with_outputs(content: bytes, tensors: Sequence[int]) -> bytes:
    """Returns a file of the same operations that gives more of its tensors.

    Arguments:
        content: The file.
        tensors: The numbers of the tensors, which follow the outputs in this order.
    """

    def show(model: Any) -> None:
        graph = model.subgraphs[0]
        graph.outputs = [*map(int, graph.outputs), *tensors]

    return edited(content, show)
