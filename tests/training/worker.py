"""One of several processes that train together; started with TF_CONFIG set."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import larq_nobn as nobn  # first of all: it selects legacy Keras
import larq as lq
import numpy as np
from larq_nobn import training
from larq_nobn._keras import keras
from larq_nobn.training._checkpoints import newest_position
from larq_nobn.training._run_settings import NETWORKS
from tensorflow.python.eager import context
from training import drawn
from training.runs import step_by_step, without_curves

# The last of 97 images for validation, and for testing, is a batch of its own: one
# replica gets nothing of it. Nor do two parts divide the images that calibrate the
# network, which is taken whole.
SETTINGS = training.RunSettings.from_recipe(
    dataset="digits",
    epochs=2,
    batch_size=32,
    limit=97,
    accumulate=2,
    validation=0.2,
    ema=0.9,
    keep="best",
)


def small(input_shape: tuple[int, ...], classes: int, **_: object) -> keras.Model:
    """As small as a network can be that is initialized from data."""
    x = image = keras.Input(input_shape)
    x = lq.layers.QuantConv2D(
        4,
        3,
        strides=2,
        input_quantizer=nobn.quantizers.RSign(),
        kernel_quantizer=nobn.quantizers.ScaledStdSign(),
        name="binary",
    )(x)
    x = keras.layers.Flatten()(nobn.layers.RPReLU()(x))
    return keras.Model(image, keras.layers.Dense(classes, name="head")(x))


# It stands in for one that takes more.
small.__signature__ = inspect.signature(nobn.models.ReActNet18)


def assert_same_run(ours: training.Run, theirs: training.Run) -> None:
    """The same but for the order of sums."""
    for our, their in zip(
        ours.model.get_weights(), theirs.model.get_weights(), strict=True
    ):
        np.testing.assert_allclose(our, their, atol=1e-5)
    for our, their in zip(ours.history, theirs.history, strict=True):
        for name in ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"):
            np.testing.assert_allclose(our[name], their[name], rtol=1e-4)
    for name, value in theirs.record["metrics"].items():
        np.testing.assert_allclose(ours.record["metrics"][name], value, rtol=1e-4)


class _InTheSecondEpoch(keras.callbacks.Callback):
    """Acts after its last step."""

    def __init__(self, action: Callable[[], object]) -> None:
        super().__init__()
        self._action = action
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if (self._epoch, batch) == (1, 2):
            self._action()


def _interrupt() -> None:
    raise KeyboardInterrupt


def _crash() -> None:
    os._exit(9)


def _miss_soon() -> None:
    """Lets TensorFlow give up a silent worker after three seconds instead of ten."""
    around = context.context()
    around.configure_coordination_service = partial(
        around.configure_coordination_service, heartbeat_timeout_in_ms=3000
    )


def main(folder: Path, index: int) -> None:
    """Trains, is stopped, goes on; the second crashes when kernels are drawn."""
    _miss_soon()
    NETWORKS["ReActNet18"] = small
    try:
        training.train(
            SETTINGS, folder / "run", _InTheSecondEpoch(_interrupt), **TOGETHER
        )
    except KeyboardInterrupt:
        assert newest_position(folder / "run") == (1, 2)
        run = training.train(SETTINGS, folder / "run", resume=True, **TOGETHER)
    np.savez(folder / f"weights{index}.npz", *run.model.get_weights())
    NETWORKS["ReActNet18"] = drawn.two_norms
    progress = _InTheSecondEpoch(_crash) if index == 1 else False
    try:
        training.train(drawn.SETTINGS, folder / "lost", progress, **TOGETHER)
    except ConnectionError as error:
        (folder / "said.txt").write_text(str(error))


TOGETHER: dict[str, Any] = {"strategy": "multi_worker", "checkpoint_steps": 2}
if __name__ == "__main__":
    with step_by_step(), without_curves():
        main(Path(sys.argv[1]), int(sys.argv[2]))
