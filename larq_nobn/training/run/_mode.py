"""Statistics of batch norm for the network that random kernels become."""

from __future__ import annotations

import tensorflow as tf

from ..._batches import model_batches
from ..._keras import keras
from ..._larq import without_starvation_warning
from ...graph import rebuild
from ...population import BatchNormStatistics, averages_of, has_batch_norm
from ...quantizers import BernoulliSign
from ..settings import RunSettings
from ._images import few_images


def needs_statistics(network: keras.Model) -> bool:
    """Tells whether batch norms meet other weights in training than at inference."""
    drawn = any(isinstance(each, BernoulliSign) for each in network.submodules)
    return drawn and has_batch_norm(network)


class ModeStatistics(keras.callbacks.Callback):
    """Gives batch norms the statistics of the most probable weights before each test.

    Training draws its weights, and the averages that batch norms keep are of those. The
    network that is tested and saved has the most probable weights, behind which they
    are far off. Nothing that training computes depends on the averages.

    Arguments:
        network: Has both, as `needs_statistics` tells.
        settings: Those of the run, whose first training images are measured.
        cache: Where decoded pictures are kept.
    """

    def __init__(self, network: keras.Model, settings: RunSettings, cache: str) -> None:
        super().__init__()
        self._network = network
        # A copy outside of the strategy: its averages are read without other workers.
        with without_starvation_warning():
            self._copy = keras.models.clone_model(network, clone_function=rebuild)
        self._statistics = BatchNormStatistics(self._copy)
        images: tf.Tensor = next(iter(few_images(settings, cache)))[0]
        # In no larger parts than the steps of training are computed in.
        self._parts = list(model_batches(network, images, settings.batch_size))

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        """Takes them."""
        self._copy.set_weights(self._network.get_weights())
        self._statistics.take(lambda: (inputs for inputs, _ in self._parts))
        pairs = zip(averages_of(self._network), averages_of(self._copy), strict=True)
        for average, found in pairs:
            average.assign(found.numpy())
