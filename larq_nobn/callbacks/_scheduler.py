"""What callbacks share that move an untrained weight of quantizers over the epochs."""

from __future__ import annotations

import os
from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np

from .._checks import check_integer, check_number
from .._errors import InvalidValue
from .._keras import keras
from ._monitor import EpochMonitor


class QuantizerScheduler(EpochMonitor):
    """Abstract base: a weight that grows during training.

    The value depends on the time in epochs alone, so that a training which resumes
    after an interruption needs no state of this object.
    """

    weight: ClassVar[str]  # the name of the quantizers' attribute, and of the log
    interval: ClassVar[str]
    advice: ClassVar[str]
    missing: ClassVar[str]  # what the model has none of, and what to do about it

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
        self.epochs = (
            None
            if epochs is None
            else check_integer("epochs", epochs, 1, "Use None for those of fit.")
        )
        self._quantizers: list[Any] = []

    @staticmethod
    @abstractmethod
    def owns(module: Any) -> bool:
        """Whether this is a quantizer whose weight the callback moves."""

    @abstractmethod
    def value_at(self, epoch: float, epochs: int, place: int) -> float:
        """The weight at a time, of the quantizer at a place: `start` at first."""

    @classmethod
    def quantizers_of(cls, model: keras.Model) -> list[Any]:
        """The quantizers of a model that the callback moves, wherever they are."""
        return [module for module in model.submodules if cls.owns(module)]

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Finds the quantizers."""
        name, own = self.model.name, type(self).__name__
        quantizers = self.quantizers_of(self.model)
        if not quantizers:
            raise InvalidValue(
                f"The model {name} has no {self.missing}, or leave {own} out."
            )
        if not all(quantizer.built for quantizer in quantizers):
            raise InvalidValue(
                f"The model {name} has no weights yet. Build it or call it on data "
                f"before training with {own}."
            )
        self._quantizers = quantizers

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Sets the weight."""
        self._move(epoch)

    def _move(self, epoch: float) -> None:
        epochs = self.params["epochs"] if self.epochs is None else self.epochs
        for place, quantizer in enumerate(self._quantizers):
            value = self.value_at(epoch, epochs, place)
            getattr(quantizer, self.weight).assign(value)

    def measure(self) -> dict[str, float]:
        """Returns the value of the epoch."""
        weights = [getattr(quantizer, self.weight) for quantizer in self._quantizers]
        values = [keras.backend.get_value(weight) for weight in weights]
        return {self.weight: float(np.mean(values))}
