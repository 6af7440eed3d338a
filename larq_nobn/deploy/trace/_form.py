"""Runs a network as one graph in which every tensor can be fed and fetched."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf

from ..._messages import first_line
from .._errors import ConversionError
from ..lite._converter import in_batches

# Constants of at least this many numbers are fed in each run. TensorFlow would keep a
# copy of others for each set of tensors that is fetched.
LARGE = 2**16
# A value, and the largest change by noise of size 1; None where nothing rounds.
Number = tuple[np.ndarray, np.ndarray | None]


class Form:
    """A network as a graph that runs without TensorFlow's optimizations.

    Arguments:
        inputs, outputs: Tensors of the graph, of as many examples as it takes.
        tensor_of: Returns the tensor of the graph for a tensor of a trace.
        numbers: The constants of the graph, by their tensors.
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
        # TensorFlow feeds arrays in its own memory without copying them.
        with tf.device("CPU"):
            self._large = {
                tensor: np.asarray(memoryview(tf.constant(value)))
                for tensor, (value, _) in numbers.items()
                if tensor.op.type == "Placeholder"
            }
        self._session = session(self.outputs[0].graph)

    def run(
        self,
        fed: Mapping[Any, np.ndarray],
        wanted: Sequence[Any],
        noise: float = 0.0,
        finish: Callable[[list[np.ndarray]], list[np.ndarray]] = list,
    ) -> list[np.ndarray]:
        """Computes tensors for any number of examples.

        Arguments:
            fed: Values for the inputs, and for other tensors, which they replace. An
                example of such a tensor may have several rows, along one more axis.
            wanted: The tensors.
            noise: The relative size of random changes to the constants.
            finish: A function that is applied to the tensors of each batch.
        """
        size = self.inputs[0].shape[0] or 1
        constants = self._large | (self._with_noise(noise) if noise else {})

        def run(batch: Sequence[np.ndarray]) -> list[np.ndarray]:
            rows = {
                tensor: part.reshape(
                    -1, *part.shape[part.ndim + 1 - tensor.shape.rank :]
                )
                for tensor, part in zip(fed, batch, strict=True)
            }
            return finish(self._session.run([*wanted], {**constants, **rows}))

        with as_one_graph():
            return in_batches(run, list(fed.values()), size)

    def outputs_of(self, examples: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Computes the outputs for any number of examples."""
        return self.run(dict(zip(self.inputs, examples, strict=True)), self.outputs)

    def _with_noise(self, size: float) -> dict[Any, np.ndarray]:
        """Returns the real constants, changed by 0.5 to 1.5 times a relative size.

        No change is near 0, and changes differ, since equal terms of a sum could
        cancel. The draws depend only on the size's magnitude, up to powers of two. How
        far such changes move a sum shows how far it rounds.
        """
        random, noisy = np.random.default_rng(int(np.frexp(abs(size))[0] * 2**30)), {}
        for tensor, (value, reach) in self._numbers.items():
            if reach is None:
                continue
            draws = 2 * random.random(value.shape, np.float32) - 1
            draws = np.float32(size) * (draws + np.copysign(np.float32(0.5), draws))
            noisy[tensor] = (value + reach * draws).astype(value.dtype)
        return noisy


def session(graph: tf.Graph) -> tf.compat.v1.Session:
    """Returns a session that runs a graph without optimizing it.

    An optimized graph rounds differently, for instance with a scale within a kernel.
    """
    options = tf.compat.v1.ConfigProto()
    options.graph_options.optimizer_options.opt_level = -1
    options.graph_options.rewrite_options.disable_meta_optimizer = True
    return tf.compat.v1.Session(graph=graph, config=options)


@contextmanager
def as_one_graph() -> Iterator[None]:
    """Runs TensorFlow functions unoptimized, too, and explains their errors."""
    options = tf.config.optimizer.get_experimental_options()
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    try:
        yield
    except tf.errors.OpError as error:
        reason = first_line(error).rstrip(".")
        raise ConversionError(
            f"The operations of the model cannot be run as one graph: {reason}. "
            "Replace the layer that does not allow that."
        ) from error
    finally:
        restored = {"disable_meta_optimizer": False, **options}
        tf.config.optimizer.set_experimental_options(restored)
