"""The table of the callbacks' contract: one row per public callback."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import larq as lq
from larq_nobn import callbacks
from callback_networks import binary, compiled
from larq_nobn._keras import keras


@dataclass(frozen=True)
class CallbackCase:
    """What a public callback promises.

    Arguments:
        cls: The class.
        logs: What it adds to the logs of every epoch.
        per_layer: Which of these TensorBoard also gets for each layer.
        watches: Whether training goes as it would without it.
        wrong: Makes a model that it cannot work on; None if it works on any.
        message: What it then says, at the start of training.
        kwargs: Arguments.
        highest: No value is above.
        sometimes: Logs that not every machine has.
        paper: Whether there is one after it.
    """

    cls: type
    logs: tuple[str, ...]
    per_layer: tuple[str, ...]
    watches: bool
    wrong: Callable[[], keras.Model] | None = None
    message: str = ""
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    highest: float = 1.0
    sometimes: tuple[str, ...] = ()
    paper: bool = True

    @property
    def name(self) -> str:
        return self.cls.__name__

    def make(self, **kwargs: Any) -> keras.callbacks.Callback:
        return self.cls(**{**self.kwargs, **kwargs})


def with_ste_sign() -> keras.Model:
    return compiled(layer=lambda **kw: binary(quantizer=lq.quantizers.SteSign, **kw))


def real_valued() -> keras.Model:
    return compiled(layer=lambda **kw: keras.layers.Dense(5, **kw))


CASES = [
    CallbackCase(
        callbacks.TauScheduler,
        logs=("tau",),
        per_layer=(),
        watches=False,
        wrong=with_ste_sign,
        message=r"The model sequential\w* has no ReCU with a tau to schedule\. Give",
        kwargs={"start": 0.6, "end": 0.9},
    ),
    CallbackCase(
        callbacks.PowerScheduler,
        logs=("power",),
        per_layer=(),
        watches=False,
        wrong=real_valued,
        message=r"The model sequential\w* has no ReSTE with a power to schedule\. Give",
        highest=3.0,
    ),
    CallbackCase(
        callbacks.ProgressiveBinarization,
        logs=("fraction",),
        per_layer=(),
        watches=False,
        wrong=real_valued,
        message=r"The model sequential\w* has no ProgressiveSign with a fraction",
        kwargs={"epochs": 3},
    ),
    CallbackCase(
        callbacks.BinaryWeightMonitor,
        logs=("flip_ratio", "dead_weight_ratio"),
        per_layer=("flip_ratio", "dead_weight_ratio"),
        watches=True,
        wrong=real_valued,
        message=r"The model sequential\w* has no binary weights to monitor\. Give a",
    ),
    CallbackCase(
        callbacks.GradientClippingMonitor,
        logs=("clipped_share",),
        per_layer=("clipped_share",),
        watches=True,
        wrong=lambda: compiled(optimizer="adam"),
        message="The optimizer Adam clips no units, so there is nothing to count. Com",
    ),
    CallbackCase(
        callbacks.ThroughputMonitor,
        logs=("images_per_second",),
        per_layer=(),
        watches=True,
        kwargs={"batch_size": 4},
        highest=float("inf"),
        paper=False,
    ),
    CallbackCase(
        callbacks.MemoryMonitor,
        logs=("peak_memory_mib",),
        per_layer=(),
        watches=True,
        highest=float("inf"),
        sometimes=("peak_gpu_memory_mib",),
        paper=False,
    ),
]
