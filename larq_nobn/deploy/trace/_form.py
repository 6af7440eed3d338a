"""A network as one graph that runs, of which every tensor can be given and shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf

from ..._messages import first_line
from .._errors import ConversionError
from ..lite._converter import in_batches

# Constants of so many numbers are given in each run: with others, what runs some
# tensors contains them, and what runs more of them contains them again.
LARGE = 2**16
# A value, and what noise of size 1 is off by; None where nothing rounds.
Number = tuple[np.ndarray, np.ndarray | None]


class Form:
    """A network as a graph, which runs as it is.

    Arguments:
        inputs, outputs: Tensors of the graph, of as many examples as it takes at once.
        tensor_of: The tensor of the graph that one of a trace is.
        numbers: Its constants, by their tensors.
    """

    def __init__(
        self,
        inputs: Sequence[Any],
        outputs: Sequence[Any],
        tensor_of: Callable[[Any], Any],
        numbers: Mapping[Any, Number],
    ) -> None:
        self.inputs, self.outputs = list(inputs), list(outputs)
        self.tensor_of, self._numbers = tensor_of, numbers
        # TensorFlow reads what it placed in memory itself without one more copy.
        with tf.device("CPU"):
            self._given = {
                tensor: np.asarray(memoryview(tf.constant(value)))
                for tensor, (value, _) in numbers.items()
                if tensor.op.type == "Placeholder"
            }
        self._session = session(self.outputs[0].graph)

    def run(
        self,
        given: Mapping[Any, np.ndarray],
        wanted: Sequence[Any],
        noise: float = 0.0,
        finish: Callable[[list[np.ndarray]], list[np.ndarray]] = list,
    ) -> list[np.ndarray]:
        """Computes tensors for any number of examples.

        Arguments:
            given: Examples of the inputs, and of other tensors, which these replace.
                Of these an example may be several rows, along one axis more.
            wanted: The tensors.
            noise: How far the constants are off, at random.
            finish: What is made of the tensors of each batch.
        """
        size = self.inputs[0].shape[0] or 1
        constants = self._given | (self._off(noise) if noise else {})

        def run(parts: Sequence[np.ndarray]) -> list[np.ndarray]:
            rows = {
                tensor: part.reshape(
                    -1, *part.shape[part.ndim + 1 - tensor.shape.rank :]
                )
                for tensor, part in zip(given, parts, strict=True)
            }
            return finish(self._session.run([*wanted], {**constants, **rows}))

        with as_one_graph():
            return in_batches(run, list(given.values()), size)

    def outputs_of(self, examples: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Computes the outputs for any number of examples."""
        return self.run(dict(zip(self.inputs, examples, strict=True)), self.outputs)

    def _off(self, size: float) -> dict[Any, np.ndarray]:
        """The real constants, off by 0.5 to 1.5 times a size.

        No part is next to 0, and not all are alike, or equal terms of a sum would
        cancel. Draws are the same for a size, its opposite, and both times a power of
        two. What sums of such numbers are off by tells how far they round.
        """
        random, off = np.random.default_rng(int(np.frexp(abs(size))[0] * 2**30)), {}
        for tensor, (value, reach) in self._numbers.items():
            if reach is None:
                continue
            parts = 2 * random.random(value.shape, np.float32) - 1
            parts = np.float32(size) * (parts + np.copysign(np.float32(0.5), parts))
            off[tensor] = (value + reach * parts).astype(value.dtype)
        return off


def session(graph: tf.Graph) -> tf.compat.v1.Session:
    """Returns what runs a graph as it is.

    A scale that became part of a kernel would round otherwise.
    """
    options = tf.compat.v1.ConfigProto()
    options.graph_options.optimizer_options.opt_level = -1
    options.graph_options.rewrite_options.disable_meta_optimizer = True
    return tf.compat.v1.Session(graph=graph, config=options)


@contextmanager
def as_one_graph() -> Iterator[None]:
    """Runs functions of TensorFlow as they are, too, and says what they raise."""
    options = tf.config.optimizer.get_experimental_options()
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    try:
        yield
    except tf.errors.OpError as error:
        said = first_line(error).rstrip(".")
        raise ConversionError(
            f"The operations of the model cannot be run as one graph: {said}. "
            "Replace the layer that does not allow that."
        ) from error
    finally:
        restored = {"disable_meta_optimizer": False, **options}
        tf.config.optimizer.set_experimental_options(restored)
