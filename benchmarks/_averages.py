"""Moving averages of the weights beside a training, which they do not change."""

from __future__ import annotations

import larq_nobn as nobn
import tensorflow as tf
from larq_nobn.data._load import normalized

DECAYS = (0.99, 0.998)


class MovingAverages(tf.keras.callbacks.Callback):
    """Averages of all weights, latent ones before their signs, one for each decay d.

    Behind step t it is a ← a + (1 − min(d, (1 + t) / (10 + t))) (w − a), so that what
    the network began with is soon forgotten. A training that goes on from a checkpoint
    has none: `complete` says so.
    """

    def __init__(self, steps):
        super().__init__()
        self._supports_tf_logs = True  # logs stay on the device
        self._expected = steps
        self._step = tf.Variable(0, dtype=tf.int64)
        self._update = tf.function(self._move)

    @property
    def complete(self):
        return int(self._step) == self._expected

    def on_train_begin(self, logs=None):
        self._weights = latents(self.model)
        self._averages = {
            decay: [tf.Variable(w, dtype=w.dtype) for w in self._weights]
            for decay in DECAYS
        }

    def on_train_batch_end(self, batch, logs=None):
        self._update()

    def _move(self):
        self._step.assign_add(1)
        t = tf.cast(self._step, tf.float32)
        for decay, averages in self._averages.items():
            rest = 1.0 - tf.minimum(decay, (1.0 + t) / (10.0 + t))
            for average, weight in zip(averages, self._weights, strict=True):
                average.assign_add(tf.cast(rest, weight.dtype) * (weight - average))

    def accuracies(self, trained, images):
        """What the network of a run has in %, and then with each of the averages."""
        found = {"trained": accuracy(trained, images)}
        for decay, averages in self._averages.items():
            for weight, average in zip(latents(trained.model), averages, strict=True):
                weight.assign(average)
            found[f"{decay:g}"] = accuracy(trained, images)
        return found


def latents(model):
    """The real-valued weights that a training moves."""
    found = [getattr(each, "latent_variable", each) for each in model.weights]
    return [each for each in found if each.dtype.is_floating]


def accuracy(trained, images):
    """In %, of bytes and labels."""
    pixels, labels = images
    inputs = normalized(pixels, trained.dataset), labels
    batches = tf.data.Dataset.from_tensor_slices(inputs).batch(500)
    found = nobn.training.evaluate(trained.model, batches)
    return round(100 * found["accuracy"], 2)
