"""The base of the callbacks, which writes logs, and functions that find layers."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from .._checks import check_kind
from .._errors import InvalidValue
from .._keras import keras

# All monitors of a folder write one file: TensorBoard reads the files of a folder one
# after the other, each once. The file is closed with its last monitor.
_writers: WeakValueDictionary[str, Any] = WeakValueDictionary()
# Marks a tensor as a scalar; `tf.summary.scalar` would need TensorBoard.
_SCALAR = tf.compat.v1.SummaryMetadata(
    plugin_data={"plugin_name": "scalars"}, data_class="DATA_CLASS_SCALAR"
)


class EpochMonitor(keras.callbacks.Callback, ABC):
    """Abstract base: adds metrics to the logs and to TensorBoard once per epoch.

    All callbacks get the same logs, in the order of their list; Keras' history is last.
    """

    def __init__(self, log_dir: str | os.PathLike | None = None) -> None:
        super().__init__()
        wanted = "a folder for TensorBoard, or None to write to the epoch's logs only"
        kinds = (str, os.PathLike, type(None))
        self.log_dir = check_kind("log_dir", log_dir, kinds, wanted)
        self._writer: Any = None

    @abstractmethod
    def measure(self) -> dict[str, float]:
        """Returns this epoch's scalars: `name` and, per layer, `name/layer`."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        scalars = self.measure()
        if logs is not None:
            logs.update({k: v for k, v in scalars.items() if "/" not in k})
        if self.log_dir is None:
            return
        if self._writer is None:
            folder = os.fspath(self.log_dir)
            self._writer = _writers.get(folder) or tf.summary.create_file_writer(folder)
            _writers[folder] = self._writer
        # Keras' TensorBoard callback may have switched recording off.
        with self._writer.as_default(step=epoch), tf.summary.record_if(True):
            for name, value in scalars.items():
                tf.summary.write(name, tf.constant(value, tf.float32), metadata=_SCALAR)
        self._writer.flush()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Releases the file."""
        self._writer = None


def named_layers(
    model: keras.Model, prefix: str = ""
) -> Iterator[tuple[str, keras.layers.Layer]]:
    """Yields the path and the layer of each layer of a model and of nested models."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from named_layers(layer, f"{prefix}{layer.name}/")
        else:
            yield prefix + layer.name, layer


def owners(model: keras.Model, variables: Sequence[Any]) -> list[str]:
    """Returns the path of the layer of each variable, or of its quantizer."""
    if not model.built:
        raise InvalidValue(
            f"The model {model.name} has no weights yet. Build it or call it on data "
            "before training with this callback."
        )
    names: dict[int, str] = {}
    for name, layer in named_layers(model):
        for weight in layer.weights:
            names.setdefault(id(weight), name)
    return [names.get(id(v), v.name.partition(":")[0]) for v in variables]


def fractions(
    name: str, layers: Sequence[str], counts: ArrayLike, totals: ArrayLike
) -> dict[str, float]:
    """Returns count / total over all entries as `name`, and per layer as `name/layer`.

    Each entry belongs to the layer of its index. A layer whose total is 0 is left out;
    if all are 0, the fraction over all entries is NaN.
    """
    count, total = np.asarray(counts), np.asarray(totals)
    everything = total.sum()
    result = {name: float(count.sum() / everything) if everything else float("nan")}
    for layer in dict.fromkeys(layers):
        here = np.array([other == layer for other in layers])
        if total[here].any():
            result[f"{name}/{layer}"] = float(count[here].sum() / total[here].sum())
    return result
