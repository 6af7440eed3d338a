"""What a converted file of several networks side by side does for each of them."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
from larq_nobn._keras import keras
from larq_nobn.deploy.lite._file import read


@dataclass(frozen=True)
class Branch:
    """The way from one input, by its number, to one output."""

    entry: int
    operations: Counter[str]


def flatbuffer(model: keras.Model) -> bytes:
    """What LCE makes of a model's inference function.

    It reads the same function, and no other, from the SavedModel of Keras that
    `convert_keras_model` writes: that contains those of every layer too, with
    gradients.
    """
    from larq_compute_engine import convert_saved_model

    inputs = [
        tf.TensorSpec(node.shape, node.dtype, name)
        for node, name in zip(model.inputs, model.input_names, strict=True)
    ]

    @tf.function(input_signature=inputs, autograph=False)
    def inference(*images: Any) -> dict[str, Any]:
        actual = tf.nest.flatten(model(list(images), training=False))
        return {f"output_{place}": output for place, output in enumerate(actual)}

    holder = tf.Module()
    holder.weights = model.weights
    signature = inference.get_concrete_function()
    without_gradients = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(holder, folder, signature, without_gradients)
        return convert_saved_model(folder)


def branches(buffer: bytes) -> tuple[list[str], list[Branch]]:
    """The inputs by the names they have in Keras, and a branch per output.

    Every operation belongs to exactly one branch, and so does every input.
    """
    (graph,) = read(buffer, "a file")
    makers = {made.index: each for each in graph.operations for made in each.outputs}
    entries = {tensor.index: place for place, tensor in enumerate(graph.inputs)}

    def branch(output: Any) -> Branch:
        waiting, seen, met = [output], set(), {}
        while waiting:
            tensor = waiting.pop()
            if tensor is None or tensor.index in seen:
                continue
            seen.add(tensor.index)
            if tensor.index in makers:
                maker = met[tensor.index] = makers[tensor.index]
                waiting += maker.inputs
        (entry,) = (entries[index] for index in seen & entries.keys())
        made = {operation.index: operation.op for operation in met.values()}
        return Branch(entry, Counter(made.values()))

    actual = [branch(output) for output in graph.outputs]
    assert sum(each.operations.total() for each in actual) == len(graph.operations)
    assert sorted(each.entry for each in actual) == list(range(len(graph.inputs)))
    names = [tensor.name.removeprefix("serving_default_") for tensor in graph.inputs]
    return [name.partition(":")[0] for name in names], actual
