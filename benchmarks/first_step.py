"""How long the first step of a training takes, against Keras on the same network.

A first step traces and compiles the network, its gradients and the optimizer. CPU time
of both sides in turns in one process: `larq_nobn.training.train` by a recipe, and
`model.fit` of the same network with Keras' own Adam.

    python benchmarks/first_step.py                # ten minutes
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path

import click
from _drawing.markdown import table
from _results import RESULTS, leave

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
SETTINGS = {
    "dataset": "digits",
    "image_size": 32,
    "width": 16,
    "epochs": 1,
    "batch_size": 32,
    "limit": 64,
}


def clock():
    """A callback with the seconds of the first step."""
    import larq_nobn  # noqa: F401 (selects legacy Keras)
    from tensorflow import keras

    class Clock(keras.callbacks.Callback):
        seconds = traces = None

        def on_train_batch_begin(self, batch, logs=None):
            if batch == 0:
                self._start = time.process_time()

        def on_train_batch_end(self, batch, logs=None):
            if batch == 0:
                self.seconds = time.process_time() - self._start

        def on_train_end(self, logs=None):
            found = self.model.train_tf_function or self.model.train_function
            self.traces = found.experimental_get_tracing_count()

    return Clock()


def by_keras(settings):
    """The network of the settings, trained by Keras alone."""
    import larq_nobn as nobn
    import tensorflow as tf

    tf.keras.backend.clear_session()
    images = nobn.data.load(
        "digits", "train", batch_size=32, image_size=32, limit=64, augment=False
    )
    network = nobn.models.BUILDERS[settings.model](
        (32, 32, 1), 10, settings.normalization, settings.width, **settings.network
    )
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(tf.keras.optimizers.Adam(), loss, metrics=["accuracy"])
    timed = clock()
    network.fit(images, verbose=0, callbacks=[timed])
    return timed


def by_us(settings):
    """The same as `larq-nobn train` trains it."""
    import larq_nobn as nobn
    import tensorflow as tf

    tf.keras.backend.clear_session()
    timed = clock()
    with tempfile.TemporaryDirectory() as name:
        nobn.training.train(settings, Path(name, "run"), timed)
    return timed


@click.command()
@click.option("--rounds", default=2, show_default=True)
def main(rounds):
    import larq_nobn as nobn

    rows = []
    for recipe in ("nobn", "batch_norm"):
        settings = nobn.training.RunSettings.from_recipe(recipe, **SETTINGS)
        found = {by_keras: [], by_us: []}
        traces = {}
        for n in range(rounds + 1):
            for side, times in found.items():
                timed = side(settings)
                traces[side] = timed.traces
                if n:  # the first round fills caches
                    times.append(timed.seconds)
        keras, ours = (statistics.median(times) for times in found.values())
        rows.append(
            {
                "recipe": recipe,
                "keras_seconds": round(keras, 2),
                "seconds": round(ours, 2),
                "ratio": round(ours / keras, 2),
                "keras_traces": traces[by_keras],
                "traces": traces[by_us],
            }
        )
    about = "First step of ReActNet-18, width 16, 32 px", drawn
    place = RESULTS / "first_step"
    leave(place, *about, settings=SETTINGS, rounds=rounds, rows=rows)


def drawn(result):
    return table(
        ("recipe", "Keras", "larq_nobn", "ratio"),
        [
            [row[key] for key in ("recipe", "keras_seconds", "seconds", "ratio")]
            for row in result["rows"]
        ],
    )


if __name__ == "__main__":
    main()
