"""What the callbacks share: finding layers, and writing down an epoch."""

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

# One file for all monitors of a folder: TensorBoard reads the files of a folder one
# after the other, and never returns to one. It is closed when its last monitor lets go.
_writers: WeakValueDictionary[str, Any] = WeakValueDictionary()
# What makes a tensor a scalar there; `tf.summary.scalar` would need TensorBoard.
_SCALAR = tf.compat.v1.SummaryMetadata(
    plugin_data={"plugin_name": "scalars"}, data_class="DATA_CLASS_SCALAR"
)


class EpochMonitor(keras.callbacks.Callback, ABC):
    """Abstract base: measures once per epoch, for the logs and for TensorBoard.

    Callbacks see the same logs in the order of the list, and Keras' history comes last.
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
        # Keras' TensorBoard callback may have switched recording off in between.
        with self._writer.as_default(step=epoch), tf.summary.record_if(True):
            for name, value in scalars.items():
                tf.summary.write(name, tf.constant(value, tf.float32), metadata=_SCALAR)
        self._writer.flush()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Lets go of the file."""
        self._writer = None


def named_layers(
    model: keras.Model, prefix: str = ""
) -> Iterator[tuple[str, keras.layers.Layer]]:
    """Layers of a model, and of the models among them, each with its path."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from named_layers(layer, f"{prefix}{layer.name}/")
        else:
            yield prefix + layer.name, layer


def owners(model: keras.Model, variables: Sequence[Any]) -> list[str]:
    """The path of the layer that each variable, or its quantizer, belongs to."""
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


def shares(
    name: str, layers: Sequence[str], parts: ArrayLike, wholes: ArrayLike
) -> dict[str, float]:
    """Part over whole, in all as `name` and per layer as `name/layer`.

    Several entries may share a layer. A layer whose whole is 0 is left out; if all are,
    the fraction of all is NaN.
    """
    part, whole = np.asarray(parts), np.asarray(wholes)
    total = whole.sum()
    result = {name: float(part.sum() / total) if total else float("nan")}
    for layer in dict.fromkeys(layers):
        here = np.array([other == layer for other in layers])
        if whole[here].any():
            result[f"{name}/{layer}"] = float(part[here].sum() / whole[here].sum())
    return result
