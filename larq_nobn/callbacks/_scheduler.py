"""The base of callbacks that schedule an untrained weight of quantizers."""

from __future__ import annotations

import os
from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np

from .._checks import check_integer, check_number
from .._errors import InvalidValue
from .._keras import keras
from ._monitor import EpochMonitor, named_layers


class QuantizerScheduler(EpochMonitor):
    """Abstract base: increases a weight of quantizers during training.

    The value depends only on the time in epochs, so a training that resumes needs no
    state of this object.
    """

    kind: ClassVar[type]  # of the quantizers
    weight: ClassVar[str]  # the name of their attribute, and of the log
    interval: ClassVar[str]
    advice: ClassVar[str]
    remedy: ClassVar[str]  # what to give a layer if the model has no such quantizer
    default_fraction: ClassVar[float] = 1.0  # of the epochs of fit, if `epochs` is None

    def __init__(
        self,
        start: float,
        end: float,
        epochs: int | None,
        log_dir: str | os.PathLike | None,
    ) -> None:
        super().__init__(log_dir)
        self.start = check_number("start", start, self.interval, self.advice)
        self.end = check_number("end", end, self.interval, self.advice)
        if self.start >= self.end:
            raise InvalidValue(
                f"start={start} is not below end={end}, but {self.weight} must grow. "
                f"{self.advice}"
            )
        if epochs is not None:
            epochs = check_integer("epochs", epochs, 1, "Use None for those of fit.")
        self.epochs = epochs
        self._quantizers: list[Any] = []
        self._epoch = 0

    @abstractmethod
    def value_at(self, progress: float, place: int) -> float:
        """Returns the weight of a quantizer: `start` at progress 0, `end` from 1 on."""

    @classmethod
    def owns(cls, module: Any) -> bool:
        """Tells whether `module` is a quantizer whose weight the callback schedules."""
        return isinstance(module, cls.kind)

    @classmethod
    def quantizers_of(cls, model: keras.Model) -> list[Any]:
        """Returns the scheduled quantizers of a model, in order from the input."""
        layers = [layer for _, layer in named_layers(model)]
        modules = [part for layer in layers for part in (layer, *layer.submodules)]
        return [*filter(cls.owns, dict.fromkeys([*modules, *model.submodules]))]

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        name, own = self.model.name, type(self).__name__
        quantizers = self.quantizers_of(self.model)
        if not quantizers:
            raise InvalidValue(
                f"The model {name} has no {self.kind.__name__} with a {self.weight} to "
                f"schedule. Give a layer {self.remedy}, or leave {own} out."
            )
        if not all(quantizer.built for quantizer in quantizers):
            raise InvalidValue(
                f"The model {name} has no weights yet. Build it or call it on data "
                f"before training with {own}."
            )
        self._quantizers = quantizers

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._epoch = epoch
        self._set_weights(epoch)

    def _set_weights(self, epoch: float) -> None:
        epochs = self.epochs or self.default_fraction * self.params["epochs"]
        for place, quantizer in enumerate(self._quantizers):
            getattr(quantizer, self.weight).assign(self.value_at(epoch / epochs, place))

    def measure(self) -> dict[str, float]:
        weights = [getattr(quantizer, self.weight) for quantizer in self._quantizers]
        values = [keras.backend.get_value(weight) for weight in weights]
        return {self.weight: float(np.mean(values))}
